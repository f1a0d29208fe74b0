//! Drills 24 and 28: another injector, and a cluster that starts from nothing.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use testkit::{Result, wait_until_async};

use super::cluster::{NAME, SECRET};
use super::site::{LIMIT, Site, asking, sidecars};
use crate::editor::Editor;

/// The API server calls webhooks in the order of their configurations' names.
pub(crate) async fn drill_24_two_injectors(site: &mut Site) -> Result {
    site.start(1, &[]).await?;
    let plane = &site.cluster.plane;
    let labels = [("edited", "yes")];
    let namespace = plane
        .namespace(&site.client, "edited", &labels, &[])
        .await?;
    let pods: Api<Pod> = Api::namespaced(site.client.clone(), &namespace);
    for (order, editor) in [("after", "zz-editor"), ("before", "aa-editor")] {
        let registered = Editor::start(plane, editor).await?;
        let name = format!("it-comes-{order}");
        let asked = serde_json::from_value(asking(&name))?;
        let stored = pods.create(&PostParams::default(), &asked).await?;
        let calls = calls(site, &namespace, &name).await?;
        eprintln!("drill 24: the other injector comes {order}: {calls:?}");

        let again = again(stored.clone(), &format!("{name}-again"))?;
        let same = pods.create(&PostParams::default(), &again).await?;
        let second = self::calls(site, &namespace, &format!("{name}-again")).await?;
        drop(registered);

        let ours: Vec<&Call> = calls.iter().filter(|it| it.configuration == NAME).collect();
        let mutated: Vec<bool> = ours.iter().map(|it| it.mutated).collect();
        ensure!(mutated == [true, false], "{calls:#?}");
        ensure!(
            calls
                .iter()
                .any(|it| it.configuration == editor && it.mutated),
            "the other injector did nothing: {calls:#?}"
        );
        let value = serde_json::to_value(&stored)?;
        ensure!(sidecars(&value) == 1, "{value:#}");
        // A fixed point: nobody has anything to add to what came out.
        ensure!(
            !second.is_empty() && second.iter().all(|it| !it.mutated),
            "{second:#?}"
        );
        ensure!(same.spec == stored.spec, "{same:#?}");
    }
    Ok(())
}

/// A call of a mutating webhook, as the API server's audit log tells it.
#[derive(Debug)]
struct Call {
    /// When: `round_ROUND_index_INDEX`. Round 1 is the reinvocation.
    at: String,
    configuration: String,
    mutated: bool,
}

/// The calls at the creation of this pod, in their order.
async fn calls(site: &Site, namespace: &str, pod: &str) -> Result<Vec<Call>> {
    let event = wait_until_async("the audit log", LIMIT, async || {
        let audit = site.cluster.plane.audit()?;
        let it = audit.into_iter().find(|event| {
            let object = &event["objectRef"];
            object["namespace"] == namespace && object["name"] == pod && event["verb"] == "create"
        });
        it.context("the creation is not logged yet")
    })
    .await?;
    let annotations = event["annotations"].as_object().context("no annotations")?;
    let mut calls: Vec<Call> = Vec::new();
    for (key, value) in annotations {
        if let Some(at) = key.strip_prefix("mutation.webhook.admission.k8s.io/") {
            let value: Value = serde_json::from_str(value.as_str().unwrap_or_default())?;
            calls.push(Call {
                at: at.to_owned(),
                configuration: value["configuration"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                mutated: value["mutated"] == true,
            });
        }
    }
    calls.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(calls)
}

/// What came out, as somebody would create it again.
fn again(stored: Pod, name: &str) -> Result<Pod> {
    let mut pod = serde_json::to_value(stored)?;
    pod["metadata"] = json!({
        "name": name,
        "labels": pod["metadata"]["labels"],
        "annotations": pod["metadata"]["annotations"],
    });
    pod["status"] = Value::Null;
    Ok(serde_json::from_value(pod)?)
}

pub(crate) async fn drill_28_everything_is_drained(site: &mut Site) -> Result {
    // Without controllers nobody makes it.
    let plane = &site.cluster.plane;
    let account = ["create", "serviceaccount", "default", "--namespace"];
    let made = plane.kubectl(&[&account[..], &["kube-system"]].concat())?;
    ensure!(
        made.code == 0 || made.stderr.contains("already exists"),
        "{made:?}"
    );
    site.start(2, &[]).await?;
    for keys in ["kept", "deleted"] {
        site.drain().await?;
        if keys == "deleted" {
            site.secrets()
                .delete(SECRET, &DeleteParams::default())
                .await?;
        }
        let refused = site.create(&format!("too-early-{keys}")).await;
        let error = refused.err().context("a pod that asks was let through")?;
        ensure!(error.to_string().contains("pods.outrigger.dev"), "{error}");

        let own = site
            .pod_of_the_release()
            .await
            .context("the webhook's own pod was refused")?;
        site.delete_pod(&own.metadata.name.unwrap_or_default())
            .await?;
        // Even one that asks.
        let system: Api<Pod> = Api::namespaced(site.client.clone(), "kube-system");
        let asked = serde_json::from_value(asking(&format!("dns-{keys}")))?;
        let stored = system
            .create(&PostParams::default(), &asked)
            .await
            .context("a pod of kube-system was refused")?;
        ensure!(sidecars(&serde_json::to_value(stored)?) == 0);

        let start = Instant::now();
        site.start(2, &[]).await?;
        eprintln!(
            "drill 28: with the Secret {keys}: its own pods and kube-system's were admitted, others injected {:?} \
             after two replicas were started",
            start.elapsed()
        );
        ensure!(sidecars(&site.create(&format!("in-time-{keys}")).await?) == 1);
    }
    Ok(())
}
