//! The order in which a kubelet starts and stops the containers of a pod, from the pod as it is stored.
//!
//! Source: KEP-753 (sidecar containers) and the Kubernetes documentation of the pod's life cycle. Init containers
//! are taken in order. One without a restart policy of its own runs to its end before the next; one with
//! `Always`, a sidecar, is started, and the next waits until its startup probe has succeeded, if it has one. Then
//! all ordinary containers start together. When the pod is told to stop, the preStop hooks of all containers run
//! at once; the ordinary containers are told to end once theirs is done, and after the last of them the sidecars,
//! in reverse order of start. No kubelet runs in these tests: this is its rule, not its behaviour.

use serde_json::Value;

/// What a kubelet does, step after step: `NAME ends`, `NAME is started`, `NAME is up` (its startup probe), and
/// for ordinary containers `NAME, NAME start`.
#[must_use]
pub fn start(pod: &Value) -> Vec<String> {
    let mut steps = Vec::new();
    for container in containers(pod, "initContainers") {
        let name = name(container);
        if !is_sidecar(container) {
            steps.push(format!("{name} ends"));
        } else if container["startupProbe"].is_object() {
            steps.push(format!("{name} is up"));
        } else {
            steps.push(format!("{name} is started"));
        }
    }
    let ordinary: Vec<&str> = containers(pod, "containers").map(name).collect();
    steps.push(format!("{} start", ordinary.join(", ")));
    steps
}

/// What a kubelet does when the pod is deleted: `preStop of NAME, NAME`, then `NAME, NAME end` for ordinary
/// containers, then `NAME ends` for each sidecar.
#[must_use]
pub fn stop(pod: &Value) -> Vec<String> {
    let sidecars: Vec<&Value> = containers(pod, "initContainers")
        .filter(|container| is_sidecar(container))
        .collect();
    let hooks: Vec<&str> = containers(pod, "containers")
        .chain(sidecars.iter().copied())
        .filter(|container| container["lifecycle"]["preStop"].is_object())
        .map(name)
        .collect();
    let mut steps = Vec::new();
    if !hooks.is_empty() {
        steps.push(format!("preStop of {}", hooks.join(", ")));
    }
    let ordinary: Vec<&str> = containers(pod, "containers").map(name).collect();
    steps.push(format!("{} end", ordinary.join(", ")));
    steps.extend(
        sidecars
            .iter()
            .rev()
            .map(|container| format!("{} ends", name(container))),
    );
    steps
}

/// The containers that must end before the pod of a Job is complete. Sidecars do not count.
#[must_use]
pub fn waits_for(pod: &Value) -> Vec<&str> {
    containers(pod, "containers").map(name).collect()
}

fn containers<'p>(pod: &'p Value, list: &str) -> impl Iterator<Item = &'p Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{start, stop};

    #[test]
    fn sidecars_start_in_order_and_end_in_reverse_after_the_application() {
        let pod = json!({"spec": {
            "initContainers": [
                {"name": "mint"},
                {"name": "proxy", "restartPolicy": "Always", "startupProbe": {}},
                {"name": "logs", "restartPolicy": "Always", "lifecycle": {"preStop": {}}},
                {"name": "migrate"},
            ],
            "containers": [{"name": "web", "lifecycle": {"preStop": {}}}, {"name": "worker"}],
        }});
        assert_eq!(
            start(&pod),
            [
                "mint ends",
                "proxy is up",
                "logs is started",
                "migrate ends",
                "web, worker start"
            ]
        );
        assert_eq!(
            stop(&pod),
            [
                "preStop of web, logs",
                "web, worker end",
                "logs ends",
                "proxy ends"
            ]
        );
    }
}
