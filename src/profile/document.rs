//! The `SidecarProfile` document as it is written, decoded strictly.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::parameter::ParameterSpec;
use super::strict;
pub use crate::yaml::locate::Position;

/// The API group and version of a profile.
pub const API_VERSION: &str = "outrigger.dev/v1alpha1";
/// The kind of a profile.
pub const KIND: &str = "SidecarProfile";

/// A `SidecarProfile`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name and labels.
    pub metadata: Metadata,
    /// What the profile adds to a pod.
    pub spec: Spec,
}

/// The metadata of a profile that mean something to us; the rest of Kubernetes' metadata is let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The profile's name, a DNS label: it becomes the prefix of annotation keys and container names.
    pub name: String,
    /// Everything else that object metadata may hold.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Json>,
}

/// The body of a profile. Fields of type [`Json`] are templates: structured YAML with CEL in `${…}`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// One sentence that says what the profile does for a workload.
    pub summary: String,
    /// More about it, for the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What annotations may set, by camelCase name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub parameters: IndexMap<String, ParameterSpec>,
    /// Which pods get the profile without asking, in opted-in namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<Match>,
    /// Which namespaces' pods may have it at all; those of every namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
    /// Whether pods on the host's network may have it, although its ports become the node's.
    #[serde(default)]
    pub host_network: HostNetwork,
    /// Named sub-expressions; one may use others, in any order of writing.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub variables: IndexMap<String, Json>,
    /// Rules over several parameters; one that does not hold denies the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<Validation>,
    /// Advice that a pod's author gets when a condition holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Init containers and native sidecars, in start order.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub init_containers: Json,
    /// Ordinary containers.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub containers: Json,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub volumes: Json,
    /// Generated files, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, Json>,
    /// Directories of the application that the injected containers see.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub shares: Json,
    /// What the pod's own containers receive.
    #[serde(default)]
    pub application: Application,
    /// What the pod receives.
    #[serde(default)]
    pub pod: PodAdditions,
}

/// Selectors of pods that get a profile without asking. Both must hold; an absent one always does.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// On the pod's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// On the namespace's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

impl Match {
    /// Whether it says nothing, and so fits nothing: the profile must be asked for.
    pub fn is_empty(&self) -> bool {
        self.pod_selector.is_none() && self.namespace_selector.is_none()
    }

    /// Whether it fits a pod and a namespace whose labels have these values.
    pub fn fits<'p, 'n>(
        &self,
        pod: impl Fn(&str) -> Option<&'p str>,
        namespace: impl Fn(&str) -> Option<&'n str>,
    ) -> bool {
        let pods = self.pod_selector.as_ref();
        let namespaces = self.namespace_selector.as_ref();
        !self.is_empty()
            && pods.is_none_or(|selector| selector.selects(pod))
            && namespaces.is_none_or(|selector| selector.selects(namespace))
    }
}

/// Where a profile may be used, whoever asks. A profile that gives a container power over its node must say so.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// On the namespace's labels.
    pub namespace_selector: LabelSelector,
}

/// A Kubernetes label selector.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub match_labels: IndexMap<String, String>,
    /// Requirements that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether it selects nothing in particular, and so everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object whose labels have these values.
    pub fn selects<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value.as_str()))
            && self.match_expressions.iter().all(
                |Requirement {
                     key,
                     operator,
                     values,
                 }| {
                    let value = label(key);
                    let listed =
                        value.is_some_and(|value| values.iter().any(|known| known == value));
                    match operator {
                        Operator::In => listed,
                        Operator::NotIn => !listed,
                        Operator::Exists => value.is_some(),
                        Operator::DoesNotExist => value.is_none(),
                    }
                },
            )
    }
}

/// As `kubectl --selector` takes it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|requirement| {
            let (key, values) = (&requirement.key, requirement.values.join(", "));
            match requirement.operator {
                Operator::In => format!("{key} in ({values})"),
                Operator::NotIn => format!("{key} notin ({values})"),
                Operator::Exists => key.clone(),
                Operator::DoesNotExist => format!("!{key}"),
            }
        });
        f.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what; empty for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The operators of a label selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Whether a profile that opens ports may go on a pod with `hostNetwork: true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
pub enum HostNetwork {
    /// Such a pod is denied.
    #[default]
    Refuse,
    /// The admin has thought of it.
    Allow,
}

/// A rule over several parameters.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Validation {
    /// CEL that must be true.
    pub expression: String,
    /// What to tell the author; may hold `${…}`.
    pub message: String,
    /// The parameter at fault, so that the message can name its annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
}

/// Advice to the pod's author.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Warning {
    /// CEL; the warning is given when it is true.
    pub when: String,
    /// The advice; may hold `${…}`.
    pub message: String,
}

/// What the pod's own containers receive.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Names of the containers meant; all ordinary ones if absent.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub containers: Json,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub env: Json,
    /// Mounts.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub volume_mounts: Json,
}

/// What the pod itself receives.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAdditions {
    /// Labels.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub labels: Json,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub annotations: Json,
    /// Image pull secrets.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub image_pull_secrets: Json,
    /// Entries for `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub host_aliases: Json,
    /// One process namespace for all containers.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub share_process_namespace: Json,
}

/// One thing that is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileProblem {
    /// Where, as in `spec.containers[0].image`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// Where in the file, if there is one: at the key that the path names, or at the nearest one around it.
    pub position: Option<Position>,
}

impl ProfileProblem {
    /// A problem at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            position: None,
        }
    }
}

impl fmt::Display for ProfileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A profile that was refused, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The file, or `built-in`, or the cluster.
    pub source: String,
    /// The profile's name, if the document got that far.
    pub name: Option<String>,
    /// All problems found, in the order of the text.
    pub problems: Vec<ProfileProblem>,
}

/// A line for each problem: `profiles/x.yaml:12:7: spec.initContainers[0].image: missing`, as compilers write it
/// and editors read it. Without a place in a file, the profile's name stands there.
impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.source)?;
            match (problem.position, &self.name) {
                (Some(position), _) => write!(f, "{position}:")?,
                (None, Some(name)) => write!(f, " profile {name:?}:")?,
                (None, None) => {}
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProfileError {}

impl Document {
    /// Decodes a profile from a tree, as the cluster gives it.
    ///
    /// # Errors
    /// A wrong `apiVersion` or `kind`, a missing or unknown field, a value of a wrong type: each with its path.
    pub fn decode(tree: &Json) -> Result<Self, Vec<ProfileProblem>> {
        let mut problems = Vec::new();
        for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            match tree.get(field).and_then(Json::as_str) {
                Some(given) if given == expected => {}
                Some(given) => problems.push(ProfileProblem::new(
                    field,
                    format!("given {given:?}, expected {expected:?}"),
                )),
                None => problems.push(ProfileProblem::new(
                    field,
                    format!("missing, expected {expected:?}"),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (decoded, unknown) = strict::document(tree);
        problems.extend(
            unknown
                .into_iter()
                // A cluster's copy carries a status that is ours to write.
                .filter(|path| path != "status" && !path.starts_with("status."))
                .map(|path| ProfileProblem::new(path, "unknown field")),
        );
        match decoded {
            Ok(document) if problems.is_empty() => Ok(document),
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }
}
