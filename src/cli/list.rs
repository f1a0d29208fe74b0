//! `outrigger list`: what is injected where, and what is stale or missed.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use owo_colors::OwoColorize;
use serde_json::{Value as Json, json};

use super::options::{CatalogueOptions, ClusterOptions};
use crate::cluster::audit::{Facts, Group, Had, Pods, Reach, Report, State, UNFINISHED, pages};
use crate::cluster::{is_status, namespaces, profiles, registration, said};

/// List what is injected where in a cluster, and what is stale or missed
///
/// Stale pods have sidecars of an older revision of a profile. Missed ones asked for sidecars and have none: they
/// were created before the webhook, or while it was away. Both are put right when they are created again, as by
/// `kubectl rollout restart`. Finished pods are left out.
#[derive(Debug, Args)]
pub struct ListCommand {
    /// The namespace to look at. Default: that of the kubeconfig's context
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Look at all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only workloads with sidecars of an older revision; with --missed, both
    #[arg(long)]
    stale: bool,
    /// Only workloads that lack what they asked for; with --stale, both
    #[arg(long)]
    missed: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
    #[command(flatten)]
    catalogue: CatalogueOptions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table, for people
    #[default]
    Table,
    /// JSON, for programs
    Json,
}

/// What was found, and what could not be looked at.
struct Found {
    report: Report,
    /// Where it was looked; none for everywhere.
    namespace: Option<String>,
    notes: Vec<String>,
}

impl ListCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A cluster that cannot be asked, profiles that cannot be read, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let found = self.cluster.with_client(async |client, _| {
            let namespace = match &self.namespace {
                _ if self.all_namespaces => None,
                Some(namespace) => Some(namespace.clone()),
                None => Some(client.default_namespace().to_owned()),
            };
            find(&client, &self.catalogue, namespace).await
        })?;
        for note in &found.notes {
            anstream::eprintln!("note: {note}");
        }
        let mut rows: Vec<_> = found
            .report
            .0
            .iter()
            .filter(|(group, _)| self.shows(group))
            .collect();
        // By place first; in the report the state comes before what was injected.
        rows.sort_by_key(|(group, _)| (&group.namespace, &group.workload, group.state));
        match self.output {
            Output::Json => {
                let all: Vec<_> = rows
                    .iter()
                    .map(|(group, pods)| record(group, pods))
                    .collect();
                writeln!(out, "{:#}", Json::Array(all))?;
            }
            Output::Table if rows.is_empty() => {
                anstream::eprintln!("{}", self.nothing(found.namespace.as_deref()))
            }
            Output::Table => out.write_all(table(&rows).as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn shows(&self, group: &Group) -> bool {
        match (self.stale, self.missed) {
            (false, false) => true,
            (stale, missed) => {
                // A pod that lacks something may have something old as well.
                stale && group.instances.iter().any(Had::is_stale)
                    || missed && group.state == State::Missed
            }
        }
    }

    fn nothing(&self, namespace: Option<&str>) -> String {
        let what = match (self.stale, self.missed) {
            (false, false) => "no pod has sidecars or asks for some",
            (true, false) => "no pod has sidecars of an older revision",
            (false, true) => "no pod lacks what it asked for",
            (true, true) => "no pod is stale or missed",
        };
        match namespace {
            Some(namespace) => format!("{what} in the namespace {namespace:?}"),
            None => what.to_owned(),
        }
    }
}

async fn find(
    client: &Client,
    catalogue: &CatalogueOptions,
    namespace: Option<String>,
) -> anyhow::Result<Found> {
    let mut notes = Vec::new();
    let (catalogue, defaults) = catalogue.read()?.beside_a_cluster()?;
    let mut facts = Facts {
        catalogue,
        ..Facts::default()
    };
    match profiles::list(client, defaults).await {
        Ok(stored) => {
            for profile in stored {
                match (profile.compiled, profile.serving) {
                    (Ok(entry), _) => facts.catalogue.insert(entry),
                    // The last good version is known by its revision alone.
                    (Err(_), Some(revision)) => {
                        facts.serving.insert(profile.name, revision);
                    }
                    (Err(_), None) => {}
                }
            }
        }
        Err(error) if is_status(&error, 404) => {
            notes.push("there is no CustomResourceDefinition of SidecarProfile: only built-in profiles and those of --profiles are known".to_owned());
        }
        Err(error) if is_status(&error, 403) => {
            notes.push(format!("SidecarProfiles cannot be listed, so only built-in profiles and those of --profiles are known: {}", said(&error)));
        }
        Err(error) => return Err(error).context("SidecarProfiles cannot be listed"),
    }
    let known = match namespaces::list(client, namespace.as_deref()).await {
        Ok(known) => Some(known),
        Err(error) if is_status(&error, 403) => {
            notes.push(format!(
                "namespaces cannot be read, so their defaults do not count: {}",
                said(&error)
            ));
            None
        }
        Err(error) if is_status(&error, 404) => {
            anyhow::bail!("--namespace: {}", said(&error));
        }
        Err(error) => return Err(error).context("namespaces cannot be listed"),
    };
    facts.namespaces = known.as_ref();
    match registration::of_pods(client).await {
        Ok(hooks) if hooks.is_empty() => {
            notes.push("no webhook of Outrigger is registered; see outrigger check".to_owned());
        }
        Ok(hooks) => {
            facts.reach = Reach::new(&hooks);
        }
        Err(error) => notes.push(format!("webhook configurations cannot be listed, so all namespaces but those of the control plane count: {}", said(&error))),
    }
    let pods: Api<Pod> = match &namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut report = Report::default();
    let fields = ListParams::default().fields(UNFINISHED);
    pages(&pods, fields, Duration::ZERO, |pod| {
        report.add(&facts, &pod);
    })
    .await
    .context(
        "pods cannot be listed; the right that it takes is \"list\" on pods, in the namespace that is looked at",
    )?;
    let mut unknown: Vec<_> = report
        .0
        .keys()
        .flat_map(|group| &group.instances)
        .filter(|had| had.current.is_none())
        .map(|had| had.profile.as_str())
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        notes.push(format!(
            "whether these profiles are of an older revision cannot be told, because they are not known here: {}; if the webhook has them from files, give --profiles",
            unknown.join(", ")
        ));
    }
    Ok(Found {
        report,
        namespace,
        notes,
    })
}

fn record(group: &Group, pods: &Pods) -> Json {
    let instances: Vec<_> = group
        .instances
        .iter()
        .map(|had| {
            json!({
                "instance": had.instance, "profile": had.profile, "revision": had.revision,
                "currentRevision": had.current, "stale": had.is_stale(),
            })
        })
        .collect();
    json!({
        "namespace": group.namespace,
        "workload": group.workload,
        "pods": pods.count,
        "oldest": pods.oldest.map(|time| time.to_string()),
        "state": group.state.as_str(),
        "instances": instances,
        "missed": group.missed,
    })
}

/// The table, with colours: whoever prints it takes them away where they do not belong.
fn table(rows: &[(&Group, &Pods)]) -> String {
    let heads = ["NAMESPACE", "WORKLOAD", "PODS", "INSTANCES", "REVISION"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|(group, pods)| {
            [
                group.namespace.clone(),
                group.workload.clone(),
                pods.count.to_string(),
                joined(&group.instances, Had::title),
                joined(&group.instances, revision),
            ]
        })
        .collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = cells.iter().map(|row| row[column].chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &[String], last: &str| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        format!("{text}{last}\n")
    };
    let mut text = line(&heads.map(str::to_owned), "STATE");
    for ((group, _), cells) in rows.iter().zip(&cells) {
        let state = match group.state {
            State::Injected => "injected".green().to_string(),
            State::Stale => "stale".yellow().to_string(),
            State::Missed => format!("{}: {}", "missed".red(), group.missed.join(", ")),
        };
        text.push_str(&line(cells, &state));
    }
    text
}

/// The revision that a pod has, and which it would get instead.
fn revision(had: &Had) -> String {
    match &had.current {
        Some(current) if had.is_stale() => format!("{} (now {current})", had.revision),
        _ => had.revision.clone(),
    }
}

fn joined(instances: &[Had], text: impl Fn(&Had) -> String) -> String {
    if instances.is_empty() {
        return "-".to_owned();
    }
    let all: Vec<_> = instances.iter().map(text).collect();
    all.join(", ")
}
