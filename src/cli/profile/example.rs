//! What a profile does to an ordinary pod: the answer of the real engine, for `check` and for the reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::inject::{
    self, Code, INJECT, Namespace, Pod, Problem, Renderings, Report, STATUS, SidecarMode, Verdict,
};
use crate::inject::{decide::INJECTION_LABEL, parameters};
use crate::profile::document::{LabelSelector, Operator};
use crate::profile::{Catalogue, Defaults, Parameter, Profile, SettableBy};

/// The namespace of the sample pod.
const NAMESPACE: &str = "sample";

/// The port on which the sample pod listens.
pub(super) const PORT: u16 = 8080;
/// Its port where a profile takes that one for itself, as a proxy before the application may.
const OTHER_PORT: u16 = 3000;

/// A sample pod that asks for a profile, and what became of it.
#[derive(Debug)]
pub(super) struct Example {
    /// The parameters that the pod sets: annotations with their values.
    pub(super) pod_parameters: Vec<(String, String)>,
    /// The parameters that its namespace sets.
    pub(super) namespace_parameters: Vec<(String, String)>,
    /// The parameters that the administrator sets, by their names in the profile.
    pub(super) admin_parameters: Vec<(String, Json)>,
    /// The port on which the pod listens.
    pub(super) port: u16,
    /// The engine's answer.
    pub(super) answer: Answer,
}

/// What the engine says to the sample pod.
#[derive(Debug)]
pub(super) enum Answer {
    /// The pod that comes out.
    Injected {
        /// The whole pod.
        pod: Json,
        /// What it has that it had not before.
        adds: Vec<Addition>,
        /// Advice to its author.
        warnings: Vec<String>,
    },
    /// Why there is none.
    Denied(Vec<Problem>),
}

/// Things of one kind that the pod got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addition {
    /// What they are, as in `volumes`.
    pub(super) what: &'static str,
    /// Each of them.
    pub(super) items: Vec<Item>,
}

/// One thing that the pod got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its name, or what else identifies it.
    pub(super) name: String,
    /// What else is worth knowing: a container's image.
    pub(super) detail: Option<String>,
}

impl Example {
    /// Runs the engine on the sample pod. It sets the required parameters to their examples, and where that is not
    /// enough (one of several is needed, say) as few others as can be found.
    ///
    /// # Errors
    /// An example that the profile's own parameter does not take, or a patch that does not apply: faults of this
    /// program, not of the profile.
    pub(super) fn of(profile: &Arc<Profile>) -> anyhow::Result<Self> {
        let example = Self::on_port(profile, PORT)?;
        let collides = match &example.answer {
            Answer::Denied(problems) => problems
                .iter()
                .all(|problem| problem.code == Code::Collision),
            Answer::Injected { .. } => false,
        };
        if collides {
            let other = Self::on_port(profile, OTHER_PORT)?;
            if other.is_injected() {
                return Ok(other);
            }
        }
        Ok(example)
    }

    fn on_port(profile: &Arc<Profile>, port: u16) -> anyhow::Result<Self> {
        let by_pod = |parameter: &&Parameter| {
            parameter.settable_by == SettableBy::Pod && parameter.example.is_some()
        };
        let mut chosen: Vec<&Parameter> = profile
            .parameters
            .iter()
            .filter(|parameter| parameter.required && parameter.example.is_some())
            .collect();
        let first = Self::with(profile, &chosen, port)?;
        let mut missing = first.lacks(profile, &chosen);
        if missing.is_none() {
            return Ok(first);
        }
        // What the refusal names is what the author would set next.
        while let Some(parameters) = missing.take().filter(|named| !named.is_empty()) {
            chosen.extend(parameters);
            let next = Self::with(profile, &chosen, port)?;
            missing = next.lacks(profile, &chosen);
            if missing.is_none() && next.is_injected() {
                return Ok(next);
            }
        }
        let others = profile.parameters.iter().filter(by_pod);
        for parameter in others {
            if chosen.iter().any(|known| known.name == parameter.name) {
                continue;
            }
            chosen.push(parameter);
            let next = Self::with(profile, &chosen, port)?;
            if next.is_injected() {
                return Ok(next);
            }
            chosen.pop();
        }
        Ok(first)
    }

    /// Whether the profile itself is at fault, and how.
    pub(super) fn faults(&self) -> impl Iterator<Item = &Problem> {
        let problems = match &self.answer {
            Answer::Denied(problems) => problems.as_slice(),
            Answer::Injected { .. } => &[],
        };
        problems
            .iter()
            .filter(|problem| problem.code == Code::ProfileFault)
    }

    fn is_injected(&self) -> bool {
        matches!(self.answer, Answer::Injected { .. })
    }

    /// The parameters that a denial names and that have an example, if the denial is one that parameters can
    /// mend.
    fn lacks<'p>(&self, profile: &'p Profile, chosen: &[&Parameter]) -> Option<Vec<&'p Parameter>> {
        let Answer::Denied(problems) = &self.answer else {
            return None;
        };
        if problems.iter().any(|problem| problem.code != Code::Rule) {
            return None;
        }
        let named = profile.parameters.iter().filter(|parameter| {
            let key = parameters::key(&profile.name, parameter);
            parameter.example.is_some()
                && parameter.settable_by == SettableBy::Pod
                && problems.iter().any(|problem| problem.subject == key)
                && !chosen.iter().any(|known| known.name == parameter.name)
        });
        Some(named.collect())
    }

    fn with(profile: &Arc<Profile>, chosen: &[&Parameter], port: u16) -> anyhow::Result<Self> {
        let mut example = Self {
            pod_parameters: Vec::new(),
            namespace_parameters: Vec::new(),
            admin_parameters: Vec::new(),
            port,
            answer: Answer::Denied(Vec::new()),
        };
        for parameter in chosen {
            let Some(text) = parameter.example.clone() else {
                continue;
            };
            let key = parameters::key(&profile.name, parameter);
            match parameter.settable_by {
                SettableBy::Pod => example.pod_parameters.push((key, text)),
                SettableBy::Namespace => example.namespace_parameters.push((key, text)),
                SettableBy::Admin => {
                    let value = parameter
                        .parse(&text)
                        .map_err(|problem| anyhow::anyhow!("{}: {problem}", parameter.name))?;
                    example
                        .admin_parameters
                        .push((parameter.name.clone(), value.to_json()));
                }
            }
        }
        example.answer = example.ask(profile)?;
        Ok(example)
    }

    fn ask(&self, profile: &Arc<Profile>) -> anyhow::Result<Answer> {
        let defaults = Defaults {
            profile_defaults: [(
                profile.name.clone(),
                self.admin_parameters.iter().cloned().collect(),
            )]
            .into_iter()
            .collect(),
        };
        let catalogue =
            Catalogue::new([Arc::clone(profile)]).with_defaults("the example", &defaults)?;
        let mut before = sample_pod(self.port);
        before["metadata"]["annotations"] = self.annotations(&profile.name);
        let bytes = serde_json::to_vec(&before)?;
        let pod = Pod::parse(&bytes)?;
        let object = || before.clone();
        let facts = Namespace {
            labels: sample_labels(profile),
            annotations: self.namespace_parameters.iter().cloned().collect(),
        };
        let outcome = inject::inject(
            &inject::Request {
                namespace: NAMESPACE,
                operation: "CREATE",
                is_pod: true,
                dry_run: false,
                pod: &pod,
                object: &object,
                claims: &[],
                facts: Some(&facts),
                sidecars: SidecarMode::Native,
                renderings: &Renderings::default(),
                before_patch: "",
            },
            &catalogue,
        );
        let files = outcome
            .instances
            .iter()
            .filter_map(Report::record)
            .flat_map(|record| record.files)
            .map(Item::named)
            .collect();
        let mut after = before.clone();
        match outcome.verdict {
            Verdict::Denied(problems) => return Ok(Answer::Denied(problems)),
            Verdict::Injected(patch) => {
                let patch: json_patch::Patch = serde_json::from_str(&patch.to_json())?;
                json_patch::patch(&mut after, &patch)?;
            }
            // Nothing but a profile that adds nothing comes here.
            Verdict::Skipped(_) => {}
        }
        Ok(Answer::Injected {
            adds: additions(&before, &after, files),
            pod: after,
            warnings: outcome.warnings,
        })
    }

    /// The annotations of the pod, the one that asks first.
    pub(super) fn annotations(&self, profile: &str) -> Json {
        let asks = (INJECT.to_owned(), Json::from(profile));
        let parameters = self
            .pod_parameters
            .iter()
            .map(|(key, value)| (key.clone(), Json::from(value.as_str())));
        Json::Object(std::iter::once(asks).chain(parameters).collect())
    }
}

impl Item {
    fn named(name: String) -> Self {
        Self { name, detail: None }
    }
}

/// A pod as a careful author writes it, which every profile should get along with.
fn sample_pod(port: u16) -> Json {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sample", "namespace": NAMESPACE, "labels": {"app": "sample"}, "annotations": {}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "app",
                "image": "registry.example.com/app:1.0.0",
                "ports": [{"name": "http", "containerPort": port}],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "64Mi"},
                    "limits": {"cpu": "1", "memory": "256Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    })
}

/// Labels of a namespace that takes part and that the profile's selectors select, where any labels do.
fn sample_labels(profile: &Profile) -> BTreeMap<String, String> {
    let wanted = [
        profile
            .allow
            .as_ref()
            .map(|allow| &allow.namespace_selector),
        profile
            .selector
            .as_ref()
            .and_then(|selector| selector.namespace_selector.as_ref()),
    ];
    let mut labels = BTreeMap::from([(INJECTION_LABEL.to_owned(), "enabled".to_owned())]);
    for selector in wanted.into_iter().flatten() {
        labels.extend(labels_for(selector));
    }
    labels
}

fn labels_for(selector: &LabelSelector) -> impl Iterator<Item = (String, String)> {
    let exact = selector
        .match_labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    let listed = selector.match_expressions.iter().filter_map(|requirement| {
        let value = match requirement.operator {
            Operator::In => requirement.values.first()?.clone(),
            Operator::Exists => "true".to_owned(),
            Operator::NotIn | Operator::DoesNotExist => return None,
        };
        Some((requirement.key.clone(), value))
    });
    exact.chain(listed)
}

/// What the pod got, in the order in which an author looks for it. Kinds of which there is nothing are left out.
fn additions(before: &Json, after: &Json, files: Vec<Item>) -> Vec<Addition> {
    let items = |pointer: &str, name: &dyn Fn(&Json) -> Item| -> Vec<Item> {
        let of = |pod: &Json| -> Vec<Json> {
            let list = pod.pointer(pointer).and_then(Json::as_array);
            list.cloned().unwrap_or_default()
        };
        // By name: the application's own container is another value once it has a new mount.
        let old: Vec<Item> = of(before).iter().map(name).collect();
        let new = of(after).into_iter().map(|item| name(&item));
        new.filter(|item| !old.contains(item)).collect()
    };
    let text = |item: &Json, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let named = |key: &'static str| move |item: &Json| Item::named(text(item, key));
    let container = |item: &Json| Item {
        name: text(item, "name"),
        detail: Some(text(item, "image")),
    };
    let keys = |pointer: &str| -> Vec<Item> {
        let of = |pod: &Json| pod.pointer(pointer).and_then(Json::as_object).cloned();
        let old = of(before).unwrap_or_default();
        let new = of(after).unwrap_or_default().into_iter();
        new.filter(|(key, _)| !old.contains_key(key) && key != STATUS)
            .filter(|(key, _)| !key.starts_with("files.outrigger.dev/"))
            .map(|(key, value)| {
                Item::named(format!("{key}: {}", value.as_str().unwrap_or_default()))
            })
            .collect()
    };
    let native: Vec<String> = after["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| item["restartPolicy"] == "Always")
        .map(|item| text(item, "name"))
        .collect();
    let (sidecars, init) = items("/spec/initContainers", &container)
        .into_iter()
        .partition(|item: &Item| native.contains(&item.name));
    let processes = match &after["spec"]["shareProcessNamespace"] {
        Json::Bool(true) => vec![Item::named("shared by all containers".to_owned())],
        _ => Vec::new(),
    };
    let mount = |item: &Json| {
        Item::named(format!(
            "{} at {}",
            text(item, "name"),
            text(item, "mountPath")
        ))
    };
    let alias = |item: &Json| {
        let names = item["hostnames"].as_array().into_iter().flatten();
        let names: Vec<_> = names.filter_map(Json::as_str).collect();
        Item::named(format!("{} for {}", text(item, "ip"), names.join(", ")))
    };
    [
        ("init containers", init),
        ("sidecars", sidecars),
        ("containers", items("/spec/containers", &container)),
        ("volumes", items("/spec/volumes", &named("name"))),
        ("files", files),
        (
            "environment of the application",
            items("/spec/containers/0/env", &named("name")),
        ),
        (
            "mounts of the application",
            items("/spec/containers/0/volumeMounts", &mount),
        ),
        ("labels", keys("/metadata/labels")),
        ("annotations", keys("/metadata/annotations")),
        (
            "image pull secrets",
            items("/spec/imagePullSecrets", &named("name")),
        ),
        ("host aliases", items("/spec/hostAliases", &alias)),
        ("process namespace", processes),
    ]
    .into_iter()
    .map(|(what, items)| Addition { what, items })
    .filter(|addition| !addition.items.is_empty())
    .collect()
}
