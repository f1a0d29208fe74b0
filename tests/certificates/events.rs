//! Kubernetes events, written with the rights of the release's account, as people see them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use testkit::{ControlPlane, Result, wait_until_async};

use super::kit::{LIMIT, Release, Replica};
use crate::{installed, wait_called};

/// The events that we wrote in a namespace, oldest first.
pub(crate) async fn ours(release: &Release, namespace: &str) -> Result<Vec<Event>> {
    let events: Api<Event> = Api::namespaced(release.plane().client().await?, namespace);
    let mut events = events.list(&ListParams::default()).await?.items;
    events.retain(|event| event.reporting_controller.as_deref() == Some("outrigger"));
    events.sort_by(|one, other| one.event_time.cmp(&other.event_time));
    Ok(events)
}

/// How often it was seen, as the API server knows.
fn count(event: &Event) -> i32 {
    event.series.as_ref().map_or(1, |series| series.count)
}

async fn written(replica: &Replica, result: &str) -> Result<f64> {
    let sample = format!(r#"outrigger_events_total{{result="{result}"}}"#);
    replica.metric(&sample).await
}

/// A pod that is refused, with this profile named in the refusal; of an owner or of nobody.
fn refused(name: &str, profile: &str, owner: Option<&Value>) -> Result<Pod> {
    let owners: Vec<&Value> = owner.into_iter().collect();
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "annotations": {"outrigger.dev/inject": profile}, "ownerReferences": owners,
        },
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
    }))?)
}

pub(crate) async fn owners_of_denied_pods_are_told_once() -> Result {
    let flags = ["--event-window-seconds=2"];
    let (release, mut replica) = installed("denials", &flags).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {
                    "outrigger.dev/inject": "envoy-tls",
                    "envoy-tls.outrigger.dev/secret": "web-tls",
                    "envoy-tls.outrigger.dev/listen-prot": "8443",
                    "envoy-tls.outrigger.dev/upstream-port": "99999",
                }},
                "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
            },
        },
    });
    let apply = ["apply", "--namespace", &release.pods, "-f", "-"];
    let applied = release
        .plane()
        .kubectl_with(&apply, &deployment.to_string())?;
    ensure!(applied.code == 0, "{applied:?}");

    let denied = r#"outrigger_admission_reviews_total{webhook="mutate",outcome="denied",reason="UnknownParameter"}"#;
    // The controller tries again and again, and what it does is counted in one event.
    let event = wait_until_async("an event that counts", LIMIT, async || {
        let events = ours(&release, &release.pods).await?;
        let [event] = &events[..] else {
            anyhow::bail!("{} events: {events:#?}", events.len());
        };
        ensure!(count(event) >= 6, "seen {} times", count(event));
        Ok(event.clone())
    })
    .await?;
    let reviews = replica.metric(denied).await?;
    let writes = written(&replica, "written").await?;
    ensure!(
        reviews >= 6.0 && writes < reviews,
        "{reviews} denials, {writes} writes"
    );
    ensure!(written(&replica, "failed").await? == 0.0);
    ensure!(event.reason.as_deref() == Some("UnknownParameter"));
    ensure!(event.type_.as_deref() == Some("Warning"));
    let regarding = event.regarding.clone().context("it regards nothing")?;
    ensure!(regarding.kind.as_deref() == Some("ReplicaSet"));

    // What its author sees.
    let describe = [
        "describe",
        "replicaset",
        "--selector=app=web",
        "--namespace",
        &release.pods,
    ];
    let described = release.plane().kubectl(&describe)?.ok()?;
    eprintln!("{described}");
    let line = described
        .lines()
        .find(|line| line.contains("UnknownParameter"))
        .context(described.clone())?;
    for part in [
        "Warning",
        "outrigger",
        "2 problems",
        "did you mean \"listen-port\"?",
        "upstream-port: given \"99999\", expected an integer from 1 to 65535",
    ] {
        ensure!(line.contains(part), "{part}: {line}");
    }

    // Another process, which remembers nothing, goes on with the same event.
    let before = count(&event);
    replica.daemon.stop();
    drop(replica);
    let replica = release.start(true, &flags).await?;
    replica.wait_ready().await?;
    wait_called(&release).await?;
    let scale = [
        "scale",
        "deployment/web",
        "--replicas=3",
        "--namespace",
        &release.pods,
    ];
    release.plane().kubectl(&scale)?.ok()?;
    wait_until_async("the event to count on", LIMIT, async || {
        let events = ours(&release, &release.pods).await?;
        ensure!(events.len() == 1, "{events:#?}");
        ensure!(count(&events[0]) > before, "still {}", count(&events[0]));
        Ok(())
    })
    .await?;

    // Nobody is told of a dry run, nor of a pod that nobody owns. What is asked for after both is told.
    let owner = json!({
        "apiVersion": regarding.api_version, "kind": regarding.kind, "name": regarding.name, "uid": regarding.uid,
        "controller": true,
    });
    let pods: Api<Pod> = Api::namespaced(release.plane().client().await?, &release.pods);
    let (dry, real) = (
        PostParams {
            dry_run: true,
            ..PostParams::default()
        },
        PostParams::default(),
    );
    for (params, pod) in [
        (&dry, refused("dry", "asked-dry", Some(&owner))?),
        (&real, refused("orphan", "asked-by-nobody", None)?),
        (&real, refused("owned", "asked-by-owner", Some(&owner))?),
    ] {
        let answer = pods.create(params, &pod).await;
        ensure!(
            answer.is_err_and(|error| error.to_string().contains("denied the request")),
            "{pod:?}"
        );
    }
    wait_until_async("the event of the last", LIMIT, async || {
        let events = ours(&release, &release.pods).await?;
        let notes: Vec<&str> = events.iter().filter_map(|it| it.note.as_deref()).collect();
        ensure!(
            events.len() == 2 && notes[1].contains("asked-by-owner"),
            "{notes:?}"
        );
        Ok(())
    })
    .await?;

    // Without the right to write events pods are refused all the same, and each event is tried once.
    let binding = format!("{}-events", release.name);
    release.kubectl(&["delete", "clusterrolebinding", &binding])?;
    let mut number = 0;
    wait_until_async("an event to be dropped", LIMIT, async || {
        number += 1;
        let profile = format!("asked-without-right-{number}");
        let answer = pods
            .create(&real, &refused("barred", &profile, Some(&owner))?)
            .await;
        ensure!(answer.is_err_and(|error| error.to_string().contains(&profile)));
        ensure!(written(&replica, "dropped").await? > 0.0, "none yet");
        Ok(())
    })
    .await?;
    wait_until_async("each attempt to be the last", LIMIT, async || {
        let (failed, dropped) = (
            written(&replica, "failed").await?,
            written(&replica, "dropped").await?,
        );
        ensure!(
            failed == dropped,
            "{failed} attempts failed, {dropped} were the last"
        );
        Ok(())
    })
    .await?;

    // Switched off, nothing is written.
    let before = ours(&release, &release.pods).await?.len();
    drop(replica);
    let replica = release.start(true, &["--no-events"]).await?;
    replica.wait_ready().await?;
    wait_called(&release).await?;
    let answer = pods
        .create(&real, &refused("off", "asked-in-vain", Some(&owner))?)
        .await;
    ensure!(answer.is_err(), "it is not refused");
    for result in ["written", "failed", "dropped"] {
        ensure!(written(&replica, result).await? == 0.0, "{result}");
    }
    ensure!(ours(&release, &release.pods).await?.len() == before);
    Ok(())
}

/// Drill 8, while it runs: the right to write the Secret is taken away until the certificate has ended.
pub(crate) async fn a_certificate_that_cannot_be_renewed_is_told_on_the_pod() -> Result {
    let release = Arc::new(Release::new(ControlPlane::shared()?, "barred").await?);
    release.install().await?;
    // The pod that this process would be.
    let pod = wait_until_async("a pod of the release", LIMIT, async || {
        let path = "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}";
        let pod = release.kubectl(&["get", "pods", "-o", path])?;
        let (name, uid) = pod.split_once(' ').context("none yet")?;
        ensure!(!name.is_empty(), "none yet");
        Ok((name.to_owned(), uid.to_owned()))
    })
    .await?;
    let variables = [("POD_NAME", &*pod.0), ("POD_UID", &*pod.1)];
    let flags = ["--certificate-life-seconds=9", "--event-window-seconds=2"];
    let replica = release.start_with(true, &flags, &variables).await?;
    replica.wait_ready().await?;
    let role = format!("{}-certificate", release.name);
    let binding = release.kubectl(&["get", "rolebinding", &role, "-o", "json"])?;
    let mut binding: Value = serde_json::from_str(&binding)?;
    let metadata = binding["metadata"].as_object_mut();
    metadata
        .context("no metadata")?
        .retain(|key, _| ["name", "namespace"].contains(&key.as_str()));
    release.kubectl(&["delete", "rolebinding", &role])?;

    let described = wait_until_async("the events", LIMIT, async || {
        let described = release.kubectl(&["describe", "pod", &pod.0])?;
        for reason in ["CACreated", "CertificateNotRenewed", "CertificateExpired"] {
            ensure!(described.contains(reason), "{reason}: {described}");
        }
        Ok(described)
    })
    .await?;
    eprintln!("{described}");
    let (status, text) = replica.readiness().await?;
    ensure!(status == 503, "{text}");
    let events = ours(&release, &release.namespace).await?;
    let of = |reason: &str| {
        let of_reason = events
            .iter()
            .filter(|it| it.reason.as_deref() == Some(reason));
        of_reason.collect::<Vec<_>>()
    };
    ensure!(of("CertificateExpired").len() == 1, "{events:#?}");
    let failed = of("CertificateNotRenewed");
    ensure!(failed.len() == 1, "{events:#?}");
    let note = failed[0].note.as_deref().unwrap_or_default();
    ensure!(
        note.contains("cannot patch resource \"secrets\"") && note.len() < 400,
        "{note}"
    );

    // By itself, as soon as it may.
    let create = ["create", "-f", "-"];
    release
        .plane()
        .kubectl_with(&create, &binding.to_string())?
        .ok()?;
    replica.wait_ready().await?;
    wait_called(&release).await
}
