//! A real nginx, run as the pods of the golden cases say: its arguments, its generated configuration, its user and
//! read-only root, on an address of its own, before a real HTTP application.
//!
//! `testkit::pod` says what is not as on a node. nginx is the system's own, of another version than the image's.
//! It needs root and Linux namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::pki_types::{IpAddr, ServerName};
use serde_json::Value;
use testkit::certs::{Authority, Issued};
use testkit::pod::Secret;
use testkit::{LocalPod, Result, http, wait_until_async};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(15);
const NGINX: &str = "/usr/sbin/nginx";

/// Answers every request with what it was asked, as JSON, on the port that it is given.
const APPLICATION: &str = r#"
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": headers, "fill": "x" * 2000}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

fn goldens(group: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(group);
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("expected.yaml"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    assert!(found.len() > 5, "{found:?}");
    found
        .into_iter()
        .map(|path| {
            let pod = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (path.display().to_string(), pod)
        })
        .collect()
}

/// The pod that the API server would store for a golden case.
fn golden(case: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(case)
        .join("expected.yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn secret(issued: &Issued) -> Secret {
    BTreeMap::from([
        ("tls.crt".to_owned(), issued.certificate.clone()),
        ("tls.key".to_owned(), issued.key.clone()),
    ])
}

/// A pod with nginx before an application.
struct Served {
    pod: LocalPod,
    authority: Authority,
    nginx: usize,
    port: u16,
}

impl Served {
    /// Starts the pod of a golden case: the application on `upstream`, then nginx in the container `name`.
    async fn start(case: &str, name: &str, upstream: u16, more: &[(&str, Secret)]) -> Result<Self> {
        let pod = golden(case);
        let containers = pod["spec"]["initContainers"]
            .as_array()
            .context("the pod has no sidecar")?;
        let container = containers
            .iter()
            .find(|container| container["name"] == name)
            .context("the sidecar has another name")?;
        let port = container["ports"][0]["containerPort"]
            .as_u64()
            .context("the sidecar has no port")?;
        let port = u16::try_from(port)?;
        let authority = Authority::new("nginx tests")?;
        let mut objects: BTreeMap<String, Secret> = more
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        objects.insert(
            "search-tls".to_owned(),
            secret(&authority.server(&["placeholder"])?),
        );
        let mut pod = LocalPod::new(&pod, &objects)?;
        pod.add_image_file("/etc/nginx/mime.types", Path::new("/etc/nginx/mime.types"));
        let address = pod.address().to_string();
        if name == "nginx-tls" {
            let content = secret(&authority.server(&[&address])?);
            pod.write_secret("nginx-tls-certificate", &content)?;
        }
        pod.start_application("python3", &["-u", "-c", APPLICATION, &upstream.to_string()])?;
        let nginx = pod.start(name, Path::new(NGINX))?;
        let mut served = Self {
            pod,
            authority,
            nginx,
            port,
        };
        // The startup probe: a connection to the named port.
        let opened = wait_until_async("nginx to listen", LIMIT, async || {
            TcpStream::connect((served.pod.address(), served.port)).await?;
            Ok(())
        })
        .await;
        if opened.is_err() {
            opened.with_context(|| served.pod.daemon(served.nginx).unwrap().log())?;
        }
        Ok(served)
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}:{}{path}", self.pod.address(), self.port)
    }

    fn client(&self) -> Result<reqwest::Client> {
        http::client(self.authority.certificate(), None)
    }

    /// A request that the application has answered.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        wait_until_async("the application to answer", LIMIT, async || {
            let request = request
                .try_clone()
                .context("the request can be sent once")?;
            let answer = request.send().await?;
            ensure!(answer.status() == 200, "{}", answer.status());
            Ok(answer.json().await?)
        })
        .await
    }

    /// The certificate that is served at this moment, in DER.
    async fn certificate(&self) -> Result<Vec<u8>> {
        let config = http::tls(self.authority.certificate(), None)?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect((self.pod.address(), self.port)).await?;
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(self.pod.address())));
        let stream = tls.connect(name, stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        Ok(chain
            .and_then(<[_]>::first)
            .context("no certificate")?
            .to_vec())
    }
}

#[test]
fn nginx_takes_every_configuration_of_the_goldens() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let mut tested = 0;
    for (name, pod) in goldens("nginx-tls")
        .into_iter()
        .chain(goldens("nginx-proxy"))
    {
        let annotations = pod["metadata"]["annotations"].as_object().unwrap();
        for (_, text) in annotations
            .iter()
            .filter(|(key, _)| key.ends_with(".nginx.conf"))
        {
            let path = folder.path().join("nginx.conf");
            // What a ConfigMap would hold is the author's, and is tested below.
            let text = text
                .as_str()
                .unwrap()
                .replace("include /etc/nginx/conf.d/default.conf;", "");
            fs::write(&path, text).unwrap();
            let output = Command::new(NGINX)
                .args(["-t", "-e", "stderr", "-c"])
                .arg(&path)
                .output()
                .unwrap();
            tested += 1;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() || said.contains("[warn]") {
                failures.push(format!("{name}: {said}"));
            }
        }
    }
    assert!(tested >= 12, "only {tested}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn https_reaches_an_application_that_was_moved_to_loopback() -> Result {
    let case = "nginx-tls/application-moved-to-loopback";
    let environment = golden(case)["spec"]["containers"][0]["env"].to_string();
    ensure!(
        environment.contains(r#"{"name":"http.port","value":"9201"}"#),
        "{environment}"
    );
    let served = Served::start(case, "nginx-tls", 9201, &[]).await?;
    ensure!(served.port == 9200);
    let client = served.client()?;
    let seen = served
        .ask(client.get(served.url("https", "/index/_search?q=a%20b")))
        .await?;
    ensure!(seen["path"] == "/index/_search?q=a%20b", "{seen}");
    let headers = &seen["headers"];
    ensure!(headers["x-forwarded-proto"] == "https", "{seen}");
    ensure!(
        headers["x-forwarded-for"] == served.pod.gateway().to_string(),
        "{seen}"
    );
    ensure!(
        headers["host"] == format!("{}:9200", served.pod.address()),
        "{seen}"
    );
    ensure!(
        headers.get("connection").is_none(),
        "the connection is not kept: {seen}"
    );

    let upgrade = client
        .get(served.url("https", "/socket"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let seen = served.ask(upgrade).await?;
    ensure!(seen["headers"]["connection"] == "upgrade", "{seen}");
    ensure!(seen["headers"]["upgrade"] == "websocket", "{seen}");

    ensure!(
        TcpStream::connect((served.pod.address(), 9201))
            .await
            .is_err(),
        "the application can be reached from outside of the pod"
    );
    let plain = client.get(served.url("http", "/")).send().await?;
    ensure!(
        plain.status() == 400,
        "plain HTTP is answered with {}",
        plain.status()
    );
    let large = client
        .post(served.url("https", "/"))
        .body(vec![0; 11 << 20])
        .send()
        .await?;
    ensure!(large.status() == 413, "{}", large.status());
    let fits = client.post(served.url("https", "/")).body(vec![0; 9 << 20]);
    served.ask(fits).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_without_a_restart() -> Result {
    let served = Served::start("nginx-tls/minimal", "nginx-tls", 8080, &[]).await?;
    let before = served.certificate().await?;
    let address = served.pod.address().to_string();
    let renewed = secret(&served.authority.server(&[&address])?);
    served.pod.write_secret("nginx-tls-certificate", &renewed)?;
    wait_until_async("the new certificate to be served", LIMIT, async || {
        ensure!(served.certificate().await? != before, "still the old one");
        Ok(())
    })
    .await?;
    served
        .ask(served.client()?.get(served.url("https", "/")))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_its_own_takes_the_place_of_the_generated_one() -> Result {
    let configuration = "
        pid /tmp/nginx.pid;
        events {}
        http {
            access_log off;
            client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
            uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
            server {
                listen 8443 ssl;
                ssl_certificate /etc/nginx/certificate/tls.crt;
                ssl_certificate_key /etc/nginx/certificate/tls.key;
                location / { proxy_pass http://127.0.0.1:8080; proxy_set_header X-Own yes; }
            }
        }";
    let map = BTreeMap::from([("search.conf".to_owned(), configuration.to_owned())]);
    let case = "nginx-tls/configuration-of-its-own";
    let served = Served::start(case, "nginx-tls", 8080, &[("search-nginx", map)]).await?;
    let seen = served
        .ask(served.client()?.get(served.url("https", "/")))
        .await?;
    ensure!(seen["headers"]["x-own"] == "yes", "{seen}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_proxy_compresses_logs_and_says_how_the_client_came() -> Result {
    let mut served = Served::start("nginx-proxy/minimal", "nginx-proxy", 5000, &[]).await?;
    let client = served.client()?;
    let url = served.url("http", "/hello");
    let seen = served.ask(client.get(&url)).await?;
    ensure!(seen["headers"]["x-forwarded-proto"] == "http", "{seen}");
    // As told by what terminated TLS before it.
    let seen = served
        .ask(client.get(&url).header("x-forwarded-proto", "https"))
        .await?;
    ensure!(seen["headers"]["x-forwarded-proto"] == "https", "{seen}");
    let compressed = client
        .get(&url)
        .header("accept-encoding", "gzip")
        .send()
        .await?;
    ensure!(compressed.headers()["content-encoding"] == "gzip");
    ensure!(compressed.bytes().await?.len() < 1000);
    let log = served.pod.daemon(served.nginx)?.log();
    ensure!(log.contains("\"GET /hello HTTP/1.1\" 200"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_block_from_a_config_map_is_mounted_as_a_file() -> Result {
    let block = "server { listen 8080; location / { proxy_pass http://127.0.0.1:5000/below/; } }";
    let map = BTreeMap::from([("shop.conf".to_owned(), block.to_owned())]);
    let case = "nginx-proxy/configuration-from-a-config-map";
    let served = Served::start(case, "nginx-proxy", 5000, &[("shop-nginx", map)]).await?;
    let seen = served
        .ask(served.client()?.get(served.url("http", "/x")))
        .await?;
    ensure!(seen["path"] == "/below/x", "{seen}");
    Ok(())
}
