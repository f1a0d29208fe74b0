//! Drills 21 and 23: a webhook that is asked too much, and one that answers nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testkit::Result;
use testkit::daemon::Signal;
use testkit::served::small;
use testkit::wire::{Client, post};
use tokio::task::JoinSet;

use super::cluster::{NAME, NAMESPACE};
use super::load::{self, Load};
use super::long;
use super::site::{LIMIT, Site};

/// Reviews that the replica of drill 21 takes at a time.
const PLACES: usize = 8;

/// How long a review of the clients of drill 21 holds its place, and how long they then rest.
const HOLDS: Duration = Duration::from_millis(30);
const RESTS: Duration = Duration::from_millis(90);

/// Asks again and again, and comes again after the time that it is told, as the API server does. Gives how many
/// reviews were answered and how many were refused.
async fn ask(mut client: Client, stop: Arc<AtomicBool>) -> Result<(u32, u32)> {
    let (mut answered, mut refused) = (0, 0);
    let request = post("/mutate", small("crowd"));
    let (first, last) = request.split_at(request.len() - 1);
    while !stop.load(Ordering::Relaxed) {
        client.send(first).await?;
        tokio::time::sleep(HOLDS).await;
        client.send(last).await?;
        let answer = client.answer().await?;
        match answer.status {
            200 => {
                answered += 1;
                tokio::time::sleep(RESTS).await;
            }
            503 => {
                ensure!(answer.has("retry-after: 1"), "{answer:?}");
                refused += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            _ => anyhow::bail!("{answer:?}"),
        }
    }
    Ok((answered, refused))
}

pub(crate) async fn drill_21_more_than_it_can_take(site: &mut Site) -> Result {
    // The default of the chart; that of the other drills leaves no time to come again.
    site.cluster.upgrade(&["webhook.timeoutSeconds=5"])?;
    site.start(1, &[&format!("--max-in-flight={PLACES}")])
        .await?;
    let replica = &site.replicas[0];
    let stop = Arc::new(AtomicBool::new(false));
    let bundle = site.wait_published(LIMIT).await?;
    let mut crowd = JoinSet::new();
    let name = format!("{NAME}.{NAMESPACE}.svc");
    for _ in 0..5 * PLACES {
        let client = Client::trusting(replica.address, &bundle, &name).await?;
        crowd.spawn(ask(client, Arc::clone(&stop)));
    }
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(50)));
    tokio::time::sleep(Duration::from_secs(if long() { 120 } else { 8 })).await;
    let counted = load::end(loads).await?;
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut refused) = (0, 0);
    while let Some(one) = crowd.join_next().await {
        let (more, fewer) = one??;
        (answered, refused) = (answered + more, refused + fewer);
    }
    let told = replica
        .metric(r#"outrigger_http_rejected_total{reason="overloaded"}"#)
        .await?;
    eprintln!(
        "drill 21: {} clients for {PLACES} places: {answered} of their reviews were answered, {refused} got 503 and \
         Retry-After; of the API server's {} were told to come again",
        5 * PLACES,
        told - f64::from(refused)
    );
    ensure!(
        refused >= 40,
        "only {refused} were refused: that is no overload"
    );
    counted.none_failed("drill 21", 10)
}

/// How long a probe of the chart waits.
const PROBE: Duration = Duration::from_secs(2);

pub(crate) async fn drill_23_a_replica_is_stopped(site: &mut Site) -> Result {
    let timeout = Duration::from_secs(3);
    site.start(2, &[]).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(20)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stopped = site.replicas.remove(0);
    let start = Instant::now();
    stopped.daemon.signal(Signal::STOP)?;
    // Two probes that fail take a replica out of the Service.
    for _ in 0..2 {
        let probe = tokio::time::timeout(PROBE, stopped.readiness()).await;
        ensure!(probe.is_err(), "a stopped replica answered a probe");
    }
    site.publish();
    let told = Instant::now();
    // A liveness probe that fails restarts the container: the kubelet kills it, and starts it anew.
    let probe = tokio::time::timeout(PROBE, stopped.liveness()).await;
    ensure!(probe.is_err(), "a stopped replica answered a probe");
    tokio::time::sleep(Duration::from_secs(if long() { 60 } else { 3 })).await;
    stopped.daemon.signal(Signal::KILL)?;
    let new = site.launch(&[]).await?;
    site.replicas.push(new);
    site.publish();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted = load::end(loads).await?;
    let last = counted.failed.iter().map(|it| it.begun).max();
    eprintln!(
        "drill 23: of {} creations {} failed, each begun within {:?} of the stop; out of the Service after {:?}; the \
         slowest took {:?}",
        counted.created,
        counted.failed.len(),
        last.map(|last| last - start).unwrap_or_default(),
        told - start,
        counted.slowest
    );
    ensure!(
        counted.slowest < timeout + Duration::from_secs(1),
        "{:?} is beyond the timeout",
        counted.slowest
    );
    // A connection that was kept to it is found out by one creation that waits for its whole timeout.
    let late = counted.failed.iter().find(|it| it.begun > told + timeout);
    let late = late.map(|it| (it.begun - told, &it.why));
    ensure!(late.is_none(), "{late:?} after it was out of the Service");
    ensure!(counted.created > 50, "only {}", counted.created);
    site.delete_pod(&stopped.pod).await.context("its pod")
}
