//! What is to be added to a pod, each thing at its place. It borrows from the pod and from the fragments.

use std::borrow::Cow;

use super::encoded::{Encoded, EncodedWriter};
use super::fragment::{ContainerFragment, EnvFragment, Fragments, VolumeFragment};
use super::place::NewInstance;
use super::pod::{Container, Mount, Pod};
use super::status::{Addition, StatusText};

/// One of the pod's own containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerRef {
    /// Whether it is an init container.
    pub init: bool,
    /// Its index in its list.
    pub index: usize,
}

impl ContainerRef {
    /// All of a pod: init containers in order, then ordinary ones.
    pub fn all(pod: &Pod<'_>) -> impl Iterator<Item = Self> + use<> {
        let init = (0..pod.init_containers().len()).map(|index| Self { init: true, index });
        init.chain(Self::ordinary(pod))
    }

    /// The ordinary ones of a pod.
    pub fn ordinary(pod: &Pod<'_>) -> impl Iterator<Item = Self> + use<> {
        (0..pod.containers().len()).map(|index| Self { init: false, index })
    }

    /// The container.
    pub fn get<'p, 'a>(self, pod: &'p Pod<'a>) -> Option<&'p Container<'a>> {
        if self.init {
            pod.init_containers().get(self.index)
        } else {
            pod.containers().get(self.index)
        }
    }

    /// Its place among [`ContainerRef::all`].
    fn position(self, pod: &Pod<'_>) -> usize {
        if self.init {
            self.index
        } else {
            pod.init_containers().len() + self.index
        }
    }
}

/// A place in the final list of init containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The pod's own init container of that index.
    Own(usize),
    /// A new one: an index into [`Plan::containers`].
    New(usize),
}

/// A container to add.
#[derive(Debug)]
pub struct NewContainer<'p> {
    /// Its instance: an index into the new instances.
    pub owner: usize,
    /// It, without the mounts of shares.
    pub fragment: &'p ContainerFragment,
}

/// A volume to add.
#[derive(Debug)]
pub struct NewVolume<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its JSON.
    pub text: &'p str,
}

impl<'p> From<&'p VolumeFragment> for NewVolume<'p> {
    fn from(fragment: &'p VolumeFragment) -> Self {
        Self {
            name: &fragment.name,
            text: &fragment.text,
        }
    }
}

/// A mount to add to a container.
#[derive(Debug)]
pub struct NewMount<'p> {
    /// It as the rules see it.
    pub mount: Mount<'p>,
    /// Its JSON.
    pub text: Cow<'p, str>,
}

/// A mount that a share gives to the injected containers of one instance.
#[derive(Debug)]
pub struct SharedMount<'p> {
    /// The instance: an index into the new instances.
    pub owner: usize,
    /// The containers meant; all of the instance's if absent.
    pub containers: Option<&'p [String]>,
    /// The mount.
    pub mount: NewMount<'p>,
}

/// What one of the pod's own containers receives.
#[derive(Debug, Default)]
pub struct Received<'p> {
    /// Variables to append.
    pub env: Vec<&'p EnvFragment>,
    /// Mounts to append.
    pub mounts: Vec<NewMount<'p>>,
}

/// An annotation to set.
#[derive(Debug)]
pub struct NewAnnotation<'p> {
    /// Its key.
    pub key: &'p str,
    /// Its value.
    pub value: &'p str,
    /// The operation that sets it, where that is written already.
    pub operation: Option<&'p Encoded>,
}

/// Everything that is to be added, each thing at its place.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    /// Containers to add.
    pub containers: Vec<NewContainer<'p>>,
    /// All init containers in their final order. Empty if nothing is added to them.
    pub init: Vec<Slot>,
    /// Ordinary containers to append: indexes into [`Plan::containers`].
    pub ordinary: Vec<usize>,
    /// Volumes to append.
    pub volumes: Vec<NewVolume<'p>>,
    /// Mounts of shares, by instance.
    pub shared: Vec<SharedMount<'p>>,
    /// Labels to set.
    pub labels: Vec<(&'p str, &'p str)>,
    /// Annotations to set, without the status.
    pub annotations: Vec<NewAnnotation<'p>>,
    /// The status annotation to set.
    pub status: StatusText,
    /// Image pull secrets to append, by name.
    pub image_pull_secrets: Vec<&'p str>,
    /// Host aliases to append, as JSON.
    pub host_aliases: Vec<&'p str>,
    /// One process namespace.
    pub share_process_namespace: Option<bool>,
    /// What was added, by instance.
    pub additions: Vec<Addition<'p>>,
    /// Advice to the pod's author.
    pub warnings: Vec<Cow<'p, str>>,
    /// By place among [`ContainerRef::all`]. Empty if none receives anything.
    received: Vec<Received<'p>>,
}

impl<'p> Plan<'p> {
    /// An empty plan that need not grow by what these instances add.
    pub fn with_room(instances: &[NewInstance<'p>]) -> Self {
        let sum = |count: fn(&Fragments) -> usize| -> usize {
            instances.iter().map(|new| count(new.fragments)).sum()
        };
        Self {
            additions: Vec::with_capacity(instances.len()),
            containers: Vec::with_capacity(sum(|it| it.all_containers().count())),
            // One for the files.
            volumes: Vec::with_capacity(sum(|it| it.volumes.len() + it.shares.len() + 1)),
            // One for the container that kubectl picks.
            annotations: Vec::with_capacity(1 + sum(|it| it.annotations.len() + it.files.len())),
            ..Self::default()
        }
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
            && self.volumes.is_empty()
            && self.received.is_empty()
            && self.labels.is_empty()
            && self.annotations.is_empty()
            && self.image_pull_secrets.is_empty()
            && self.host_aliases.is_empty()
            && self.share_process_namespace.is_none()
    }

    /// What a container of the pod receives, if the pod's containers receive anything.
    pub fn received(&self, pod: &Pod<'_>, at: ContainerRef) -> Option<&Received<'p>> {
        self.received.get(at.position(pod))
    }

    /// What a container of the pod receives, to add to it.
    pub fn received_mut(&mut self, pod: &Pod<'_>, at: ContainerRef) -> Option<&mut Received<'p>> {
        if self.received.is_empty() {
            let count = pod.init_containers().len() + pod.containers().len();
            self.received.resize_with(count, Received::default);
        }
        self.received.get_mut(at.position(pod))
    }

    /// The mounts of shares that a new container gets.
    pub fn shared_with(
        &self,
        container: &NewContainer<'p>,
    ) -> impl Iterator<Item = &NewMount<'p>> + Clone {
        let (owner, name) = (container.owner, container.fragment.name());
        self.shared
            .iter()
            .filter(move |shared| {
                shared.owner == owner
                    && shared
                        .containers
                        .is_none_or(|names| names.iter().any(|known| known == name))
            })
            .map(|shared| &shared.mount)
    }

    /// Appends a new container as JSON.
    pub fn write_container(&self, index: usize, out: &mut EncodedWriter) {
        if let Some(container) = self.containers.get(index) {
            let further = self.shared_with(container).map(|mount| &*mount.text);
            container.fragment.write(further, out);
        }
    }
}
