//! Managed certificates, and events, with a real API server: replicas as processes, the release's own rights, the
//! chart's own registration. The decisions themselves are tested beside `src/cluster/certificates/state.rs`.

mod certificates {
    pub(crate) mod events;
    pub(crate) mod kit;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::control_plane::Controllers;
use testkit::{ControlPlane, Result, wait_until_async};

use certificates::events::{
    a_certificate_that_cannot_be_renewed_is_told_on_the_pod, ours,
    owners_of_denied_pods_are_told_once,
};
use certificates::kit::{LIMIT, Release, Replica, renewals};

/// What a replica says while its registration is not there.
const NO_REGISTRATION: &str = "there is no webhook configuration";

testkit::main!(
    a_fresh_install_becomes_ready_and_injects,
    what_overwrites_the_bundle_is_undone_and_helm_finds_no_conflict,
    replicas_that_start_at_once_agree,
    leaf_and_authority_are_renewed_without_a_failed_request,
    a_deleted_or_garbled_secret_comes_back_without_a_failed_request,
    everything_ended_is_made_anew,
    a_certificate_of_somebody_else_is_left_alone,
    managing_needs_a_cluster_and_says_so,
    without_the_api_server_what_is_served_goes_on_being_served,
    owners_of_denied_pods_are_told_once,
    a_certificate_that_cannot_be_renewed_is_told_on_the_pod,
);

/// The first replica of a fresh release, ready.
async fn installed(prefix: &str, flags: &[&str]) -> Result<(Arc<Release>, Replica)> {
    let release = Arc::new(Release::new(ControlPlane::shared()?, prefix).await?);
    release.install().await?;
    let start = Instant::now();
    let replica = release.start(true, flags).await?;
    replica.wait_ready().await?;
    eprintln!("{prefix}: ready {:?} after its start", start.elapsed());
    wait_called(&release).await?;
    Ok((release, replica))
}

/// Waits until the API server has heard of the registration.
async fn wait_called(release: &Release) -> Result {
    wait_until_async("the API server to call the webhook", LIMIT, async || {
        let answered = release.dry_run().await?;
        ensure!(
            answered["spec"]["initContainers"].is_array(),
            "not injected"
        );
        Ok(())
    })
    .await
}

async fn a_fresh_install_becomes_ready_and_injects() -> Result {
    let (release, replica) = installed("fresh", &[]).await?;
    let bundle = release.wait_published().await?;
    ensure!(bundle.matches("BEGIN CERTIFICATE").count() == 1, "{bundle}");
    replica.ask(&bundle).await?;
    // 90 days, and told.
    let end = "outrigger_certificate_expiry_timestamp_seconds";
    let days = (replica.metric(end).await? - epoch()?) / 86_400.0;
    ensure!((89.9..90.1).contains(&days), "it ends in {days} days");
    ensure!(replica.renewals("founded").await? == 1.0);

    let kind = release.kubectl(&[
        "get",
        "secret",
        &release.secret_name(),
        "-o",
        "jsonpath={.type}",
    ])?;
    ensure!(kind == "kubernetes.io/tls", "{kind}");
    // A start after it changes nothing.
    let before = release.secret("tls.crt")?;
    let second = release.start(false, &[]).await?;
    second.wait_ready().await?;
    second.ask(&bundle).await?;
    ensure!(release.secret("tls.crt")? == before);
    Ok(())
}

fn epoch() -> Result<f64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs_f64())
}

async fn what_overwrites_the_bundle_is_undone_and_helm_finds_no_conflict() -> Result {
    let (release, replica) = installed("repair", &[]).await?;
    let bundle = release.wait_published().await?;

    // Exactly the bundle is owned, and by nobody else.
    let configuration = release.configuration()?;
    let managers = configuration["metadata"]["managedFields"]
        .as_array()
        .context("no managedFields")?;
    let owned = json!({".": {}, "f:name": {}, "f:clientConfig": {"f:caBundle": {}}});
    let webhooks = ["pods.outrigger.dev", "namespaces.outrigger.dev"];
    let expected: serde_json::Map<String, Value> = webhooks
        .map(|name| (format!(r#"k:{{"name":"{name}"}}"#), owned.clone()))
        .into_iter()
        .collect();
    let ours: Vec<&Value> = managers
        .iter()
        .filter(|it| it["fieldsV1"].to_string().contains("f:caBundle"))
        .collect();
    ensure!(ours.len() == 1, "{managers:#?}");
    ensure!(ours[0]["manager"] == "outrigger-ca-bundle", "{ours:#?}");
    ensure!(ours[0]["operation"] == "Apply", "{ours:#?}");
    ensure!(
        ours[0]["fieldsV1"] == json!({"f:webhooks": expected}),
        "{ours:#?}"
    );

    // Drill 9.
    let other = Authority::new("somebody else")?;
    for index in [0, 1] {
        let start = Instant::now();
        release.overwrite(index, other.certificate())?;
        ensure!(release.wait_published().await? == bundle);
        eprintln!("repaired after {:?}", start.elapsed());
        ensure!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
    }
    replica.wait_ready().await?;

    // Helm manages the rest, twice, and the bundle stays.
    for seconds in [7, 9] {
        let timeout = format!("webhook.timeoutSeconds={seconds}");
        release.helm("upgrade", &["--set", &timeout])?;
        let configuration = release.configuration()?;
        ensure!(configuration["webhooks"][0]["timeoutSeconds"] == seconds);
        ensure!(release.bundles()?.iter().all(|it| *it == bundle));
    }

    // What a shared list costs: an item that only we still own parts of stays, and is no webhook any more. So the
    // chart must not take a webhook out of a configuration, but a configuration away.
    let mut fewer = release.configuration()?;
    fewer["metadata"] = json!({"name": release.name});
    let webhooks = fewer["webhooks"].as_array_mut().context("no webhooks")?;
    webhooks.truncate(1);
    let config = webhooks[0]["clientConfig"].as_object_mut();
    config.context("no clientConfig")?.remove("caBundle");
    let helm = ["apply", "--server-side", "--field-manager=helm", "-f", "-"];
    let refused = release.plane().kubectl_with(&helm, &fewer.to_string())?;
    ensure!(
        refused.stderr.contains("webhooks[1].clientConfig"),
        "{refused:?}"
    );

    // One that is deleted and made again, without a bundle.
    release.kubectl(&["delete", "mutatingwebhookconfiguration", &release.name])?;
    let workloads = format!("{}-workloads", release.name);
    let others = [
        "delete",
        "validatingwebhookconfiguration",
        &release.name,
        &workloads,
    ];
    release.kubectl(&others)?;
    replica.wait_unready(NO_REGISTRATION).await?;
    release.helm("upgrade", &[])?;
    ensure!(release.wait_published().await? == bundle);
    replica.wait_ready().await
}

/// The lost race: both find nothing. And a registration that comes later is waited for, and not made.
async fn replicas_that_start_at_once_agree() -> Result {
    let release = Arc::new(Release::new(ControlPlane::shared()?, "race").await?);
    let other = Arc::clone(&release);
    let second = tokio::spawn(async move { other.start(false, &[]).await });
    let first = release.start(true, &[]).await?;
    let second = second.await??;
    let both = [&first, &second];
    wait_until_async("the Secret", LIMIT, async || release.secret("ca.crt")).await?;
    for replica in both {
        replica.wait_unready(NO_REGISTRATION).await?;
    }
    ensure!(renewals(&both, "founded").await? == 1.0);
    ensure!(
        release.configuration().is_err(),
        "it was made by the webhook"
    );
    release.install().await?;
    let bundle = release.wait_published().await?;
    ensure!(bundle.matches("BEGIN CERTIFICATE").count() == 1, "{bundle}");
    for replica in both {
        replica.wait_ready().await?;
        replica.ask(&bundle).await?;
    }
    Ok(())
}

/// Drills 5, 6 and 7, in short lives: a leaf is renewed after 6 seconds, the authority after 20. One replica is
/// killed on the way.
async fn leaf_and_authority_are_renewed_without_a_failed_request() -> Result {
    let flags = [
        "--certificate-life-seconds=9",
        "--ca-life-seconds=30",
        "--ca-settle-seconds=2",
    ];
    let (release, first) = installed("rotate", &flags).await?;
    let mut second = release.start(false, &flags).await?;
    second.wait_ready().await?;
    let third = release.start(false, &flags).await?;
    third.wait_ready().await?;
    let load = release.load(&[&first, &third]);
    let old = release.secret("ca.crt")?;
    let stay = [&first, &third];
    let reach = async |what: &str, limit: u64, bundles: usize, changed: bool| {
        wait_until_async(what, Duration::from_secs(limit), async || {
            let now = release.secret("ca.crt")?;
            let count = now.matches("BEGIN CERTIFICATE").count();
            ensure!(
                count == bundles && (now != old) == changed,
                "{count}: {now}"
            );
            Ok(now)
        })
        .await
    };
    let both = reach("the new authority beside the old", 40, 2, true).await?;
    second.daemon.stop();
    ensure!(both.starts_with(&old), "the old one signs");
    let last = reach("the new authority alone", 40, 1, true).await?;
    ensure!(both.contains(&last), "another one");
    load.end().await?;
    for replica in stay {
        replica.wait_ready().await?;
        replica.ask(&last).await?;
        let served = replica
            .metric(r#"outrigger_certificate_reloads_total{result="served"}"#)
            .await?;
        ensure!(served >= 4.0, "only {served} leaves");
    }
    ensure!(renewals(&stay, "succeeded").await? == 1.0);
    ensure!(renewals(&stay, "retired").await? == 1.0);
    Ok(())
}

async fn a_deleted_or_garbled_secret_comes_back_without_a_failed_request() -> Result {
    let flags = ["--ca-settle-seconds=2"];
    let (release, first) = installed("broken", &flags).await?;
    let second = release.start(false, &flags).await?;
    second.wait_ready().await?;
    let both = [&first, &second];
    let bundle = release.wait_published().await?;
    let load = release.load(&both);

    release.patch_secret(&json!({"stringData": {"ca.crt": "garbage", "ca.key": "garbage"}}))?;
    wait_until_async("the Secret to be put back", LIMIT, async || {
        ensure!(release.secret("ca.crt")? == bundle);
        ensure!(release.secret("ca.key")?.contains("PRIVATE KEY"));
        Ok(())
    })
    .await?;
    ensure!(renewals(&both, "restored").await? == 1.0);

    // Another leaf, of another authority, for another name.
    let issued = Authority::new("somebody else")?.server(&["web.example.com"])?;
    let foreign = json!({"tls.crt": issued.certificate, "tls.key": issued.key});
    release.patch_secret(&json!({ "stringData": foreign }))?;
    wait_until_async("another leaf", LIMIT, async || {
        ensure!(release.secret("tls.crt")? != issued.certificate);
        Ok(())
    })
    .await?;

    // Deleting it is how to ask for new keys.
    release.kubectl(&["delete", "secret", &release.secret_name()])?;
    wait_until_async("the new authority to sign", LIMIT, async || {
        let now = release.secret("ca.crt")?;
        ensure!(!now.starts_with(&bundle) && now.ends_with(&bundle), "{now}");
        Ok(())
    })
    .await?;
    let after = release.wait_published().await?;
    let new = after.strip_suffix(&bundle).context("the old one is gone")?;
    for replica in both {
        wait_until_async("the new leaf", LIMIT, async || replica.ask(new).await).await?;
    }
    load.end().await?;
    ensure!(renewals(&both, "succeeded").await? == 1.0);
    Ok(())
}

/// Drill 8, at the start: nothing in the Secret is of any use.
async fn everything_ended_is_made_anew() -> Result {
    let flags = ["--certificate-life-seconds=2", "--ca-life-seconds=2"];
    let release = Arc::new(Release::new(ControlPlane::shared()?, "ended").await?);
    release.install().await?;
    let mut replica = release.start(true, &flags).await?;
    let old = wait_until_async("the Secret", LIMIT, async || release.secret("ca.crt")).await?;
    replica.daemon.stop();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = ours(&release, &release.namespace).await?.len();
    let replica = release.start(true, &[]).await?;
    replica.wait_ready().await?;
    wait_until_async("the event of the end", LIMIT, async || {
        let events = ours(&release, &release.namespace).await?;
        let new: Vec<_> = events
            .iter()
            .skip(before)
            .filter_map(|it| it.reason.as_deref())
            .collect();
        ensure!(new.contains(&"CertificateExpired"), "{events:#?}");
        Ok(())
    })
    .await?;
    let new = release.wait_published().await?;
    ensure!(
        new != old && new.matches("BEGIN CERTIFICATE").count() == 1,
        "{new}"
    );
    wait_called(&release).await
}

async fn a_certificate_of_somebody_else_is_left_alone() -> Result {
    let release = Arc::new(Release::new(ControlPlane::shared()?, "foreign").await?);
    release.install().await?;
    let issued = Authority::new("somebody else")?.server(&["web.example.com"])?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": release.secret_name(), "namespace": release.namespace},
        "stringData": {"tls.crt": issued.certificate, "tls.key": issued.key},
    });
    let apply = ["create", "-f", "-"];
    release
        .plane()
        .kubectl_with(&apply, &secret.to_string())?
        .ok()?;
    let replica = release.start(true, &[]).await?;
    replica.wait_unready("--managed-certificate").await?;
    ensure!(release.secret("tls.crt")? == issued.certificate);
    ensure!(release.bundles()?.iter().all(String::is_empty));
    let label = "app.kubernetes.io/managed-by=outrigger";
    release.kubectl(&["label", "secret", &release.secret_name(), label])?;
    replica.wait_ready().await?;
    ensure!(release.secret("tls.crt")? != issued.certificate);
    Ok(())
}

/// An API server of its own, which hangs, comes back, and ends.
async fn without_the_api_server_what_is_served_goes_on_being_served() -> Result {
    let plane = Arc::new(ControlPlane::start(Controllers::Absent)?);
    let release = Release::new(Arc::clone(&plane), "away").await?;
    // As the administrator: without an API server no release could be uninstalled.
    let flags = ["--certificate-life-seconds=60"];
    let replica = release.start(true, &flags).await?;
    let bundle = wait_until_async("the Secret", LIMIT, async || release.secret("ca.crt")).await?;
    wait_until_async("the leaf", LIMIT, async || replica.ask(&bundle).await).await?;
    let late = release.start(false, &flags).await?;
    wait_until_async("the leaf", LIMIT, async || late.ask(&bundle).await).await?;

    let pid = *plane.process_ids().get(1).context("no API server")?;
    let signal = |name: &str| -> Result {
        let status = std::process::Command::new("kill")
            .args([name, &pid.to_string()])
            .status()?;
        ensure!(status.success(), "kill {name}: {status}");
        Ok(())
    };
    signal("-STOP")?;
    for _ in 0..4 {
        replica.ask(&bundle).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    signal("-CONT")?;
    // Its watch still tells.
    release.kubectl(&["delete", "secret", &release.secret_name()])?;
    let after = wait_until_async("the Secret again", LIMIT, async || {
        let after = release.secret("ca.crt")?;
        ensure!(after.starts_with(&bundle) && after != bundle, "{after}");
        Ok(after)
    })
    .await?;
    ensure!(after.matches("BEGIN CERTIFICATE").count() == 2);

    drop((release, plane));
    for _ in 0..5 {
        replica.ask(&bundle).await?;
        late.ask(&bundle).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn managing_needs_a_cluster_and_says_so() -> Result {
    let run = |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command
            .args(["serve", "--managed-certificate=tls"])
            .args(flags);
        testkit::process::run(&command, b"", LIMIT)
    };
    let whole = ["--service=web", "--webhook-configuration=web"];
    for (flags, expected) in [
        (&whole[..1], "--webhook-configuration"),
        (&whole[1..], "--service"),
        (
            &[whole[0], whole[1], "--self-signed"],
            "cannot be used with",
        ),
        (&whole, "--namespace is not given"),
        (&[whole[0], whole[1], "--namespace=shop"], "needs a cluster"),
    ] {
        let finished = run(flags)?;
        let told = finished.code != 0 && finished.stderr.contains(expected);
        ensure!(told, "{flags:?}: {finished:?}");
    }
    Ok(())
}
