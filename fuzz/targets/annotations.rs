//! Any annotations on pods of several shapes, or on their namespace, in both ways of running sidecars.

#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use oracle::Node;
use outrigger::admission::Snapshot;
use outrigger_fuzz::{CATALOGUE, MODES, hold, snapshot};
use serde_json::{Map, Value, json};

/// The separators of the corpus: between annotations, and between the key and the value of one. Control characters that
/// neither means anything to the program; a value may hold any other.
const RECORD: char = '\u{1e}';
const UNIT: char = '\u{1f}';

/// What is asked. The bytes are one of flags and then text, so that seeds can be written and mutations are of words.
#[derive(Debug)]
struct Asked {
    /// Index into [`MODES`].
    mode: usize,
    /// On the namespace instead of the pod.
    of_namespace: bool,
    /// Index into [`pods`].
    pod: usize,
    annotations: Vec<(String, String)>,
}

impl<'a> Arbitrary<'a> for Asked {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let flags = usize::from(u8::arbitrary(input)?);
        let text = String::from_utf8_lossy(input.bytes(input.len())?);
        let annotations = text
            .split(RECORD)
            .filter_map(|record| record.split_once(UNIT));
        Ok(Self {
            mode: flags & 1,
            of_namespace: flags & 2 != 0,
            pod: (flags >> 2) % PODS.len(),
            annotations: annotations
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }
}

/// Pods that differ in what an injection has to go around.
static PODS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let volumes = json!([{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "logs", "emptyDir": {}}]);
    let mounts = json!([{"name": "data", "mountPath": "/data"}, {"name": "logs", "mountPath": "/var/log/web"}]);
    let web = json!({"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}], "volumeMounts": mounts});
    vec![
        json!({"containers": [web], "volumes": volumes}),
        json!({"containers": [{"name": "web"}]}),
        json!({"restartPolicy": "Never", "containers": [web], "volumes": volumes}),
        json!({
            "initContainers": [{"name": "first", "image": "first:1"}, {"name": "mesh", "restartPolicy": "Always", "ports": [{"containerPort": 15090}]}],
            "containers": [web, {"name": "db", "volumeMounts": [{"name": "data", "mountPath": "/var/lib/db", "subPath": "db"}]}],
            "volumes": volumes, "securityContext": {"fsGroup": 2000}, "imagePullSecrets": null,
            "fromTheFuture": {"number": 1.0},
        }),
        json!({"hostNetwork": true, "containers": [web], "volumes": volumes}),
    ]
});

/// One of each mode, for what pods ask themselves.
static SNAPSHOTS: LazyLock<Vec<Snapshot>> = LazyLock::new(|| {
    MODES
        .iter()
        .map(|mode| snapshot(&CATALOGUE, *mode, &[]))
        .collect()
});

fuzz_target!(|asked: Asked| {
    let mut metadata = json!({"name": "web", "labels": {"app": "web"}});
    let given;
    let snapshot = if asked.of_namespace {
        given = snapshot(&CATALOGUE, MODES[asked.mode], &asked.annotations);
        &given
    } else {
        let annotations = asked.annotations.iter().cloned();
        metadata["annotations"] = Value::Object(
            annotations
                .map(|(key, value)| (key, Value::String(value)))
                .collect::<Map<_, _>>(),
        );
        &SNAPSHOTS[asked.mode]
    };
    let pod = json!({"metadata": metadata, "spec": PODS[asked.pod]});
    let pod = Node::parse(&pod.to_string()).unwrap_or_else(|error| panic!("{error}"));
    hold(oracle::reviewed(&pod, snapshot));
});
