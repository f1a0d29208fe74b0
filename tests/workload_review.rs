//! What a person is told when a workload is applied: one folder each, one workload in, its warnings out, from the
//! library and from the running server.
//!
//! A case in `tests/golden_workloads/<case>/` holds
//!
//! - `workload.yaml`: what a person would apply,
//! - `namespace.yaml`: its namespace, if its labels or annotations matter,
//! - `expected.txt`: the warnings, a line each; empty where there is nothing to say.
//!
//! All profiles that the project ships are installed. `UPDATE_GOLDENS=1` writes the warnings anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use outrigger::admission::{self, Snapshot, Webhook};
use outrigger::certificate::{CertificatePair, Subject};
use outrigger::inject::Namespace;
use outrigger::manifest::Stream;
use outrigger::profile::{Catalogue, Defaults, Profile};
use outrigger::server::{CertificateSource, Server, ServerConfig};
use proptest::prelude::*;
use serde_json::{Value, json};

struct Case {
    name: String,
    folder: PathBuf,
    workload: Value,
    snapshot: Snapshot,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn yaml(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value::<Option<_>>(value.clone())
        .unwrap()
        .unwrap_or_default()
}

fn catalogue() -> Catalogue {
    let mut profiles = Catalogue::built_in().unwrap();
    for file in entries(&here("profiles/catalogue")) {
        let text = fs::read_to_string(&file).unwrap();
        let profile = Profile::parse(&file.display().to_string(), &text);
        profiles.push(Arc::new(profile.unwrap_or_else(|error| panic!("{error}"))));
    }
    Catalogue::new(profiles)
}

fn cases() -> Vec<Case> {
    let catalogue = catalogue();
    let folders = entries(&here("tests/golden_workloads"));
    let cases: Vec<Case> = folders
        .into_iter()
        .map(|folder| Case::load(folder, &catalogue))
        .collect();
    assert!(cases.len() > 20, "there are only {}", cases.len());
    cases
}

impl Case {
    fn load(folder: PathBuf, catalogue: &Catalogue) -> Self {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for file in entries(&folder) {
            let file = file.file_name().unwrap().to_str().unwrap();
            let known = ["workload.yaml", "namespace.yaml", "expected.txt"];
            assert!(known.contains(&file), "{name}: {file} is read by no test");
        }
        let mut snapshot = Snapshot {
            catalogue: catalogue.clone(),
            ..Snapshot::default()
        };
        let namespace = folder.join("namespace.yaml");
        let metadata = match namespace.exists() {
            true => yaml(&namespace)["metadata"].clone(),
            false => json!({"name": "shop"}),
        };
        let facts = Namespace {
            labels: strings(&metadata["labels"]),
            annotations: strings(&metadata["annotations"]),
        };
        let named = metadata["name"].as_str().unwrap();
        snapshot
            .namespaces
            .insert_mut(named.into(), Arc::new(facts));
        Self {
            workload: yaml(&folder.join("workload.yaml")),
            name,
            folder,
            snapshot,
        }
    }

    fn review(&self, uid: &str) -> Value {
        review(&self.workload, uid)
    }

    fn warnings(&self) -> Vec<String> {
        let review = self.review("1").to_string();
        let reviewed = admission::answer(Webhook::Workload, review.as_bytes(), &self.snapshot);
        let reviewed = reviewed.unwrap();
        let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
        let warnings = warnings_of(&answer, &json!("1"));
        let expected = match warnings.is_empty() {
            true => "allowed",
            false => "warned",
        };
        assert_eq!(reviewed.summary.outcome, expected, "{}", self.name);
        warnings
    }
}

/// A review of its creation, as the API server sends it.
fn review(workload: &Value, uid: &str) -> Value {
    let (group, version) = workload["apiVersion"]
        .as_str()
        .unwrap()
        .split_once('/')
        .unwrap();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": group, "version": version, "kind": workload["kind"]},
            "name": workload["metadata"]["name"], "namespace": "shop",
            "operation": "CREATE", "dryRun": false,
            "object": workload, "oldObject": null,
        },
    })
}

/// The warnings of an answer that is as it must be: allowed, and nothing else.
fn warnings_of(answer: &Value, uid: &Value) -> Vec<String> {
    let response = answer["response"].as_object().unwrap();
    assert_eq!(response["allowed"], true, "{answer}");
    assert_eq!(response["uid"], *uid);
    for key in response.keys() {
        assert!(
            ["allowed", "uid", "warnings"].contains(&key.as_str()),
            "{answer}"
        );
    }
    let warnings: Vec<String> = response.get("warnings").map_or(Vec::new(), |warnings| {
        serde_json::from_value(warnings.clone()).unwrap()
    });
    // What the API server passes on whole.
    assert!(warnings.iter().all(|line| line.len() <= 120), "{answer}");
    assert!(warnings.iter().map(String::len).sum::<usize>() <= 4096);
    warnings
}

#[test]
fn every_case_is_told_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    for case in cases() {
        let warnings = case.warnings();
        let now: String = warnings.iter().map(|line| format!("{line}\n")).collect();
        let path = case.folder.join("expected.txt");
        if update {
            fs::write(&path, &now).unwrap();
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&now) {
            failures.push(format!("{}: expected.txt is stale:\n{now}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn the_running_server_says_what_the_library_says() {
    let subject = Subject {
        dns_names: vec!["localhost".to_owned()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
        days: 1,
    };
    let pair = CertificatePair::self_signed(&subject).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig {
        drain: Duration::ZERO,
        ..ServerConfig::new(any, any, CertificateSource::Pair(pair.clone()))
    };
    let cases = Arc::new(cases());
    let served = Arc::clone(&cases);
    // The uid says which case a review belongs to.
    let reviewer = move |webhook, body: &[u8]| {
        let review: Value = serde_json::from_slice(body).unwrap();
        let case: usize = review["request"]["uid"].as_str().unwrap().parse().unwrap();
        admission::answer(webhook, body, &served[case].snapshot)
    };
    let server = Server::bind(config, reviewer).await.unwrap();
    let (address, _) = server.addresses().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let client = testkit::http::client(&pair.certificate, None).unwrap();
    for (index, case) in cases.iter().enumerate() {
        let review = case.review(&index.to_string());
        let request = client.post(format!("https://{address}/validate-workload?timeout=2s"));
        let answer = request.json(&review).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", case.name);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(
            warnings_of(&answer, &review["request"]["uid"]),
            case.warnings(),
            "{}",
            case.name
        );
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// Every example of the gallery, as its author applies it and as `outrigger inject` writes it: nothing is wrong, and
/// the advice is that of `inject`.
#[test]
fn examples_are_told_no_more_than_what_inject_tells() {
    let mut seen = BTreeSet::new();
    let shipped = catalogue();
    for folder in entries(&here("examples")) {
        if !folder.join("workload.yaml").exists() {
            continue;
        }
        let name = folder.display().to_string();
        let existing = |file: &str| Some(folder.join(file)).filter(|path| path.exists());
        let mut profiles: Vec<_> = shipped.iter().map(|entry| entry.profile.clone()).collect();
        if let Some(path) = existing("profile.yaml") {
            let profile = Profile::parse("profile.yaml", &fs::read_to_string(path).unwrap());
            profiles.push(Arc::new(profile.unwrap()));
        }
        let mut snapshot = Snapshot {
            catalogue: Catalogue::new(profiles),
            ..Snapshot::default()
        };
        if let Some(path) = existing("defaults.yaml") {
            let defaults = Defaults::parse("defaults.yaml", &fs::read_to_string(path).unwrap());
            let catalogue = snapshot.catalogue.clone();
            snapshot.catalogue = catalogue.with_defaults("", &defaults.unwrap()).unwrap();
        }
        let mut namespace = "default".to_owned();
        if let Some(path) = existing("namespace.yaml") {
            let metadata = yaml(&path)["metadata"].clone();
            let facts = Namespace {
                labels: strings(&metadata["labels"]),
                annotations: strings(&metadata["annotations"]),
            };
            namespace = metadata["name"].as_str().unwrap().to_owned();
            snapshot
                .namespaces
                .insert_mut(namespace.as_str().into(), Arc::new(facts));
        }
        for (file, expected) in [
            ("workload.yaml", ["Clean", "Advice"]),
            ("after.yaml", ["AlreadyInjected", "Advice"]),
        ] {
            let stream = Stream::parse(file, &fs::read(folder.join(file)).unwrap()).unwrap();
            let workloads = stream.workloads(&namespace);
            let workload = &workloads[0];
            if workload.kind == "Pod" {
                continue;
            }
            let mut review = review(workload.object, "1");
            review["request"]["namespace"] = json!(workload.namespace);
            let body = review.to_string();
            let reviewed =
                admission::answer(Webhook::Workload, body.as_bytes(), &snapshot).unwrap();
            let answer = serde_json::from_slice(&reviewed.body).unwrap();
            let warnings = warnings_of(&answer, &json!("1"));
            let reason = reviewed.summary.reason;
            assert!(expected.contains(&reason), "{name}/{file}: {warnings:#?}");
            if file == "workload.yaml" {
                let inject = existing("warnings.txt")
                    .map(|path| fs::read_to_string(path).unwrap())
                    .unwrap_or_default();
                for warning in warnings {
                    let words = warning.trim();
                    assert!(inject.contains(words), "{name}: {warning} in {inject}");
                }
            }
            seen.insert(workload.kind.to_owned());
        }
    }
    assert!(seen.len() > 3, "{seen:?}");
}

/// A workload that would be warned about, to be reviewed in circumstances in which it is not.
fn misplaced() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {"outrigger.dev/inject": "envoy-tls"}},
        "spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "web"}]}}},
    })
}

fn told(review: &Value) -> (Vec<String>, &'static str) {
    let snapshot = Snapshot {
        catalogue: catalogue(),
        ..Snapshot::default()
    };
    let body = review.to_string();
    let reviewed = admission::answer(Webhook::Workload, body.as_bytes(), &snapshot).unwrap();
    let answer = serde_json::from_slice(&reviewed.body).unwrap();
    let warnings = warnings_of(&answer, &review["request"]["uid"]);
    (warnings, reviewed.summary.reason)
}

#[test]
fn only_whole_workloads_that_are_written_are_looked_at() {
    let good = review(&misplaced(), "1");
    let (warnings, reason) = told(&good);
    assert_eq!((warnings.len(), reason), (1, "Misplaced"));

    let changed = |pointer: &str, value: Value| {
        let mut review = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        told(&review)
    };
    let update = changed("/request/operation", json!("UPDATE"));
    assert_eq!(update.1, "Misplaced");
    let silent = [
        ("/request/operation", json!("DELETE"), "NotAWorkload"),
        ("/request/operation", json!("CONNECT"), "NotAWorkload"),
        ("/request/subResource", json!("status"), "NotAWorkload"),
        ("/request/subResource", json!("scale"), "NotAWorkload"),
        ("/request/kind/kind", json!("Rollout"), "NotAWorkload"),
        (
            "/request/kind/group",
            json!("serving.example.com"),
            "NotAWorkload",
        ),
        ("/request/object", Value::Null, "NotAWorkload"),
        ("/request/object", json!([1]), "Unreadable"),
        ("/request/object/spec", json!("text"), "Unreadable"),
        (
            "/request/object/spec/template/spec",
            json!({"containers": "none"}),
            "Unreadable",
        ),
        (
            "/request/object/metadata/annotations",
            json!({"other": "x"}),
            "NotMentioned",
        ),
        (
            "/request/object/metadata/deletionTimestamp",
            json!("2026-01-01T00:00:00Z"),
            "BeingDeleted",
        ),
    ];
    for (pointer, value, reason) in silent {
        let answer = changed(pointer, value);
        assert_eq!(answer, (Vec::new(), reason), "{pointer}");
    }
}

#[test]
fn what_a_controller_made_was_told_of_before() {
    let owners =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1"}]);
    for (api_version, kind, reason) in [
        ("apps/v1", "ReplicaSet", "Owned"),
        ("batch/v1", "Job", "Owned"),
        // Whatever owns a Deployment is nothing that we know.
        ("apps/v1", "Deployment", "Misplaced"),
    ] {
        let mut workload = misplaced();
        workload["apiVersion"] = json!(api_version);
        workload["kind"] = json!(kind);
        assert_eq!(told(&review(&workload, "1")).1, "Misplaced", "{kind}");
        workload["metadata"]["ownerReferences"] = owners.clone();
        assert_eq!(told(&review(&workload, "1")).1, reason, "{kind}");
    }
}

/// A namespace that is applied together with its workloads is known a moment later. What it may set is then no
/// reason to warn.
#[test]
fn a_new_namespace_may_still_set_what_is_missing() {
    let asks = |annotations: Value| {
        let mut workload = misplaced();
        workload["metadata"]["annotations"] = json!({});
        workload["spec"]["template"]["metadata"]["annotations"] = annotations;
        review(&workload, "1").to_string()
    };
    let missing = asks(json!({"outrigger.dev/inject": "envoy-egress"}));
    let bound = asks(json!({"outrigger.dev/inject": "kernel-setting"}));
    let unheard = asks(json!({"envoy-tls.outrigger.dev/secret": "web-tls"}));
    let wrong = asks(json!({"outrigger.dev/inject": "envoy-tsl"}));
    let mut snapshot = Snapshot {
        catalogue: catalogue(),
        ..Snapshot::default()
    };
    let mut outcomes = |known: &str| {
        let facts = Arc::new(Namespace::default());
        snapshot.namespaces.insert_mut(known.into(), facts);
        [&missing, &bound, &unheard, &wrong].map(|body| {
            let reviewed = admission::answer(Webhook::Workload, body.as_bytes(), &snapshot);
            reviewed.unwrap().summary.outcome
        })
    };
    assert_eq!(
        outcomes("other"),
        ["allowed", "allowed", "allowed", "warned"]
    );
    assert_eq!(outcomes("shop"), ["warned"; 4]);
}

/// However much is wrong, the API server gets no more than it passes on, and quickly.
#[test]
fn a_thousand_wrong_keys_are_told_in_short() {
    let mut workload = misplaced();
    let annotations: serde_json::Map<String, Value> = (0..1000)
        .map(|n| (format!("outrigger.dev/unknown-{n}"), json!("x")))
        .collect();
    let parameters: serde_json::Map<String, Value> = (0..1000)
        .map(|n| (format!("envoy-tls.outrigger.dev/unknown-{n}"), json!("x")))
        .chain([("outrigger.dev/inject".to_owned(), json!("envoy-tls"))])
        .collect();
    workload["metadata"] =
        json!({"name": "web", "annotations": annotations, "labels": annotations});
    workload["spec"]["template"]["metadata"] =
        json!({"annotations": parameters, "labels": parameters});
    let (warnings, _) = told(&review(&workload, "1"));
    assert!(warnings.last().unwrap().starts_with("and "), "{warnings:?}");
    let distinct: BTreeSet<_> = warnings.iter().collect();
    assert!(distinct.len() > 20, "{warnings:?}");
}

fn keys() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "(outrigger|Outrigger|envoy-tls\\.outrigger|files\\.outrigger|db\\.outrigger|inject\\.outrigger)\\.(dev|io|k8s\\.io)/(inject|Injekt|status|secret|upstream|injection|[a-z./]{0,9})",
        "(outrigger\\.dev/inject|envoy-tls\\.outrigger\\.dev/secret)",
        "[a-z./]{0,20}",
        any::<String>(),
    ];
    let value = prop_oneof![
        "(db=)?(envoy-tls|envoy-egress|fluentd|none|nothing)(, (log-tail|wait-for))?",
        any::<String>(),
    ];
    let pairs = proptest::collection::vec((key, value.prop_map(Value::from)), 0..5);
    pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever stands wherever: it is allowed, and what is said can be passed on.
    #[test]
    fn every_workload_is_allowed(
        places in proptest::collection::vec(keys(), 6),
        cron in any::<bool>(),
        known in any::<bool>(),
    ) {
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(catalogue);
        let metadata = |n: usize| json!({"name": "web", "annotations": places[n], "labels": places[n + 1]});
        let template = json!({"metadata": metadata(0), "spec": {"containers": [{"name": "web"}]}});
        let spec = json!({"template": template});
        let workload = match cron {
            true => json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(2),
                "spec": {"jobTemplate": {"metadata": metadata(4), "spec": spec}}}),
            false => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(2), "spec": spec}),
        };
        let mut snapshot = Snapshot { catalogue: CATALOGUE.clone(), ..Snapshot::default() };
        if known {
            snapshot.namespaces.insert_mut("shop".into(), Arc::new(Namespace::default()));
        }
        let body = review(&workload, "1").to_string();
        let reviewed = admission::answer(Webhook::Workload, body.as_bytes(), &snapshot).unwrap();
        let answer = serde_json::from_slice(&reviewed.body).unwrap();
        let warnings = warnings_of(&answer, &json!("1"));
        let again = admission::answer(Webhook::Workload, body.as_bytes(), &snapshot).unwrap();
        prop_assert_eq!(&again.body, &reviewed.body);
        prop_assert!(warnings.iter().all(|line| !line.chars().any(char::is_control)));
        let told = reviewed.summary.outcome == "warned";
        prop_assert_eq!(told, !warnings.is_empty());
    }
}

#[test]
fn no_review_gets_an_error_that_names_the_field() {
    for (body, expected) in [
        ("", "the body is no AdmissionReview"),
        ("{}", "kind: given \"\""),
        (
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#,
            "request: missing",
        ),
        (
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}"#,
            "request.uid: missing",
        ),
    ] {
        for webhook in Webhook::ALL {
            let error = admission::answer(webhook, body.as_bytes(), &Snapshot::default());
            let message = error.unwrap_err().message;
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
