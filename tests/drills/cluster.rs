//! Control planes with the chart installed, which drills that break nothing hand on to the next.

use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use testkit::control_plane::Controllers;
use testkit::{ControlPlane, Helm, Result, free_port};

/// The namespace of the release.
pub(crate) const NAMESPACE: &str = "outrigger-system";
/// The release, and so all its objects.
pub(crate) const NAME: &str = "outrigger";
/// The Secret that holds the managed certificate.
pub(crate) const SECRET: &str = "outrigger-certificate";

/// Clusters that nobody works on. No more than drills run at a time.
static IDLE: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// A control plane without controllers, and the release. No replica runs.
pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    helm: Helm,
    chart: TempDir,
    /// Where the API server calls the webhook.
    pub(crate) port: u16,
    /// Whether the release has other values than at first.
    changed: bool,
}

impl Cluster {
    /// One that is idle, or else a new one.
    pub(crate) fn take() -> Result<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(Self::start, Ok)
    }

    fn start() -> Result<Self> {
        let plane = ControlPlane::start(Controllers::Absent)?;
        let mut cluster = Self {
            helm: Helm::with_cluster(plane.kubeconfig())?,
            chart: testkit::helm::nodeless_chart()?,
            plane,
            port: free_port()?,
            changed: false,
        };
        cluster
            .plane
            .kubectl(&["create", "namespace", NAMESPACE])?
            .ok()?;
        cluster.apply("install", &[])?;
        Ok(cluster)
    }

    /// Has Helm apply the release again, with these values beside its own (`name=value`).
    pub(crate) fn upgrade(&mut self, values: &[&str]) -> Result {
        self.changed = !values.is_empty();
        self.apply("upgrade", values)
    }

    fn apply(&mut self, verb: &str, values: &[&str]) -> Result {
        let chart = self.chart.path().to_string_lossy().into_owned();
        let port = format!("service.port={}", self.port);
        let mut arguments = vec![verb, NAME, &chart, "--namespace", NAMESPACE];
        // A drill has no time for the drain that a large cluster needs.
        let own = [&port, "webhook.timeoutSeconds=3", "server.drainSeconds=2"];
        for value in own.into_iter().chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        self.helm.run(&arguments)?.ok().map(drop)
    }

    /// Hands it on, as it was at first.
    pub(crate) fn leave(mut self) -> Result {
        if self.changed {
            self.upgrade(&[])?;
        }
        let namespaced = ["--namespace", NAMESPACE, "--ignore-not-found"];
        let secret = [&["delete", "secret", SECRET][..], &namespaced].concat();
        self.plane.kubectl(&secret)?.ok()?;
        for all in [
            &["delete", "sidecarprofiles", "--all"][..],
            &["delete", "pods", "--all", "--namespace", NAMESPACE],
        ] {
            self.plane.kubectl(all)?.ok()?;
        }
        IDLE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
        Ok(())
    }
}

/// Stops those that are idle.
pub(crate) fn stop_idle() {
    let idle = std::mem::take(&mut *IDLE.lock().unwrap_or_else(PoisonError::into_inner));
    drop(idle);
}
