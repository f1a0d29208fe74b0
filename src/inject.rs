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
pub mod plan;
pub mod pod;
mod present;
pub mod problem;
pub mod render;
pub mod share;
pub mod status;
mod write;

use serde_json::{Value as Json, json};

pub use decide::{INJECT, Instance, Namespace, Namespaces, Origin, STATUS, Skip};
pub use parameters::{Resolved, Source};
pub use patch::Patch;
pub use pod::Pod;
pub use problem::{Code, Problem};

use crate::profile::Catalogue;
use crate::profile::document::HostNetwork;
use crate::profile::expression::RequestScope;
use decide::Decision;
use plan::Plan;
use pod::Container;
use present::{has_its_shares, is_borne_out, is_present};
use render::Rendered;
use status::{Record, Status};
use write::{add_status, write_patch};

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
    /// Names of volumes that the pod will have besides its own: those that a StatefulSet's controller adds, where
    /// its template is judged instead of a pod.
    pub claims: &'a [&'a str],
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

/// A pod template as expressions see it, with the volumes that a StatefulSet's controller adds
/// ([`Request::claims`]).
pub fn with_claims(mut template: Json, workload: &str, claims: &[&str]) -> Json {
    for name in claims {
        let claim = json!({"claimName": format!("{name}-{workload}-0")});
        let volume = json!({"name": name, "persistentVolumeClaim": claim});
        match &mut template["spec"]["volumes"] {
            Json::Array(volumes) => volumes.push(volume),
            other => *other = json!([volume]),
        }
    }
    template
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
    decide::check_allowed(request.namespace, request.facts, &instances, &mut problems);

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
    check_result(request, &plan, &new, &mut problems);
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

fn check_result(
    request: &Request<'_>,
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
    let mut view = check::View::of(request.pod, plan, &fragments);
    view.volumes
        .extend(request.claims.iter().map(|claim| (*claim, false)));
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
