//! Properties of every injection, over generated pods and profiles and over recorded reviews.
//!
//! Pods are generated as JSON *text*, because the spelling of a number and the order of keys count. What must hold of
//! an answer is in the crate `oracle`, which the fuzz targets use as well; here are the pods, the profiles, and what
//! follows from knowing both.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use oracle::{Node, envelope, reviewed, unchanged};
use outrigger::admission::{self, Snapshot};
use outrigger::inject::{Namespace, SidecarMode};
use outrigger::profile::{Catalogue, Profile};
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

type Tested<T> = Result<T, TestCaseError>;

/// JSON that a test wrote.
fn node(text: &str) -> Node {
    Node::parse(text).unwrap()
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
        let items = edited.get_mut("spec").unwrap().list_mut(list).unwrap();
        let at = at(items.len());
        items.insert(
            at,
            node(r#"{"name":"from-another","image":"mesh:1","ports":[{"containerPort":15090}]}"#),
        );
        edited
    };
    let volume = || {
        let mut edited = each(&|container| {
            let mount = r#"{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","readOnly":true}"#;
            container
                .list_mut("volumeMounts")
                .unwrap()
                .push(node(mount));
        });
        edited
            .get_mut("spec")
            .unwrap()
            .list_mut("volumes")
            .unwrap()
            .insert(0, node(r#"{"name":"kube-api-access-x"}"#));
        edited
    };
    vec![
        (
            "the registry of our images is rewritten",
            each(&|container| container.set("image", node("\"mirror.example.com/x:1\""))),
        ),
        ("a token is mounted into ours", volume()),
        (
            "a variable is added to ours",
            each(&|container| {
                container
                    .list_mut("env")
                    .unwrap()
                    .insert(0, node(r#"{"name":"CA","value":"x"}"#))
            }),
        ),
        (
            "resources are set on ours",
            each(&|container| container.set("resources", node(r#"{"limits":{"cpu":"3"}}"#))),
        ),
        (
            "a security context is set on ours",
            each(&|container| container.set("securityContext", node(r#"{"privileged":false}"#))),
        ),
        (
            "defaults are filled in",
            each(&|container| {
                container.set("terminationMessagePath", node("\"/dev/termination-log\""))
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
    let pod = node(&text);
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
    node(&format!(
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
        unchanged(&node(&defaulted), &snapshot, &body.to_string()).unwrap();
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
            let review = node(&fs::read_to_string(path).unwrap());
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
