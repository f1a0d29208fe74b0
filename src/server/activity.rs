//! What a connection is doing, so that a slow client can be told from an idle one.
//!
//! hyper's own header timeout also runs between requests, and would close a kept connection that the API
//! server is about to use. So the bytes are watched here: a request whose headers do not come whole in time
//! ends the connection; a connection on which nothing was begun may wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The state of one connection.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// When the first byte of headers came that are not whole yet, in milliseconds since the start, plus one;
    /// 0 when there are none.
    begun: AtomicU64,
    /// Requests being answered.
    answering: AtomicU32,
    /// When the last answer was given, or 0.
    answered: AtomicU64,
    served: AtomicBool,
    leaving: AtomicBool,
    /// Told when headers begin, because whoever waits for a deadline then has a nearer one, and when the
    /// connection is asked to leave.
    began: Notify,
}

/// How long a connection has been of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It never asked for anything; its handshake may not even be done.
    Unused(Duration),
    /// Its last request is answered.
    Used(Duration),
}

/// How long a connection may be in a state.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For headers to come whole once they began.
    pub headers: Duration,
    /// For a next request to begin. Above the 90 seconds after which the API server's client closes.
    pub idle: Duration,
}

impl Activity {
    /// A connection that begins now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            begun: AtomicU64::new(0),
            answering: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            served: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            began: Notify::new(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn bytes_came(&self) {
        if self.answering.load(Ordering::Relaxed) == 0 && self.begun.load(Ordering::Relaxed) == 0 {
            self.begun.store(self.now() + 1, Ordering::Relaxed);
            self.began.notify_one();
        }
    }

    /// The headers of a request are whole; until the guard is dropped the request is being answered.
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        self.begun.store(0, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Whether any request came at all.
    pub fn served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// How long it has been of no use; nothing while a request is read or answered, or when it is leaving.
    pub fn rest(&self) -> Option<Rest> {
        if self.is_leaving() || self.answering.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let since = |millis: u64| Duration::from_millis(self.now().saturating_sub(millis));
        match (self.served(), self.begun.load(Ordering::Relaxed)) {
            (false, _) => Some(Rest::Unused(self.start.elapsed())),
            (true, 0) => Some(Rest::Used(since(self.answered.load(Ordering::Relaxed)))),
            (true, _) => None,
        }
    }

    /// Asks the connection to make room for another.
    pub fn ask_to_leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.began.notify_one();
    }

    /// Whether it was asked to leave.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Waits until headers begin or the connection is asked to leave.
    pub async fn changed(&self) {
        self.began.notified().await;
    }

    /// Waits until the connection is asked to leave.
    pub async fn left(&self) {
        while !self.is_leaving() {
            self.changed().await;
        }
    }

    /// When patience ends if nothing happens until then.
    pub fn deadline(&self, patience: Patience) -> Deadline {
        let at = |millis: u64, wait: Duration| self.start + Duration::from_millis(millis) + wait;
        if self.answering.load(Ordering::Relaxed) > 0 {
            return Deadline::None;
        }
        match self.begun.load(Ordering::Relaxed) {
            0 => Deadline::Idle(at(self.answered.load(Ordering::Relaxed), patience.idle)),
            begun => Deadline::Headers(at(begun - 1, patience.headers)),
        }
    }
}

/// When patience ends, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// A request is being answered, which has bounds of its own.
    None,
    /// The headers of a request have begun.
    Headers(Instant),
    /// Nothing has begun.
    Idle(Instant),
}

/// A request is being answered while this lives.
#[derive(Debug)]
pub struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered.store(self.0.now(), Ordering::Relaxed);
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose reads are noted.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Notes the reads of `inner`.
    pub fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
