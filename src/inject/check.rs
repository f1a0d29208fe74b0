//! The rules of a pod that is valid and will start, applied to the result before it is given away.
//!
//! The API server refuses an invalid pod whatever the failure policy, and some pods are valid but never
//! start; either way the author would look for the cause in the wrong place. Only what an injection has a
//! part in is judged: a fault that the user's pod had already is the API server's to report.
//!
//! Sources: Kubernetes `pkg/apis/core/validation/validation.go`; KEP-753 for native sidecars.

use std::collections::{HashMap, HashSet};

use super::plan::{ContainerRef, Plan, Slot};
use super::pod::{Container, Env, Mount, Pod, Resources};
use super::problem::{Code, Problem, shown};
use super::share::same_path;
use crate::profile::parameter::{self, quantity::Quantity};

/// The sum of the sizes of all annotations, keys and values (`TotalAnnotationSizeLimitB`).
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The legacy annotation that binds an AppArmor profile to a container by its name.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// The prefix of the volume that the ServiceAccount plugin adds.
const TOKEN_VOLUME: &str = "kube-api-access-";
/// Where the ServiceAccount plugin mounts it.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A container of the result.
#[derive(Debug)]
pub struct Seen<'v> {
    /// The container itself.
    pub container: &'v Container<'v>,
    /// Whether it was added.
    pub ours: bool,
    /// Whether it is an init container.
    pub init: bool,
    /// Mounts that were added to it, when it is one of the pod's own.
    pub mounts: Vec<Mount<'v>>,
    /// Environment that was added to it.
    pub env: Vec<Env<'v>>,
}

/// The pod that comes out, as the rules see it.
#[derive(Debug, Default)]
pub struct View<'v> {
    /// All containers: init containers in order, then ordinary ones.
    pub containers: Vec<Seen<'v>>,
    /// All volumes by name, and whether each was added.
    pub volumes: Vec<(&'v str, bool)>,
    /// The size of all annotations.
    pub annotations_size: usize,
    /// Keys of the annotations.
    pub annotation_keys: Vec<&'v str>,
    /// Resources of the pod as a whole.
    pub resources: Option<&'v Resources<'v>>,
    /// Whether the pod is on the node's network.
    pub host_network: bool,
}

impl<'v> View<'v> {
    /// The result of a plan on a pod. `fragments` are the plan's containers, parsed.
    pub fn of(pod: &'v Pod<'v>, plan: &'v Plan, fragments: &'v [Container<'v>]) -> Self {
        let own = |at: ContainerRef| {
            at.get(pod).map(|container| Seen {
                container,
                ours: false,
                init: at.init,
                mounts: additions(&plan.mounts, at),
                env: additions(&plan.env, at),
            })
        };
        let new = |index: usize, init: bool| {
            fragments.get(index).map(|container| Seen {
                container,
                ours: true,
                init,
                mounts: Vec::new(),
                env: Vec::new(),
            })
        };
        let mut containers = Vec::new();
        if plan.init.is_empty() {
            containers.extend(
                (0..pod.init_containers().len())
                    .filter_map(|index| own(ContainerRef { init: true, index })),
            );
        } else {
            containers.extend(plan.init.iter().filter_map(|slot| match slot {
                Slot::Own(index) => own(ContainerRef {
                    init: true,
                    index: *index,
                }),
                Slot::New(index) => new(*index, true),
            }));
        }
        containers.extend(
            (0..pod.containers().len())
                .filter_map(|index| own(ContainerRef { init: false, index })),
        );
        containers.extend(
            plan.containers
                .iter()
                .filter_map(|index| new(*index, false)),
        );
        let size = |key: &str, value: &str| key.len() + value.len();
        Self {
            containers,
            volumes: pod
                .volumes()
                .iter()
                .map(|volume| (&*volume.name, false))
                .chain(
                    plan.volumes
                        .iter()
                        .map(|volume| (volume.name.as_str(), true)),
                )
                .collect(),
            annotations_size: pod
                .annotations()
                .iter()
                .filter(|(key, _)| !plan.annotations.iter().any(|(new, _)| **new == **key))
                .map(|(key, value)| size(key, value))
                .sum::<usize>()
                + plan
                    .annotations
                    .iter()
                    .map(|(key, value)| size(key, value))
                    .sum::<usize>(),
            annotation_keys: pod.annotations().iter().map(|(key, _)| &**key).collect(),
            resources: pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()),
            host_network: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.host_network)
                .unwrap_or(false),
        }
    }
}

fn additions<'v, T: serde::Deserialize<'v>>(
    all: &'v [super::plan::Addition],
    at: ContainerRef,
) -> Vec<T> {
    all.iter()
        .filter(|addition| addition.at == at)
        .filter_map(|addition| serde_json::from_str(&addition.json).ok())
        .collect()
}

/// Applies every rule to a result; what is broken is added to `problems`.
pub fn check(view: &View<'_>, problems: &mut Vec<Problem>) {
    let mut rules = Rules { problems };
    rules.container_names(view);
    rules.volumes(view);
    for seen in &view.containers {
        rules.mounts(view, seen);
        if seen.ours {
            rules.port_names(seen.container);
            rules.environment(seen.container);
            rules.resources(seen.container);
            rules.app_armor(view, seen.container);
        }
    }
    rules.ports(view);
    rules.pod_resources(view);
    if view.annotations_size > MAX_ANNOTATIONS {
        rules.broken(
            "metadata.annotations",
            format!(
                "would hold {} bytes, at most {MAX_ANNOTATIONS} are allowed; generated files count",
                view.annotations_size
            ),
        );
    }
}

struct Rules<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Rules<'_> {
    fn broken(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.problems
            .push(Problem::new(Code::InvalidResult, subject, message));
    }

    fn collision(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.problems
            .push(Problem::new(Code::Collision, subject, message));
    }

    /// Names are DNS labels, unique over init and ordinary containers.
    fn container_names(&mut self, view: &View<'_>) {
        let mut names: HashMap<&str, bool> = HashMap::with_capacity(view.containers.len());
        // The pod's own first, so that a collision is told once, from the side of what would be added.
        for seen in view.containers.iter().filter(|seen| !seen.ours) {
            names.insert(&seen.container.name, false);
        }
        for seen in view.containers.iter().filter(|seen| seen.ours) {
            let name = &*seen.container.name;
            let subject = format!("container {}", shown(name));
            if !parameter::is_dns_label(name) {
                self.broken(subject, "the name is no DNS label of at most 63 characters; give the instance a shorter name");
                continue;
            }
            match names.insert(name, true) {
                None => {}
                Some(false) => self.collision(
                    subject,
                    "the pod has a container of that name already; give the instance another name, as in NAME=PROFILE",
                ),
                Some(true) => self.collision(subject, "two instances would add a container of that name"),
            }
        }
    }

    fn volumes(&mut self, view: &View<'_>) {
        let mut names: HashMap<&str, bool> = HashMap::with_capacity(view.volumes.len());
        for (name, ours) in &view.volumes {
            let subject = format!("volume {}", shown(name));
            if *ours && !parameter::is_dns_label(name) {
                self.broken(&subject, "the name is no DNS label of at most 63 characters; give the instance a shorter name");
            }
            if *ours && name.starts_with(TOKEN_VOLUME) {
                self.broken(
                    &subject,
                    "names that begin with kube-api-access- belong to Kubernetes",
                );
            }
            match (names.insert(name, *ours), ours) {
                (Some(false), true) => self.collision(
                    subject,
                    "the pod has a volume of that name already; give the instance another name, as in NAME=PROFILE",
                ),
                (Some(true), true) => self.collision(subject, "two instances would add a volume of that name"),
                _ => {}
            }
        }
    }

    /// Mount paths are unique in a container; volumes exist; sub-paths stay inside.
    fn mounts(&mut self, view: &View<'_>, seen: &Seen<'_>) {
        let container = seen.container;
        let own = if seen.ours { container.mounts() } else { &[] };
        let mut paths: Vec<&str> = if seen.ours {
            Vec::new()
        } else {
            container
                .mounts()
                .iter()
                .map(|mount| &*mount.mount_path)
                .collect()
        };
        for mount in own.iter().chain(&seen.mounts) {
            let path = &*mount.mount_path;
            let subject = format!(
                "container {:?}, mountPath {}",
                &*container.name,
                shown(path)
            );
            if !path.starts_with('/')
                || path.contains(':')
                || path.split('/').any(|part| part == "..")
            {
                self.broken(&subject, "expected an absolute path without \"..\" and ':'");
            }
            if paths.iter().any(|known| same_path(known, path)) {
                self.collision(&subject, "two volumes would be mounted there");
            }
            paths.push(path);
            if !view.volumes.iter().any(|(name, _)| *name == &*mount.name) {
                self.broken(
                    &subject,
                    format!("there is no volume {}", shown(&mount.name)),
                );
            }
            for sub_path in [&mount.sub_path, &mount.sub_path_expr]
                .into_iter()
                .flatten()
            {
                if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
                    self.broken(
                        &subject,
                        format!("the subPath {} leaves the volume", shown(sub_path)),
                    );
                }
            }
            if !seen.ours && over_system(path) {
                self.broken(
                    &subject,
                    "mounting over this would break the application's container",
                );
            }
            if mount
                .mount_propagation
                .as_deref()
                .is_some_and(|mode| mode == "Bidirectional")
            {
                self.broken(
                    &subject,
                    "mountPropagation Bidirectional would reach the node",
                );
            }
        }
    }

    /// Port names are at most 15 characters of the kind that a Service can name, unique in a container.
    fn port_names(&mut self, container: &Container<'_>) {
        let mut names = HashSet::new();
        for port in container.ports() {
            let subject = format!(
                "container {:?}, port {}",
                &*container.name, port.container_port
            );
            if !(1..=65535).contains(&port.container_port) {
                self.broken(&subject, "expected a port from 1 to 65535");
            }
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                if !is_port_name(name) {
                    self.broken(&subject, format!("the port's name {} is not valid: at most 15 lower-case letters, digits and '-', with a letter", shown(name)));
                }
                if !names.insert(name) {
                    self.broken(&subject, format!("the port's name {name:?} stands twice"));
                }
            }
        }
    }

    /// Containers that run at the same time share one network: a port can be bound once.
    fn ports(&mut self, view: &View<'_>) {
        let mut bound: HashMap<(i64, &str), (&str, bool)> = HashMap::new();
        let running = || {
            view.containers
                .iter()
                .filter(|seen| !seen.init || seen.container.is_native_sidecar())
        };
        for ours in [false, true] {
            for seen in running().filter(|seen| seen.ours == ours) {
                for port in seen.container.ports() {
                    let key = (port.container_port, port.protocol());
                    let known = bound.insert(key, (&seen.container.name, seen.ours));
                    let Some((other, _)) =
                        known.filter(|(name, _)| ours && *name != &*seen.container.name)
                    else {
                        continue;
                    };
                    self.collision(
                        format!("container {:?}, port {}", &*seen.container.name, port.container_port),
                        format!("the container {other:?} of this pod uses the port already, so one of them could not start"),
                    );
                }
            }
        }
    }

    fn environment(&mut self, container: &Container<'_>) {
        let mut names = HashSet::new();
        for env in container.env() {
            if !names.insert(&*env.name) {
                self.broken(
                    format!("container {:?}, env {}", &*container.name, shown(&env.name)),
                    "the variable is set twice",
                );
            }
        }
    }

    fn resources(&mut self, container: &Container<'_>) {
        let Some(resources) = &container.resources else {
            return;
        };
        let (Some(requests), Some(limits)) = (&resources.requests, &resources.limits) else {
            return;
        };
        for (resource, request) in &requests.0 {
            let Some(limit) = limits.get(resource) else {
                continue;
            };
            let (Ok(requested), Ok(limited)) = (Quantity::parse(request), Quantity::parse(limit))
            else {
                continue;
            };
            if requested > limited {
                self.broken(
                    format!("container {:?}, resources", &*container.name),
                    format!("the {resource} request {request} is above the limit {limit}"),
                );
            }
        }
    }

    /// KEP-2837: the requests of all containers together stay within those of the pod.
    fn pod_resources(&mut self, view: &View<'_>) {
        let Some(budget) = view.resources else { return };
        let kinds = [(&budget.requests, "requests"), (&budget.limits, "limits")];
        let Some(requests) = &budget.requests else {
            return;
        };
        for (resource, amount) in &requests.0 {
            let Ok(allowed) = Quantity::parse(amount) else {
                continue;
            };
            let request = |seen: &&Seen<'_>| {
                let resources = seen.container.resources.as_ref()?;
                Quantity::parse(resources.requests.as_ref()?.get(resource)?).ok()
            };
            let running = view
                .containers
                .iter()
                .filter(|seen| !seen.init || seen.container.is_native_sidecar());
            let sum: Quantity = running.filter_map(|seen| request(&seen)).sum();
            if sum > allowed {
                self.broken(
                    "spec.resources",
                    format!(
                        "with the sidecars the containers request more {resource} than the pod's {amount} ({} of the pod would have to grow)",
                        kinds[0].1
                    ),
                );
            }
        }
    }

    /// AppArmor annotations bind by name: a user could have prepared one for a container of ours.
    fn app_armor(&mut self, view: &View<'_>, container: &Container<'_>) {
        let bound = view.annotation_keys.iter().find(|key| {
            key.strip_prefix(APP_ARMOR)
                .is_some_and(|name| *name == *container.name)
        });
        if let Some(key) = bound {
            self.broken(
                *key,
                "sets the AppArmor profile of a container that is injected; remove it",
            );
        }
    }
}

/// Whether a mount there would hide what a container cannot do without.
fn over_system(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let at_or_below = |root: &str| {
        path == root
            || path
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    path.is_empty()
        || path == "/dev"
        || path == "/etc"
        || ["/proc", "/sys"].into_iter().any(at_or_below)
        || at_or_below(TOKEN_PATH)
        || at_or_below("/run/secrets/kubernetes.io")
        || [
            "/var",
            "/var/run",
            "/var/run/secrets",
            "/var/run/secrets/kubernetes.io",
        ]
        .contains(&path)
}

/// An IANA service name (RFC 6335, section 5.1), as Kubernetes wants of ports.
fn is_port_name(name: &str) -> bool {
    name.len() <= 15
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}
