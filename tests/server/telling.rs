//! What the server tells its operator in metrics. Its log lines are read in `process`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::Result;

use outrigger::profile::Catalogue;
use outrigger::profile::catalogue::BUILT_IN_NAMES;
use outrigger::server::standing::{Standings, Topic};

use super::kit::{Client, REVIEW, small, start};

/// Every family of metrics with the labels that its samples may carry.
const FAMILIES: [(&str, &[&str]); 21] = [
    ("outrigger_build", &["version"]),
    (
        "outrigger_admission_reviews",
        &["webhook", "outcome", "reason"],
    ),
    (
        "outrigger_admission_review_duration_seconds",
        &["webhook", "le"],
    ),
    ("outrigger_http_requests_in_flight", &[]),
    ("outrigger_http_rejected", &["reason"]),
    ("outrigger_tls_handshakes", &["result"]),
    ("outrigger_connections", &[]),
    ("outrigger_certificate_expiry_timestamp_seconds", &[]),
    ("outrigger_certificate_reloads", &["result"]),
    ("outrigger_certificate_renewals", &["outcome"]),
    ("outrigger_ca_bundle_writes", &["result"]),
    ("outrigger_events", &["result"]),
    ("outrigger_audit_pods", &["state"]),
    ("outrigger_audit_runs", &["result"]),
    ("outrigger_audit_last_success_timestamp_seconds", &[]),
    ("outrigger_catalogue_generation", &[]),
    ("outrigger_catalogue_profiles", &["origin"]),
    ("outrigger_catalogue_refused_profiles", &[]),
    ("outrigger_profile_instances", &["profile", "outcome"]),
    ("outrigger_watch_staleness_seconds", &["watch"]),
    ("outrigger_rendering_lookups", &["result"]),
];

/// The name, the labels and the value of `name{label="value"} number`.
type Sample = (String, Vec<(String, String)>, f64);

fn sample(line: &str) -> Result<Sample> {
    let (series, number) = line.rsplit_once(' ').context("no number")?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').context("labels without an end")?;
    let labels = labels
        .split(',')
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (name, value) = label.split_once('=').context("a label without a value")?;
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .context("no quotes")?;
            Ok((name.to_owned(), value.to_owned()))
        });
    Ok((
        name.to_owned(),
        labels.collect::<Result<_>>()?,
        number.parse()?,
    ))
}

#[tokio::test]
async fn the_metrics_are_openmetrics_text_with_the_documented_names() -> Result {
    let catalogue = built_in()?;
    let server = start(|config| {
        for topic in Topic::ALL {
            config.standings.follow(topic);
        }
        config.metrics.catalogue_changed(&catalogue);
    })
    .await?;
    let mut client = server.client().await?;
    client.post(REVIEW).await?;
    client.post(small("1")).await?;
    client.post("{}").await?;
    let answer = Client::plain(server.operations)
        .await?
        .get("/metrics")
        .await?;
    assert!(
        answer.has("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{answer:?}"
    );
    assert!(answer.body.ends_with("# EOF\n"));
    check_reference(&answer.body)?;
    let mut declared = BTreeSet::new();
    for line in answer.body.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, text) = (words.next(), words.next().unwrap_or_default(), words.next());
            ensure!(
                matches!(kind, Some("HELP" | "TYPE" | "UNIT")) && text.is_some(),
                "{line}"
            );
            declared.insert(name.to_owned());
            continue;
        }
        let (name, labels, _) = sample(line).with_context(|| line.to_owned())?;
        let family = FAMILIES.iter().find(|(family, _)| {
            name.strip_prefix(family).is_some_and(|rest| {
                matches!(
                    rest,
                    "" | "_total" | "_info" | "_sum" | "_count" | "_bucket"
                )
            })
        });
        let (_, allowed) = family.with_context(|| format!("an unknown name: {line}"))?;
        for (label, value) in labels {
            ensure!(
                allowed.contains(&label.as_str()),
                "an unknown label: {line}"
            );
            let closed = label == "version"
                || label == "le"
                || (label == "profile" && BUILT_IN_NAMES.contains(&&*value))
                || value.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
            ensure!(closed, "a label that is not of a closed set: {line}");
        }
    }
    let expected: BTreeSet<String> = FAMILIES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(declared, expected);
    assert!(
        (server
            .metric(r#"outrigger_admission_reviews_total{webhook="mutate",outcome="injected",reason="Injected"}"#)
            .await?
            - 1.0)
            .abs()
            < 0.5
    );
    assert!(
        (server
            .metric(r#"outrigger_admission_review_duration_seconds_count{webhook="mutate"}"#)
            .await?
            - 2.0)
            .abs()
            < 0.5
    );
    assert!(
        server
            .metric("outrigger_certificate_expiry_timestamp_seconds")
            .await?
            > 1.7e9
    );
    Ok(())
}

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
const BEGIN: &str =
    "<!-- Made of what a server tells: UPDATE_DOCS=1 cargo test --test server telling -->\n";
const END: &str = "<!-- End -->\n";

/// `docs/metrics.md` has the table that this text makes. `UPDATE_DOCS=1` writes it.
fn check_reference(told: &str) -> Result {
    let mut table = String::from("| metric | type | labels | what it tells |\n|---|---|---|---|\n");
    for (name, labels) in FAMILIES {
        let comment = |kind: &str| {
            let start = format!("# {kind} {name} ");
            let found = told.lines().find_map(|line| line.strip_prefix(&start));
            found.with_context(|| format!("{name} has no {kind}"))
        };
        let suffix = match comment("TYPE")? {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels
            .iter()
            .filter(|label| **label != "le")
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            table,
            "| `{name}{suffix}` | {} | {} | {} |",
            comment("TYPE")?,
            labels.join(", "),
            comment("HELP")?
        )?;
    }
    let text = std::fs::read_to_string(REFERENCE)?;
    let (before, rest) = text.split_once(BEGIN).context("no BEGIN")?;
    let (old, after) = rest.split_once(END).context("no END")?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(REFERENCE, format!("{before}{BEGIN}{table}{END}{after}"))?;
    } else {
        ensure!(
            old == table,
            "docs/metrics.md is not what a server tells (UPDATE_DOCS=1 writes it):\n{table}"
        );
    }
    // Values that a server has from its start must be explained.
    for line in told.lines().filter(|line| !line.starts_with('#')) {
        for (label, value) in sample(line)?.1 {
            ensure!(
                matches!(&*label, "le" | "version" | "profile")
                    || after.contains(&format!("`{value}`")),
                "docs/metrics.md does not explain {label}={value:?}"
            );
        }
    }
    Ok(())
}

/// Nothing that a pod's author writes becomes a label, however it is written.
#[tokio::test]
async fn what_a_pod_says_never_becomes_a_label() -> Result {
    let server = start(|_| {}).await?;
    let mut client = server.client().await?;
    let mut review: serde_json::Value = serde_json::from_str(REVIEW)?;
    for text in ["evil\"} 1\noutrigger_connections 99", "canary-7f3a"] {
        review["request"]["uid"] = text.into();
        review["request"]["namespace"] = text.into();
        review["request"]["operation"] = text.into();
        review["request"]["object"]["metadata"]["name"] = text.into();
        client.post(review.to_string()).await?;
        review["request"]["operation"] = "CREATE".into();
        review["request"]["object"]["metadata"]["annotations"]["sidecars.outrigger.dev/inject"] =
            text.into();
        client.post(review.to_string()).await?;
        client.post(text).await?;
        client.get(&format!("/{}", text.len())).await?;
    }
    let text = server.metrics().await?;
    assert!(
        !text.contains("evil") && !text.contains("canary") && !text.contains(" 99"),
        "{text}"
    );
    Ok(())
}

fn built_in() -> Result<Catalogue> {
    Ok(Catalogue::new(Catalogue::built_in()?))
}

/// Instances are counted under the profile's name when it is one of the catalogue, injected and denied.
#[tokio::test]
async fn instances_are_counted_by_profile() -> Result {
    let catalogue = built_in()?;
    let server = start(|config| config.metrics.catalogue_changed(&catalogue)).await?;
    let mut client = server.client().await?;
    client.post(REVIEW).await?;
    // Without its required parameter it is denied.
    client
        .post(REVIEW.replace(
            "envoy-tls.outrigger.dev/secret",
            "envoy-tls.example.com/secret",
        ))
        .await?;
    // A profile that does not exist is nothing to count by.
    client
        .post(REVIEW.replace(
            "\"outrigger.dev/inject\": \"envoy-tls\"",
            "\"outrigger.dev/inject\": \"canary\"",
        ))
        .await?;
    let sample = |profile, outcome| {
        format!("outrigger_profile_instances_total{{profile=\"{profile}\",outcome=\"{outcome}\"}}")
    };
    let text = server.metrics().await?;
    for (profile, outcome, count) in [
        ("envoy-tls", "injected", 1),
        ("envoy-tls", "denied", 1),
        ("fluentd", "injected", 0),
        ("_other", "injected", 0),
        ("_other", "denied", 0),
    ] {
        let line = format!("{} {count}\n", sample(profile, outcome));
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(!text.contains("canary"), "{text}");
    Ok(())
}

#[tokio::test]
async fn each_catalogue_has_a_generation() -> Result {
    let mut metrics = None;
    let server = start(|config| metrics = Some(Arc::clone(&config.metrics))).await?;
    let metrics = metrics.context("no metrics")?;
    for generation in 1..=2 {
        metrics.catalogue_changed(&built_in()?);
        let text = server.metrics().await?;
        assert!(
            text.contains(&format!("outrigger_catalogue_generation {generation}\n")),
            "{text}"
        );
        assert!(
            text.contains("outrigger_catalogue_profiles{origin=\"built_in\"} 6\n"),
            "{text}"
        );
        assert!(
            text.contains("outrigger_catalogue_profiles{origin=\"cluster\"} 0\n"),
            "{text}"
        );
    }
    Ok(())
}

/// Not ready while something of the cluster was never known, and ready all the same when patience has ended.
#[tokio::test]
async fn ready_when_the_cluster_is_known_or_patience_has_ended() -> Result {
    let standings = Arc::new(Standings::new(Duration::from_secs(3600)));
    let profiles = standings.follow(Topic::Profiles);
    let server = start(|config| config.standings = Arc::clone(&standings)).await?;
    let ask = async |operations| Client::plain(operations).await?.get("/readyz").await;
    let answer = ask(server.operations).await?;
    assert_eq!(
        (answer.status, &*answer.body),
        (503, "profiles: not known yet\n")
    );
    // It answers what comes nevertheless.
    let review = server.client().await?.post(REVIEW).await?;
    assert_eq!(review.status, 200);
    profiles.known();
    let answer = ask(server.operations).await?;
    assert_eq!((answer.status, &*answer.body), (200, "ok\n"));

    let standings = Arc::new(Standings::new(Duration::ZERO));
    standings.follow(Topic::Profiles);
    let server = start(|config| config.standings = standings).await?;
    let answer = ask(server.operations).await?;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "ok\nprofiles: not known yet\n")
    );
    Ok(())
}

/// Every reason of a skip and of a denial stands in the reference, though a server tells them only as they happen.
#[test]
fn the_reference_has_every_reason() -> Result {
    let text = std::fs::read_to_string(REFERENCE)?;
    let code = |name: &str| text.contains(&format!("`{name}`"));
    for source in [
        include_str!("../../src/inject/decide.rs"),
        include_str!("../../src/inject/problem.rs"),
    ] {
        // Of lines such as `Self::OptedOut => "OptedOut",`.
        let names: Vec<_> = source
            .lines()
            .filter_map(|line| {
                let (variant, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
                (name == format!("{variant}\",")).then_some(variant)
            })
            .collect();
        ensure!(names.len() > 5, "{names:?}");
        for name in names {
            ensure!(
                code(name),
                "docs/metrics.md does not explain the reason {name}"
            );
        }
    }
    Ok(())
}
