//! What the webhook costs, as ratios in one run.
//!
//! The floor is an empty handler in the same server: it reads the body and returns fixed bytes of the length of
//! ours. Both run as processes of their own, on one core; the load comes from another. Rounds alternate, and
//! what is told is the median of the rounds with the lowest and the highest beside it, because machines that are
//! shared are noisy.
//!
//! `cargo xtask bench` runs this.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use outrigger::admission::{self, ReviewError, Reviewed};
use outrigger::certificate::{CertificatePair, Subject};
use outrigger::server::{CertificateSource, Server, ServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[path = "support/fixture.rs"]
mod fixture;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 16;
const REQUESTS: usize = 4000;
const LATENCY_REQUESTS: usize = 3000;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve-outrigger") => serve(Handler::Outrigger),
        Some("serve-empty") => serve(Handler::Empty),
        _ => measure(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Outrigger,
    Empty,
}

/// The server process: prints its address and its certificate, ends when its standard input does.
fn serve(handler: Handler) -> Result {
    let subject = Subject {
        dns_names: vec!["localhost".into()],
        addresses: Vec::new(),
        days: 1,
    };
    let pair = CertificatePair::self_signed(&subject)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let config = ServerConfig::new(any, any, CertificateSource::Pair(pair.clone()));
        let snapshot = fixture::snapshot();
        let fixed = admission::review(&two_profiles(), &snapshot)?;
        let reviewer = move |_, body: &[u8]| -> std::result::Result<Reviewed, ReviewError> {
            match handler {
                Handler::Outrigger => admission::review(body, &snapshot),
                Handler::Empty => Ok(fixed.clone()),
            }
        };
        let server = Server::bind(config, reviewer).await?;
        let (address, _) = server.addresses()?;
        println!("{address}\n{}\u{4}", pair.certificate);
        std::io::stdout().flush()?;
        let parent = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]));
        tokio::select! {
            _ = parent => {}
            () = server.run(std::future::pending()) => {}
        }
        std::process::exit(0)
    })
}

/// The review with two profiles.
fn two_profiles() -> Vec<u8> {
    fixture::reviews().swap_remove(2).1
}

struct Process {
    child: Child,
    address: SocketAddr,
    connector: TlsConnector,
}

impl Process {
    fn start(what: &str) -> Result<Self> {
        let program = std::env::current_exe()?;
        // One core for the server, the others for the load.
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program).arg(what);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the server has no output")?);
        let mut address = String::new();
        output.read_line(&mut address)?;
        let mut certificate = Vec::new();
        output.read_until(4, &mut certificate)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&certificate)?)?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
        Ok(Self {
            child,
            address: address.trim().parse()?,
            connector: TlsConnector::from(Arc::new(tls)),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self
            .connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// The CPU time of the server so far, over all its threads.
    fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn post(sender: &mut SendRequest<Full<Bytes>>, review: &Bytes) -> Result {
    let request = Request::post("/mutate?timeout=5s")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept-encoding", "gzip")
        .body(Full::new(review.clone()))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let good = answer.status().is_success();
    answer.into_body().collect().await?;
    if good {
        Ok(())
    } else {
        Err("a review was not answered".into())
    }
}

/// CPU time of the server for one request, with 16 connections.
async fn cpu_per_request(process: &Process, review: &Bytes) -> Result<f64> {
    let mut senders = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut sender = process.connect().await?;
        post(&mut sender, review).await?;
        senders.push(sender);
    }
    let before = process.cpu()?;
    let mut tasks = Vec::with_capacity(CONNECTIONS);
    for mut sender in senders {
        let review = review.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..REQUESTS / CONNECTIONS {
                post(&mut sender, &review).await?;
            }
            Result::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok((process.cpu()? - before).as_secs_f64() * 1e6
        / (REQUESTS / CONNECTIONS * CONNECTIONS) as f64)
}

/// The median and the 99th percentile of the latency at one connection, in microseconds.
async fn latency(process: &Process, review: &Bytes) -> Result<(f64, f64)> {
    let mut sender = process.connect().await?;
    let mut times = Vec::with_capacity(LATENCY_REQUESTS);
    for _ in 0..LATENCY_REQUESTS {
        let start = Instant::now();
        post(&mut sender, review).await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// The median time of one call, in microseconds.
fn in_process(review: &[u8], snapshot: &admission::Snapshot) -> f64 {
    let mut times: Vec<f64> = (0..2000)
        .map(|_| {
            let start = Instant::now();
            let _ = std::hint::black_box(admission::review(review, snapshot));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct Row {
    what: String,
    values: Vec<f64>,
    unit: &'static str,
}

impl Row {
    fn print(&mut self) {
        self.values.sort_by(f64::total_cmp);
        let (low, high) = (self.values[0], self.values[self.values.len() - 1]);
        let median = self.values[self.values.len() / 2];
        println!(
            "| {} | {median:.2} {} | {low:.2} – {high:.2} |",
            self.what, self.unit
        );
    }
}

fn measure() -> Result {
    let review = Bytes::from(two_profiles());
    let (ours, empty) = (
        Process::start("serve-outrigger")?,
        Process::start("serve-empty")?,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let row = |what: &str, unit| Row {
        what: what.to_owned(),
        values: Vec::new(),
        unit,
    };
    let mut rows = [
        row("CPU per request over TLS, 16 connections", "µs"),
        row("the same, empty handler", "µs"),
        row("ratio", "×"),
        row("latency p50 at one connection", "µs"),
        row("the same, empty handler", "µs"),
        row("ratio", "×"),
        row("latency p99 at one connection", "µs"),
        row("the same, empty handler", "µs"),
        row("ratio", "×"),
    ];
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            let (cpu, floor) = (
                cpu_per_request(&ours, &review).await?,
                cpu_per_request(&empty, &review).await?,
            );
            let ((p50, p99), (floor50, floor99)) = (
                latency(&ours, &review).await?,
                latency(&empty, &review).await?,
            );
            let round = [
                cpu,
                floor,
                cpu / floor,
                p50,
                floor50,
                p50 / floor50,
                p99,
                floor99,
                p99 / floor99,
            ];
            for (row, value) in rows.iter_mut().zip(round) {
                row.values.push(value);
            }
        }
        Result::Ok(())
    })?;
    println!(
        "envoy-tls and fluentd rendered, a review of {} bytes, {ROUNDS} rounds\n",
        review.len()
    );
    println!("| what | median | lowest – highest |\n|---|---:|---:|");
    rows.iter_mut().for_each(Row::print);
    let (snapshot, forgetful) = (fixture::snapshot(), fixture::forgetful());
    let tell = |what: String, snapshot: &admission::Snapshot, review: &[u8]| {
        let values = (0..5).map(|_| in_process(review, snapshot)).collect();
        let unit = "µs";
        Row { what, values, unit }.print();
    };
    for (name, review) in fixture::reviews() {
        let what = format!("in process: {name} ({} bytes)", review.len());
        tell(what, &snapshot, &review);
    }
    for (name, review) in fixture::reviews().into_iter().take(3) {
        let what = format!("in process, nothing remembered: {name}");
        tell(what, &forgetful, &review);
    }
    Ok(())
}
