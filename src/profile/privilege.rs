//! Powers over the node: what the baseline Pod Security Standard forbids
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
//!
//! A profile that gives a container one of them must name the namespaces it is for, so that an annotation alone
//! never gets there. What stands in the profile is judged when it is loaded, and what an expression gave when it
//! is rendered. A value that is not known yet counts as the worst.

use serde_json::Value as Json;

use super::document::ProfileProblem;

/// Capabilities that the baseline lets a container add.
const HARMLESS: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// SELinux types that the baseline lets a container run as.
const HARMLESS_TYPES: &[&str] = &[
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// A probe goes from the node's network to wherever it says (forbidden by the baseline since Kubernetes 1.34).
const HOST: &str = "lets the node connect to any address";

/// The powers that a container is given, each with its path.
pub fn of_container(container: &Json, path: &str) -> Vec<ProfileProblem> {
    let mut found = Vec::new();
    let mut power = |field: &str, what: &str| {
        found.push(ProfileProblem::new(
            format!("{path}.{field}"),
            needs_allow(what),
        ));
    };
    for (index, port) in items(&container["ports"]).enumerate() {
        if !matches!(&port["hostPort"], Json::Null) && port["hostPort"] != 0 {
            power(
                &format!("ports[{index}].hostPort"),
                "opens a port of the node",
            );
        }
    }
    // Kubernetes takes it from privileged containers only, and says so after us, of a field that nobody wrote.
    for (index, mount) in items(&container["volumeMounts"]).enumerate() {
        if !matches!(
            mount["mountPropagation"].as_str(),
            None | Some("None" | "HostToContainer")
        ) {
            power(
                &format!("volumeMounts[{index}].mountPropagation"),
                "mounts on the node",
            );
        }
    }
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        for action in ["httpGet", "tcpSocket"] {
            if is_text(&container[probe][action]["host"]) {
                power(&format!("{probe}.{action}.host"), HOST);
            }
        }
    }
    for hook in ["postStart", "preStop"] {
        for action in ["httpGet", "tcpSocket"] {
            if is_text(&container["lifecycle"][hook][action]["host"]) {
                power(&format!("lifecycle.{hook}.{action}.host"), HOST);
            }
        }
    }
    let context = &container["securityContext"];
    if is_set(&context["privileged"]) {
        power("securityContext.privileged", "gives the container the node");
    }
    if is_set(&context["windowsOptions"]["hostProcess"]) {
        power(
            "securityContext.windowsOptions.hostProcess",
            "gives the container the node",
        );
    }
    for (index, capability) in items(&context["capabilities"]["add"]).enumerate() {
        let name = capability.as_str().unwrap_or_default();
        if !HARMLESS.contains(&name.strip_prefix("CAP_").unwrap_or(name)) {
            power(
                &format!("securityContext.capabilities.add[{index}]"),
                "is a capability over the node",
            );
        }
    }
    for profile in ["seccompProfile", "appArmorProfile"] {
        let confined = matches!(
            context[profile]["type"].as_str(),
            None | Some("RuntimeDefault" | "Localhost")
        );
        if !confined {
            power(
                &format!("securityContext.{profile}.type"),
                "leaves the container unconfined",
            );
        }
    }
    if !matches!(context["procMount"].as_str(), None | Some("Default")) {
        power(
            "securityContext.procMount",
            "shows the container the node's processes",
        );
    }
    let selinux = &context["seLinuxOptions"];
    let harmless = HARMLESS_TYPES.contains(&selinux["type"].as_str().unwrap_or_default());
    if !harmless || !selinux["user"].is_null() || !selinux["role"].is_null() {
        power(
            "securityContext.seLinuxOptions",
            "takes the container out of its SELinux confinement",
        );
    }
    found
}

/// The power that a volume gives, with its path.
pub fn of_volume(volume: &Json, path: &str) -> Option<ProfileProblem> {
    (!volume["hostPath"].is_null()).then(|| {
        ProfileProblem::new(
            format!("{path}.hostPath"),
            needs_allow("reaches into the node's files"),
        )
    })
}

fn needs_allow(what: &str) -> String {
    format!("{what}: say in spec.allow.namespaceSelector in which namespaces pods may have that")
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

fn is_text(value: &Json) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn is_set(value: &Json) -> bool {
    !matches!(value, Json::Null | Json::Bool(false))
}
