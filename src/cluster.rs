//! What the webhook learns from its cluster, and how it gets there.
//!
//! A review never waits for any of this: it sees the latest [`Snapshot`](crate::admission::Snapshot). When the
//! API server cannot be reached, the last that was known stays.

pub mod audit;
pub mod certificates;
pub mod check;
pub mod crd;
pub mod events;
pub mod hearing;
pub mod kubeconfig;
pub mod namespaces;
mod partial;
pub mod profiles;
pub mod registration;
pub mod version;

use std::path::Path;
use std::time::Duration;

use kube::config::InClusterError;
use kube::{Client, Config};

use kubeconfig::Files;

/// Where Kubernetes mounts a pod's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where Kubernetes tells a pod its namespace.
pub const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A cluster that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig cannot be read or names no cluster.
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::Error),
    /// Neither a kubeconfig nor a pod's own account names a cluster.
    #[error(
        "no cluster is known: {kubeconfig}; nor is this a pod with a service account: {in_cluster}; give --kubeconfig \
         FILE, or set KUBECONFIG"
    )]
    None {
        /// Why no kubeconfig does.
        kubeconfig: kubeconfig::Error,
        /// Why no account does.
        in_cluster: InClusterError,
    },
    /// The pod's own account is not as Kubernetes mounts it.
    #[error("the pod's service account cannot be used: {0}")]
    InCluster(InClusterError),
    /// No client can be made of the configuration.
    #[error("no client for the API server: {}", said(.0))]
    Client(kube::Error),
}

/// How long to wait for a connection to an API server, where a person waits.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for somebody at a prompt: of this kubeconfig and this context of it, or else as kubectl finds them
/// (`KUBECONFIG`, `~/.kube/config`), or else of the pod that this process runs in. With the address of its API
/// server.
///
/// # Errors
/// No configuration, or one that cannot be used.
pub async fn client(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<(Client, String), ClusterError> {
    let mut config = match kubeconfig {
        Some(path) => Files::given(path).config(context).await?,
        None => {
            let found = async { Files::found()?.config(context).await };
            match found.await {
                Ok(config) => config,
                // A pod's account has no contexts.
                Err(kubeconfig) if context.is_some() => return Err(kubeconfig.into()),
                Err(kubeconfig) => {
                    Config::incluster().map_err(|in_cluster| ClusterError::None {
                        kubeconfig,
                        in_cluster,
                    })?
                }
            }
        }
    };
    config.connect_timeout = Some(CONNECT);
    let address = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(ClusterError::Client)?;
    Ok((client, address))
}

/// A client for the cluster of this kubeconfig, or else of the pod that this process runs in. `None` outside of
/// a cluster, or in a pod without a token.
///
/// # Errors
/// A configuration that is there and cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Option<Client>, ClusterError> {
    let config = match kubeconfig {
        Some(path) => Files::given(path).config(None).await?,
        None if Path::new(TOKEN).exists() => {
            Config::incluster().map_err(ClusterError::InCluster)?
        }
        None => return Ok(None),
    };
    let client = Client::try_from(config).map_err(ClusterError::Client)?;
    Ok(Some(client))
}

/// What an API call says that failed, with its causes, in a line.
pub fn said(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Whether an API call failed with this HTTP status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `outrigger` prints an error: with its causes.
    #[test]
    fn the_cause_of_a_cluster_that_cannot_be_used_is_told_once() {
        let gone = || std::io::Error::other("the token is gone");
        let account = ClusterError::InCluster(InClusterError::ReadDefaultNamespace(gone()));
        let client = ClusterError::Client(kube::Error::Service(Box::new(gone())));
        for error in [account, client] {
            let told = format!("{:#}", anyhow::Error::from(error));
            assert_eq!(told.matches("the token is gone").count(), 1, "{told}");
        }
    }
}
