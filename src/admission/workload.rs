//! The review of workloads: what a person is told when a Deployment is applied whose pods will not become what
//! its annotations say.
//!
//! A pod that a controller makes is refused where nobody looks: in an event of a ReplicaSet. So the same engine
//! is asked here, about the pod template, while somebody still reads the answer. It is advice: a workload is
//! always let through.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::{
    MAX_WARNING, MAX_WARNINGS, Opened, ReviewError, Reviewed, Snapshot, Webhook, clean, open,
};
use crate::inject::decide::{DOMAIN, INJECTION_LABEL};
use crate::inject::pod::{Pairs, Pod, Text};
use crate::inject::problem::{MAX_TOLD, shown_key};
use crate::inject::{self, Code, INJECT, Problem, STATUS, Skip, Verdict};
use crate::json::Written;
use crate::profile::compile::FILES;
use crate::profile::document::LabelSelector;
use crate::profile::parameter;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Workload<'a> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    spec: Option<Spec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    labels: Option<Pairs<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Pairs<'a>>,
    #[serde(default)]
    owner_references: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    template: Option<Written<'a>>,
    #[serde(borrow, default)]
    job_template: Option<JobTemplate<'a>>,
    #[serde(borrow, default)]
    volume_claim_templates: Option<Vec<Claim<'a>>>,
}

/// A volume that the pods of a StatefulSet get from its controller.
#[derive(Default, Deserialize)]
struct Claim<'a> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Default, Deserialize)]
struct JobTemplate<'a> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    spec: Option<JobSpec<'a>>,
}

#[derive(Default, Deserialize)]
struct JobSpec<'a> {
    #[serde(borrow, default)]
    template: Option<Written<'a>>,
}

/// A kind of workload, and where it keeps the annotations of its pods.
struct Kind {
    name: &'static str,
    annotations: &'static str,
}

impl Kind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        let name = match (group, kind) {
            ("apps", "Deployment") => "Deployment",
            ("apps", "StatefulSet") => "StatefulSet",
            ("apps", "DaemonSet") => "DaemonSet",
            ("apps", "ReplicaSet") => "ReplicaSet",
            ("batch", "Job") => "Job",
            ("batch", "CronJob") => "CronJob",
            _ => return None,
        };
        let annotations = match name {
            "CronJob" => "spec.jobTemplate.spec.template.metadata.annotations",
            _ => "spec.template.metadata.annotations",
        };
        Some(Self { name, annotations })
    }
}

/// Answers one AdmissionReview of a workload: it is allowed, and the warnings say what is wrong with it.
///
/// # Errors
/// A body that is no AdmissionReview of a version we know, or has no uid to answer to.
pub fn review_workload(body: &[u8], snapshot: &Snapshot) -> Result<Reviewed, ReviewError> {
    let opened: Opened<'_, Written<'_>> = open(body)?;
    let mut name = String::new();
    let told = look(&opened, snapshot, &mut name);
    let mut summary = opened.summary(Webhook::Workload, "allowed", &name);
    let mut response = opened.response();
    response.allowed();
    if !told.warnings.is_empty() {
        summary.outcome = "warned";
        response.warnings(&lines(&told.warnings));
    }
    summary.reason = told.reason.unwrap_or("Clean");
    Ok(Reviewed {
        body: response.finish(),
        summary,
    })
}

/// What there is to say, and why: the code of the first of it, one of a closed set.
#[derive(Default)]
struct Told {
    reason: Option<&'static str>,
    warnings: Vec<String>,
}

impl Told {
    fn nothing(reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            warnings: Vec::new(),
        }
    }

    fn warn(&mut self, reason: &'static str, warning: String) {
        self.reason.get_or_insert(reason);
        self.warnings.push(warning);
    }
}

fn look(opened: &Opened<'_, Written<'_>>, snapshot: &Snapshot, name: &mut String) -> Told {
    let request = &opened.request;
    let kind = request
        .whole_kind()
        .and_then(|(group, kind)| Kind::of(group, kind));
    let written = matches!(request.operation(), "CREATE" | "UPDATE");
    let (Some(kind), true, Some(object)) = (kind, written, request.object) else {
        return Told::nothing("NotAWorkload");
    };
    let Ok(workload) = serde_json::from_str::<Workload<'_>>(object.get()) else {
        // The API server has decoded it before us, so this is none of its own.
        return Told::nothing("Unreadable");
    };
    let (own, spec) = (
        workload.metadata.unwrap_or_default(),
        workload.spec.unwrap_or_default(),
    );
    let given = own.name.as_deref().filter(|name| !name.is_empty());
    *name = given
        .or(own.generate_name.as_deref())
        .unwrap_or_default()
        .to_owned();
    if own.deletion_timestamp.is_some() {
        return Told::nothing("BeingDeleted");
    }
    // Whoever made it was told already, and a controller reads no warnings.
    let made = own
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty());
    if made && matches!(kind.name, "ReplicaSet" | "Job") {
        return Told::nothing("Owned");
    }
    let claims = spec.volume_claim_templates.unwrap_or_default();
    let claims: Vec<&str> = claims
        .iter()
        .filter_map(|claim| claim.metadata.as_ref()?.name.as_deref())
        .collect();
    let (job, template) = match (kind.name, spec.job_template) {
        ("CronJob", job) => {
            let job = job.unwrap_or_default();
            let template = job.spec.and_then(|spec| spec.template);
            (job.metadata.unwrap_or_default(), template)
        }
        _ => (Metadata::default(), spec.template),
    };
    let template = template.map_or("{}", Written::get);
    let Ok(pod) = Pod::parse(template.as_bytes()) else {
        return Told::nothing("Unreadable");
    };
    let pods = pod.metadata.as_ref();
    let pods = Keys {
        annotations: pods.and_then(|metadata| metadata.annotations.as_ref()),
        labels: pods.and_then(|metadata| metadata.labels.as_ref()),
    };
    let all = [pods, Keys::of(&own), Keys::of(&job)];
    if !all.iter().any(Keys::mention_us) {
        return Told::nothing("NotMentioned");
    }
    let review = Review {
        at: format!("the {}", kind.name),
        kind,
        annotations: pairs(pods.annotations).collect(),
        labels: pairs(pods.labels).collect(),
        instances: all.iter().flat_map(Keys::instances).collect(),
        all,
        pod: &pod,
        template,
        name,
        claims,
        namespace: request.namespace(),
        dry_run: request.dry_run.unwrap_or(false),
        snapshot,
    };
    review.look()
}

/// A workload that mentions us somewhere.
struct Review<'a> {
    kind: Kind,
    /// `the Deployment`.
    at: String,
    /// What its pods get, its own, and what the jobs of a CronJob get.
    all: [Keys<'a>; 3],
    /// The annotations that its pods get.
    annotations: HashMap<&'a str, &'a str>,
    /// The labels that its pods get.
    labels: HashMap<&'a str, &'a str>,
    /// Names that it gives to instances, wherever and however it does.
    instances: HashSet<&'a str>,
    pod: &'a Pod<'a>,
    /// The pod template as JSON.
    template: &'a str,
    name: &'a str,
    /// The volumes that the pods get besides.
    claims: Vec<&'a str>,
    namespace: &'a str,
    dry_run: bool,
    snapshot: &'a Snapshot,
}

/// What a key of ours, or one that was meant to be, is for.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// [`INJECT`].
    Inject,
    /// `INSTANCE.outrigger.dev/PARAMETER`.
    Parameter,
    /// We write it, on pods.
    Written,
    /// [`INJECTION_LABEL`], which is for namespaces.
    OfNamespaces,
    /// Nearly a key of ours: this one.
    Misspelt(String),
    /// Below our domain, and like nothing there is.
    Unknown,
}

/// What is said of [`Key::Unknown`].
const UNKNOWN: &str = "Outrigger knows no such annotation; outrigger.dev/inject asks for profiles";

type Pair<'p> = (&'p str, &'p str);

fn pairs<'p>(pairs: Option<&'p Pairs<'_>>) -> impl Iterator<Item = Pair<'p>> {
    let list = pairs.map_or(&[][..], |pairs| pairs.0.as_slice());
    list.iter().map(|(key, value)| (&**key, &**value))
}

/// Whether a key may be about us, however its author spelt our domain.
fn mentions_us(key: &str) -> bool {
    key.to_ascii_lowercase().contains("outrigger.")
}

/// The annotations and labels at one place.
#[derive(Clone, Copy)]
struct Keys<'a> {
    annotations: Option<&'a Pairs<'a>>,
    labels: Option<&'a Pairs<'a>>,
}

impl<'a> Keys<'a> {
    fn of(metadata: &'a Metadata<'a>) -> Self {
        Self {
            annotations: metadata.annotations.as_ref(),
            labels: metadata.labels.as_ref(),
        }
    }

    fn all(&self) -> impl Iterator<Item = Pair<'a>> + use<'a> {
        pairs(self.annotations).chain(pairs(self.labels))
    }

    fn mention_us(&self) -> bool {
        self.all().any(|(key, _)| mentions_us(key))
    }

    fn instances(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.all()
            .filter(|(key, _)| key.ends_with("/inject") && mentions_us(key))
            .flat_map(|(_, list)| list.split(','))
            .filter_map(|item| Some(item.split_once('=')?.0.trim()))
    }
}

impl Review<'_> {
    fn look(&self) -> Told {
        let mut told = Told::default();
        let advice = self.ask_the_engine(&mut told);
        let [pods, own, job] = &self.all;
        let at_job = "spec.jobTemplate.metadata";
        self.misplaced(own, &self.at, &mut told);
        self.misplaced(job, at_job, &mut told);
        // The labels of a workload are mostly those of its pods: one of both is told of once.
        let elsewhere = |pair: &Pair<'_>| !self.labels.contains_key(pair.0);
        let labels = pairs(own.labels).filter(elsewhere);
        self.labelled(labels, &self.at, &mut told);
        self.labelled(pairs(job.labels).filter(elsewhere), at_job, &mut told);
        self.labelled(pairs(pods.labels), "the pod template", &mut told);

        for warning in advice.warnings {
            told.warn("Advice", warning);
        }
        if told.warnings.is_empty() {
            told.reason = advice.skip.map(Skip::as_str);
        }
        told
    }

    /// What the engine will say to the pods.
    fn ask_the_engine(&self, told: &mut Told) -> Advice {
        let object = || {
            let template = serde_json::from_str(self.template).unwrap_or_else(|_| json!({}));
            inject::with_claims(template, self.name, &self.claims)
        };
        let facts = self.snapshot.namespaces.get(self.namespace);
        let outcome = inject::inject(
            &inject::Request {
                namespace: self.namespace,
                operation: "CREATE",
                is_pod: self.pod.spec.is_some(),
                dry_run: self.dry_run,
                pod: self.pod,
                object: &object,
                claims: &self.claims,
                facts: facts.map(Arc::as_ref),
                sidecars: self.snapshot.sidecars,
                renderings: &self.snapshot.renderings,
                before_patch: "",
            },
            &self.snapshot.catalogue,
        );
        let mut skip = None;
        match outcome.verdict {
            Verdict::Denied(problems) => {
                let sure = |problem: &&Problem| !self.is_new_namespace() || !may_pass(problem.code);
                for problem in problems.iter().filter(sure).take(MAX_TOLD) {
                    told.warn(
                        problem.code.as_str(),
                        format!("pods of this {} will be refused: {problem}", self.kind.name),
                    );
                }
            }
            Verdict::Skipped(reason) => skip = Some(reason),
            Verdict::Injected(_) => {}
        }
        self.unheard(skip, told);
        Advice {
            warnings: outcome.warnings,
            skip,
        }
    }

    /// Whether the namespace is one of which nothing is known yet, though others are: it was applied a moment
    /// ago, likely with the same command.
    fn is_new_namespace(&self) -> bool {
        let known = &self.snapshot.namespaces;
        !known.is_empty() && !known.contains_key(self.namespace)
    }

    /// Annotations of the pod template that nobody will read. The engine refuses those below our domain when it
    /// has something to inject; here are the others.
    fn unheard(&self, skip: Option<Skip>, told: &mut Told) {
        if matches!(skip, Some(Skip::OptedOut)) {
            return;
        }
        let at = self.kind.annotations;
        let mut parameters = Vec::new();
        for (key, _) in pairs(self.all[0].annotations) {
            let ours = key
                .split_once('/')
                .is_some_and(|(domain, _)| is_ours(&domain.to_ascii_lowercase()));
            if told.warnings.len() >= MAX_TOLD || ours && skip != Some(Skip::NotAsked) {
                continue;
            }
            let shown = shown_key(key);
            match self.read(key) {
                None | Some(Key::Inject | Key::Written) => {}
                Some(Key::Parameter) => parameters.push(shown),
                Some(Key::Misspelt(right)) => told.warn(
                    "Misspelt",
                    format!("{shown} in {at} does nothing: did you mean {right}?"),
                ),
                Some(Key::OfNamespaces) => told.warn(
                    "Misplaced",
                    format!("{shown} in {at} does nothing: it is a label for namespaces"),
                ),
                Some(Key::Unknown) => told.warn(
                    "Unknown",
                    format!("{shown} in {at} does nothing: {UNKNOWN}"),
                ),
            }
        }
        // If `inject` stands elsewhere, there is a warning that brings it here.
        let asks = self
            .all
            .iter()
            .flat_map(Keys::all)
            .any(|(key, _)| match self.read(key) {
                Some(Key::Inject) => true,
                Some(Key::Misspelt(right)) => right == INJECT,
                _ => false,
            });
        if asks || self.is_new_namespace() {
            return;
        }
        if let [first, others @ ..] = parameters.as_slice() {
            let what = match others.len() {
                0 => format!("{first} does nothing"),
                more => format!("{first} and {more} more do nothing"),
            };
            let why = "neither the pods nor their namespace ask for injection";
            told.warn("Unheard", format!("{what}: {why}; add {INJECT} to {at}"));
        }
    }

    /// Annotations that stand where pods do not get them.
    fn misplaced(&self, found: &Keys<'_>, at: &str, told: &mut Told) {
        let right_place = self.kind.annotations;
        for (key, value) in pairs(found.annotations) {
            let Some(meaning) = self.read(key) else {
                continue;
            };
            if told.warnings.len() >= MAX_TOLD {
                return;
            }
            let there = self.annotations.get(key);
            // Some tools annotate everything alike; nothing is lost then.
            if there.is_some_and(|known| *known == value) {
                continue;
            }
            let (reason, what) = match meaning {
                Key::Inject | Key::Parameter if there.is_some() => (
                    "Misplaced",
                    format!("pods follow the other value, in {right_place}"),
                ),
                Key::Inject | Key::Parameter => ("Misplaced", format!("move it to {right_place}")),
                Key::Misspelt(right) => {
                    ("Misspelt", format!("write it as {right} in {right_place}"))
                }
                Key::Written => (
                    "Misplaced",
                    "Outrigger itself writes it, on pods; remove it".to_owned(),
                ),
                Key::OfNamespaces => ("Misplaced", "it is a label for namespaces".to_owned()),
                Key::Unknown => ("Unknown", UNKNOWN.to_owned()),
            };
            told.warn(
                reason,
                format!("{} on {at} does nothing: {what}", shown_key(key)),
            );
        }
    }

    /// Labels that should have been annotations.
    fn labelled<'p>(&self, found: impl Iterator<Item = Pair<'p>>, at: &str, told: &mut Told) {
        let right_place = self.kind.annotations;
        for (key, value) in found {
            let Some(meaning) = self.read(key) else {
                continue;
            };
            if told.warnings.len() >= MAX_TOLD {
                return;
            }
            // Somebody may select by a label what is asked for by the annotation.
            let also = self.annotations.get(key) == Some(&value);
            if also || self.selects(key, false) {
                continue;
            }
            let (reason, what) = match meaning {
                _ if self.selects(key, true) => ("Label", "it is for namespaces".to_owned()),
                Key::OfNamespaces => ("Label", "it is for namespaces".to_owned()),
                Key::Parameter if !self.names_instance(key) => {
                    ("Label", "Outrigger knows no such label".to_owned())
                }
                Key::Inject | Key::Parameter => ("Label", format!("move it to {right_place}")),
                Key::Misspelt(right) => ("Label", format!("write it as {right} in {right_place}")),
                Key::Written => (
                    "Label",
                    "Outrigger itself writes it, as an annotation of pods; remove it".to_owned(),
                ),
                Key::Unknown => ("Label", "Outrigger knows no such label".to_owned()),
            };
            told.warn(
                reason,
                format!("the label {} on {at} does nothing: {what}", shown_key(key)),
            );
        }
    }

    /// Whether some profile selects pods, or namespaces, by this label.
    fn selects(&self, key: &str, namespaces: bool) -> bool {
        let names = |selector: Option<&LabelSelector>| {
            selector.is_some_and(|selector| {
                selector.match_labels.contains_key(key)
                    || selector
                        .match_expressions
                        .iter()
                        .any(|requirement| requirement.key == key)
            })
        };
        self.snapshot.catalogue.iter().any(|entry| {
            let profile = &entry.profile;
            let selector = profile.selector.as_ref();
            if namespaces {
                let allow = profile.allow.as_ref();
                names(allow.map(|allow| &allow.namespace_selector))
                    || names(selector.and_then(|selector| selector.namespace_selector.as_ref()))
            } else {
                names(selector.and_then(|selector| selector.pod_selector.as_ref()))
            }
        })
    }

    fn read(&self, key: &str) -> Option<Key> {
        read(key, &|instance| self.is_instance(instance))
    }

    fn names_instance(&self, key: &str) -> bool {
        inject::decide::parameter_key(key).is_some_and(|(instance, _)| self.is_instance(instance))
    }

    /// Whether a name is one that parameters can be meant for: that of a profile or of an instance.
    fn is_instance(&self, name: &str) -> bool {
        self.instances.contains(name) || self.snapshot.catalogue.get(name).is_some()
    }
}

/// Whether a problem may be none any more when more is known of the namespace, which sets parameters and allows
/// profiles.
fn may_pass(code: Code) -> bool {
    matches!(code, Code::MissingParameter | Code::Rule | Code::NotAllowed)
}

/// What the engine has to say besides a refusal.
struct Advice {
    warnings: Vec<String>,
    skip: Option<Skip>,
}

/// Whether the domain of a key, in lower case, is ours.
fn is_ours(domain: &str) -> bool {
    domain
        .strip_suffix(DOMAIN)
        .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

/// What a key is for; `None` if it is none of ours. `is_instance` says which names instances have.
fn read(key: &str, is_instance: &dyn Fn(&str) -> bool) -> Option<Key> {
    let (domain, name) = key.split_once('/')?;
    let lower = domain.to_ascii_lowercase();
    let like_inject = || parameter::nearest(name, ["inject"].into_iter()).is_some();
    if lower == DOMAIN {
        return Some(match key {
            INJECT => Key::Inject,
            STATUS => Key::Written,
            INJECTION_LABEL => Key::OfNamespaces,
            _ if name.eq_ignore_ascii_case("injection") => {
                Key::Misspelt(INJECTION_LABEL.to_owned())
            }
            _ if like_inject() => Key::Misspelt(INJECT.to_owned()),
            _ => Key::Unknown,
        });
    }
    if let Some(instance) = lower.strip_suffix(DOMAIN) {
        // Another domain that only ends like ours is somebody else's.
        let instance = instance.strip_suffix('.')?;
        let strange = !is_instance(instance);
        return Some(match instance {
            FILES => Key::Written,
            // As with other injectors, or the parts of the key in the wrong order.
            "inject" if strange => Key::Misspelt(INJECT.to_owned()),
            _ if strange && name.eq_ignore_ascii_case("inject") => Key::Misspelt(INJECT.to_owned()),
            _ if domain != lower => Key::Misspelt(format!("{lower}/{name}")),
            _ => Key::Parameter,
        });
    }
    // Under another top-level domain there may be other people's keys: only what can hardly be one of them.
    let before = match lower.strip_prefix("outrigger.") {
        Some(_) => "",
        None => lower.split_once(".outrigger.")?.0,
    };
    if before.is_empty() {
        return like_inject().then(|| Key::Misspelt(INJECT.to_owned()));
    }
    is_instance(before).then(|| Key::Misspelt(format!("{before}.{DOMAIN}/{name}")))
}

/// Warnings as lines that the API server passes on whole: a long one goes on in the next line, and what would
/// be too much is counted.
fn lines(warnings: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    // For the line that counts the rest.
    let mut left = MAX_WARNINGS - MAX_WARNING;
    for (index, warning) in warnings.iter().enumerate() {
        let warning = clean(warning);
        let mut folded = fold(&warning, MAX_WARNING);
        // The API server passes on a line only once, so no two warnings may end alike.
        for width in (MAX_WARNING / 2..MAX_WARNING).rev() {
            if !folded.iter().skip(1).any(|line| lines.contains(line)) {
                break;
            }
            folded = fold(&warning, width);
        }
        let length: usize = folded.iter().map(String::len).sum();
        if length > left {
            let more = warnings.len() - index;
            lines.push(format!(
                "and {more} more; `outrigger explain -f FILE` tells what the pods are refused for"
            ));
            break;
        }
        left -= length;
        lines.extend(folded);
    }
    lines
}

/// A text in lines of at most `width` bytes; all but the first are indented.
fn fold(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let mut lines = Vec::new();
    let mut rest = text;
    let mut indent = "";
    while indent.len() + rest.len() > width {
        let mut end = width - indent.len();
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        // At a space, unless that leaves too little.
        let space = rest[..end].rfind(' ').filter(|at| *at > end / 2);
        let (line, after) = rest.split_at(space.unwrap_or(end));
        lines.push(format!("{indent}{line}"));
        rest = after.trim_start();
        indent = INDENT;
    }
    if !rest.is_empty() {
        lines.push(format!("{indent}{rest}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_however_they_are_spelt() {
        let misspelt = |right: &str| Some(Key::Misspelt(right.to_owned()));
        let cases = [
            ("outrigger.dev/inject", Some(Key::Inject)),
            ("outrigger.dev/status", Some(Key::Written)),
            ("files.outrigger.dev/fluentd.a.yaml", Some(Key::Written)),
            ("outrigger.dev/injection", Some(Key::OfNamespaces)),
            ("envoy-tls.outrigger.dev/secret", Some(Key::Parameter)),
            ("db.outrigger.dev/upstream", Some(Key::Parameter)),
            ("outrigger.dev/sidecar", Some(Key::Unknown)),
            ("outrigger.dev/injct", misspelt(INJECT)),
            ("outrigger.dev/Inject", misspelt(INJECT)),
            ("Outrigger.dev/inject", misspelt(INJECT)),
            ("outrigger.io/inject", misspelt(INJECT)),
            ("outrigger.sh/Inject", misspelt(INJECT)),
            ("outrigger.k8s.io/inject", misspelt(INJECT)),
            ("inject.outrigger.dev/envoy-tls", misspelt(INJECT)),
            ("sidecar.outrigger.dev/inject", misspelt(INJECT)),
            (
                "Envoy-TLS.Outrigger.dev/secret",
                misspelt("envoy-tls.outrigger.dev/secret"),
            ),
            (
                "envoy-tls.outrigger.io/secret",
                misspelt("envoy-tls.outrigger.dev/secret"),
            ),
            // Other people's.
            ("outrigger.com/team", None),
            ("hotel.outrigger.com/room", None),
            ("suboutrigger.dev/inject", None),
            ("outrigger.development.example/colour", None),
            ("app.kubernetes.io/name", None),
            ("outrigger", None),
            ("", None),
        ];
        for (key, expected) in cases {
            assert_eq!(read(key, &|name| name == "envoy-tls"), expected, "{key}");
        }
    }

    #[test]
    fn long_warnings_go_on_in_the_next_line() {
        assert_eq!(fold("short", MAX_WARNING), ["short"]);
        assert!(fold("", MAX_WARNING).is_empty());
        let exact = "x".repeat(MAX_WARNING);
        assert_eq!(fold(&exact, MAX_WARNING), [exact.as_str()]);
        let word = "ä".repeat(150);
        for text in [
            "a few words that are said again ".repeat(12),
            word.clone(),
            format!("{} {word} end", "y".repeat(100)),
        ] {
            let folded = fold(&text, MAX_WARNING);
            assert!(folded.len() > 1);
            assert!(folded.iter().all(|line| line.len() <= MAX_WARNING));
            let whole: String = folded.concat();
            let plain = |text: &str| text.replace(' ', "");
            assert_eq!(plain(&whole), plain(&text));
        }
    }

    #[test]
    fn no_two_warnings_end_in_the_same_line() {
        let end = "does nothing: move it to spec.jobTemplate.spec.template.metadata.annotations";
        let warnings: Vec<String> = ["envoy-tls", "fluentd", "log-tail"]
            .iter()
            .map(|name| format!("{name}.outrigger.dev/a-long-parameter on the CronJob {end}"))
            .collect();
        let lines = lines(&warnings);
        assert!(lines.len() > warnings.len());
        let distinct: std::collections::BTreeSet<_> = lines.iter().collect();
        assert_eq!(distinct.len(), lines.len(), "{lines:#?}");
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let warnings: Vec<String> = (0..100)
            .map(|n| format!("{n} {}", "z".repeat(100)))
            .collect();
        let lines = lines(&warnings);
        assert!(lines.iter().map(String::len).sum::<usize>() <= MAX_WARNINGS);
        let last = lines.last().unwrap();
        assert_eq!(
            last.split_once(" more").unwrap().0,
            format!("and {}", 100 - (lines.len() - 1))
        );
    }
}
