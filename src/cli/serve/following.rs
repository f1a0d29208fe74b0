//! What the webhook learns from its cluster while it serves, and what it does there: watches, the managed certificate,
//! events, audits. Each is a task of its own, and reviews wait for none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Live, ServeCommand};
use crate::admission::Snapshot;
use crate::certificate::Offer;
use crate::cli::options::{Loaded, NativeSidecars};
use crate::cluster;
use crate::cluster::audit;
use crate::cluster::certificates::state::Rules;
use crate::cluster::certificates::{self, Happened, Settings};
use crate::cluster::events::correlator::Limits;
use crate::cluster::events::notice::{Notice, Regarding};
use crate::cluster::events::{Outcome, Recorder};
use crate::profile::{Catalogue, Defaults};
use crate::server::ServerConfig;
use crate::server::metrics::Metrics;
use crate::server::standing::{self, Standings, Topic};

/// The variables in which the chart tells a pod its own name and unique id.
const POD_NAME: &str = "POD_NAME";
const POD_UID: &str = "POD_UID";

/// What is known of the cluster, and what keeps it up to date as long as it is held.
pub(super) struct Following {
    pub(super) live: Live,
    /// Takes events, where there is a cluster and they are wanted.
    pub(super) recorder: Option<Recorder>,
    pub(super) tasks: JoinSet<()>,
}

/// A variable of the environment that is not empty.
fn own(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}

/// What events about the certificate are on: this pod, which whoever wonders why it is not ready describes; else the
/// Secret.
fn regarding(settings: &Settings) -> Regarding {
    let (kind, name, uid) = match (own(POD_NAME), own(POD_UID)) {
        (Some(name), Some(uid)) => ("Pod", name, uid),
        _ => ("Secret", settings.secret.clone(), String::new()),
    };
    Regarding {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: settings.namespace.clone(),
        name,
        uid,
    }
}

/// What there is without a cluster, and where what comes of it is counted.
struct Ours {
    catalogue: Catalogue,
    /// Those for profiles of the cluster.
    defaults: Defaults,
    metrics: Arc<Metrics>,
}

impl ServeCommand {
    /// What reviews see, and, in a cluster, what keeps it up to date as long as it is held.
    pub(super) async fn snapshot(
        &self,
        loaded: Loaded,
        offer: watch::Sender<Offer>,
        config: &ServerConfig,
    ) -> anyhow::Result<Following> {
        let metrics = Arc::clone(&config.metrics);
        let managed = self.managed()?;
        let mut tasks = JoinSet::new();
        let sidecars = self.native_sidecars.into();
        let live = |catalogue| {
            metrics.catalogue_changed(&catalogue);
            Arc::new(ArcSwap::from_pointee(Snapshot {
                catalogue,
                sidecars,
                renderings: Arc::clone(&config.renderings),
                ..Snapshot::default()
            }))
        };
        let Some(client) = cluster::connect(self.kubeconfig.as_deref()).await? else {
            ensure!(
                managed.is_none(),
                "--managed-certificate needs a cluster, and there is none: expected to run in a pod with a service \
                 account's token, or --kubeconfig"
            );
            tracing::info!(target: "cluster", "there is no cluster: profiles are those of files, and nothing is known of namespaces");
            return Ok(Following {
                live: live(loaded.alone()?),
                recorder: None,
                tasks,
            });
        };
        let (catalogue, defaults) = loaded.beside_a_cluster()?;
        let live = live(catalogue.clone());
        let recorder = self.recorder(&client, &metrics, &mut tasks);
        if let Some(settings) = managed {
            let metrics = Arc::clone(&metrics);
            let (recorder, regarding) = (recorder.clone(), regarding(&settings));
            let tell = move |happened| {
                if let Some(recorder) = &recorder
                    && let Some(notice) = Notice::certificate(&happened, &regarding)
                {
                    recorder.record(notice);
                }
                match happened {
                    Happened::Secret(outcome) => metrics.certificate_renewed(outcome),
                    Happened::NotRenewed(_) => metrics.certificate_renewed("failed"),
                    Happened::Bundle(result) => metrics.bundle_written(result),
                    // The metric is the time of its end.
                    Happened::Expired { .. } => {}
                }
            };
            let publish = move |new| {
                offer.send_replace(new);
            };
            tasks.spawn(certificates::manage(
                client.clone(),
                settings,
                publish,
                tell,
            ));
        }
        let ours = Ours {
            catalogue,
            defaults,
            metrics: Arc::clone(&metrics),
        };
        self.follow(&client, ours, &live, &config.standings, &mut tasks);
        if !self.audit_interval.is_zero() {
            let settings = audit::Settings {
                interval: self.audit_interval,
                configurations: self.webhook_configuration.clone(),
            };
            let snapshot = Arc::clone(&live);
            tasks.spawn(audit::follow(
                client,
                settings,
                move || Snapshot::clone(&snapshot.load()),
                move |counts| {
                    let named = |(state, count): (audit::State, u64)| (state.as_str(), count);
                    metrics.audited(counts.map(|counts| counts.map(named)));
                },
            ));
        }
        Ok(Following {
            live,
            recorder,
            tasks,
        })
    }

    /// What writes events, if they are wanted.
    fn recorder(
        &self,
        client: &kube::Client,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) -> Option<Recorder> {
        if self.no_events {
            return None;
        }
        let mut limits = Limits::default();
        if let Some(seconds) = self.event_window_seconds {
            limits.window = Duration::from_secs(seconds);
        }
        let name = own(POD_NAME).or_else(|| own("HOSTNAME"));
        let reporter = name.unwrap_or_else(|| "outrigger".to_owned());
        let metrics = Arc::clone(metrics);
        let tell = move |outcome: Outcome| metrics.event(outcome.as_str());
        let (recorder, writing) = Recorder::new(client.clone(), reporter, limits, tell);
        tasks.spawn(writing);
        Some(recorder)
    }

    /// Keeps what is known of the cluster up to date. Reviews are answered from the start, with what is known by
    /// then; the server is not ready until all of it is, or has been waited for long enough.
    fn follow(
        &self,
        client: &kube::Client,
        ours: Ours,
        live: &Live,
        standings: &Arc<Standings>,
        following: &mut JoinSet<()>,
    ) {
        let Ours {
            catalogue,
            defaults,
            metrics,
        } = ours;
        let snapshot = Arc::clone(live);
        following.spawn(cluster::namespaces::watch(
            client.clone(),
            standings.follow(Topic::Namespaces),
            move |namespaces| {
                snapshot.rcu(|old| Snapshot {
                    namespaces: namespaces.clone(),
                    ..Snapshot::clone(old)
                });
            },
        ));
        let snapshot = Arc::clone(live);
        following.spawn(cluster::profiles::watch(
            client.clone(),
            standings.follow(Topic::Profiles),
            catalogue,
            defaults,
            move |shelved| {
                metrics.profiles_refused(shelved.refused);
                let catalogue = shelved.catalogue;
                if snapshot.load().catalogue.is_same(&catalogue) {
                    return;
                }
                snapshot.rcu(|old| Snapshot {
                    catalogue: catalogue.clone(),
                    ..Snapshot::clone(old)
                });
                metrics.catalogue_changed(&catalogue);
            },
        ));
        if self.native_sidecars == NativeSidecars::Auto {
            let snapshot = Arc::clone(live);
            following.spawn(cluster::version::follow(
                client.clone(),
                standings.follow(Topic::Versions),
                move |sidecars| {
                    snapshot.rcu(|old| Snapshot {
                        sidecars,
                        ..Snapshot::clone(old)
                    });
                },
            ));
        }
        let standings = Arc::clone(standings);
        following.spawn(async move {
            tokio::time::sleep(standing::PATIENCE).await;
            let unknown: Vec<_> = standings.unknown().map(Topic::as_str).collect();
            if !unknown.is_empty() {
                tracing::warn!(target: "cluster", unknown = unknown.join(", "), "ready before all of the cluster is known");
            }
        });
    }

    /// How the certificate is managed, if it is.
    fn managed(&self) -> anyhow::Result<Option<Settings>> {
        let (Some(secret), Some(service)) = (&self.managed_certificate, &self.service) else {
            return Ok(None);
        };
        let namespace = match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => std::fs::read_to_string(cluster::NAMESPACE).with_context(|| {
                format!(
                    "--namespace is not given, and {} cannot be read",
                    cluster::NAMESPACE
                )
            })?,
        };
        let namespace = namespace.trim().to_owned();
        let mut rules = Rules::new(certificates::names(service, &namespace));
        rules.leaf_life = self.certificate_life_seconds.unwrap_or(rules.leaf_life);
        rules.authority_life = self.ca_life_seconds.unwrap_or(rules.authority_life);
        rules.settle = self.ca_settle_seconds.unwrap_or(rules.settle);
        Ok(Some(Settings {
            namespace,
            secret: secret.clone(),
            configurations: self.webhook_configuration.clone(),
            rules,
            clock_offset: self.clock_offset_seconds,
        }))
    }
}
