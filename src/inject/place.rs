//! Where each fragment goes: order of containers, mounts of the application, shared directories, and what
//! collides.

use serde_json::{Value as Json, json};

use super::SidecarMode;
use super::decide::Instance;
use super::plan::{Addition, ContainerRef, Fragment, NewVolume, Plan, Slot};
use super::pod::{Container, Mount, Pod};
use super::problem::{Code, Problem, shown};
use super::render::{File, ForApplication, Position, Rendered};
use super::share;
use super::status::Record;

/// kubectl picks this container when it is not told which.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The longest name part of an annotation's key, after the slash.
const MAX_KEY_NAME: usize = 63;
/// How many containers a message names.
const MAX_NAMES: usize = 10;

/// Places everything that the instances add. Problems are added; the plan is then incomplete.
pub fn place(
    pod: &Pod<'_>,
    instances: &[(&Instance<'_>, Rendered)],
    mode: SidecarMode,
    problems: &mut Vec<Problem>,
) -> Plan {
    let mut placer = Placer {
        pod,
        problems,
        plan: Plan::default(),
    };
    for (instance, _) in instances {
        placer.plan.records.push(Record {
            instance: instance.name.clone(),
            profile: instance.entry.profile.name.clone(),
            revision: instance.entry.profile.revision.clone(),
            ..Record::default()
        });
    }
    for (owner, (instance, rendered)) in instances.iter().enumerate() {
        placer.volumes(owner, rendered);
        placer.files(owner, &instance.name, &rendered.files);
        placer.application(owner, instance, rendered);
        placer.pod_level(instance, rendered);
        placer.plan.warnings.extend(
            rendered
                .warnings
                .iter()
                .map(|text| format!("{}: {text}", instance.name)),
        );
    }
    // Shares come after every mount is known, so that one instance can share what another mounts.
    let extra: Vec<_> = instances
        .iter()
        .enumerate()
        .map(|(owner, (instance, rendered))| placer.shares(owner, instance, rendered))
        .collect();
    placer.containers(instances, &extra, mode);
    placer.plan
}

struct Placer<'p, 'a> {
    pod: &'p Pod<'a>,
    problems: &'p mut Vec<Problem>,
    plan: Plan,
}

/// A mount that a share gives to the injected containers of one instance.
struct SharedMount {
    containers: Option<Vec<String>>,
    json: Json,
}

impl Placer<'_, '_> {
    fn problem(&mut self, code: Code, subject: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(code, subject, message));
    }

    fn volumes(&mut self, owner: usize, rendered: &Rendered) {
        for json in &rendered.volumes {
            self.volume(owner, json);
        }
    }

    fn volume(&mut self, owner: usize, json: &Json) {
        let name = json
            .get("name")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned();
        self.plan.records[owner].volumes.push(name.clone());
        self.plan.volumes.push(NewVolume {
            name,
            json: json.to_string(),
        });
    }

    fn files(&mut self, owner: usize, instance: &str, files: &[File]) {
        if files.is_empty() {
            return;
        }
        let mut items = Vec::with_capacity(files.len());
        for file in files {
            let name = format!("{instance}.{}", file.name);
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
            items.push(json!({
                "path": file.name,
                "fieldRef": {
                    "apiVersion": "v1",
                    "fieldPath": format!("metadata.annotations['{}']", file.key),
                },
            }));
            self.annotation(&file.key, &file.content);
            self.plan.records[owner].files.push(file.name.clone());
        }
        let volume = json!({"name": format!("{instance}-files"), "downwardAPI": {"items": items}});
        self.volume(owner, &volume);
    }

    fn annotation(&mut self, key: &str, value: &str) {
        let existing = self
            .pod
            .annotation(key)
            .map(str::to_owned)
            .or_else(|| planned(&self.plan.annotations, key));
        match existing {
            None => self
                .plan
                .annotations
                .push((key.to_owned(), value.to_owned())),
            Some(existing) if existing == value => {}
            Some(existing) => self.problem(
                Code::Collision,
                format!("metadata.annotations[{key}]"),
                format!(
                    "is already {}; the profile sets it to {}",
                    shown(&existing),
                    shown(value)
                ),
            ),
        }
    }

    fn label(&mut self, key: &str, value: &str) {
        let existing = self
            .pod
            .labels()
            .iter()
            .find(|(known, _)| **known == *key)
            .map(|(_, value)| value.to_string())
            .or_else(|| planned(&self.plan.labels, key));
        match existing {
            None => self.plan.labels.push((key.to_owned(), value.to_owned())),
            Some(existing) if existing == value => {}
            Some(existing) => self.problem(
                Code::Collision,
                format!("metadata.labels[{key}]"),
                format!(
                    "is already {}; the profile sets it to {}",
                    shown(&existing),
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
            return (0..self.pod.containers().len())
                .map(|index| ContainerRef { init: false, index })
                .collect();
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

    fn application(&mut self, owner: usize, instance: &Instance<'_>, rendered: &Rendered) {
        for item in &rendered.env {
            for at in self.targets(instance, rendered, item) {
                self.env(owner, instance, at, &item.json);
            }
        }
        for item in &rendered.mounts {
            for at in self.targets(instance, rendered, item) {
                self.mount(owner, instance, at, &item.json);
            }
        }
    }

    fn targets(
        &mut self,
        instance: &Instance<'_>,
        rendered: &Rendered,
        item: &ForApplication,
    ) -> Vec<ContainerRef> {
        let names = item
            .containers
            .as_deref()
            .or(rendered.application_containers.as_deref());
        self.application_containers(instance, names)
    }

    fn env(&mut self, owner: usize, instance: &Instance<'_>, at: ContainerRef, json: &Json) {
        let Some(container) = at.get(self.pod) else {
            return;
        };
        let name = json.get("name").and_then(Json::as_str).unwrap_or_default();
        let text = json.to_string();
        let subject = format!("container {:?}, env {name:?}", &*container.name);
        if let Some(existing) = container.env().iter().find(|known| *known.name == *name) {
            let source: Option<Json> = existing
                .value_from
                .and_then(|raw| serde_json::from_str(raw.get()).ok());
            let same = match (json.get("valueFrom"), source) {
                (None, None) => {
                    existing.value.as_deref().unwrap_or_default()
                        == json.get("value").and_then(Json::as_str).unwrap_or_default()
                }
                // The API server fills in defaults, such as `fieldRef.apiVersion`.
                (Some(wanted), Some(given)) => holds(&given, wanted),
                _ => false,
            };
            if !same {
                self.problem(
                    Code::Collision,
                    subject,
                    format!(
                        "is already set to another value; {:?} would set it",
                        instance.name
                    ),
                );
            }
            return;
        }
        let planned = self
            .plan
            .env
            .iter()
            .find(|known| known.at == at && env_name(&known.json).as_deref() == Some(name));
        match planned {
            Some(planned) if planned.json == text => {}
            Some(_) => self.problem(
                Code::Collision,
                subject,
                "is set by two instances to different values",
            ),
            None => self.plan.env.push(Addition {
                at,
                owner,
                json: text,
            }),
        }
    }

    fn mount(&mut self, owner: usize, instance: &Instance<'_>, at: ContainerRef, json: &Json) {
        let Some(container) = at.get(self.pod) else {
            return;
        };
        let text = json.to_string();
        let Ok(new) = serde_json::from_str::<Mount<'_>>(&text) else {
            return;
        };
        let same = |known: &Mount<'_>| {
            known.name == new.name
                && known.sub_path.as_deref().unwrap_or_default()
                    == new.sub_path.as_deref().unwrap_or_default()
        };
        let subject = format!(
            "container {:?}, mountPath {:?}",
            &*container.name, &*new.mount_path
        );
        if let Some(existing) = container
            .mounts()
            .iter()
            .find(|known| share::same_path(&known.mount_path, &new.mount_path))
        {
            if !same(existing) {
                let message = format!(
                    "is already taken by the volume {:?}; {:?} would mount {:?} there",
                    &*existing.name, instance.name, &*new.name
                );
                self.problem(Code::Collision, subject, message);
            }
            return;
        }
        let planned = self
            .plan
            .mounts
            .iter()
            .filter(|known| known.at == at)
            .find_map(|known| {
                let mount: Mount<'_> = serde_json::from_str(&known.json).ok()?;
                share::same_path(&mount.mount_path, &new.mount_path).then(|| same(&mount))
            });
        match planned {
            Some(true) => {}
            Some(false) => self.problem(
                Code::Collision,
                subject,
                "two instances mount different volumes there",
            ),
            None => self.plan.mounts.push(Addition {
                at,
                owner,
                json: text,
            }),
        }
    }

    fn pod_level(&mut self, instance: &Instance<'_>, rendered: &Rendered) {
        for (key, value) in &rendered.labels {
            self.label(key, value);
        }
        for (key, value) in &rendered.annotations {
            self.annotation(key, value);
        }
        let spec = self.pod.spec.as_ref();
        for secret in &rendered.image_pull_secrets {
            let name = secret
                .get("name")
                .and_then(Json::as_str)
                .unwrap_or_default();
            let there = spec
                .and_then(|spec| spec.image_pull_secrets.as_deref())
                .unwrap_or_default()
                .iter()
                .any(|known| known.name.as_deref() == Some(name));
            if !there
                && !self
                    .plan
                    .image_pull_secrets
                    .iter()
                    .any(|known| known == name)
            {
                self.plan.image_pull_secrets.push(name.to_owned());
            }
        }
        for alias in &rendered.host_aliases {
            let there = spec
                .and_then(|spec| spec.host_aliases.as_deref())
                .unwrap_or_default()
                .iter()
                .any(|known| {
                    serde_json::from_str::<Json>(known.get()).is_ok_and(|known| known == *alias)
                });
            let text = alias.to_string();
            if !there && !self.plan.host_aliases.contains(&text) {
                self.plan.host_aliases.push(text);
            }
        }
        if let Some(value) = rendered.share_process_namespace {
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

    fn shares(
        &mut self,
        owner: usize,
        instance: &Instance<'_>,
        rendered: &Rendered,
    ) -> Vec<SharedMount> {
        let mut mounts = Vec::with_capacity(rendered.shares.len());
        for share in &rendered.shares {
            let subject = format!("share {:?} of {:?}", share.name, instance.name);
            let targets =
                self.application_containers(instance, rendered.application_containers.as_deref());
            let cover = match share::find_cover(self.pod, &self.plan.mounts, &targets, &share.path)
            {
                Ok(cover) => cover,
                Err(message) => {
                    self.problem(Code::Unsupported, subject, message);
                    continue;
                }
            };
            let cover =
                cover.unwrap_or_else(|| self.create_share(owner, instance, share, &targets));
            let mut mount = json!({
                "name": cover.volume,
                "mountPath": share.mount_path.as_deref().unwrap_or(&share.path),
            });
            if let Some(sub_path) = cover.sub_path {
                mount["subPath"] = Json::String(sub_path);
            }
            if share.read_only {
                mount["readOnly"] = Json::Bool(true);
            }
            mounts.push(SharedMount {
                containers: share.containers.clone(),
                json: mount,
            });
        }
        mounts
    }

    /// Makes a volume for a directory that the application has on no volume.
    fn create_share(
        &mut self,
        owner: usize,
        instance: &Instance<'_>,
        share: &crate::profile::compile::Share,
        targets: &[ContainerRef],
    ) -> share::Cover {
        let volume = format!("{}-{}", instance.name, share.name);
        let mut empty = json!({"sizeLimit": share.size_limit});
        if let Some(medium) = &share.medium {
            empty["medium"] = Json::String(medium.clone());
        }
        self.volume(owner, &json!({"name": volume, "emptyDir": empty}));
        let mount = json!({"name": volume, "mountPath": share.path});
        for below in share::mounts_below(self.pod, targets, &share.path) {
            self.plan.warnings.push(format!(
                "{}: {below} is a volume of its own below {}, whose files the sidecar does not see",
                instance.name, share.path
            ));
        }
        for target in targets {
            self.mount(owner, instance, *target, &mount);
        }
        self.plan.warnings.push(format!(
            "{}: a new volume at {} hides what the image has there",
            instance.name, share.path
        ));
        share::Cover {
            volume,
            sub_path: None,
        }
    }

    fn containers(
        &mut self,
        instances: &[(&Instance<'_>, Rendered)],
        shared: &[Vec<SharedMount>],
        mode: SidecarMode,
    ) {
        let ends = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .is_some_and(|policy| matches!(policy, "Never" | "OnFailure"));
        let mut init: Vec<(usize, Position)> = Vec::new();
        for (owner, (instance, rendered)) in instances.iter().enumerate() {
            for container in &rendered.init_containers {
                let mut json = container.json.clone();
                add_mounts(&mut json, &shared[owner]);
                let sidecar = json.get("restartPolicy").and_then(Json::as_str) == Some("Always");
                if sidecar && mode == SidecarMode::Container {
                    if let Some(object) = json.as_object_mut() {
                        object.shift_remove("restartPolicy");
                    }
                    let fragment = self.fragment(owner, &json, false);
                    if ends {
                        let name = self.plan.fragments[fragment].name.clone();
                        self.problem(
                            Code::Unsupported,
                            "spec.restartPolicy",
                            format!(
                                "a pod that ends would never finish: this cluster has no native sidecars, so {name:?} of {:?} would keep it running",
                                instance.name
                            ),
                        );
                    }
                    self.plan.containers.push(fragment);
                } else {
                    let fragment = self.fragment(owner, &json, true);
                    init.push((fragment, container.position.clone()));
                }
            }
        }
        for (owner, (instance, rendered)) in instances.iter().enumerate() {
            for container in &rendered.containers {
                let mut json = container.clone();
                add_mounts(&mut json, &shared[owner]);
                let fragment = self.fragment(owner, &json, false);
                self.plan.containers.push(fragment);
                if ends {
                    self.plan.warnings.push(format!(
                        "{}: the pod ends only when {:?} ends too",
                        instance.name, self.plan.fragments[fragment].name
                    ));
                }
            }
        }
        self.order_init(init);
        let chosen = self.pod.annotation(DEFAULT_CONTAINER).is_some()
            || self
                .plan
                .annotations
                .iter()
                .any(|(key, _)| key == DEFAULT_CONTAINER);
        if !self.plan.containers.is_empty()
            && !chosen
            && let Some(first) = self.pod.containers().first()
        {
            self.plan
                .annotations
                .push((DEFAULT_CONTAINER.to_owned(), first.name.to_string()));
        }
    }

    fn fragment(&mut self, owner: usize, json: &Json, init: bool) -> usize {
        let name = json
            .get("name")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned();
        let record = &mut self.plan.records[owner];
        if init {
            &mut record.init_containers
        } else {
            &mut record.containers
        }
        .push(name.clone());
        self.plan.fragments.push(Fragment {
            owner,
            name,
            json: json.to_string(),
        });
        self.plan.fragments.len() - 1
    }

    /// The final order: items at `first`, the blocks of the instances, the pod's own, items at `last`;
    /// then each item that stands beside a named container is put there.
    fn order_init(&mut self, new: Vec<(usize, Position)>) {
        if new.is_empty() {
            return;
        }
        let at = |wanted: &Position| {
            let wanted = wanted.clone();
            new.iter()
                .filter(move |(_, position)| *position == wanted)
                .map(|(index, _)| Slot::New(*index))
        };
        let mut order: Vec<Slot> = at(&Position::First).chain(at(&Position::Block)).collect();
        order.extend((0..self.pod.init_containers().len()).map(Slot::Own));
        order.extend(at(&Position::Last));
        let mut waiting: Vec<(usize, Position)> = new
            .iter()
            .filter(|(_, position)| matches!(position, Position::Before(_) | Position::After(_)))
            .cloned()
            .collect();
        loop {
            let before = waiting.len();
            let mut anchored: Vec<(String, usize)> = Vec::new();
            waiting.retain(|(fragment, position)| {
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
                let follow = anchored.iter().filter(|(known, _)| known == name).count();
                let index = match position {
                    Position::After(_) => {
                        anchored.push((name.clone(), *fragment));
                        anchor + 1 + follow
                    }
                    _ => anchor,
                };
                order.insert(index, Slot::New(*fragment));
                false
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (fragment, position) in waiting {
            let (Position::Before(name) | Position::After(name)) = position else {
                continue;
            };
            let fragment = self.plan.fragments[fragment].name.clone();
            self.problem(
                Code::Unsupported,
                format!("container {fragment:?}"),
                format!(
                    "stands beside the init container {}, which the pod does not have",
                    shown(&name)
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
                .fragments
                .get(index)
                .map(|fragment| fragment.name.as_str()),
        }
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

fn planned(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs
        .iter()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value.clone())
}

fn env_name(json: &str) -> Option<String> {
    serde_json::from_str::<Json>(json)
        .ok()?
        .get("name")?
        .as_str()
        .map(str::to_owned)
}

fn add_mounts(container: &mut Json, shared: &[SharedMount]) {
    let name = container
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned();
    let mounts: Vec<Json> = shared
        .iter()
        .filter(|mount| {
            mount
                .containers
                .as_ref()
                .is_none_or(|names| names.contains(&name))
        })
        .map(|mount| mount.json.clone())
        .collect();
    if mounts.is_empty() {
        return;
    }
    let Some(object) = container.as_object_mut() else {
        return;
    };
    match object.get_mut("volumeMounts").and_then(Json::as_array_mut) {
        Some(existing) => existing.extend(mounts),
        None => {
            object.insert("volumeMounts".to_owned(), Json::Array(mounts));
        }
    }
}
