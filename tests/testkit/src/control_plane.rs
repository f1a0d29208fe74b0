//! A real control plane without nodes: etcd, kube-apiserver and, where wanted,
//! kube-controller-manager. Enough for everything but running the pods.

mod flags;
mod nodeless;
mod shared;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use tempfile::TempDir;

use crate::certs::Authority;
use crate::{Daemon, Finished, Result, free_port, http, parts, process, wait_until_async};
use flags::{Files, Ports};

pub(crate) use shared::keep_shared;

const START_LIMIT: Duration = Duration::from_secs(90);
const KUBECTL_LIMIT: Duration = Duration::from_secs(60);

/// All state is thrown away, so nothing is worth a graceful stop, which takes
/// the API server eight seconds.
const PATIENCE: Duration = Duration::from_secs(1);

const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";

/// Which programs make up the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controllers {
    /// Deployments make pods, Jobs make pods, namespaces get a ServiceAccount.
    Run,
    /// Only the API server and etcd: ready several seconds earlier, and all that
    /// `KUBEBUILDER_ASSETS` usually has.
    Absent,
}

/// A running control plane on loopback. Dropping it stops all its processes.
#[derive(Debug)]
pub struct ControlPlane {
    /// In order of start.
    daemons: Vec<Daemon>,
    controllers: Controllers,
    url: String,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    authority: Authority,
    files: Files,
    ports: Ports,
    // After the daemons: their data and logs live here.
    directory: TempDir,
}

/// Numbers the namespaces that tests ask for.
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

impl ControlPlane {
    /// The control plane, with controllers, that the tests of this binary share.
    ///
    /// It is started by the first who asks. Under [`crate::main!`] it lives until
    /// the last test has ended; under libtest until nobody holds it.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start`]. A start that failed is not tried again.
    pub fn shared() -> Result<Arc<Self>> {
        shared::shared()
    }

    /// Starts one of its own and waits until the API server is ready and the
    /// namespace `default` has its ServiceAccount.
    ///
    /// # Errors
    ///
    /// When a program is not installed or does not become ready; the message
    /// holds the end of its log.
    pub fn start(controllers: Controllers) -> Result<Self> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::try_start(controllers) {
                // Somebody else took the port between our asking and listening.
                Err(error)
                    if attempts > 0 && format!("{error:#}").contains("address already in use") => {}
                outcome => return outcome,
            }
        }
    }

    fn try_start(controllers: Controllers) -> Result<Self> {
        let directory = process::temporary_folder()?;
        let ports = Ports {
            etcd: free_port()?,
            peer: free_port()?,
            api: free_port()?,
        };
        let authority = Authority::new("outrigger tests")?;
        let files = Files::write(directory.path(), &authority, ports.api)?;
        let mut plane = ControlPlane {
            daemons: Vec::new(),
            controllers,
            url: ports.url(),
            kubeconfig: files.kubeconfig.clone(),
            kubectl: parts::program("kubectl")?,
            authority,
            files,
            ports,
            directory,
        };

        plane.launch("etcd", flags::etcd(&plane.files, &plane.ports))?;
        plane.launch(API_SERVER, flags::api_server(&plane.files, &plane.ports))?;
        plane.wait_ready()?;
        if controllers == Controllers::Run {
            plane.launch(CONTROLLERS, flags::controllers(&plane.files, free_port()?))?;
        }
        plane.wait_service_account()?;
        Ok(plane)
    }

    /// A client of the cluster's administrator. It belongs to the runtime that
    /// it was made in: each test makes its own.
    ///
    /// # Errors
    ///
    /// When the client cannot be built.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig of the cluster's administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the API server is: `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority that signed all its certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The process ids, in order of start.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.daemons.iter().map(Daemon::id).collect()
    }

    /// etcd, to be paused.
    #[must_use]
    pub fn etcd(&self) -> Option<&Daemon> {
        self.daemons.first()
    }

    /// What the API server has logged until now.
    #[must_use]
    pub fn api_server_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("kube-apiserver.log")).unwrap_or_default()
    }

    /// Every request of a ServiceAccount that the API server has answered until now, `kube-system`'s left out, and
    /// every creation of a pod: events of its audit log, with annotations that tell what webhooks did.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.files.audit_log()).context("no audit log")?;
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line: &str| serde_json::from_str(line).context("the audit log is not JSON");
        whole.lines().map(parse).collect()
    }

    /// Runs `kubectl` as the cluster's administrator.
    ///
    /// # Errors
    ///
    /// When it cannot be started; see [`Finished::ok`] for its own.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Finished> {
        self.kubectl_with(arguments, "")
    }

    /// The same with something on standard input, for `apply -f -`.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::kubectl`].
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        let mut command = Command::new(&self.kubectl);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            // Its cache would otherwise be in the user's home.
            .env("KUBECACHEDIR", self.directory.path().join("kubectl"));
        process::run(&command, input.as_bytes(), KUBECTL_LIMIT)
    }

    /// Makes a namespace for one test, with these labels and annotations, in
    /// which pods can be created. Its name starts with `prefix`.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub async fn namespace(
        &self,
        client: &Client,
        prefix: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Result<String> {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{number}");
        let owned = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            )
        };
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: owned(labels),
                annotations: owned(annotations),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        self.service_account(client, &name).await?;
        Ok(name)
    }

    /// Sees to the ServiceAccount without which no pod is admitted.
    async fn service_account(&self, client: &Client, namespace: &str) -> Result {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let what = format!("the default ServiceAccount of {namespace}");
        wait_until_async(&what, START_LIMIT, async || {
            if self.controllers == Controllers::Absent {
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some("default".to_owned()),
                        ..ObjectMeta::default()
                    },
                    ..ServiceAccount::default()
                };
                match accounts.create(&PostParams::default(), &account).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                    outcome => drop(outcome?),
                }
            }
            accounts.get("default").await?;
            Ok(())
        })
        .await
    }

    /// Stops the API server, waits for as long as `pause`, and starts it again on the same port with the same data.
    ///
    /// # Errors
    ///
    /// When it does not become ready again.
    pub fn restart_api_server(&mut self, pause: Duration) -> Result {
        let place = 1; // After etcd.
        drop(self.daemons.remove(place));
        std::thread::sleep(pause);
        self.launch(API_SERVER, flags::api_server(&self.files, &self.ports))?;
        self.wait_ready()?;
        let server = self
            .daemons
            .pop()
            .context("the API server was not started")?;
        self.daemons.insert(place, server);
        Ok(())
    }

    fn launch(&mut self, name: &str, flags: Vec<String>) -> Result {
        let program = match parts::program(name) {
            Err(_) if name == CONTROLLERS && std::env::var_os(parts::ASSETS).is_some() => bail!(
                "this test needs Deployments and Jobs to make pods, and KUBEBUILDER_ASSETS has \
                 no kube-controller-manager: put it there, or unset KUBEBUILDER_ASSETS and run \
                 `cargo xtask test`"
            ),
            program => program?,
        };
        let mut command = Command::new(program);
        command.args(flags).current_dir(self.directory.path());
        let log = self.directory.path().join(format!("{name}.log"));
        self.daemons.push(Daemon::start(&command, &log, PATIENCE)?);
        Ok(())
    }

    fn wait_ready(&mut self) -> Result {
        let url = format!("{}/readyz", self.url);
        let client = http::client(self.authority.certificate(), Some(&self.files.admin))?;
        let server = self
            .daemons
            .last_mut()
            .context("the API server was not started")?;
        let answer = async || -> Result {
            client.get(&url).send().await?.error_for_status()?;
            Ok(())
        };
        let probe = |runtime: &tokio::runtime::Runtime| {
            server.wait_ready(START_LIMIT, || runtime.block_on(answer()))
        };
        match apart(probe) {
            Ok(()) => Ok(()),
            // An API server that waits for etcd does not say why etcd is silent.
            Err(error) => {
                let etcd = self.daemons.first().map(Daemon::log).unwrap_or_default();
                Err(error.context(format!("etcd said:\n{etcd}")))
            }
        }
    }

    fn wait_service_account(&self) -> Result {
        apart(|runtime| {
            runtime.block_on(async {
                let client = self.client().await?;
                self.service_account(&client, "default").await
            })
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            daemon.begin_stop(); // All at once; each is awaited when dropped.
        }
    }
}

/// Runs `body` on a thread of its own with a runtime of its own, because the
/// caller may be inside a runtime, where blocking on another is refused.
fn apart<T: Send>(body: impl FnOnce(&tokio::runtime::Runtime) -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            body(&runtime)
        });
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
