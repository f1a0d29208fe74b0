//! The injection core: a pure function from a pod, its namespace and the catalogue to a patch.
//!
//! ```text
//! pod → decide → parameters → render → place → check → patch
//! ```
//!
//! No kube client, no runtime, no clock, no file, no randomness: the same input gives the same bytes. What
//! the pod's author wrote stays as it is, byte for byte, whether this program knows it or not; the patch
//! only adds.

pub mod check;
pub mod decide;
pub mod explain;
pub mod parameters;
pub mod patch;
pub mod place;
pub mod pod;
pub mod problem;
pub mod render;
pub mod share;
pub mod status;

use std::collections::HashSet;

use serde_json::{Value as Json, json};

pub use decide::{INJECT, Instance, Namespace, Origin, STATUS, Skip};
pub use parameters::{Resolved, Source};
pub use patch::Patch;
pub use pod::Pod;
pub use problem::{Code, Problem};

use crate::profile::Catalogue;
use crate::profile::document::HostNetwork;
use crate::profile::expression::RequestScope;
use decide::Decision;
use place::{Plan, Slot};
use pod::Container;
use render::Rendered;
use status::{Record, Status};

/// Whether the cluster can run native sidecars (KEP-753: on by default from Kubernetes 1.29).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SidecarMode {
    /// Init containers with `restartPolicy: Always`.
    #[default]
    Native,
    /// Ordinary containers instead.
    Container,
}

impl SidecarMode {
    /// The mode as expressions see it in `sidecars`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "Native",
            Self::Container => "Container",
        }
    }
}

/// What is asked of the core.
pub struct Request<'a> {
    /// The namespace of the request: the pod's own field is not to be trusted.
    pub namespace: &'a str,
    /// `CREATE`, or another operation, which is then skipped.
    pub operation: &'a str,
    /// Whether the object is a pod.
    pub is_pod: bool,
    /// Whether nothing is stored.
    pub dry_run: bool,
    /// The pod.
    pub pod: &'a Pod<'a>,
    /// The pod as a JSON tree, made when a profile reads `object`.
    pub object: &'a (dyn Fn() -> Json + Send + Sync),
    /// What is known of the namespace.
    pub facts: Option<&'a Namespace>,
    /// How sidecars run here.
    pub sidecars: SidecarMode,
}

/// What the core answers.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The answer itself.
    pub verdict: Verdict,
    /// Advice to whoever applied the pod.
    pub warnings: Vec<String>,
    /// Every instance that was asked for, for `explain`.
    pub instances: Vec<Report<'a>>,
}

/// The three answers.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing is to be done.
    Skipped(Skip),
    /// Something is wrong; nothing is done.
    Denied(Vec<Problem>),
    /// The patch to apply.
    Injected(Patch),
}

/// What became of one instance.
#[derive(Debug)]
pub struct Report<'a> {
    /// The instance.
    pub instance: Instance<'a>,
    /// Its parameters, unless it was there already in another revision.
    pub resolved: Resolved,
    /// Whether the pod had it already.
    pub present: bool,
    /// What it added, or has added before.
    pub record: Option<Record>,
}

/// Decides, renders, places and checks.
pub fn inject<'a>(request: &Request<'_>, catalogue: &'a Catalogue) -> Outcome<'a> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let pod = request.pod;
    let is_create = request.is_pod && request.operation == "CREATE";
    let instances = match decide::decide(pod, is_create, request.facts, catalogue, &mut problems) {
        Decision::Skip(skip) => {
            if skip == Skip::Windows && pod.annotation(INJECT).is_some() {
                warnings.push(format!(
                    "outrigger: nothing is injected: {}",
                    skip.sentence()
                ));
            }
            return Outcome {
                verdict: Verdict::Skipped(skip),
                warnings,
                instances: Vec::new(),
            };
        }
        Decision::Inject(instances) => instances,
    };
    // An unknown profile must not make its parameters unknown as well.
    if problems.is_empty() {
        decide::check_keys(pod, &instances, &mut problems);
    }

    let scope = request_scope(request);
    let status = Status::parse(pod.annotation(STATUS));
    let mut reports = Vec::with_capacity(instances.len());
    let mut rendered: Vec<(usize, Rendered)> = Vec::with_capacity(instances.len());
    for instance in instances {
        let profile = &instance.entry.profile;
        let record = status.record(&instance.name, &profile.name);
        if let Some(record) =
            record.filter(|record| record.revision != profile.revision && is_borne_out(record, pod))
        {
            warnings.push(format!(
                "{}: already injected by revision {} of {:?}; the current one is {}",
                instance.name,
                problem::shown(&record.revision),
                profile.name,
                profile.revision
            ));
            let record = Some(record.clone());
            reports.push(Report {
                instance,
                resolved: Resolved::default(),
                present: true,
                record,
            });
            continue;
        }
        let before = problems.len();
        let resolved = parameters::resolve(&instance, pod, request.facts, &mut problems);
        let mut present = false;
        // An incomplete set of parameters would only add problems that follow from the first.
        if problems.len() == before
            && let Some(fragments) = render::render(&instance, &resolved, &scope, &mut problems)
        {
            present = record.is_some_and(|record| {
                has_its_shares(&instance, &fragments, record, pod)
                    || is_present(&instance, &fragments, pod, request.sidecars, &mut problems)
            });
            if !present {
                rendered.push((reports.len(), fragments));
            }
        }
        let record = record.filter(|_| present).cloned();
        reports.push(Report {
            instance,
            resolved,
            present,
            record,
        });
    }
    if !problems.is_empty() {
        return Outcome {
            verdict: Verdict::Denied(problems),
            warnings,
            instances: reports,
        };
    }
    if rendered.is_empty() {
        return Outcome {
            verdict: Verdict::Skipped(Skip::AlreadyInjected),
            warnings,
            instances: reports,
        };
    }

    let indexes: Vec<usize> = rendered.iter().map(|(index, _)| *index).collect();
    let new: Vec<(&Instance<'_>, Rendered)> = rendered
        .into_iter()
        .filter_map(|(index, fragments)| {
            reports
                .get(index)
                .map(|report| (&report.instance, fragments))
        })
        .collect();
    let mut plan = place::place(pod, &new, request.sidecars, &mut problems);
    // A profile that adds nothing with a name of its own is present when there is nothing left to add.
    let nothing_new = plan.is_empty()
        && plan.records.iter().all(|new| {
            status
                .record(&new.instance, &new.profile)
                .is_some_and(|old| old.revision == new.revision)
        });
    add_status(&mut plan, status);
    check_result(pod, &plan, &new, &mut problems);
    drop(new);
    if !problems.is_empty() {
        return Outcome {
            verdict: Verdict::Denied(problems),
            warnings,
            instances: reports,
        };
    }
    if nothing_new {
        return Outcome {
            verdict: Verdict::Skipped(Skip::AlreadyInjected),
            warnings,
            instances: reports,
        };
    }
    warnings.append(&mut plan.warnings);
    for (index, record) in indexes.into_iter().zip(&plan.records) {
        if let Some(report) = reports.get_mut(index) {
            report.record = Some(record.clone());
        }
    }
    // An instance of only variables, labels or shares renders no part by whose name it could be known again.
    let patch = write_patch(pod, &plan);
    Outcome {
        verdict: Verdict::Injected(patch),
        warnings,
        instances: reports,
    }
}

fn request_scope<'a>(request: &'a Request<'_>) -> RequestScope<'a> {
    let facts = request.facts;
    let (name, namespace) = (request.pod.name(), request.namespace);
    let (operation, dry_run) = (request.operation, request.dry_run);
    RequestScope::new(
        move || (request.object)(),
        move || {
            let empty = Namespace::default();
            let facts = facts.unwrap_or(&empty);
            json!({"metadata": {"name": namespace, "labels": facts.labels, "annotations": facts.annotations}})
        },
        move || json!({"namespace": namespace, "name": name, "operation": operation, "dryRun": dry_run}),
        request.sidecars.as_str(),
    )
}

/// Whether everything that a record claims is in the pod.
fn is_borne_out(record: &Record, pod: &Pod<'_>) -> bool {
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
fn has_its_shares(
    instance: &Instance<'_>,
    fragments: &Rendered,
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
            .any(|known| share == Some(known.name.as_str()))
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
fn is_present(
    instance: &Instance<'_>,
    fragments: &Rendered,
    pod: &Pod<'_>,
    mode: SidecarMode,
    problems: &mut Vec<Problem>,
) -> bool {
    let init = fragments.init_containers.iter().map(|container| {
        let sidecar = container.json.get("restartPolicy").and_then(Json::as_str) == Some("Always");
        (
            &container.json,
            !(sidecar && mode == SidecarMode::Container),
        )
    });
    let wanted: Vec<(&Json, bool)> = init
        .chain(
            fragments
                .containers
                .iter()
                .map(|container| (container, false)),
        )
        .collect();
    let text = |json: &Json, field: &str| {
        json.get(field)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let volumes_there = fragments.volumes.iter().all(|volume| {
        pod.volumes()
            .iter()
            .any(|known| *known.name == *text(volume, "name"))
    });
    let files_there = fragments
        .files
        .iter()
        .all(|file| pod.annotation(&file.key).is_some());
    let mut found = Vec::with_capacity(wanted.len());
    for (json, init) in &wanted {
        let list = if *init {
            pod.init_containers()
        } else {
            pod.containers()
        };
        match list.iter().find(|known| *known.name == *text(json, "name")) {
            Some(container) => found.push((container, *json)),
            None => return false,
        }
    }
    if !volumes_there || !files_there || !fragments.has_parts() {
        return false;
    }
    let same = |given: Option<&serde_json::value::RawValue>, wanted: Option<&Json>| {
        let given: Option<Json> = given.and_then(|raw| serde_json::from_str(raw.get()).ok());
        given.unwrap_or(Json::Null) == *wanted.unwrap_or(&Json::Null)
    };
    for (container, json) in found {
        if !same(container.command, json.get("command")) || !same(container.args, json.get("args"))
        {
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

fn check_result(
    pod: &Pod<'_>,
    plan: &Plan,
    instances: &[(&Instance<'_>, Rendered)],
    problems: &mut Vec<Problem>,
) {
    let mut fragments: Vec<Container<'_>> = Vec::with_capacity(plan.fragments.len());
    for fragment in &plan.fragments {
        match serde_json::from_str(&fragment.json) {
            Ok(container) => fragments.push(container),
            Err(error) => {
                problems.push(Problem::new(
                    Code::ProfileFault,
                    format!("container {:?}", fragment.name),
                    error.to_string(),
                ));
                return;
            }
        }
    }
    let view = check::View::of(pod, plan, &fragments);
    if view.host_network {
        for (fragment, container) in plan.fragments.iter().zip(&fragments) {
            let Some((instance, _)) = instances.get(fragment.owner) else {
                continue;
            };
            if instance.entry.profile.host_network == HostNetwork::Refuse
                && !container.ports().is_empty()
            {
                problems.push(Problem::new(
                    Code::Unsupported,
                    "spec.hostNetwork",
                    format!(
                        "the ports of {:?} would be opened on the node; the profile {:?} does not allow that",
                        fragment.name, instance.entry.profile.name
                    ),
                ));
            }
        }
    }
    check::check(&view, problems);
}

/// Adds the status annotation to a plan.
fn add_status(plan: &mut Plan, mut status: Status) {
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
fn write_patch(pod: &Pod<'_>, plan: &Plan) -> Patch {
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
        let mut targets: Vec<place::ContainerRef> = Vec::new();
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
