//! Properties of every injection, over generated pods and profiles and over recorded reviews.
//!
//! Pods are generated as JSON *text*, because the spelling of a number and the order of keys count. The patch
//! is applied by a small strict RFC 6902 applier of this test's own, over a tree that keeps each scalar as it
//! was written; the json-patch crate must come to the same. What the pod that comes out must be is checked
//! here anew, and not by the checker of the program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger::admission::{self, Reviewed, Snapshot};
use outrigger::inject::{Namespace, SidecarMode};
use outrigger::profile::{Catalogue, Profile};
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::TestCaseError;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const STATUS: &str = "/metadata/annotations/outrigger.dev~1status";

// ---------------------------------------------------------------- a tree that keeps text

/// JSON whose scalars are the text they were written as.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Scalar(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Node {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.as_bytes()[0] {
            b'{' => {
                let members: Members = serde_json::from_str(text).unwrap();
                Self::Object(
                    members
                        .0
                        .into_iter()
                        .map(|(key, raw)| (key, Self::parse(raw.get())))
                        .collect(),
                )
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
                Self::List(items.iter().map(|raw| Self::parse(raw.get())).collect())
            }
            _ => Self::Scalar(text.to_owned()),
        }
    }

    fn text(&self) -> String {
        let join = |parts: Vec<String>| parts.join(",");
        match self {
            Self::Scalar(text) => text.clone(),
            Self::List(items) => format!("[{}]", join(items.iter().map(Self::text).collect())),
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, node)| format!("{}:{}", json!(key), node.text()));
                format!("{{{}}}", join(members.collect()))
            }
        }
    }

    /// As a value; numbers that no value can hold become null.
    fn value(&self) -> Value {
        match self {
            Self::Scalar(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, node)| (key.clone(), node.value()))
                    .collect(),
            ),
        }
    }

    fn is_null(&self) -> bool {
        *self == Self::Scalar("null".to_owned())
    }

    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members
                .iter_mut()
                .find(|(known, _)| known == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    fn set(&mut self, key: &str, node: Self) {
        match self.get_mut(key) {
            Some(old) => *old = node,
            None => {
                if let Self::Object(members) = self {
                    members.push((key.to_owned(), node));
                }
            }
        }
    }

    fn items(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    /// The list at a key, made where it is absent or null.
    fn list_mut(&mut self, key: &str) -> &mut Vec<Self> {
        if !matches!(self.get(key), Some(Self::List(_))) {
            self.set(key, Self::List(Vec::new()));
        }
        match self.get_mut(key) {
            Some(Self::List(items)) => items,
            _ => unreachable!("it was just set"),
        }
    }

    fn name(&self) -> String {
        self.get("name")
            .map(|node| node.value().as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    }

    /// RFC 6902 `add`, strictly: the parent exists, an index is at most the length, and nothing that is there
    /// is replaced but `null` and our own status.
    fn add(&mut self, path: &str, value: Self) -> Result<(), String> {
        let (parent, last) = path
            .rsplit_once('/')
            .ok_or_else(|| format!("{path:?} points at the whole"))?;
        let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
        let mut node = self;
        for token in parent.split('/').skip(1) {
            let token = unescape(token);
            node = match node {
                Self::Object(_) => node
                    .get_mut(&token)
                    .ok_or_else(|| format!("{path}: there is no {token}"))?,
                Self::List(items) => {
                    let at = index(&token)?;
                    items
                        .get_mut(at)
                        .ok_or_else(|| format!("{path}: there is no item {at}"))?
                }
                Self::Scalar(_) => return Err(format!("{path}: {token} is inside of a scalar")),
            };
        }
        let last = unescape(last);
        match node {
            Self::Object(members) => match members.iter_mut().find(|(key, _)| *key == last) {
                Some((_, old)) if old.is_null() || path == STATUS => *old = value,
                Some(_) => return Err(format!("{path}: replaces what is there")),
                None => members.push((last, value)),
            },
            Self::List(items) if last == "-" => items.push(value),
            Self::List(items) => {
                let at = index(&last)?;
                if at > items.len() {
                    return Err(format!("{path}: beyond the end, {}", items.len()));
                }
                items.insert(at, value);
            }
            Self::Scalar(_) => return Err(format!("{path}: adds to a scalar")),
        }
        Ok(())
    }

    fn apply(&mut self, patch: &str) -> Result<usize, String> {
        let operations = Self::parse(patch);
        let Self::List(operations) = operations else {
            return Err("the patch is no list".to_owned());
        };
        for operation in &operations {
            let text = |key: &str| {
                operation
                    .get(key)
                    .and_then(|node| node.value().as_str().map(str::to_owned))
            };
            if text("op").as_deref() != Some("add") {
                return Err(format!("not an add: {}", operation.text()));
            }
            let value = operation.get("value").ok_or("an add without a value")?;
            self.add(&text("path").ok_or("an add without a path")?, value.clone())?;
        }
        Ok(operations.len())
    }

    /// Whether everything of `self` is in `other`, as it was written and in the order it was written. `null`
    /// is nothing.
    fn survives_in(&self, other: &Self, path: &str) -> Result<(), String> {
        match (self, other) {
            (Self::Scalar(_), _) if self.is_null() || path == STATUS => Ok(()),
            (Self::Scalar(a), Self::Scalar(b)) if a == b => Ok(()),
            (Self::Object(mine), Self::Object(theirs)) => {
                let mut rest = theirs.iter();
                for (key, node) in mine {
                    let found = rest
                        .find(|(known, _)| known == key)
                        .ok_or_else(|| format!("{path}: {key:?} is gone or has moved"))?;
                    let token = key.replace('~', "~0").replace('/', "~1");
                    node.survives_in(&found.1, &format!("{path}/{token}"))?;
                }
                Ok(())
            }
            (Self::List(mine), Self::List(theirs)) => {
                let mut rest = theirs.iter();
                for (index, node) in mine.iter().enumerate() {
                    if !rest.any(|found| node.survives_in(found, path).is_ok()) {
                        return Err(format!(
                            "{path}[{index}] is gone, changed or moved: {}",
                            node.text()
                        ));
                    }
                }
                Ok(())
            }
            _ => Err(format!("{path}: was {}, is {}", self.text(), other.text())),
        }
    }
}

fn index(token: &str) -> Result<usize, String> {
    let plain = !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_digit())
        && (token == "0" || !token.starts_with('0'));
    token
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| format!("{token:?} is no index"))
}

#[test]
fn the_applier_is_strict() {
    let start = Node::parse(r#"{"a":[1,2],"b":{"c/d":null},"n":1.0}"#);
    let run = |path: &str| {
        let mut tree = start.clone();
        tree.add(path, Node::parse("7")).map(|()| tree.text())
    };
    assert_eq!(
        run("/a/-"),
        Ok(r#"{"a":[1,2,7],"b":{"c/d":null},"n":1.0}"#.to_owned())
    );
    assert_eq!(
        run("/a/0"),
        Ok(r#"{"a":[7,1,2],"b":{"c/d":null},"n":1.0}"#.to_owned())
    );
    assert_eq!(
        run("/b/c~1d"),
        Ok(r#"{"a":[1,2],"b":{"c/d":7},"n":1.0}"#.to_owned())
    );
    for bad in [
        "/a/3", "/a/01", "/a/+1", "/a", "/n", "/x/y", "/n/x", "", "/a/-/x",
    ] {
        assert!(run(bad).is_err(), "{bad}");
    }
    assert!(
        Node::parse("1.0")
            .survives_in(&Node::parse("1"), "")
            .is_err()
    );
    assert!(
        Node::parse(r#"{"a":1,"b":2}"#)
            .survives_in(&Node::parse(r#"{"b":2,"a":1}"#), "")
            .is_err()
    );
    assert!(
        Node::parse("[1,2]")
            .survives_in(&Node::parse("[2,1]"), "")
            .is_err()
    );
    assert!(
        Node::parse("[1,2]")
            .survives_in(&Node::parse("[0,1,3,2]"), "")
            .is_ok()
    );
}

// ---------------------------------------------------------------- the pod that comes out

/// The rules 1–3, 11, 13 and 15 of "the pod that comes out", written from their text.
fn check(before: &Value, after: &Value) -> Result<(), String> {
    let list = |pod: &Value, key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let both = |pod: &Value| [list(pod, "initContainers"), list(pod, "containers")].concat();
    let old: BTreeSet<String> = both(before).iter().map(name).collect();
    let old_volumes: BTreeSet<String> = list(before, "volumes").iter().map(name).collect();
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && text
                .chars()
                .all(|part| part.is_ascii_lowercase() || part.is_ascii_digit() || part == '-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };

    // 1
    let mut seen = BTreeSet::new();
    for container in both(after) {
        if !label(&name(&container)) || !seen.insert(name(&container)) {
            return Err(format!("rule 1: the container name {:?}", name(&container)));
        }
    }
    // 2
    let running = list(after, "initContainers")
        .into_iter()
        .filter(|container| container["restartPolicy"] == "Always")
        .chain(list(after, "containers"));
    let mut ports: BTreeMap<(u64, String), String> = BTreeMap::new();
    for container in running {
        let mut names = BTreeSet::new();
        for port in container["ports"].as_array().into_iter().flatten() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let number = port["containerPort"].as_u64().unwrap_or(0);
            let other = ports.insert((number, protocol), name(&container));
            if let Some(other) = other.filter(|other| *other != name(&container))
                && (!old.contains(&other) || !old.contains(&name(&container)))
            {
                return Err(format!(
                    "rule 2: port {number} of {other} and {}",
                    name(&container)
                ));
            }
            if let Some(name) = port["name"].as_str()
                && (name.len() > 15 || !names.insert(name.to_owned()))
            {
                return Err(format!("rule 2: the port name {name:?}"));
            }
        }
    }
    // 3 and 11
    let mut volumes = BTreeSet::new();
    for volume in list(after, "volumes") {
        if !volumes.insert(name(&volume)) {
            return Err(format!("rule 3: the volume {:?} twice", name(&volume)));
        }
        if !old_volumes.contains(&name(&volume)) {
            if name(&volume).starts_with("kube-api-access-") || !label(&name(&volume)) {
                return Err(format!("rule 3: the volume name {:?}", name(&volume)));
            }
            if volume
                .get("emptyDir")
                .is_some_and(|empty| empty.get("sizeLimit").is_none())
            {
                return Err(format!("rule 11: {:?} has no limit", name(&volume)));
            }
        }
    }
    for container in both(after) {
        let mut paths = BTreeSet::new();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            let sub_path = mount["subPath"].as_str().unwrap_or_default();
            if !paths.insert(path.trim_end_matches('/').to_owned()) {
                return Err(format!("rule 3: {path} twice in {}", name(&container)));
            }
            if sub_path.split('/').any(|part| part == "..") || sub_path.starts_with('/') {
                return Err(format!("rule 3: subPath {sub_path}"));
            }
            if !volumes.contains(mount["name"].as_str().unwrap_or_default()) {
                return Err(format!(
                    "rule 3: {mount} of {} mounts no volume",
                    name(&container)
                ));
            }
        }
        // 13
        if !old.contains(&name(&container)) {
            let key = format!(
                "container.apparmor.security.beta.kubernetes.io/{}",
                name(&container)
            );
            if after["metadata"]["annotations"].get(&key).is_some() {
                return Err(format!("rule 13: {key}"));
            }
        }
    }
    // 15
    let mut size = 0;
    for (key, value) in after["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
    {
        size += key.len() + value.as_str().unwrap_or_default().len();
        let ours = before["metadata"]["annotations"].get(key).is_none();
        if ours
            && key
                .split_once('/')
                .map_or(key.as_str(), |(_, name)| name)
                .len()
                > 63
        {
            return Err(format!("rule 15: the key {key}"));
        }
    }
    if size > 256 * 1024 {
        return Err(format!("rule 15: {size} bytes of annotations"));
    }
    Ok(())
}

// ---------------------------------------------------------------- a review, and all that holds of it

fn envelope(pod: &str) -> Vec<u8> {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{pod}}}}}"#
    )
    .into_bytes()
}

fn patch_of(reviewed: &Reviewed) -> Option<String> {
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    let patch = answer["response"].get("patch")?.as_str().unwrap();
    Some(String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap())
}

type Tested<T> = Result<T, TestCaseError>;

fn fail<T>(result: Result<T, String>, context: &str) -> Tested<T> {
    result.map_err(|message| TestCaseError::fail(format!("{message}\n{context}")))
}

/// Reviews a pod and holds all that must hold of any answer. The pod that comes out, if one does.
fn reviewed(pod: &Node, snapshot: &Snapshot) -> Tested<(Reviewed, Option<Node>)> {
    let text = pod.text();
    let body = envelope(&text);
    let reviewed = admission::review(&body, snapshot)
        .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
    let again = admission::review(&body, snapshot)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&reviewed, &again, "not deterministic");
    let patch = patch_of(&reviewed);
    prop_assert_eq!(
        patch.is_some(),
        reviewed.summary.outcome == "injected",
        "{:?}",
        reviewed.summary
    );
    let Some(patch) = patch else {
        return Ok((reviewed, None));
    };
    let context = format!("pod {text}\npatch {patch}");
    let mut result = pod.clone();
    let operations = fail(result.apply(&patch), &context)?;
    prop_assert!(operations > 0, "an empty patch");
    fail(pod.survives_in(&result, ""), &context)?;
    fail(check(&pod.value(), &result.value()), &context)?;
    // The crate cannot hold every number that JSON can.
    if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
        let patch: json_patch::Patch = serde_json::from_str(&patch).unwrap();
        json_patch::patch(&mut value, &patch)
            .map_err(|error| TestCaseError::fail(format!("{error}\n{context}")))?;
        prop_assert_eq!(&value, &result.value(), "the json-patch crate differs");
    }
    Ok((reviewed, Some(result)))
}

fn unchanged(pod: &Node, snapshot: &Snapshot, what: &str) -> Tested<()> {
    let (answer, result) = reviewed(pod, snapshot)?;
    prop_assert!(
        result.is_none(),
        "{}: patched again\n{}\n{:?}",
        what,
        pod.text(),
        patch_of(&answer)
    );
    prop_assert_eq!(
        answer.summary.outcome,
        "skipped",
        "{}: {:?}\n{}",
        what,
        answer.summary.message,
        pod.text()
    );
    Ok(())
}

/// What other webhooks do to a pod between two runs of ours. `ours` are the names of our containers.
fn edits(pod: &Node, ours: &BTreeSet<String>) -> Vec<(&'static str, Node)> {
    let each = |edit: &dyn Fn(&mut Node)| {
        let mut edited = pod.clone();
        let spec = edited.get_mut("spec").unwrap();
        for list in ["initContainers", "containers"] {
            if let Some(Node::List(items)) = spec.get_mut(list) {
                items
                    .iter_mut()
                    .filter(|item| ours.contains(&item.name()))
                    .for_each(edit);
            }
        }
        edited
    };
    let lists = |list: &str, at: fn(usize) -> usize| {
        let mut edited = pod.clone();
        let items = edited.get_mut("spec").unwrap().list_mut(list);
        let at = at(items.len());
        items.insert(
            at,
            Node::parse(
                r#"{"name":"from-another","image":"mesh:1","ports":[{"containerPort":15090}]}"#,
            ),
        );
        edited
    };
    let volume = || {
        let mut edited = each(&|container| {
            let mount = r#"{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","readOnly":true}"#;
            container.list_mut("volumeMounts").push(Node::parse(mount));
        });
        edited
            .get_mut("spec")
            .unwrap()
            .list_mut("volumes")
            .insert(0, Node::parse(r#"{"name":"kube-api-access-x"}"#));
        edited
    };
    vec![
        (
            "the registry of our images is rewritten",
            each(&|container| container.set("image", Node::parse("\"mirror.example.com/x:1\""))),
        ),
        ("a token is mounted into ours", volume()),
        (
            "a variable is added to ours",
            each(&|container| {
                container
                    .list_mut("env")
                    .insert(0, Node::parse(r#"{"name":"CA","value":"x"}"#))
            }),
        ),
        (
            "resources are set on ours",
            each(&|container| container.set("resources", Node::parse(r#"{"limits":{"cpu":"3"}}"#))),
        ),
        (
            "a security context is set on ours",
            each(&|container| {
                container.set("securityContext", Node::parse(r#"{"privileged":false}"#))
            }),
        ),
        (
            "defaults are filled in",
            each(&|container| {
                container.set(
                    "terminationMessagePath",
                    Node::parse("\"/dev/termination-log\""),
                )
            }),
        ),
        (
            "a container is appended",
            lists("containers", |length| length),
        ),
        ("a container is prepended", lists("containers", |_| 0)),
        (
            "an init container is prepended",
            lists("initContainers", |_| 0),
        ),
        (
            "an init container is inserted",
            lists("initContainers", |length| length / 2),
        ),
    ]
}

fn our_names(before: &Node, after: &Node) -> BTreeSet<String> {
    let names = |pod: &Node| -> BTreeSet<String> {
        let spec = pod.get("spec").unwrap();
        spec.items("initContainers")
            .iter()
            .chain(spec.items("containers"))
            .map(Node::name)
            .collect()
    };
    names(after).difference(&names(before)).cloned().collect()
}

// ---------------------------------------------------------------- generated pods, as text

/// Values that a field newer than this program may have.
fn odd() -> BoxedStrategy<String> {
    let fixed = [
        "18446744073709551616",
        "1e999",
        "1.0",
        "-0.0",
        "1E+2",
        "0.10",
        "123456789012345678901234567890",
        "null",
        "true",
        "[]",
        "{}",
        r#""""#,
        r#""\u00e9\/\ud83d\ude00""#,
        r#""é😀 \" \\ ${params.x} {{ }}""#,
        r#"{"z":1,"a":[null,{"b":1.50}],"":2}"#,
        r#"[1,[2,[3,[4.0]]],"x"]"#,
    ];
    let mut choices: Vec<BoxedStrategy<String>> = fixed
        .iter()
        .map(|text| Just((*text).to_owned()).boxed())
        .collect();
    choices.push(
        (1_usize..60)
            .prop_map(|depth| format!("{}1.0{}", "[{\"a\":".repeat(depth), "}]".repeat(depth)))
            .boxed(),
    );
    choices.push(
        any::<String>()
            .prop_map(|text| json!(text).to_string())
            .boxed(),
    );
    choices.push(
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}"))
            .boxed(),
    );
    Union::new(choices).boxed()
}

fn strange_key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("newField"),
        Just("ünïcode"),
        Just("a/b~c~1"),
        Just("x y"),
        Just("0"),
        Just("-"),
        Just("schedulingGates")
    ]
    .prop_map(|key| json!(key).to_string())
}

type Part = BoxedStrategy<Option<String>>;

/// A member that is there, absent or null.
fn maybe(key: &'static str, value: BoxedStrategy<String>) -> Part {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(format!("\"{key}\":null"))),
        4 => value.prop_map(move |value| Some(format!("\"{key}\":{value}"))),
    ]
    .boxed()
}

fn sure(key: &'static str, value: impl Into<String>) -> Part {
    Just(Some(format!("\"{key}\":{}", value.into()))).boxed()
}

/// An object of these members in any order, with fields that nobody knows.
fn object(parts: Vec<Part>) -> BoxedStrategy<String> {
    let strange = proptest::collection::btree_map(strange_key(), odd(), 0..3);
    let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t")];
    (parts, strange, space)
        .prop_map(|(parts, strange, space)| {
            let mut members: Vec<String> = parts.into_iter().flatten().collect();
            members.extend(
                strange
                    .into_iter()
                    .map(|(key, value)| format!("{key}:{space}{value}")),
            );
            (members, space)
        })
        .prop_flat_map(|(members, space)| (Just(members).prop_shuffle(), Just(space)))
        .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(&format!(",{space}"))))
        .boxed()
}

fn list(
    most: usize,
    item: impl Fn(usize) -> BoxedStrategy<String> + 'static,
) -> BoxedStrategy<String> {
    (0..=most)
        .prop_flat_map(move |count| (0..count).map(&item).collect::<Vec<_>>())
        .prop_map(|items| format!("[{}]", items.join(",")))
        .boxed()
}

fn env(index: usize) -> BoxedStrategy<String> {
    let value = prop_oneof![
        any::<String>().prop_map(|text| format!("\"value\":{}", json!(text))),
        Just("\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}".to_owned()),
        Just("\"value\":null".to_owned()),
    ];
    value
        .prop_flat_map(move |value| {
            object(vec![
                sure("name", format!("\"E{index}\"")),
                Just(Some(value)).boxed(),
            ])
        })
        .boxed()
}

fn mount(index: usize) -> BoxedStrategy<String> {
    let path = match index {
        0 => prop_oneof![
            Just("/data"),
            Just("/data/app"),
            Just("/data/app/"),
            Just("/data/app/logs"),
            Just("/m0"),
            Just("/")
        ]
        .boxed(),
        1 => Just("/m1").boxed(),
        _ => Just("/m2/").boxed(),
    };
    (path, any::<bool>())
        .prop_flat_map(move |(path, sub)| {
            let mut parts = vec![
                sure("name", format!("\"v{index}\"")),
                sure("mountPath", json!(path).to_string()),
            ];
            parts.extend(sub.then(|| sure("subPath", "\"a/b\"")));
            object(parts)
        })
        .boxed()
}

fn container(prefix: &'static str, index: usize) -> BoxedStrategy<String> {
    let port = move |port: usize| {
        object(vec![sure(
            "containerPort",
            format!(
                "{}",
                100 * (index + 1) + port + usize::from(prefix == "i") * 5000
            ),
        )])
    };
    object(vec![
        sure("name", format!("\"{prefix}{index}\"")),
        maybe(
            "image",
            Just("\"registry.example.com/app:1\"".to_owned()).boxed(),
        ),
        maybe("command", Just("[\"a\",\"$(E0)\"]".to_owned()).boxed()),
        maybe("env", list(if index == 0 { 30 } else { 3 }, env)),
        maybe("volumeMounts", list(3, mount)),
        maybe("ports", list(2, port)),
        maybe(
            "resources",
            Just(
                "{\"requests\":{\"cpu\":0.5,\"memory\":\"1Gi\"},\"limits\":{\"cpu\":1}}".to_owned(),
            )
            .boxed(),
        ),
        if prefix == "i" {
            maybe("restartPolicy", Just("\"Always\"".to_owned()).boxed())
        } else {
            Just(None).boxed()
        },
    ])
}

fn volume(index: usize) -> BoxedStrategy<String> {
    let kind = prop_oneof![
        Just("\"emptyDir\":{}"),
        Just("\"emptyDir\":{\"sizeLimit\":\"1Gi\"}"),
        Just("\"hostPath\":{\"path\":\"/var\"}"),
        Just(
            "\"projected\":{\"sources\":[{\"serviceAccountToken\":{\"expirationSeconds\":3607}}],\"defaultMode\":420}"
        ),
        Just("\"persistentVolumeClaim\":{\"claimName\":\"c\"}"),
        Just("\"fromTheFuture\":{\"x\":1.0}"),
    ];
    kind.prop_flat_map(move |kind| {
        object(vec![
            sure("name", format!("\"v{index}\"")),
            Just(Some(kind.to_owned())).boxed(),
        ])
    })
    .boxed()
}

fn pairs(fixed: Vec<(String, String)>) -> BoxedStrategy<String> {
    let keys = prop_oneof![
        Just("app"),
        Just("a/b"),
        Just("a~b"),
        Just("example.com/x~1y"),
        Just(""),
        Just("ключ"),
        Just("q\"\\")
    ];
    proptest::collection::btree_map(keys, any::<String>(), 0..4)
        .prop_flat_map(move |others| {
            let members: Vec<String> = others
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .chain(fixed.clone())
                .map(|(key, value)| format!("{}:{}", json!(key), json!(value)))
                .collect();
            Just(members).prop_shuffle()
        })
        .prop_map(|members| format!("{{{}}}", members.join(",")))
        .boxed()
}

/// A pod that asks for these instances.
fn pod(inject: &str) -> BoxedStrategy<String> {
    // Three volumes are always there, so that mounts have something to mount.
    let volumes = (3_usize..6)
        .prop_flat_map(|count| (0..count).map(volume).collect::<Vec<_>>())
        .prop_map(|items| format!("[{}]", items.join(",")));
    let spec = object(vec![
        maybe("initContainers", list(3, |index| container("i", index))),
        prop_oneof![
            9 => (1_usize..7).prop_flat_map(|count| (0..count).map(|index| container("c", index)).collect::<Vec<_>>()).prop_map(|items| Some(format!("\"containers\":[{}]", items.join(",")))),
            1 => Just(Some("\"containers\":[]".to_owned())),
        ].boxed(),
        volumes.prop_map(|volumes| Some(format!("\"volumes\":{volumes}"))).boxed(),
        maybe("imagePullSecrets", Just("[{\"name\":\"own\"},{}]".to_owned()).boxed()),
        maybe("hostAliases", Just("[{\"ip\":\"10.0.0.1\",\"hostnames\":[\"a\"]}]".to_owned()).boxed()),
        prop_oneof![8 => Just(None), 1 => Just(Some("\"hostNetwork\":true".to_owned())), 1 => Just(Some("\"hostNetwork\":null".to_owned()))].boxed(),
        prop_oneof![8 => Just(None), 1 => Just(Some("\"shareProcessNamespace\":false".to_owned()))].boxed(),
        maybe("restartPolicy", prop_oneof![Just("\"Always\"".to_owned()), Just("\"Never\"".to_owned())].boxed()),
        maybe("tolerations", Just("[{\"operator\":\"Exists\",\"tolerationSeconds\":300}]".to_owned()).boxed()),
    ]);
    let annotations = pairs(vec![("outrigger.dev/inject".to_owned(), inject.to_owned())])
        .prop_map(|text| Some(format!("\"annotations\":{text}")))
        .boxed();
    let metadata = object(vec![
        annotations,
        maybe("labels", pairs(Vec::new())),
        maybe("generateName", Just("\"web-\"".to_owned()).boxed()),
    ]);
    (metadata, spec)
        .prop_flat_map(|(metadata, spec)| {
            object(vec![
                sure("metadata", metadata),
                sure("spec", spec),
                maybe("kind", Just("\"Pod\"".to_owned()).boxed()),
            ])
        })
        .boxed()
}

// ---------------------------------------------------------------- generated profiles

#[derive(Debug, Clone)]
struct Shape {
    init: Vec<(bool, u8)>,
    containers: usize,
    volumes: usize,
    files: usize,
    shares: usize,
    env: u8,
    mounts: usize,
    pod: u8,
    port: bool,
    instances: usize,
    mode: SidecarMode,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        proptest::collection::vec((any::<bool>(), 0_u8..7), 0..4),
        0_usize..3,
        0_usize..3,
        0_usize..3,
        0_usize..3,
        0_u8..4,
        0_usize..2,
        any::<u8>(),
        proptest::bool::weighted(0.2),
        1_usize..4,
        prop_oneof![3 => Just(SidecarMode::Native), 1 => Just(SidecarMode::Container)],
    )
        .prop_map(
            |(
                init,
                containers,
                volumes,
                files,
                shares,
                env,
                mounts,
                pod,
                port,
                instances,
                mode,
            )| Shape {
                init,
                containers,
                volumes,
                files,
                shares,
                env,
                mounts,
                pod,
                port,
                instances,
                mode,
            },
        )
}

impl Shape {
    fn profile(&self) -> Value {
        let mounts: Vec<Value> = (0..self.volumes)
            .map(|index| json!({"name": format!("${{instance}}-v{index}"), "mountPath": format!("/ours/v{index}")}))
            .chain((self.files > 0).then(|| json!({"name": "${instance}-files", "mountPath": "/files", "readOnly": true})))
            .collect();
        let container = |name: String| {
            json!({
                "name": name, "image": "example.com/ours:1", "command": ["run"], "args": ["--as=${instance}", "$(POD_IP)"],
                "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "1"}}, "volumeMounts": mounts,
            })
        };
        let init: Vec<Value> = self
            .init
            .iter()
            .enumerate()
            .map(|(index, (native, position))| {
                let mut json = container(format!("${{instance}}-i{index}"));
                if *native {
                    json["restartPolicy"] = json!("Always");
                }
                if self.port && index == 0 {
                    json["ports"] =
                        json!([{"name": "p", "containerPort": "${9000 + size(instance)}"}]);
                }
                let position = match position {
                    1 => "first".to_owned(),
                    2 => "last".to_owned(),
                    3 if index > 0 => format!("before: ${{instance}}-i{}", index - 1),
                    4 if index > 0 => "after: ${instance}-i0".to_owned(),
                    5 => "after: i0".to_owned(),
                    _ => return json,
                };
                json["position"] = json!(position);
                json
            })
            .collect();
        let mut spec = json!({"summary": "A profile of a test.", "initContainers": init});
        spec["containers"] = (0..self.containers)
            .map(|index| container(format!("${{instance}}-c{index}")))
            .collect();
        spec["volumes"] = (0..self.volumes)
            .map(|index| match index {
                0 => json!({"name": "${instance}-v0", "emptyDir": {"sizeLimit": "1Mi"}}),
                _ => json!({"name": format!("${{instance}}-v{index}"), "secret": {"secretName": "s"}}),
            })
            .collect();
        spec["files"] = Value::Object(
            (0..self.files)
                .map(|index| {
                    (
                        format!("f{index}.json"),
                        json!({"at": "${instance}", "n": index}),
                    )
                })
                .collect(),
        );
        spec["shares"] = (0..self.shares)
            .zip(["/data/app/logs", "/srv/x"])
            .map(|(index, path)| json!({"name": format!("s{index}"), "path": path, "sizeLimit": "1Gi", "readOnly": index == 0}))
            .collect();
        let mut env = Vec::new();
        if self.env & 1 != 0 {
            env.push(json!({"name": "OURS_${instance}", "value": "${instance} 1.0"}));
        }
        if self.env & 2 != 0 {
            env.push(
                json!({"name": "COMMON", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
            );
        }
        spec["application"] = json!({"env": env});
        if self.mounts > 0 && self.volumes > 0 {
            spec["application"]["volumeMounts"] =
                json!([{"name": "${instance}-v0", "mountPath": "/given/${instance}"}]);
        }
        let mut pod = json!({});
        for (bit, key, value) in [
            (1_u8, "labels", json!({"example.com/ours": "yes"})),
            (2, "annotations", json!({"example.com/ours": "yes"})),
            (
                4,
                "imagePullSecrets",
                json!([{"name": "ours"}, {"name": "own"}]),
            ),
            (
                8,
                "hostAliases",
                json!([{"ip": "10.0.0.9", "hostnames": ["x"]}]),
            ),
        ] {
            if self.pod & bit != 0 {
                pod[key] = value;
            }
        }
        if self.pod & 0x30 == 0x30 {
            pod["shareProcessNamespace"] = json!(true);
        }
        spec["pod"] = pod;
        json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "metadata": {"name": "t"}, "spec": spec})
    }

    fn instances(&self) -> Vec<&'static str> {
        ["t", "bb", "ccc"][..self.instances].to_vec()
    }

    fn list(&self) -> String {
        ["t", "bb=t", " ccc = t"][..self.instances].join(",")
    }

    /// Whether the profile leaves something behind by whose name it can be known again.
    fn has_parts(&self) -> bool {
        !self.init.is_empty() || self.containers + self.volumes + self.files > 0
    }

    fn snapshot(&self) -> Snapshot {
        let profile = Profile::parse("test", &self.profile().to_string())
            .unwrap_or_else(|error| panic!("{error}"));
        Snapshot {
            catalogue: Catalogue::new([Arc::new(profile)]),
            sidecars: self.mode,
            ..Snapshot::default()
        }
    }

    /// Each thing of ours is there exactly once, in its list.
    fn once(&self, before: &Value, after: &Value) -> Tested<()> {
        let count = |list: &str, name: &str| {
            after["spec"][list]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|item| item["name"] == name)
                .count()
        };
        let length = |pod: &Value, list: &str| pod["spec"][list].as_array().map_or(0, Vec::len);
        let (mut init, mut containers) = (0, 0);
        for instance in self.instances() {
            for (index, (native, _)) in self.init.iter().enumerate() {
                let ordinary = *native && self.mode == SidecarMode::Container;
                let (list, other) = if ordinary {
                    ("containers", "initContainers")
                } else {
                    ("initContainers", "containers")
                };
                *(if ordinary { &mut containers } else { &mut init }) += 1;
                let name = format!("{instance}-i{index}");
                prop_assert_eq!(
                    (count(list, &name), count(other, &name)),
                    (1, 0),
                    "{}",
                    name
                );
            }
            for index in 0..self.containers {
                containers += 1;
                prop_assert_eq!(count("containers", &format!("{instance}-c{index}")), 1);
            }
            for index in 0..self.volumes {
                prop_assert_eq!(count("volumes", &format!("{instance}-v{index}")), 1);
            }
            prop_assert_eq!(
                count("volumes", &format!("{instance}-files")),
                usize::from(self.files > 0)
            );
            for index in 0..self.files {
                let key = format!("files.outrigger.dev/{instance}.f{index}.json");
                let content: Value =
                    serde_json::from_str(after["metadata"]["annotations"][&key].as_str().unwrap())
                        .unwrap();
                prop_assert_eq!(content, json!({"at": instance, "n": index}));
            }
            for container in 0..length(before, "containers") {
                let container = &after["spec"]["containers"][container];
                let env = |name: &str| {
                    container["env"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter(|item| item["name"] == name)
                        .count()
                };
                prop_assert_eq!(
                    env(&format!("OURS_{instance}")),
                    usize::from(self.env & 1 != 0),
                    "{}",
                    container
                );
                prop_assert_eq!(
                    env("COMMON"),
                    usize::from(self.env & 2 != 0),
                    "{}",
                    container
                );
                let path = format!("/given/{instance}");
                let given = container["volumeMounts"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|item| item["mountPath"] == path.as_str())
                    .count();
                prop_assert_eq!(given, usize::from(self.mounts > 0 && self.volumes > 0));
            }
        }
        prop_assert_eq!(
            length(after, "initContainers"),
            length(before, "initContainers") + init
        );
        prop_assert_eq!(
            length(after, "containers"),
            length(before, "containers") + containers
        );
        let ours = |list: &str, key: &str, value: &str| {
            after["spec"][list]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|item| item[key] == value)
                .count()
        };
        prop_assert!(
            ours("hostAliases", "ip", "10.0.0.9") <= 1
                && (self.pod & 8 == 0) == (ours("hostAliases", "ip", "10.0.0.9") == 0)
        );
        prop_assert!(
            ours("imagePullSecrets", "name", "ours") <= 1
                && ours("imagePullSecrets", "name", "own") <= 1
        );
        let status: Value = serde_json::from_str(
            after["metadata"]["annotations"]["outrigger.dev/status"]
                .as_str()
                .unwrap(),
        )
        .unwrap();
        let recorded: Vec<&str> = status["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["instance"].as_str().unwrap())
            .collect();
        prop_assert_eq!(recorded, self.instances());
        Ok(())
    }
}

fn injection() -> impl Strategy<Value = (Shape, String)> {
    shape().prop_flat_map(|shape| {
        let pod = pod(&shape.list());
        (Just(shape), pod)
    })
}

/// How often the generated pods came to what, so that a generator that only makes denials does not pass.
fn holds((shape, text): (Shape, String)) -> Tested<bool> {
    let snapshot = shape.snapshot();
    let pod = Node::parse(&text);
    let (answer, result) = reviewed(&pod, &snapshot)?;
    let Some(result) = result else {
        prop_assert_eq!(answer.summary.outcome, "denied");
        prop_assert!(
            answer
                .summary
                .message
                .is_some_and(|message| message.len() > 20)
        );
        return Ok(false);
    };
    shape.once(&pod.value(), &result.value())?;
    // A catalogue compiled anew has other hash seeds.
    let anew = admission::review(&envelope(&pod.text()), &shape.snapshot()).unwrap();
    prop_assert_eq!(anew, answer, "not deterministic");

    unchanged(&result, &snapshot, "the second run")?;
    for (what, edited) in edits(&result, &our_names(&pod, &result)) {
        if shape.has_parts() {
            unchanged(&edited, &snapshot, what)?;
        } else {
            // What has no parts is recognised by what it gives: a new container is given it too, once.
            let (_, given) = reviewed(&edited, &snapshot)?;
            unchanged(&given.unwrap_or(edited), &snapshot, what)?;
        }
    }
    Ok(true)
}

#[test]
fn every_injection_adds_each_part_once_and_changes_nothing_else() {
    const CASES: u32 = 192;
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let counter = std::cell::Cell::new(0_u32);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&injection(), |case| {
        counter.set(counter.get() + u32::from(holds(case)?));
        Ok(())
    });
    let injected = counter.get();
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(
        injected > CASES / 3,
        "only {injected} of {CASES} cases were injected: the generator tests nothing"
    );
}

// ---------------------------------------------------------------- regressions

fn pod_with(inject: &str, spec: &str) -> Node {
    Node::parse(&format!(
        r#"{{"metadata":{{"annotations":{{"outrigger.dev/inject":"{inject}"}}}},"spec":{spec}}}"#
    ))
}

fn only(body: &Value) -> Snapshot {
    let mut spec = body.clone();
    spec["summary"] = json!("A profile of a test.");
    let document = json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "metadata": {"name": "t"}, "spec": spec});
    let profile =
        Profile::parse("test", &document.to_string()).unwrap_or_else(|error| panic!("{error}"));
    Snapshot {
        catalogue: Catalogue::new([Arc::new(profile)]),
        ..Snapshot::default()
    }
}

/// Each of these was patched again on every run: a profile without containers, volumes and files left no part
/// that its record could claim. A `valueFrom` was even denied as a collision with itself.
#[test]
fn a_profile_without_parts_is_not_injected_twice() {
    for body in [
        json!({"application": {"env": [{"name": "A", "value": "b"}]}}),
        json!({"application": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}}),
        json!({"pod": {"labels": {"a": "b"}}}),
        json!({"pod": {"annotations": {"a": "b"}}}),
        json!({"pod": {"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["x"]}]}}),
        json!({"pod": {"imagePullSecrets": [{"name": "x"}]}}),
        json!({"pod": {"shareProcessNamespace": true}}),
        json!({"shares": [{"name": "s", "path": "/srv/x", "sizeLimit": "1Mi"}]}),
        json!({"shares": [{"name": "s", "path": "/srv/x", "sizeLimit": "1Mi"}], "application": {"env": [{"name": "A", "value": "b"}]}}),
        json!({}),
    ] {
        let snapshot = only(&body);
        let pod = pod_with("t", r#"{"containers":[{"name":"web"}]}"#);
        let result = reviewed(&pod, &snapshot).unwrap().1.unwrap();
        unchanged(&result, &snapshot, &body.to_string()).unwrap();
        // The API server fills in defaults before it asks again.
        let defaulted = result.text().replace(
            r#""fieldPath":"status.podIP""#,
            r#""apiVersion":"v1","fieldPath":"status.podIP""#,
        );
        unchanged(&Node::parse(&defaulted), &snapshot, &body.to_string()).unwrap();
    }
}

/// It was added beside the profile's own, and won.
#[test]
fn the_default_container_that_a_profile_names_stays() {
    let container = json!({"name": "c", "image": "i", "resources": {}});
    let snapshot = only(
        &json!({"containers": [container], "pod": {"annotations": {"kubectl.kubernetes.io/default-container": "c"}}}),
    );
    let pod = pod_with("t", r#"{"containers":[{"name":"web"}]}"#);
    let result = reviewed(&pod, &snapshot).unwrap().1.unwrap().value();
    assert_eq!(
        result["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"],
        "c"
    );
}

/// Two instances of one profile gave the pod the same alias twice.
#[test]
fn a_host_alias_of_two_instances_is_added_once() {
    let snapshot = only(&json!({"pod": {"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["x"]}]}}));
    let pod = pod_with("t,b=t", r#"{"containers":[{"name":"web"}]}"#);
    let result = reviewed(&pod, &snapshot).unwrap().1.unwrap().value();
    assert_eq!(
        result["spec"]["hostAliases"],
        json!([{"ip": "10.0.0.9", "hostnames": ["x"]}])
    );
}

// ---------------------------------------------------------------- recorded reviews

fn recorded() -> Vec<(String, Node)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reviews");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .collect();
    files.sort();
    let reviews: Vec<_> = files
        .iter()
        .map(|path| {
            let review = Node::parse(&fs::read_to_string(path).unwrap());
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                review
                    .get("request")
                    .unwrap()
                    .get("object")
                    .unwrap()
                    .clone(),
            )
        })
        .collect();
    assert!(
        reviews.len() >= 10,
        "only {} recorded reviews",
        reviews.len()
    );
    reviews
}

fn built_in(namespace: Option<Namespace>, sidecars: SidecarMode) -> Snapshot {
    Snapshot {
        catalogue: Catalogue::new(Catalogue::built_in().unwrap()),
        namespaces: namespace
            .into_iter()
            .map(|facts| ("shop".into(), Arc::new(facts)))
            .collect(),
        sidecars,
        ..Snapshot::default()
    }
}

const WISHES: [(&str, &str); 3] = [
    ("outrigger.dev/inject", "envoy-tls, second=envoy-tls"),
    ("envoy-tls.outrigger.dev/secret", "shop-tls"),
    ("second.outrigger.dev/certificate", "self-signed"),
];
/// The second instance's ports, and where it listens.
const PORTS: [(&str, &str); 4] = [
    ("listen-port", "18443"),
    ("admin-port", "19901"),
    ("stats-port", "19902"),
    ("health-port", "19903"),
];

fn wishes() -> Vec<(String, String)> {
    WISHES
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .chain(
            PORTS
                .iter()
                .map(|(key, value)| (format!("second.outrigger.dev/{key}"), (*value).to_owned())),
        )
        .collect()
}

fn injected_once(name: &str, pod: &Node, snapshot: &Snapshot) {
    let (answer, result) =
        reviewed(pod, snapshot).unwrap_or_else(|error| panic!("{name}: {error}"));
    let result = result.unwrap_or_else(|| panic!("{name}: {:?}", answer.summary));
    let value = result.value();
    let count = |list: &str, wanted: &str| {
        value["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item["name"] == wanted)
            .count()
    };
    for wanted in ["envoy-tls", "second", "second-certificate"] {
        assert_eq!(
            count("initContainers", wanted) + count("containers", wanted),
            1,
            "{name}: {wanted}"
        );
    }
    for wanted in [
        "envoy-tls-files",
        "second-files",
        "envoy-tls-certificate",
        "second-certificate",
    ] {
        assert_eq!(count("volumes", wanted), 1, "{name}: {wanted}");
    }
    unchanged(&result, snapshot, name).unwrap();
    for (what, edited) in edits(&result, &our_names(pod, &result)) {
        unchanged(&edited, snapshot, &format!("{name}: {what}")).unwrap();
    }
}

#[test]
fn recorded_reviews_keep_every_byte_and_get_each_part_once() {
    for (name, mut pod) in recorded() {
        let metadata = pod.get_mut("metadata").unwrap();
        if metadata.get("annotations").is_none() {
            metadata.set("annotations", Node::Object(Vec::new()));
        }
        for (key, value) in wishes() {
            metadata
                .get_mut("annotations")
                .unwrap()
                .set(&key, Node::Scalar(json!(value).to_string()));
        }
        injected_once(&name, &pod, &built_in(None, SidecarMode::Native));
    }
}

#[test]
fn recorded_reviews_without_annotations_are_injected_for_their_namespace() {
    for mode in [SidecarMode::Native, SidecarMode::Container] {
        for (name, mut pod) in recorded() {
            if let Some(Node::Object(members)) = pod.get_mut("metadata") {
                members.retain(|(key, _)| key != "annotations");
            }
            let ends = pod.value()["spec"]["restartPolicy"] != "Always";
            if ends && mode == SidecarMode::Container {
                continue;
            }
            let facts = Namespace {
                labels: [("outrigger.dev/injection".to_owned(), "enabled".to_owned())].into(),
                annotations: wishes().into_iter().collect(),
            };
            injected_once(&name, &pod, &built_in(Some(facts), mode));
        }
    }
}
