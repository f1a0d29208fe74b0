//! The rules of a pod that is valid and will start, applied to the result before it is given away.
//!
//! The API server refuses an invalid pod whatever the failure policy, and some pods are valid but never
//! start; either way the author would look for the cause in the wrong place. Only what an injection has a
//! part in is judged: a fault that the user's pod had already is the API server's to report.
//!
//! Sources: Kubernetes `pkg/apis/core/validation/validation.go`; KEP-753 for native sidecars.

use std::collections::HashSet;

use super::decide::STATUS;
use super::plan::{ContainerRef, NewMount, Plan, Slot};
use super::pod::{Container, Mount, Pod};
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
#[derive(Debug, Clone, Copy)]
struct Seen<'v> {
    /// The container itself.
    container: &'v Container<'v>,
    /// Where it comes from.
    origin: From,
    /// Whether it is an init container.
    init: bool,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// It is the pod's own.
    Pod(ContainerRef),
    /// It was added: an index into [`Plan::containers`].
    Plan(usize),
}

impl Seen<'_> {
    fn ours(&self) -> bool {
        matches!(self.origin, From::Plan(_))
    }

    fn name(&self) -> &str {
        &self.container.name
    }

    /// Whether it runs beside others, and not before them.
    fn stays(&self) -> bool {
        !self.init || self.container.is_native_sidecar()
    }
}

/// The pod that comes out, as the rules see it.
#[derive(Debug)]
struct View<'v> {
    pod: &'v Pod<'v>,
    plan: &'v Plan<'v>,
    /// Names of volumes that the pod will have besides its own.
    claims: &'v [&'v str],
    /// Init containers in order, then ordinary ones.
    containers: Vec<Seen<'v>>,
}

impl<'v> View<'v> {
    fn of(pod: &'v Pod<'v>, plan: &'v Plan<'v>, claims: &'v [&'v str]) -> Self {
        let own = |at: ContainerRef| {
            at.get(pod).map(|container| Seen {
                container,
                origin: From::Pod(at),
                init: at.init,
            })
        };
        let new = |index: usize, init: bool| {
            plan.containers.get(index).map(|new| Seen {
                container: &new.fragment.container,
                origin: From::Plan(index),
                init,
            })
        };
        let count = pod.init_containers().len() + pod.containers().len() + plan.containers.len();
        let mut containers = Vec::with_capacity(count);
        if plan.init.is_empty() {
            let init = ContainerRef::all(pod).filter(|at| at.init);
            containers.extend(init.filter_map(own));
        } else {
            containers.extend(plan.init.iter().filter_map(|slot| match *slot {
                Slot::Own(index) => own(ContainerRef { init: true, index }),
                Slot::New(index) => new(index, true),
            }));
        }
        containers.extend(ContainerRef::ordinary(pod).filter_map(own));
        let ordinary = plan.ordinary.iter();
        containers.extend(ordinary.filter_map(|index| new(*index, false)));
        Self {
            pod,
            plan,
            claims,
            containers,
        }
    }

    fn ours(&self) -> impl Iterator<Item = &Seen<'v>> {
        self.containers.iter().filter(|seen| seen.ours())
    }

    fn own(&self) -> impl Iterator<Item = &Seen<'v>> + Clone {
        self.containers.iter().filter(|seen| !seen.ours())
    }

    /// The names of the pod's own volumes.
    fn own_volumes(&self) -> impl Iterator<Item = &str> {
        let own = self.pod.volumes().iter().map(|volume| &*volume.name);
        own.chain(self.claims.iter().copied())
    }

    fn has_volume(&self, name: &str) -> bool {
        let mut new = self.plan.volumes.iter();
        new.any(|volume| volume.name == name) || self.own_volumes().any(|known| known == name)
    }

    /// The size of all annotations, keys and values.
    fn annotations_size(&self) -> usize {
        let new = self.plan.annotations.iter();
        let own = self.pod.annotations().iter();
        // The status is the only one that may be replaced.
        let kept = own.filter(|(key, _)| **key != *STATUS);
        kept.map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
            + new
                .map(|new| new.key.len() + new.value.len())
                .sum::<usize>()
            + STATUS.len()
            + self.plan.status.size()
    }
}

/// Applies every rule to the result of a plan; what is broken is added to `problems`. `claims` are the names of
/// volumes that the pod will have besides its own.
pub fn check(pod: &Pod<'_>, plan: &Plan<'_>, claims: &[&str], problems: &mut Vec<Problem>) {
    let view = View::of(pod, plan, claims);
    let mut rules = Rules { problems };
    rules.container_names(&view);
    rules.volumes(&view);
    for seen in &view.containers {
        match seen.origin {
            From::Pod(at) => {
                if let Some(received) = plan.received(pod, at) {
                    rules.received_mounts(&view, seen.container, &received.mounts);
                }
            }
            From::Plan(index) => {
                let Some(new) = plan.containers.get(index) else {
                    continue;
                };
                rules.problems.extend(new.fragment.faults.iter().cloned());
                let shared = plan.shared_with(new).map(|new| &new.mount);
                for mount in shared.clone() {
                    rules.mount(seen.container, mount);
                }
                let mounts = seen.container.mounts().iter().chain(shared);
                rules.mounts(&view, seen.container, mounts);
                rules.app_armor(pod, seen.container);
            }
        }
    }
    rules.ports(&view);
    rules.pod_resources(&view);
    let size = view.annotations_size();
    if size > MAX_ANNOTATIONS {
        rules.broken(
            "metadata.annotations",
            format!(
                "would hold {size} bytes, at most {MAX_ANNOTATIONS} are allowed; generated files count"
            ),
        );
    }
}

/// The rules that a container breaks whatever pod it is added to.
pub fn faults(container: &Container<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut rules = Rules {
        problems: &mut problems,
    };
    for mount in container.mounts() {
        rules.mount(container, mount);
    }
    rules.port_names(container);
    rules.environment(container);
    rules.resources(container);
    problems
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
        for (index, seen) in view.ours().enumerate() {
            let name = seen.name();
            let subject = || format!("container {}", shown(name));
            if !parameter::is_dns_label(name) {
                self.broken(subject(), "the name is no DNS label of at most 63 characters; give the instance a shorter name");
            } else if view.ours().take(index).any(|known| known.name() == name) {
                self.collision(
                    subject(),
                    "two instances would add a container of that name",
                );
            } else if view.own().any(|known| known.name() == name) {
                // Told from the side of what would be added.
                self.collision(
                    subject(),
                    "the pod has a container of that name already; give the instance another name, as in NAME=PROFILE",
                );
            }
        }
    }

    fn volumes(&mut self, view: &View<'_>) {
        let new = &view.plan.volumes;
        for (index, volume) in new.iter().enumerate() {
            let name = volume.name;
            let subject = || format!("volume {}", shown(name));
            if !parameter::is_dns_label(name) {
                self.broken(subject(), "the name is no DNS label of at most 63 characters; give the instance a shorter name");
            }
            if name.starts_with(TOKEN_VOLUME) {
                self.broken(
                    subject(),
                    "names that begin with kube-api-access- belong to Kubernetes",
                );
            }
            if new.iter().take(index).any(|known| known.name == name) {
                self.collision(subject(), "two instances would add a volume of that name");
            } else if view.own_volumes().any(|known| known == name) {
                self.collision(
                    subject(),
                    "the pod has a volume of that name already; give the instance another name, as in NAME=PROFILE",
                );
            }
        }
    }

    /// Mount paths are unique in a container; volumes exist.
    fn mounts<'m>(
        &mut self,
        view: &View<'_>,
        container: &Container<'_>,
        mounts: impl Iterator<Item = &'m Mount<'m>> + Clone,
    ) {
        for (index, mount) in mounts.clone().enumerate() {
            let mut before = mounts.clone().take(index);
            let twice = before.any(|known| same_path(&known.mount_path, &mount.mount_path));
            self.placed_mount(view, container, mount, twice);
        }
    }

    /// As [`Rules::mounts`], of those that one of the pod's own containers receives.
    fn received_mounts(
        &mut self,
        view: &View<'_>,
        container: &Container<'_>,
        new: &[NewMount<'_>],
    ) {
        for (index, NewMount { mount, .. }) in new.iter().enumerate() {
            let planned = new.iter().take(index).map(|known| &known.mount);
            let mut before = container.mounts().iter().chain(planned);
            let twice = before.any(|known| same_path(&known.mount_path, &mount.mount_path));
            self.mount(container, mount);
            self.placed_mount(view, container, mount, twice);
            if over_system(&mount.mount_path) {
                self.broken(
                    mount_subject(container, mount),
                    "mounting over this would break the application's container",
                );
            }
        }
    }

    /// The volume is there, and nothing else at its path.
    fn placed_mount(
        &mut self,
        view: &View<'_>,
        container: &Container<'_>,
        mount: &Mount<'_>,
        twice: bool,
    ) {
        let subject = || mount_subject(container, mount);
        if twice {
            self.collision(subject(), "two volumes would be mounted there");
        }
        if !view.has_volume(&mount.name) {
            self.broken(
                subject(),
                format!("there is no volume {}", shown(&mount.name)),
            );
        }
    }

    /// Paths are absolute; sub-paths stay inside.
    fn mount(&mut self, container: &Container<'_>, mount: &Mount<'_>) {
        let path = &*mount.mount_path;
        let subject = || mount_subject(container, mount);
        if !path.starts_with('/') || path.contains(':') || path.split('/').any(|part| part == "..")
        {
            self.broken(
                subject(),
                "expected an absolute path without \"..\" and ':'",
            );
        }
        for sub_path in [&mount.sub_path, &mount.sub_path_expr]
            .into_iter()
            .flatten()
        {
            if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
                self.broken(
                    subject(),
                    format!("the subPath {} leaves the volume", shown(sub_path)),
                );
            }
        }
        if mount.mount_propagation.as_deref() == Some("Bidirectional") {
            self.broken(
                subject(),
                "mountPropagation Bidirectional would reach the node",
            );
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
        let own = view.own().filter(|seen| seen.stays());
        let ours = || view.ours().filter(|seen| seen.stays());
        for (index, seen) in ours().enumerate() {
            for port in seen.container.ports() {
                let key = (port.container_port, port.protocol());
                let mut others = ours().take(index).chain(own.clone());
                let other = others.find(|other| {
                    let mut ports = other.container.ports().iter();
                    other.name() != seen.name()
                        && ports.any(|known| (known.container_port, known.protocol()) == key)
                });
                if let Some(other) = other {
                    self.collision(
                        format!("container {:?}, port {}", seen.name(), port.container_port),
                        format!("the container {:?} of this pod uses the port already, so one of them could not start", other.name()),
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
        let spec = view.pod.spec.as_ref();
        let Some(budget) = spec.and_then(|spec| spec.resources.as_ref()) else {
            return;
        };
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
            let running = view.containers.iter().filter(|seen| seen.stays());
            let sum: Quantity = running.filter_map(|seen| request(&seen)).sum();
            if sum > allowed {
                self.broken(
                    "spec.resources",
                    format!(
                        "with the sidecars the containers request more {resource} than the pod's {amount} (requests of the pod would have to grow)"
                    ),
                );
            }
        }
    }

    /// AppArmor annotations bind by name: a user could have prepared one for a container of ours.
    fn app_armor(&mut self, pod: &Pod<'_>, container: &Container<'_>) {
        let mut keys = pod.annotations().iter().map(|(key, _)| &**key);
        let bound = keys.find(|key| {
            key.strip_prefix(APP_ARMOR)
                .is_some_and(|name| *name == *container.name)
        });
        if let Some(key) = bound {
            self.broken(
                key,
                "sets the AppArmor profile of a container that is injected; remove it",
            );
        }
    }
}

fn mount_subject(container: &Container<'_>, mount: &Mount<'_>) -> String {
    format!(
        "container {:?}, mountPath {}",
        &*container.name,
        shown(&mount.mount_path)
    )
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
