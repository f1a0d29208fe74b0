//! The command itself, as a process: `outrigger serve`.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use testkit::certs::Authority;
use testkit::{Daemon, Result, free_port, process, wait_until};

use super::kit::REVIEW;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// A webhook process, ready.
struct Served {
    daemon: Daemon,
    listen: SocketAddr,
    operations: SocketAddr,
    _folder: TempDir,
}

fn serve(arguments: &[&str]) -> Result<Served> {
    serve_and_log(None, arguments)
}

/// The same with this `RUST_LOG`.
fn serve_and_log(filter: Option<&str>, arguments: &[&str]) -> Result<Served> {
    let folder = tempfile::tempdir()?;
    let address = || -> Result<SocketAddr> { Ok(([127, 0, 0, 1], free_port()?).into()) };
    let (listen, operations) = (address()?, address()?);
    let mut command = Command::new(OUTRIGGER);
    command.arg("serve").args([
        "--listen",
        &listen.to_string(),
        "--operations-listen",
        &operations.to_string(),
    ]);
    command.args(arguments);
    match filter {
        Some(filter) => command.env("RUST_LOG", filter),
        None => command.env_remove("RUST_LOG"),
    };
    let mut daemon = Daemon::start(&command, &folder.path().join("log"), Duration::from_secs(5))?;
    daemon.wait_ready(Duration::from_secs(15), || {
        Ok(std::net::TcpStream::connect(operations)?)
    })?;
    Ok(Served {
        daemon,
        listen,
        operations,
        _folder: folder,
    })
}

/// A client that takes any certificate: that of `--self-signed` is known to nobody.
fn client() -> Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()?)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

async fn post(
    client: &reqwest::Client,
    served: &Served,
    body: impl Into<String>,
) -> Result<reqwest::Response> {
    let request = client
        .post(format!("https://{}/mutate", served.listen))
        .header("content-type", "application/json");
    Ok(request.body(body.into()).send().await?)
}

fn terminate(served: &Served) -> Result {
    send(served, "-TERM")
}

fn send(served: &Served, signal: &str) -> Result {
    let mut kill = Command::new("kill");
    kill.args([signal, &served.daemon.id().to_string()]);
    process::run(&kill, b"", Duration::from_secs(5))?.ok()?;
    Ok(())
}

#[tokio::test]
async fn it_serves_drains_and_ends_with_0() -> Result {
    let mut served = serve(&["--self-signed", "--drain-seconds", "2"])?;
    let client = client()?;
    let answer: serde_json::Value =
        serde_json::from_str(&post(&client, &served, REVIEW).await?.text().await?)?;
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");

    terminate(&served)?;
    let start = Instant::now();
    let operations = served.operations;
    wait_until("the draining to be told", Duration::from_secs(2), || {
        let status = std::thread::spawn(move || -> Result<String> {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect(operations)?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        let text = status
            .join()
            .map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        ensure!(text.starts_with("HTTP/1.1 503"), "{text}");
        Ok(())
    })?;
    // Whoever has not heard of it yet is served as before, and told to go.
    let late = post(&client, &served, REVIEW).await?;
    assert_eq!(
        late.headers().get("connection").context("no Connection")?,
        "close"
    );
    assert!(late.text().await?.contains("JSONPatch"));
    let status = served.daemon.wait_ended(Duration::from_secs(10))?;
    assert_eq!(status.code(), Some(0), "{}", served.daemon.log());
    let time = start.elapsed();
    assert!(
        time > Duration::from_millis(1500) && time < Duration::from_secs(8),
        "{time:?}"
    );
    Ok(())
}

/// A pod's author must not be able to write lines into the operator's log.
#[tokio::test]
async fn a_log_line_is_one_line_whatever_the_pod_is_called() -> Result {
    let evil = "a\nINFO admission: forged\r\u{1b}[31m\u{2028}\u{202e}\0";
    let mut review: serde_json::Value = serde_json::from_str(REVIEW)?;
    review["request"]["uid"] = evil.into();
    review["request"]["namespace"] = evil.into();
    review["request"]["object"]["metadata"]["name"] = evil.into();
    let good = review.to_string();
    review["request"]["object"]["metadata"]["annotations"]["outrigger.dev/inject"] = evil.into();
    for format in ["text", "json"] {
        let served = serve(&[
            "--self-signed",
            "--drain-seconds",
            "0",
            "--log-format",
            format,
        ])?;
        let client = client()?;
        assert_eq!(post(&client, &served, &good).await?.status(), 200);
        assert_eq!(
            post(&client, &served, review.to_string()).await?.status(),
            200
        );
        let log = served.daemon.log();
        let decisions: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("dry_run"))
            .collect();
        assert_eq!(decisions.len(), 2, "{log}");
        assert!(
            decisions
                .iter()
                .all(|line| line.contains(r"\nINFO admission: forged")),
            "{log}"
        );
        assert_eq!(log.lines().count(), 4, "{log}");
        assert!(
            !log.contains(['\r', '\u{1b}', '\u{2028}', '\u{202e}', '\0']),
            "{log:?}"
        );
        if format == "json" {
            let denied: serde_json::Value = serde_json::from_str(decisions[1])?;
            assert_eq!(denied["message"], "denied");
            // What a program reads is the value, not the value as Rust would write it.
            let mut values = denied.as_object().context("no object")?.values();
            assert!(
                !values.any(|value| value.as_str().is_some_and(|text| text.starts_with('"'))),
                "{denied}"
            );
            assert!(
                denied["denial"]
                    .as_str()
                    .is_some_and(|text| text.contains("there is no profile")),
                "{denied}"
            );
        }
    }
    Ok(())
}

/// `RUST_LOG` says what is logged, and what cannot be followed of it is no reason to refuse pods.
#[tokio::test]
async fn the_log_is_what_is_asked_for() -> Result {
    // Whether the start is told, the review, and that something is wrong.
    for (filter, expected) in [
        ("info", [true, true, false]),
        ("warn,admission=info", [false, true, false]),
        ("off", [false, false, false]),
        ("info,[review]=debug", [true, true, true]),
    ] {
        let served = serve_and_log(Some(filter), &["--self-signed", "--drain-seconds", "0"])?;
        assert_eq!(post(&client()?, &served, REVIEW).await?.status(), 200);
        let log = served.daemon.log();
        let warning = format!("WARN server: RUST_LOG: given {filter:?}, expected ");
        let told = ["serving", "reviewed", &warning].map(|part| log.contains(part));
        assert_eq!(told, expected, "{filter}: {log}");
    }
    Ok(())
}

/// An operator who asks twice does not want to wait, whichever way they ask.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() -> Result {
    for (first, second) in [("-TERM", "-TERM"), ("-TERM", "-INT"), ("-INT", "-INT")] {
        let mut served = serve(&["--self-signed", "--drain-seconds", "60"])?;
        let start = Instant::now();
        send(&served, first)?;
        wait_until("the draining to be told", Duration::from_secs(2), || {
            ensure!(
                served.daemon.log().contains("draining"),
                "{}",
                served.daemon.log()
            );
            Ok(())
        })?;
        send(&served, second)?;
        served.daemon.wait_ended(Duration::from_secs(10))?;
        let time = start.elapsed();
        assert!(time < Duration::from_secs(5), "{first} {second}: {time:?}");
    }
    Ok(())
}

/// A forged review must not fill the operator's disk by its names.
#[tokio::test]
async fn long_values_are_cut_in_the_log() -> Result {
    let mut review: serde_json::Value = serde_json::from_str(REVIEW)?;
    review["request"]["uid"] = "\u{e9}".repeat(100_000).into();
    let served = serve(&["--self-signed", "--drain-seconds", "0"])?;
    let answer = post(&client()?, &served, review.to_string()).await?;
    assert_eq!(answer.status(), 200);
    let log = served.daemon.log();
    assert!(log.contains("reviewed"), "{log}");
    assert!(log.len() < 4096, "{} bytes of log", log.len());
    Ok(())
}

/// Each mistake ends the process at once, with the flag that is at fault.
#[test]
fn what_cannot_be_served_ends_with_2_and_names_the_flag() -> Result {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("mistakes")?;
    let (one, two) = (
        authority.server(&["a.example"])?,
        authority.server(&["b.example"])?,
    );
    let file = |name: &str, content: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    };
    let certificate = file("tls.crt", &one.certificate)?;
    let key = file("tls.key", &one.key)?;
    let other = file("other.key", &two.key)?;
    let empty = file("empty", "")?;
    let cut = file("cut.crt", &one.certificate.replace('M', "*"))?;
    let profile = file(
        "profile.yaml",
        "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nnonsense: true\n",
    )?;
    let defaults = file(
        "defaults.yaml",
        "profileDefaults: {envoy-tls: {nonsense: 1}}\n",
    )?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.to_string();
    let missing = folder.path().join("missing").display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&[], "--tls-cert"),
        (&["--tls-cert", &certificate], "--tls-key"),
        (&["--tls-key", &key], "--tls-cert"),
        (
            &[
                "--tls-cert",
                &certificate,
                "--tls-key",
                &key,
                "--self-signed",
            ],
            "--self-signed",
        ),
        (&["--tls-cert", &missing, "--tls-key", &key], "--tls-cert"),
        (
            &["--tls-cert", &certificate, "--tls-key", &missing],
            "--tls-key",
        ),
        (&["--tls-cert", &empty, "--tls-key", &key], "--tls-cert"),
        (&["--tls-cert", &cut, "--tls-key", &key], "--tls-cert"),
        (
            &["--tls-cert", &certificate, "--tls-key", &empty],
            "--tls-key",
        ),
        (
            &["--tls-cert", &key, "--tls-key", &certificate],
            "--tls-cert",
        ),
        (
            &["--tls-cert", &certificate, "--tls-key", &other],
            "--tls-key",
        ),
        (&["--self-signed", "--profiles", &missing], "--profiles"),
        (&["--self-signed", "--profiles", &profile], "nonsense"),
        (&["--self-signed", "--defaults", &missing], "--defaults"),
        (&["--self-signed", "--defaults", &defaults], "nonsense"),
        (&["--self-signed", "--listen", &port], "--listen"),
        (
            &[
                "--self-signed",
                "--listen",
                "127.0.0.1:0",
                "--operations-listen",
                &port,
            ],
            "--operations-listen",
        ),
        (&["--self-signed", "--listen", "localhost"], "--listen"),
        (&["--self-signed", "--dns-name", "ä"], "--dns-name"),
        (
            &[
                "--dns-name",
                "a.example",
                "--tls-cert",
                &certificate,
                "--tls-key",
                &key,
            ],
            "--dns-name",
        ),
        (
            &["--self-signed", "--max-connections", "0"],
            "--max-connections",
        ),
        (
            &["--self-signed", "--max-in-flight", "0"],
            "--max-in-flight",
        ),
        (
            &["--self-signed", "--drain-seconds", "x"],
            "--drain-seconds",
        ),
        (&["--self-signed", "--log-format", "xml"], "--log-format"),
        (&["--nonsense"], "--nonsense"),
    ];
    for (arguments, flag) in cases {
        let mut command = Command::new(OUTRIGGER);
        command.arg("serve");
        // A port that nobody asked for must not decide the case.
        for default in ["--listen", "--operations-listen"] {
            if !arguments.contains(&default) {
                command.args([default, "127.0.0.1:0"]);
            }
        }
        command.args(*arguments);
        let ended = process::run(&command, b"", Duration::from_secs(10))?;
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(
            ended.stderr.contains(flag),
            "{arguments:?} does not name {flag}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("PRIVATE KEY"), "{}", ended.stderr);
    }
    Ok(())
}
