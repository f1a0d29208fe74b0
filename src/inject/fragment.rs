//! What an instance adds, before its place in the pod is known: as JSON text, beside what the rules and the
//! places have to know of it.
//!
//! All of this depends on the profile and its parameters, and hardly ever on the pod. So the text is written, read
//! and what is long of it encoded once, when it is rendered, and not for each pod that gets it.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::check;
use super::encoded::{Encoded, EncodedWriter};
use super::patch::{self, push_quoted};
use super::pod::{Container, Mount};
use super::problem::Problem;
use super::status::WrittenRecord;
use crate::profile::compile::Share;

/// Where an init container stands among the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Position {
    /// In its profile's block, before the pod's own.
    #[default]
    Block,
    /// Before all others.
    First,
    /// After all others.
    Last,
    /// Before the container of that name.
    Before(String),
    /// After the container of that name.
    After(String),
}

/// What a container is in its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An init container, or a native sidecar.
    Init(Position),
    /// An ordinary container in place of a native sidecar, which the cluster does not have.
    StandIn,
    /// An ordinary container.
    Ordinary,
}

/// A container.
#[derive(Debug)]
pub struct ContainerFragment {
    /// What it is in its pod.
    pub role: Role,
    /// It as the rules see it.
    pub container: Container<'static>,
    /// Its command, if it has one.
    pub command: Option<Json>,
    /// Its arguments, if it has any.
    pub args: Option<Json>,
    /// The rules that it breaks whatever pod it is put in.
    pub faults: Vec<Problem>,
    /// Its JSON until where another mount goes, and from there on.
    text: [Encoded; 2],
    mounts: Mounts,
}

/// The list of a container's mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mounts {
    /// It holds some.
    Some,
    /// It is empty.
    None,
    /// There is none: it would be the last member.
    Absent,
}

impl ContainerFragment {
    /// A container of this JSON.
    ///
    /// # Errors
    /// JSON that is no container.
    pub fn new(role: Role, json: &Json) -> Result<Self, serde_json::Error> {
        let mut text = String::from("{");
        let mut mounts = None;
        for (index, (key, value)) in json.as_object().into_iter().flatten().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_quoted(&mut text, key);
            text.push(':');
            // Writing to a String does not fail.
            let _ = write!(text, "{value}");
            if let ("volumeMounts", Json::Array(items)) = (key.as_str(), value) {
                let mounts_are = match items.is_empty() {
                    true => Mounts::None,
                    false => Mounts::Some,
                };
                mounts = Some((text.len() - 1, mounts_are));
            }
        }
        let (further, mounts) = mounts.unwrap_or((text.len(), Mounts::Absent));
        text.push('}');
        let (until, behind) = text.split_at(further);
        let encoded = [until, behind].map(Encoded::new);
        let container: Container<'_> = serde_json::from_str(&text)?;
        let container = container.into_owned();
        Ok(Self {
            role,
            faults: check::faults(&container),
            container,
            command: json.get("command").cloned(),
            args: json.get("args").cloned(),
            text: encoded,
            mounts,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// How many bytes it has without further mounts, encoded.
    pub fn size(&self) -> usize {
        self.text.iter().map(Encoded::size).sum()
    }

    /// Writes it as JSON, with further mounts.
    pub fn write<'m>(&self, further: impl Iterator<Item = &'m str>, out: &mut EncodedWriter) {
        let [until, behind] = &self.text;
        out.push_encoded(until);
        let mut further = further.peekable();
        if further.peek().is_some() {
            let (before, after) = match self.mounts {
                Mounts::Some => (",", ""),
                Mounts::None => ("", ""),
                Mounts::Absent => (",\"volumeMounts\":[", "]"),
            };
            out.push_str(before);
            for (index, mount) in further.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(mount);
            }
            out.push_str(after);
        }
        out.push_encoded(behind);
    }
}

/// A volume.
#[derive(Debug, PartialEq, Eq)]
pub struct VolumeFragment {
    /// Its name.
    pub name: String,
    /// Its JSON.
    pub text: String,
}

impl VolumeFragment {
    /// A volume of this JSON.
    pub fn new(json: &Json) -> Self {
        Self {
            name: member(json, "name").to_owned(),
            text: json.to_string(),
        }
    }
}

/// A generated file.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the volume.
    pub name: String,
    /// The annotation that holds its content.
    pub key: String,
    /// Its content.
    pub content: String,
    /// The operation of a patch that sets the annotation.
    pub operation: Encoded,
}

impl File {
    /// A file of an instance.
    pub fn new(instance: &str, name: &str, content: String) -> Self {
        let key = format!("files.outrigger.dev/{instance}.{name}");
        Self {
            name: name.to_owned(),
            operation: patch::set_annotation(&key, &content),
            key,
            content,
        }
    }
}

/// Something that some of the pod's own containers receive.
#[derive(Debug)]
pub struct ForApplication<T> {
    /// The containers meant, where the item says; else those of the instance.
    pub containers: Option<Vec<String>>,
    /// The variable or mount.
    pub item: T,
}

/// A variable for the pod's own containers.
#[derive(Debug)]
pub struct EnvFragment {
    /// Its name.
    pub name: String,
    /// It as a tree.
    pub json: Json,
    /// Its JSON.
    pub text: String,
}

impl EnvFragment {
    /// A variable of this JSON.
    pub fn new(json: Json) -> Self {
        Self {
            name: member(&json, "name").to_owned(),
            text: json.to_string(),
            json,
        }
    }
}

/// A mount for a container.
#[derive(Debug)]
pub struct MountFragment {
    /// It as the rules see it.
    pub mount: Mount<'static>,
    /// Its JSON.
    pub text: String,
}

impl MountFragment {
    /// A mount of this JSON.
    ///
    /// # Errors
    /// JSON that is no mount.
    pub fn new(json: &Json) -> Result<Self, serde_json::Error> {
        Ok(Self {
            mount: Mount::deserialize(json)?.into_owned(),
            text: json.to_string(),
        })
    }
}

/// A directory of the application that injected containers see.
#[derive(Debug)]
pub struct ShareFragment {
    /// It as the profile has it.
    pub share: Share,
    /// The volume to make where the application has none there.
    pub volume: VolumeFragment,
    /// What is to be said of that volume.
    pub warning: String,
}

impl ShareFragment {
    /// A share of this instance.
    pub fn new(instance: &str, share: Share) -> Self {
        let mut empty = json!({"sizeLimit": share.size_limit});
        if let Some(medium) = &share.medium {
            empty["medium"] = Json::String(medium.clone());
        }
        let name = format!("{instance}-{}", share.name);
        Self {
            volume: VolumeFragment::new(&json!({"name": name, "emptyDir": empty})),
            warning: format!(
                "{instance}: a new volume at {} hides what the image has there",
                share.path
            ),
            share,
        }
    }

    /// Where the injected containers see it.
    pub fn mount_path(&self) -> &str {
        self.share.mount_path.as_deref().unwrap_or(&self.share.path)
    }
}

/// An entry of the pod's `hostAliases`.
#[derive(Debug)]
pub struct HostAlias {
    /// It as a tree.
    pub json: Json,
    /// Its JSON.
    pub text: String,
}

/// Everything that one instance adds, before its place in the pod is known.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Init containers and native sidecars, in order.
    pub init_containers: Vec<ContainerFragment>,
    /// Ordinary containers.
    pub containers: Vec<ContainerFragment>,
    /// Volumes, without those of the files and of shares.
    pub volumes: Vec<VolumeFragment>,
    /// Generated files, in the order of the profile.
    pub files: Vec<File>,
    /// The volume of the generated files, if there are any.
    pub files_volume: Option<VolumeFragment>,
    /// Shared directories.
    pub shares: Vec<ShareFragment>,
    /// The pod's containers that receive `env` and `mounts`; all ordinary ones if absent.
    pub application_containers: Option<Vec<String>>,
    /// Environment of the pod's containers.
    pub env: Vec<ForApplication<EnvFragment>>,
    /// Mounts of the pod's containers.
    pub mounts: Vec<ForApplication<MountFragment>>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
    /// Image pull secrets, by name.
    pub image_pull_secrets: Vec<String>,
    /// Host aliases.
    pub host_aliases: Vec<HostAlias>,
    /// One process namespace.
    pub share_process_namespace: Option<bool>,
    /// Advice.
    pub warnings: Vec<String>,
    /// What it adds by name, without the volumes of shares, which depend on the pod.
    pub record: WrittenRecord,
}

impl Fragments {
    /// Whether it adds something by whose name it can be known again.
    pub fn has_parts(&self) -> bool {
        !(self.init_containers.is_empty()
            && self.containers.is_empty()
            && self.volumes.is_empty()
            && self.files.is_empty())
    }

    /// All containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerFragment> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        let containers: usize = self
            .all_containers()
            // The text, encoded to four thirds of it, and the same again in pieces.
            .map(|container| container.size() * 7 / 4 + size_of::<ContainerFragment>())
            .sum();
        let files: usize = self
            .files
            .iter()
            .map(|file| file.content.len() + file.operation.size() + 2 * file.key.len())
            .sum();
        let volumes = self.volumes.iter().chain(&self.files_volume);
        let volumes: usize = volumes.map(|volume| volume.text.len()).sum();
        let env: usize = self.env.iter().map(|env| 3 * env.item.text.len()).sum();
        let mounts: usize = self
            .mounts
            .iter()
            .map(|mount| 3 * mount.item.text.len())
            .sum();
        let pairs = self.labels.iter().chain(&self.annotations);
        let pairs: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
        let aliases: usize = self
            .host_aliases
            .iter()
            .map(|alias| 3 * alias.text.len())
            .sum();
        let warnings: usize = self.warnings.iter().map(String::len).sum();
        let shares: usize = self
            .shares
            .iter()
            .map(|share| 2 * share.volume.text.len() + share.warning.len())
            .sum();
        size_of::<Self>()
            + containers
            + files
            + volumes
            + env
            + mounts
            + pairs
            + aliases
            + warnings
            + shares
            + 2 * self.record.size()
    }
}

/// A member that is text; empty if it is none.
fn member<'j>(json: &'j Json, key: &str) -> &'j str {
    json.get(key).and_then(Json::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::encoded::decode;
    use super::*;

    #[test]
    fn further_mounts_go_behind_those_that_are_there() {
        let data = r#"{"name":"data","mountPath":"/data"}"#;
        let logs = r#"{"name":"logs","mountPath":"/logs"}"#;
        for (container, expected) in [
            (
                json!({"name": "a", "volumeMounts": [{"name": "x", "mountPath": "/x"}], "image": "b"}),
                json!({"name": "a", "volumeMounts": [
                    {"name": "x", "mountPath": "/x"},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "logs", "mountPath": "/logs"},
                ], "image": "b"}),
            ),
            (
                json!({"name": "a", "volumeMounts": [], "image": "b"}),
                json!({"name": "a", "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "logs", "mountPath": "/logs"},
                ], "image": "b"}),
            ),
            (
                json!({"name": "a", "image": "b"}),
                json!({"name": "a", "image": "b", "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "logs", "mountPath": "/logs"},
                ]}),
            ),
        ] {
            let fragment = ContainerFragment::new(Role::Ordinary, &container).unwrap();
            let written = |further: &[&str]| {
                let mut out = EncodedWriter::default();
                fragment.write(further.iter().copied(), &mut out);
                let json = decode(&out.finish());
                serde_json::from_str::<Json>(&json).unwrap().to_string()
            };
            assert_eq!(written(&[]), container.to_string());
            assert_eq!(written(&[data, logs]), expected.to_string());
        }
    }
}
