//! Between replicas and the API server: carries every request, and withholds the answers to those writes by which the
//! managed certificate goes from one step to the next. A replica that is killed meanwhile died between two steps: what
//! it wrote is stored, and it did nothing after it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use testkit::{ControlPlane, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A write that the API server has stored, and whose writer does not know yet.
#[derive(Debug)]
pub(crate) struct Step {
    /// The pod whose token came with it.
    pub(crate) pod: String,
    /// What was written: the path.
    pub(crate) path: String,
}

/// The gateway. Dropping it closes every connection.
pub(crate) struct Gateway {
    address: SocketAddr,
    steps: mpsc::UnboundedReceiver<Step>,
    serving: JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn start(plane: &ControlPlane) -> Result<Self> {
        let issued = plane.authority().server(&["127.0.0.1"])?;
        let chain = vec![CertificateDer::from_pem_slice(
            issued.certificate.as_bytes(),
        )?];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let upstream = Upstream {
            address: plane.url().trim_start_matches("https://").parse()?,
            tls: Arc::new(testkit::http::tls(plane.authority().certificate(), None)?).into(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (tell, steps) = mpsc::unbounded_channel();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let serving = tokio::spawn(accept(listener, acceptor, upstream, tell));
        Ok(Self {
            address,
            steps,
            serving,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next step that was taken. Its writer waits for the answer for ever.
    pub(crate) async fn next(&mut self) -> Result<Step> {
        self.steps.recv().await.context("the gateway has ended")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    tls: TlsConnector,
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    upstream: Upstream,
    tell: mpsc::UnboundedSender<Step>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (tls, upstream, tell) = (tls.clone(), upstream.clone(), tell.clone());
        // A connection that breaks is the replica's to take up again.
        connections.spawn(async move { carry(stream, tls, upstream, tell).await.ok() });
    }
}

async fn carry(
    stream: TcpStream,
    tls: TlsAcceptor,
    upstream: Upstream,
    tell: mpsc::UnboundedSender<Step>,
) -> Result {
    let client = tls.accept(stream).await?;
    let server = TcpStream::connect(upstream.address).await?;
    let name = ServerName::from(upstream.address.ip());
    let server = upstream.tls.connect(name, server).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server)).await?;
    let sender = Mutex::new(sender);
    let forward = service_fn(|request| forward(request, &sender, &tell));
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), forward);
    tokio::select! {
        ended = serving => ended?,
        ended = connection => ended?,
    }
    Ok(())
}

async fn forward(
    request: Request<Incoming>,
    sender: &Mutex<SendRequest<Incoming>>,
    tell: &mpsc::UnboundedSender<Step>,
) -> hyper::Result<Response<Incoming>> {
    let step = step(&request);
    let answer = sender.lock().await.send_request(request).await?;
    if let Some(step) = step.filter(|_| answer.status().is_success())
        && tell.send(step).is_ok()
    {
        std::future::pending::<()>().await;
    }
    Ok(answer)
}

/// What a request writes, if it is a step of the managed certificate.
fn step(request: &Request<Incoming>) -> Option<Step> {
    let path = request.uri().path();
    let watched = path.contains("/secrets") || path.contains("webhookconfigurations");
    let writes = [Method::POST, Method::PATCH, Method::PUT].contains(request.method());
    if !(watched && writes) {
        return None;
    }
    let token = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(Step {
        pod: claims["kubernetes.io"]["pod"]["name"].as_str()?.to_owned(),
        path: path.to_owned(),
    })
}
