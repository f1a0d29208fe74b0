//! Whether the cluster runs native sidecars: its API server and each of its nodes are of Kubernetes 1.29 or later
//! (KEP-753: on by default from there). One older node is enough for a no, because a pod may land on it.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Client, ResourceExt};

use super::hearing::listening;
use super::partial;
use crate::inject::SidecarMode;
use crate::server::standing::{Following, VERSIONS_PERIOD};

/// The first minor version of Kubernetes 1 that has native sidecars by default.
const NATIVE: u32 = 29;
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(15);
/// Nodes asked for at a time.
const PAGE: u32 = 500;

/// Looks again and again, and hands over each mode that is found, the first as soon as it is known. Ends only when
/// it is dropped. While nothing can be found out, what was handed over last stays.
pub async fn follow(client: Client, following: Following, publish: impl Fn(SidecarMode)) {
    let client = listening(&following, &client);
    let mut before = None;
    loop {
        let pause = match sidecar_mode(&client).await {
            Ok((mode, reason)) => {
                if before != Some(mode) {
                    before = Some(mode);
                    tracing::info!(target: "cluster", sidecars = mode.as_str(), reason, "the sidecar mode is known");
                }
                publish(mode);
                following.known();
                VERSIONS_PERIOD
            }
            Err(error) => {
                tracing::warn!(target: "cluster", %error, "the versions of the cluster could not be read");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The mode, and why.
///
/// # Errors
/// An API server that does not answer, or that does not let us list nodes.
pub async fn sidecar_mode(client: &Client) -> Result<(SidecarMode, String), kube::Error> {
    let server = client.apiserver_version().await?;
    if let Some(minor) = minor_of(&server.major, &server.minor).filter(|minor| *minor < NATIVE) {
        let reason = format!("the API server is of Kubernetes 1.{minor}");
        return Ok((SidecarMode::Container, reason));
    }
    let nodes = partial::nodes(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut count = 0_usize;
    loop {
        let list = nodes.list(&page).await?;
        for node in &list.items {
            count += 1;
            let version = node
                .status
                .as_ref()
                .and_then(|status| status.node_info.as_ref())
                .map_or("", |info| info.kubelet_version.as_str());
            if is_older(version) {
                let reason = format!("the node {:?} is of {version}", node.name_any());
                return Ok((SidecarMode::Container, reason));
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let reason = format!("the API server and all {count} nodes have them");
    Ok((SidecarMode::Native, reason))
}

/// The minor version, of `1` and `36` or `36+`. `None` for what is not Kubernetes 1.
pub(crate) fn minor_of(major: &str, minor: &str) -> Option<u32> {
    let digits = minor
        .find(|character: char| !character.is_ascii_digit())
        .map_or(minor, |end| &minor[..end]);
    (major == "1").then(|| digits.parse().ok())?
}

/// Whether a kubelet's version, as in `v1.28.4-gke.1`, is before native sidecars. One that cannot be read is not.
fn is_older(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => minor_of(major, minor).is_some_and(|minor| minor < NATIVE),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_older, minor_of};

    #[test]
    fn versions_as_distributions_write_them() {
        for old in [
            "v1.28.15",
            "v1.27.3-eks-a5565ad",
            "1.21.0",
            "v1.28.4-gke.1",
            "v1.9.1",
        ] {
            assert!(is_older(old), "{old}");
        }
        for new in [
            "v1.29.0",
            "v1.36.1+k3s1",
            "v1.30.0-rc.1",
            "v2.0.0",
            "",
            "unknown",
        ] {
            assert!(!is_older(new), "{new}");
        }
        assert_eq!(minor_of("1", "36+"), Some(36));
        assert_eq!(minor_of("1", ""), None);
    }
}
