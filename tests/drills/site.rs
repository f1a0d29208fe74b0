//! A cluster with replicas of the webhook behind a balancer.
//!
//! A replica is a process in the place of a pod: the pod is an object in the cluster, as the chart's Deployment has
//! it; the process runs with the pod's arguments and with a token that is bound to it. So a right that the chart does
//! not give is missing here too, and every request can be told to be that of one replica.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::daemon::Signal;
use testkit::{Balancer, Daemon, Result, free_port, wait_until_async};

use super::cluster::{Cluster, NAME, NAMESPACE, SECRET};

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// The bound on anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A replica of the webhook.
pub(crate) struct Replica {
    pub(crate) daemon: Daemon,
    /// The name of the pod in whose place it is.
    pub(crate) pod: String,
    pub(crate) address: SocketAddr,
    operations: SocketAddr,
}

/// The cluster and its webhook. Dropping it takes everything down; [`Site::end`] hands the cluster on.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    /// Of this drill's runtime, with an administrator's rights.
    pub(crate) client: Client,
    /// Where the API server calls the webhook.
    pub(crate) balancer: Balancer,
    /// Where replicas reach the API server.
    pub(crate) api: Balancer,
    pub(crate) replicas: Vec<Replica>,
    /// Those that new connections go to.
    published: Arc<Mutex<Vec<SocketAddr>>>,
    /// Where pods are created: that of the release is excluded.
    pub(crate) namespace: String,
    /// Whether the drill broke what the next would share.
    pub(crate) broken: bool,
    roleless: Vec<(Timestamp, Timestamp)>,
    folder: TempDir,
}

impl Site {
    /// A cluster without a replica.
    pub(crate) async fn new() -> Result<Self> {
        let cluster = Cluster::take()?;
        let client = cluster.plane.client().await?;
        let api = Balancer::start(0).await?;
        let server = cluster.plane.url().trim_start_matches("https://");
        api.set_backends(vec![server.parse()?]);
        Ok(Self {
            namespace: cluster.plane.namespace(&client, "drill", &[], &[]).await?,
            balancer: Balancer::start(cluster.port).await?,
            cluster,
            client,
            api,
            replicas: Vec::new(),
            published: Arc::default(),
            broken: false,
            roleless: Vec::new(),
            folder: tempfile::tempdir()?,
        })
    }

    /// Restarts the API server with a pause. One that has just started refuses everybody everything until it has read
    /// the roles that there are, which it does soon after it says that it is ready.
    pub(crate) fn restart_api_server(&mut self, pause: Duration) -> Result {
        let start = Timestamp::now();
        tokio::task::block_in_place(|| self.cluster.plane.restart_api_server(pause))?;
        let end = Timestamp::now() + Duration::from_secs(2);
        self.roleless.push((start, end));
        Ok(())
    }

    /// Starts so many replicas with these flags beside the chart's, and waits until pods are injected.
    pub(crate) async fn start(&mut self, count: usize, flags: &[&str]) -> Result {
        for _ in 0..count {
            let replica = self.launch(flags).await?;
            self.replicas.push(replica);
        }
        self.publish();
        self.wait_injecting(LIMIT).await
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn launch(&self, flags: &[&str]) -> Result<Replica> {
        let replica = self.launch_unready(flags).await?;
        replica.wait_ready(LIMIT).await?;
        Ok(replica)
    }

    /// Starts a replica.
    pub(crate) async fn launch_unready(&self, flags: &[&str]) -> Result<Replica> {
        let pod = self.pod_of_the_release().await?;
        let name = pod.name_any();
        let server = format!("https://{}", self.api.address());
        let plane = &self.cluster.plane;
        let config = plane
            .account(&self.client, (NAMESPACE, NAME), Some(&pod), &server)
            .await?;
        let kubeconfig = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, config)?;

        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let operations = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let spec = pod.spec.context("a pod without a spec")?;
        let program = OUTRIGGER.as_ref();
        let places = (address, operations);
        let mut command =
            testkit::replica::command(program, &spec, places, &kubeconfig, NAMESPACE)?;
        command
            .args(flags)
            .env("POD_NAME", &name)
            .env("POD_UID", pod.metadata.uid.unwrap_or_default());
        let log = self.folder.path().join(format!("{name}.log"));
        Ok(Replica {
            daemon: Daemon::start(&command, &log, Duration::from_secs(20))?,
            pod: name,
            address,
            operations,
        })
    }

    /// Creates a pod of the chart's Deployment, as the ReplicaSet controller would.
    pub(crate) async fn pod_of_the_release(&self) -> Result<Pod> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let deployment = deployments.get(NAME).await?;
        let template = deployment.spec.template;
        let mut pod = Pod {
            metadata: template.metadata.unwrap_or_default(),
            spec: template.spec,
            ..Pod::default()
        };
        pod.metadata.generate_name = Some(format!("{NAME}-7d5c9b6f4-"));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(pods.create(&PostParams::default(), &pod).await?)
    }

    /// Deletes the pod of a replica that has ended.
    pub(crate) async fn delete_pod(&self, name: &str) -> Result {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        pods.delete(name, &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// Lets new connections go to the replicas that there are.
    pub(crate) fn publish(&self) {
        let addresses: Vec<_> = self.replicas.iter().map(|it| it.address).collect();
        self.balancer.set_backends(addresses.clone());
        *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The addresses of the replicas that new connections go to, as they are at each look.
    pub(crate) fn published(&self) -> Arc<Mutex<Vec<SocketAddr>>> {
        Arc::clone(&self.published)
    }

    /// Replaces the oldest replica as a rolling update does: a new one first, then SIGTERM to the old one, which
    /// no new connection reaches once it is unready.
    pub(crate) async fn roll(&mut self, flags: &[&str]) -> Result {
        let new = self.launch(flags).await?;
        self.replicas.push(new);
        self.publish();
        let mut old = self.replicas.remove(0);
        old.daemon.signal(Signal::TERM)?;
        // As long as it takes until endpoints are told: connections still come until then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.publish();
        let ended =
            tokio::task::spawn_blocking(move || old.daemon.wait_ended(Duration::from_secs(15)));
        let status = ended.await??;
        ensure!(status.success(), "a replica ended with {status}");
        self.delete_pod(&old.pod).await
    }

    /// Kills all replicas and deletes their pods.
    pub(crate) async fn drain(&mut self) -> Result {
        let gone = std::mem::take(&mut self.replicas);
        self.publish();
        for replica in gone {
            replica.daemon.signal(Signal::KILL)?;
            self.delete_pod(&replica.pod).await?;
        }
        Ok(())
    }

    /// Waits until a pod that asks is injected.
    pub(crate) async fn wait_injecting(&self, limit: Duration) -> Result {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let asked = serde_json::from_value(asking("registered"))?;
        wait_until_async("pods to be injected", limit, async || {
            let answered = serde_json::to_value(self.pods().create(&dry, &asked).await?)?;
            ensure!(sidecars(&answered) == 1, "not injected");
            Ok(())
        })
        .await
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates one pod that asks, and looks at what is stored.
    pub(crate) async fn create(&self, name: &str) -> Result<Value> {
        let asked = serde_json::from_value(asking(name))?;
        let stored = self.pods().create(&PostParams::default(), &asked).await?;
        Ok(serde_json::to_value(stored)?)
    }

    /// The workloads that lack what they asked for, as `outrigger list` names them.
    pub(crate) fn missed(&self) -> Result<Vec<String>> {
        let mut command = Command::new(OUTRIGGER);
        command
            .args(["list", "--missed", "--output=json", "--namespace"])
            .arg(&self.namespace)
            .arg("--kubeconfig")
            .arg(self.cluster.plane.kubeconfig());
        let listed = testkit::process::run(&command, b"", LIMIT)?.ok()?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        let workload = |it: &Value| it["workload"].as_str().unwrap_or_default().to_owned();
        Ok(listed.iter().map(workload).collect())
    }

    /// The reasons of the events about a replica's pod.
    pub(crate) async fn events_about(&self, replica: &Replica) -> Result<Vec<String>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let about = format!(
            "involvedObject.kind=Pod,involvedObject.name={}",
            replica.pod
        );
        let events = events.list(&ListParams::default().fields(&about)).await?;
        let reasons = events.items.into_iter().filter_map(|event| event.reason);
        Ok(reasons.collect())
    }

    /// The Secret of the managed certificate.
    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// A key of that Secret, as text; empty when it is not there.
    pub(crate) async fn secret(&self, key: &str) -> Result<String> {
        let secret = self.secrets().get(SECRET).await?;
        let value = secret.data.unwrap_or_default().remove(key);
        Ok(String::from_utf8(value.unwrap_or_default().0)?)
    }

    /// The bundles of all webhooks of the release, each once.
    pub(crate) async fn bundles(&self) -> Result<Vec<String>> {
        bundles(&self.client).await
    }

    /// Waits until every webhook has the bundle of the Secret, and returns it.
    pub(crate) async fn wait_published(&self, limit: Duration) -> Result<String> {
        wait_until_async("the bundle to be published", limit, async || {
            let bundle = self.secret("ca.crt").await?;
            let published = self.bundles().await?;
            ensure!(
                !bundle.is_empty() && published == [bundle.clone()],
                "published: {published:?}, in the Secret: {bundle}"
            );
            Ok(bundle)
        })
        .await
    }

    /// The end of a drill that passed: no replica missed a right or panicked, and the cluster is handed on.
    pub(crate) async fn end(self) -> Result {
        let Self {
            cluster,
            replicas,
            folder,
            broken,
            roleless,
            ..
        } = self;
        for replica in &replicas {
            replica.daemon.signal(Signal::KILL)?;
        }
        drop(replicas);
        for entry in std::fs::read_dir(folder.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                for line in log.lines() {
                    ensure!(!is_bad(line, &roleless), "a replica said: {line}");
                }
            }
        }
        if broken { Ok(()) } else { cluster.leave() }
    }
}

impl Replica {
    /// What `/readyz` says: the status and the text.
    pub(crate) async fn readiness(&self) -> Result<(u16, String)> {
        self.probe("/readyz").await
    }

    /// What `/healthz` says, as the chart's liveness probe asks.
    pub(crate) async fn liveness(&self) -> Result<(u16, String)> {
        self.probe("/healthz").await
    }

    async fn probe(&self, path: &str) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("http://{}{path}", self.operations)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    pub(crate) async fn wait_ready(&self, limit: Duration) -> Result {
        wait_until_async("a replica to be ready", limit, async || {
            let readiness = self.readiness().await;
            let (status, text) = readiness.with_context(|| self.daemon.log())?;
            ensure!(status == 200, "{text}{}", self.daemon.log());
            Ok(())
        })
        .await
    }

    /// The sum of the samples that begin so; 0 when there is none.
    pub(crate) async fn metric(&self, start: &str) -> Result<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.operations))
            .await?
            .text()
            .await?;
        let mut sum = 0.0;
        for line in text.lines().filter(|line| line.starts_with(start)) {
            let (_, value) = line.rsplit_once(' ').context("a sample without a value")?;
            sum += value.parse::<f64>()?;
        }
        Ok(sum)
    }
}

/// Whether a line of a log tells of a right that is missing, or of a panic. `roleless` are the times in which the API
/// server knew of no roles.
fn is_bad(line: &str, roleless: &[(Timestamp, Timestamp)]) -> bool {
    let small = line.to_lowercase();
    let excused = || {
        let fields: Value = serde_json::from_str(line).unwrap_or_default();
        let time = fields["timestamp"].as_str().and_then(|it| it.parse().ok());
        time.is_some_and(|time| {
            roleless
                .iter()
                .any(|(from, to)| (from..=to).contains(&&time))
        })
    };
    small.contains("panicked") || (small.contains("forbidden") && !excused())
}

/// See [`Site::bundles`].
pub(crate) async fn bundles(client: &Client) -> Result<Vec<String>> {
    let all = ListParams::default();
    let ours = |name: &Option<String>| name.as_deref().is_some_and(|it| it.starts_with(NAME));
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let mutating = mutating.list(&all).await?.items.into_iter();
    let validating = validating.list(&all).await?.items.into_iter();
    let mut texts = Vec::new();
    for webhook in mutating
        .filter(|it| ours(&it.metadata.name))
        .flat_map(|it| it.webhooks.unwrap_or_default())
    {
        texts.push(webhook.client_config.ca_bundle.unwrap_or_default().0);
    }
    for webhook in validating
        .filter(|it| ours(&it.metadata.name))
        .flat_map(|it| it.webhooks.unwrap_or_default())
    {
        texts.push(webhook.client_config.ca_bundle.unwrap_or_default().0);
    }
    texts.sort();
    texts.dedup();
    let text = |bytes| Ok(String::from_utf8(bytes)?);
    texts.into_iter().map(text).collect()
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

/// How many certificates are in a bundle.
pub(crate) fn certificates(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}
