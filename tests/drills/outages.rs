//! Drills 11 to 14 and 25: the API server, etcd, or what is stored in them, fails.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use testkit::balancer::Traffic;
use testkit::daemon::Signal;
use testkit::{Result, wait_until_async};

use super::cluster::{NAME, SECRET};
use super::load::Load;
use super::long;
use super::site::{LIMIT, Site, asking, sidecars};

/// The pauses between two tries of a watch grow to about half a minute.
const RESUMED: Duration = Duration::from_secs(60);

pub(crate) async fn drill_11_the_api_server_restarts(site: &mut Site) -> Result {
    site.broken = true;
    site.start(1, &[]).await?;
    apply(site, "before")?;
    wait_serves(site, "before", LIMIT).await?;
    let pause = Duration::from_secs(if long() { 60 } else { 2 });
    site.restart_api_server(pause)?;
    // Nothing was forgotten, from the first answer on.
    wait_serves(site, "before", LIMIT).await?;
    let resumed = Instant::now();
    apply(site, "after")?;
    wait_serves(site, "after", RESUMED).await?;
    eprintln!(
        "drill 11: a profile applied after the restart served {:?} later",
        resumed.elapsed()
    );
    Ok(())
}

/// How much the most that was ever resident may grow by a relist. The old list serves while the new one is read, so
/// what a list takes may be there twice; but it is a part of the process only, and nothing may be there more often.
const SPIKE: f64 = 1.5;

pub(crate) async fn drill_12_the_watch_is_cut(site: &mut Site) -> Result {
    site.broken = true;
    let (profiles, namespaces) = if long() { (500, 5000) } else { (50, 500) };
    fill(site, profiles, namespaces).await?;
    site.start(1, &[]).await?;
    apply(site, "before")?;
    wait_serves(site, "before", LIMIT).await?;
    let first = [
        site.replicas[0].daemon.memory("VmRSS")?,
        site.replicas[0].daemon.memory("VmHWM")?,
    ];

    let pause = Duration::from_secs(if long() { 600 } else { 4 });
    for (what, traffic) in [("cut", Traffic::Cut), ("stalled", Traffic::Stalled)] {
        let load = Load::start(site, Duration::from_millis(100));
        site.api.set_traffic(traffic);
        let during = format!("while-{what}");
        apply(site, &during)?;
        tokio::time::sleep(pause).await;
        asks_for(site, "before")
            .await
            .context("the last good catalogue does not serve")?;
        let told = asks_for(site, &during).await;
        ensure!(told.is_err(), "it was not {what}");
        let stale = site.replicas[0].metric(STALE).await?;
        // What is silent for less than a watch's usual pause is not stale.
        ensure!(stale > 300.0 || !long(), "stale for {stale} s only");
        site.replicas[0].wait_ready(LIMIT).await?;
        site.api.set_traffic(Traffic::Flows);
        let back = Instant::now();
        wait_serves(site, &during, RESUMED).await?;
        eprintln!(
            "drill 12: {what} for {pause:?}, stale for {stale} s; a profile applied meanwhile served {:?} after it",
            back.elapsed()
        );
        let stale = site.replicas[0].metric(STALE).await?;
        ensure!(stale == 0.0, "stale for {stale} s afterwards");
        load.end()
            .await?
            .none_failed(&format!("drill 12, {what}"), 10)?;
    }

    // A restarted API server remembers no history, so everything is listed again.
    let lists = site.replicas[0].daemon.log().matches(KNOWN).count();
    site.api.set_traffic(Traffic::Cut);
    site.restart_api_server(Duration::from_secs(1))?;
    apply(site, "at-last")?;
    site.cluster
        .plane
        .kubectl(&["create", "namespace", "at-last"])?
        .ok()?;
    site.api.set_traffic(Traffic::Flows);
    wait_serves(site, "at-last", RESUMED).await?;
    wait_until_async("namespaces to be listed again", RESUMED, async || {
        let log = site.replicas[0].daemon.log();
        ensure!(log.matches(KNOWN).count() > lists, "{log}");
        Ok(())
    })
    .await?;
    let last = [
        site.replicas[0].daemon.memory("VmRSS")?,
        site.replicas[0].daemon.memory("VmHWM")?,
    ];
    let grown = last[1] as f64 / first[1] as f64;
    eprintln!(
        "drill 12: {profiles} profiles, {namespaces} namespaces: resident {} KiB (at most {}) before, {} KiB (at \
         most {}) after a relist: {grown:.2} times",
        first[0], first[1], last[0], last[1]
    );
    ensure!(grown < SPIKE, "{grown:.2} times as much was resident");
    Ok(())
}

const STALE: &str = "outrigger_watch_staleness_seconds{watch=\"profiles\"}";
/// What a replica says when it has a complete list.
const KNOWN: &str = "namespaces are known";

pub(crate) async fn drill_13_the_definition_of_profiles_is_deleted(site: &mut Site) -> Result {
    site.broken = true;
    site.start(1, &[]).await?;
    apply(site, "kept")?;
    wait_serves(site, "kept", LIMIT).await?;
    let delete = [
        "delete",
        "crd",
        "sidecarprofiles.outrigger.dev",
        "--wait=false",
    ];
    site.cluster.plane.kubectl(&delete)?.ok()?;
    wait_until_async("the webhook to say so", LIMIT, async || {
        let log = site.replicas[0].daemon.log();
        ensure!(
            log.contains("the watch of profiles is interrupted")
                || log.contains("the definition of profiles"),
            "{log}"
        );
        Ok(())
    })
    .await?;
    site.replicas[0].wait_ready(LIMIT).await?;
    let built_in = site.create("built-in").await?;
    ensure!(
        sidecars(&built_in) == 1,
        "a built-in profile does not serve"
    );
    asks_for(site, "kept")
        .await
        .context("the last good catalogue was not kept")?;
    eprintln!(
        "drill 13: it was said in the log, and the profile that was deleted with its definition serves on"
    );
    Ok(())
}

pub(crate) async fn drill_14_an_invalid_profile_gets_in(site: &mut Site) -> Result {
    site.broken = true;
    site.start(1, &[]).await?;
    apply(site, "good")?;
    wait_serves(site, "good", LIMIT).await?;
    let broken = profile("good").replace("summary:", "colour: red\n  summary:");
    let apply = ["apply", "-f", "-"];
    let refused = site.cluster.plane.kubectl_with(&apply, &broken)?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("spec.colour: unknown field"),
        "{refused:?}"
    );
    // As if the validating webhook had been away.
    site.cluster
        .plane
        .kubectl(&["delete", "validatingwebhookconfiguration", NAME])?
        .ok()?;
    wait_until_async("it to get in", LIMIT, async || {
        site.cluster.plane.kubectl_with(&apply, &broken)?.ok()
    })
    .await?;
    let told = wait_until_async("the condition", LIMIT, async || {
        let condition = "jsonpath={.status.conditions[0]}";
        let get = ["get", "sidecarprofile", "good", "-o", condition];
        let told = site.cluster.plane.kubectl(&get)?.ok()?;
        ensure!(
            told.contains("\"status\":\"False\"") && told.contains("spec.colour: unknown field"),
            "{told}"
        );
        Ok(told)
    })
    .await?;
    asks_for(site, "good")
        .await
        .context("the last good version does not serve")?;
    eprintln!("drill 14: refused at apply; when it got in its condition was {told}");
    Ok(())
}

/// Creations fail while etcd is away, whatever a webhook does; what counts is what the webhook does.
pub(crate) async fn drill_25_etcd_is_paused(site: &mut Site) -> Result {
    site.broken = true;
    site.start(2, &[]).await?;
    site.wait_published(LIMIT).await?;
    let before = state(site).await?;
    let known = requests(site)?;
    ensure!(!known.is_empty(), "the audit log tells of no replica");
    let pause = Duration::from_secs(if long() { 30 } else { 8 });
    let start = Instant::now();
    let etcd = site.cluster.plane.etcd().context("no etcd")?;
    etcd.signal(Signal::STOP)?;
    tokio::time::sleep(pause).await;
    etcd.signal(Signal::CONT)?;
    let back = Instant::now();
    site.wait_injecting(LIMIT).await?;
    let well = back.elapsed();
    // What comes late is a part of it.
    tokio::time::sleep(Duration::from_secs(if long() { 30 } else { 4 })).await;
    let seconds = start.elapsed().as_secs();
    let all = requests(site)?;
    let new: Vec<_> = all.difference(&known).collect();
    eprintln!(
        "drill 25: paused for {pause:?}, injected {well:?} after it; {} requests by 2 replicas in {seconds} s",
        new.len()
    );
    // One a second and replica, and each of the seven watches taken up once, with a list.
    let most = 2 * (usize::try_from(seconds)? + 14);
    ensure!(
        new.len() <= most,
        "{} requests, at most {most} expected: {new:#?}",
        new.len()
    );
    ensure!(well < Duration::from_secs(10), "well only after {well:?}");
    ensure!(
        state(site).await? == before,
        "the Secret or a registration was written"
    );
    for replica in &mut site.replicas {
        ensure!(replica.daemon.ended()?.is_none(), "a replica has ended");
        let (status, text) = replica.readiness().await?;
        ensure!(status == 200, "{text}");
    }
    Ok(())
}

/// The versions of what replicas write: the Secret and the registrations.
async fn state(site: &Site) -> Result<Vec<String>> {
    let secret = site.secrets().get(SECRET).await?;
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let versions = "jsonpath={.items[*].metadata.resourceVersion}";
    let others = site
        .cluster
        .plane
        .kubectl(&["get", kinds, "-o", versions])?
        .ok()?;
    Ok(vec![
        secret.metadata.resource_version.unwrap_or_default(),
        others,
    ])
}

/// Every request of a replica until now: its number, and what it was.
fn requests(site: &Site) -> Result<BTreeSet<String>> {
    let ours = |event: &&Value| {
        let user = &event["user"]["extra"]["authentication.kubernetes.io/pod-name"];
        let pod = user[0].as_str().unwrap_or_default();
        site.replicas.iter().any(|replica| replica.pod == pod)
    };
    let text = |event: &Value| {
        let [id, verb, uri] = ["auditID", "verb", "requestURI"].map(|key| event[key].to_string());
        format!("{id} {verb} {uri}")
    };
    let audit = site.cluster.plane.audit()?;
    Ok(audit.iter().filter(ours).map(text).collect())
}

fn profile(name: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: {name}}}\nspec:\n  \
         summary: Says hello.\n  containers:\n  - name: ${{instance}}\n    image: registry.example.com/greeter:1\n    \
         resources: {{limits: {{cpu: 10m, memory: 16Mi}}}}\n"
    )
}

fn apply(site: &Site, name: &str) -> Result {
    site.cluster
        .plane
        .kubectl_with(&["apply", "-f", "-"], &profile(name))?
        .ok()
        .map(drop)
}

/// Creates so many profiles, and namespaces with 4 KiB of annotations each.
async fn fill(site: &Site, profiles: usize, namespaces: usize) -> Result {
    let kind = GroupVersionKind::gvk("outrigger.dev", "v1alpha1", "SidecarProfile");
    let resource = ApiResource::from_gvk_with_plural(&kind, "sidecarprofiles");
    let api: Api<DynamicObject> = Api::all_with(site.client.clone(), &resource);
    let create = async |number: usize| -> Result {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile",
            "metadata": {"name": format!("many-{number}")},
            "spec": {
                "summary": "One of many.",
                "containers": [{
                    "name": "${instance}", "image": "registry.example.com/greeter:1",
                    "resources": {"limits": {"cpu": "10m", "memory": "16Mi"}},
                }],
            },
        }))?;
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    };
    at_once((0..profiles).map(create)).await?;
    let api: Api<Namespace> = Api::all(site.client.clone());
    let create = async |number: usize| -> Result {
        let object: Namespace = serde_json::from_value(json!({"metadata": {
            "name": format!("many-{number}"), "annotations": {"example.com/note": "x".repeat(4096)},
        }}))?;
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    };
    at_once((0..namespaces).map(create)).await
}

async fn at_once(all: impl Iterator<Item = impl Future<Output = Result>>) -> Result {
    futures_util::stream::iter(all)
        .buffer_unordered(16)
        .try_collect()
        .await
}

async fn wait_serves(site: &Site, name: &str, limit: Duration) -> Result {
    let what = format!("the profile {name} to serve");
    wait_until_async(&what, limit, async || asks_for(site, name).await).await
}

/// Creates a pod that asks for the profile of that name, and looks whether it got it.
async fn asks_for(site: &Site, name: &str) -> Result {
    let number = std::time::UNIX_EPOCH.elapsed()?.as_nanos();
    let mut pod = asking(&format!("{name}-{number}"));
    pod["metadata"]["annotations"] = json!({"outrigger.dev/inject": name});
    let pod: Pod = serde_json::from_value(pod)?;
    let stored = site.pods().create(&PostParams::default(), &pod).await?;
    let stored = serde_json::to_value(stored)?;
    ensure!(
        stored["spec"]["containers"][1]["name"] == name,
        "{stored:#}"
    );
    Ok(())
}
