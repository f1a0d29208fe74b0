//! What the webhook adds to the creation of a pod on a real API server, installed by the real chart; and what a replica
//! takes that follows a cluster.
//!
//! etcd does not wait for a disk here, so the API server's own part is small and the webhook's share is large.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::control_plane::Controllers;
use testkit::daemon::Signal;
use testkit::process::wrapped;
use testkit::{ControlPlane, Daemon, Helm, Result, free_port, wait_closely, wait_until_async};

use crate::load::{Times, micros};
use crate::process::Held;

/// The namespace of the release.
const NAMESPACE: &str = "outrigger-system";
/// The release, and so all its objects.
const NAME: &str = "outrigger";
/// The Secret of the managed certificate.
const SECRET: &str = "outrigger-certificate";
/// The bound on anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked whether a replica is ready.
const OFTEN: Duration = Duration::from_millis(1);

const STARTS: usize = 10;
const ROUNDS: usize = 7;
/// Pods of a kind in a round, one after the other.
const PODS: usize = 200;

pub(crate) async fn measure(program: &Path) -> Result {
    let cluster = Cluster::start().await?;
    let replica = starts(&cluster, program).await?;
    creations(&cluster, &replica).await
}

/// A control plane without controllers, the release, and namespaces for pods.
pub(crate) struct Cluster {
    plane: ControlPlane,
    client: Client,
    /// Where the API server calls the webhook.
    port: u16,
    /// A namespace that says nothing of sidecars.
    bare: String,
    /// One whose pods are sent to the webhook and get nothing by it.
    opted_in: String,
    folder: TempDir,
}

/// A replica in the place of a pod of the release.
pub(crate) struct Replica {
    pub(crate) daemon: Daemon,
    ready_after: Duration,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let plane = ControlPlane::start(Controllers::Absent)?;
        let client = plane.client().await?;
        let (helm, chart) = (
            Helm::with_cluster(plane.kubeconfig())?,
            testkit::helm::nodeless_chart()?,
        );
        let port = free_port()?;
        let chart = chart.path().to_string_lossy();
        helm.run(&[
            "install",
            NAME,
            &chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--set",
            &format!("service.port={port}"),
        ])?
        .ok()?;
        let enabled = [("outrigger.dev/injection", "enabled")];
        Ok(Self {
            bare: plane.namespace(&client, "bare", &[], &[]).await?,
            opted_in: plane.namespace(&client, "opted-in", &enabled, &[]).await?,
            plane,
            client,
            port,
            folder: tempfile::tempdir()?,
        })
    }

    /// Starts a replica under another command, see [`wrapped`], and waits until it is ready.
    pub(crate) async fn replica(&self, wrapper: &[&str], program: &Path) -> Result<Replica> {
        let config = self
            .plane
            .account(&self.client, (NAMESPACE, NAME), None, self.plane.url())
            .await?;
        let kubeconfig = self.folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config)?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let template = deployments.get(NAME).await?.spec.template;
        let spec = template.spec.context("a pod without a spec")?;
        let operations = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let places = (SocketAddr::from(([127, 0, 0, 1], self.port)), operations);
        let command = testkit::replica::command(program, &spec, places, &kubeconfig, NAMESPACE)?;
        let command = wrapped(wrapper, &command);
        let log = self.folder.path().join("log");
        let start = Instant::now();
        let daemon = Daemon::start(&command, &log, Duration::from_secs(1))?;
        wait_closely("a replica to be ready", LIMIT, OFTEN, async || {
            let mut client = testkit::wire::Client::plain(operations).await?;
            let answer = client.get("/readyz").await?;
            ensure!(answer.status == 200, "{answer:?}{}", daemon.log());
            Ok(())
        })
        .await?;
        Ok(Replica {
            ready_after: start.elapsed(),
            daemon,
        })
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn registrations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    /// Takes the registration away, and waits until pods are stored as they are.
    async fn unregister(&self) -> Result<MutatingWebhookConfiguration> {
        let mut registration = self.registrations().get(NAME).await?;
        self.registrations()
            .delete(NAME, &DeleteParams::default())
            .await?;
        registration.metadata.resource_version = None;
        registration.metadata.uid = None;
        registration.metadata.managed_fields = None;
        self.wait_sidecars(0).await?;
        Ok(registration)
    }

    /// Brings it back, and waits until pods are injected.
    async fn register(&self, registration: &MutatingWebhookConfiguration) -> Result {
        self.registrations()
            .create(&PostParams::default(), registration)
            .await?;
        self.wait_sidecars(2).await
    }

    pub(crate) async fn wait_sidecars(&self, expected: usize) -> Result {
        wait_until_async("the registration to take effect", LIMIT, async || {
            let answered = self.try_out(&asking()).await?;
            let found = sidecars(&answered);
            ensure!(found == expected, "{found} sidecars, expected {expected}");
            Ok(())
        })
        .await
    }

    /// What would be stored.
    async fn try_out(&self, pod: &Value) -> Result<Value> {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = serde_json::from_value(pod.clone())?;
        let answered = self.pods(&self.bare).create(&dry, &pod).await?;
        Ok(serde_json::to_value(answered)?)
    }

    /// Creates pods one after the other, and deletes them. Each must have so many sidecars.
    async fn create(&self, namespace: &str, pod: &Value, expected: usize) -> Result<Times> {
        let pods = self.pods(namespace);
        let pod: Pod = serde_json::from_value(pod.clone())?;
        let mut times = Vec::with_capacity(PODS);
        for _ in 0..PODS {
            let start = Instant::now();
            let stored = pods.create(&PostParams::default(), &pod).await?;
            times.push(micros(start.elapsed()));
            let found = sidecars(&serde_json::to_value(stored)?);
            ensure!(found == expected, "{found} sidecars, expected {expected}");
        }
        let now = DeleteParams::default().grace_period(0);
        pods.delete_collection(&now, &ListParams::default()).await?;
        Ok(Times::new(times))
    }
}

/// Starts replicas, one at a time, with the certificate of another and with none. The last one stays.
async fn starts(cluster: &Cluster, program: &Path) -> Result<Replica> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let (mut first, mut later, mut held) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let replica = cluster.replica(&[], program).await?;
        first.push(micros(replica.ready_after) / 1e3);
        kill(replica)?;
        let replica = cluster.replica(&[], program).await?;
        later.push(micros(replica.ready_after) / 1e3);
        held.push(Held::by(&replica.daemon)?);
        if later.len() == STARTS {
            for (how, times) in [
                ("which has the certificate", later),
                ("the certificate is made", first),
            ] {
                let what = format!("start to ready in a cluster, {how}");
                tell(&what, "ms", times, Some(1e3));
            }
            memory("when it is ready", &held);
            return Ok(replica);
        }
        kill(replica)?;
        secrets.delete(SECRET, &DeleteParams::default()).await?;
    }
}

fn kill(mut replica: Replica) -> Result {
    replica.daemon.signal(Signal::KILL)?;
    replica.daemon.wait_ended(LIMIT)?;
    Ok(())
}

fn memory(when: &str, held: &[Held]) {
    let values = |part: fn(&Held) -> f64| held.iter().map(part).collect();
    let resident = format!("resident memory in a cluster (VmRSS), {when}");
    tell(&resident, "MB", values(|it| it.resident), Some(10.0));
    let allocated = format!("of it allocated (RssAnon), {when}");
    tell(&allocated, "MB", values(|it| it.allocated), None);
}

/// One kind of pod, and what its creation took in each round.
struct Kind<'a> {
    what: &'static str,
    namespace: &'a str,
    pod: Value,
    sidecars: usize,
    rounds: Vec<Times>,
}

async fn creations(cluster: &Cluster, replica: &Replica) -> Result {
    cluster.wait_sidecars(2).await?;
    let mut injected = cluster.try_out(&asking()).await?;
    let kind = |what, namespace, pod, sidecars| Kind {
        what,
        namespace,
        pod,
        sidecars,
        rounds: Vec::with_capacity(ROUNDS),
    };
    let (bare, opted_in) = (cluster.bare.as_str(), cluster.opted_in.as_str());
    injected["metadata"] = json!({
        "generateName": "web-", "annotations": injected["metadata"]["annotations"],
    });
    let mut without = [
        kind("no webhook, plain pod", bare, plain(), 0),
        kind(
            "no webhook, pod that has the sidecars already",
            bare,
            injected,
            2,
        ),
    ];
    let mut with = [
        kind(
            "webhook, plain pod that it is not asked about",
            bare,
            plain(),
            0,
        ),
        kind(
            "webhook, plain pod that it is asked about",
            opted_in,
            plain(),
            0,
        ),
        kind("webhook, envoy-tls and fluentd injected", bare, asking(), 2),
    ];
    let mut held = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let registration = cluster.unregister().await?;
        create(cluster, &mut without).await?;
        cluster.register(&registration).await?;
        create(cluster, &mut with).await?;
        held.push(Held::by(&replica.daemon)?);
    }
    memory("after each round of creations", &held);
    for kind in without.iter().chain(&with) {
        tell_times(kind.what, kind.rounds.iter());
    }
    let [plain, already] = &without;
    let [unasked, asked, injected] = &with;
    for (what, more, less) in [
        ("added for a pod that it is not asked about", unasked, plain),
        (
            "added for a pod that it is asked about and leaves alone",
            asked,
            plain,
        ),
        ("added by the review of an injected pod", injected, already),
        (
            "added by the review, and by the API server's work on what is injected",
            injected,
            plain,
        ),
    ] {
        for (which, percentile) in PERCENTILES {
            let both = more.rounds.iter().zip(&less.rounds);
            let added = both.map(|(more, less)| percentile(more) - percentile(less));
            tell(&format!("{what}, {which}"), "µs", added.collect(), None);
        }
    }
    Ok(())
}

type Percentile = (&'static str, fn(&Times) -> f64);

const PERCENTILES: [Percentile; 2] = [("p50", Times::p50), ("p99", Times::p99)];

async fn create(cluster: &Cluster, kinds: &mut [Kind<'_>]) -> Result {
    for kind in kinds {
        let created = cluster
            .create(kind.namespace, &kind.pod, kind.sidecars)
            .await;
        kind.rounds.push(created.context(kind.what)?);
    }
    Ok(())
}

fn tell_times<'a>(what: &str, rounds: impl Iterator<Item = &'a Times> + Clone) {
    for (which, percentile) in PERCENTILES {
        let values = rounds.clone().map(percentile).collect();
        tell(
            &format!("creation of a pod, {what}, {which}"),
            "µs",
            values,
            None,
        );
    }
}

fn plain() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{
            "name": "web", "image": "registry.example.com/web:1", "ports": [{"containerPort": 8080}],
        }]},
    })
}

/// The same, asking for both.
fn asking() -> Value {
    let mut pod = plain();
    pod["metadata"]["annotations"] = json!({
        "outrigger.dev/inject": "envoy-tls, fluentd",
        "envoy-tls.outrigger.dev/secret": "web-tls",
        "fluentd.outrigger.dev/path": "/var/log/web/*.log",
        "fluentd.outrigger.dev/parser": "nginx",
        "fluentd.outrigger.dev/output": "forward",
        "fluentd.outrigger.dev/output-host": "logs.logging.svc",
    });
    pod
}

/// How many of the two it got.
fn sidecars(pod: &Value) -> usize {
    let containers = pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten();
    containers
        .filter(|it| it["name"] == "envoy-tls" || it["name"] == "fluentd")
        .count()
}

fn tell(what: &str, unit: &'static str, values: Vec<f64>, goal: Option<f64>) {
    crate::tell("cluster", what, unit, values, goal);
}
