//! `outrigger check` and `outrigger list` at a real cluster, and the auditor in it.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::{Finished, Result, wait_until_async};

use super::super::{LIMIT, TLS, create, pod};
use super::webhook::{Webhook, shared};

/// The configuration that the shared webhook is registered by.
const REGISTRATION: &str = "shared-outrigger";

/// Whether `check` was content, and its findings.
fn check(webhook: &Webhook, arguments: &[&str]) -> Result<(Finished, Value)> {
    let arguments: Vec<_> = ["check", "-o", "json"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let finished = webhook.ask(&arguments)?;
    let found = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    Ok((finished, found))
}

fn finding<'v>(found: &'v Value, check: &str) -> Result<&'v Value> {
    let mut all = found["checks"].as_array().into_iter().flatten();
    all.find(|finding| finding["check"] == check)
        .with_context(|| format!("no finding {check}: {found:#}"))
}

pub(crate) async fn check_finds_everything_in_order() -> Result {
    let webhook = shared().await?;
    // Other tests apply profiles that are refused, for a moment.
    wait_until_async("everything to be in order", LIMIT, async || {
        let (finished, found) = check(&webhook, &["--registration", REGISTRATION])?;
        ensure!(finished.code == 0 && found["ok"] == true, "{found:#}");
        let all: Vec<_> = found["checks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|finding| finding["check"].as_str())
            .collect();
        let expected = [
            "api-server",
            "crd",
            "registration",
            "ca-bundle",
            "webhook",
            "rbac",
            "sidecars",
            "profiles",
        ];
        ensure!(all == expected, "{all:?}");
        for finding in found["checks"].as_array().into_iter().flatten() {
            ensure!(finding["verdict"] == "ok", "{finding:#}");
        }
        Ok(())
    })
    .await?;
    let text = webhook.ask(&["check", "--registration", REGISTRATION])?;
    eprintln!("{}", text.stdout);
    ensure!(text.stdout.contains("ok    webhook"), "{}", text.stdout);
    Ok(())
}

pub(crate) async fn check_names_what_is_wrong() -> Result {
    let webhook = shared().await?;
    let (finished, found) = check(&webhook, &["--registration", "nobody"])?;
    ensure!(finished.code == 1 && found["ok"] == false);
    let registration = finding(&found, "registration")?;
    ensure!(registration["verdict"] == "fail", "{registration:#}");
    ensure!(
        registration["message"]
            .to_string()
            .contains("of the name \\\"nobody\\\" has the webhook pods.outrigger.dev"),
        "{registration:#}"
    );

    // Another registration of the same webhook, with somebody else's CA, for one namespace. Its name comes first, and
    // so does its call.
    let namespace = webhook.namespace("wrong-bundle", &[]).await?;
    let plane = webhook.plane();
    let kind = "mutatingwebhookconfiguration";
    let text = plane
        .kubectl(&["get", kind, REGISTRATION, "-o", "json"])?
        .ok()?;
    let mut configuration: Value = serde_json::from_str(&text)?;
    configuration["metadata"] = json!({"name": "a-wrong-bundle"});
    let hooks = configuration["webhooks"]
        .as_array_mut()
        .context("no webhooks")?;
    hooks.truncate(1);
    hooks[0]["namespaceSelector"] =
        json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let other = Authority::new("somebody else")?;
    hooks[0]["clientConfig"]["caBundle"] = json!(base64(other.certificate()));
    plane
        .kubectl_with(&["create", "-f", "-"], &configuration.to_string())?
        .ok()?;
    let outcome = wait_until_async("the wrong bundle to be noticed", LIMIT, async || {
        let (finished, found) = check(&webhook, &["--registration", "a-wrong-bundle"])?;
        let called = finding(&found, "webhook")?;
        ensure!(
            finished.code == 1
                && called["verdict"] == "fail"
                && called["message"].to_string().contains("(TLS)")
                && called["advice"]
                    .to_string()
                    .contains("not of the CA that signed"),
            "{found:#}"
        );
        // It cannot say so by itself: it is a good bundle, of another.
        ensure!(finding(&found, "ca-bundle")?["verdict"] == "ok");
        Ok(())
    })
    .await;
    plane.kubectl(&["delete", kind, "a-wrong-bundle"])?.ok()?;
    outcome
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(crate) async fn list_shows_what_is_injected_stale_and_missed() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("audited", &[]).await?;
    let plane = webhook.plane();
    for (name, annotations) in [("good", TLS), ("old", TLS), ("plain", &[]), ("bare", &[])] {
        create(plane, &namespace, &pod(name, annotations)).await?;
    }
    let annotate = |pod: &str, annotation: &str| -> Result {
        plane
            .kubectl(&[
                "annotate",
                "--overwrite",
                "--namespace",
                &namespace,
                "pod",
                pod,
                annotation,
            ])?
            .ok()?;
        Ok(())
    };
    let status = json!({"instances": [
        {"instance": "envoy-tls", "profile": "envoy-tls", "revision": "0123456789ab"},
    ]});
    annotate("old", &format!("outrigger.dev/status={status}"))?;
    annotate("bare", "outrigger.dev/inject=envoy-tls")?;

    let list = |arguments: &[&str]| -> Result<String> {
        let mut all = vec!["list", "--namespace", &namespace];
        all.extend(arguments);
        webhook.ask(&all)?.ok()
    };
    let found: Value = serde_json::from_str(&list(&["-o", "json"])?)?;
    let states: Vec<_> = found
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (row["workload"].as_str(), row["state"].as_str()))
        .collect();
    ensure!(
        states
            == [
                (Some("Pod/bare"), Some("missed")),
                (Some("Pod/good"), Some("injected")),
                (Some("Pod/old"), Some("stale")),
            ],
        "{found:#}"
    );
    let table = list(&[])?;
    eprintln!("{table}");
    ensure!(
        table.starts_with("NAMESPACE") && table.contains("0123456789ab (now "),
        "{table}"
    );
    let missed = list(&["--missed"])?;
    ensure!(
        missed.contains("Pod/bare") && !missed.contains("Pod/old"),
        "{missed}"
    );
    let stale = list(&["--stale"])?;
    ensure!(
        stale.contains("Pod/old") && !stale.contains("Pod/bare"),
        "{stale}"
    );

    wait_until_async("the auditor to have counted them", LIMIT, async || {
        let metrics = webhook.metrics().await?;
        for state in ["injected", "missed", "stale"] {
            let start = format!("outrigger_audit_pods{{state=\"{state}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(&start));
            ensure!(
                count.is_some_and(|count| count != "0"),
                "{state}: {count:?}"
            );
        }
        ensure!(!metrics.contains("outrigger_audit_last_success_timestamp_seconds 0\n"));
        Ok(())
    })
    .await?;
    plane
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])?
        .ok()?;
    Ok(())
}
