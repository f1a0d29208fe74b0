//! From a plan to the operations of a patch.

use super::decide::STATUS;
use super::patch::{self, Patch};
use super::plan::{ContainerRef, Plan, Slot};
use super::pod::Pod;
use super::status::Status;

/// Adds the status annotation to a plan.
pub(super) fn add_status(plan: &mut Plan, mut status: Status) {
    for record in &plan.records {
        match status
            .instances
            .iter_mut()
            .find(|old| old.instance == record.instance)
        {
            Some(old) => old.clone_from(record),
            None => status.instances.push(record.clone()),
        }
    }
    plan.annotations.push((STATUS.to_owned(), status.to_json()));
}

/// Writes the operations. Lists that the pod lacks are added whole; where they are, items are inserted.
pub(super) fn write_patch(pod: &Pod<'_>, plan: &Plan) -> Patch {
    let mut patch = Patch::default();
    metadata(pod, plan, &mut patch);
    let spec = pod.spec.as_ref();
    let volumes: Vec<&str> = plan
        .volumes
        .iter()
        .map(|volume| volume.json.as_str())
        .collect();
    append(
        &mut patch,
        "/spec/volumes",
        spec.is_some_and(|spec| spec.volumes.is_some()),
        &volumes,
    );
    application(pod, plan, &mut patch);
    if plan.init.iter().any(|slot| matches!(slot, Slot::New(_))) {
        let json = |slot: &Slot| match slot {
            Slot::New(index) => plan
                .fragments
                .get(*index)
                .map(|fragment| fragment.json.as_str()),
            Slot::Own(_) => None,
        };
        if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.init_containers.is_some())
        {
            // Ascending, so that each index is final when it is written.
            for (index, slot) in plan.init.iter().enumerate() {
                if let Some(json) = json(slot) {
                    patch.add(format!("/spec/initContainers/{index}"), json.to_owned());
                }
            }
        } else {
            patch.add(
                "/spec/initContainers".to_owned(),
                patch::array(plan.init.iter().filter_map(json)),
            );
        }
    }
    let containers: Vec<&str> = plan
        .containers
        .iter()
        .filter_map(|index| {
            plan.fragments
                .get(*index)
                .map(|fragment| fragment.json.as_str())
        })
        .collect();
    append(
        &mut patch,
        "/spec/containers",
        spec.is_some_and(|spec| spec.containers.is_some()),
        &containers,
    );
    let secrets: Vec<String> = plan
        .image_pull_secrets
        .iter()
        .map(|name| format!("{{\"name\":{}}}", patch::quote(name)))
        .collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    append(
        &mut patch,
        "/spec/imagePullSecrets",
        spec.is_some_and(|spec| spec.image_pull_secrets.is_some()),
        &secrets,
    );
    let aliases: Vec<&str> = plan.host_aliases.iter().map(String::as_str).collect();
    append(
        &mut patch,
        "/spec/hostAliases",
        spec.is_some_and(|spec| spec.host_aliases.is_some()),
        &aliases,
    );
    if let Some(value) = plan.share_process_namespace {
        patch.add("/spec/shareProcessNamespace".to_owned(), value.to_string());
    }
    patch
}

fn metadata(pod: &Pod<'_>, plan: &Plan, patch: &mut Patch) {
    if pod.metadata.is_none() {
        patch.add("/metadata".to_owned(), "{}".to_owned());
    }
    let metadata = pod.metadata.as_ref();
    if metadata.is_some_and(|metadata| metadata.annotations.is_some()) {
        for (key, value) in &plan.annotations {
            patch.add(
                format!("/metadata/annotations/{}", patch::token(key)),
                patch::quote(value),
            );
        }
    } else {
        patch.add("/metadata/annotations".to_owned(), plan.annotations_json());
    }
    if plan.labels.is_empty() {
        return;
    }
    if metadata.is_some_and(|metadata| metadata.labels.is_some()) {
        for (key, value) in &plan.labels {
            patch.add(
                format!("/metadata/labels/{}", patch::token(key)),
                patch::quote(value),
            );
        }
    } else {
        let labels = plan
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        patch.add("/metadata/labels".to_owned(), patch::object(labels));
    }
}

/// Environment and mounts of the pod's own containers, by the indexes they have before init containers are
/// inserted.
fn application(pod: &Pod<'_>, plan: &Plan, patch: &mut Patch) {
    for (additions, field) in [(&plan.env, "env"), (&plan.mounts, "volumeMounts")] {
        let mut targets: Vec<ContainerRef> = Vec::new();
        for addition in additions {
            if !targets.contains(&addition.at) {
                targets.push(addition.at);
            }
        }
        for at in targets {
            let list = if at.init {
                "initContainers"
            } else {
                "containers"
            };
            let items: Vec<&str> = additions
                .iter()
                .filter(|addition| addition.at == at)
                .map(|addition| addition.json.as_str())
                .collect();
            let exists = at.get(pod).is_some_and(|container| match field {
                "env" => container.env.is_some(),
                _ => container.volume_mounts.is_some(),
            });
            append(
                patch,
                &format!("/spec/{list}/{}/{field}", at.index),
                exists,
                &items,
            );
        }
    }
}

fn append(patch: &mut Patch, list: &str, exists: bool, items: &[&str]) {
    if items.is_empty() {
        return;
    }
    if exists {
        for item in items {
            patch.add(format!("{list}/-"), (*item).to_owned());
        }
    } else {
        patch.add(list.to_owned(), patch::array(items.iter().copied()));
    }
}
