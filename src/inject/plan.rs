//! What is to be added to a pod, each thing at its place.

use super::patch::object;
use super::pod::{Container, Pod};
use super::status::Record;

/// One of the pod's own containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerRef {
    /// Whether it is an init container.
    pub init: bool,
    /// Its index in its list.
    pub index: usize,
}

impl ContainerRef {
    /// The container.
    pub fn get<'p, 'a>(self, pod: &'p Pod<'a>) -> Option<&'p Container<'a>> {
        if self.init {
            pod.init_containers().get(self.index)
        } else {
            pod.containers().get(self.index)
        }
    }
}

/// A place in the final list of init containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The pod's own init container of that index.
    Own(usize),
    /// A new one: an index into [`Plan::fragments`].
    New(usize),
}

/// A container to add.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Its instance: an index into the new instances.
    pub owner: usize,
    /// Its name.
    pub name: String,
    /// Its JSON.
    pub json: String,
}

/// A volume to add.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Its JSON.
    pub json: String,
}

/// A variable or a mount to add to one of the pod's own containers.
#[derive(Debug, Clone)]
pub struct Addition {
    /// The container.
    pub at: ContainerRef,
    /// The instance it is for: an index into the new instances.
    pub owner: usize,
    /// Its JSON.
    pub json: String,
}

/// Everything that is to be added, each thing at its place.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Containers to add.
    pub fragments: Vec<Fragment>,
    /// All init containers in their final order. Empty if nothing is added to them.
    pub init: Vec<Slot>,
    /// Ordinary containers to append: indexes into [`Plan::fragments`].
    pub containers: Vec<usize>,
    /// Volumes to append.
    pub volumes: Vec<NewVolume>,
    /// Mounts to append to the pod's own containers.
    pub mounts: Vec<Addition>,
    /// Environment to append to the pod's own containers.
    pub env: Vec<Addition>,
    /// Labels to set.
    pub labels: Vec<(String, String)>,
    /// Annotations to set.
    pub annotations: Vec<(String, String)>,
    /// Image pull secrets to append, by name.
    pub image_pull_secrets: Vec<String>,
    /// Host aliases to append, as JSON.
    pub host_aliases: Vec<String>,
    /// One process namespace.
    pub share_process_namespace: Option<bool>,
    /// What was added, by instance.
    pub records: Vec<Record>,
    /// Advice to the pod's author.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
            && self.volumes.is_empty()
            && self.mounts.is_empty()
            && self.env.is_empty()
            && self.labels.is_empty()
            && self.annotations.is_empty()
            && self.image_pull_secrets.is_empty()
            && self.host_aliases.is_empty()
            && self.share_process_namespace.is_none()
    }

    /// The pod's annotations that are to be set, as a JSON object.
    pub fn annotations_json(&self) -> String {
        object(
            self.annotations
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        )
    }
}
