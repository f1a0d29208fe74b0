//! `outrigger serve` as a process, registered with a real API server by the real chart.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::examples;
use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{ControlPlane, Daemon, Helm, Result, free_port, process, wait_until_async};

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/catalogue");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/outrigger");

/// A webhook and the API server that calls it. Dropping it takes the registration away and stops the process.
pub(crate) struct Webhook {
    plane: Arc<ControlPlane>,
    daemon: Daemon,
    helm: Helm,
    release: String,
    operations: u16,
    folder: TempDir,
}

static SHARED: Mutex<Option<Arc<Webhook>>> = Mutex::new(None);
static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The webhook that the tests of this binary share.
pub(crate) async fn shared() -> Result<Arc<Webhook>> {
    let _one_at_a_time = STARTING.lock().await;
    if let Some(webhook) = SHARED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
    {
        return Ok(webhook);
    }
    let webhook = Arc::new(Webhook::start(ControlPlane::shared()?, "shared").await?);
    *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&webhook));
    Ok(webhook)
}

/// Stops it, after the last test.
pub(crate) fn stop_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Webhook {
    /// Starts the process, registers it and waits until a dry run comes back injected.
    pub(crate) async fn start(plane: Arc<ControlPlane>, release: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, operations) = (free_port()?, free_port()?);
        let certificate = plane.authority().server(&["127.0.0.1"])?;
        let file = |name: &str, content: &str| -> Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, content)?;
            Ok(path.display().to_string())
        };
        let ca = file("ca.crt", plane.authority().certificate())?;
        let mut command = Command::new(OUTRIGGER);
        command
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--operations-listen", &format!("127.0.0.1:{operations}")])
            .args(["--tls-cert", &file("tls.crt", &certificate.certificate)?])
            .args(["--tls-key", &file("tls.key", &certificate.key)?])
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(["--profiles", CATALOGUE])
            .args([
                "--defaults",
                &file("defaults.json", &examples::defaults()?.to_string())?,
            ])
            .args(["--drain-seconds", "1"]);
        for profile in examples::files("profile.yaml")? {
            command.arg("--profiles").arg(profile);
        }
        let mut daemon = Daemon::start(
            &command,
            &folder.path().join("serve.log"),
            Duration::from_secs(5),
        )?;
        daemon.wait_ready(Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port))?;
            Ok(())
        })?;
        let helm = Helm::with_cluster(plane.kubeconfig())?;
        helm.run(&[
            "install",
            release,
            CHART,
            "--namespace",
            "default",
            "--set",
            &format!("tls.mode=files,webhook.url=https://127.0.0.1:{port}/mutate"),
            "--set-file",
            &format!("tls.caBundle={ca}"),
        ])?
        .ok()?;
        let webhook = Self {
            plane,
            daemon,
            helm,
            release: release.to_owned(),
            operations,
            folder,
        };
        webhook.wait_registered().await?;
        Ok(webhook)
    }

    async fn wait_registered(&self) -> Result {
        let namespace = self.namespace("registered", &[]).await?;
        let pods: Api<Pod> = Api::namespaced(self.plane.client().await?, &namespace);
        let asking = serde_json::from_value(super::super::pod("probe", super::super::TLS))?;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        wait_until_async(
            "the registration to take effect",
            Duration::from_secs(20),
            async || {
                let answered = serde_json::to_value(pods.create(&dry, &asking).await?)?;
                ensure!(
                    answered["spec"]["initContainers"].is_array(),
                    "not injected yet"
                );
                let misplaced = super::super::deployment("probe", super::super::TLS, &[]);
                let create = ["create", "--dry-run=server", "-n", &namespace, "-f", "-"];
                let created = self.plane.kubectl_with(&create, &misplaced.to_string())?;
                ensure!(created.stderr.contains("Warning"), "not warned yet");
                Ok(())
            },
        )
        .await
    }

    pub(crate) fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// A namespace for one test.
    pub(crate) async fn namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> Result<String> {
        let client = self.plane.client().await?;
        self.plane.namespace(&client, prefix, labels, &[]).await
    }

    /// Stops the process and leaves the registration.
    pub(crate) fn stop_serving(&mut self) {
        self.daemon.stop();
    }

    /// What `outrigger inject` makes of a pod.
    pub(crate) fn inject(&self, pod: &Value) -> Result<Value> {
        let path = self.folder.path().join("pod.json");
        std::fs::write(&path, pod.to_string())?;
        let mut command = Command::new(OUTRIGGER);
        command.args(["inject", "-o", "json", "-f"]).arg(&path);
        let output = process::run(&command, b"", Duration::from_secs(20))?.ok()?;
        Ok(serde_json::from_str(&output)?)
    }

    /// How many reviews were answered, from the metrics.
    pub(crate) async fn reviews(&self) -> Result<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.operations);
        let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with("outrigger_admission_reviews_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let uninstalled = self
            .helm
            .run(&["uninstall", &self.release, "--namespace", "default"]);
        if let Err(error) = uninstalled.and_then(|finished| finished.ok()) {
            eprintln!(
                "the release {} could not be uninstalled: {error:#}",
                self.release
            );
        }
    }
}
