//! A release of the chart whose webhook runs beside the API server, as one process a replica.
//!
//! The release's Service is an alias of localhost, so the API server calls the webhook through it, by the
//! name that the certificate is for. The processes have the rights of the release's own account.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{ControlPlane, Daemon, Helm, Result, free_port, wait_until_async};
use tokio::task::JoinHandle;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// The bound on anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The tests' names for their releases. Each has a namespace for pods that no other release answers for.
const RELEASES: [&str; 9] = [
    "fresh", "repair", "race", "rotate", "broken", "ended", "foreign", "denials", "barred",
];

fn pods_of(prefix: &str) -> String {
    format!("pods-of-{prefix}")
}

/// A release. Dropping it uninstalls it, so that its registration does not stay behind.
pub(crate) struct Release {
    plane: Arc<ControlPlane>,
    helm: Helm,
    chart: TempDir,
    /// The name of all its objects.
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Where its pods are asked for.
    pub(crate) pods: String,
    /// The namespaces that it leaves alone, as `--set` takes them.
    excluded: String,
    /// Where the API server calls the webhook.
    pub(crate) port: u16,
    folder: TempDir,
    replicas: AtomicU32,
    installed: AtomicBool,
}

impl Release {
    /// A namespace for a release that is not installed yet.
    pub(crate) async fn new(plane: Arc<ControlPlane>, prefix: &str) -> Result<Self> {
        let client = plane.client().await?;
        let namespace = plane.namespace(&client, prefix, &[], &[]).await?;
        Ok(Self {
            helm: Helm::with_cluster(plane.kubeconfig())?,
            chart: testkit::helm::nodeless_chart()?,
            plane,
            name: format!("{namespace}-outrigger"),
            pods: pods_of(prefix),
            excluded: RELEASES
                .iter()
                .filter(|other| **other != prefix)
                .map(|other| pods_of(other))
                .chain(["default".to_owned()])
                .collect::<Vec<_>>()
                .join(","),
            namespace,
            port: free_port()?,
            folder: tempfile::tempdir()?,
            replicas: AtomicU32::new(0),
            installed: AtomicBool::new(false),
        })
    }

    pub(crate) fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    pub(crate) async fn install(&self) -> Result {
        self.install_with(&[]).await
    }

    /// Installs it with further arguments of Helm's.
    pub(crate) async fn install_with(&self, extra: &[&str]) -> Result {
        self.installed.store(true, Ordering::Relaxed);
        self.helm("install", extra)?;
        self.kubectl(&["create", "namespace", &self.pods])?;
        let account = [
            "get",
            "serviceaccount",
            "default",
            "--namespace",
            &self.pods,
        ];
        wait_until_async("the account of its pods", LIMIT, async || {
            self.plane.kubectl(&account)?.ok()
        })
        .await?;
        Ok(())
    }

    pub(crate) fn helm(&self, verb: &str, extra: &[&str]) -> Result<String> {
        let port = format!("service.port={}", self.port);
        let excluded = format!("webhook.excludedNamespaces={{{}}}", self.excluded);
        let chart = self.chart.path().to_string_lossy();
        let arguments = [
            &[
                verb,
                &self.namespace,
                &chart,
                "--namespace",
                &self.namespace,
            ][..],
            &["--set", &port, "--set", &excluded],
            // A cluster has one definition, and here there are several releases.
            &["--set", "crds.install=false"],
            extra,
        ];
        self.helm.run(&arguments.concat())?.ok()
    }

    /// kubectl in its namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--namespace", &self.namespace][..], arguments].concat();
        self.plane.kubectl(&all)?.ok()
    }

    /// A kubeconfig with the rights of the release's account.
    async fn account(&self) -> Result<PathBuf> {
        let client = self.plane.client().await?;
        let (account, server) = ((&*self.namespace, &*self.name), self.plane.url());
        let config = self.plane.account(&client, account, None, server).await?;
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, config)?;
        Ok(path)
    }

    /// Starts a replica where the API server calls it, or elsewhere.
    pub(crate) async fn start(&self, called: bool, flags: &[&str]) -> Result<Replica> {
        self.start_with(called, flags, &[]).await
    }

    /// The same with variables of its environment.
    pub(crate) async fn start_with(
        &self,
        called: bool,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Replica> {
        let installed = self.installed.load(Ordering::Relaxed);
        let kubeconfig = if installed {
            self.account().await?
        } else {
            self.plane.kubeconfig().to_owned()
        };
        let port = if called { self.port } else { free_port()? };
        let operations = free_port()?;
        let mut command = Command::new(OUTRIGGER);
        command
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--operations-listen", &format!("127.0.0.1:{operations}")])
            .args(["--managed-certificate", &self.secret_name()])
            .args(["--namespace", &self.namespace])
            .args(["--service", &self.name])
            .args(["--webhook-configuration", &self.name])
            .args(["--drain-seconds", "0", "--kubeconfig"])
            .arg(kubeconfig)
            .args(flags)
            .envs(variables.iter().copied());
        let number = self.replicas.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("serve-{number}.log"));
        let mut daemon = Daemon::start(&command, &log, Duration::from_secs(2))?;
        daemon.wait_ready(LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", operations))?;
            Ok(())
        })?;
        Ok(Replica {
            daemon,
            address: ([127, 0, 0, 1], port).into(),
            operations,
            name: format!("{}.{}.svc", self.name, self.namespace),
        })
    }

    pub(crate) fn secret_name(&self) -> String {
        format!("{}-certificate", self.name)
    }

    /// A key of the Secret, as text.
    pub(crate) fn secret(&self, key: &str) -> Result<String> {
        let secret = self.secret_name();
        let path = format!("jsonpath={{.data.{}}}", key.replace('.', "\\."));
        let text = self.kubectl(&["get", "secret", &secret, "-o", &path])?;
        Ok(String::from_utf8(decode(&text)?)?)
    }

    pub(crate) fn patch_secret(&self, patch: &Value) -> Result {
        let secret = self.secret_name();
        let patch = patch.to_string();
        self.kubectl(&["patch", "secret", &secret, "--type=merge", "-p", &patch])?;
        Ok(())
    }

    pub(crate) fn configuration(&self) -> Result<Value> {
        let kind = "mutatingwebhookconfiguration";
        let get = [
            "get",
            kind,
            &self.name,
            "--show-managed-fields",
            "-o",
            "json",
        ];
        Ok(serde_json::from_str(&self.kubectl(&get)?)?)
    }

    /// Overwrites the bundle of one of its webhooks.
    pub(crate) fn overwrite(&self, index: usize, bundle: &str) -> Result {
        let path = format!("/webhooks/{index}/clientConfig/caBundle");
        let value = base64::engine::general_purpose::STANDARD.encode(bundle);
        let patch = json!([{"op": "add", "path": path, "value": value}]).to_string();
        let kind = "mutatingwebhookconfiguration";
        self.kubectl(&["patch", kind, &self.name, "--type=json", "-p", &patch])?;
        Ok(())
    }

    /// The bundles of its webhooks.
    pub(crate) fn bundles(&self) -> Result<Vec<String>> {
        let configuration = self.configuration()?;
        let webhooks = configuration["webhooks"].as_array();
        webhooks
            .context("no webhooks")?
            .iter()
            .map(|webhook| {
                let text = webhook["clientConfig"]["caBundle"].as_str();
                Ok(String::from_utf8(decode(text.unwrap_or_default())?)?)
            })
            .collect()
    }

    /// Waits until every webhook has the bundle of the Secret.
    pub(crate) async fn wait_published(&self) -> Result<String> {
        wait_until_async("the bundle to be published", LIMIT, async || {
            let bundle = self.secret("ca.crt")?;
            let published = self.bundles()?;
            ensure!(
                !bundle.is_empty() && published.iter().all(|it| *it == bundle),
                "published: {published:?}, in the Secret: {bundle}"
            );
            Ok(bundle)
        })
        .await
    }

    /// What the API server makes of a pod that asks.
    pub(crate) async fn dry_run(&self) -> Result<Value> {
        let pods: Api<Pod> = Api::namespaced(self.plane.client().await?, &self.pods);
        probe(&pods, &self.name).await
    }

    /// Has the API server and a client of each replica ask all the time, the client with the bundle that is
    /// published at that moment and a new connection each time.
    pub(crate) fn load(self: &Arc<Self>, replicas: &[&Replica]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (address, name) in replicas.iter().map(|it| (it.address, it.name.clone())) {
            let (stop, release) = (Arc::clone(&stop), Arc::clone(self));
            tasks.push(tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let bundles = release.bundles()?;
                    let bundle = bundles.first().context("no webhook")?;
                    ask(address, &name, bundle).await?;
                    count += 1;
                }
                Ok(count)
            }));
        }
        let (ended, release) = (Arc::clone(&stop), Arc::clone(self));
        tasks.push(tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(release.plane.client().await?, &release.pods);
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                let answered = probe(&pods, &release.name).await?;
                let injected = answered["spec"]["initContainers"].is_array();
                ensure!(injected, "a pod came back without its sidecar");
                count += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(count)
        }));
        Load { stop, tasks }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let gone = ["uninstall", &self.namespace, "--namespace", &self.namespace];
        if self.installed.load(Ordering::Relaxed)
            && let Err(error) = self.helm.run(&gone).and_then(testkit::Finished::ok)
        {
            eprintln!("{} could not be uninstalled: {error:#}", self.name);
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>> {
    Ok(base64::engine::general_purpose::STANDARD.decode(text.trim())?)
}

/// A dry run of a pod that this release alone is to answer for.
async fn probe(pods: &Api<Pod>, name: &str) -> Result<Value> {
    let pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {
            "outrigger.dev/inject": "envoy-tls", "envoy-tls.outrigger.dev/secret": "web-tls",
        }},
        "spec": {"containers": [{
            "name": "web", "image": "registry.example.com/web:1", "ports": [{"containerPort": 8080}],
        }]},
    }))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Ok(serde_json::to_value(pods.create(&dry, &pod).await?)?)
}

/// Asks a replica for its health over a new connection, by the Service's name and trusting the bundle alone.
async fn ask(address: SocketAddr, name: &str, bundle: &str) -> Result {
    let url = format!("https://{name}:{}/healthz", address.port());
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(testkit::http::tls(bundle, None)?)
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .resolve(name, address)
        .build()?;
    client.get(url).send().await?.error_for_status()?;
    Ok(())
}

/// Requests that go on until they are told to end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<u32>>>,
}

impl Load {
    /// Ends it. Every request must have succeeded.
    pub(crate) async fn end(self) -> Result {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let count = task.await??;
            ensure!(count > 3, "only {count} requests were made");
        }
        Ok(())
    }
}

/// A process.
pub(crate) struct Replica {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
    operations: u16,
    name: String,
}

impl Replica {
    /// What `/readyz` says: the status and the text.
    pub(crate) async fn readiness(&self) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/readyz", self.operations);
        let answer = reqwest::get(url).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    pub(crate) async fn wait_ready(&self) -> Result {
        wait_until_async("a replica to be ready", LIMIT, async || {
            let (status, text) = self.readiness().await?;
            ensure!(status == 200, "{text}{}", self.daemon.log());
            Ok(())
        })
        .await
    }

    /// Waits until it says that it is not ready, for this reason.
    pub(crate) async fn wait_unready(&self, reason: &str) -> Result {
        wait_until_async("a replica to be unready", LIMIT, async || {
            let (status, text) = self.readiness().await?;
            ensure!(status == 503 && text.contains(reason), "{text}");
            Ok(())
        })
        .await
    }

    /// Asks with this bundle.
    pub(crate) async fn ask(&self, bundle: &str) -> Result {
        ask(self.address, &self.name, bundle).await
    }

    /// The value of a sample, 0 when it was never counted.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.operations);
        let text = reqwest::get(url).await?.text().await?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(Ok(0.0), |value| Ok(value.parse()?))
    }

    /// How often this outcome of a renewal was counted.
    pub(crate) async fn renewals(&self, outcome: &str) -> Result<f64> {
        let sample = format!(r#"outrigger_certificate_renewals_total{{outcome="{outcome}"}}"#);
        self.metric(&sample).await
    }
}

/// How often the replicas together counted it.
pub(crate) async fn renewals(replicas: &[&Replica], outcome: &str) -> Result<f64> {
    let mut sum = 0.0;
    for replica in replicas {
        sum += replica.renewals(outcome).await?;
    }
    Ok(sum)
}
