//! The certificate that is served: loaded, reloaded, watched for its end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::metrics::Metrics;
use crate::certificate::{CertificatePair, Offer};

/// How often the files are looked at. The kubelet swaps a mounted Secret by renaming a link to a folder, which
/// watching the files themselves would miss, so contents are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where the certificate comes from.
#[derive(Clone)]
pub enum CertificateSource {
    /// Files, which may change.
    Files {
        /// The chain, in PEM.
        certificate: PathBuf,
        /// The private key, in PEM.
        private_key: PathBuf,
    },
    /// A pair made at start.
    Pair(CertificatePair),
    /// Whatever is offered last. Until there is a certificate no handshake succeeds.
    Offers(watch::Receiver<Offer>),
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{flag} {path}: cannot be read: {error}")]
    Read {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file without a certificate.
    #[error("{place}: holds no certificate in PEM")]
    NoCertificate {
        /// The flag and file.
        place: String,
    },
    /// A file without a key.
    #[error("{place}: holds no private key in PEM: {error}")]
    NoKey {
        /// The flag and file.
        place: String,
        /// What the parser said.
        error: rustls::pki_types::pem::Error,
    },
    /// A key that is not that of the certificate, or of an unknown kind.
    #[error("{certificate} and {private_key}: cannot be used together: {error}")]
    Mismatch {
        /// The flag and file of the certificate.
        certificate: String,
        /// The flag and file of the key.
        private_key: String,
        /// Why.
        error: rustls::Error,
    },
    /// The protocol itself.
    #[error("TLS cannot be set up: {0}")]
    Protocol(#[from] rustls::Error),
    /// A certificate that cannot be read.
    #[error("{place}: the certificate cannot be read: {message}")]
    BadCertificate {
        /// The flag and file.
        place: String,
        /// What the parser said.
        message: String,
    },
}

/// A certificate that is being served.
#[derive(Debug)]
pub struct Served {
    key: Arc<CertifiedKey>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// The certificate at the moment. Readers never wait.
#[derive(Debug, Default)]
pub struct Current {
    served: ArcSwapOption<Served>,
    /// Why clients would not accept it, as far as somebody knows.
    obstacle: ArcSwapOption<String>,
}

impl Current {
    /// Why no client should be sent here: there is no certificate, it has ended, or clients would not accept it.
    pub fn trouble(&self) -> Option<String> {
        if let Some(obstacle) = &*self.obstacle.load() {
            return Some(String::clone(obstacle));
        }
        match &*self.served.load() {
            None => Some("there is no certificate yet".to_owned()),
            Some(served) if served.not_after <= now() => {
                Some("the certificate has ended".to_owned())
            }
            Some(_) => None,
        }
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.load();
        served.as_ref().map(|served| Arc::clone(&served.key))
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

/// TLS 1.2 and 1.3 with rustls' own choice of ciphers, and HTTP/1.1 alone by ALPN: it is what the API server asks a
/// Service with, and what it falls back to for a URL. HTTP/2 would bring code, and ways to exhaust a server, for nobody.
///
/// # Errors
/// A provider without a protocol version in common; it has all of them.
pub fn server_config(current: Arc<Current>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Keeps [`Current`] what the source says.
pub struct Loader {
    source: CertificateSource,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    /// What was last looked at, good or bad, so that a bad pair is told once.
    seen: Option<(Vec<u8>, Vec<u8>)>,
}

impl Loader {
    /// Loads the certificate for the first time.
    ///
    /// # Errors
    /// A source that gives no certificate that can be served.
    pub fn start(
        source: CertificateSource,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Arc<Current>), TlsError> {
        let current = Arc::new(Current::default());
        let mut loader = Self {
            source,
            current: Arc::clone(&current),
            metrics,
            seen: None,
        };
        let (certificate, key) = match loader.source.clone() {
            CertificateSource::Offers(mut offers) => {
                let offer = offers.borrow_and_update().clone();
                loader.take(offer);
                return Ok((loader, current));
            }
            CertificateSource::Files {
                certificate,
                private_key,
            } => (
                read("--tls-cert", &certificate)?,
                read("--tls-key", &private_key)?,
            ),
            CertificateSource::Pair(pair) => {
                (pair.certificate.into_bytes(), pair.private_key.into_bytes())
            }
        };
        loader.serve(certificate, key)?;
        Ok((loader, current))
    }

    /// Follows the source, until the task is dropped. A pair that cannot be served leaves the last good one in
    /// place.
    pub async fn watch(mut self) {
        match self.source.clone() {
            CertificateSource::Files {
                certificate,
                private_key,
            } => self.watch_files(&certificate, &private_key).await,
            CertificateSource::Pair(_) => {}
            CertificateSource::Offers(mut offers) => {
                // The first may have come between the start and now.
                offers.mark_changed();
                while offers.changed().await.is_ok() {
                    let offer = offers.borrow_and_update().clone();
                    self.take(offer);
                }
            }
        }
    }

    /// Looks at the files again and again.
    async fn watch_files(&mut self, certificate: &Path, private_key: &Path) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            let (Ok(new), Ok(key)) = (
                tokio::fs::read(certificate).await,
                tokio::fs::read(private_key).await,
            ) else {
                // In the middle of a swap, or gone: what is served stays.
                continue;
            };
            // A swap between the two reads gives a pair that never was one.
            if tokio::fs::read(certificate).await.ok().as_ref() != Some(&new) {
                continue;
            }
            self.replace(new, key);
        }
    }

    /// Serves what is offered, first the certificate and then what is said of it.
    fn take(&mut self, offer: Offer) {
        if let Some(pair) = offer.pair {
            self.replace(pair.certificate.into_bytes(), pair.private_key.into_bytes());
        }
        self.current.obstacle.store(offer.obstacle.map(Arc::new));
    }

    /// Serves another pair, if it is another and can be served.
    fn replace(&mut self, certificate: Vec<u8>, key: Vec<u8>) {
        if self
            .seen
            .as_ref()
            .is_some_and(|(old_certificate, old_key)| {
                *old_certificate == certificate && *old_key == key
            })
        {
            return;
        }
        match self.serve(certificate, key) {
            Ok(not_after) => {
                self.metrics.certificate_reloaded(true);
                tracing::info!(target: "tls", not_after, "a new certificate is served");
            }
            Err(error) => {
                self.metrics.certificate_reloaded(false);
                tracing::error!(target: "tls", %error, "the new certificate cannot be served; the old one stays");
            }
        }
    }

    fn serve(&mut self, certificate: Vec<u8>, key: Vec<u8>) -> Result<i64, TlsError> {
        let places = match &self.source {
            CertificateSource::Files {
                certificate,
                private_key,
            } => (
                format!("--tls-cert {}", certificate.display()),
                format!("--tls-key {}", private_key.display()),
            ),
            CertificateSource::Pair(_) => ("--self-signed".to_owned(), "--self-signed".to_owned()),
            CertificateSource::Offers(_) => {
                let flag = "--managed-certificate";
                (flag.to_owned(), flag.to_owned())
            }
        };
        let served = certified(&certificate, &key, &places);
        self.seen = Some((certificate, key));
        let served = served?;
        let not_after = served.not_after;
        self.metrics.certificate_ends(not_after);
        self.current.served.store(Some(Arc::new(served)));
        Ok(not_after)
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read {
        flag,
        path: path.to_owned(),
        error,
    })
}

fn certified(
    certificate: &[u8],
    key: &[u8],
    places: &(String, String),
) -> Result<Served, TlsError> {
    // All or nothing: a chain that lost a part verifies for some clients only.
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::BadCertificate {
            place: places.0.clone(),
            message: error.to_string(),
        })?;
    let Some(leaf) = chain.first() else {
        return Err(TlsError::NoCertificate {
            place: places.0.clone(),
        });
    };
    let not_after = X509Certificate::from_der(leaf)
        .map(|(_, leaf)| leaf.validity().not_after.timestamp())
        .map_err(|error| TlsError::BadCertificate {
            place: places.0.clone(),
            message: error.to_string(),
        })?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::NoKey {
        place: places.1.clone(),
        error,
    })?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        TlsError::Mismatch {
            certificate: places.0.clone(),
            private_key: places.1.clone(),
            error,
        }
    })?;
    Ok(Served {
        key: Arc::new(key),
        not_after,
    })
}
