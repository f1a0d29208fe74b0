//! A server that runs, and clients that say exactly what a test wants said.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use outrigger::admission::{self, ReviewError, Reviewed, Snapshot, Webhook};
use outrigger::certificate::CertificatePair;
use outrigger::profile::Catalogue;
use outrigger::server::{CertificateSource, Reviewer, Server, ServerConfig};
use testkit::Result;
use testkit::certs::Authority;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use testkit::served::{padded, small};
pub(crate) use testkit::wire::{Client, LIMIT, post, post_head};

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

/// Runs `work` and gives how long it took as well.
pub(crate) async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work.await?;
    Ok((value, start.elapsed()))
}

/// A reviewer that panics at a body which begins with `panic`, and calls any other no review.
pub(crate) fn panics_when_asked(_: Webhook, body: &[u8]) -> Result<Reviewed, ReviewError> {
    assert!(!body.starts_with(b"panic"), "as asked");
    Err(ReviewError {
        message: "no review".to_owned(),
    })
}
