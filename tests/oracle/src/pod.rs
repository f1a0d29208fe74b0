//! The rules of a pod that the API server accepts and a kubelet starts, as far as what we add can break them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Broken, Held, held};

/// How much annotations may hold in all, keys and values (`TotalAnnotationSizeLimitB` of apimachinery).
const ANNOTATIONS: usize = 256 * 1024;

/// Holds a pod that comes out against the one that went in: it breaks no rule that the other kept, and what was added
/// keeps those that only what is ours has to.
///
/// # Errors
/// Every rule that is broken.
pub fn check(before: &Value, after: &Value) -> Held<()> {
    let known = faults(before);
    let mut broken: Vec<String> = faults(after).difference(&known).cloned().collect();
    broken.extend(faults_of_ours(before, after));
    held(broken.is_empty(), || broken.join("\n"))
}

/// The record of what was added is true: each thing that it names is there, once.
///
/// # Errors
/// A record that is missing or no record, and things that are missing or there twice.
pub fn check_records(before: &Value, after: &Value) -> Held<()> {
    let records = |pod: &Value| -> Option<Vec<Value>> {
        let text = pod["metadata"]["annotations"]["outrigger.dev/status"].as_str()?;
        let status: Value = serde_json::from_str(text).ok()?;
        status["instances"].as_array().cloned()
    };
    let old = records(before).unwrap_or_default();
    let all = records(after).ok_or_else(|| Broken("a pod without a record".to_owned()))?;
    let mut instances = BTreeSet::new();
    for record in &all {
        let instance = record["instance"].as_str().unwrap_or_default();
        held(instances.insert(instance.to_owned()), || {
            format!("two records of {instance:?}")
        })?;
        // What a pod brought along is a claim of its author's.
        if old.contains(record) {
            continue;
        }
        for (claimed, list) in [
            ("initContainers", "initContainers"),
            ("containers", "containers"),
            ("volumes", "volumes"),
        ] {
            for wanted in items(&record[claimed]) {
                let found = items(&after["spec"][list])
                    .filter(|item| item["name"] == *wanted)
                    .count();
                held(found == 1, || {
                    format!("{instance:?} has {wanted} {found} times in {list}")
                })?;
            }
        }
        for file in items(&record["files"]) {
            let key = format!(
                "files.outrigger.dev/{instance}.{}",
                file.as_str().unwrap_or_default()
            );
            held(after["metadata"]["annotations"][&key].is_string(), || {
                format!("{instance:?} has no file {file}")
            })?;
        }
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["spec"]["initContainers"]).chain(items(&pod["spec"]["containers"]))
}

/// A DNS label (RFC 1123).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Every rule that a pod breaks, in words that are the same for the same fault of another pod.
fn faults(pod: &Value) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    names(pod, &mut faults);
    ports(pod, &mut faults);
    let mut volumes = BTreeSet::new();
    for volume in items(&pod["spec"]["volumes"]) {
        if !volumes.insert(name(volume)) {
            faults.insert(format!("two volumes {:?}", name(volume)));
        }
    }
    for container in containers(pod) {
        mounts(container, &volumes, &mut faults);
    }
    let annotations = pod["metadata"]["annotations"].as_object();
    let size: usize = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len())
        .sum();
    if size > ANNOTATIONS {
        faults.insert("too many bytes of annotations".to_owned());
    }
    faults
}

fn names(pod: &Value, faults: &mut BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    for container in containers(pod) {
        let name = name(container);
        if !is_label(name) {
            faults.insert(format!("the container name {name:?}"));
        }
        if !seen.insert(name) {
            faults.insert(format!("two containers {name:?}"));
        }
    }
}

/// The same port in two containers that run at one time is only a warning to the API server, but one of them fails to
/// bind.
fn ports(pod: &Value, faults: &mut BTreeSet<String>) {
    let sidecars = items(&pod["spec"]["initContainers"])
        .filter(|container| container["restartPolicy"] == "Always");
    let mut all: BTreeMap<(u64, &str), BTreeSet<&str>> = BTreeMap::new();
    for container in sidecars.chain(items(&pod["spec"]["containers"])) {
        let mut names = BTreeSet::new();
        for port in items(&container["ports"]) {
            let number = port["containerPort"].as_u64().unwrap_or(0);
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            all.entry((number, protocol))
                .or_default()
                .insert(name(container));
            if let Some(port) = port["name"].as_str()
                && (port.len() > 15 || !names.insert(port))
            {
                faults.insert(format!("the port name {port:?} in {:?}", name(container)));
            }
        }
    }
    for ((number, protocol), holders) in all {
        for (index, one) in holders.iter().enumerate() {
            for other in holders.iter().skip(index + 1) {
                faults.insert(format!("port {number}/{protocol} in {one:?} and {other:?}"));
            }
        }
    }
}

fn mounts(container: &Value, volumes: &BTreeSet<&str>, faults: &mut BTreeSet<String>) {
    let holder = name(container);
    let mut paths = BTreeSet::new();
    for mount in items(&container["volumeMounts"]) {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        let sub_path = mount["subPath"].as_str().unwrap_or_default();
        if !paths.insert(path.trim_end_matches('/')) {
            faults.insert(format!("{path:?} is mounted twice in {holder:?}"));
        }
        if sub_path.split('/').any(|part| part == "..") || sub_path.starts_with('/') {
            faults.insert(format!("the subPath {sub_path:?} in {holder:?}"));
        }
        if !volumes.contains(name(mount)) {
            faults.insert(format!("{mount} of {holder:?} mounts no volume"));
        }
    }
}

/// What only things that were added have to keep.
fn faults_of_ours(before: &Value, after: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let old: BTreeSet<&str> = containers(before).map(name).collect();
    let old_volumes: BTreeSet<&str> = items(&before["spec"]["volumes"]).map(name).collect();
    for volume in items(&after["spec"]["volumes"]) {
        if old_volumes.contains(name(volume)) {
            continue;
        }
        if name(volume).starts_with("kube-api-access-") || !is_label(name(volume)) {
            faults.push(format!("the volume name {:?}", name(volume)));
        }
        if volume
            .get("emptyDir")
            .is_some_and(|empty| empty.get("sizeLimit").is_none())
        {
            faults.push(format!("the emptyDir {:?} has no limit", name(volume)));
        }
    }
    let annotations = &after["metadata"]["annotations"];
    for container in containers(after).filter(|container| !old.contains(name(container))) {
        let key = format!(
            "container.apparmor.security.beta.kubernetes.io/{}",
            name(container)
        );
        if annotations.get(&key).is_some() {
            faults.push(format!("{key} was waiting for a container of ours"));
        }
    }
    for key in annotations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        let name = key.split_once('/').map_or(key.as_str(), |(_, name)| name);
        if before["metadata"]["annotations"].get(key).is_none() && name.len() > 63 {
            faults.push(format!("the annotation key {key:?}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, check_records};

    fn pod(containers: Value) -> Value {
        json!({"metadata": {"annotations": {}}, "spec": {"containers": containers}})
    }

    #[test]
    fn what_was_wrong_before_is_not_held_against_us() {
        let wrong =
            pod(json!([{"name": "A_B", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}]));
        assert_eq!(check(&wrong, &wrong), Ok(()));
        assert!(check(&pod(json!([])), &wrong).is_err());
    }

    #[test]
    fn a_port_that_ours_takes_from_another_is_told() {
        let port = |name: &str| json!({"name": name, "ports": [{"containerPort": 80}]});
        let before = pod(json!([port("a"), port("b")]));
        let after = pod(json!([port("a"), port("b"), port("ours")]));
        let told = check(&before, &after).unwrap_err().0;
        assert_eq!(
            told,
            "port 80/TCP in \"a\" and \"ours\"\nport 80/TCP in \"b\" and \"ours\""
        );
    }

    #[test]
    fn a_record_must_be_borne_out_once() {
        let before = pod(json!([{"name": "web"}]));
        let status = r#"{"instances":[{"instance":"t","containers":["t"]}]}"#;
        let after = |containers: Value| {
            let mut pod = pod(containers);
            pod["metadata"]["annotations"]["outrigger.dev/status"] = json!(status);
            pod
        };
        let told =
            |containers| check_records(&before, &after(containers)).map_err(|broken| broken.0);
        assert_eq!(told(json!([{"name": "web"}, {"name": "t"}])), Ok(()));
        assert!(
            told(json!([{"name": "web"}]))
                .unwrap_err()
                .contains("0 times")
        );
        assert!(
            told(json!([{"name": "t"}, {"name": "t"}]))
                .unwrap_err()
                .contains("2 times")
        );
        assert!(check_records(&before, &before).is_err());
    }
}
