//! A real Envoy, run as the injected pod says: its arguments, files, environment, user and read-only root, on
//! an address of its own, before a real HTTP application.
//!
//! `testkit::pod` says what is not as on a node. It needs root and Linux namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use outrigger::admission::{self, Snapshot};
use outrigger::profile::Catalogue;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::{IpAddr, ServerName};
use serde_json::{Value, json};
use testkit::certs::{Authority, Issued};
use testkit::pod::Secret;
use testkit::{LocalPod, Result, http, parts, wait_until, wait_until_async};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(15);

/// Answers every GET with what it was asked, as JSON.
const APPLICATION: &str = r#"
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"#;

/// The pod that the API server would store.
fn injected(annotations: &[(&str, &str)]) -> Result<Value> {
    let snapshot = Snapshot {
        catalogue: Catalogue::new(Catalogue::built_in()?),
        ..Snapshot::default()
    };
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}]}]},
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop",
            "operation": "CREATE", "object": pod,
        },
    });
    let answer: Value =
        serde_json::from_slice(&admission::review(review.to_string().as_bytes(), &snapshot)?.body)?;
    let patch = answer["response"]["patch"]
        .as_str()
        .with_context(|| answer.to_string())?;
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    json_patch::patch(&mut pod, &patch)?;
    Ok(pod)
}

fn secret(issued: &Issued) -> Secret {
    BTreeMap::from([
        ("tls.crt".to_owned(), issued.certificate.clone()),
        ("tls.key".to_owned(), issued.key.clone()),
    ])
}

fn authority_secret(authority: &Authority) -> Secret {
    BTreeMap::from([("ca.crt".to_owned(), authority.certificate().to_owned())])
}

/// A pod with `envoy-tls` that is running and ready.
struct Served {
    pod: LocalPod,
    authority: Authority,
    envoy: usize,
}

impl Served {
    /// Starts the pod with these annotations besides the Secret's.
    async fn start(extra: &[(&str, &str)], more: &[(&str, Secret)]) -> Result<Self> {
        let served = Self::start_with(extra, more, |authority, address| {
            Ok(secret(&authority.server(&[address, "web.shop.svc"])?))
        })?;
        served.wait_ready().await?;
        Ok(served)
    }

    fn start_with(
        extra: &[(&str, &str)],
        more: &[(&str, Secret)],
        content: impl FnOnce(&Authority, &str) -> Result<Secret>,
    ) -> Result<Self> {
        let mut annotations = vec![
            ("outrigger.dev/inject", "envoy-tls"),
            ("envoy-tls.outrigger.dev/secret", "web-tls"),
        ];
        annotations.extend(extra);
        let authority = Authority::new("envoy tests")?;
        let mut secrets: BTreeMap<String, Secret> = more
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        // The certificate names the pod's address, which is known once the pod is.
        secrets.insert(
            "web-tls".to_owned(),
            secret(&authority.server(&["placeholder"])?),
        );
        let mut pod = LocalPod::new(&injected(&annotations)?, &secrets)?;
        let content = content(&authority, &pod.address().to_string())?;
        pod.write_secret("envoy-tls-certificate", &content)?;
        let envoy = pod.start("envoy-tls", &parts::program("envoy")?)?;
        pod.start_application("python3", &["-u", "-c", APPLICATION])?;
        Ok(Self {
            pod,
            authority,
            envoy,
        })
    }

    async fn wait_ready(&self) -> Result {
        wait_until_async("the readiness probe to succeed", LIMIT, async || {
            self.probe("readinessProbe").await
        })
        .await
    }

    /// A probe as the kubelet does it: the certificate is not verified.
    async fn probe(&self, probe: &str) -> Result {
        let url = self.pod.probe("envoy-tls", probe)?;
        let mut curl = tokio::process::Command::new("curl");
        let output = curl
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--insecure",
                "--max-time",
                "3",
                &url,
            ])
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{url}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}:8443{path}", self.pod.address())
    }

    fn client(&self, identity: Option<&Issued>) -> Result<reqwest::Client> {
        http::client(self.authority.certificate(), identity)
    }

    /// A GET that the application has answered.
    async fn get(&self, client: &reqwest::Client, path: &str) -> Result<Value> {
        wait_until_async("the application to answer", LIMIT, async || {
            let answer = client.get(self.url(path)).send().await?;
            ensure!(answer.status() != 503, "503");
            ensure!(answer.status() == 200, "{}", answer.status());
            Ok(answer.json().await?)
        })
        .await
    }

    async fn status(
        &self,
        client: &reqwest::Client,
        path: &str,
        token: Option<&str>,
    ) -> Result<u16> {
        let mut request = client.get(self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Ok(request.send().await?.status().as_u16())
    }

    /// The certificate that is served at this moment, in DER.
    async fn certificate(&self) -> Result<Vec<u8>> {
        let tls = tokio_rustls::TlsConnector::from(Arc::new(http::tls(
            self.authority.certificate(),
            None,
        )?));
        let stream = TcpStream::connect((self.pod.address(), 8443)).await?;
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(self.pod.address())));
        let stream = tls.connect(name, stream).await?;
        let chain = stream
            .get_ref()
            .1
            .peer_certificates()
            .context("no certificate")?;
        Ok(chain.first().context("no certificate")?.to_vec())
    }

    fn log(&mut self) -> Result<String> {
        Ok(self.pod.daemon(self.envoy)?.log())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_reaches_the_application_and_nothing_else_is_open() -> Result {
    let served = Served::start(&[], &[]).await?;
    let client = served.client(None)?;
    let seen = served.get(&client, "/hello?x=1").await?;
    ensure!(seen["path"] == "/hello?x=1", "{seen}");
    ensure!(seen["headers"]["x-forwarded-proto"] == "https", "{seen}");

    let address = served.pod.address();
    let plain = served.client(None)?;
    let refused = plain.get(format!("http://{address}:8443/")).send().await;
    ensure!(refused.is_err(), "plain HTTP is answered on the TLS port");
    for (port, what) in [(8080, "the application"), (9901, "Envoy's admin interface")] {
        let open = TcpStream::connect((address, port)).await;
        ensure!(
            open.is_err(),
            "{what} can be reached from outside of the pod"
        );
    }
    let stats = plain
        .get(format!("http://{address}:9902/stats/prometheus"))
        .send()
        .await?;
    ensure!(stats.status() == 200 && stats.text().await?.contains("envoy_http_downstream_rq"));
    for path in [
        "/quitquitquit",
        "/config_dump",
        "/",
        "/stats/prometheus/../../config_dump",
        "/certs",
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::POST] {
            let answer = plain
                .request(method, format!("http://{address}:9902{path}"))
                .send()
                .await?;
            ensure!(answer.status() == 404, "{path}: {}", answer.status());
        }
    }
    // A stranger cannot play the proxy in front.
    let answer = client
        .get(served.url("/"))
        .header("x-forwarded-client-cert", "By=evil")
        .header("x-envoy-internal", "true")
        .send()
        .await?;
    let seen: Value = answer.json().await?;
    ensure!(
        seen["headers"].get("x-forwarded-client-cert").is_none(),
        "{seen}"
    );
    ensure!(seen["headers"].get("x-envoy-internal").is_none(), "{seen}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_without_a_lost_request() -> Result {
    let served = Served::start(&[], &[]).await?;
    let before = served.certificate().await?;
    served.get(&served.client(None)?, "/").await?;
    let stop = AtomicBool::new(false);
    let (answered, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let load = async {
        let kept = served.client(None)?;
        // However slow the machine is, there are enough requests for one to meet the swap.
        let asked = || answered.load(Ordering::Relaxed) + failed.load(Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) || asked() <= 20 {
            // On a kept connection, and on a new one.
            for client in [&kept, &served.client(None)?] {
                match client.get(served.url("/")).send().await {
                    Ok(answer) if answer.status() == 200 => {
                        answered.fetch_add(1, Ordering::Relaxed)
                    }
                    _ => failed.fetch_add(1, Ordering::Relaxed),
                };
            }
        }
        Result::<()>::Ok(())
    };
    let swap = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let address = served.pod.address().to_string();
        served.pod.write_secret(
            "envoy-tls-certificate",
            &secret(&served.authority.server(&[&address])?),
        )?;
        let changed = wait_until_async(
            "the new certificate to be served",
            Duration::from_secs(10),
            async || {
                ensure!(served.certificate().await? != before, "still the old one");
                Ok(())
            },
        )
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        changed
    };
    let (loaded, swapped) = tokio::join!(load, swap);
    loaded?;
    swapped?;
    let (answered, failed) = (answered.into_inner(), failed.into_inner());
    ensure!(failed == 0, "{failed} failed, {answered} answered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_certificate_is_alive_and_not_ready() -> Result {
    let served = Served::start_with(&[], &[], |_, _| {
        Ok(BTreeMap::from([
            ("tls.crt".to_owned(), String::new()),
            ("tls.key".to_owned(), String::new()),
        ]))
    })?;
    wait_until_async("the liveness probe to succeed", LIMIT, async || {
        served.probe("livenessProbe").await
    })
    .await?;
    for _ in 0..5 {
        ensure!(
            served.probe("readinessProbe").await.is_err(),
            "ready without a certificate"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let address = served.pod.address().to_string();
    served.pod.write_secret(
        "envoy-tls-certificate",
        &secret(&served.authority.server(&[&address])?),
    )?;
    served.wait_ready().await?;
    served.get(&served.client(None)?, "/").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_lets_in_whom_the_authority_knows() -> Result {
    let clients = Authority::new("clients")?;
    let served = Served::start(
        &[
            ("envoy-tls.outrigger.dev/client-certificates", "require"),
            ("envoy-tls.outrigger.dev/client-ca-secret", "clients-ca"),
        ],
        &[("clients-ca", authority_secret(&clients))],
    )
    .await?;
    let good = clients.client("billing", None)?;
    let seen = served.get(&served.client(Some(&good))?, "/").await?;
    let told = seen["headers"]["x-forwarded-client-cert"]
        .as_str()
        .unwrap_or_default();
    ensure!(told.contains("billing"), "{seen}");
    let stranger = Authority::new("strangers")?.client("billing", None)?;
    for (who, identity) in [("nobody", None), ("a stranger", Some(&stranger))] {
        let answer = served.client(identity)?.get(served.url("/")).send().await;
        ensure!(answer.is_err(), "{who} was let in: {answer:?}");
    }
    Ok(())
}

/// A JSON Web Token signed with ES256 (RFC 7518, section 3.4).
struct Signer {
    key: EcdsaKeyPair,
}

impl Signer {
    fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let failed = |_| anyhow::anyhow!("no key could be made");
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(failed)?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
                .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { key })
    }

    fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", "x": coordinate(x), "y": coordinate(y)}]})
            .to_string()
    }

    fn token(&self, issuer: &str, audience: &str, seconds: i64) -> Result<String> {
        let now = i64::try_from(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .as_secs(),
        )?;
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({"alg": "ES256", "kid": "1", "typ": "JWT"})),
            part(json!({"iss": issuer, "aud": audience, "sub": "somebody", "exp": now + seconds}))
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| anyhow::anyhow!("the token could not be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_before_the_application_sees_a_request() -> Result {
    let issuer = "https://login.example.com/";
    let (signer, other) = (Signer::new()?, Signer::new()?);
    let served = Served::start(
        &[
            ("envoy-tls.outrigger.dev/jwt-issuer", issuer),
            ("envoy-tls.outrigger.dev/jwt-audiences", "shop"),
            ("envoy-tls.outrigger.dev/jwks", &signer.jwks()),
            ("envoy-tls.outrigger.dev/jwt-exempt-paths", "/healthz"),
        ],
        &[],
    )
    .await?;
    let client = served.client(None)?;
    served.get(&client, "/healthz").await?;
    let good = signer.token(issuer, "shop", 600)?;
    let tokens = [
        ("a good token", Some(good), 200),
        ("no token", None, 401),
        (
            "an expired one",
            Some(signer.token(issuer, "shop", -600)?),
            401,
        ),
        (
            "one of another key",
            Some(other.token(issuer, "shop", 600)?),
            401,
        ),
        (
            "one of another issuer",
            Some(signer.token("https://evil.example.com/", "shop", 600)?),
            401,
        ),
        (
            "one for another service",
            Some(signer.token(issuer, "bank", 600)?),
            403,
        ),
        ("nonsense", Some("a.b.c".to_owned()), 401),
    ];
    for (what, token, expected) in tokens {
        let status = served.status(&client, "/private", token.as_deref()).await?;
        ensure!(status == expected, "{what}: {status}, expected {expected}");
    }
    // What is exempt is that path, once normalised as the application sees it, and no other.
    for path in ["/healthz/../private", "/healthz/x", "/Healthz"] {
        let status = served.status(&client, path, None).await?;
        ensure!(status == 401, "{path}: {status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_tls_are_refused() -> Result {
    let served = Served::start(&[("envoy-tls.outrigger.dev/min-tls-version", "1.3")], &[]).await?;
    served.get(&served.client(None)?, "/").await?;
    let connect = |version: &str| {
        let address = format!("{}:8443", served.pod.address());
        let mut openssl = Command::new("openssl");
        openssl
            .args(["s_client", "-connect", &address, version])
            .stdin(std::process::Stdio::null())
            .output()
    };
    ensure!(connect("-tls1_3")?.status.success());
    ensure!(
        !connect("-tls1_2")?.status.success(),
        "TLS 1.2 was accepted"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_is_minted_in_the_pod() -> Result {
    let pod = injected(&[
        ("outrigger.dev/inject", "envoy-tls"),
        ("envoy-tls.outrigger.dev/certificate", "self-signed"),
        ("envoy-tls.outrigger.dev/dns-names", "web.shop.svc"),
    ])?;
    let mint = pod["spec"]["initContainers"][0]["name"]
        .as_str()
        .context("no container")?
        .to_owned();
    ensure!(
        pod["spec"]["initContainers"][1]["name"] == "envoy-tls",
        "the certificate comes first: {pod:#}"
    );
    let mut local = LocalPod::new(&pod, &BTreeMap::new())?;
    local.run(&mint, Path::new(env!("CARGO_BIN_EXE_outrigger")))?;
    local.start("envoy-tls", &parts::program("envoy")?)?;
    let url = local.probe("envoy-tls", "readinessProbe")?;
    wait_until("the readiness probe to succeed", LIMIT, || {
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--insecure", &url])
            .output()?;
        ensure!(output.status.success());
        Ok(())
    })?;
    let address = format!("{}:8443", local.address());
    let shown = Command::new("sh")
        .args(["-c", "openssl s_client -connect $0 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName", &address])
        .output()?;
    let names = String::from_utf8(shown.stdout)?;
    ensure!(names.contains("DNS:web.shop.svc"), "{names}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tcp_the_bytes_are_passed_on() -> Result {
    let served = Served::start(&[("envoy-tls.outrigger.dev/protocol", "tcp")], &[]).await?;
    // The application speaks HTTP, but Envoy adds nothing to it.
    let seen = served.get(&served.client(None)?, "/raw").await?;
    ensure!(
        seen["path"] == "/raw" && seen["headers"].get("x-forwarded-proto").is_none(),
        "{seen}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_is_json_and_keeps_no_secret() -> Result {
    let mut served = Served::start(&[("envoy-tls.outrigger.dev/access-log", "json")], &[]).await?;
    let client = served.client(None)?;
    served.get(&client, "/before").await?;
    let secret = client
        .get(served.url("/logged?token=secret-in-query"))
        .bearer_auth("secret-in-header")
        .send()
        .await?;
    ensure!(secret.status() == 200);
    let line = wait_until("the line to be written", LIMIT, || {
        let log = served.log()?;
        ensure!(!log.contains("secret-in"), "{log}");
        let line = log
            .lines()
            .find(|line| line.contains("/logged"))
            .context("not yet")?;
        Ok(serde_json::from_str::<Value>(line)?)
    })?;
    ensure!(
        line["path"] == "/logged" && line["status"] == 200 && line["method"] == "GET",
        "{line}"
    );
    Ok(())
}

/// A TLS server of the test: greets every connection with its name. Its address is on the host's side of the
/// pod's network.
async fn greeter(
    address: std::net::Ipv4Addr,
    issued: &Issued,
    name: &'static str,
) -> Result<SocketAddr> {
    use rustls::pki_types::pem::PemObject;
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_no_client_auth()
    .with_single_cert(
        vec![rustls::pki_types::CertificateDer::from_pem_slice(
            issued.certificate.as_bytes(),
        )?],
        rustls::pki_types::PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
    )?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((address, 0)).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = stream
                    .write_all(format!("{name} at your service\n").as_bytes())
                    .await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Ok(bound)
}

/// What the application gets from a port of its own loopback.
fn from_inside(pod: &LocalPod, port: u16) -> Result<String> {
    let script = "import socket,sys\ns=socket.create_connection(('127.0.0.1',int(sys.argv[1])),3)\ns.settimeout(5)\nprint(s.recv(100).decode())";
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            pod.network_name(),
            "python3",
            "-c",
            script,
            &port.to_string(),
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn ambassadors_reach_tls_services_and_verify_them() -> Result {
    let (trusted, stranger) = (Authority::new("trusted")?, Authority::new("stranger")?);
    // The upstreams' addresses are in the annotations, and those are known once there is a network: a first pod
    // lends its own.
    let lender = LocalPod::new(&json!({"metadata": {}, "spec": {}}), &BTreeMap::new())?;
    let host = lender.gateway();
    let db = greeter(host, &trusted.server(&["db.example.com"])?, "db").await?;
    let cache = greeter(host, &trusted.server(&["cache.example.com"])?, "cache").await?;
    let fake = greeter(host, &stranger.server(&["db.example.com"])?, "fake").await?;
    let (db, cache, fake) = (db.to_string(), cache.to_string(), fake.to_string());
    let pod = injected(&[
        (
            "outrigger.dev/inject",
            "db=envoy-egress, cache=envoy-egress, fake=envoy-egress, name=envoy-egress",
        ),
        ("db.outrigger.dev/upstream", &db),
        ("db.outrigger.dev/listen-port", "5432"),
        ("db.outrigger.dev/server-name", "db.example.com"),
        ("db.outrigger.dev/ca-secret", "ca"),
        ("cache.outrigger.dev/upstream", &cache),
        ("cache.outrigger.dev/listen-port", "6379"),
        ("cache.outrigger.dev/server-name", "cache.example.com"),
        ("cache.outrigger.dev/ca-secret", "ca"),
        ("fake.outrigger.dev/upstream", &fake),
        ("fake.outrigger.dev/listen-port", "7000"),
        ("fake.outrigger.dev/server-name", "db.example.com"),
        ("fake.outrigger.dev/ca-secret", "ca"),
        // The right authority, but a certificate of another name.
        ("name.outrigger.dev/upstream", &cache),
        ("name.outrigger.dev/listen-port", "7001"),
        ("name.outrigger.dev/server-name", "db.example.com"),
        ("name.outrigger.dev/ca-secret", "ca"),
    ])?;
    let secrets = BTreeMap::from([("ca".to_owned(), authority_secret(&trusted))]);
    let mut local = LocalPod::new(&pod, &secrets)?;
    local.reach_through(&lender)?;
    let envoy = parts::program("envoy")?;
    for name in ["db", "cache", "fake", "name"] {
        local.start(name, &envoy)?;
    }
    for name in ["db", "cache"] {
        let port = if name == "db" { 5432 } else { 6379 };
        let greeting = wait_until("the ambassador to be up", LIMIT, || {
            let greeting = from_inside(&local, port)?;
            ensure!(!greeting.is_empty(), "nothing came");
            Ok(greeting)
        })?;
        ensure!(greeting == format!("{name} at your service"), "{greeting}");
        // Only the application itself may use it.
        ensure!(
            TcpStream::connect((local.address(), port)).await.is_err(),
            "{name} is open to all"
        );
    }
    for port in [7000, 7001] {
        wait_until("the ambassador to be up", LIMIT, || {
            from_inside(&local, port).map(drop)
        })?;
        let greeting = from_inside(&local, port)?;
        ensure!(
            greeting.is_empty(),
            "an upstream that cannot be verified was used: {greeting}"
        );
    }
    Ok(())
}

/// The pods of golden cases in which an Envoy runs.
fn goldens() -> Result<Vec<(String, Value)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut pods = Vec::new();
    for group in std::fs::read_dir(root)? {
        let mut cases: Vec<PathBuf> = std::fs::read_dir(group?.path())?
            .map(|case| Ok(case?.path()))
            .collect::<Result<_>>()?;
        cases.sort();
        for case in cases {
            let Ok(text) = std::fs::read_to_string(case.join("expected.yaml")) else {
                continue;
            };
            if text.contains("/etc/envoy/bootstrap.json") {
                pods.push((case.display().to_string(), serde_saphyr::from_str(&text)?));
            }
        }
    }
    ensure!(
        pods.len() > 30,
        "only {} goldens with an Envoy were found",
        pods.len()
    );
    Ok(pods)
}

#[test]
fn envoy_accepts_the_configuration_of_every_golden() -> Result {
    let authority = Authority::new("goldens")?;
    let mut content = secret(&authority.server(&["web.shop.svc"])?);
    content.extend(authority_secret(&authority));
    for (key, like) in [
        ("server.pem", "tls.crt"),
        ("server-key.pem", "tls.key"),
        ("root.pem", "ca.crt"),
    ] {
        content.insert(key.to_owned(), content[like].clone());
    }
    let envoy = parts::program("envoy")?;
    let mut refused = Vec::new();
    for (case, pod) in goldens()? {
        let mut secrets: BTreeMap<String, Secret> = BTreeMap::new();
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            for name in [
                &volume["secret"]["secretName"],
                &volume["configMap"]["name"],
                &volume["csi"]["driver"],
            ] {
                if let Some(name) = name.as_str() {
                    secrets.insert(name.to_owned(), content.clone());
                }
            }
        }
        let local = LocalPod::new(&pod, &secrets).with_context(|| case.clone())?;
        let lists = ["initContainers", "containers"]
            .map(|list| pod["spec"][list].as_array().cloned().unwrap_or_default());
        for container in lists.iter().flatten() {
            if !container["args"]
                .to_string()
                .contains("/etc/envoy/bootstrap.json")
            {
                continue;
            }
            let name = container["name"]
                .as_str()
                .context("a container without a name")?;
            let output = local
                .command(name, &envoy, &["--mode", "validate"])?
                .output()?;
            if !output.status.success() {
                refused.push(format!(
                    "{case}: {name}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        bail!("{}", refused.join("\n"))
    }
}
