//! What is remembered from earlier reviews never shows in an answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use outrigger::admission::{self, Snapshot};
use outrigger::inject::renderings::Lookups;
use outrigger::inject::{Namespace, Renderings, SidecarMode};
use outrigger::profile::{Catalogue, Defaults, Profile};
use serde_json::{Value, json};

/// A review of a pod with these annotations; `change` makes it another pod.
fn review(annotations: &[(&str, &str)], change: impl Fn(&mut Value)) -> Vec<u8> {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let mut pod = json!({
        "metadata": {"generateName": "web-", "namespace": "shop", "annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
    });
    change(&mut pod);
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "6f3a", "operation": "CREATE", "namespace": "shop",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": pod,
        },
    });
    serde_json::to_vec(&review).unwrap()
}

fn built_in() -> Snapshot {
    Snapshot {
        catalogue: Catalogue::new(Catalogue::built_in().unwrap()),
        ..Snapshot::default()
    }
}

/// The same with nothing remembered.
fn forgetful(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        renderings: Arc::default(),
        ..snapshot.clone()
    }
}

/// Answers with what `snapshot` remembers, and holds that against an answer that remembers nothing.
fn answer(snapshot: &Snapshot, review: &[u8]) -> Value {
    let remembered = admission::review(review, snapshot).unwrap();
    let fresh = admission::review(review, &forgetful(snapshot)).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&remembered.body),
        String::from_utf8_lossy(&fresh.body)
    );
    assert_eq!(remembered.summary, fresh.summary);
    serde_json::from_slice(&remembered.body).unwrap()
}

const TLS: [(&str, &str); 2] = [
    ("outrigger.dev/inject", "envoy-tls"),
    ("envoy-tls.outrigger.dev/secret", "web-tls"),
];
const LOGS: [(&str, &str); 4] = [
    ("outrigger.dev/inject", "fluentd"),
    ("fluentd.outrigger.dev/path", "/var/log/web/*.log"),
    ("fluentd.outrigger.dev/output", "forward"),
    ("fluentd.outrigger.dev/output-host", "logs.logging.svc"),
];

#[test]
fn the_second_pod_that_asks_for_the_same_gets_the_same() {
    let snapshot = built_in();
    let first = answer(&snapshot, &review(&TLS, |_| {}));
    let other_pod = review(&TLS, |pod| {
        pod["metadata"]["labels"] = json!({"app": "web"});
        pod["spec"]["volumes"] = json!([{"name": "kube-api-access-x2b4z", "projected": {}}]);
    });
    let second = answer(&snapshot, &other_pod);
    assert!(first["response"]["patch"].is_string() && second["response"]["patch"].is_string());
    let expected = Lookups {
        hits: 1,
        misses: 1,
        uncacheable: 0,
    };
    assert_eq!(snapshot.renderings.lookups(), expected);
}

/// Each of these is answered after all others, so that whatever is remembered wrongly shows.
#[test]
fn everything_that_a_rendering_depends_on_tells_it_from_others() {
    let native = built_in();
    let ordinary = Snapshot {
        sidecars: SidecarMode::Container,
        ..native.clone()
    };
    let facts = |annotations: &[(&str, &str)]| {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let namespace = Namespace {
            labels: BTreeMap::new(),
            annotations: annotations.iter().map(owned).collect(),
        };
        Snapshot {
            namespaces: [("shop".into(), Arc::new(namespace))].into_iter().collect(),
            ..native.clone()
        }
    };
    let by_namespace = facts(&[("envoy-tls.outrigger.dev/upstream-port", "9000")]);
    let defaults =
        Defaults::parse("", "profileDefaults: {envoy-tls: {upstreamPort: 7000}}").unwrap();
    let by_admin = Snapshot {
        catalogue: native
            .catalogue
            .clone()
            .with_defaults("", &defaults)
            .unwrap(),
        ..native.clone()
    };
    let named = [
        ("outrigger.dev/inject", "front=envoy-tls"),
        ("front.outrigger.dev/secret", "web-tls"),
    ];
    let port = [
        TLS[0],
        TLS[1],
        ("envoy-tls.outrigger.dev/upstream-port", "8081"),
    ];
    let group = |pod: &mut Value| pod["spec"]["securityContext"] = json!({"fsGroup": 999});
    let two_containers = |pod: &mut Value| {
        let second = json!({"name": "second", "image": "registry.example.com/second:1"});
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(second);
    };
    let shared = [
        ("outrigger.dev/inject", "shared-volume"),
        ("shared-volume.outrigger.dev/path", "/cache"),
    ];
    let asked: Vec<(&Snapshot, Vec<u8>)> = vec![
        (&native, review(&TLS, |_| {})),
        (&ordinary, review(&TLS, |_| {})),
        (&by_namespace, review(&TLS, |_| {})),
        (&by_admin, review(&TLS, |_| {})),
        (&native, review(&named, |_| {})),
        (&native, review(&port, |_| {})),
        (&native, review(&LOGS, |_| {})),
        (&native, review(&LOGS, group)),
        (&native, review(&shared, |_| {})),
        (&native, review(&shared, two_containers)),
    ];
    let mut answers = Vec::new();
    for round in 0..2 {
        for (index, (snapshot, review)) in asked.iter().enumerate() {
            let given = answer(snapshot, review).to_string();
            match round {
                0 => {
                    assert!(
                        !answers.contains(&given),
                        "case {index} is answered as another"
                    );
                    answers.push(given);
                }
                _ => assert_eq!(answers[index], given, "case {index}"),
            }
        }
    }
    let lookups = native.renderings.lookups();
    assert_eq!((lookups.misses, lookups.uncacheable), (8, 4), "{lookups:?}");
}

#[test]
fn a_new_version_of_a_profile_is_not_answered_with_the_old_one() {
    let profile = |image: &str| {
        let text = format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: greeter}}\nspec:\n  \
             summary: Says hello.\n  containers:\n  - name: ${{instance}}\n    image: registry.example.com/{image}\n    \
             resources: {{limits: {{cpu: 10m, memory: 16Mi}}}}\n"
        );
        Arc::new(Profile::parse("test", &text).unwrap())
    };
    let asks = review(&[("outrigger.dev/inject", "greeter")], |_| {});
    let old = Snapshot {
        catalogue: Catalogue::new([profile("greeter:1")]),
        ..Snapshot::default()
    };
    let new = Snapshot {
        catalogue: Catalogue::new([profile("greeter:2")]),
        ..old.clone()
    };
    let before = answer(&old, &asks);
    assert_ne!(before, answer(&new, &asks));
    assert_eq!(before, answer(&old, &asks));
}

/// An expression that reads nothing else of the pod is not given the rest, and must not notice.
#[test]
fn who_reads_the_security_context_alone_sees_what_the_whole_pod_shows() {
    let profile = |expression: &str| {
        let text = format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: greeter}}\nspec:\n  \
             summary: Says hello.\n  containers:\n  - name: ${{instance}}\n    image: registry.example.com/greeter:1\n    \
             env: [{{name: SEEN, value: '${{{expression}}}'}}]\n    \
             resources: {{limits: {{cpu: 10m, memory: 16Mi}}}}\n"
        );
        Snapshot {
            catalogue: Catalogue::new([Arc::new(Profile::parse("test", &text).unwrap())]),
            ..Snapshot::default()
        }
    };
    let alone = r#"has(object.spec.securityContext) ? json(object.spec.securityContext) : "none""#;
    let field = r#"has(object.spec.securityContext.runAsUser) ? string(object.spec.securityContext.runAsUser) : "none""#;
    for (expression, contexts) in [
        (
            alone,
            &[json!(null), json!({}), json!({"runAsUser": 7})] as &[_],
        ),
        (
            field,
            &[
                json!({}),
                json!({"runAsUser": 7}),
                json!({"runAsUser": 7, "seLinuxOptions": {"level": "s0"}}),
            ],
        ),
    ] {
        // To read the name as well takes the whole pod.
        let whole = format!(r#"has(object.metadata.namespace) ? ({expression}) : "unread""#);
        let (part, whole) = (profile(expression), profile(&whole));
        for context in contexts {
            let asks = review(&[("outrigger.dev/inject", "greeter")], |pod| {
                if !context.is_null() {
                    pod["spec"]["securityContext"] = context.clone();
                }
            });
            let containers = |snapshot| {
                let answer = answer(snapshot, &asks);
                let patch = answer["response"]["patch"].as_str().unwrap();
                let patch = BASE64_STANDARD.decode(patch).unwrap();
                let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
                let seen = patch
                    .into_iter()
                    .map(|operation| operation["value"].clone());
                let seen = seen.filter(|value| value["env"][0]["name"] == "SEEN");
                seen.map(|value| value["env"][0]["value"].clone())
                    .collect::<Vec<_>>()
            };
            let seen = containers(&part);
            assert_eq!(seen.len(), 1, "{context}");
            assert_eq!(seen, containers(&whole), "{context}");
        }
    }
}

#[test]
fn what_was_refused_is_not_remembered() {
    let snapshot = built_in();
    let wrong = [
        TLS[0],
        TLS[1],
        ("envoy-tls.outrigger.dev/upstream-port", "0"),
    ];
    for _ in 0..2 {
        let refused = answer(&snapshot, &review(&wrong, |_| {}));
        assert_eq!(refused["response"]["allowed"], false);
    }
    assert_eq!(snapshot.renderings.lookups().misses, 2);
}

#[test]
fn only_so_much_is_remembered() {
    let snapshot = Snapshot {
        renderings: Arc::new(Renderings::with_capacity(256 * 1024)),
        ..built_in()
    };
    let ask = |port: usize| {
        let port = port.to_string();
        let asks = [
            TLS[0],
            TLS[1],
            ("envoy-tls.outrigger.dev/upstream-port", &*port),
        ];
        admission::review(&review(&asks, |_| {}), &snapshot).unwrap();
    };
    (1..=200).for_each(ask);
    assert!(
        snapshot.renderings.size() <= 256 * 1024,
        "{}",
        snapshot.renderings.size()
    );
    assert!(
        snapshot.renderings.size() > 64 * 1024,
        "{}",
        snapshot.renderings.size()
    );
    // The earliest made room.
    (1..=200).for_each(ask);
    assert!(snapshot.renderings.lookups().misses > 350);
}

/// A key as long as somebody likes would be memory that somebody else pays for.
#[test]
fn long_annotations_are_rendered_each_time() {
    let snapshot = built_in();
    let long = format!("/var/log/web/{}.log", "x".repeat(9000));
    let asks = [
        LOGS[0],
        ("fluentd.outrigger.dev/path", &*long),
        LOGS[2],
        LOGS[3],
    ];
    answer(&snapshot, &review(&asks, |_| {}));
    assert_eq!(snapshot.renderings.lookups().uncacheable, 1);
    assert_eq!(snapshot.renderings.size(), 0);
}

#[test]
fn no_more_is_held_than_is_said_to_be_remembered() {
    let snapshot = built_in();
    let workload = |number: usize| {
        let path = format!("/var/log/web-{number}/*.log");
        let secret = format!("web-tls-{number}");
        review(
            &[
                ("outrigger.dev/inject", "envoy-tls, fluentd"),
                ("envoy-tls.outrigger.dev/secret", secret.as_str()),
                ("fluentd.outrigger.dev/path", path.as_str()),
                ("fluentd.outrigger.dev/output", "stdout"),
            ],
            |_| {},
        )
    };
    // What is made once, at the first.
    admission::review(&workload(0), &snapshot).unwrap();
    let before = snapshot.renderings.size();
    let held = allocation_counter::measure(|| {
        for number in 1..=20 {
            admission::review(&workload(number), &snapshot).unwrap();
        }
    });
    let said = snapshot.renderings.size() - before;
    let held = u64::try_from(held.bytes_current).unwrap();
    // The rest is what the allocator rounds up.
    assert!(
        (said / 2..said).contains(&held),
        "{said} bytes are said to be remembered, and {held} are held"
    );
}
