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
pub mod encoded;
pub mod explain;
pub mod fragment;
pub mod parameters;
pub mod patch;
pub mod place;
pub mod plan;
pub mod pod;
mod present;
pub mod problem;
pub mod render;
pub mod renderings;
pub mod share;
pub mod status;
mod write;

use std::borrow::Cow;
use std::cell::LazyCell;
use std::sync::Arc;

use serde_json::{Value as Json, json};

pub use decide::{INJECT, Instance, Namespace, Namespaces, Origin, STATUS, Skip};
pub use parameters::{Resolved, Source};
pub use patch::Patch;
pub use pod::Pod;
pub use problem::{Code, Problem};
pub use renderings::Renderings;

use crate::profile::Catalogue;
use crate::profile::document::HostNetwork;
use crate::profile::expression::{RequestScope, Requested};
use decide::Decision;
use place::NewInstance;
use plan::Plan;
use present::{has_its_shares, is_borne_out, is_present};
use renderings::Rendering;
use status::{Record, Status};
use write::write_patch;

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
    /// What was rendered before.
    pub renderings: &'a Renderings,
    /// What the buffer of a patch begins with: of an answer that is written around it, so that it need not be copied.
    pub before_patch: &'a str,
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
    rendering: Arc<Rendering>,
    given: Given,
}

/// What a pod has of an instance.
#[derive(Debug)]
enum Given {
    /// Nothing, because something is wrong.
    Nothing,
    /// What it had before.
    Before(Record),
    /// What is added, and the volumes of shares.
    Now(Vec<String>),
}

impl Report<'_> {
    /// Its parameters, unless it was there already in another revision.
    pub fn resolved(&self) -> &Resolved {
        &self.rendering.resolved
    }

    /// Whether the pod had it already.
    pub fn is_present(&self) -> bool {
        matches!(self.given, Given::Before(_))
    }

    /// What it adds, or has added before.
    pub fn record(&self) -> Option<Record> {
        match &self.given {
            Given::Nothing => None,
            Given::Before(record) => Some(record.clone()),
            Given::Now(shares) => Some(self.rendering.fragments.record.with_shares(shares)),
        }
    }
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

    // Made for the first instance that is not remembered.
    let scope = LazyCell::new(|| RequestScope::new(request));
    let status = Status::parse(pod.annotation(STATUS));
    let mut reports: Vec<Report<'a>> = Vec::with_capacity(instances.len());
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
            reports.push(Report {
                instance,
                rendering: Arc::default(),
                given: Given::Before(record.clone()),
            });
            continue;
        }
        let before = problems.len();
        let rendering = rendering(&instance, request, || &scope, &mut problems);
        let fragments = &rendering.fragments;
        let found = record.filter(|record| {
            problems.len() == before
                && (has_its_shares(&instance, fragments, record, pod)
                    || is_present(&instance, fragments, pod, &mut problems))
        });
        let given = found.map_or(Given::Nothing, |record| Given::Before(record.clone()));
        reports.push(Report {
            instance,
            rendering,
            given,
        });
    }
    let outcome = |verdict, warnings, instances| Outcome {
        verdict,
        warnings,
        instances,
    };
    if !problems.is_empty() {
        return outcome(Verdict::Denied(problems), warnings, reports);
    }
    if reports.iter().all(Report::is_present) {
        return outcome(Verdict::Skipped(Skip::AlreadyInjected), warnings, reports);
    }

    let new: Vec<NewInstance<'_>> = reports
        .iter()
        .filter(|report| !report.is_present())
        .map(|report| NewInstance {
            instance: &report.instance,
            fragments: &report.rendering.fragments,
        })
        .collect();
    let mut plan = place::place(pod, &new, &mut problems);
    // A profile that adds nothing with a name of its own is present when there is nothing left to add: an instance
    // of only variables, labels or shares renders no part by whose name it could be known again.
    let nothing_new = plan.is_empty()
        && plan.additions.iter().all(|new| {
            status
                .record(&new.record.instance, &new.record.profile)
                .is_some_and(|old| old.revision == new.record.revision)
        });
    plan.status = status.with(&plan.additions);
    check_result(request, &plan, &new, &mut problems);
    if !problems.is_empty() {
        drop(plan);
        return outcome(Verdict::Denied(problems), warnings, reports);
    }
    if nothing_new {
        drop(plan);
        return outcome(Verdict::Skipped(Skip::AlreadyInjected), warnings, reports);
    }
    warnings.extend(plan.warnings.drain(..).map(Cow::into_owned));
    let patch = write_patch(pod, &plan, request.before_patch);
    let owned = |shares: Vec<&str>| shares.into_iter().map(str::to_owned).collect();
    let additions = plan.additions.into_iter();
    let shares: Vec<Vec<String>> = additions.map(|new| owned(new.shares)).collect();
    let added = reports.iter_mut().filter(|report| !report.is_present());
    for (report, shares) in added.zip(shares) {
        report.given = Given::Now(shares);
    }
    outcome(Verdict::Injected(patch), warnings, reports)
}

/// What an instance comes to. Empty but for the parameters if there were problems, which are then added.
fn rendering<'s>(
    instance: &Instance<'_>,
    request: &Request<'_>,
    scope: impl FnOnce() -> &'s RequestScope<'s>,
    problems: &mut Vec<Problem>,
) -> Arc<Rendering> {
    let key = renderings::key(instance, request);
    if let Some(known) = request.renderings.get(key.as_ref()) {
        return known;
    }
    let before = problems.len();
    let resolved = parameters::resolve(instance, request.pod, request.facts, problems);
    // An incomplete set of parameters would only add problems that follow from the first.
    let fragments = match problems.len() == before {
        true => render::render(instance, &resolved, scope(), request.sidecars, problems),
        false => None,
    };
    let complete = fragments.is_some();
    let rendering = Arc::new(Rendering {
        resolved,
        fragments: fragments.unwrap_or_default(),
    });
    if complete {
        request.renderings.insert(key, &rendering);
    }
    rendering
}

/// What expressions read of it.
impl Requested for Request<'_> {
    fn object(&self) -> Json {
        (self.object)()
    }

    /// A context that is null is as none, as it is to the API server.
    fn security_context(&self) -> Json {
        let Some(spec) = &self.pod.spec else {
            return json!({});
        };
        let mut seen = serde_json::Map::new();
        if let Some(context) = spec.security_context {
            // It was read as JSON already.
            let context = serde_json::from_str(context.get()).unwrap_or_default();
            seen.insert("securityContext".to_owned(), context);
        }
        json!({"spec": seen})
    }

    fn namespace_object(&self) -> Json {
        let empty = Namespace::default();
        let facts = self.facts.unwrap_or(&empty);
        json!({"metadata": {"name": self.namespace, "labels": facts.labels, "annotations": facts.annotations}})
    }

    fn request(&self) -> Json {
        json!({
            "namespace": self.namespace, "name": self.pod.name(), "operation": self.operation, "dryRun": self.dry_run,
        })
    }

    fn sidecars(&self) -> &'static str {
        self.sidecars.as_str()
    }
}

fn check_result(
    request: &Request<'_>,
    plan: &Plan<'_>,
    instances: &[NewInstance<'_>],
    problems: &mut Vec<Problem>,
) {
    let spec = request.pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network).unwrap_or(false) {
        for new in &plan.containers {
            let Some(NewInstance { instance, .. }) = instances.get(new.owner) else {
                continue;
            };
            if instance.entry.profile.host_network == HostNetwork::Refuse
                && !new.fragment.container.ports().is_empty()
            {
                problems.push(Problem::new(
                    Code::Unsupported,
                    "spec.hostNetwork",
                    format!(
                        "the ports of {:?} would be opened on the node; the profile {:?} does not allow that",
                        new.fragment.name(), instance.entry.profile.name
                    ),
                ));
            }
        }
    }
    check::check(request.pod, plan, request.claims, problems);
}
