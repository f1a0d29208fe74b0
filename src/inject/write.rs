//! From a plan to the operations of a patch.

use super::decide::STATUS;
use super::encoded::EncodedWriter;
use super::patch::{Patch, PatchWriter, Piece, annotation, push_object, push_quoted};
use super::plan::{ContainerRef, Plan, Slot};
use super::pod::Pod;

/// Room for the path and the punctuation of an operation.
const OPERATION: usize = 96;

/// Writes the operations. Lists that the pod lacks are added whole; where they are, items are inserted. The
/// patch is written behind `before`.
pub(super) fn write_patch(pod: &Pod<'_>, plan: &Plan<'_>, before: &str) -> Patch {
    let mut patch = writer(plan, before);
    metadata(pod, plan, &mut patch);
    let spec = pod.spec.as_ref();
    let volumes = plan.volumes.iter().map(|volume| volume.text);
    append(
        &mut patch,
        &[Piece::Fixed("/spec/volumes")],
        spec.is_some_and(|spec| spec.volumes.is_some()),
        volumes,
        |text, out| out.push_str(text),
    );
    application(pod, plan, &mut patch);
    init_containers(pod, plan, &mut patch);
    append(
        &mut patch,
        &[Piece::Fixed("/spec/containers")],
        spec.is_some_and(|spec| spec.containers.is_some()),
        plan.ordinary.iter(),
        |index, out| plan.write_container(*index, out),
    );
    append(
        &mut patch,
        &[Piece::Fixed("/spec/imagePullSecrets")],
        spec.is_some_and(|spec| spec.image_pull_secrets.is_some()),
        plan.image_pull_secrets.iter(),
        |name, out| push_object(out.text(), [("name", *name)]),
    );
    append(
        &mut patch,
        &[Piece::Fixed("/spec/hostAliases")],
        spec.is_some_and(|spec| spec.host_aliases.is_some()),
        plan.host_aliases.iter(),
        |alias, out| out.push_str(alias),
    );
    if let Some(value) = plan.share_process_namespace {
        patch.add(&[Piece::Fixed("/spec/shareProcessNamespace")], |out| {
            out.push_str(if value { "true" } else { "false" });
        });
    }
    patch.finish()
}

/// A writer with about as much room as the patch will take, and some for what comes behind it.
fn writer(plan: &Plan<'_>, before: &str) -> PatchWriter {
    let shared = plan.shared.iter();
    let shared = shared.map(|shared| shared.mount.text.len()).sum::<usize>();
    let volumes = plan.volumes.iter().map(|volume| volume.text.len());
    let containers = plan.containers.iter().map(|new| new.fragment.size());
    let new = || plan.annotations.iter();
    let plain = new().filter(|new| new.operation.is_none());
    let plain = plain.map(|new| new.key.len() + new.value.len());
    let encoded = new().filter_map(|new| Some(new.operation?.size()));
    let operations = plan.volumes.len() + plan.containers.len() + plan.annotations.len();
    PatchWriter::with_capacity(
        before,
        1024 + operations * OPERATION
            + shared * plan.containers.len()
            + volumes.sum::<usize>()
            + plain.sum::<usize>()
            + plan.status.escaped().len(),
        containers.sum::<usize>() + encoded.sum::<usize>(),
    )
}

fn metadata(pod: &Pod<'_>, plan: &Plan<'_>, patch: &mut PatchWriter) {
    let metadata = pod.metadata.as_ref();
    let empty = |out: &mut EncodedWriter| out.push_str("{}");
    if metadata.is_none() {
        patch.add(&[Piece::Fixed("/metadata")], empty);
    }
    if metadata.is_none_or(|metadata| metadata.annotations.is_none()) {
        patch.add(&[Piece::Fixed("/metadata/annotations")], empty);
    }
    for new in &plan.annotations {
        match new.operation {
            Some(operation) => patch.add_encoded(operation),
            None => patch.add(&annotation(new.key), |out| {
                push_quoted(out.text(), new.value)
            }),
        }
    }
    patch.add(&annotation(STATUS), |out| {
        out.push('"');
        out.push_str(plan.status.escaped());
        out.push('"');
    });
    if plan.labels.is_empty() {
        return;
    }
    if metadata.is_none_or(|metadata| metadata.labels.is_none()) {
        patch.add(&[Piece::Fixed("/metadata/labels")], empty);
    }
    for (key, value) in &plan.labels {
        let path = [Piece::Fixed("/metadata/labels/"), Piece::Key(key)];
        patch.add(&path, |out| push_quoted(out.text(), value));
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
            |env, out| out.push_str(&env.text),
        );
        append(
            patch,
            &path("/volumeMounts"),
            container.volume_mounts.is_some(),
            received.mounts.iter(),
            |mount, out| out.push_str(&mount.text),
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
            patch.add(&path, |out| plan.write_container(index, out));
        }
    } else {
        append(
            patch,
            &[Piece::Fixed("/spec/initContainers")],
            false,
            new.by_ref(),
            |(_, index), out| plan.write_container(index, out),
        );
    }
}

/// Appends items to a list, or adds the list if it does not exist.
fn append<T>(
    patch: &mut PatchWriter,
    list: &[Piece<'_>],
    exists: bool,
    items: impl Iterator<Item = T>,
    write: impl Fn(T, &mut EncodedWriter),
) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    if exists {
        for item in items {
            patch.append(list, |out| write(item, out));
        }
    } else {
        patch.add(list, |out| {
            out.push('[');
            for (index, item) in items.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        });
    }
}
