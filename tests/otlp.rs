//! Spans arrive at an OpenTelemetry collector: a stub on loopback that takes them as protobuf over HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use testkit::certs::Authority;
use testkit::{Daemon, Result, free_port, wait_until_async};

const REVIEW: &str = include_str!("../examples/review.json");
const LIMIT: Duration = Duration::from_secs(20);

/// A span as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sent {
    name: String,
    trace: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    /// Of the resource that it is of.
    service: String,
}

/// A collector that keeps what it is sent.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Sent>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let spans = Arc::<Mutex<Vec<Sent>>>::default();
        let kept = Arc::clone(&spans);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = hyper::service::service_fn(move |request: Request<_>| {
                    let kept = Arc::clone(&kept);
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        let kind = request.headers()["content-type"].clone();
                        assert_eq!(kind, "application/x-protobuf");
                        let body = hyper::body::Incoming::collect(request.into_body()).await?;
                        let decoded = spans_of(&body.to_bytes()).expect("an export request");
                        kept.lock().unwrap().extend(decoded);
                        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self {
            address,
            spans,
            task,
        })
    }

    fn spans(&self) -> Vec<Sent> {
        self.spans.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The length-delimited fields of a protobuf message, as number and content.
fn fields(mut message: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?)?,
            5 => 4,
            other => anyhow::bail!("the wire type {other}"),
        };
        let (content, rest) = message.split_at_checked(length).context("too short")?;
        message = rest;
        if key & 7 == 2 {
            found.push((key >> 3, content));
        }
    }
    Ok(found)
}

fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().context("too short")?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number without an end")
}

/// The contents of the fields on this path of numbers.
fn on<'a>(message: &'a [u8], path: &[u64]) -> Result<Vec<&'a [u8]>> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(vec![message]);
    };
    let mut found = Vec::new();
    for (number, content) in fields(message)? {
        if number == *first {
            found.extend(on(content, rest)?);
        }
    }
    Ok(found)
}

fn text(message: &[u8], path: &[u64]) -> Result<String> {
    let found = on(message, path)?;
    Ok(String::from_utf8(
        found.first().copied().unwrap_or_default().to_vec(),
    )?)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes that are strings. A KeyValue is 1: key, 2: value; a value's string is 1.
fn attributes(message: &[u8], number: u64) -> Result<BTreeMap<String, String>> {
    on(message, &[number])?
        .into_iter()
        .map(|pair| Ok((text(pair, &[1])?, text(pair, &[2, 1])?)))
        .collect()
}

/// The spans of an ExportTraceServiceRequest (opentelemetry-proto): 1 is resource_spans, of which 1 is the resource
/// and 2 the scope_spans, of which 2 are spans: 1 trace_id, 4 parent_span_id, 5 name, 9 attributes.
fn spans_of(request: &[u8]) -> Result<Vec<Sent>> {
    let mut spans = Vec::new();
    for resource_spans in on(request, &[1])? {
        let resource = on(resource_spans, &[1])?;
        let resource = attributes(resource.first().context("no resource")?, 1)?;
        for span in on(resource_spans, &[2, 2])? {
            let identity = |number| Ok::<_, anyhow::Error>(on(span, &[number])?.concat());
            spans.push(Sent {
                name: text(span, &[5])?,
                trace: hexadecimal(&identity(1)?),
                parent: hexadecimal(&identity(4)?),
                attributes: attributes(span, 9)?,
                service: resource.get("service.name").cloned().unwrap_or_default(),
            });
        }
    }
    Ok(spans)
}

struct Served {
    daemon: Daemon,
    listen: SocketAddr,
    authority: Authority,
    _folder: tempfile::TempDir,
}

/// Starts a webhook whose environment has these variables beside.
fn serve(variables: &[(&str, &str)]) -> Result<Served> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("the tests of spans")?;
    let issued = authority.server(&["127.0.0.1"])?;
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("tls.crt"), issued.certificate)?;
    std::fs::write(file("tls.key"), issued.key)?;
    let address = || -> Result<SocketAddr> { Ok(([127, 0, 0, 1], free_port()?).into()) };
    let (listen, operations) = (address()?, address()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command
        .args(["serve", "--drain-seconds", "0"])
        .arg("--tls-cert")
        .arg(file("tls.crt"))
        .arg("--tls-key")
        .arg(file("tls.key"))
        .args(["--listen", &listen.to_string()])
        .args(["--operations-listen", &operations.to_string()])
        .env_remove("RUST_LOG")
        .envs(variables.iter().copied());
    let mut daemon = Daemon::start(&command, &file("log"), Duration::from_secs(20))?;
    daemon.wait_ready(LIMIT, || Ok(std::net::TcpStream::connect(operations)?))?;
    Ok(Served {
        daemon,
        listen,
        authority,
        _folder: folder,
    })
}

impl Served {
    async fn post(&self, body: &str, parent: &str) -> Result<u16> {
        let client = testkit::http::client(self.authority.certificate(), None)?;
        let request = client
            .post(format!("https://{}/mutate", self.listen))
            .header("content-type", "application/json")
            .header("traceparent", parent);
        Ok(request
            .body(body.to_owned())
            .send()
            .await?
            .status()
            .as_u16())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_a_span_of_the_callers_trace() -> Result {
    let collector = Collector::start().await?;
    let served = serve(&[
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &format!("http://{}", collector.address),
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ])?;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = "b7ad6b7169203331";
    ensure!(
        served
            .post(REVIEW, &format!("00-{trace}-{parent}-01"))
            .await?
            == 200
    );
    // Whoever called does not record this trace: neither do we.
    let silent = "1af7651916cd43dd8448eb211c80319c";
    ensure!(
        served
            .post(REVIEW, &format!("00-{silent}-{parent}-00"))
            .await?
            == 200
    );
    let other = "2af7651916cd43dd8448eb211c80319c";
    ensure!(
        served
            .post("{}", &format!("00-{other}-{parent}-01"))
            .await?
            == 400
    );
    wait_until_async("the spans to arrive", LIMIT, async || {
        ensure!(collector.spans().len() >= 2, "{:?}", collector.spans());
        Ok(())
    })
    .await?;
    let spans = collector.spans();
    let of = |trace: &str| spans.iter().find(|span| span.trace == trace);
    let span = of(trace).context("the review has no span")?;
    assert_eq!((&*span.name, &*span.parent), ("review", parent), "{span:?}");
    assert_eq!(span.service, "outrigger");
    let review: serde_json::Value = serde_json::from_str(REVIEW)?;
    for (key, value) in [
        ("webhook", "mutate"),
        ("uid", review["request"]["uid"].as_str().unwrap()),
        (
            "namespace",
            review["request"]["namespace"].as_str().unwrap(),
        ),
        ("outcome", "injected"),
        ("reason", "Injected"),
    ] {
        assert_eq!(
            span.attributes.get(key).map(String::as_str),
            Some(value),
            "{key} of {span:?}"
        );
    }
    let rejected = of(other).context("what is no review has no span")?;
    assert_eq!(rejected.attributes["outcome"], "rejected");
    assert_eq!(rejected.attributes["reason"], "no_review");
    assert_eq!(of(silent), None);
    let log = served.daemon.log();
    ensure!(
        log.lines()
            .any(|line| line.contains("reviewed") && !line.contains("review{")),
        "log lines do not change: {log}"
    );
    Ok(())
}

/// What is left is sent before the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_at_the_end() -> Result {
    let collector = Collector::start().await?;
    let mut served = serve(&[
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &format!("http://{}/v1/traces", collector.address),
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_SERVICE_NAME", "sidecars"),
    ])?;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    served
        .post(REVIEW, &format!("00-{trace}-b7ad6b7169203331-01"))
        .await?;
    ensure!(collector.spans().is_empty(), "{:?}", collector.spans());
    served.daemon.signal(testkit::daemon::Signal::TERM)?;
    let ended = tokio::task::spawn_blocking(move || served.daemon.wait_ended(LIMIT)).await??;
    ensure!(ended.success(), "{ended}");
    let spans = collector.spans();
    ensure!(
        spans
            .iter()
            .any(|span| span.trace == trace && span.service == "sidecars"),
        "{spans:?}"
    );
    Ok(())
}

/// A collector that is away costs no review.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_not_waited_for() -> Result {
    let nobody = free_port()?;
    let served = serve(&[
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &format!("http://127.0.0.1:{nobody}"),
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ])?;
    for _ in 0..20 {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        ensure!(served.post(REVIEW, parent).await? == 200);
    }
    Ok(())
}
