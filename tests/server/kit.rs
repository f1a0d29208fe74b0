//! A server that runs, and clients that say exactly what a test wants said.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use outrigger::admission::{self, Snapshot};
use outrigger::certificate::CertificatePair;
use outrigger::profile::Catalogue;
use outrigger::server::{CertificateSource, Reviewer, Server, ServerConfig};
use rustls::pki_types::ServerName;
use testkit::Result;
use testkit::certs::Authority;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No answer of these tests takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A real review: a pod with an annotation that asks for a sidecar.
pub(crate) const REVIEW: &str = include_str!("../../examples/review.json");

/// A server in this process, stopped when the test ends.
pub(crate) struct Running {
    /// Where reviews are taken.
    pub(crate) address: SocketAddr,
    /// Where metrics are told.
    pub(crate) operations: SocketAddr,
    /// Who signed its certificate.
    pub(crate) authority: Arc<Authority>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Starts a server with small limits; `change` sets what the test is about.
pub(crate) async fn start(change: impl FnOnce(&mut ServerConfig)) -> Result<Running> {
    let snapshot = Snapshot {
        catalogue: Catalogue::new(Catalogue::built_in()?),
        ..Snapshot::default()
    };
    start_with(
        move |webhook, body: &[u8]| admission::answer(webhook, body, &snapshot),
        change,
    )
    .await
}

/// The same with another reviewer.
pub(crate) async fn start_with(
    reviewer: impl Reviewer,
    change: impl FnOnce(&mut ServerConfig),
) -> Result<Running> {
    let authority = Arc::new(Authority::new("the server tests")?);
    let mut config = config(&authority)?;
    change(&mut config);
    let server = Server::bind(config, reviewer).await?;
    let (address, operations) = server.addresses()?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async {
        // A test that ends without stopping the server drops the sender, which stops it as well.
        let _ = stopped.await;
    }));
    Ok(Running {
        address,
        operations,
        authority,
        stop: Some(stop),
        task,
    })
}

/// The limits of these tests: small, but not so small that a busy machine reaches them by itself.
pub(crate) fn config(authority: &Authority) -> Result<ServerConfig> {
    let any = "127.0.0.1:0".parse()?;
    let mut config = ServerConfig::new(any, any, pair(authority)?);
    config.handshake_timeout = Duration::from_millis(800);
    config.header_timeout = Duration::from_millis(800);
    config.body_timeout = Duration::from_millis(1500);
    config.idle_timeout = Duration::from_secs(30);
    config.drain = Duration::from_millis(300);
    config.grace = Duration::from_secs(3);
    Ok(config)
}

/// A serving certificate for loopback.
pub(crate) fn pair(authority: &Authority) -> Result<CertificateSource> {
    let issued = authority.server(&["localhost", "127.0.0.1"])?;
    Ok(CertificateSource::Pair(CertificatePair {
        certificate: issued.certificate,
        private_key: issued.key,
    }))
}

impl Running {
    /// A connection that speaks HTTP/1.1.
    pub(crate) async fn client(&self) -> Result<Client> {
        Client::tls(self.address, &self.authority, &[b"http/1.1"]).await
    }

    /// An ordinary client that follows ALPN.
    pub(crate) fn http2(&self) -> Result<reqwest::Client> {
        testkit::http::client(self.authority.certificate(), None)
    }

    /// `https://…` of this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The metrics as text.
    pub(crate) async fn metrics(&self) -> Result<String> {
        Ok(Client::plain(self.operations)
            .await?
            .get("/metrics")
            .await?
            .body)
    }

    /// The value of one sample, 0 when it was never counted.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(Ok(0.0), |value| {
            value.parse().context("a sample without a number")
        })
    }

    /// Waits until a sample has a value.
    pub(crate) async fn wait_metric(&self, sample: &str, expected: f64) -> Result {
        testkit::wait_until_async(sample, LIMIT, async || {
            let value = self.metric(sample).await?;
            ensure!(
                (value - expected).abs() < 0.5,
                "{sample} is {value}, expected {expected}"
            );
            Ok(())
        })
        .await
    }

    /// What `/readyz` says on the operations port.
    pub(crate) async fn readiness(&self) -> Result<u16> {
        Ok(Client::plain(self.operations)
            .await?
            .get("/readyz")
            .await?
            .status)
    }

    /// What stops it when it is dropped.
    pub(crate) fn take_stop(&mut self) -> Option<oneshot::Sender<()>> {
        self.stop.take()
    }

    /// Tells it to stop.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Tells it to stop and waits until it has; gives how long that took.
    pub(crate) async fn stop(mut self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.begin_stop();
        timeout(limit, self.task)
            .await
            .context("the server did not stop in time")??;
        Ok(start.elapsed())
    }
}

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its head, in lower case.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: String,
}

impl Answer {
    /// Whether a header line stands in the head; in lower case, as `retry-after: 1`.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|held| held == line)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    held: Vec<u8>,
}

impl Client {
    /// A connection without TLS.
    pub(crate) async fn plain(address: SocketAddr) -> Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Box::new(stream),
            held: Vec::new(),
        })
    }

    /// A connection with TLS that offers these protocols.
    pub(crate) async fn tls(
        address: SocketAddr,
        authority: &Authority,
        protocols: &[&[u8]],
    ) -> Result<Self> {
        let mut config = testkit::http::tls(authority.certificate(), None)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = timeout(LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = timeout(LIMIT, connector.connect(name, stream))
            .await
            .context("no handshake")??;
        Ok(Self {
            stream: Box::new(stream),
            held: Vec::new(),
        })
    }

    /// The stream itself, for another protocol.
    pub(crate) fn into_stream(self) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
        self.stream
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        timeout(LIMIT, self.stream.write_all(bytes.as_ref()))
            .await
            .context("nobody reads")??;
        timeout(LIMIT, self.stream.flush())
            .await
            .context("nobody reads")??;
        Ok(())
    }

    /// Reads one answer that has a Content-Length.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        let end = loop {
            if let Some(at) = self.held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.held[..end]).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .context("no status")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        while self.held.len() < end + length {
            self.more().await?;
        }
        let body = String::from_utf8(self.held[end..end + length].to_vec())?;
        self.held.drain(..end + length);
        Ok(Answer { status, head, body })
    }

    async fn more(&mut self) -> Result {
        let mut buffer = [0; 16 * 1024];
        let count = timeout(LIMIT, self.stream.read(&mut buffer))
            .await
            .context("no answer came")??;
        ensure!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&self.held)
        );
        self.held.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// Posts a body to `/mutate`.
    pub(crate) async fn post(&mut self, body: impl AsRef<[u8]>) -> Result<Answer> {
        self.ask(post("/mutate", body)).await
    }

    /// Gets a path.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await
    }

    /// Waits until the other side ends the connection, in whatever way, and gives what came before that.
    pub(crate) async fn ended(&mut self) -> Result<Vec<u8>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match timeout(LIMIT, self.stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return Ok(std::mem::take(&mut self.held)),
                Ok(Ok(count)) => self.held.extend_from_slice(&buffer[..count]),
                Err(_) => bail!("the connection is still open"),
            }
        }
    }
}

/// A request that posts a review.
pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = post_head(path, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

/// The head of such a request, with more header lines.
pub(crate) fn post_head(path: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}\r\n")
}

/// A review that asks for nothing, with this uid (in JSON, without its quotes).
pub(crate) fn small(uid: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"{uid}","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{{"metadata":{{"name":"web"}},"spec":{{"containers":[{{"name":"web"}}]}}}}}}}}"#
    )
}

/// A review padded to this many bytes.
pub(crate) fn padded(length: usize) -> String {
    let mut review = small("padded");
    review.push_str(&" ".repeat(length.saturating_sub(review.len())));
    review
}

/// Runs `work` and gives how long it took as well.
pub(crate) async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work.await?;
    Ok((value, start.elapsed()))
}
