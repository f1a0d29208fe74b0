//! Streams: what is found, what is changed, what stays.

use json_patch::Patch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Stream;
use super::encode::tests::value;
use crate::yaml;

pub(super) fn stream(text: &str) -> Stream {
    Stream::parse("test.yaml", text.as_bytes())
        .unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

pub(super) fn patch(operations: Value) -> Patch {
    serde_json::from_value(operations).unwrap()
}

/// What an injection looks like.
pub(super) fn sidecar() -> Patch {
    patch(json!([
        {"op": "add", "path": "/metadata/annotations/outrigger.dev~1status", "value": "{\"instances\":[]}"},
        {"op": "add", "path": "/spec/initContainers", "value": [{"name": "proxy", "image": "envoy:1", "restartPolicy": "Always"}]},
        {"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "A", "value": "yes"}]},
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "tail", "args": ["-f", "012"]}},
    ]))
}

fn patched(text: &str, patch: &Patch) -> String {
    let mut stream = stream(text);
    let places: Vec<_> = stream
        .workloads("default")
        .into_iter()
        .map(|workload| workload.place)
        .collect();
    assert!(!places.is_empty(), "{text}");
    for place in places {
        stream.apply(&place, patch).unwrap();
    }
    stream.after().unwrap()
}

#[test]
fn untouched_streams_come_back_byte_for_byte() {
    let texts = [
        "",
        "\n",
        "# only a comment",
        "---\n",
        "a: 1",
        "\u{feff}a: 1\n",
        "\u{feff}# licence\r\n---\r\na: 'x' # why\r\n\r\n---\r\n\r\n...\r\n# end",
        "%YAML 1.2\n---\na:   {b:   1}\n...\n---\n---\n# nothing\n---\nb: &x 0644\nc: *x\n",
        "{\"a\": 1.0}",
        "{\"a\":1}\n\n {\"b\":2} \n",
        "---\n{\"a\": 1}\n---\n{\"a\": 2}\n",
        "{a: 1}\n",
        "- 1\n- 2\n",
        "just text\n",
    ];
    for text in texts {
        let stream = stream(text);
        assert_eq!(stream.before(), text);
        assert_eq!(stream.after().unwrap(), text);
        assert!(!stream.is_changed());
    }
}

#[test]
fn a_patch_goes_into_the_text_of_its_author() {
    let text = "\
# The shop's front.
---
apiVersion: apps/v1
kind: Deployment # not a StatefulSet
metadata:
  name: \"web\"
spec:
  template:
    metadata:
      annotations:
        outrigger.dev/inject: 'fluentd'
    spec:
      # The application.
      containers:
      - name: web
        image: \"nginx:1.27\" # pinned
        ports: [{containerPort: 80}]

      # Where it writes.
      volumes:
      - name: logs
        configMap: {name: x, defaultMode: 0644}
# the end
---
kind: Service   # untouched
";
    let expected = "\
# The shop's front.
---
apiVersion: apps/v1
kind: Deployment # not a StatefulSet
metadata:
  name: \"web\"
spec:
  template:
    metadata:
      annotations:
        outrigger.dev/inject: 'fluentd'
        outrigger.dev/status: '{\"instances\":[]}'
    spec:
      # The application.
      containers:
      - name: web
        image: \"nginx:1.27\" # pinned
        ports: [{containerPort: 80}]
        env:
        - name: A
          value: \"yes\"
      - name: tail
        args:
        - -f
        - \"012\"

      # Where it writes.
      volumes:
      - name: logs
        configMap: {name: x, defaultMode: 0644}
      initContainers:
      - name: proxy
        image: envoy:1
        restartPolicy: Always
# the end
---
kind: Service   # untouched
";
    assert_eq!(patched(text, &sidecar()), expected);
}

#[test]
fn the_layout_of_the_author_is_kept() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
    annotations:
        a: b
spec:
    containers:
        - name: web
          # how
          args:
              - one
";
    let expected = "\
apiVersion: v1
kind: Pod
metadata:
    annotations:
        a: b
spec:
    containers:
        - name: web
          # how
          args:
              - one
              - two
        - name: tail
";
    let patch = patch(json!([
        {"op": "add", "path": "/spec/containers/0/args/-", "value": "two"},
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "tail"}},
    ]));
    assert_eq!(patched(text, &patch), expected);
    // Line breaks as well.
    assert_eq!(
        patched(&text.replace('\n', "\r\n"), &patch),
        expected.replace('\n', "\r\n")
    );
    // And a last line without one.
    assert_eq!(
        patched(text.trim_end(), &patch).trim_end(),
        expected.trim_end()
    );
}

#[test]
fn comments_stay_with_the_lines_that_they_are_about() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  # Who asks.
  annotations: {}
spec:
  containers:
  - name: web
    description: in plain words
      over two lines
  # - name: old

  # Where it writes.
  volumes: [] # none yet
";
    let expected = "\
apiVersion: v1
kind: Pod
metadata:
  # Who asks.
  annotations:
    a: b
spec:
  containers:
  - name: web
    description: in plain words
      over two lines
  - name: tail
  # - name: old

  # Where it writes.
  volumes:
  - name: logs
";
    let patch = patch(json!([
        {"op": "add", "path": "/metadata/annotations/a", "value": "b"},
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "tail"}},
        {"op": "add", "path": "/spec/volumes/-", "value": {"name": "logs"}},
    ]));
    assert_eq!(patched(text, &patch), expected);
}

#[test]
fn a_document_that_cannot_be_spliced_is_written_anew_with_its_surroundings() {
    // The pod template is used twice by an anchor: only one of them is patched.
    let text = "\
# licence
---
# what follows
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: &m {name: a, annotations: {x: z}}, spec: {containers: [{name: c}]}}
- {apiVersion: v1, kind: Pod, metadata: *m, spec: {containers: []}} # lost
# kept
...
";
    let mut stream = stream(text);
    let place = stream.workloads("default")[0].place.clone();
    stream.apply(&place, &sidecar()).unwrap();
    let after = stream.after().unwrap();
    assert!(
        after.starts_with("# licence\n---\n# what follows\napiVersion: v1\nkind: List\nitems:\n"),
        "{after}"
    );
    assert!(after.ends_with("# kept\n...\n"), "{after}");
    let read = yaml::read(&after).unwrap();
    assert_eq!(
        read["items"][1]["metadata"]["annotations"],
        json!({"x": "z"})
    );
    assert_eq!(read["items"][0]["spec"]["containers"][1]["name"], "tail");
}

#[test]
fn content_on_the_marker_line_is_written_below_it() {
    let text = "a: 1\n--- {apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {}}\n---\nb: 1\n";
    let patch = patch(json!([{"op": "add", "path": "/spec/nodeName", "value": "on"}]));
    assert_eq!(
        patched(text, &patch),
        "a: 1\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  nodeName: \"on\"\n---\nb: 1\n"
    );
}

#[test]
fn json_stays_json_with_its_order_and_indentation() {
    let text = "{\n    \"kind\": \"Pod\",\n    \"apiVersion\": \"v1\",\n    \"spec\": {\"x\": 1.0}\n}\n{\"kind\": \"Service\"}\n";
    let patch = patch(json!([{"op": "add", "path": "/spec/a", "value": []}]));
    assert_eq!(
        patched(text, &patch),
        "{\n    \"kind\": \"Pod\",\n    \"apiVersion\": \"v1\",\n    \"spec\": {\n        \"x\": 1.0,\n        \"a\": []\n    }\n}\n{\"kind\": \"Service\"}\n"
    );
}

#[test]
fn workloads_and_namespaces_are_found_across_documents() {
    let stream = stream(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {a: b}}\n---\n---\n\
         apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {}}\n\
         - {apiVersion: batch/v1, kind: CronJob, metadata: {name: c, namespace: shop}, spec: {jobTemplate: {spec: {template: {}}}}}\n\
         - {apiVersion: v1, kind: Namespace, metadata: {name: other}}\n",
    );
    let found: Vec<_> = stream
        .workloads("default")
        .iter()
        .map(|workload| {
            (
                workload.kind.to_owned(),
                workload.name.to_owned(),
                workload.namespace.to_owned(),
                workload.place.document_number(),
                workload.place.pointer().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("Pod", "p-", "default", 3, "/items/0"),
        (
            "CronJob",
            "c",
            "shop",
            3,
            "/items/1/spec/jobTemplate/spec/template",
        ),
    ]
    .map(|(kind, name, namespace, document, pointer)| {
        (
            kind.to_owned(),
            name.to_owned(),
            namespace.to_owned(),
            document,
            pointer.to_owned(),
        )
    });
    assert_eq!(found, expected);
    let namespaces = stream.namespaces();
    assert_eq!(
        namespaces
            .iter()
            .map(|namespace| namespace.name)
            .collect::<Vec<_>>(),
        ["shop", "other"]
    );
    assert_eq!(namespaces[0].object["metadata"]["annotations"]["a"], "b");
}

#[test]
fn errors_name_file_document_and_line_and_are_all_told() {
    let cases: &[(&str, &[u8], &[&str])] = &[
        (
            "a.yaml",
            b"a: 1\n---\nb: 1\nb: 2\n---\nc: 1\n---\n# x\n\nd: !what y\n",
            &[
                "a.yaml: document 2, line 4: duplicate",
                "a.yaml: document 4, line 10: ",
            ],
        ),
        (
            "a.json",
            b"{\n \"a\": 1,\n \"a\": 2}",
            &["a.json: document 1, line 3: duplicate key `a`"],
        ),
        (
            "a.json",
            b"a: 1\n",
            &["a.json: document 1, line 1: expected value"],
        ),
        (
            "a.yaml",
            b"a: 1\nb: \xff\n",
            &["a.yaml: line 2: the text is not UTF-8"],
        ),
        (
            "a.yaml",
            b"\xff\xfea\0",
            &["a.yaml: the text is not UTF-8 but UTF-16: save it as UTF-8"],
        ),
    ];
    for (name, bytes, expected) in cases {
        let errors = Stream::parse(name, bytes).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, expected) in errors.iter().zip(*expected) {
            assert!(
                error.to_lowercase().starts_with(&expected.to_lowercase()),
                "{error}"
            );
        }
    }
}

#[test]
fn a_patch_that_does_not_apply_changes_nothing() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {}\n";
    let mut stream = stream(text);
    let place = stream.workloads("default")[0].place.clone();
    let patch = patch(json!([
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": "/spec/containers/-", "value": {}},
    ]));
    let error = stream.apply(&place, &patch).unwrap_err().to_string();
    assert!(
        error.starts_with("test.yaml: document 1: the patch does not apply: "),
        "{error}"
    );
    assert_eq!(stream.after().unwrap(), text);
    // A patch that comes to nothing leaves the text alone as well.
    stream.apply(&place, &Patch::default()).unwrap();
    let test =
        serde_json::from_value(json!([{"op": "test", "path": "/metadata", "value": {}}])).unwrap();
    stream.apply(&place, &test).unwrap();
    assert!(!stream.is_changed());
    assert_eq!(stream.after().unwrap(), text);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Whatever the pod and the patch hold, the text is read back as the patched value, and the
    /// documents beside it keep their bytes.
    #[test]
    fn a_patched_text_means_the_patched_value(
        first in value(),
        second in value(),
        new in value(),
        at in prop::sample::select(vec!["/spec/new", "/spec/list/0", "/spec/list/-", "/metadata"]),
        indent in prop::sample::select(vec![2_usize, 4]),
        indented_lists in any::<bool>(),
        ending in prop::sample::select(vec!["", "# end\n", "\n\n", "...\n", "\n# end\n\n"]),
    ) {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"a": first, "list": [second], "z": [1]}});
        let layout = super::encode::Layout { indent, indented_lists };
        let document = super::encode::yaml(&object, layout).unwrap();
        prop_assume!(yaml::read(&format!("{document}{ending}")).as_ref() == Ok(&object));
        let text = format!("x:   1\n---\n# c\n{document}{ending}---\ny:   1");
        let mut stream = stream(&text);
        let place = stream.workloads("default")[0].place.clone();
        let patch = patch(json!([{"op": "add", "path": at, "value": new}]));
        stream.apply(&place, &patch).unwrap();
        let after = stream.after().unwrap();
        prop_assert!(after.starts_with("x:   1\n---\n# c\n"), "{}", after);
        prop_assert!(after.ends_with("---\ny:   1"), "{}", after);
        let mut expected = object;
        json_patch::patch(&mut expected, &patch).unwrap();
        let again = Stream::parse("test.yaml", after.as_bytes()).unwrap();
        prop_assert_eq!(&again.documents[1].value, &expected, "{}", after);
    }
}
