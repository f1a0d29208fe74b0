//! From a plan to the operations of a patch.

use super::decide::STATUS;
use super::patch::{Patch, PatchWriter, Piece, push_object, push_quoted};
use super::plan::{ContainerRef, NewAnnotation, Plan, Slot};
use super::pod::Pod;

/// Room for the path and the punctuation of an operation.
const OPERATION: usize = 96;

/// Writes the operations. Lists that the pod lacks are added whole; where they are, items are inserted.
pub(super) fn write_patch(pod: &Pod<'_>, plan: &Plan<'_>) -> Patch {
    let mut patch = PatchWriter::with_capacity(size(plan));
    metadata(pod, plan, &mut patch);
    let spec = pod.spec.as_ref();
    let volumes = plan.volumes.iter().map(|volume| volume.text);
    append(
        &mut patch,
        &[Piece::Fixed("/spec/volumes")],
        spec.is_some_and(|spec| spec.volumes.is_some()),
        volumes,
        |text, json| json.push_str(text),
    );
    application(pod, plan, &mut patch);
    init_containers(pod, plan, &mut patch);
    append(
        &mut patch,
        &[Piece::Fixed("/spec/containers")],
        spec.is_some_and(|spec| spec.containers.is_some()),
        plan.ordinary.iter(),
        |index, json| plan.write_container(*index, json),
    );
    append(
        &mut patch,
        &[Piece::Fixed("/spec/imagePullSecrets")],
        spec.is_some_and(|spec| spec.image_pull_secrets.is_some()),
        plan.image_pull_secrets.iter(),
        |name, json| push_object(json, [("name", *name)]),
    );
    append(
        &mut patch,
        &[Piece::Fixed("/spec/hostAliases")],
        spec.is_some_and(|spec| spec.host_aliases.is_some()),
        plan.host_aliases.iter(),
        |alias, json| json.push_str(alias),
    );
    if let Some(value) = plan.share_process_namespace {
        patch.add(&[Piece::Fixed("/spec/shareProcessNamespace")], |json| {
            json.push_str(if value { "true" } else { "false" });
        });
    }
    patch.finish()
}

/// About how long the patch will be.
fn size(plan: &Plan<'_>) -> usize {
    let containers: usize = plan
        .containers
        .iter()
        .map(|new| new.fragment.text_len() + OPERATION)
        .sum();
    let shared: usize = plan
        .shared
        .iter()
        .map(|shared| shared.mount.text.len())
        .sum();
    let volumes: usize = plan
        .volumes
        .iter()
        .map(|volume| volume.text.len() + OPERATION)
        .sum();
    let annotations: usize = plan
        .annotations
        .iter()
        .map(|new| new.key.len() + new.quoted.unwrap_or(new.value).len() + OPERATION)
        .sum();
    1024 + containers
        + shared * plan.containers.len()
        + volumes
        + annotations
        + plan.status.escaped().len()
}

/// The value of an annotation.
#[derive(Clone, Copy)]
enum Value<'p> {
    /// As it is.
    Plain(&'p str),
    /// As it stands within the quotes of a JSON string.
    Escaped(&'p str),
    /// As a JSON string.
    Quoted(&'p str),
}

impl Value<'_> {
    fn push(self, json: &mut String) {
        match self {
            Self::Plain(text) => push_quoted(json, text),
            Self::Quoted(text) => json.push_str(text),
            Self::Escaped(text) => {
                json.push('"');
                json.push_str(text);
                json.push('"');
            }
        }
    }
}

fn metadata<'p>(pod: &Pod<'_>, plan: &Plan<'p>, patch: &mut PatchWriter) {
    if pod.metadata.is_none() {
        patch.add(&[Piece::Fixed("/metadata")], |json| json.push_str("{}"));
    }
    let metadata = pod.metadata.as_ref();
    let status = || Value::Escaped(plan.status.escaped());
    let annotations = || {
        let new = plan.annotations.iter();
        let value =
            |new: &NewAnnotation<'p>| new.quoted.map_or(Value::Plain(new.value), Value::Quoted);
        new.map(move |new| (new.key, value(new)))
            .chain([(STATUS, status())])
    };
    if metadata.is_some_and(|metadata| metadata.annotations.is_some()) {
        for (key, value) in annotations() {
            let path = [Piece::Fixed("/metadata/annotations/"), Piece::Key(key)];
            patch.add(&path, |json| value.push(json));
        }
    } else {
        patch.add(&[Piece::Fixed("/metadata/annotations")], |json| {
            json.push('{');
            for (index, (key, value)) in annotations().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                push_quoted(json, key);
                json.push(':');
                value.push(json);
            }
            json.push('}');
        });
    }
    if plan.labels.is_empty() {
        return;
    }
    if metadata.is_some_and(|metadata| metadata.labels.is_some()) {
        for (key, value) in &plan.labels {
            let path = [Piece::Fixed("/metadata/labels/"), Piece::Key(key)];
            patch.add(&path, |json| push_quoted(json, value));
        }
    } else {
        patch.add(&[Piece::Fixed("/metadata/labels")], |json| {
            push_object(json, plan.labels.iter().copied());
        });
    }
}

/// Environment and mounts of the pod's own containers, by the indexes they have before init containers are
/// inserted.
fn application(pod: &Pod<'_>, plan: &Plan<'_>, patch: &mut PatchWriter) {
    for at in ContainerRef::all(pod) {
        let Some((received, container)) = plan.received(pod, at).zip(at.get(pod)) else {
            continue;
        };
        let list = if at.init {
            "/spec/initContainers/"
        } else {
            "/spec/containers/"
        };
        let path = |field| {
            [
                Piece::Fixed(list),
                Piece::Index(at.index),
                Piece::Fixed(field),
            ]
        };
        append(
            patch,
            &path("/env"),
            container.env.is_some(),
            received.env.iter(),
            |env, json| json.push_str(&env.text),
        );
        append(
            patch,
            &path("/volumeMounts"),
            container.volume_mounts.is_some(),
            received.mounts.iter(),
            |mount, json| json.push_str(&mount.text),
        );
    }
}

fn init_containers(pod: &Pod<'_>, plan: &Plan<'_>, patch: &mut PatchWriter) {
    let new = plan.init.iter().enumerate();
    let mut new = new.filter_map(|(place, slot)| match slot {
        Slot::New(index) => Some((place, *index)),
        Slot::Own(_) => None,
    });
    let exists = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.init_containers.is_some());
    if exists {
        // Ascending, so that each index is final when it is written.
        for (place, index) in new {
            let path = [Piece::Fixed("/spec/initContainers/"), Piece::Index(place)];
            patch.add(&path, |json| plan.write_container(index, json));
        }
    } else {
        append(
            patch,
            &[Piece::Fixed("/spec/initContainers")],
            false,
            new.by_ref(),
            |(_, index), json| plan.write_container(index, json),
        );
    }
}

/// Appends items to a list, or adds the list if it does not exist.
fn append<T>(
    patch: &mut PatchWriter,
    list: &[Piece<'_>],
    exists: bool,
    items: impl Iterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    if exists {
        for item in items {
            patch.append(list, |json| write(item, json));
        }
    } else {
        patch.add(list, |json| {
            json.push('[');
            for (index, item) in items.enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write(item, json);
            }
            json.push(']');
        });
    }
}
