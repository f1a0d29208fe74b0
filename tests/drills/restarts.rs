//! Drills 1 to 4: replicas die, and are replaced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testkit::balancer::Traffic;
use testkit::daemon::Signal;
use testkit::{Result, wait_until_async};

use super::load::{self, Load};
use super::long;
use super::site::{LIMIT, Site, sidecars};

const INJECTED: &str = r#"outrigger_admission_reviews_total{webhook="mutate",outcome="injected""#;

pub(crate) async fn drill_01_one_of_two_replicas_is_killed(site: &mut Site) -> Result {
    site.start(2, &[]).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(20)));
    wait_until_async("both to have reviews", LIMIT, async || {
        for replica in &site.replicas {
            ensure!(replica.metric(INJECTED).await? > 20.0, "too few");
        }
        Ok(())
    })
    .await?;
    let victim = site.replicas.remove(0);
    let killed = Instant::now();
    victim.daemon.signal(Signal::KILL)?;
    // A Service hears of it by the failed probe; a balancer at once is the best case, 300 ms a fair one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.publish();
    let told = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let counted = load::end(loads).await?;
    let in_flight = counted.failed.iter().filter(|it| it.begun < killed).count();
    eprintln!(
        "drill 1: of {} creations {in_flight} failed that were in flight, {} until the balancer was told {:?} later",
        counted.created,
        counted.failed.len() - in_flight,
        told - killed,
    );
    // Each load has one in flight.
    ensure!(in_flight <= 2, "{:#?}", counted.failed);
    for failure in &counted.failed {
        ensure!(
            failure.begun < told,
            "failed {:?} after the balancer was told: {}",
            failure.begun - told,
            failure.why
        );
    }
    ensure!(counted.created > 50, "only {}", counted.created);
    Ok(())
}

pub(crate) async fn drill_02_both_replicas_are_gone(site: &mut Site) -> Result {
    for policy in ["Fail", "Ignore"] {
        let value = format!("webhook.failurePolicy={policy}");
        site.cluster.upgrade(&[&value])?;
        site.start(2, &[]).await?;
        site.balancer.set_traffic(Traffic::Cut);
        site.drain().await?;
        let plain = format!("plain-{}", policy.to_lowercase());
        let run = ["run", &plain, "--namespace", &site.namespace];
        let image = [
            "--image",
            "registry.example.com/web:1",
            "--restart",
            "Never",
        ];
        site.cluster
            .plane
            .kubectl(&[&run[..], &image].concat())?
            .ok()
            .context("a pod that does not ask is refused")?;
        let asks = format!("asks-{}", policy.to_lowercase());
        match (policy, site.create(&asks).await) {
            ("Fail", Ok(_)) => anyhow::bail!("the pod was let through"),
            ("Fail", Err(error)) => {
                let said = error.to_string();
                ensure!(said.contains("pods.outrigger.dev"), "{said}");
            }
            (_, asked) => {
                ensure!(sidecars(&asked?) == 0);
                let missed = site.missed()?;
                ensure!(
                    missed == [format!("Pod/{asks}")],
                    "listed as missed: {missed:?}"
                );
            }
        }
        // And it comes back by itself.
        site.balancer.set_traffic(Traffic::Flows);
        let start = Instant::now();
        site.start(1, &[]).await?;
        eprintln!(
            "drill 2: {policy} did as it says; injected again {:?} after a replica was started",
            start.elapsed()
        );
        site.drain().await?;
    }
    Ok(())
}

pub(crate) async fn drill_03_a_rolling_restart_under_load(site: &mut Site) -> Result {
    site.start(2, &[]).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(10)));
    let rounds = if long() { 50 } else { 3 };
    for _ in 0..rounds {
        site.roll(&[]).await?;
    }
    let name = format!("drill 3, {rounds} replaced");
    load::end(loads).await?.none_failed(&name, 30)
}

pub(crate) async fn drill_04_a_rolling_restart_with_idle_connections(site: &mut Site) -> Result {
    site.start(2, &[]).await?;
    let (rounds, pause) = if long() { (12, 5000) } else { (3, 1500) };
    let load = Load::start(site, Duration::from_millis(pause));
    for _ in 0..rounds {
        site.roll(&[]).await?;
    }
    let name = format!("drill 4, {rounds} replaced");
    load.end().await?.none_failed(&name, 3)
}
