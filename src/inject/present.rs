//! Whether a pod already holds what an instance would add.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::decide::{Instance, STATUS};
use super::fragment::{Fragments, Role};
use super::pod::Pod;
use super::problem::{Code, Problem};
use super::status::Record;
use crate::json::Written;

/// Whether everything that a record claims is in the pod.
pub(super) fn is_borne_out(record: &Record, pod: &Pod<'_>) -> bool {
    // Sets, because the record is whatever the pod's author wrote: long lists must cost no more than their length.
    fn borne_out<'n>(claimed: &[String], there: impl Iterator<Item = &'n str>) -> bool {
        claimed.is_empty() || {
            let there: HashSet<&str> = there.collect();
            claimed.iter().all(|name| there.contains(name.as_str()))
        }
    }
    record.claims_something()
        && borne_out(
            &record.init_containers,
            pod.init_containers().iter().map(|known| &*known.name),
        )
        && borne_out(
            &record.containers,
            pod.containers().iter().map(|known| &*known.name),
        )
        && borne_out(
            &record.volumes,
            pod.volumes().iter().map(|known| &*known.name),
        )
}

/// Whether an instance that renders no part of its own left volumes for its shares: they now cover those
/// directories, so another rendering would not tell that they are ours.
pub(super) fn has_its_shares(
    instance: &Instance<'_>,
    fragments: &Fragments,
    record: &Record,
    pod: &Pod<'_>,
) -> bool {
    let made = |volume: &String| {
        let share = volume
            .strip_prefix(instance.name.as_str())
            .and_then(|rest| rest.strip_prefix('-'));
        fragments
            .shares
            .iter()
            .any(|known| share == Some(known.share.name.as_str()))
    };
    let shares_only = record.init_containers.is_empty()
        && record.containers.is_empty()
        && !record.volumes.is_empty();
    !fragments.has_parts()
        && shares_only
        && record.volumes.iter().all(made)
        && is_borne_out(record, pod)
}

/// Whether the pod already holds what was rendered, as it was rendered.
///
/// Another webhook may have edited ours in between: an image's registry, added mounts, variables, resources,
/// a security context. What makes a container ours is its list, its command and its arguments. If those
/// differ the annotations and the pod say different things, and which is meant only the author knows.
pub(super) fn is_present(
    instance: &Instance<'_>,
    fragments: &Fragments,
    pod: &Pod<'_>,
    problems: &mut Vec<Problem>,
) -> bool {
    let volumes_there = fragments.volumes.iter().all(|volume| {
        pod.volumes()
            .iter()
            .any(|known| *known.name == *volume.name)
    });
    let files_there = fragments
        .files
        .iter()
        .all(|file| pod.annotation(&file.key).is_some());
    let mut found = Vec::with_capacity(fragments.record.containers.len());
    for fragment in fragments.all_containers() {
        let list = match fragment.role {
            Role::Init(_) => pod.init_containers(),
            Role::StandIn | Role::Ordinary => pod.containers(),
        };
        match list.iter().find(|known| *known.name == *fragment.name()) {
            Some(container) => found.push((container, fragment)),
            None => return false,
        }
    }
    if !volumes_there || !files_there || !fragments.has_parts() {
        return false;
    }
    let same = |given: Option<Written<'_>>, wanted: &Option<Json>| {
        let given: Option<Json> = given.and_then(|raw| serde_json::from_str(raw.get()).ok());
        given.unwrap_or(Json::Null) == *wanted.as_ref().unwrap_or(&Json::Null)
    };
    for (container, fragment) in found {
        if !same(container.command, &fragment.command) || !same(container.args, &fragment.args) {
            problems.push(Problem::new(
                Code::Collision,
                format!("container {:?}", &*container.name),
                format!(
                    "{STATUS} says that {:?} is injected, but the command or arguments are not what the annotations ask for; remove the container and {STATUS}, or mend the annotations",
                    instance.name
                ),
            ));
        }
    }
    for file in fragments
        .files
        .iter()
        .filter(|file| pod.annotation(&file.key) != Some(&file.content))
    {
        problems.push(Problem::new(
            Code::Collision,
            file.key.clone(),
            format!(
                "{STATUS} says that {:?} is injected, but the file is not what the annotations ask for; remove what was injected and {STATUS}, or mend the annotations",
                instance.name
            ),
        ));
    }
    true
}
