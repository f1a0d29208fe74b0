//! Generated pods: what the API server accepts without our annotations it must accept with them, injected, unless we
//! deny it ourselves. It must never refuse a pod for what we added.
//!
//! `cargo test` tries a hundred; `cargo xtask soak` thousands. Creations are dry runs, which go through all of admission
//! and validation and spare etcd.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use outrigger::manifest::Stream;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use testkit::Result;

use super::webhook::shared;

/// How many pods, where nobody says.
const PODS: usize = 100;

/// How many creations run at once.
const AT_ONCE: usize = 8;

/// How often a pod is created when the webhook does not answer in time.
const ATTEMPTS: usize = 5;
const DEADLINE: &str = "context deadline exceeded";

/// What became of the pods.
#[derive(Debug, Default)]
struct Counts {
    /// Refused by the API server without our annotations: nothing is learnt from these.
    invalid: usize,
    injected: usize,
    /// Nothing was to be done, as for a pod for Windows.
    skipped: usize,
    denied: usize,
    failed: usize,
}

/// One pod, created twice.
#[derive(Debug)]
enum Fate {
    Invalid(String),
    Injected,
    Skipped,
    Denied,
    /// What must not be.
    Failed(String),
}

pub(crate) async fn generated_pods_are_injected_or_denied_by_us() -> Result {
    let pods = number("OUTRIGGER_SOAK_PODS")?.unwrap_or(PODS);
    let seed = number("OUTRIGGER_SOAK_SEED")?.unwrap_or(0);
    println!("soak: {pods} pods of the seed {seed}");
    let webhook = shared().await?;
    // The labels by which the profiles with power over a node are allowed.
    let allowed = [
        ("outrigger.dev/allow-host-path", "true"),
        ("outrigger.dev/allow-kernel-setting", "true"),
    ];
    let namespace = webhook.namespace("soak", &allowed).await?;
    let client = webhook.plane().client().await?;
    let resource = ApiResource::erase::<Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);

    let mut fates = futures_util::stream::iter(generated(seed, pods)?)
        .map(|(pod, asked)| {
            let api = api.clone();
            async move {
                let fate = fate(&api, &pod, &asked).await;
                (fate, pod, asked)
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut counts = Counts::default();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed: BTreeMap<String, Case> = BTreeMap::new();
    while let Some((fate, pod, asked)) = fates.next().await {
        match fate? {
            Fate::Invalid(reason) => {
                counts.invalid += 1;
                *reasons.entry(reason).or_default() += 1;
            }
            Fate::Injected => counts.injected += 1,
            Fate::Skipped => counts.skipped += 1,
            Fate::Denied => counts.denied += 1,
            Fate::Failed(reason) => {
                counts.failed += 1;
                // One of a kind is enough to mend it.
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                failed
                    .entry(reason.replace(name, "NAME"))
                    .or_insert((pod, asked));
            }
        }
    }
    println!("soak: {counts:?}");
    ensure!(failed.is_empty(), "{}", told(&failed));
    let enough = counts.injected > pods / 5 && counts.denied > 0 && counts.invalid < pods / 2;
    ensure!(
        enough,
        "the generator tests too little: {counts:?}\n{reasons:#?}"
    );
    Ok(())
}

fn told(failed: &BTreeMap<String, Case>) -> String {
    let each = failed.iter().map(|(reason, (pod, asked))| {
        format!("{reason}\n  the pod {pod}\n  with {}", json!(asked))
    });
    each.collect::<Vec<_>>().join("\n\n")
}

fn number(variable: &str) -> Result<Option<usize>> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().with_context(|| format!("{variable}={text}")))
        .transpose()
}

/// Creates a pod without its annotations and with them.
async fn fate(
    api: &Api<DynamicObject>,
    pod: &Value,
    asked: &BTreeMap<String, String>,
) -> Result<Fate> {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let create = async |pod: &Value| -> Result<Result<Value, String>> {
        let pod = serde_json::from_value(pod.clone())?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match api.create(&dry, &pod).await {
                Ok(stored) => return Ok(Ok(serde_json::to_value(stored)?)),
                // A machine that does much else may take longer than the registration allows.
                Err(kube::Error::Api(status))
                    if status.message.contains(DEADLINE) && attempts < ATTEMPTS =>
                {
                    println!("soak: asked again: {}", status.message);
                }
                Err(kube::Error::Api(status)) => return Ok(Err(status.message.clone())),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let before = match create(pod).await? {
        Ok(stored) => stored,
        Err(reason) => return Ok(Fate::Invalid(reason)),
    };
    let mut asking = pod.clone();
    asking["metadata"]["annotations"] = json!(asked);
    let after = match create(&asking).await? {
        Ok(stored) => stored,
        Err(message) => {
            let ours = message.contains("denied the request: outrigger: ");
            return Ok(if ours {
                Fate::Denied
            } else {
                Fate::Failed(format!("refused for what we added: {message}"))
            });
        }
    };
    if after["metadata"]["annotations"]["outrigger.dev/status"].is_null() {
        return Ok(if before["spec"] == after["spec"] {
            Fate::Skipped
        } else {
            Fate::Failed("changed without a record".to_owned())
        });
    }
    let held = oracle::pod::check(&before, &after)
        .and_then(|()| oracle::pod::check_records(&before, &after));
    Ok(held.map_or_else(
        |broken| Fate::Failed(broken.to_string()),
        |()| Fate::Injected,
    ))
}

// ---------------------------------------------------------------- pods that are mostly valid

/// A pod, and the annotations that it may have.
type Case = (Value, BTreeMap<String, String>);

fn generated(seed: usize, count: usize) -> Result<Vec<Case>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::try_from(seed)?.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases = (pod(), asked(wishes()?));
    let case = |index: usize| {
        let (mut pod, asked) = cases
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("{reason}"))?
            .current();
        pod["metadata"]["name"] = json!(format!("soak-{index}"));
        Ok((pod, asked))
    };
    (0..count).map(case).collect()
}

/// What the pods of the golden cases that are injected ask for, of all profiles that are delivered.
fn wishes() -> Result<Vec<BTreeMap<String, String>>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = Vec::new();
    for profile in sorted(&golden)? {
        // Its cases have profiles of their own.
        if profile.ends_with("engine") {
            continue;
        }
        for case in sorted(&profile)? {
            if !case.join("expected.yaml").exists() {
                continue;
            }
            let bytes = std::fs::read(case.join("pod.yaml"))?;
            let stream = Stream::parse("pod.yaml", &bytes)
                .map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
            for workload in stream.workloads("soak") {
                let annotations = workload.pod["metadata"]["annotations"].as_object();
                let ours = annotations
                    .into_iter()
                    .flatten()
                    .filter_map(|(key, value)| {
                        let wish = key.contains("outrigger.dev/") && key != "outrigger.dev/status";
                        wish.then(|| Some((key.clone(), value.as_str()?.to_owned())))?
                    });
                found.push(ours.collect());
            }
        }
    }
    found.retain(|wish: &BTreeMap<_, _>| wish.contains_key("outrigger.dev/inject"));
    ensure!(
        found.len() > 100,
        "only {} golden pods ask for something",
        found.len()
    );
    Ok(found)
}

fn sorted(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

/// One wish or two together, sometimes with a value that is another.
fn asked(wishes: Vec<BTreeMap<String, String>>) -> impl Strategy<Value = BTreeMap<String, String>> {
    let wish = proptest::sample::select(wishes);
    let changed =
        proptest::option::weighted(0.15, (any::<proptest::sample::Index>(), any::<String>()));
    (wish.clone(), proptest::option::weighted(0.3, wish), changed).prop_map(
        |(mut asked, second, changed)| {
            for (key, value) in second.into_iter().flatten() {
                match asked.get_mut(&key) {
                    Some(list) if key == "outrigger.dev/inject" && *list != value => {
                        *list = format!("{list},{value}");
                    }
                    Some(_) => {}
                    None => {
                        asked.insert(key, value);
                    }
                }
            }
            if let Some((index, text)) = changed {
                let keys: Vec<String> = asked.keys().cloned().collect();
                asked.insert(index.get(&keys).clone(), text);
            }
            asked
        },
    )
}

/// Members that are each there or not.
fn some_of(
    members: Vec<(&'static str, Value)>,
) -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let most = members.len().min(4);
    proptest::sample::subsequence(members, 0..=most)
}

fn with(mut object: Value, members: Vec<(&'static str, Value)>) -> Value {
    for (key, value) in members {
        object[key] = value;
    }
    object
}

fn container(name: String, volumes: Vec<String>, sidecar: bool) -> impl Strategy<Value = Value> {
    const PATHS: [&str; 8] = [
        "/data",
        "/data/app",
        "/var/log/web",
        "/cache",
        "/tmp",
        "/etc/certs",
        "/usr/share/x",
        "/run/app",
    ];
    const PORTS: [u16; 10] = [80, 3000, 5432, 6379, 8080, 8443, 9090, 9901, 15090, 24224];
    let mounts = (
        proptest::sample::subsequence(volumes.clone(), 0..=volumes.len().min(3)),
        Just(PATHS.to_vec()).prop_shuffle(),
        any::<bool>(),
    )
        .prop_map(|(volumes, paths, read_only)| {
            let mounts = volumes.iter().zip(paths);
            mounts
                .map(|(volume, path)| json!({"name": volume, "mountPath": path, "readOnly": read_only}))
                .collect::<Value>()
        });
    let ports = proptest::sample::subsequence(PORTS.to_vec(), 0..3).prop_map(|ports| {
        let ports = ports.iter().enumerate();
        ports
            .map(|(index, port)| json!({"name": format!("port-{index}"), "containerPort": port}))
            .collect::<Value>()
    });
    let members = some_of(vec![
        ("command", json!(["/bin/run", "$(A)"])),
        ("args", json!(["--all", "ключ"])),
        ("workingDir", json!("/srv")),
        (
            "env",
            json!([{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ),
        (
            "envFrom",
            json!([{"configMapRef": {"name": "settings", "optional": true}}]),
        ),
        (
            "resources",
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}}),
        ),
        ("resources", json!({"limits": {"ephemeral-storage": "1Gi"}})),
        ("imagePullPolicy", json!("Always")),
        ("terminationMessagePolicy", json!("FallbackToLogsOnError")),
        ("tty", json!(true)),
        (
            "securityContext",
            json!({"runAsUser": 1000, "readOnlyRootFilesystem": true}),
        ),
        (
            "securityContext",
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
        ),
        ("fieldFromTheFuture", json!({"deep": [1.0, null]})),
    ]);
    let probes = some_of(vec![
        (
            "livenessProbe",
            json!({"httpGet": {"path": "/live", "port": 8080}}),
        ),
        (
            "readinessProbe",
            json!({"exec": {"command": ["true"]}, "periodSeconds": 3}),
        ),
        (
            "startupProbe",
            json!({"tcpSocket": {"port": 8080}, "failureThreshold": 30}),
        ),
        ("lifecycle", json!({"preStop": {"sleep": {"seconds": 5}}})),
    ]);
    (mounts, ports, members, probes).prop_map(move |(mounts, ports, members, probes)| {
        let plain = json!({"name": name, "image": "registry.example.com/app:1", "volumeMounts": mounts, "ports": ports});
        let container = with(plain, members);
        if sidecar { with(container, probes) } else { container }
    })
}

fn volumes() -> impl Strategy<Value = Vec<Value>> {
    let source = proptest::sample::select(vec![
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
        json!({"configMap": {"name": "settings", "optional": true}}),
        json!({"secret": {"secretName": "keys", "defaultMode": 256}}),
        json!({"persistentVolumeClaim": {"claimName": "data"}}),
        json!({"hostPath": {"path": "/var/log", "type": "Directory"}}),
        json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
        json!({"projected": {"sources": [{"configMap": {"name": "settings"}}, {"serviceAccountToken": {"path": "token", "audience": "x"}}]}}),
        json!({"csi": {"driver": "secrets.example.com", "readOnly": true}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
        json!({"nfs": {"server": "nfs.example.com", "path": "/"}}),
    ]);
    // Some have names that ours would like to have.
    let names = [
        "data",
        "logs",
        "certs",
        "cache",
        "envoy-tls-files",
        "shared-volume",
        "html",
        "run",
        "tmp",
    ];
    let names = proptest::sample::subsequence(names.to_vec(), 0..5);
    (names, proptest::collection::vec(source, 5)).prop_map(|(names, sources)| {
        let each = names.iter().zip(sources);
        each.map(|(name, source)| with(source, vec![("name", json!(name))]))
            .collect()
    })
}

fn pod() -> impl Strategy<Value = Value> {
    volumes().prop_flat_map(|volumes| {
        let names: Vec<String> = volumes
            .iter()
            .filter_map(|volume| volume["name"].as_str().map(str::to_owned))
            .collect();
        let init_names = names.clone();
        let containers =
            proptest::sample::subsequence(vec!["web", "db", "worker", "fluentd"], 1..4)
                .prop_flat_map(move |list| {
                    let each = list
                        .into_iter()
                        .map(|name| container(name.to_owned(), names.clone(), true));
                    each.collect::<Vec<_>>()
                });
        let init = proptest::collection::vec(any::<bool>(), 0..3).prop_flat_map(move |natives| {
            let each = natives.into_iter().enumerate().map(|(index, native)| {
                container(format!("init-{index}"), init_names.clone(), native).prop_map(
                    move |container| {
                        let always = native.then(|| ("restartPolicy", json!("Always")));
                        with(container, always.into_iter().collect())
                    },
                )
            });
            each.collect::<Vec<_>>()
        });
        (containers, init, members(), labels()).prop_map(
            move |(containers, init, members, labels)| {
                let spec = json!({
                    // Else the API server adds a volume with a name that is another each time.
                    "automountServiceAccountToken": false,
                    "containers": containers, "initContainers": init, "volumes": volumes,
                });
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"labels": labels}, "spec": with(spec, members),
                })
            },
        )
    })
}

fn labels() -> impl Strategy<Value = Value> {
    some_of(vec![
        ("app", json!("web")),
        ("app.kubernetes.io/name", json!("web")),
        ("tier", json!("")),
    ])
    .prop_map(|labels| with(json!({}), labels))
}

fn members() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    some_of(vec![
        ("restartPolicy", json!("Always")),
        ("restartPolicy", json!("OnFailure")),
        ("restartPolicy", json!("Never")),
        (
            "securityContext",
            json!({"fsGroup": 2000, "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        (
            "securityContext",
            json!({"supplementalGroups": [1, 2], "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}),
        ),
        ("hostNetwork", json!(true)),
        ("hostPID", json!(true)),
        ("hostUsers", json!(false)),
        ("shareProcessNamespace", json!(true)),
        (
            "hostAliases",
            json!([{"ip": "10.0.0.1", "hostnames": ["a", "b"]}]),
        ),
        ("dnsPolicy", json!("ClusterFirstWithHostNet")),
        (
            "dnsConfig",
            json!({"options": [{"name": "ndots", "value": "2"}]}),
        ),
        ("imagePullSecrets", json!([{"name": "registry"}])),
        (
            "tolerations",
            json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]),
        ),
        ("nodeSelector", json!({"kubernetes.io/os": "linux"})),
        (
            "affinity",
            json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}}]}}),
        ),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
        ),
        ("terminationGracePeriodSeconds", json!(7)),
        ("activeDeadlineSeconds", json!(600)),
        ("schedulingGates", json!([{"name": "example.com/gate"}])),
        (
            "readinessGates",
            json!([{"conditionType": "example.com/ready"}]),
        ),
        ("os", json!({"name": "linux"})),
        ("os", json!({"name": "windows"})),
        (
            "resources",
            json!({"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}}),
        ),
        ("hostname", json!("web-0")),
        ("subdomain", json!("web")),
        ("enableServiceLinks", json!(false)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("fieldFromTheFuture", json!({"deep": [1.0, null]})),
    ])
}
