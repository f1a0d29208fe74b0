//! Failure drills: real etcd and kube-apiserver, replicas of the webhook as processes behind a balancer, and a load
//! of pod creations. *Failed* is a create error, or a missing or doubled sidecar.
//!
//! `cargo test` runs them bounded; `cargo xtask drill [NAME]` runs them long. Each states its criterion and prints
//! what it saw.

mod drills {
    pub(crate) mod site;
}

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use testkit::control_plane::Controllers;
use testkit::daemon::Signal;
use testkit::{Balancer, ControlPlane, Result, wait_until_async};

use drills::site::{Load, Site, sidecars};

const LIMIT: Duration = Duration::from_secs(30);

macro_rules! drills {
    ($($drill:ident),* $(,)?) => {
        vec![$(testkit::harness::Test::new(stringify!($drill), || Box::pin($drill()))),*]
    };
}

fn main() -> ExitCode {
    testkit::harness::run(drills![
        drill_01_one_of_two_replicas_is_killed,
        drill_02_both_replicas_are_gone,
        drill_03_a_rolling_restart_under_load,
        drill_04_a_rolling_restart_with_idle_connections,
        drill_11_the_api_server_restarts,
        drill_12_the_watch_is_cut,
        drill_13_the_definition_of_profiles_is_deleted,
        drill_14_an_invalid_profile_gets_in,
    ])
}

/// Whether the drills run long, as `cargo xtask drill` has them.
fn long() -> bool {
    std::env::var_os("OUTRIGGER_DRILLS").is_some_and(|value| value == "long")
}

/// A site with a control plane of its own: drills break what others would share.
async fn site(replicas: usize, policy: &str) -> Result<Site> {
    let plane = tokio::task::spawn_blocking(|| ControlPlane::start(Controllers::Absent)).await??;
    Site::start(plane, replicas, policy).await
}

/// Passes when no more creations fail than were on their way to it, and all is well within a second.
async fn drill_01_one_of_two_replicas_is_killed() -> Result {
    let mut site = site(2, "Fail").await?;
    let started = Instant::now();
    let loads = [
        Load::start(&site, Duration::from_millis(20)).await?,
        Load::start(&site, Duration::from_millis(20)).await?,
    ];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let killed = site.replicas.remove(0);
    killed.daemon.signal(Signal::KILL)?;
    // A Service hears of it by the failed probe; a balancer at once is the best case, 300 ms a fair one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.publish();
    let told = started.elapsed();
    drop(killed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut created = 0;
    for load in loads {
        let counted = load.end().await?;
        created += counted.created;
        for (when, error) in &counted.failed {
            ensure!(
                *when < told + Duration::from_secs(1),
                "still failing {when:?} after the start of the load: {error}"
            );
        }
        eprintln!(
            "drill 1: {} of {} failed, the slowest took {:?}",
            counted.failed.len(),
            counted.created,
            counted.slowest
        );
    }
    ensure!(created > 50, "only {created} were created");
    Ok(())
}

/// Passes when exactly the policy happens: `Fail` refuses pods that ask and nothing else, `Ignore` lets them
/// through bare.
async fn drill_02_both_replicas_are_gone() -> Result {
    for policy in ["Fail", "Ignore"] {
        let mut site = site(2, policy).await?;
        site.balancer.cut(true);
        site.replicas.clear();
        let plain = site.plane.kubectl(&[
            "run",
            "plain",
            "--namespace",
            &site.namespace,
            "--image",
            "registry.example.com/web:1",
            "--restart",
            "Never",
        ])?;
        ensure!(
            plain.code == 0,
            "a pod that does not ask is refused: {plain:?}"
        );
        let asked = site.create("asks").await;
        match policy {
            "Fail" => {
                let error = asked.err().context("the pod was let through")?.to_string();
                ensure!(error.contains("pods.outrigger.dev"), "{error}");
            }
            _ => ensure!(sidecars(&asked?) == 0),
        }
        // And it comes back by itself.
        site.balancer.cut(false);
        let replica = site.launch().await?;
        site.replicas.push(replica);
        site.publish();
        wait_until_async("injection to come back", LIMIT, async || {
            let name = format!("back-{}", std::time::UNIX_EPOCH.elapsed()?.as_millis());
            ensure!(sidecars(&site.create(&name).await?) == 1, "not injected");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Passes when nothing fails.
async fn drill_03_a_rolling_restart_under_load() -> Result {
    let mut site = site(2, "Fail").await?;
    let loads = [
        Load::start(&site, Duration::from_millis(10)).await?,
        Load::start(&site, Duration::from_millis(10)).await?,
    ];
    for _ in 0..if long() { 50 } else { 3 } {
        site.roll().await?;
    }
    for load in loads {
        let counted = load.end().await?;
        eprintln!(
            "drill 3: {} of {} failed, the slowest took {:?}",
            counted.failed.len(),
            counted.created,
            counted.slowest
        );
        ensure!(counted.failed.is_empty(), "{:?}", counted.failed);
        ensure!(
            counted.created > 30,
            "only {} were created",
            counted.created
        );
    }
    Ok(())
}

/// Passes when nothing fails: a connection that rested must not be the one that is closed under a request.
async fn drill_04_a_rolling_restart_with_idle_connections() -> Result {
    let mut site = site(2, "Fail").await?;
    let (rounds, pause) = if long() { (12, 5000) } else { (3, 1500) };
    let load = Load::start(&site, Duration::from_millis(pause)).await?;
    for _ in 0..rounds {
        site.roll().await?;
    }
    let counted = load.end().await?;
    eprintln!(
        "drill 4: {} of {} failed",
        counted.failed.len(),
        counted.created
    );
    ensure!(counted.failed.is_empty(), "{:?}", counted.failed);
    ensure!(counted.created > 2, "only {} were created", counted.created);
    Ok(())
}

/// Passes when the last catalogue serves on, the watch resumes, and no answer is wrong.
async fn drill_11_the_api_server_restarts() -> Result {
    let mut site = site(1, "Fail").await?;
    apply(&site, "before")?;
    wait_until_async("the profile to serve", LIMIT, async || {
        asks_for(&site, "before").await
    })
    .await?;
    let pause = Duration::from_secs(if long() { 60 } else { 2 });
    let site = tokio::task::spawn_blocking(move || {
        site.plane.restart_api_server(pause)?;
        Result::<Site>::Ok(site)
    })
    .await??;
    // Nothing was forgotten, from the first answer on.
    wait_until_async("the API server to create pods", LIMIT, async || {
        asks_for(&site, "before").await
    })
    .await?;
    let resumed = Instant::now();
    apply(&site, "after")?;
    // The pauses between two tries of a watch grow to about half a minute.
    wait_until_async("the watch to resume", Duration::from_secs(60), async || {
        asks_for(&site, "after").await
    })
    .await?;
    eprintln!(
        "drill 11: a profile applied after the restart served {:?} later",
        resumed.elapsed()
    );
    Ok(())
}

/// Passes when the last good catalogue serves on, the replica stays ready and says that it is stale, and what changed
/// meanwhile serves afterwards without much more memory. The long drill cuts for ten minutes; in the bounded one
/// nothing becomes stale yet.
async fn drill_12_the_watch_is_cut() -> Result {
    const STALE: &str = "outrigger_watch_staleness_seconds{watch=\"profiles\"}";
    const GENERATION: &str = "outrigger_catalogue_generation";
    let mut site = site(1, "Fail").await?;
    let between = Balancer::start().await?;
    let api: SocketAddr = site.plane.url().trim_start_matches("https://").parse()?;
    between.set_backends(vec![api]);
    let kubeconfig = std::fs::read_to_string(site.plane.kubeconfig())?;
    let changed = kubeconfig.replace(&api.to_string(), &between.address().to_string());
    ensure!(changed != kubeconfig, "no {api} in {kubeconfig}");
    site.kubeconfig = site.folder.path().join("kubeconfig");
    std::fs::write(&site.kubeconfig, changed)?;
    let started = Instant::now();
    let replica = site.launch().await?;
    eprintln!("drill 12: ready {:?} after its start", started.elapsed());
    site.replicas = vec![replica];
    site.publish();
    apply(&site, "before")?;
    wait_until_async("the profile to serve", LIMIT, async || {
        asks_for(&site, "before").await
    })
    .await?;
    let replica = &site.replicas[0];
    ensure!(replica.metric(STALE).await? == 0.0, "stale from the start");
    let (memory, generation) = (replica.resident()?, replica.metric(GENERATION).await?);

    between.cut(true);
    apply(&site, "after")?;
    let seconds = if long() { 600 } else { 5 };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    replica.ready().await?;
    asks_for(&site, "before").await?;
    let stale = replica.metric(STALE).await?;
    if long() {
        ensure!(stale > 300.0, "stale for {stale} s only");
    }
    ensure!(
        asks_for(&site, "after").await.is_err(),
        "the watch was not cut"
    );

    between.cut(false);
    // The pauses between two tries of a watch grow to about half a minute.
    wait_until_async("the watch to resume", Duration::from_secs(90), async || {
        asks_for(&site, "after").await
    })
    .await?;
    ensure!(replica.metric(STALE).await? == 0.0, "still stale");
    ensure!(replica.metric(GENERATION).await? > generation);
    let now = replica.resident()?;
    eprintln!(
        "drill 12: cut for {seconds} s, stale for {stale} s; {memory} KiB before and {now} KiB after"
    );
    ensure!(now < memory + 16 * 1024, "{memory} KiB before, {now} after");
    Ok(())
}

/// Passes when the last good catalogue is kept, and it is said loudly.
async fn drill_13_the_definition_of_profiles_is_deleted() -> Result {
    let site = site(1, "Fail").await?;
    apply(&site, "kept")?;
    wait_until_async("the profile to serve", LIMIT, async || {
        asks_for(&site, "kept").await
    })
    .await?;
    site.plane
        .kubectl(&[
            "delete",
            "crd",
            "sidecarprofiles.outrigger.dev",
            "--wait=false",
        ])?
        .ok()?;
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
    site.replicas[0].ready().await?;
    ensure!(
        sidecars(&site.create("built-in").await?) == 1,
        "a built-in profile does not serve"
    );
    asks_for(&site, "kept")
        .await
        .context("the last good catalogue was not kept")
}

/// Passes when the last good version is kept and a condition says why the new one is not.
async fn drill_14_an_invalid_profile_gets_in() -> Result {
    let site = site(1, "Fail").await?;
    // As if the validating webhook had been away.
    site.plane
        .kubectl(&["delete", "validatingwebhookconfigurations", "--all"])?
        .ok()?;
    apply(&site, "good")?;
    wait_until_async("the profile to serve", LIMIT, async || {
        asks_for(&site, "good").await
    })
    .await?;
    let broken = profile("good").replace("summary:", "colour: red\n  summary:");
    site.plane
        .kubectl_with(&["apply", "-f", "-"], &broken)?
        .ok()?;
    wait_until_async("the condition", LIMIT, async || {
        let told = site
            .plane
            .kubectl(&[
                "get",
                "sidecarprofile",
                "good",
                "-o",
                "jsonpath={.status.conditions[0]}",
            ])?
            .ok()?;
        ensure!(
            told.contains("\"status\":\"False\"") && told.contains("spec.colour: unknown field"),
            "{told}"
        );
        Ok(())
    })
    .await?;
    asks_for(&site, "good")
        .await
        .context("the last good version does not serve")
}

fn profile(name: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: {name}}}\nspec:\n  \
         summary: Says hello.\n  containers:\n  - name: ${{instance}}\n    image: registry.example.com/greeter:1\n    \
         resources: {{limits: {{cpu: 10m, memory: 16Mi}}}}\n"
    )
}

fn apply(site: &Site, name: &str) -> Result {
    site.plane
        .kubectl_with(&["apply", "-f", "-"], &profile(name))?
        .ok()
        .map(drop)
}

/// Creates a pod that asks for the profile of that name, and looks whether it got it.
async fn asks_for(site: &Site, name: &str) -> Result {
    let pods = site.pods().await?;
    let mut pod = drills::site::asking(&format!(
        "{name}-{}",
        std::time::UNIX_EPOCH.elapsed()?.as_nanos()
    ));
    pod["metadata"]["annotations"] = serde_json::json!({"outrigger.dev/inject": name});
    let pod: Pod = serde_json::from_value(pod)?;
    let stored = serde_json::to_value(pods.create(&kube::api::PostParams::default(), &pod).await?)?;
    ensure!(
        stored["spec"]["containers"][1]["name"] == name,
        "{stored:#}"
    );
    pods.list(&ListParams::default().limit(1)).await?;
    Ok(())
}
