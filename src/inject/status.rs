//! What was injected, written on the pod, and read again when the pod comes back.
//!
//! A pod comes back when another webhook changed it (`reinvocationPolicy: IfNeeded`), when a manifest was
//! injected by `outrigger inject`, or when somebody exports a pod and creates it again. The annotation is
//! a claim of whoever wrote the pod: it counts only as far as the pod bears it out.

use serde::{Deserialize, Serialize};

/// The value of `outrigger.dev/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One record an instance, in the order of injection.
    #[serde(default)]
    pub instances: Vec<Record>,
}

/// What one instance added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The instance's name.
    pub instance: String,
    /// Its profile.
    pub profile: String,
    /// The profile's revision.
    pub revision: String,
    /// Init containers and native sidecars.
    #[serde(default)]
    pub init_containers: Vec<String>,
    /// Ordinary containers.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Generated files.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Status {
    /// Reads an annotation. Anything that is not ours is no status, and so no claim.
    pub fn parse(annotation: Option<&str>) -> Self {
        annotation
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The record of an instance of a profile.
    pub fn record(&self, instance: &str, profile: &str) -> Option<&Record> {
        self.instances
            .iter()
            .find(|record| record.instance == instance && record.profile == profile)
    }

    /// The annotation's value.
    pub fn to_json(&self) -> String {
        // Serialising strings and lists of strings does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Record {
    /// Whether the record claims anything that a pod could bear out.
    pub fn claims_something(&self) -> bool {
        !(self.init_containers.is_empty() && self.containers.is_empty() && self.volumes.is_empty())
    }
}
