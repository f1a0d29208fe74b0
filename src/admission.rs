//! The AdmissionReview envelope: bytes in, bytes out.
//!
//! `admission.k8s.io/v1` is what we register for; v1beta1 has the same fields and is answered in kind. The
//! answer is written by hand, around a patch that is already JSON text, because the patch travels as base64
//! of exactly these bytes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::inject::patch::{array, object, quote};
use crate::inject::pod::{Pod, Text};
use crate::inject::{self, Namespaces, SidecarMode, Verdict, problem};
use crate::profile::Catalogue;

/// The longest warning that the API server passes on without cutting it.
const MAX_WARNING: usize = 120;
/// The sum of the lengths of all warnings that the API server passes on.
const MAX_WARNINGS: usize = 4096;

/// What a review came to, for the log line and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `injected`, `skipped` or `denied`.
    pub outcome: &'static str,
    /// The reason code, one of a closed set: safe as a metric label.
    pub reason: &'static str,
    /// `request.uid`.
    pub uid: String,
    /// `request.namespace`.
    pub namespace: String,
    /// The pod's name, or its `generateName` when a controller made it.
    pub name: String,
    /// `instance=profile` of each instance added by this answer.
    pub instances: Vec<String>,
    /// Whether the request was a dry run.
    pub dry_run: bool,
    /// The message of a denial.
    pub message: Option<String>,
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
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
    #[serde(borrow, default)]
    object: Option<Pod<'a>>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    group: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Text<'a>,
}

/// Answers one AdmissionReview.
///
/// # Errors
/// A body that is no AdmissionReview of a version we know, or has no uid to answer to.
pub fn review(body: &[u8], snapshot: &Snapshot) -> Result<Reviewed, ReviewError> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(|error| ReviewError {
        message: format!("the body is no AdmissionReview: {error}"),
    })?;
    let refuse = |message: String| Err(ReviewError { message });
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
    let Some(request) = &review.request else {
        return refuse("request: missing".to_owned());
    };
    let Some(uid) = request.uid.as_deref().filter(|uid| !uid.is_empty()) else {
        return refuse("request.uid: missing or empty".to_owned());
    };

    let namespace = request.namespace.as_deref().unwrap_or_default();
    let empty = Pod::default();
    let pod = request.object.as_ref();
    let is_pod = pod.is_some_and(|pod| pod.spec.is_some())
        && request.kind.as_ref().is_some_and(|kind| {
            &*kind.kind == "Pod" && kind.group.as_deref().unwrap_or_default().is_empty()
        })
        && request
            .sub_resource
            .as_deref()
            .unwrap_or_default()
            .is_empty();
    let pod = pod.unwrap_or(&empty);
    let object = || whole_object(body);
    let outcome = inject::inject(
        &inject::Request {
            namespace,
            operation: request.operation.as_deref().unwrap_or_default(),
            is_pod,
            dry_run: request.dry_run.unwrap_or(false),
            pod,
            object: &object,
            claims: &[],
            facts: snapshot.namespaces.get(namespace).map(Arc::as_ref),
            sidecars: snapshot.sidecars,
        },
        &snapshot.catalogue,
    );

    let mut summary = Summary {
        outcome: "skipped",
        reason: "",
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: pod.name().to_owned(),
        instances: Vec::new(),
        dry_run: request.dry_run.unwrap_or(false),
        message: None,
    };
    let mut response = Response::new(&review.api_version, &review.kind, uid);
    match &outcome.verdict {
        Verdict::Skipped(skip) => {
            summary.reason = skip.as_str();
            response.allowed();
        }
        Verdict::Injected(patch) => {
            summary.outcome = "injected";
            summary.reason = "Injected";
            summary.instances = outcome
                .instances
                .iter()
                .filter(|report| !report.present)
                .map(|report| {
                    format!(
                        "{}={}",
                        report.instance.name, report.instance.entry.profile.name
                    )
                })
                .collect();
            response.allowed();
            response.patch(&patch.to_json());
            // The API server prefixes the key with the webhook's name.
            response.member(
                "auditAnnotations",
                &object_of("injected", &summary.instances.join(",")),
            );
        }
        Verdict::Denied(problems) => {
            let message = problem::message(problems);
            summary.outcome = "denied";
            summary.reason = problems.first().map_or("", |problem| problem.code.as_str());
            response.denied(&message);
            summary.message = Some(message);
        }
    }
    response.warnings(&outcome.warnings);
    Ok(Reviewed {
        body: response.finish(),
        summary,
    })
}

fn object_of(key: &str, value: &str) -> String {
    object([(key, value)])
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

/// The response, written member by member.
struct Response {
    json: String,
}

impl Response {
    fn new(api_version: &str, kind: &str, uid: &str) -> Self {
        let json = format!(
            "{{\"apiVersion\":{},\"kind\":{},\"response\":{{\"uid\":{}",
            quote(api_version),
            quote(kind),
            quote(uid)
        );
        Self { json }
    }

    fn member(&mut self, name: &str, json: &str) {
        self.json.push_str(",\"");
        self.json.push_str(name);
        self.json.push_str("\":");
        self.json.push_str(json);
    }

    fn allowed(&mut self) {
        self.member("allowed", "true");
    }

    /// `patch` and `patchType` come together or not at all.
    fn patch(&mut self, patch: &str) {
        self.member("patchType", "\"JSONPatch\"");
        self.json.push_str(",\"patch\":\"");
        STANDARD.encode_string(patch, &mut self.json);
        self.json.push('"');
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
        let mut left = MAX_WARNINGS;
        let mut texts = Vec::with_capacity(warnings.len());
        for warning in warnings {
            let text = shorten(warning);
            if text.len() > left {
                break;
            }
            left -= text.len();
            texts.push(quote(&text));
        }
        if !texts.is_empty() {
            self.member("warnings", &array(texts.iter().map(String::as_str)));
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push_str("}}");
        self.json.into_bytes()
    }
}

/// A warning as the API server passes it on: one line of printable text, not too long.
fn shorten(warning: &str) -> String {
    let clean: String = warning
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if clean.len() <= MAX_WARNING {
        return clean;
    }
    let mut end = MAX_WARNING - '…'.len_utf8();
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &clean[..end])
}
