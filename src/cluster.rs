//! What the webhook learns from its cluster, and how it gets there.
//!
//! A review never waits for any of this: it sees the latest [`Snapshot`](crate::admission::Snapshot). When the
//! API server cannot be reached, the last that was known stays.

pub mod certificates;
pub mod crd;
pub mod namespaces;
pub mod profiles;
pub mod standing;
pub mod version;

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where Kubernetes mounts a pod's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where Kubernetes tells a pod its namespace.
pub const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A cluster that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig cannot be read or names no cluster.
    #[error("--kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// The pod's own account is not as Kubernetes mounts it.
    #[error("the pod's service account cannot be used: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// No client can be made of the configuration.
    #[error("no client for the API server: {0}")]
    Client(#[from] kube::Error),
}

/// A client for the cluster of this kubeconfig, or else of the pod that this process runs in. `None` outside of
/// a cluster, or in a pod without a token.
///
/// # Errors
/// A configuration that is there and cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Option<Client>, ClusterError> {
    let config = match kubeconfig {
        Some(path) => {
            let wrong = |source| ClusterError::Kubeconfig {
                path: path.to_owned(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
        None if Path::new(TOKEN).exists() => Config::incluster()?,
        None => return Ok(None),
    };
    Ok(Some(Client::try_from(config)?))
}
