//! What goes to standard output.

use serde_json::{Value, json};

use super::{diff, json as as_json, patch as as_patch, yaml};
use crate::manifest::Stream;
use crate::manifest::tests::{patch, stream};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a # x\nspec: {}\n";

fn named(mut stream: Stream, name: &str) -> Stream {
    name.clone_into(&mut stream.name);
    stream
}

/// Labels every workload.
fn labelled(mut stream: Stream) -> Stream {
    let places: Vec<_> = stream
        .workloads("default")
        .into_iter()
        .map(|workload| workload.place)
        .collect();
    for place in places {
        let labels =
            patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"on": "yes"}}]));
        stream.apply(&place, &labels).unwrap();
    }
    stream
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn several_files_are_one_yaml_stream() {
    let streams = [
        "a: 1",
        "\u{feff}b: 1\n",
        "---\nc: 1\n",
        "%YAML 1.2\n---\nd: 1\n",
        "# e\n",
    ]
    .map(stream);
    assert_eq!(
        yaml(&streams).unwrap(),
        "a: 1\n---\nb: 1\n---\nc: 1\n...\n%YAML 1.2\n---\nd: 1\n---\n# e\n"
    );
    assert_eq!(yaml(&streams[1..2]).unwrap(), "\u{feff}b: 1\n");
    assert_eq!(yaml(&[]).unwrap(), "");
}

#[test]
fn one_document_is_a_json_object_and_several_are_a_list() {
    let one = [stream("---\n---\na: 0644\n")];
    assert_eq!(as_json(&one).unwrap(), "{\n  \"a\": 420\n}\n");
    let several = [
        stream("a: 1\n---\nb: 1\n"),
        stream("apiVersion: v1\nkind: List\nitems: [{c: 1}, {d: 1}]"),
    ];
    assert_eq!(
        value(&as_json(&several).unwrap()),
        json!({"apiVersion": "v1", "kind": "List", "items": [{"a": 1}, {"b": 1}, {"c": 1}, {"d": 1}]})
    );
    let list = json!({"apiVersion": "v1", "kind": "List", "items": []});
    assert_eq!(value(&as_json(&[]).unwrap()), list);
}

#[test]
fn the_patch_of_a_lone_workload_is_plain() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {metadata: {}}}\n---\nkind: Service\n";
    assert_eq!(
        value(&as_patch(&[labelled(stream(deployment))], "default").unwrap()),
        json!([{"op": "add", "path": "/spec/template/metadata/labels", "value": {"on": "yes"}}])
    );
    assert_eq!(
        value(&as_patch(&[stream(POD)], "default").unwrap()),
        json!([])
    );
}

#[test]
fn patches_of_several_workloads_say_whose_they_are() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}}\n";
    let streams = [
        named(stream(POD), "untouched.yaml"),
        named(
            labelled(stream(&format!("x: 1\n---\n{POD}---\n{list}"))),
            "b.yaml",
        ),
    ];
    let add = |path: &str| json!([{"op": "add", "path": path, "value": {"on": "yes"}}]);
    assert_eq!(
        value(&as_patch(&streams, "default").unwrap()),
        json!([
            {"file": "b.yaml", "document": 2, "apiVersion": "v1", "kind": "Pod", "namespace": "default",
             "name": "a", "patch": add("/metadata/labels")},
            {"file": "b.yaml", "document": 3, "apiVersion": "v1", "kind": "Pod", "namespace": "shop",
             "name": "b", "patch": add("/items/0/metadata/labels")},
        ])
    );
}

#[test]
fn a_diff_shows_the_lines_of_the_files_that_change() {
    let streams = [
        named(stream(POD), "untouched.yaml"),
        named(
            labelled(stream(&format!("# first\n---\n{POD}---\nkind: Service\n"))),
            "b.yaml",
        ),
    ];
    assert_eq!(
        diff(&streams).unwrap(),
        "--- b.yaml\n+++ b.yaml\n@@ -4,6 +4,8 @@\n kind: Pod\n metadata:\n   name: a # x\n+  labels:\n+    \"on\": \"yes\"\n spec: {}\n ---\n kind: Service\n"
    );
    assert_eq!(diff(&streams[..1]).unwrap(), "");
}

#[test]
fn a_diff_keeps_empty_lines_and_says_where_a_last_line_has_no_end() {
    let pod = "kind: Pod\napiVersion: v1\n\nmetadata:\n  name: a";
    assert_eq!(
        diff(&[named(labelled(stream(pod)), "b.yaml")]).unwrap(),
        "--- b.yaml\n+++ b.yaml\n@@ -2,4 +2,6 @@\n apiVersion: v1\n \n metadata:\n-  name: a\n\\ No newline at end of file\n+  name: a\n+  labels:\n+    \"on\": \"yes\"\n"
    );
}
