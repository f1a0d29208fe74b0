//! What pods that run have, against what they asked for.
//!
//! A pod gets its sidecars when it is created, or never: one that was created before the install, while the webhook
//! was away and its failure policy `Ignore`, or before its namespace had defaults, asks and does not have. One that was
//! injected by an older revision of a profile keeps it until its next rollout.
//!
//! Everything here is a pure function of metadata. A status annotation is taken at its word, and that a pod is for
//! Windows stands in its spec: such a pod that asks counts as missed.

mod auditor;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::core::{ObjectMeta, PartialObjectMeta, Selector, SelectorExt};
use serde::Serialize;
use serde_json::json;

pub(crate) use auditor::UNFINISHED;
pub use auditor::{Counts, Settings, follow, pages};

use super::registration::Hook;
use crate::inject::decide::{self, Decision, MIRROR, instance_of};
use crate::inject::status::Status;
use crate::inject::{INJECT, Namespace, Namespaces, Origin, Pod, STATUS};
use crate::profile::Catalogue;

/// The label by which a Deployment tells the pods of its ReplicaSets apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Namespaces that the chart's registration always leaves out.
const CONTROL_PLANE: [&str; 2] = ["kube-system", "kube-node-lease"];

/// What a pod is judged by.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The profiles.
    pub catalogue: Catalogue,
    /// Revisions that serve although the catalogue has another one under that name, or none.
    pub serving: BTreeMap<String, String>,
    /// What is known of namespaces.
    pub namespaces: Option<&'a Namespaces>,
    /// Which pods the API server calls the webhook for.
    pub reach: Reach,
}

/// Which pods the registrations of the webhook select: of each webhook its selectors of namespaces and of pods.
#[derive(Debug, Clone, Default)]
pub struct Reach(Vec<(Selector, Selector)>);

/// What a pod came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It has everything that it asked for.
    Injected(Vec<Had>),
    /// It asked for instances that it does not have.
    Missed {
        /// `instance=profile`, or the profile where both are the same.
        missed: Vec<String>,
        /// Those that it has.
        instances: Vec<Had>,
    },
    /// It did not ask and has nothing, or nothing could be done for it.
    NotConcerned,
}

/// An instance that a pod has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Had {
    /// Its name.
    pub instance: String,
    /// Its profile.
    pub profile: String,
    /// The revision that it was injected by.
    pub revision: String,
    /// The revision that a new pod would get; none if there is no profile of that name.
    pub current: Option<String>,
}

/// What a pod counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It lacks something that it asked for.
    Missed,
    /// It has everything, something of it by an older revision.
    Stale,
    /// It has everything.
    Injected,
}

/// Pods of one workload that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Group {
    /// The namespace.
    pub namespace: String,
    /// What makes the pods: `Deployment/web`.
    pub workload: String,
    /// What they count as.
    pub state: State,
    /// What they have.
    pub instances: Vec<Had>,
    /// What they lack.
    pub missed: Vec<String>,
}

/// The pods of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many there are.
    pub count: u64,
    /// When the oldest of them was created.
    pub oldest: Option<Timestamp>,
}

/// Groups of pods, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(pub BTreeMap<Group, Pods>);

impl Had {
    /// Whether new pods get another revision. Nobody knows of a profile that is not there.
    pub fn is_stale(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| *current != self.revision)
    }

    /// `db=envoy-egress`, or the profile where the instance has its name.
    pub fn title(&self) -> String {
        title(&self.instance, &self.profile)
    }
}

impl Finding {
    /// What the pod counts as; none if it does not concern us.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::NotConcerned => None,
            Self::Missed { .. } => Some(State::Missed),
            Self::Injected(instances) if instances.iter().any(Had::is_stale) => Some(State::Stale),
            Self::Injected(_) => Some(State::Injected),
        }
    }
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Missed, Self::Stale, Self::Injected];

    /// As it stands in metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Stale => "stale",
            Self::Injected => "injected",
        }
    }
}

fn title(instance: &str, profile: &str) -> String {
    if instance == profile {
        profile.to_owned()
    } else {
        format!("{instance}={profile}")
    }
}

impl Reach {
    /// What these webhooks select, as far as they take pods. Without any, only the control plane is out of reach:
    /// a pod that asks while nothing is registered is missed.
    pub fn new<'h>(hooks: impl IntoIterator<Item = &'h Hook>) -> Self {
        let selectors = |hook: &Hook| {
            let namespaces = hook.namespaces.clone().try_into();
            let objects = hook.objects.clone().try_into();
            // A selector that does not parse is refused by the API server.
            Some((namespaces.ok()?, objects.ok()?))
        };
        let hooks = hooks.into_iter().filter(|hook| hook.takes_pods());
        Self(hooks.filter_map(selectors).collect())
    }

    /// Whether a pod with these labels in this namespace is sent to the webhook. Of a namespace of which nothing is
    /// known, it is taken that it is selected.
    pub fn covers(
        &self,
        name: &str,
        facts: Option<&Namespace>,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        let selects = |(namespaces, objects): &(Selector, Selector)| {
            objects.matches(labels) && facts.is_none_or(|facts| namespaces.matches(&facts.labels))
        };
        !CONTROL_PLANE.contains(&name) && (self.0.is_empty() || self.0.iter().any(selects))
    }
}

impl Facts<'_> {
    fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces?.get(name).map(AsRef::as_ref)
    }

    fn current(&self, profile: &str) -> Option<String> {
        let known = || Some(self.catalogue.get(profile)?.profile.revision.clone());
        self.serving.get(profile).cloned().or_else(known)
    }

    /// Judges one pod.
    pub fn judge(&self, pod: &PartialObjectMeta<v1::Pod>) -> Finding {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let facts = self.namespace(namespace);
        let annotations = metadata.annotations.as_ref();
        let annotation = |key: &str| annotations?.get(key).map(String::as_str);
        if annotation(MIRROR).is_some()
            || metadata.deletion_timestamp.is_some()
            || !self.reach.covers(
                namespace,
                facts,
                metadata.labels.as_ref().unwrap_or(&BTreeMap::new()),
            )
        {
            return Finding::NotConcerned;
        }
        let status = Status::parse(annotation(STATUS));
        let instances: Vec<Had> = status
            .instances
            .iter()
            .map(|record| Had {
                instance: record.instance.clone(),
                profile: record.profile.clone(),
                revision: record.revision.clone(),
                current: self.current(&record.profile),
            })
            .collect();
        let missed: Vec<String> = self
            .asked(metadata, facts)
            .into_iter()
            .filter(|(instance, profile)| status.record(instance, profile).is_none())
            .map(|(instance, profile)| title(&instance, &profile))
            .collect();
        if !missed.is_empty() {
            Finding::Missed { missed, instances }
        } else if instances.is_empty() {
            Finding::NotConcerned
        } else {
            Finding::Injected(instances)
        }
    }

    /// Instances and profiles that the pod was to get, by the same decision as at admission. A profile that is
    /// gone was asked for all the same.
    fn asked(&self, metadata: &ObjectMeta, facts: Option<&Namespace>) -> Vec<(String, String)> {
        let of_pod = |key: &str| metadata.annotations.as_ref()?.get(key);
        // Only what the decision reads: pods carry whole files in annotations.
        let mut annotations = BTreeMap::new();
        if let Some(list) = of_pod(INJECT) {
            annotations.insert(INJECT, list);
        }
        let tree = json!({"metadata": {"labels": metadata.labels, "annotations": annotations}});
        let text = tree.to_string();
        let Ok(pod) = Pod::parse(text.as_bytes()) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let Decision::Inject(decided) =
            decide::decide(&pod, true, facts, &self.catalogue, &mut problems)
        else {
            return Vec::new();
        };
        let of_namespace = || facts?.annotations.get(INJECT);
        let list = of_pod(INJECT).or_else(of_namespace);
        let named = list
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(instance_of)
            .filter(|(_, profile)| !profile.is_empty())
            .map(|(instance, profile)| (instance.to_owned(), profile.to_owned()));
        let matched = decided
            .iter()
            .filter(|instance| instance.origin == Origin::Match)
            .map(|instance| (instance.name.clone(), instance.entry.profile.name.clone()));
        let mut seen = BTreeSet::new();
        named
            .chain(matched)
            .filter(|asked| seen.insert(asked.clone()))
            .collect()
    }
}

/// What makes a pod, as people know it: the Deployment rather than its ReplicaSet.
pub fn workload(metadata: &ObjectMeta) -> String {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let controller = |owner: &&OwnerReference| owner.controller == Some(true);
    let Some(owner) = owners.iter().find(controller) else {
        return format!("Pod/{}", metadata.name.as_deref().unwrap_or_default());
    };
    let hash = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match deployment {
        Some(name) => format!("Deployment/{name}"),
        None => format!("{}/{}", owner.kind, owner.name),
    }
}

impl Report {
    /// Judges a pod and counts it with its like.
    pub fn add(&mut self, facts: &Facts<'_>, pod: &PartialObjectMeta<v1::Pod>) {
        let finding = facts.judge(pod);
        let Some(state) = finding.state() else {
            return;
        };
        let (instances, missed) = match finding {
            Finding::Missed { missed, instances } => (instances, missed),
            Finding::Injected(instances) => (instances, Vec::new()),
            Finding::NotConcerned => return,
        };
        let group = Group {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            workload: workload(&pod.metadata),
            state,
            instances,
            missed,
        };
        let pods = self.0.entry(group).or_default();
        pods.count += 1;
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        pods.oldest = match (pods.oldest, created) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// How many pods are in that state.
    pub fn count(&self, state: State) -> u64 {
        self.0
            .iter()
            .filter(|(group, _)| group.state == state)
            .map(|(_, pods)| pods.count)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::Value as Json;

    fn catalogue() -> Catalogue {
        Catalogue::new(Catalogue::built_in().unwrap())
    }

    fn revision(profile: &str) -> String {
        catalogue().get(profile).unwrap().profile.revision.clone()
    }

    fn namespaces() -> Namespaces {
        let facts = |labels: Json, annotations: Json| {
            Arc::new(Namespace {
                labels: serde_json::from_value(labels).unwrap(),
                annotations: serde_json::from_value(annotations).unwrap(),
            })
        };
        [
            (
                "shop".into(),
                facts(json!({"kubernetes.io/metadata.name": "shop"}), json!({})),
            ),
            (
                "defaults".into(),
                facts(
                    json!({"kubernetes.io/metadata.name": "defaults", "outrigger.dev/injection": "enabled"}),
                    json!({"outrigger.dev/inject": "log-tail, out=log-tail"}),
                ),
            ),
            (
                "outrigger".into(),
                facts(
                    json!({"kubernetes.io/metadata.name": "outrigger"}),
                    json!({}),
                ),
            ),
        ]
        .into_iter()
        .collect()
    }

    fn pod(metadata: Json) -> PartialObjectMeta<v1::Pod> {
        let tree =
            json!({"apiVersion": "v1", "kind": "PartialObjectMetadata", "metadata": metadata});
        serde_json::from_value(tree).unwrap()
    }

    fn in_namespace(namespace: &str, annotations: Json) -> PartialObjectMeta<v1::Pod> {
        pod(json!({"name": "web", "namespace": namespace, "annotations": annotations}))
    }

    fn status(records: &[(&str, &str, &str)]) -> String {
        let records: Vec<_> = records
            .iter()
            .map(|(instance, profile, revision)| json!({"instance": instance, "profile": profile, "revision": revision}))
            .collect();
        json!({"instances": records}).to_string()
    }

    fn judge(pod: &PartialObjectMeta<v1::Pod>) -> Finding {
        let namespaces = namespaces();
        let facts = Facts {
            catalogue: catalogue(),
            namespaces: Some(&namespaces),
            ..Facts::default()
        };
        facts.judge(pod)
    }

    fn missed(finding: Finding) -> Vec<String> {
        match finding {
            Finding::Missed { missed, .. } => missed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_that_asked_and_has_it_all_is_injected() {
        let now = revision("envoy-egress");
        let status = status(&[("db", "envoy-egress", &now)]);
        let annotations =
            json!({"outrigger.dev/inject": "db = envoy-egress", "outrigger.dev/status": status});
        let Finding::Injected(instances) = judge(&in_namespace("shop", annotations)) else {
            panic!();
        };
        assert_eq!(instances[0].title(), "db=envoy-egress");
        assert_eq!(instances[0].revision, now);
        assert!(!instances[0].is_stale());
    }

    #[test]
    fn another_revision_is_stale_and_a_profile_that_is_gone_is_not_judged() {
        let status = status(&[
            ("envoy-tls", "envoy-tls", "0123456789ab"),
            ("gone", "gone", "0123456789ab"),
        ]);
        let annotations =
            json!({"outrigger.dev/inject": "envoy-tls, gone", "outrigger.dev/status": status});
        let Finding::Injected(instances) = judge(&in_namespace("shop", annotations)) else {
            panic!();
        };
        assert!(instances[0].is_stale());
        assert_eq!(instances[1].current, None);
        assert!(!instances[1].is_stale());
    }

    #[test]
    fn a_version_that_is_refused_leaves_the_revision_that_serves() {
        let facts = Facts {
            catalogue: catalogue(),
            serving: BTreeMap::from([("envoy-tls".to_owned(), "0123456789ab".to_owned())]),
            ..Facts::default()
        };
        let status = status(&[("envoy-tls", "envoy-tls", "0123456789ab")]);
        let annotations =
            json!({"outrigger.dev/inject": "envoy-tls", "outrigger.dev/status": status});
        let Finding::Injected(instances) = facts.judge(&in_namespace("shop", annotations)) else {
            panic!();
        };
        assert!(!instances[0].is_stale());
    }

    #[test]
    fn what_a_pod_asked_for_and_lacks_is_missed() {
        let nothing = json!({"outrigger.dev/inject": "envoy-tls, db=envoy-egress, no-such"});
        assert_eq!(
            missed(judge(&in_namespace("shop", nothing))),
            ["envoy-tls", "db=envoy-egress", "no-such"]
        );
        let one = json!({
            "outrigger.dev/inject": "envoy-tls, fluentd",
            "outrigger.dev/status": status(&[("fluentd", "fluentd", "0")]),
        });
        assert_eq!(
            missed(judge(&in_namespace("shop", one.clone()))),
            ["envoy-tls"]
        );
        // Nothing is known of its namespace: the pod's own word is enough.
        assert_eq!(missed(judge(&in_namespace("new", one))), ["envoy-tls"]);
        let broken =
            json!({"outrigger.dev/inject": "envoy-tls", "outrigger.dev/status": "injected"});
        assert_eq!(missed(judge(&in_namespace("shop", broken))), ["envoy-tls"]);
    }

    #[test]
    fn defaults_of_a_namespace_count_unless_the_pod_says_otherwise() {
        let plain = in_namespace("defaults", json!({}));
        assert_eq!(missed(judge(&plain)), ["log-tail", "out=log-tail"]);
        let none = in_namespace("defaults", json!({"outrigger.dev/inject": "none"}));
        assert_eq!(judge(&none), Finding::NotConcerned);
        let own = in_namespace("defaults", json!({"outrigger.dev/inject": "fluentd"}));
        assert_eq!(missed(judge(&own)), ["fluentd"]);
        assert_eq!(
            judge(&in_namespace("shop", json!({}))),
            Finding::NotConcerned
        );
    }

    #[test]
    fn a_profile_that_matches_is_asked_for_too() {
        let text = "{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: greeter}, \
                    spec: {summary: Says hello., match: {podSelector: {matchLabels: {greet: me}}}}}";
        let profile = crate::profile::Profile::parse("file", text).unwrap();
        let namespaces = namespaces();
        let facts = Facts {
            catalogue: Catalogue::new([Arc::new(profile)]),
            namespaces: Some(&namespaces),
            ..Facts::default()
        };
        let labelled =
            pod(json!({"name": "web", "namespace": "defaults", "labels": {"greet": "me"}}));
        let missed = missed(facts.judge(&labelled));
        assert!(missed.contains(&"greeter".to_owned()), "{missed:?}");
    }

    #[test]
    fn pods_that_nothing_can_be_done_for_do_not_concern() {
        let asks = json!({"outrigger.dev/inject": "envoy-tls"});
        let mut mirror = asks.clone();
        mirror["kubernetes.io/config.mirror"] = json!("1");
        assert_eq!(judge(&in_namespace("shop", mirror)), Finding::NotConcerned);
        assert_eq!(
            judge(&in_namespace("kube-system", asks.clone())),
            Finding::NotConcerned
        );
        let ending = pod(json!({
            "name": "web", "namespace": "shop", "annotations": asks,
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        }));
        assert_eq!(judge(&ending), Finding::NotConcerned);
    }

    fn hook(namespaces: Json, objects: Json) -> Hook {
        Hook {
            name: "pods.outrigger.dev".to_owned(),
            namespaces: serde_json::from_value(namespaces).unwrap(),
            objects: serde_json::from_value(objects).unwrap(),
            ..Hook::default()
        }
    }

    #[test]
    fn pods_that_no_registration_selects_do_not_concern() {
        let not_in = |name: &str| {
            let expression = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [name]});
            hook(json!({"matchExpressions": [expression]}), json!({}))
        };
        let labelled = hook(json!({}), json!({"matchLabels": {"sidecars": "yes"}}));
        let mut review = hook(json!({}), json!({}));
        review.name = "workloads.outrigger.dev".to_owned();
        let asks = json!({"outrigger.dev/inject": "envoy-tls"});
        for (hooks, namespace, labels, expected) in [
            (vec![not_in("outrigger")], "outrigger", json!({}), false),
            (vec![not_in("outrigger")], "shop", json!({}), true),
            // Another release takes them.
            (
                vec![not_in("outrigger"), not_in("two")],
                "outrigger",
                json!({}),
                true,
            ),
            // Nothing is known of that namespace.
            (vec![not_in("new")], "new", json!({}), true),
            (vec![labelled.clone()], "shop", json!({}), false),
            (vec![labelled], "shop", json!({"sidecars": "yes"}), true),
            // Nothing is registered; and what reviews workloads injects nothing.
            (Vec::new(), "shop", json!({}), true),
            (
                vec![review.clone(), not_in("shop")],
                "shop",
                json!({}),
                false,
            ),
            (vec![review], "kube-system", json!({}), false),
        ] {
            let namespaces = namespaces();
            let facts = Facts {
                catalogue: catalogue(),
                namespaces: Some(&namespaces),
                reach: Reach::new(&hooks),
                ..Facts::default()
            };
            let metadata = json!({
                "name": "web", "namespace": namespace, "labels": labels, "annotations": asks,
            });
            let concerns = facts.judge(&pod(metadata)) != Finding::NotConcerned;
            assert_eq!(concerns, expected, "{namespace} {labels} {hooks:#?}");
        }
    }

    #[test]
    fn pods_are_grouped_by_what_makes_them() {
        let owned = |kind: &str, name: &str| {
            workload(&pod(json!({
                "name": "web-7d4b9c-x2x4z", "namespace": "shop", "labels": {"pod-template-hash": "7d4b9c"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Other", "name": "watcher", "uid": "1"},
                    {"apiVersion": "v1", "kind": kind, "name": name, "uid": "2", "controller": true},
                ],
            })).metadata)
        };
        assert_eq!(owned("ReplicaSet", "web-7d4b9c"), "Deployment/web");
        // Made by hand, or by something that is no Deployment.
        assert_eq!(owned("ReplicaSet", "web"), "ReplicaSet/web");
        assert_eq!(owned("Job", "backup-29384"), "Job/backup-29384");
        assert_eq!(workload(&pod(json!({"name": "bare"})).metadata), "Pod/bare");
    }

    #[test]
    fn like_pods_are_counted_together() {
        let namespaces = namespaces();
        let facts = Facts {
            catalogue: catalogue(),
            namespaces: Some(&namespaces),
            ..Facts::default()
        };
        let pod = |name: &str, created: &str, revision: &str| {
            pod(json!({
                "name": name, "namespace": "shop", "creationTimestamp": created,
                "annotations": {
                    "outrigger.dev/inject": "fluentd",
                    "outrigger.dev/status": status(&[("fluentd", "fluentd", revision)]),
                },
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "2", "controller": true}],
            }))
        };
        let now = revision("fluentd");
        let mut report = Report::default();
        report.add(&facts, &pod("web-0", "2026-01-02T00:00:00Z", &now));
        report.add(&facts, &pod("web-1", "2026-01-01T00:00:00Z", &now));
        report.add(&facts, &pod("web-2", "2026-01-01T00:00:00Z", "0"));
        let counts = State::ALL.map(|state| report.count(state));
        assert_eq!(counts, [0, 1, 2]);
        let (group, pods) = report.0.last_key_value().unwrap();
        assert_eq!(group.workload, "StatefulSet/web");
        assert_eq!(pods.oldest.unwrap().to_string(), "2026-01-01T00:00:00Z");
    }

    /// The server tells their counts, and knows them by name.
    #[test]
    fn every_state_has_its_series_from_the_start() {
        let mut names = State::ALL.map(State::as_str);
        names.sort_unstable();
        assert_eq!(names, crate::server::metrics::AUDITED);
    }
}
