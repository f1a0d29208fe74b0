//! Drills 5 to 10: the managed certificate.

use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::DeleteParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use testkit::balancer::Traffic;
use testkit::certs::Authority;
use testkit::daemon::Signal;
use testkit::{Result, wait_until_async};

use super::cluster::{NAME, SECRET};
use super::gateway::Gateway;
use super::load::{self, Load, Probes, leaf};
use super::long;
use super::site::{LIMIT, Site, certificates};

const EXPIRY: &str = "outrigger_certificate_expiry_timestamp_seconds";

pub(crate) async fn drill_05_the_leaf_is_rotated(site: &mut Site) -> Result {
    // Renewed after two thirds.
    site.start(2, &["--certificate-life-seconds=9"]).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(20)));
    let probes = Probes::start(site);
    let rounds = if long() { 20 } else { 2 };
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let old = stored_leaf(site).await?;
        let new = wait_new_leaf(site, &old).await?;
        slowest = slowest.max(wait_served(site, &new).await?);
    }
    eprintln!("drill 5: a new leaf was served by all {slowest:?} after it was stored, or sooner");
    ensure!(slowest < Duration::from_secs(5), "{slowest:?}");
    probes.end("drill 5").await?;
    load::end(loads).await?.none_failed("drill 5", 30)
}

pub(crate) async fn drill_06_the_authority_is_rotated(site: &mut Site) -> Result {
    let flags = ["--certificate-life-seconds=12", "--ca-settle-seconds=2"];
    site.start(2, &flags).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(20)));
    let probes = Probes::start(site);
    for _ in 0..if long() { 10 } else { 1 } {
        let old = site.wait_published(LIMIT).await?;
        let start = Instant::now();
        ask_for_new_keys(site).await?;
        let both = wait_bundle(site, |new| new.starts_with(&old) && certificates(new) == 2).await?;
        eprintln!("drill 6: old and new published after {:?}", start.elapsed());
        let new = both[old.len()..].to_owned();
        wait_bundle(site, |now| now.starts_with(&new) && certificates(now) == 2).await?;
        wait_served(site, &stored_leaf(site).await?).await?;
        eprintln!("drill 6: new leaf served after {:?}", start.elapsed());
        wait_bundle(site, |now| now == new).await?;
        eprintln!("drill 6: new alone published after {:?}", start.elapsed());
    }
    probes.end("drill 6").await?;
    load::end(loads).await?.none_failed("drill 6", 30)
}

/// There is no leader: whoever takes a step is killed before it knows that it did, all through a rotation.
pub(crate) async fn drill_07_whoever_takes_a_step_dies(site: &mut Site) -> Result {
    let flags = ["--certificate-life-seconds=15", "--ca-settle-seconds=1"];
    site.start(2, &flags).await?;
    let old = site.wait_published(LIMIT).await?;
    let load = Load::start(site, Duration::from_millis(50));
    let probes = Probes::start(site);
    let mut gateway = Gateway::start(&site.cluster.plane).await?;
    site.api.set_backends(vec![gateway.address()]);
    site.api.set_traffic(Traffic::Cut);
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.api.set_traffic(Traffic::Flows);

    ask_for_new_keys(site).await?;
    let mut steps: Vec<String> = Vec::new();
    let start = Instant::now();
    loop {
        ensure!(
            start.elapsed() < Duration::from_secs(150),
            "it does not converge: {steps:#?}"
        );
        let quiet = Duration::from_secs(1);
        if let Ok(step) = tokio::time::timeout(quiet, gateway.next()).await {
            let step = step?;
            let at = site.replicas.iter().position(|it| it.pod == step.pod);
            // Nobody: one that was killed had two answers to wait for.
            let Some(at) = at else { continue };
            let dead = site.replicas.remove(at);
            dead.daemon.signal(Signal::KILL)?;
            site.delete_pod(&dead.pod).await?;
            let what = step.path.rsplit("/v1/").next().unwrap_or_default();
            steps.push(format!(
                "{what}: {}",
                certificates(&site.secret("ca.crt").await?)
            ));
            let successor = site.launch_unready(&flags).await?;
            site.replicas.push(successor);
            site.publish();
            continue;
        }
        // Deleted, and not missed yet.
        let Ok(now) = site.secret("ca.crt").await else {
            continue;
        };
        if certificates(&now) == 1 && now != old && site.bundles().await? == [now] {
            break;
        }
    }
    for step in &steps {
        eprintln!("drill 7: killed after writing {step} in the bundle");
    }
    // A successor beside the authority, its leaf, and it alone; and each of three configurations.
    let killed_at = |what: &str| steps.iter().filter(|step| step.contains(what)).count();
    ensure!(killed_at("/secrets") >= 3, "{steps:#?}");
    ensure!(killed_at("configurations/") >= 3, "{steps:#?}");
    site.api.set_backends(vec![
        site.cluster
            .plane
            .url()
            .trim_start_matches("https://")
            .parse()?,
    ]);
    drop(gateway);
    for replica in &site.replicas {
        replica.wait_ready(LIMIT).await?;
    }
    site.wait_injecting(LIMIT).await?;
    eprintln!(
        "drill 7: {} died, converged after {:?}",
        steps.len(),
        start.elapsed()
    );
    probes.end("drill 7").await?;
    let counted = load.end().await?;
    let of_certificates = counted
        .failed
        .iter()
        .filter(|it| it.why.contains("x509") || it.why.contains("certificate"));
    let of_certificates: Vec<_> = of_certificates.collect();
    eprintln!(
        "drill 7: {} of {} creations failed, {} for a certificate",
        counted.failed.len(),
        counted.created,
        of_certificates.len()
    );
    ensure!(of_certificates.is_empty(), "{of_certificates:#?}");
    Ok(())
}

pub(crate) async fn drill_08_the_certificate_has_ended(site: &mut Site) -> Result {
    // At the start.
    let short = ["--certificate-life-seconds=2", "--ca-life-seconds=2"];
    let replica = site.launch_unready(&short).await?;
    wait_until_async("the Secret", LIMIT, async || site.secret("tls.crt").await).await?;
    replica.daemon.signal(Signal::KILL)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let start = Instant::now();
    let flags = ["--certificate-life-seconds=6"];
    site.start(2, &flags).await?;
    eprintln!(
        "drill 8: everything in the Secret had ended: injected {:?} after the start",
        start.elapsed()
    );

    // While it runs, because the API server is out of its reach.
    site.api.set_traffic(Traffic::Cut);
    let now = || Ok::<_, anyhow::Error>(UNIX_EPOCH.elapsed()?.as_secs_f64());
    wait_until_async("all to be unready", LIMIT, async || {
        for replica in &site.replicas {
            let (status, text) = replica.readiness().await?;
            ensure!(status == 503, "{status}: {text}");
            let end = replica.metric(EXPIRY).await?;
            ensure!(end > 1.0 && end <= now()?, "it ends at {end}");
        }
        Ok(())
    })
    .await?;
    // Longer in the long run, as its attempts get rarer.
    tokio::time::sleep(Duration::from_secs(if long() { 120 } else { 0 })).await;
    site.api.set_traffic(Traffic::Flows);
    let start = Instant::now();
    for replica in &site.replicas {
        replica.wait_ready(Duration::from_secs(90)).await?;
        let end = replica.metric(EXPIRY).await?;
        ensure!(end > now()?, "it ended at {end}");
        // Written late, because the API server was out of reach.
        wait_until_async("the event", LIMIT, async || {
            let reasons = site.events_about(replica).await?;
            ensure!(
                reasons.iter().any(|it| it == "CertificateExpired"),
                "{reasons:?}"
            );
            Ok(())
        })
        .await?;
    }
    site.wait_injecting(LIMIT).await?;
    eprintln!(
        "drill 8: ended while it ran: unready, told in {EXPIRY} and an event, renewed {:?} after the API server was back",
        start.elapsed()
    );
    Ok(())
}

pub(crate) async fn drill_09_the_bundle_is_wrong(site: &mut Site) -> Result {
    site.start(2, &[]).await?;
    let bundle = site.wait_published(LIMIT).await?;
    let other = STANDARD.encode(Authority::new("somebody else")?.certificate());
    let mutating = "mutatingwebhookconfiguration";
    let validating = "validatingwebhookconfiguration";
    let workloads = format!("{NAME}-workloads");
    for (kind, name, path) in [
        (mutating, NAME, "/webhooks/0"),
        (mutating, NAME, "/webhooks/1"),
        (validating, NAME, "/webhooks/0"),
        (validating, &workloads, "/webhooks/0"),
    ] {
        let load = Load::start(site, Duration::from_millis(20));
        let path = format!("{path}/clientConfig/caBundle");
        let patch = json!([{"op": "add", "path": path, "value": other}]).to_string();
        let start = Instant::now();
        let overwrite = ["patch", kind, name, "--type=json", "-p", &patch];
        site.cluster.plane.kubectl(&overwrite)?.ok()?;
        ensure!(site.wait_published(LIMIT).await? == bundle);
        let repaired = Instant::now();
        // The API server hears of it through a watch.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let counted = load.end().await?;
        eprintln!(
            "drill 9: {kind} {name} repaired after {:?}, {} of {} creations failed meanwhile",
            repaired - start,
            counted.failed.len(),
            counted.created
        );
        ensure!(
            repaired - start < Duration::from_secs(10),
            "{:?}",
            repaired - start
        );
        for failure in &counted.failed {
            ensure!(
                failure.begun < repaired + Duration::from_secs(1),
                "{}",
                failure.why
            );
        }
    }
    // Helm leaves the bundle alone, so nothing is to be repaired.
    let load = Load::start(site, Duration::from_millis(20));
    for value in ["webhook.timeoutSeconds=4", "webhook.timeoutSeconds=5"] {
        site.cluster.upgrade(&[value])?;
        ensure!(site.bundles().await? == std::slice::from_ref(&bundle));
    }
    load.end()
        .await?
        .none_failed("drill 9, Helm applied twice", 10)
}

/// The API server's clock is right; that of the replicas, by which certificates are made and judged, is not.
pub(crate) async fn drill_10_clocks_are_two_hours_wrong(site: &mut Site) -> Result {
    let ahead = ["--ca-settle-seconds=1", "--clock-offset-seconds=7200"];
    let behind = ["--ca-settle-seconds=1", "--clock-offset-seconds=-7200"];
    site.start(2, &["--ca-settle-seconds=1"]).await?;
    let loads = [1, 2].map(|_| Load::start(site, Duration::from_millis(20)));
    let probes = Probes::start(site);
    for (what, clocks) in [
        ("both ahead", [&ahead, &ahead]),
        ("both behind", [&behind, &behind]),
        ("one of each", [&ahead, &behind]),
    ] {
        for flags in clocks {
            site.roll(flags).await?;
        }
        // What they found is good, and so is what they make.
        let old = stored_leaf(site).await?;
        ask_for_new_keys(site).await?;
        let new = wait_new_leaf(site, &old).await?;
        wait_served(site, &new).await?;
        // Time to be used.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = site.wait_published(LIMIT).await?;
        let count = certificates(&now);
        eprintln!("drill 10: {what}: new keys, {count} authorities published");
    }
    let probed = probes.end("drill 10").await?;
    let leaves = probed.leaves.len();
    ensure!(
        leaves == 4,
        "{leaves} certificates, expected the first and three new ones"
    );
    load::end(loads).await?.none_failed("drill 10", 30)
}

/// Deleting the Secret is how people ask for them.
async fn ask_for_new_keys(site: &Site) -> Result {
    let secrets = site.secrets();
    secrets.delete(SECRET, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until a bundle of which this is true is in the Secret and everywhere published.
async fn wait_bundle(site: &Site, is_it: impl Fn(&str) -> bool) -> Result<String> {
    wait_until_async("another bundle", LIMIT, async || {
        let now = site.secret("ca.crt").await?;
        ensure!(is_it(&now), "{now}");
        ensure!(site.bundles().await? == [now.clone()], "not published");
        Ok(now)
    })
    .await
}

/// The leaf in the Secret.
async fn stored_leaf(site: &Site) -> Result<CertificateDer<'static>> {
    let text = site.secret("tls.crt").await?;
    let mut all = CertificateDer::pem_slice_iter(text.as_bytes());
    Ok(all.next().context("no leaf")??.into_owned())
}

/// Waits until there is another leaf than this in the Secret.
async fn wait_new_leaf(site: &Site, old: &CertificateDer<'_>) -> Result<CertificateDer<'static>> {
    wait_until_async("a new leaf", LIMIT, async || {
        let new = stored_leaf(site).await?;
        ensure!(new != *old, "still the old one");
        Ok(new)
    })
    .await
}

/// How long it takes until every replica serves this leaf.
async fn wait_served(site: &Site, new: &CertificateDer<'_>) -> Result<Duration> {
    let start = Instant::now();
    let bundle = site.secret("ca.crt").await?;
    for replica in &site.replicas {
        wait_until_async("the new leaf to be served", LIMIT, async || {
            if leaf(replica.address, &bundle).await? != *new {
                bail!("still another");
            }
            Ok(())
        })
        .await?;
    }
    Ok(start.elapsed())
}
