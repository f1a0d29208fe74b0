//! A cluster with replicas of the webhook behind a balancer, and a load of pod creations.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Balancer, ControlPlane, Daemon, Helm, Result, free_port, wait_until_async};
use tokio::task::JoinHandle;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/outrigger");
/// As long as the API server takes to hear that an endpoint is gone.
const DRAIN: &str = "2";

/// A replica of the webhook.
pub(crate) struct Replica {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
    operations: SocketAddr,
}

/// The cluster and its webhook. Dropping it takes everything down.
pub(crate) struct Site {
    pub(crate) plane: ControlPlane,
    pub(crate) balancer: Balancer,
    pub(crate) replicas: Vec<Replica>,
    /// Where pods are created: that of the release is excluded.
    pub(crate) namespace: String,
    /// How replicas that are started from now on reach the API server.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) folder: TempDir,
    started: u32,
}

impl Site {
    /// Starts `count` replicas and registers them with this failure policy.
    pub(crate) async fn start(plane: ControlPlane, count: usize, policy: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificate = plane.authority().server(&["127.0.0.1"])?;
        for (name, content) in [
            ("tls.crt", certificate.certificate.as_str()),
            ("tls.key", certificate.key.as_str()),
            ("ca.crt", plane.authority().certificate()),
        ] {
            std::fs::write(folder.path().join(name), content)?;
        }
        let balancer = Balancer::start().await?;
        let client = plane.client().await?;
        let namespace = plane.namespace(&client, "drill", &[], &[]).await?;
        let mut site = Self {
            kubeconfig: plane.kubeconfig().to_owned(),
            plane,
            balancer,
            replicas: Vec::new(),
            namespace,
            folder,
            started: 0,
        };
        let helm = Helm::with_cluster(site.plane.kubeconfig())?;
        helm.run(&[
            "install",
            "drills",
            CHART,
            "--namespace",
            "default",
            "--set",
            &format!("webhook.url=https://{}/mutate", site.balancer.address()),
            "--set",
            &format!("webhook.failurePolicy={policy}"),
            "--set",
            "tls.mode=files",
            "--set",
            "webhook.timeoutSeconds=3",
            "--set-file",
            &format!(
                "tls.caBundle={}",
                site.folder.path().join("ca.crt").display()
            ),
        ])?
        .ok()?;
        for _ in 0..count {
            let replica = site.launch().await?;
            site.replicas.push(replica);
        }
        site.publish();
        site.wait_injecting().await?;
        Ok(site)
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn launch(&mut self) -> Result<Replica> {
        self.started += 1;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let operations = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let file = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(OUTRIGGER);
        command
            .arg("serve")
            .args(["--listen", &address.to_string()])
            .args(["--operations-listen", &operations.to_string()])
            .arg("--tls-cert")
            .arg(file("tls.crt"))
            .arg("--tls-key")
            .arg(file("tls.key"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--drain-seconds", DRAIN]);
        let log = file(&format!("replica-{}.log", self.started));
        let daemon = Daemon::start(&command, &log, Duration::from_secs(20))?;
        let replica = Replica {
            daemon,
            address,
            operations,
        };
        wait_until_async(
            "a replica to be ready",
            Duration::from_secs(20),
            async || replica.ready().await,
        )
        .await?;
        Ok(replica)
    }

    /// Lets new connections go to the replicas that there are.
    pub(crate) fn publish(&self) {
        let addresses = self
            .replicas
            .iter()
            .map(|replica| replica.address)
            .collect();
        self.balancer.set_backends(addresses);
    }

    /// Replaces the oldest replica as a rolling update does: a new one first, then SIGTERM to the old one, which
    /// no new connection reaches once it is unready.
    pub(crate) async fn roll(&mut self) -> Result {
        let new = self.launch().await?;
        self.replicas.push(new);
        self.publish();
        let mut old = self.replicas.remove(0);
        old.daemon.signal(testkit::daemon::Signal::TERM)?;
        // As long as it takes until endpoints are told: connections still come until then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.publish();
        let ended =
            tokio::task::spawn_blocking(move || old.daemon.wait_ended(Duration::from_secs(15)));
        let status = ended.await??;
        ensure!(status.success(), "a replica ended with {status}");
        Ok(())
    }

    async fn wait_injecting(&self) -> Result {
        let pods = self.pods().await?;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let asked = serde_json::from_value(asking("registered"))?;
        wait_until_async(
            "the registration to take effect",
            Duration::from_secs(20),
            async || {
                let answered = serde_json::to_value(pods.create(&dry, &asked).await?)?;
                ensure!(sidecars(&answered) == 1, "not injected yet");
                Ok(())
            },
        )
        .await
    }

    pub(crate) async fn pods(&self) -> Result<Api<Pod>> {
        Ok(Api::namespaced(self.plane.client().await?, &self.namespace))
    }

    /// Creates one pod that asks, and looks at what is stored.
    pub(crate) async fn create(&self, name: &str) -> Result<Value> {
        let asked = serde_json::from_value(asking(name))?;
        let stored = self
            .pods()
            .await?
            .create(&PostParams::default(), &asked)
            .await?;
        Ok(serde_json::to_value(stored)?)
    }
}

impl Replica {
    /// The value of a sample of its metrics.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let url = format!("http://{}/metrics", self.operations);
        let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value
            .with_context(|| format!("no {sample}"))?
            .parse()
            .context("no number")
    }

    /// The memory that it has, in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("no VmRSS")?.trim();
        line.trim_end_matches("kB")
            .trim()
            .parse()
            .context("no number")
    }

    pub(crate) async fn ready(&self) -> Result {
        let url = format!("http://{}/readyz", self.operations);
        reqwest::get(&url).await?.error_for_status()?;
        Ok(())
    }
}

/// A pod that asks for one sidecar.
pub(crate) fn asking(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {
            "outrigger.dev/inject": "envoy-tls", "envoy-tls.outrigger.dev/secret": "web-tls",
        }},
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
    })
}

/// How many sidecars it got.
pub(crate) fn sidecars(pod: &Value) -> usize {
    pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|container| container["name"] == "envoy-tls")
        .count()
}

/// A load of pod creations, a pod a `pause`, in a task of its own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Result<Counted>>,
}

/// Numbers the loads, so that their pods' names differ.
static LOADS: AtomicU32 = AtomicU32::new(0);

/// What became of the load.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) created: usize,
    /// What went wrong, and when after the start: an error, or a pod without its sidecar or with two.
    pub(crate) failed: Vec<(Duration, String)>,
    /// The longest that a creation took.
    pub(crate) slowest: Duration,
}

impl Load {
    pub(crate) async fn start(site: &Site, pause: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pods = site.pods().await?;
        let running = tokio::spawn(async move {
            let started = Instant::now();
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
                let failed = match outcome {
                    Err(error) => Some(error.to_string()),
                    Ok(stored) => match sidecars(&serde_json::to_value(stored)?) {
                        1 => None,
                        count => Some(format!("{count} sidecars")),
                    },
                };
                counted
                    .failed
                    .extend(failed.map(|failed| (started.elapsed(), failed)));
                tokio::time::sleep(pause).await;
            }
            Ok(counted)
        });
        Ok(Self { stop, running })
    }

    /// Ends the load.
    pub(crate) async fn end(self) -> Result<Counted> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.context("the load broke down")?
    }
}
