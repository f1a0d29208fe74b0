//! Where each fragment goes: order of containers, mounts of the application, shared directories, and what
//! collides.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::decide::Instance;
use super::encoded::Encoded;
use super::fragment::{
    ContainerFragment, EnvFragment, ForApplication, Fragments, Position, Role, ShareFragment,
};
use super::patch::push_quoted;
use super::plan::{
    ContainerRef, NewAnnotation, NewContainer, NewMount, NewVolume, Plan, SharedMount, Slot,
};
use super::pod::{Container, Mount, Pod};
use super::problem::{Code, Problem, shown};
use super::share;
use super::status::Addition;

/// kubectl picks this container when it is not told which.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The longest name part of an annotation's key, after the slash.
const MAX_KEY_NAME: usize = 63;
/// How many containers a message names.
const MAX_NAMES: usize = 10;

/// An instance that is to be added, and what it adds.
#[derive(Debug, Clone, Copy)]
pub struct NewInstance<'p> {
    /// The instance.
    pub instance: &'p Instance<'p>,
    /// What it adds.
    pub fragments: &'p Fragments,
}

/// Places everything that the instances add. Problems are added; the plan is then incomplete.
pub fn place<'p>(
    pod: &'p Pod<'p>,
    instances: &[NewInstance<'p>],
    problems: &mut Vec<Problem>,
) -> Plan<'p> {
    let mut placer = Placer {
        pod,
        problems,
        plan: Plan::with_room(instances),
    };
    for new in instances {
        placer.plan.additions.push(Addition {
            record: &new.fragments.record,
            shares: Vec::new(),
        });
    }
    let mut targets = Vec::with_capacity(instances.len());
    for new in instances {
        placer.volumes(new.fragments);
        placer.files(new.fragments);
        let usual = placer.usual_targets(*new);
        placer.application(*new, &usual);
        targets.push(usual);
        placer.pod_level(*new);
        let warnings = new.fragments.warnings.iter();
        placer
            .plan
            .warnings
            .extend(warnings.map(|it| Cow::Borrowed(it.as_str())));
    }
    // Shares come after every mount is known, so that one instance can share what another mounts.
    for (owner, (new, targets)) in instances.iter().zip(&targets).enumerate() {
        placer.shares(owner, *new, targets);
    }
    placer.containers(instances);
    placer.plan
}

struct Placer<'q, 'p> {
    pod: &'p Pod<'p>,
    problems: &'q mut Vec<Problem>,
    plan: Plan<'p>,
}

impl<'p> Placer<'_, 'p> {
    fn problem(&mut self, code: Code, subject: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(code, subject, message));
    }

    fn volumes(&mut self, fragments: &'p Fragments) {
        let volumes = fragments.volumes.iter().chain(&fragments.files_volume);
        self.plan.volumes.extend(volumes.map(NewVolume::from));
    }

    fn files(&mut self, fragments: &'p Fragments) {
        for file in &fragments.files {
            let name = file.key.split_once('/').map_or("", |(_, name)| name);
            if name.len() > MAX_KEY_NAME {
                self.problem(
                    Code::InvalidResult,
                    file.key.clone(),
                    format!(
                        "the name after the slash has {} characters, at most {MAX_KEY_NAME} are allowed; give the instance a shorter name",
                        name.len()
                    ),
                );
            }
            self.annotation(&file.key, &file.content, Some(&file.operation));
        }
    }

    fn annotation(&mut self, key: &'p str, value: &'p str, operation: Option<&'p Encoded>) {
        let planned = || {
            let mut planned = self.plan.annotations.iter();
            planned
                .find(|known| known.key == key)
                .map(|known| known.value)
        };
        match self.pod.annotation(key).or_else(planned) {
            None => self.plan.annotations.push(NewAnnotation {
                key,
                value,
                operation,
            }),
            Some(existing) if existing == value => {}
            Some(existing) => self.problem(
                Code::Collision,
                format!("metadata.annotations[{key}]"),
                format!(
                    "is already {}; the profile sets it to {}",
                    shown(existing),
                    shown(value)
                ),
            ),
        }
    }

    fn label(&mut self, key: &'p str, value: &'p str) {
        let mut own = self.pod.labels().iter();
        let own = own
            .find(|(known, _)| **known == *key)
            .map(|(_, value)| &**value);
        let planned = || {
            let mut planned = self.plan.labels.iter();
            planned
                .find(|(known, _)| *known == key)
                .map(|(_, value)| *value)
        };
        match own.or_else(planned) {
            None => self.plan.labels.push((key, value)),
            Some(existing) if existing == value => {}
            Some(existing) => self.problem(
                Code::Collision,
                format!("metadata.labels[{key}]"),
                format!(
                    "is already {}; the profile sets it to {}",
                    shown(existing),
                    shown(value)
                ),
            ),
        }
    }

    /// The pod's own containers of these names; all ordinary ones if no names are given.
    fn application_containers(
        &mut self,
        instance: &Instance<'_>,
        names: Option<&[String]>,
    ) -> Vec<ContainerRef> {
        let Some(names) = names else {
            return ContainerRef::ordinary(self.pod).collect();
        };
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let position = |containers: &[Container<'_>]| {
                containers
                    .iter()
                    .position(|container| *container.name == **name)
            };
            let reference = position(self.pod.containers())
                .map(|index| ContainerRef { init: false, index })
                .or_else(|| {
                    position(self.pod.init_containers())
                        .map(|index| ContainerRef { init: true, index })
                });
            match reference {
                Some(reference) => found.push(reference),
                None => {
                    let known: Vec<_> = self
                        .pod
                        .containers()
                        .iter()
                        .take(MAX_NAMES)
                        .map(|container| shown(&container.name))
                        .collect();
                    let more = if self.pod.containers().len() > MAX_NAMES {
                        ", …"
                    } else {
                        ""
                    };
                    self.problem(
                        Code::InvalidValue,
                        format!("{}.outrigger.dev", instance.name),
                        format!(
                            "the pod has no container {}; it has {}{more}",
                            shown(name),
                            known.join(", ")
                        ),
                    );
                }
            }
        }
        found
    }

    /// The pod's own containers that an instance is for, if it has anything for them.
    fn usual_targets(&mut self, new: NewInstance<'p>) -> Vec<ContainerRef> {
        let fragments = new.fragments;
        let is_usual = |containers: &Option<Vec<String>>| containers.is_none();
        let needed = fragments.env.iter().any(|item| is_usual(&item.containers))
            || fragments
                .mounts
                .iter()
                .any(|item| is_usual(&item.containers))
            || !fragments.shares.is_empty();
        if needed {
            self.application_containers(new.instance, fragments.application_containers.as_deref())
        } else {
            Vec::new()
        }
    }

    fn application(&mut self, new: NewInstance<'p>, usual: &[ContainerRef]) {
        let NewInstance {
            instance,
            fragments,
        } = new;
        for ForApplication { containers, item } in &fragments.env {
            for at in self.targets(instance, containers.as_deref(), usual).iter() {
                self.env(instance, *at, item);
            }
        }
        for ForApplication { containers, item } in &fragments.mounts {
            for at in self.targets(instance, containers.as_deref(), usual).iter() {
                let new = NewMount {
                    mount: item.mount.borrowed(),
                    text: Cow::Borrowed(&*item.text),
                };
                self.mount(instance, *at, new);
            }
        }
    }

    fn targets<'u>(
        &mut self,
        instance: &Instance<'_>,
        names: Option<&[String]>,
        usual: &'u [ContainerRef],
    ) -> Cow<'u, [ContainerRef]> {
        match names {
            None => Cow::Borrowed(usual),
            Some(_) => Cow::Owned(self.application_containers(instance, names)),
        }
    }

    fn env(&mut self, instance: &Instance<'_>, at: ContainerRef, new: &'p EnvFragment) {
        let Some(container) = at.get(self.pod) else {
            return;
        };
        let subject = || format!("container {:?}, env {:?}", &*container.name, new.name);
        if let Some(existing) = container
            .env()
            .iter()
            .find(|known| *known.name == *new.name)
        {
            let source: Option<Json> = existing
                .value_from
                .and_then(|raw| serde_json::from_str(raw.get()).ok());
            let same = match (new.json.get("valueFrom"), source) {
                (None, None) => {
                    let value = new.json.get("value").and_then(Json::as_str);
                    existing.value.as_deref().unwrap_or_default() == value.unwrap_or_default()
                }
                // The API server fills in defaults, such as `fieldRef.apiVersion`.
                (Some(wanted), Some(given)) => holds(&given, wanted),
                _ => false,
            };
            if !same {
                self.problem(
                    Code::Collision,
                    subject(),
                    format!(
                        "is already set to another value; {:?} would set it",
                        instance.name
                    ),
                );
            }
            return;
        }
        let Some(received) = self.plan.received_mut(self.pod, at) else {
            return;
        };
        match received.env.iter().find(|known| known.name == new.name) {
            Some(planned) if planned.text == new.text => {}
            Some(_) => self.problem(
                Code::Collision,
                subject(),
                "is set by two instances to different values",
            ),
            None => received.env.push(new),
        }
    }

    fn mount(&mut self, instance: &Instance<'_>, at: ContainerRef, new: NewMount<'p>) {
        let Some(container) = at.get(self.pod) else {
            return;
        };
        let wanted = &new.mount;
        let same = |known: &Mount<'_>| {
            *known.name == *wanted.name
                && known.sub_path.as_deref().unwrap_or_default()
                    == wanted.sub_path.as_deref().unwrap_or_default()
        };
        let subject = || {
            format!(
                "container {:?}, mountPath {:?}",
                &*container.name, &*wanted.mount_path
            )
        };
        if let Some(existing) = container
            .mounts()
            .iter()
            .find(|known| share::same_path(&known.mount_path, &wanted.mount_path))
        {
            if !same(existing) {
                let message = format!(
                    "is already taken by the volume {:?}; {:?} would mount {:?} there",
                    &*existing.name, instance.name, &*wanted.name
                );
                self.problem(Code::Collision, subject(), message);
            }
            return;
        }
        let Some(received) = self.plan.received_mut(self.pod, at) else {
            return;
        };
        let planned = received
            .mounts
            .iter()
            .find(|known| share::same_path(&known.mount.mount_path, &wanted.mount_path));
        match planned.map(|planned| same(&planned.mount)) {
            Some(true) => {}
            Some(false) => self.problem(
                Code::Collision,
                subject(),
                "two instances mount different volumes there",
            ),
            None => received.mounts.push(new),
        }
    }

    fn pod_level(&mut self, new: NewInstance<'p>) {
        let NewInstance {
            instance,
            fragments,
        } = new;
        for (key, value) in &fragments.labels {
            self.label(key, value);
        }
        for (key, value) in &fragments.annotations {
            self.annotation(key, value, None);
        }
        let spec = self.pod.spec.as_ref();
        for name in &fragments.image_pull_secrets {
            let there = spec
                .and_then(|spec| spec.image_pull_secrets.as_deref())
                .unwrap_or_default()
                .iter()
                .any(|known| known.name.as_deref() == Some(name));
            if !there && !self.plan.image_pull_secrets.contains(&name.as_str()) {
                self.plan.image_pull_secrets.push(name);
            }
        }
        for alias in &fragments.host_aliases {
            let there = spec
                .and_then(|spec| spec.host_aliases.as_deref())
                .unwrap_or_default()
                .iter()
                .any(|known| {
                    serde_json::from_str::<Json>(known.get()).is_ok_and(|known| known == alias.json)
                });
            if !there && !self.plan.host_aliases.contains(&alias.text.as_str()) {
                self.plan.host_aliases.push(&alias.text);
            }
        }
        if let Some(value) = fragments.share_process_namespace {
            let existing = spec
                .and_then(|spec| spec.share_process_namespace)
                .or(self.plan.share_process_namespace);
            let sees_the_node = spec.and_then(|spec| spec.host_pid).unwrap_or(false);
            match existing {
                // The API server refuses both together (ValidatePodSecurityContext).
                None if value && sees_the_node => self.problem(
                    Code::Unsupported,
                    "spec.hostPID",
                    format!(
                        "a pod that sees the processes of its node cannot have shareProcessNamespace, which {:?} needs",
                        instance.name
                    ),
                ),
                None => self.plan.share_process_namespace = Some(value),
                Some(existing) if existing == value => {}
                Some(existing) => self.problem(
                    Code::Collision,
                    "spec.shareProcessNamespace",
                    format!("is already {existing}; {:?} needs {value}", instance.name),
                ),
            }
        }
    }

    fn shares(&mut self, owner: usize, new: NewInstance<'p>, targets: &[ContainerRef]) {
        let NewInstance {
            instance,
            fragments,
        } = new;
        for fragment in &fragments.shares {
            let share = &fragment.share;
            let cover = match share::find_cover(self.pod, &self.plan, targets, &share.path) {
                Ok(cover) => cover,
                Err(message) => {
                    let subject = format!("share {:?} of {:?}", share.name, instance.name);
                    self.problem(Code::Unsupported, subject, message);
                    continue;
                }
            };
            let cover =
                cover.unwrap_or_else(|| self.create_share(owner, instance, fragment, targets));
            self.plan.shared.push(SharedMount {
                owner,
                containers: share.containers.as_deref(),
                mount: new_mount(cover, fragment.mount_path(), share.read_only),
            });
        }
    }

    /// Makes a volume for a directory that the application has on no volume.
    fn create_share(
        &mut self,
        owner: usize,
        instance: &Instance<'_>,
        fragment: &'p ShareFragment,
        targets: &[ContainerRef],
    ) -> share::Cover<'p> {
        let path = &fragment.share.path;
        let volume = NewVolume::from(&fragment.volume);
        let cover = share::Cover {
            volume: Cow::Borrowed(volume.name),
            sub_path: Cow::Borrowed(""),
        };
        self.plan.additions[owner].shares.push(volume.name);
        self.plan.volumes.push(volume);
        for below in share::mounts_below(self.pod, targets, path) {
            self.plan.warnings.push(Cow::Owned(format!(
                "{}: {below} is a volume of its own below {path}, whose files the sidecar does not see",
                instance.name
            )));
        }
        for target in targets {
            let mount = new_mount(cover.clone(), path, false);
            self.mount(instance, *target, mount);
        }
        self.plan.warnings.push(Cow::Borrowed(&fragment.warning));
        cover
    }

    fn containers(&mut self, instances: &[NewInstance<'p>]) {
        let ends = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .is_some_and(|policy| matches!(policy, "Never" | "OnFailure"));
        let mut init: Vec<(usize, &'p Position)> = Vec::new();
        for (owner, new) in instances.iter().enumerate() {
            for fragment in &new.fragments.init_containers {
                let index = self.container(owner, fragment);
                if let Role::Init(position) = &fragment.role {
                    init.push((index, position));
                    continue;
                }
                self.plan.ordinary.push(index);
                if ends {
                    self.problem(
                        Code::Unsupported,
                        "spec.restartPolicy",
                        format!(
                            "a pod that ends would never finish: this cluster has no native sidecars, so {:?} of {:?} would keep it running",
                            fragment.name(), new.instance.name
                        ),
                    );
                }
            }
        }
        for (owner, new) in instances.iter().enumerate() {
            for fragment in &new.fragments.containers {
                let index = self.container(owner, fragment);
                self.plan.ordinary.push(index);
                if ends {
                    self.plan.warnings.push(Cow::Owned(format!(
                        "{}: the pod ends only when {:?} ends too",
                        new.instance.name,
                        fragment.name()
                    )));
                }
            }
        }
        self.order_init(&init);
        let chosen = self.pod.annotation(DEFAULT_CONTAINER).is_some()
            || self
                .plan
                .annotations
                .iter()
                .any(|known| known.key == DEFAULT_CONTAINER);
        if !self.plan.ordinary.is_empty()
            && !chosen
            && let Some(first) = self.pod.containers().first()
        {
            self.plan.annotations.push(NewAnnotation {
                key: DEFAULT_CONTAINER,
                value: &first.name,
                operation: None,
            });
        }
    }

    fn container(&mut self, owner: usize, fragment: &'p ContainerFragment) -> usize {
        self.plan.containers.push(NewContainer { owner, fragment });
        self.plan.containers.len() - 1
    }

    /// The final order: items at `first`, the blocks of the instances, the pod's own, items at `last`;
    /// then each item that stands beside a named container is put there.
    fn order_init(&mut self, new: &[(usize, &'p Position)]) {
        if new.is_empty() {
            return;
        }
        let at = |wanted: Position| {
            new.iter()
                .filter(move |(_, position)| **position == wanted)
                .map(|(index, _)| Slot::New(*index))
        };
        let mut order: Vec<Slot> = Vec::with_capacity(new.len() + self.pod.init_containers().len());
        order.extend(at(Position::First).chain(at(Position::Block)));
        order.extend((0..self.pod.init_containers().len()).map(Slot::Own));
        order.extend(at(Position::Last));
        let mut waiting: Vec<(usize, &'p Position)> = new
            .iter()
            .filter(|(_, position)| matches!(position, Position::Before(_) | Position::After(_)))
            .copied()
            .collect();
        loop {
            let before = waiting.len();
            let mut anchored: Vec<&str> = Vec::new();
            waiting.retain(|(index, position)| {
                let (Position::Before(name) | Position::After(name)) = position else {
                    return false;
                };
                let Some(anchor) = order
                    .iter()
                    .position(|slot| self.slot_name(*slot) == Some(name))
                else {
                    return true;
                };
                // Several items after one anchor keep their order.
                let follow = anchored.iter().filter(|known| *known == name).count();
                let place = match position {
                    Position::After(_) => {
                        anchored.push(name);
                        anchor + 1 + follow
                    }
                    _ => anchor,
                };
                order.insert(place, Slot::New(*index));
                false
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (index, position) in waiting {
            let (Position::Before(name) | Position::After(name)) = position else {
                continue;
            };
            let subject = format!(
                "container {:?}",
                self.slot_name(Slot::New(index)).unwrap_or_default()
            );
            self.problem(
                Code::Unsupported,
                subject,
                format!(
                    "stands beside the init container {}, which the pod does not have",
                    shown(name)
                ),
            );
        }
        self.plan.init = order;
    }

    fn slot_name(&self, slot: Slot) -> Option<&str> {
        match slot {
            Slot::Own(index) => self
                .pod
                .init_containers()
                .get(index)
                .map(|container| &*container.name),
            Slot::New(index) => self
                .plan
                .containers
                .get(index)
                .map(|new| new.fragment.name()),
        }
    }
}

/// The mount of a covered directory at that path.
fn new_mount<'p>(cover: share::Cover<'p>, path: &'p str, read_only: bool) -> NewMount<'p> {
    let share::Cover { volume, sub_path } = cover;
    let mut text = String::with_capacity(volume.len() + path.len() + sub_path.len() + 64);
    text.push_str("{\"name\":");
    push_quoted(&mut text, &volume);
    text.push_str(",\"mountPath\":");
    push_quoted(&mut text, path);
    if !sub_path.is_empty() {
        text.push_str(",\"subPath\":");
        push_quoted(&mut text, &sub_path);
    }
    if read_only {
        text.push_str(",\"readOnly\":true");
    }
    text.push('}');
    let mount = Mount {
        name: volume.into(),
        mount_path: path.into(),
        sub_path: (!sub_path.is_empty()).then(|| sub_path.into()),
        read_only: read_only.then_some(true),
        ..Mount::default()
    };
    NewMount {
        mount,
        text: Cow::Owned(text),
    }
}

/// Whether everything in `wanted` is in `given`, which may hold more members.
fn holds(given: &Json, wanted: &Json) -> bool {
    match (given, wanted) {
        (Json::Object(given), Json::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| given.get(key).is_some_and(|given| holds(given, wanted))),
        _ => given == wanted,
    }
}
