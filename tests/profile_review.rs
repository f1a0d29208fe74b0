//! The review of SidecarProfile objects: what compiles is stored, and what does not is refused with everything
//! that is wrong with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::path::Path;

use outrigger::admission::{self, Snapshot, Webhook};
use outrigger::profile::{Catalogue, Profile, catalogue};
use serde_json::{Value, json};

/// A profile as the API server sends it: with what it keeps in every object.
fn object(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile",
        "metadata": {
            "name": name, "uid": "6c1f", "resourceVersion": "1", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": spec,
        "status": {"revision": "1"},
    })
}

fn good() -> Value {
    let bounds = json!({"cpu": "10m", "memory": "16Mi"});
    json!({
        "summary": "Waits.",
        "containers": [{
            "name": "${instance}", "image": "registry.example.com/a:1",
            "resources": {"requests": bounds, "limits": bounds},
        }],
    })
}

fn review(object: &Value, operation: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": operation, "name": object["metadata"]["name"],
            "kind": {"group": "outrigger.dev", "version": "v1alpha1", "kind": "SidecarProfile"},
            "object": object,
        },
    })
}

fn answer(review: &Value) -> (Value, &'static str) {
    let body = review.to_string();
    let reviewed =
        admission::answer(Webhook::Profile, body.as_bytes(), &Snapshot::default()).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    let response = answer["response"].clone();
    assert_eq!(response["uid"], "1");
    let outcome = match response["allowed"].as_bool().unwrap() {
        true => "allowed",
        false => "denied",
    };
    assert_eq!(reviewed.summary.outcome, outcome);
    (response, reviewed.summary.reason)
}

#[test]
fn a_profile_that_compiles_is_allowed_without_a_word() {
    for operation in ["CREATE", "UPDATE"] {
        let (response, reason) = answer(&review(&object("greeter", good()), operation));
        assert_eq!(response, json!({"uid": "1", "allowed": true}));
        assert_eq!(reason, "Compiles");
    }
}

#[test]
fn everything_that_is_wrong_is_told_with_its_path() {
    let bad = json!({
        "summary": "",
        "parametres": {},
        "containers": [{"name": "a", "imagePullPolice": "Always"}],
    });
    let (response, reason) = answer(&review(&object("greeter", bad), "CREATE"));
    assert_eq!(response["allowed"], false);
    assert_eq!(reason, "Refused");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.parametres: unknown field"),
        "{message}"
    );

    let mut bad = good();
    bad["containers"][0]["imagePullPolice"] = json!("Always");
    bad["containers"][0]["image"] = json!("${params.image}");
    let (response, _) = answer(&review(&object("Greeter", bad), "UPDATE"));
    let message = response["status"]["message"].as_str().unwrap();
    assert_eq!(response["status"]["code"], 422);
    assert!(
        message.starts_with("outrigger: 3 problems:\n  - "),
        "{message}"
    );
    for part in [
        "metadata.name: ",
        "spec.containers[0].imagePullPolice: ",
        "spec.containers[0].image: `params.image`: there is no parameter",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// The cluster's copy of a document and the document itself are judged alike.
#[test]
fn every_shipped_profile_is_allowed_and_keeps_its_revision() {
    let mut names = Vec::new();
    for folder in ["profiles", "profiles/catalogue"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let tree: Value = serde_saphyr::from_str(&text).unwrap();
            let name = tree["metadata"]["name"].as_str().unwrap().to_owned();
            let stored = object(&name, tree["spec"].clone());
            let (response, reason) = answer(&review(&stored, "CREATE"));
            assert_eq!(response["allowed"], true, "{name}: {response}");
            let warnings = response.get("warnings").map(|it| it[0].as_str().unwrap());
            match catalogue::BUILT_IN_NAMES.contains(&name.as_str()) {
                true => {
                    assert_eq!(reason, "ReplacesBuiltIn", "{name}");
                    let start = format!("it replaces the built-in profile {name:?}");
                    assert!(warnings.unwrap().starts_with(&start), "{warnings:?}");
                }
                false => assert_eq!((reason, warnings), ("Compiles", None), "{name}"),
            }
            let compiled = Profile::from_object("cluster", "", &stored).unwrap();
            let read = Profile::parse("file", &text).unwrap();
            assert_eq!(compiled.revision, read.revision, "{name}");
            names.push(name);
        }
    }
    assert!(names.len() > 10, "{names:?}");
}

#[test]
fn the_names_of_the_built_in_profiles_are_known() {
    let names: Vec<String> = Catalogue::built_in()
        .unwrap()
        .iter()
        .map(|profile| profile.name.clone())
        .collect();
    assert_eq!(names, catalogue::BUILT_IN_NAMES);
}

#[test]
fn a_bad_profile_can_always_be_taken_away() {
    let bad = object("greeter", json!({"summary": 1}));
    let (response, reason) = answer(&review(&bad, "UPDATE"));
    assert_eq!((&response["allowed"], reason), (&json!(false), "Refused"));

    let mut deleted = review(&bad, "DELETE");
    deleted["request"]["oldObject"] = bad.clone();
    deleted["request"]["object"] = Value::Null;
    let (response, reason) = answer(&deleted);
    assert_eq!((&response["allowed"], reason), (&json!(true), "NotWritten"));

    let mut finalized = bad.clone();
    finalized["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (response, reason) = answer(&review(&finalized, "UPDATE"));
    assert_eq!(
        (&response["allowed"], reason),
        (&json!(true), "BeingDeleted")
    );
}

#[test]
fn what_is_no_whole_profile_is_let_through() {
    let bad = object("greeter", json!({"summary": 1}));
    for (pointer, value) in [
        ("subResource", json!("status")),
        ("kind", json!({"group": "", "version": "v1", "kind": "Pod"})),
        (
            "kind",
            json!({"group": "example.com", "version": "v1", "kind": "SidecarProfile"}),
        ),
    ] {
        let mut review = review(&bad, "UPDATE");
        review["request"][pointer] = value;
        let (response, reason) = answer(&review);
        assert_eq!((&response["allowed"], reason), (&json!(true), "NotWritten"));
    }
}

#[test]
fn an_object_that_is_none_is_refused_and_not_a_crash() {
    for object in [json!([1]), json!("text"), json!({}), json!({"metadata": 1})] {
        let (response, reason) = answer(&review(&object, "CREATE"));
        assert_eq!((&response["allowed"], reason), (&json!(false), "Refused"));
    }
}
