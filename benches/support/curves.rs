//! What grows along the curves: a pod, or what is known beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger::inject::{Namespace, Namespaces};
use serde_json::{Value, json};

use super::fixture;

/// The namespace of all pods here, which asks for whatever profile matches.
pub(crate) const NAMESPACE: &str = "namespace-00000";

/// A pod that asks for `envoy-tls` and has so many environment variables.
pub(crate) fn variables(count: usize) -> Vec<u8> {
    fixture::review(&TLS, count)
}

/// A pod of so many containers, each with ports, mounts, probes and variables of its own, that asks for a profile
/// which looks at none of them.
pub(crate) fn containers(count: usize) -> Vec<u8> {
    review(&TLS, count)
}

/// The same, of a profile that reads the pod and adds to every container.
pub(crate) fn containers_read(count: usize) -> Vec<u8> {
    let shared = [
        ("outrigger.dev/inject", "shared-volume"),
        ("shared-volume.outrigger.dev/path", "/var/cache/app"),
    ];
    review(&shared, count)
}

/// A pod that asks for so many instances, each with a sidecar, a file and volumes.
pub(crate) fn instances(count: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count)
        .map(|index| format!("egress-{index}=envoy-egress"))
        .collect();
    let mut annotations = BTreeMap::from([("outrigger.dev/inject".to_owned(), names.join(","))]);
    for index in 0..count {
        let mut set = |name: &str, value: String| {
            annotations.insert(format!("egress-{index}.outrigger.dev/{name}"), value);
        };
        set("upstream", format!("service-{index}.example.com:443"));
        set("listen-port", (16_000 + 10 * index).to_string());
    }
    let annotations: Vec<_> = annotations
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    review(&annotations, 1)
}

/// A pod that asks for `envoy-tls` by name.
pub(crate) fn asking() -> Vec<u8> {
    review(&TLS, 1)
}

/// A pod that asks for nothing, and that the first of [`profile`] matches.
pub(crate) fn matched() -> Vec<u8> {
    review(&[], 1)
}

const TLS: [(&str, &str); 2] = [
    ("outrigger.dev/inject", "envoy-tls"),
    ("envoy-tls.outrigger.dev/secret", "web-tls"),
];

fn review(annotations: &[(&str, &str)], containers: usize) -> Vec<u8> {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let volumes: Vec<_> = (0..containers)
        .map(|index| json!({"name": format!("data-{index}"), "emptyDir": {}}))
        .collect();
    let containers: Vec<_> = (0..containers).map(container).collect();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "6f3a", "operation": "CREATE", "namespace": NAMESPACE,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "generateName": "web-", "namespace": NAMESPACE, "annotations": annotations,
                    "labels": {"app": "profile-00000", "pod-template-hash": "5d9c7b8f6"},
                },
                "spec": {"containers": containers, "volumes": volumes},
            },
        },
    });
    review.to_string().into_bytes()
}

fn container(index: usize) -> Value {
    let port = 2000 + index;
    json!({
        "name": format!("app-{index}"),
        "image": format!("registry.example.com/app-{index}:1"),
        "ports": [{"name": format!("http-{index}"), "containerPort": port, "protocol": "TCP"}],
        "env": [
            {"name": "PORT", "value": port.to_string()},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": port}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": format!("data-{index}"), "mountPath": "/data"}],
    })
}

/// The spec of a small profile that is given to pods of one `app`.
pub(crate) fn profile_spec(index: usize, image: &str) -> Value {
    json!({
        "summary": "Looks after the pods of one application.",
        "match": {"podSelector": {"matchLabels": {"app": profile_name(index)}}},
        "parameters": {
            "port": {"type": "integer", "default": 9000, "description": "Where it listens."},
            "level": {"type": "string", "enum": ["debug", "info"], "default": "info", "description": "What it logs."},
        },
        "initContainers": [{
            "name": "${instance}",
            "image": image,
            "restartPolicy": "Always",
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"},
            },
            "args": ["--port=${params.port}", "--level=${params.level}"],
            "env": [{"includeWhen": ["params.level == 'debug'"], "name": "DEBUG", "value": "1"}],
        }],
    })
}

/// The name of a profile.
pub(crate) fn profile_name(index: usize) -> String {
    format!("profile-{index:05}")
}

/// The name of a namespace.
pub(crate) fn namespace_name(index: usize) -> String {
    format!("namespace-{index:05}")
}

/// What a namespace says of itself.
pub(crate) fn namespace(index: usize, change: usize) -> Namespace {
    let owned = |(key, value): (&str, String)| (key.to_owned(), value);
    let labels = [
        ("kubernetes.io/metadata.name", namespace_name(index)),
        ("outrigger.dev/injection", "enabled".to_owned()),
        ("pod-security.kubernetes.io/enforce", "baseline".to_owned()),
        ("team", format!("team-{}", index % 50)),
    ];
    let annotations = [
        (
            "example.com/owner",
            format!("team-{}@example.com", index % 50),
        ),
        ("example.com/change", change.to_string()),
    ];
    Namespace {
        labels: labels.map(owned).into(),
        annotations: annotations.map(owned).into(),
    }
}

/// So many namespaces.
pub(crate) fn namespaces(count: usize) -> Namespaces {
    let mut known = Namespaces::default();
    for index in 0..count {
        known.insert_mut(namespace_name(index).into(), Arc::new(namespace(index, 0)));
    }
    known
}
