//! The HTTPS server: accepts, answers, reloads its certificate, and leaves without losing a request.
//!
//! The API server keeps connections for 90 seconds, never repeats a POST whose connection broke, and repeats
//! one that got 503 with `Retry-After`. From that follows everything here: connections are held rather than
//! reset, kept longer than the client keeps them, load is shed with 503, and on SIGTERM the server goes on
//! serving, with `Connection: close`, until nobody sends it anything.

pub mod activity;
mod body;
mod by_profile;
pub mod metrics;
mod places;
mod routes;
pub mod standing;
pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::Span;

pub use routes::Reviewer;
pub use tls::CertificateSource;

use activity::{Activity, Deadline, Patience, Watched};
use body::Bodies;
use metrics::Metrics;
use places::{Place, Places};
use routes::Shared;
use standing::Standings;
use tls::{Loader, TlsError};

use crate::inject::Renderings;

/// How long a connection that was asked to leave may take to do so.
const LEAVE: Duration = Duration::from_secs(1);

/// Connections that the operations port holds at a time.
const OPERATIONS_CONNECTIONS: usize = 64;

/// How a server is set up. The defaults are those of the flags of `outrigger serve`.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where reviews are taken, with TLS.
    pub listen: SocketAddr,
    /// Where metrics and health are told, without.
    pub operations_listen: SocketAddr,
    /// The certificate.
    pub certificate: CertificateSource,
    /// How what is known of the cluster stands: for readiness and the metrics.
    pub standings: Arc<Standings>,
    /// What was rendered before: for reviewers that remember it, and for the metrics.
    pub renderings: Arc<Renderings>,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Makes the span of a review part of the trace that its request belongs to, as the headers say.
    pub continue_trace: fn(&Span, &HeaderMap),
    /// Connections held at a time. Further ones wait and are not reset; those that rest make room.
    pub max_connections: usize,
    /// Reviews read or answered at a time. Further ones get 503 with `Retry-After: 1`.
    pub max_in_flight: usize,
    /// The largest body: a review can hold two objects of 3 MiB each.
    pub max_body: usize,
    /// The bytes of all bodies together. Further ones get 503 with `Retry-After: 1`.
    pub max_bodies: usize,
    /// The time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The time for the headers of a request, from their first byte.
    pub header_timeout: Duration,
    /// The time for a body; a tenth of it while more than half of the bounds on bodies is in use.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request. Above the client's 90 seconds.
    pub idle_timeout: Duration,
    /// How long a server that was told to stop goes on serving.
    pub drain: Duration,
    /// How long requests under way may then take.
    pub grace: Duration,
}

impl ServerConfig {
    /// The defaults.
    pub fn new(
        listen: SocketAddr,
        operations_listen: SocketAddr,
        certificate: CertificateSource,
    ) -> Self {
        let standings = Arc::<Standings>::default();
        let renderings = Arc::<Renderings>::default();
        let metrics = Metrics::new(Arc::clone(&standings), Arc::clone(&renderings));
        Self {
            listen,
            operations_listen,
            certificate,
            metrics: Arc::new(metrics),
            standings,
            renderings,
            continue_trace: |_, _| {},
            max_connections: 4096,
            max_in_flight: 256,
            max_body: 7 * 1024 * 1024,
            max_bodies: 32 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(180),
            drain: Duration::from_secs(15),
            grace: Duration::from_secs(8),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address that cannot be listened on.
    #[error("{flag} {address}: cannot listen: {error}")]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that listens and does not serve yet.
pub struct Server {
    config: ServerConfig,
    webhook: TcpListener,
    operations: TcpListener,
    shared: Arc<Shared>,
    loader: Loader,
    tls: TlsAcceptor,
}

impl Server {
    /// Listens on both addresses and loads the certificate.
    ///
    /// # Errors
    /// An address that is taken, or a certificate that cannot be served; each names its flag.
    pub async fn bind(config: ServerConfig, reviewer: impl Reviewer) -> Result<Self, ServerError> {
        let metrics = Arc::clone(&config.metrics);
        let (loader, certificate) =
            Loader::start(config.certificate.clone(), Arc::clone(&metrics))?;
        let tls = TlsAcceptor::from(Arc::new(tls::server_config(Arc::clone(&certificate))?));
        let webhook = listen("--listen", config.listen)?;
        let operations = listen("--operations-listen", config.operations_listen)?;
        let shared = Arc::new(Shared {
            reviewer: Box::new(reviewer),
            metrics,
            certificate,
            standings: Arc::clone(&config.standings),
            draining: AtomicBool::new(false),
            bodies: Bodies::new(&config),
            compiler: Arc::new(Semaphore::new(1)),
            continue_trace: config.continue_trace,
        });
        Ok(Self {
            config,
            webhook,
            operations,
            shared,
            loader,
            tls,
        })
    }

    /// Where it really listens, for a port that was given as 0: reviews, operations.
    ///
    /// # Errors
    /// A socket that does not know its address.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.webhook.local_addr()?, self.operations.local_addr()?))
    }

    /// Serves until `shutdown` is ready, then drains and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            config,
            webhook,
            operations,
            shared,
            loader,
            tls,
        } = self;
        // A change means that connections are to end, and its own end that they must have.
        let (close, closing) = watch::channel(());
        let config = Arc::new(config);
        let places = Places::new(config.max_connections);

        let secure = Listener {
            router: routes::webhook(&shared),
            shared: Arc::clone(&shared),
            config: Arc::clone(&config),
            places: Arc::clone(&places),
            closing: closing.clone(),
            tls: Some(tls),
        };
        let plain = Listener {
            router: routes::operations(&shared),
            shared: Arc::clone(&shared),
            config: Arc::clone(&config),
            // The operations port has a bound of its own, so that neither port can starve the other.
            places: Places::new(OPERATIONS_CONNECTIONS),
            closing,
            tls: None,
        };
        let watching = tokio::spawn(loader.watch());
        let accepting = secure.start(webhook);
        let telling = plain.start(operations);

        shutdown.await;
        tracing::info!(target: "server", drain_seconds = config.drain.as_secs(), "draining");
        shared.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(config.drain).await;
        accepting.abort();
        close.send_replace(());
        let ended = tokio::time::timeout(config.grace, places.all_free()).await;
        if ended.is_err() {
            tracing::warn!(target: "server", "some connections did not end in time and are cut");
        }
        drop(close);
        telling.abort();
        watching.abort();
    }
}

/// Connections that the kernel keeps until they are accepted; it takes no more than `net.core.somaxconn`, which is as many
/// since Linux 5.4. An API server opens one for each review in flight. The standard library's 128 are less than a burst of
/// those, and what the kernel drops is tried again after a second.
const BACKLOG: u32 = 4096;

fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // As the standard library does: a restart finds connections of the one before in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| ServerError::Listen {
        flag,
        address,
        error,
    })
}

/// What answers the requests of one connection.
fn service(
    router: Router,
    activity: Arc<Activity>,
) -> impl HttpService<
    Incoming,
    ResBody = Body,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> {
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let answering = activity.answering();
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    })
}

/// One port.
#[derive(Clone)]
struct Listener {
    router: Router,
    shared: Arc<Shared>,
    config: Arc<ServerConfig>,
    places: Arc<Places>,
    closing: watch::Receiver<()>,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Accepts from now on.
    ///
    /// A future is compiled where it is spawned or awaited, and whoever runs the server is compiled for size: so this is
    /// done here, and not in [`Server::run`], which is compiled there.
    fn start(self, listener: TcpListener) -> JoinHandle<()> {
        tokio::spawn(self.accept(listener))
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let activity = Activity::new();
                    // One waits here and the others in the kernel's queue, instead of being reset.
                    let rest = self.config.header_timeout;
                    let Ok(place) = self.places.take(&activity, rest).await else {
                        return;
                    };
                    tokio::spawn(self.clone().connection(stream, activity, place));
                }
                Err(error) => {
                    // Most likely out of file descriptors: they come back as connections end.
                    tracing::warn!(target: "server", %error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One connection, from its handshake, which must not hold up the accept loop, to its end.
    async fn connection(self, stream: TcpStream, activity: Arc<Activity>, _place: Place) {
        let _counted = self.tls.is_some().then(|| self.shared.metrics.connection());
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(target: "server", %error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = &self.tls else {
            let watched = Watched::new(stream, Arc::clone(&activity));
            return self.serve(watched, &activity).await;
        };
        let mut closing = self.closing.clone();
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(self.config.handshake_timeout, tls.accept(stream)) => handshake,
            // The server has returned.
            () = async { while closing.changed().await.is_ok() {} } => return,
            () = activity.left() => return self.shared.metrics.rejected("crowded"),
        };
        let result = match &handshake {
            Ok(Ok(_)) => "ok",
            Ok(Err(_)) => "failed",
            Err(_) => "slow",
        };
        self.shared.metrics.handshake(result);
        match handshake {
            Ok(Ok(stream)) => {
                let watched = Watched::new(stream, Arc::clone(&activity));
                self.serve(watched, &activity).await;
            }
            Ok(Err(error)) => tracing::debug!(target: "server", %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(target: "server", "a TLS handshake took too long"),
        }
    }

    /// Serves a connection until it ends, by itself, for want of patience, or because the server does.
    async fn serve<S>(mut self, stream: Watched<S>, activity: &Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = pin!(
            http1::Builder::new()
                // Its header timeout also runs between requests; see `activity`.
                .header_read_timeout(None)
                .max_buf_size(64 * 1024)
                // Anybody may ask the operations port, and the kubelet's probes must find a place on it. Neither they
                // nor Prometheus ask often enough to miss a kept connection.
                .keep_alive(self.tls.is_some())
                .serve_connection(
                    TokioIo::new(stream),
                    service(self.router.clone(), Arc::clone(activity)),
                )
        );
        let patience = Patience {
            headers: self.config.header_timeout,
            idle: self.config.idle_timeout,
        };
        let mut leaving = None;
        loop {
            let (at, reason) = self.patience_ends(activity, patience, leaving);
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(target: "server", error = %error, "a connection ended badly");
                    }
                    return;
                }
                // Bytes came, or the pressure on all connections may be another.
                () = activity.changed() => {
                    if activity.is_leaving() && leaving.is_none() {
                        // A request that came at the same moment is still answered.
                        connection.as_mut().graceful_shutdown();
                        leaving = Some(Instant::now() + LEAVE);
                        self.shared.metrics.rejected("crowded");
                    }
                }
                () = tokio::time::sleep(patience.headers), if !activity.served() => {}
                () = tokio::time::sleep_until(at) => {
                    let (at, _) = self.patience_ends(activity, patience, leaving);
                    if at <= Instant::now() {
                        if leaving.is_none() {
                            self.shared.metrics.rejected(reason);
                        }
                        return;
                    }
                }
                changed = self.closing.changed() => match changed {
                    Ok(()) => connection.as_mut().graceful_shutdown(),
                    // The server has returned: there was time enough.
                    Err(_) => return,
                },
            }
        }
    }

    /// When a connection is ended if nothing changes until then, and why.
    fn patience_ends(
        &self,
        activity: &Activity,
        patience: Patience,
        leaving: Option<Instant>,
    ) -> (Instant, &'static str) {
        match (activity.deadline(patience), leaving) {
            (Deadline::Headers(_) | Deadline::Idle(_), Some(at)) => (at, "crowded"),
            (deadline, _) => self.ordinary_end(activity, patience, deadline),
        }
    }

    fn ordinary_end(
        &self,
        activity: &Activity,
        patience: Patience,
        deadline: Deadline,
    ) -> (Instant, &'static str) {
        match deadline {
            Deadline::Headers(at) => (at, "slow_headers"),
            Deadline::None => (Instant::now() + patience.idle, "idle"),
            // Under pressure a connection that never asked for anything makes room for one that does.
            Deadline::Idle(at) if !activity.served() && self.places.are_scarce() => {
                (at - patience.idle + patience.headers, "idle")
            }
            Deadline::Idle(at) => (at, "idle"),
        }
    }
}
