//! What goes on while something breaks: pods are created, and replicas are asked for their certificates.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::api::PostParams;
use rustls::pki_types::{CertificateDer, ServerName};
use testkit::Result;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::cluster::{NAME, NAMESPACE};
use super::site::{Site, asking, bundles, sidecars};

/// A load of pod creations, a pod a `pause`, in a task of its own. One is in flight at a time.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Result<Counted>>,
}

/// Numbers the loads, so that their pods' names differ.
static LOADS: AtomicU32 = AtomicU32::new(0);

/// A creation that failed: an error, or a pod without its sidecar or with two.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) begun: Instant,
    pub(crate) why: String,
}

/// What became of the load.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) created: usize,
    pub(crate) failed: Vec<Failure>,
    /// The longest that a creation took.
    pub(crate) slowest: Duration,
}

impl Load {
    pub(crate) fn start(site: &Site, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pods = site.pods();
        let running = tokio::spawn(async move {
            let mut counted = Counted::default();
            let mut number = 0_u64;
            let prefix = LOADS.fetch_add(1, Ordering::Relaxed);
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                let asked = serde_json::from_value(asking(&format!("load-{prefix}-{number}")))?;
                let begun = Instant::now();
                let outcome = pods.create(&PostParams::default(), &asked).await;
                counted.slowest = counted.slowest.max(begun.elapsed());
                counted.created += 1;
                let why = match outcome {
                    Err(error) => Some(error.to_string()),
                    Ok(stored) => match sidecars(&serde_json::to_value(stored)?) {
                        1 => None,
                        count => Some(format!("{count} sidecars")),
                    },
                };
                counted.failed.extend(why.map(|why| Failure { begun, why }));
                tokio::time::sleep(pause).await;
            }
            Ok(counted)
        });
        Self { stop, running }
    }

    /// Ends the load.
    pub(crate) async fn end(self) -> Result<Counted> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.context("the load broke down")?
    }
}

/// Ends several and adds them up.
pub(crate) async fn end(loads: impl IntoIterator<Item = Load>) -> Result<Counted> {
    let mut all = Counted::default();
    for load in loads {
        let one = load.end().await?;
        all.created += one.created;
        all.failed.extend(one.failed);
        all.slowest = all.slowest.max(one.slowest);
    }
    Ok(all)
}

impl Counted {
    /// Whether nothing failed of at least so many.
    pub(crate) fn none_failed(&self, drill: &str, least: usize) -> Result {
        eprintln!(
            "{drill}: {} of {} creations failed, the slowest took {:?}",
            self.failed.len(),
            self.created,
            self.slowest
        );
        ensure!(self.failed.is_empty(), "{:#?}", self.failed);
        ensure!(
            self.created >= least,
            "only {} were created, expected {least} or more",
            self.created
        );
        Ok(())
    }
}

/// The certificate that is served at an address, verified with this bundle for the Service's name.
///
/// # Errors
/// That nobody answers, or that the certificate is not accepted: [`is_refused`] tells them apart.
pub(crate) async fn leaf(address: SocketAddr, bundle: &str) -> Result<CertificateDer<'static>> {
    let connector = TlsConnector::from(Arc::new(testkit::http::tls(bundle, None)?));
    let name = ServerName::try_from(format!("{NAME}.{NAMESPACE}.svc"))?;
    let stream = TcpStream::connect(address).await?;
    let stream = tokio::time::timeout(Duration::from_secs(10), connector.connect(name, stream));
    let stream = stream.await??;
    let chain = stream.get_ref().1.peer_certificates();
    let leaf = chain.and_then(<[_]>::first).context("no certificate")?;
    Ok(leaf.clone().into_owned())
}

/// Whether that says that the certificate is not accepted.
pub(crate) fn is_refused(error: &anyhow::Error) -> bool {
    let said = error
        .downcast_ref::<std::io::Error>()
        .and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(said, Some(rustls::Error::InvalidCertificate(_)))
}

/// Asks every replica for its certificate all the time, over a new connection each, with every bundle that is
/// published at that moment.
pub(crate) struct Probes {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Result<Probed>>,
}

/// What the probes saw.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    pub(crate) asked: usize,
    /// Nobody was there, as where a replica was killed.
    pub(crate) unanswered: usize,
    /// The published bundle did not verify what was served.
    pub(crate) refused: Vec<String>,
    /// Every certificate that was served.
    pub(crate) leaves: Vec<CertificateDer<'static>>,
}

impl Probes {
    pub(crate) fn start(site: &Site) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (client, published) = (site.client.clone(), site.published());
        let running = tokio::spawn(async move {
            let mut probed = Probed::default();
            while !stopped.load(Ordering::Relaxed) {
                let bundles = bundles(&client).await?;
                let addresses = published
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                for address in addresses {
                    for bundle in &bundles {
                        probed.asked += 1;
                        match leaf(address, bundle).await {
                            Ok(leaf) if probed.leaves.contains(&leaf) => {}
                            Ok(leaf) => probed.leaves.push(leaf),
                            Err(error) if is_refused(&error) => {
                                probed.refused.push(format!("{address}: {error:#}"));
                            }
                            Err(_) => probed.unanswered += 1,
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(probed)
        });
        Self { stop, running }
    }

    /// Ends them. Every certificate must have been one that the published bundles verify.
    pub(crate) async fn end(self, drill: &str) -> Result<Probed> {
        self.stop.store(true, Ordering::Relaxed);
        let probed = self.running.await.context("the probes broke down")??;
        eprintln!(
            "{drill}: {} new connections saw {} certificates, {} not accepted, {} unanswered",
            probed.asked,
            probed.leaves.len(),
            probed.refused.len(),
            probed.unanswered
        );
        ensure!(probed.refused.is_empty(), "{:#?}", probed.refused);
        ensure!(probed.asked > 10, "only {} were made", probed.asked);
        Ok(probed)
    }
}
