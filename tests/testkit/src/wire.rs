//! HTTP clients that say exactly what a test wants said, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Result;
use crate::certs::Authority;

/// No answer takes longer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// Whether a header line stands in the head; in lower case, as `retry-after: 1`.
    pub fn has(&self, line: &str) -> bool {
        self.head.lines().any(|held| held == line)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection.
pub struct Client {
    /// How TLS was agreed upon, where there is TLS.
    pub handshake: Option<HandshakeKind>,
    stream: Box<dyn Stream>,
    held: Vec<u8>,
}

impl Client {
    /// A connection without TLS.
    pub async fn plain(address: SocketAddr) -> Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            handshake: None,
            stream: Box::new(stream),
            held: Vec::new(),
        })
    }

    /// A connection with TLS to a server of these tests, that offers these protocols.
    pub async fn tls(
        address: SocketAddr,
        authority: &Authority,
        protocols: &[&[u8]],
    ) -> Result<Self> {
        Self::secure(address, authority.certificate(), "localhost", protocols).await
    }

    /// A connection with TLS and HTTP/1.1 to a server that has this name, by authorities in PEM.
    pub async fn trusting(address: SocketAddr, roots: &str, name: &str) -> Result<Self> {
        Self::secure(address, roots, name, &[b"http/1.1"]).await
    }

    async fn secure(
        address: SocketAddr,
        roots: &str,
        name: &str,
        protocols: &[&[u8]],
    ) -> Result<Self> {
        let mut config = crate::http::tls(roots, None)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self::configured(address, Arc::new(config), name).await
    }

    /// A connection with TLS as configured, to a server that has this name. Those that share a configuration resume
    /// one another's sessions, if it allows that.
    pub async fn configured(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self> {
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = timeout(LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        let stream = timeout(LIMIT, connector.connect(name, stream))
            .await
            .context("no handshake")??;
        Ok(Self {
            handshake: stream.get_ref().1.handshake_kind(),
            stream: Box::new(stream),
            held: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        timeout(LIMIT, self.stream.write_all(bytes.as_ref()))
            .await
            .context("nobody reads")??;
        timeout(LIMIT, self.stream.flush())
            .await
            .context("nobody reads")??;
        Ok(())
    }

    /// Reads one answer that has a Content-Length.
    pub async fn answer(&mut self) -> Result<Answer> {
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

    /// At least so many bytes of what comes, as they are.
    pub async fn some(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.held.len() < count {
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.held))
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// Posts a body to `/mutate`.
    pub async fn post(&mut self, body: impl AsRef<[u8]>) -> Result<Answer> {
        self.ask(post("/mutate", body)).await
    }

    /// Gets a path.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await
    }

    /// Waits until the other side ends the connection, in whatever way, and gives what came before that.
    pub async fn ended(&mut self) -> Result<Vec<u8>> {
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
pub fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = post_head(path, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

/// The head of such a request, with more header lines.
pub fn post_head(path: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}\r\n")
}
