//! HTTP clients for the tests: rustls with ring, trusting what they are given.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::Result;
use crate::certs::Issued;

/// The bound on a whole request.
const LIMIT: Duration = Duration::from_secs(30);

/// A client configuration that trusts the authorities in `roots` (PEM) and
/// presents `identity` when asked for a certificate. No ALPN is set.
///
/// # Errors
///
/// When something is not PEM, or the key does not fit the certificate.
pub fn tls(roots: &str, identity: Option<&Issued>) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.context("a root is not PEM")?)?;
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .context("the client certificate is not PEM")?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
                .context("the client key is not PEM")?;
            builder.with_client_auth_cert(chain, key)?
        }
    })
}

/// An HTTPS client over [`tls`] that speaks HTTP/1.1, as the API server does through a Service. It follows no proxy and no
/// redirect.
///
/// # Errors
///
/// As [`tls`].
pub fn client(roots: &str, identity: Option<&Issued>) -> Result<reqwest::Client> {
    let mut config = tls(roots, identity)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .timeout(LIMIT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("failed to build an HTTP client")
}
