//! `outrigger check`, `outrigger list` and the auditor, at a real API server. The webhook has the rights of the
//! release's own account, and nothing else. Each test has a control plane of its own: they count all pods, and take
//! away what a cluster has once.

#[allow(
    dead_code,
    reason = "what the tests of certificates need is not all needed here"
)]
#[path = "certificates/kit.rs"]
mod kit;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::control_plane::Controllers;
use testkit::{ControlPlane, Finished, Result, process, wait_until_async};

use kit::{LIMIT, Release, Replica};

testkit::main!(
    check_passes_on_a_good_install_and_names_what_is_wrong,
    pods_from_before_the_webhook_are_missed_and_those_of_an_old_profile_stale,
);

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
/// Its first table tells of the checks, in their order.
const GUIDE: &str = include_str!("../docs/operations.md");

/// A release that is not installed, in a cluster of its own.
async fn release(prefix: &str) -> Result<Release> {
    let plane = Arc::new(ControlPlane::start(Controllers::Run)?);
    Release::new(plane, prefix).await
}

/// The command line, asked of the release's cluster.
fn outrigger(release: &Release, arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(OUTRIGGER);
    command
        .args(arguments)
        .arg("--kubeconfig")
        .arg(release.plane().kubeconfig());
    process::run(&command, b"", Duration::from_secs(60))
}

fn define_profiles(release: &Release) -> Result {
    let definition = process::run(Command::new(OUTRIGGER).arg("crd"), b"", LIMIT)?.ok()?;
    apply(release, &definition)?;
    release.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/sidecarprofiles.outrigger.dev",
    ])?;
    Ok(())
}

fn apply(release: &Release, text: &str) -> Result {
    let apply = ["apply", "--server-side", "-f", "-"];
    release.plane().kubectl_with(&apply, text)?.ok()?;
    Ok(())
}

/// A profile with one container.
fn profile(name: &str, argument: &str) -> String {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "metadata": {"name": name},
        "spec": {
            "summary": "Says hello.",
            "containers": [{
                "name": name, "image": "registry.example.com/greeter:1", "args": [argument],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}},
            }],
        },
    })
    .to_string()
}

// -- check -----------------------------------------------------------------------------------

/// What `check` says in JSON, which must go with its exit status.
fn check(release: &Release, arguments: &[&str]) -> Result<Value> {
    let all = [&["check", "-o", "json"], arguments].concat();
    let finished = outrigger(release, &all)?;
    let said: Value = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    let is_ok = findings(&said).all(|finding| finding["verdict"] != "fail");
    ensure!(said["ok"] == is_ok, "{said:#}");
    ensure!(finished.code == i32::from(!is_ok), "{said:#}");
    Ok(said)
}

fn findings(said: &Value) -> impl Iterator<Item = &Value> {
    said["checks"].as_array().into_iter().flatten()
}

/// That a check ended so, with these words in what it found or advises.
fn expect(said: &Value, check: &str, verdict: &str, words: &str) -> Result {
    let finding = findings(said).find(|finding| finding["check"] == check);
    let finding = finding.with_context(|| format!("no finding {check}: {said:#}"))?;
    let text = format!("{} {}", finding["message"], finding["advice"]);
    ensure!(
        finding["verdict"] == verdict && text.contains(words),
        "expected {verdict} with {words:?}: {finding:#}"
    );
    ensure!(
        verdict == "ok" || finding["advice"].is_string(),
        "no advice: {finding:#}"
    );
    Ok(())
}

/// That everything is in order.
async fn expect_good(release: &Release) -> Result {
    wait_until_async("everything to be in order", LIMIT, async || {
        let said = check(release, &[])?;
        for finding in findings(&said) {
            ensure!(finding["verdict"] == "ok", "{finding:#}");
        }
        Ok(())
    })
    .await
}

/// Waits until a check ends so.
async fn wait_for(
    release: &Release,
    arguments: &[&str],
    name: &str,
    verdict: &str,
    words: &str,
) -> Result {
    wait_until_async("check to say so", LIMIT, async || {
        expect(&check(release, arguments)?, name, verdict, words)
    })
    .await
}

async fn check_passes_on_a_good_install_and_names_what_is_wrong() -> Result {
    let release = release("checked").await?;
    let said = check(&release, &[])?;
    expect(&said, "api-server", "ok", "v1.")?;
    expect(&said, "crd", "fail", "outrigger crd | kubectl apply")?;
    expect(
        &said,
        "registration",
        "fail",
        "install or upgrade the chart",
    )?;
    expect(&said, "webhook", "warn", "none to call")?;

    define_profiles(&release)?;
    release.install().await?;
    let said = check(&release, &[])?;
    expect(&said, "crd", "ok", "established")?;
    expect(&said, "registration", "ok", &release.name)?;
    expect(&said, "certificate", "fail", "is not there")?;
    expect(
        &said,
        "rbac",
        "ok",
        &format!("{}/{}", release.namespace, release.name),
    )?;
    // Nobody is there to refuse it.
    apply(&release, &profile("greeter", "${nothing}"))?;

    let workloads = format!("{}-workloads", release.name);
    let mut replica = release
        .start(true, &["--webhook-configuration", &workloads])
        .await?;
    replica.wait_ready().await?;
    wait_for(&release, &[], "profiles", "fail", "greeter: ").await?;
    release.kubectl(&["delete", "sidecarprofile", "greeter"])?;
    expect_good(&release).await?;
    let all = check(&release, &[])?;
    let all: Vec<_> = findings(&all)
        .filter_map(|finding| finding["check"].as_str())
        .collect();
    let expected = [
        "api-server",
        "crd",
        "registration",
        "ca-bundle",
        "certificate",
        "webhook",
        "rbac",
        "sidecars",
        "profiles",
    ];
    ensure!(all == expected, "{all:?}");
    let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<_> = rows
        .filter_map(|row| Some(row.split_once('`')?.0))
        .collect();
    ensure!(told.starts_with(&expected), "the guide has {told:?}");
    let text = outrigger(&release, &["check"])?;
    eprintln!("{}", text.stdout);
    ensure!(
        text.code == 0 && text.stdout.contains("ok    webhook"),
        "{}",
        text.stdout
    );

    names_a_wrong_bundle(&release).await?;
    names_missing_rights(&release)?;

    replica.daemon.stop();
    wait_for(&release, &[], "webhook", "fail", "nobody listens there").await
}

/// Another registration of the same webhook, with somebody else's CA. That of the release would be put right at once.
async fn names_a_wrong_bundle(release: &Release) -> Result {
    let mut configuration = release.configuration()?;
    configuration["metadata"] = json!({"name": "a-wrong-bundle"});
    let hooks = configuration["webhooks"].as_array_mut();
    let hooks = hooks.context("no webhooks")?;
    hooks.truncate(1);
    hooks[0]["namespaceSelector"] =
        json!({"matchLabels": {"kubernetes.io/metadata.name": release.pods}});
    let other = Authority::new("somebody else")?;
    let bundle = base64::engine::general_purpose::STANDARD.encode(other.certificate());
    hooks[0]["clientConfig"]["caBundle"] = json!(bundle);
    apply(release, &configuration.to_string())?;
    let only = ["--registration", "a-wrong-bundle"];
    wait_for(release, &only, "webhook", "fail", "(TLS)").await?;
    let said = check(release, &only)?;
    expect(&said, "webhook", "fail", "not of the CA that signed")?;
    expect(
        &said,
        "certificate",
        "fail",
        "does not stand up to the bundle",
    )?;
    // Two that take the same pods are told of.
    expect(
        &check(release, &[])?,
        "registration",
        "warn",
        "several releases",
    )?;
    release.kubectl(&["delete", "mutatingwebhookconfiguration", "a-wrong-bundle"])?;
    wait_for(release, &[], "webhook", "ok", "it answered").await
}

fn names_missing_rights(release: &Release) -> Result {
    let take = |purpose: &str| -> Result {
        let name = format!("{}-{purpose}", release.name);
        release.kubectl(&["delete", "clusterrolebinding", &name])?;
        Ok(())
    };
    take("audit")?;
    let said = check(release, &[])?;
    expect(&said, "rbac", "warn", "list pods (pods are not audited)")?;
    take("namespaces")?;
    let said = check(release, &[])?;
    expect(
        &said,
        "rbac",
        "fail",
        "list namespaces (defaults of namespaces do not count)",
    )?;
    take("ca-bundle")?;
    let said = check(release, &[])?;
    let right = format!("patch mutatingwebhookconfigurations {}", release.name);
    expect(&said, "rbac", "fail", &right)
}

// -- list and the auditor --------------------------------------------------------------------

/// A pod that asks for a profile, or for none.
fn create(release: &Release, name: &str, list: Option<&str>) -> Result<Value> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {}},
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
    });
    if let Some(list) = list {
        pod["metadata"]["annotations"]["outrigger.dev/inject"] = list.into();
    }
    let arguments = [
        "create",
        "-o",
        "json",
        "-f",
        "-",
        "--namespace",
        &release.pods,
    ];
    let text = release
        .plane()
        .kubectl_with(&arguments, &pod.to_string())?
        .ok()?;
    Ok(serde_json::from_str(&text)?)
}

fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["outrigger.dev/status"].is_string()
}

/// What `list` says of the workloads where the pods are: each with its state.
fn states(release: &Release, arguments: &[&str]) -> Result<Vec<(String, String)>> {
    let all = [
        &["list", "-o", "json", "--namespace", &release.pods],
        arguments,
    ]
    .concat();
    let rows: Value = serde_json::from_str(&outrigger(release, &all)?.ok()?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().into_iter().flatten();
    Ok(rows
        .map(|row| (text(&row["workload"]), text(&row["state"])))
        .collect())
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(workload, state): &(&str, &str)| (workload.to_owned(), state.to_owned());
    pairs.iter().map(owned).collect()
}

/// The numbers of the last audit: injected, missed, stale.
async fn counts(replica: &Replica) -> Result<[f64; 3]> {
    let mut counts = [0.0; 3];
    for (count, state) in counts.iter_mut().zip(["injected", "missed", "stale"]) {
        let sample = format!(r#"outrigger_audit_pods{{state="{state}"}}"#);
        *count = replica.metric(&sample).await?;
    }
    Ok(counts)
}

async fn wait_counted(replicas: &[&Replica], expected: [f64; 3]) -> Result {
    for replica in replicas {
        wait_until_async("the auditor to have counted", LIMIT, async || {
            let counts = counts(replica).await?;
            ensure!(counts == expected, "{counts:?}\n{}", replica.daemon.log());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn pods_from_before_the_webhook_are_missed_and_those_of_an_old_profile_stale() -> Result {
    let release = release("audited").await?;
    define_profiles(&release)?;
    release
        .install_with(&["--set", "webhook.failurePolicy=Ignore"])
        .await?;
    wait_until_async("a pod to be let through", LIMIT, async || {
        ensure!(!is_injected(&release.dry_run().await?));
        Ok(())
    })
    .await?;
    let early = create(&release, "early", Some("fluentd, greeter"))?;
    ensure!(!is_injected(&early), "{early:#}");
    create(&release, "plain", None)?;

    // Two replicas, of which the API server calls one.
    let often = ["--audit-interval", "2s"];
    let (one, two) = (
        release.start(true, &often).await?,
        release.start(false, &often).await?,
    );
    one.wait_ready().await?;
    let both = [&one, &two];
    apply(&release, &profile("waver", "hello"))?;
    apply(&release, &profile("greeter", "hello"))?;
    wait_until_async("the profile to be injected", LIMIT, async || {
        let greeted = create(&release, "greeted", Some("greeter"))?;
        let injected = is_injected(&greeted);
        if !injected {
            release.kubectl(&["delete", "pod", "greeted", "--now", "-n", &release.pods])?;
        }
        ensure!(injected, "{greeted:#}");
        Ok(())
    })
    .await?;
    let waved = create(&release, "waved", Some("waver"))?;
    ensure!(is_injected(&waved), "{waved:#}");
    let rows = [
        ("Pod/early", "missed"),
        ("Pod/greeted", "injected"),
        ("Pod/waved", "injected"),
    ];
    ensure!(states(&release, &[])? == expected(&rows));
    wait_counted(&both, [2.0, 1.0, 0.0]).await?;

    apply(&release, &profile("greeter", "good morning"))?;
    let rows = [
        ("Pod/early", "missed"),
        ("Pod/greeted", "stale"),
        ("Pod/waved", "injected"),
    ];
    ensure!(states(&release, &[])? == expected(&rows));
    ensure!(states(&release, &["--missed"])? == expected(&rows[..1]));
    ensure!(states(&release, &["--stale"])? == expected(&rows[1..2]));
    ensure!(states(&release, &["--stale", "--missed"])? == expected(&rows[..2]));
    wait_counted(&both, [1.0, 1.0, 1.0]).await?;
    let ended = one
        .metric("outrigger_audit_last_success_timestamp_seconds")
        .await?;
    ensure!(ended > 1.7e9, "{ended}");
    ensure!(
        one.daemon
            .log()
            .contains("pods run without what they asked for"),
        "{}",
        one.daemon.log()
    );

    let table = outrigger(&release, &["list", "-A"])?.ok()?;
    eprintln!("{table}");
    ensure!(
        table.starts_with("NAMESPACE")
            && table.contains(" (now ")
            && table.contains("missed: fluentd, greeter"),
        "{table}"
    );
    let nothing = outrigger(&release, &["list"])?;
    ensure!(
        nothing.stdout.is_empty() && nothing.stderr.contains("in the namespace \"default\""),
        "{nothing:?}"
    );

    // Without the right its numbers stay, and the failure is counted.
    let binding = format!("{}-audit", release.name);
    release.kubectl(&["delete", "clusterrolebinding", &binding])?;
    wait_until_async("an audit to fail", LIMIT, async || {
        let failed = r#"outrigger_audit_runs_total{result="failed"}"#;
        ensure!(one.metric(failed).await? > 0.0);
        Ok(())
    })
    .await?;
    ensure!(counts(&one).await? == [1.0, 1.0, 1.0]);
    Ok(())
}
