//! The examples of the gallery, applied to a real API server: what it stores is what `after.yaml` shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use outrigger::manifest::Stream;
use outrigger::profile::parameter::quantity::Quantity;
use serde_json::{Map, Value, json};
use testkit::{Result, wait_until_async};

use super::webhook::Webhook;

/// Controllers that are refused try again with growing pauses.
const LIMIT: Duration = Duration::from_secs(90);

/// Examples that a restricted namespace refuses, for what they are about: a directory of the node, a privileged
/// container, a container that is root to give files away.
const NOT_RESTRICTED: [&str; 3] = ["15-", "21-", "22-"];

/// An example's folder.
pub(crate) struct Example {
    pub(crate) name: String,
    folder: PathBuf,
}

/// All examples, in order.
pub(crate) fn examples() -> Result<Vec<Example>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        if folder.is_dir() {
            let name = folder.file_name().context("a folder has no name")?;
            let name = name.to_string_lossy().into_owned();
            found.push(Example { name, folder });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The files of that name that some examples have.
pub(crate) fn files(name: &str) -> Result<Vec<PathBuf>> {
    let paths = examples()?
        .into_iter()
        .map(|example| example.folder.join(name));
    Ok(paths.filter(|path| path.exists()).collect())
}

/// The administrator's defaults of all examples together.
pub(crate) fn defaults() -> Result<Value> {
    let mut all = Map::new();
    for path in files("defaults.yaml")? {
        let defaults: Value = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
        for (profile, values) in defaults["profileDefaults"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let before = all.insert(profile.clone(), values.clone());
            ensure!(before.is_none(), "two examples set defaults of {profile}");
        }
    }
    Ok(json!({"profileDefaults": all}))
}

impl Example {
    /// Applies the workload in a namespace of its own, restricted where it can be, and compares the pod that is
    /// stored with the one that is shown.
    pub(crate) async fn check(&self, webhook: &Webhook) -> Result {
        let mut labels: Vec<(String, String)> = Vec::new();
        let namespace = self.folder.join("namespace.yaml");
        if namespace.exists() {
            let namespace: Value = serde_saphyr::from_str(&fs::read_to_string(namespace)?)?;
            for (key, value) in namespace["metadata"]["labels"]
                .as_object()
                .into_iter()
                .flatten()
            {
                labels.push((
                    key.clone(),
                    value.as_str().context("a label is no text")?.to_owned(),
                ));
            }
        }
        if !NOT_RESTRICTED
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
        {
            for (key, value) in [("enforce", "restricted"), ("enforce-version", "latest")] {
                labels.push((
                    format!("pod-security.kubernetes.io/{key}"),
                    value.to_owned(),
                ));
            }
        }
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let namespace = webhook.namespace("example", &labels).await?;
        let file = self.folder.join("workload.yaml").display().to_string();
        let after = fs::read(self.folder.join("after.yaml"))?;
        let after =
            Stream::parse("after.yaml", &after).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let workloads = after.workloads("default");
        let [shown] = workloads.as_slice() else {
            bail!("expected one workload");
        };
        wait_until_async("the workload to be taken", LIMIT, async || {
            webhook
                .plane()
                .kubectl(&["apply", "--namespace", &namespace, "-f", &file])?
                .ok()
                .map(drop)
        })
        .await?;
        if shown.kind == "CronJob" {
            // Now, not at its next turn.
            let from = format!("--from=cronjob/{}", shown.name);
            webhook
                .plane()
                .kubectl(&["create", "job", "now", "--namespace", &namespace, &from])?
                .ok()?;
        }
        let pods: Api<Pod> = Api::namespaced(webhook.plane().client().await?, &namespace);
        let stored = wait_until_async("its pod", LIMIT, async || {
            let found = pods.list(&ListParams::default()).await?.items;
            match found.into_iter().next() {
                Some(pod) => Ok(serde_json::to_value(pod)?),
                None => {
                    let events =
                        webhook
                            .plane()
                            .kubectl(&["get", "events", "--namespace", &namespace])?;
                    bail!("there is none:\n{}", events.stdout);
                }
            }
        })
        .await?;
        let mut missing = Vec::new();
        for part in ["annotations", "labels"] {
            within(
                &shown.pod["metadata"][part],
                &stored["metadata"][part],
                part,
                &mut missing,
            );
        }
        within(&shown.pod["spec"], &stored["spec"], "spec", &mut missing);
        ensure!(missing.is_empty(), "{}", missing.join("\n"));
        for list in ["initContainers", "containers"] {
            let count = |pod: &Value| pod["spec"][list].as_array().map_or(0, Vec::len);
            ensure!(
                count(shown.pod) == count(&stored),
                "{list} differ in number: {stored:#}"
            );
        }
        Ok(())
    }
}

/// Notes everything of `shown` that is not in `stored`, which the API server has added its defaults to.
fn within(shown: &Value, stored: &Value, path: &str, missing: &mut Vec<String>) {
    match (shown, stored) {
        (Value::Object(shown), Value::Object(stored)) => {
            for (key, value) in shown {
                let stored = stored.get(key).unwrap_or(&Value::Null);
                within(value, stored, &format!("{path}.{key}"), missing);
            }
        }
        (Value::Array(shown), Value::Array(stored)) => {
            for (index, item) in shown.iter().enumerate() {
                let other = match item["name"].as_str() {
                    // The API server adds items of its own in between.
                    Some(name) => {
                        let same = |other: &&Value| {
                            other["name"] == name
                                && item
                                    .get("mountPath")
                                    .is_none_or(|path| other["mountPath"] == *path)
                        };
                        stored.iter().find(same)
                    }
                    None => stored.get(index),
                };
                let path = format!("{path}[{index}]");
                within(item, other.unwrap_or(&Value::Null), &path, missing);
            }
        }
        // What is empty or false is not stored.
        (empty, Value::Null) if is_default(empty) => {}
        (Value::String(one), Value::String(other)) if same_quantity(one, other) => {}
        (one, other) if one == other => {}
        (one, other) => missing.push(format!("{path}: shown {one}, stored {other}")),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn same_quantity(one: &str, other: &str) -> bool {
    matches!((Quantity::parse(one), Quantity::parse(other)), (Ok(one), Ok(other)) if one == other)
}
