//! The AdmissionReview envelope: bytes in, bytes out.
//!
//! `admission.k8s.io/v1` is what we register for; v1beta1 has the same fields and is answered in kind. The
//! answer is written by hand, around a patch that is already base64.
//!
//! Three webhooks speak it: this file answers for pods, [`workload`] for what makes pods and [`profile`] for
//! profiles.

pub mod profile;
pub mod workload;

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::inject::patch::{push_object, push_quoted, quote};
use crate::inject::pod::{Pod, Text};
use crate::inject::{self, Namespaces, Patch, Renderings, Report, SidecarMode, Verdict, problem};
use crate::json;
use crate::profile::Catalogue;

/// The longest warning that the API server passes on without cutting it.
const MAX_WARNING: usize = 120;
/// The sum of the lengths of all warnings that the API server passes on.
const MAX_WARNINGS: usize = 4096;

/// Whose review it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Webhook {
    /// Of pods that are created.
    Mutate,
    /// Of workloads, which make pods later.
    Workload,
    /// Of profiles.
    Profile,
}

impl Webhook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mutate, Self::Workload, Self::Profile];

    /// The name as written in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Workload => "workload",
            Self::Profile => "profile",
        }
    }
}

/// Answers one AdmissionReview that was sent to a webhook.
///
/// # Errors
/// A body that is no AdmissionReview of a version we know, or has no uid to answer to.
pub fn answer(webhook: Webhook, body: &[u8], snapshot: &Snapshot) -> Result<Reviewed, ReviewError> {
    match webhook {
        Webhook::Mutate => review(body, snapshot),
        Webhook::Workload => workload::review_workload(body, snapshot),
        Webhook::Profile => profile::review_profile(body),
    }
}

/// What a review came to, for the log line and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Who was asked.
    pub webhook: Webhook,
    /// `injected`, `skipped` or `denied`; of a workload `allowed` or `warned`, of a profile `allowed` or `denied`.
    pub outcome: &'static str,
    /// The reason code, one of a closed set: safe as a metric label.
    pub reason: &'static str,
    /// `request.uid`.
    pub uid: String,
    /// `request.namespace`.
    pub namespace: String,
    /// The pod's name, or its `generateName` when a controller made it.
    pub name: String,
    /// `instance=profile` of each instance added by this answer, or that it would have added had it not denied.
    pub instances: Vec<String>,
    /// Whether the request was a dry run.
    pub dry_run: bool,
    /// The message of a denial.
    pub message: Option<String>,
    /// Who made a pod that is denied.
    pub owner: Option<Owner>,
}

/// The object that made a pod, in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Unique id.
    pub uid: String,
}

impl Owner {
    /// The owner that a pod names. The API server checks what is written there only after us, so a name that no
    /// object can have is none.
    fn of(pod: &Pod<'_>) -> Option<Self> {
        let owner = pod.owner()?;
        let field = |text: &str, longest: usize| {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            (plain && (1..=longest).contains(&text.len())).then(|| text.to_owned())
        };
        Some(Self {
            api_version: field(&owner.api_version, 253 + 1 + 63)?,
            kind: field(&owner.kind, 63)?,
            name: field(&owner.name, 253)?,
            uid: field(&owner.uid, 128)?,
        })
    }
}

impl Summary {
    /// The profile of each instance.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.instances
            .iter()
            .filter_map(|instance| Some(instance.split_once('=')?.1))
    }
}

/// An answered review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The AdmissionReview to send back, as JSON.
    pub body: Vec<u8>,
    /// What to log and count.
    pub summary: Summary,
}

/// A body that is no review: there is no uid to answer to, so it gets an HTTP error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReviewError {
    /// What is wrong, naming the field.
    pub message: String,
}

/// What answers depend on besides the review.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The profiles.
    pub catalogue: Catalogue,
    /// What is known of namespaces, by name.
    pub namespaces: Namespaces,
    /// How sidecars run in this cluster.
    pub sidecars: SidecarMode,
    /// What was rendered before. Copies share it.
    pub renderings: Arc<Renderings>,
}

/// A review of objects that are read as `O`.
#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a, O: Deserialize<'de>")
)]
struct Review<'a, O> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(default)]
    request: Option<Request<'a, O>>,
}

#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a, O: Deserialize<'de>")
)]
struct Request<'a, O> {
    #[serde(borrow, default)]
    uid: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Option<Kind<'a>>,
    #[serde(borrow, default)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow, default)]
    operation: Option<Text<'a>>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    object: Option<O>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    group: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Text<'a>,
}

/// A review that can be answered.
struct Opened<'a, O> {
    api_version: Text<'a>,
    kind: Text<'a>,
    uid: Text<'a>,
    request: Request<'a, O>,
}

/// Reads a review, as far as it takes to answer it at all.
fn open<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Opened<'a, O>, ReviewError> {
    let refuse = |message: String| ReviewError { message };
    // At once, which is faster than string by string.
    let text = std::str::from_utf8(body)
        .map_err(|error| refuse(format!("the body is no AdmissionReview: {error}")))?;
    let review: Review<'a, O> = json::from_str(text)
        .map_err(|error| refuse(format!("the body is no AdmissionReview: {error}")))?;
    let refuse = |message: String| Err(refuse(message));
    if &*review.kind != "AdmissionReview" {
        return refuse(format!(
            "kind: given {}, expected \"AdmissionReview\"",
            problem::shown(&review.kind)
        ));
    }
    if !matches!(
        &*review.api_version,
        "admission.k8s.io/v1" | "admission.k8s.io/v1beta1"
    ) {
        return refuse(format!(
            "apiVersion: given {}, expected \"admission.k8s.io/v1\" or \"admission.k8s.io/v1beta1\"",
            problem::shown(&review.api_version)
        ));
    }
    let Some(mut request) = review.request else {
        return refuse("request: missing".to_owned());
    };
    let Some(uid) = request.uid.take().filter(|uid| !uid.is_empty()) else {
        return refuse("request.uid: missing or empty".to_owned());
    };
    Ok(Opened {
        api_version: review.api_version,
        kind: review.kind,
        uid,
        request,
    })
}

impl<O> Opened<'_, O> {
    fn response(&self) -> Response<'_> {
        Response::new(&self.api_version, &self.kind, &self.uid)
    }

    /// A summary that knows nothing of the answer yet.
    fn summary(&self, webhook: Webhook, outcome: &'static str, name: &str) -> Summary {
        Summary {
            webhook,
            outcome,
            reason: "",
            uid: self.uid.to_string(),
            namespace: self.request.namespace().to_owned(),
            name: name.to_owned(),
            instances: Vec::new(),
            dry_run: self.request.dry_run.unwrap_or(false),
            message: None,
            owner: None,
        }
    }
}

impl<O> Request<'_, O> {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn operation(&self) -> &str {
        self.operation.as_deref().unwrap_or_default()
    }

    /// Group and kind of the object, unless the request is for a part of it such as its status.
    fn whole_kind(&self) -> Option<(&str, &str)> {
        let whole = self.sub_resource.as_deref().unwrap_or_default().is_empty();
        let kind = self.kind.as_ref().filter(|_| whole)?;
        Some((kind.group.as_deref().unwrap_or_default(), &kind.kind))
    }
}

/// Answers one AdmissionReview of a pod.
///
/// # Errors
/// A body that is no AdmissionReview of a version we know, or has no uid to answer to.
pub fn review(body: &[u8], snapshot: &Snapshot) -> Result<Reviewed, ReviewError> {
    let opened: Opened<'_, Pod<'_>> = open(body)?;
    let request = &opened.request;
    let namespace = request.namespace();
    let empty = Pod::default();
    let pod = request.object.as_ref();
    let is_pod =
        pod.is_some_and(|pod| pod.spec.is_some()) && request.whole_kind() == Some(("", "Pod"));
    let pod = pod.unwrap_or(&empty);
    let object = || whole_object(body);
    let outcome = inject::inject(
        &inject::Request {
            namespace,
            operation: request.operation(),
            is_pod,
            dry_run: request.dry_run.unwrap_or(false),
            pod,
            object: &object,
            claims: &[],
            facts: snapshot.namespaces.get(namespace).map(Arc::as_ref),
            sidecars: snapshot.sidecars,
            renderings: &snapshot.renderings,
            before_patch: Response::BEFORE_PATCH,
        },
        &snapshot.catalogue,
    );

    let mut summary = opened.summary(Webhook::Mutate, "skipped", pod.name());
    let mut response = opened.response();
    match &outcome.verdict {
        Verdict::Skipped(skip) => {
            summary.reason = skip.as_str();
            response.allowed();
        }
        Verdict::Injected(_) => {
            summary.outcome = "injected";
            summary.reason = "Injected";
            summary.instances = new_instances(&outcome.instances);
            response.allowed();
            // The API server prefixes the key with the webhook's name.
            response.begin("auditAnnotations");
            let instances = summary.instances.join(",");
            push_object(&mut response.json, [("injected", instances.as_str())]);
        }
        Verdict::Denied(problems) => {
            let message = problem::message(problems);
            summary.outcome = "denied";
            summary.instances = new_instances(&outcome.instances);
            summary.reason = problems.first().map_or("", |problem| problem.code.as_str());
            response.denied(&message);
            summary.message = Some(message);
            summary.owner = Owner::of(pod);
        }
    }
    response.warnings(&outcome.warnings);
    let body = match outcome.verdict {
        Verdict::Injected(patch) => response.finish_with(patch),
        Verdict::Skipped(_) | Verdict::Denied(_) => response.finish(),
    };
    Ok(Reviewed { body, summary })
}

/// `instance=profile` of those that the pod did not have.
fn new_instances(reports: &[Report<'_>]) -> Vec<String> {
    reports
        .iter()
        .filter(|report| !report.is_present())
        .map(|Report { instance, .. }| format!("{}={}", instance.name, instance.entry.profile.name))
        .collect()
}

/// The pod as a tree, for expressions that read `object`.
fn whole_object(body: &[u8]) -> Json {
    #[derive(Deserialize)]
    struct Whole {
        request: WholeRequest,
    }
    #[derive(Deserialize)]
    struct WholeRequest {
        object: Json,
    }
    serde_json::from_slice::<Whole>(body).map_or(Json::Null, |whole| whole.request.object)
}

/// The answer, written member by member. A patch comes first, in the buffer that it was written to.
struct Response<'r> {
    json: String,
    api_version: &'r str,
    kind: &'r str,
}

impl<'r> Response<'r> {
    const BEGIN: &'static str = "{\"response\":{";
    /// What stands before the patch, and behind it. `patch` and `patchType` come together or not at all.
    const BEFORE_PATCH: &'static str = "{\"response\":{\"patchType\":\"JSONPatch\",\"patch\":\"";
    const BEHIND_PATCH: &'static str = "\",";

    fn new(api_version: &'r str, kind: &'r str, uid: &str) -> Self {
        let mut json = String::with_capacity(512);
        json.push_str(Self::BEGIN);
        json.push_str("\"uid\":");
        push_quoted(&mut json, uid);
        Self {
            json,
            api_version,
            kind,
        }
    }

    fn member(&mut self, name: &str, json: &str) {
        self.begin(name);
        self.json.push_str(json);
    }

    /// Begins a member, whose value is then written.
    fn begin(&mut self, name: &str) {
        self.json.push_str(",\"");
        self.json.push_str(name);
        self.json.push_str("\":");
    }

    fn allowed(&mut self) {
        self.member("allowed", "true");
    }

    /// 422: the pod asks for something that cannot be.
    fn denied(&mut self, message: &str) {
        self.member("allowed", "false");
        let status = format!(
            "{{\"code\":422,\"reason\":\"Invalid\",\"message\":{}}}",
            quote(message)
        );
        self.member("status", &status);
    }

    fn warnings(&mut self, warnings: &[String]) {
        if warnings.is_empty() {
            return;
        }
        self.begin("warnings");
        let mut left = MAX_WARNINGS;
        for (index, warning) in warnings.iter().enumerate() {
            let text = shorten(warning, MAX_WARNING);
            if text.len() > left {
                break;
            }
            left -= text.len();
            self.json.push(if index == 0 { '[' } else { ',' });
            push_quoted(&mut self.json, &text);
        }
        self.json.push(']');
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push_str("},\"apiVersion\":");
        push_quoted(&mut self.json, self.api_version);
        self.json.push_str(",\"kind\":");
        push_quoted(&mut self.json, self.kind);
        self.json.push('}');
        self.json.into_bytes()
    }

    /// The same with a patch, which was written behind [`Self::BEFORE_PATCH`].
    fn finish_with(self, patch: Patch) -> Vec<u8> {
        let rest = self.finish();
        let mut answer = patch.into_answer();
        answer.extend_from_slice(Self::BEHIND_PATCH.as_bytes());
        answer.extend_from_slice(rest.get(Self::BEGIN.len()..).unwrap_or_default());
        answer
    }
}

/// One line of printable text.
fn clean(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain || !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// One line of printable text of at most so many bytes.
pub fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    let clean = clean(text);
    if clean.len() <= limit {
        return clean;
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &clean[..end]))
}
