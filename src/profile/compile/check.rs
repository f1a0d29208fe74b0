//! The checks of a profile that need its compiled trees.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, LocalObjectReference, Volume, VolumeMount,
};

use super::{APPLICATION_KEYS, Body, INIT_CONTAINER_KEYS, Share};
use crate::profile::document::{Allow, ProfileProblem};
use crate::profile::parameter;
use crate::profile::privilege;
use crate::profile::strict;
use crate::profile::template::Template;

/// The checks that need the compiled trees.
pub(super) fn check_body(body: &Body, problems: &mut Vec<ProfileProblem>) {
    for (template, path) in [
        (&body.init_containers, "spec.initContainers"),
        (&body.containers, "spec.containers"),
    ] {
        strict::check_items::<Container>(template, path, INIT_CONTAINER_KEYS, problems);
        for (path, container) in mappings(template, path) {
            for needed in ["name", "image", "resources"] {
                if !container.iter().any(|(key, _)| key == needed) {
                    problems.push(ProfileProblem::new(
                        format!("{path}.{needed}"),
                        match needed {
                            "resources" => {
                                "missing: a quota refuses containers without requests and limits"
                            }
                            _ => "missing",
                        },
                    ));
                }
            }
        }
    }
    if let Template::List(items) = &body.containers {
        for (index, item) in items.iter().enumerate() {
            if let Template::Mapping(mapping) = item {
                for (key, _) in &mapping.entries {
                    if key == "position" || key == "restartPolicy" {
                        problems.push(ProfileProblem::new(
                            format!("spec.containers[{index}].{key}"),
                            "only an init container has it; ordinary containers start after all of those",
                        ));
                    }
                }
            }
        }
    }
    strict::check_items::<Volume>(&body.volumes, "spec.volumes", &[], problems);
    for (path, volume) in mappings(&body.volumes, "spec.volumes") {
        for (key, value) in volume {
            if let (true, Template::Mapping(empty)) = (key == "emptyDir", value)
                && !empty.entries.iter().any(|(key, _)| key == "sizeLimit")
            {
                problems.push(ProfileProblem::new(
                    format!("{path}.emptyDir.sizeLimit"),
                    "missing: without it the volume can fill the node's disk",
                ));
            }
        }
    }
    strict::check_items::<Share>(&body.shares, "spec.shares", &[], problems);
    for (template, path) in [
        (&body.labels, "spec.pod.labels"),
        (&body.annotations, "spec.pod.annotations"),
    ] {
        strict::check::<Option<std::collections::BTreeMap<String, String>>>(
            template,
            path,
            &[],
            problems,
        );
        if let Template::Mapping(mapping) = template {
            for (key, _) in &mapping.entries {
                check_key(key, path, problems);
            }
        }
    }
    strict::check::<Option<bool>>(
        &body.share_process_namespace,
        "spec.pod.shareProcessNamespace",
        &[],
        problems,
    );
    strict::check::<Option<Vec<String>>>(
        &body.application_containers,
        "spec.application.containers",
        &[],
        problems,
    );
    for (path, container) in mappings(&body.init_containers, "spec.initContainers") {
        for (key, value) in container {
            if let ("position", Template::Literal(value)) = (key.as_str(), value) {
                let text = value.as_str().unwrap_or_default();
                let beside = text
                    .strip_prefix("before:")
                    .or_else(|| text.strip_prefix("after:"));
                let named = beside.is_some_and(|name| parameter::is_dns_label(name.trim()));
                if !matches!(text, "first" | "last") && !named {
                    problems.push(ProfileProblem::new(
                        format!("{path}.position"),
                        format!("given {value}, expected first, last, \"before: NAME\" or \"after: NAME\""),
                    ));
                }
            }
        }
    }
    strict::check_items::<EnvVar>(
        &body.env,
        "spec.application.env",
        APPLICATION_KEYS,
        problems,
    );
    strict::check_items::<VolumeMount>(
        &body.volume_mounts,
        "spec.application.volumeMounts",
        APPLICATION_KEYS,
        problems,
    );
    strict::check_items::<LocalObjectReference>(
        &body.image_pull_secrets,
        "spec.pod.imagePullSecrets",
        &[],
        problems,
    );
    strict::check_items::<HostAlias>(&body.host_aliases, "spec.pod.hostAliases", &[], problems);
}

/// A profile that gives a container power over its node must be bound to namespaces.
pub(super) fn check_privileges(
    body: &Body,
    allow: Option<&Allow>,
    problems: &mut Vec<ProfileProblem>,
) {
    if let Some(allow) = allow {
        if allow.namespace_selector.is_empty() {
            problems.push(ProfileProblem::new(
                "spec.allow.namespaceSelector",
                "selects every namespace; name a label, or leave spec.allow out",
            ));
        }
        return;
    }
    for (template, path) in [
        (&body.init_containers, "spec.initContainers"),
        (&body.containers, "spec.containers"),
    ] {
        for (index, container) in template
            .outline()
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = format!("{path}[{index}]");
            problems.extend(privilege::of_container(container, &path));
        }
    }
    for (index, volume) in body
        .volumes
        .outline()
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let path = format!("spec.volumes[{index}]");
        problems.extend(privilege::of_volume(volume, &path));
    }
}

/// A key of a label or annotation that the API server takes and that is not ours to write otherwise.
fn check_key(key: &str, path: &str, problems: &mut Vec<ProfileProblem>) {
    let (domain, name) = key
        .split_once('/')
        .map_or((None, key), |(domain, name)| (Some(domain), name));
    let ends = |edge: Option<char>| edge.is_some_and(|edge| edge.is_ascii_alphanumeric());
    let fits = name.len() <= 63
        && ends(name.chars().next())
        && ends(name.chars().next_back())
        && name
            .chars()
            .all(|part| part.is_ascii_alphanumeric() || matches!(part, '-' | '_' | '.'))
        && domain.is_none_or(parameter::format::is_dns_subdomain);
    if !fits {
        problems.push(ProfileProblem::new(
            format!("{path}.{key}"),
            "this is no key: at most 63 letters, digits, '-', '_' and '.', after a domain and a '/' or not",
        ));
    }
    if domain.is_some_and(|domain| domain == "outrigger.dev" || domain.ends_with(".outrigger.dev"))
    {
        problems.push(ProfileProblem::new(
            format!("{path}.{key}"),
            "keys below outrigger.dev ask for injection or tell of it; a profile cannot set them",
        ));
    }
}

type Entries = [(String, Template)];

fn mappings<'t>(list: &'t Template, path: &str) -> Vec<(String, &'t Entries)> {
    let Template::List(items) = list else {
        return Vec::new();
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| match item {
            Template::Mapping(mapping) => {
                Some((format!("{path}[{index}]"), mapping.entries.as_slice()))
            }
            _ => None,
        })
        .collect()
}
