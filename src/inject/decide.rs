//! Which instances a pod gets, or why it gets none.
//!
//! The first row that fits decides:
//!
//! | the pod | its namespace | decision |
//! |---|---|---|
//! | is no Pod being created | | skip `NotPodCreate` |
//! | is a mirror pod of a kubelet | | skip `MirrorPod` |
//! | asks for Windows | | skip `Windows`, with a warning if it asked |
//! | `inject: none` | | skip `OptedOut` |
//! | `inject: a, b` | | inject a, b |
//! | no `inject` | not labelled `injection: enabled` | skip `NotAsked` |
//! | no `inject` | `inject: none` | skip `OptedOut` |
//! | no `inject` | `inject: a, b` | inject a, b, then profiles whose `match` fits |
//! | no `inject` | no `inject`, some profile's `match` fits | inject those, by name |
//! | no `inject` | no `inject`, no `match` fits | skip `NotAsked` |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::pod::{Pod, Text};
use super::problem::{Code, MAX_TOLD, Problem, shown, shown_key};
use crate::profile::catalogue::{Entry, hint};
use crate::profile::compile::FILES;
use crate::profile::{Catalogue, Profile, parameter};

/// Our domain, the prefix of every annotation and label.
pub const DOMAIN: &str = "outrigger.dev";
/// The annotation that asks for injection.
pub const INJECT: &str = "outrigger.dev/inject";
/// The annotation that we write.
pub const STATUS: &str = "outrigger.dev/status";
/// The label of namespaces whose pods are sent to the webhook even if they do not ask.
pub const INJECTION_LABEL: &str = "outrigger.dev/injection";
/// The annotation of a pod that mirrors a static pod of a kubelet; such a pod is only a picture.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// Instances that one pod may have: a bound against absurd input, far above any use.
const MAX_INSTANCES: usize = 32;
/// How many profiles a message names when it cannot tell which was meant.
const MAX_NAMES: usize = 24;

/// What is known of all namespaces, by name. A copy shares all of it, and a change copies a path of the tree.
pub type Namespaces = RedBlackTreeMapSync<Arc<str>, Arc<Namespace>>;

/// What is known of a pod's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Namespace {
    fn opted_in(&self) -> bool {
        self.labels
            .get(INJECTION_LABEL)
            .is_some_and(|value| value == "enabled")
    }
}

/// Why a pod gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The request is not the creation of a pod.
    NotPodCreate,
    /// The pod mirrors a static pod.
    MirrorPod,
    /// The pod is for Windows nodes.
    Windows,
    /// The pod or its namespace says `none`.
    OptedOut,
    /// Nobody asked.
    NotAsked,
    /// Everything asked for is there already.
    AlreadyInjected,
}

impl Skip {
    /// The code as written in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPodCreate => "NotPodCreate",
            Self::MirrorPod => "MirrorPod",
            Self::Windows => "Windows",
            Self::OptedOut => "OptedOut",
            Self::NotAsked => "NotAsked",
            Self::AlreadyInjected => "AlreadyInjected",
        }
    }

    /// The reason in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotPodCreate => "only pods that are being created are injected",
            Self::MirrorPod => {
                "a mirror pod shows what a kubelet already runs; changing it changes nothing"
            }
            Self::Windows => "the pod is for Windows nodes, and the sidecars are for Linux",
            Self::OptedOut => "outrigger.dev/inject is \"none\"",
            Self::NotAsked => "neither the pod nor its namespace asks for injection",
            Self::AlreadyInjected => "everything that is asked for is already in the pod",
        }
    }
}

/// Who asked for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The pod's annotation.
    Pod,
    /// The namespace's annotation.
    Namespace,
    /// The profile's own `match`.
    Match,
}

/// A profile that a pod gets, under a name.
#[derive(Debug, Clone)]
pub struct Instance<'a> {
    /// Its name in this pod.
    pub name: String,
    /// The profile and the admin's defaults.
    pub entry: &'a Entry,
    /// Who asked.
    pub origin: Origin,
}

/// The outcome of the table above.
#[derive(Debug)]
pub enum Decision<'a> {
    /// The pod gets nothing.
    Skip(Skip),
    /// The pod gets these, in this order. Not empty, unless there are problems.
    Inject(Vec<Instance<'a>>),
}

/// Decides by the table above. Problems of the list are added to `problems`.
pub fn decide<'a>(
    pod: &Pod<'_>,
    is_pod_create: bool,
    namespace: Option<&Namespace>,
    catalogue: &'a Catalogue,
    problems: &mut Vec<Problem>,
) -> Decision<'a> {
    if !is_pod_create {
        return Decision::Skip(Skip::NotPodCreate);
    }
    if pod.annotation(MIRROR).is_some() {
        return Decision::Skip(Skip::MirrorPod);
    }
    let own = pod.annotation(INJECT);
    let opted_in = namespace.filter(|namespace| namespace.opted_in());
    if own.is_none() && opted_in.is_none() {
        return Decision::Skip(Skip::NotAsked);
    }
    let windows = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.os.as_ref()?.name.as_deref())
        .is_some_and(|os| os.eq_ignore_ascii_case("windows"));
    if windows {
        return Decision::Skip(Skip::Windows);
    }
    if let Some(list) = own {
        if list.trim() == "none" {
            return Decision::Skip(Skip::OptedOut);
        }
        return Decision::Inject(parse_list(list, INJECT, Origin::Pod, catalogue, problems));
    }
    let Some(namespace) = opted_in else {
        return Decision::Skip(Skip::NotAsked);
    };
    let mut instances = match namespace.annotations.get(INJECT).map(|list| list.trim()) {
        Some("none") => return Decision::Skip(Skip::OptedOut),
        Some(list) => parse_list(
            list,
            "the namespace's outrigger.dev/inject",
            Origin::Namespace,
            catalogue,
            problems,
        ),
        None => Vec::new(),
    };
    let pod_labels = pod.labels().iter().map(|(key, value)| (&**key, &**value));
    let labels = namespace.labels.iter();
    let namespace_labels = labels.map(|(key, value)| (key.as_str(), value.as_str()));
    for entry in catalogue
        .may_fit(pod_labels, namespace_labels)
        .filter(|entry| matches(entry, pod, namespace))
    {
        let name = &entry.profile.name;
        if !instances
            .iter()
            .any(|instance| instance.entry.profile.name == *name || instance.name == *name)
        {
            instances.push(Instance {
                name: name.clone(),
                entry,
                origin: Origin::Match,
            });
        }
    }
    if instances.is_empty() && problems.is_empty() {
        return Decision::Skip(Skip::NotAsked);
    }
    Decision::Inject(instances)
}

/// The instance and the profile that an item of a list names, as in ` db=envoy-egress`: itself twice, if it has no
/// `=`. Both are empty for an empty item. Whether there is such a profile is not asked.
pub fn instance_of(item: &str) -> (&str, &str) {
    let item = item.trim_matches([' ', '\t', '\n']);
    item.split_once('=')
        .map_or((item, item), |(name, profile)| {
            (name.trim_end_matches(' '), profile.trim_start_matches(' '))
        })
}

fn parse_list<'a>(
    list: &str,
    subject: &str,
    origin: Origin,
    catalogue: &'a Catalogue,
    problems: &mut Vec<Problem>,
) -> Vec<Instance<'a>> {
    const EXPECTED: &str =
        "expected a comma-separated list of PROFILE or INSTANCE=PROFILE, or \"none\"";
    let mut instances: Vec<Instance<'a>> = Vec::new();
    let mut problem = |code, message: String| problems.push(Problem::new(code, subject, message));
    if list.split(',').count() > MAX_INSTANCES {
        problem(
            Code::InvalidList,
            format!("holds more than {MAX_INSTANCES} instances"),
        );
        return instances;
    }
    for item in list.split(',') {
        let (name, profile) = instance_of(item);
        if profile.is_empty() && name.is_empty() {
            problem(
                Code::InvalidList,
                format!("given {}, which has an empty item; {EXPECTED}", shown(list)),
            );
            continue;
        }
        if profile == "none" {
            problem(
                Code::InvalidList,
                format!("\"none\" stands alone or not at all; given {}", shown(list)),
            );
            continue;
        }
        let Some(entry) = catalogue.get(profile) else {
            let hint = hint(profile, catalogue.names());
            let known = if hint.is_empty() {
                some_names(catalogue)
            } else {
                hint
            };
            problem(
                Code::UnknownProfile,
                format!("there is no profile {}{known}", shown(profile)),
            );
            continue;
        };
        if !parameter::is_dns_label(name) || name == FILES {
            problem(
                Code::InvalidList,
                format!(
                    "the instance name {} is no DNS label (lower-case letters, digits and '-', at most 63) or is reserved",
                    shown(name)
                ),
            );
            continue;
        }
        if instances.iter().any(|instance| instance.name == name) {
            problem(
                Code::InvalidList,
                format!(
                    "names the instance {name:?} twice; give one of them another name, as in {name}2={profile}"
                ),
            );
            continue;
        }
        instances.push(Instance {
            name: name.to_owned(),
            entry,
            origin,
        });
    }
    instances
}

/// What profiles there are, as far as a message has room for.
fn some_names(catalogue: &Catalogue) -> String {
    let mut names = catalogue.names();
    let first: Vec<_> = names.by_ref().take(MAX_NAMES).collect();
    let more = match names.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("; there are {}{more}", first.join(", "))
}

/// Whether a profile's `match` fits. A profile without one, or with an empty one, fits nothing: it must be
/// asked for. Nor does one that is not allowed in the namespace: nobody there asked, so nobody is refused.
fn matches(entry: &Entry, pod: &Pod<'_>, namespace: &Namespace) -> bool {
    let pod_label = |key: &str| find(pod.labels(), key);
    let namespace_label = |key: &str| namespace.labels.get(key).map(String::as_str);
    let selector = entry.profile.selector.as_ref();
    is_allowed(&entry.profile, namespace)
        && selector.is_some_and(|selector| selector.fits(pod_label, namespace_label))
}

fn find<'p>(pairs: &'p [(Text<'_>, Text<'_>)], key: &str) -> Option<&'p str> {
    pairs
        .iter()
        .find(|(known, _)| **known == *key)
        .map(|(_, value)| &**value)
}

/// Reports instances whose profile may not be used in this namespace.
pub fn check_allowed(
    namespace: &str,
    facts: Option<&Namespace>,
    instances: &[Instance<'_>],
    problems: &mut Vec<Problem>,
) {
    for instance in instances {
        let profile = &instance.entry.profile;
        let Some(allow) = profile.allow.as_ref() else {
            continue;
        };
        let selector = &allow.namespace_selector;
        let reason = match facts {
            Some(facts) if is_allowed(profile, facts) => continue,
            Some(_) => format!("{namespace:?} is not one of them"),
            None => format!("nothing is known here of the labels of {namespace:?}"),
        };
        let subject = match instance.origin {
            Origin::Namespace => "the namespace's outrigger.dev/inject",
            Origin::Pod | Origin::Match => INJECT,
        };
        problems.push(Problem::new(
            Code::NotAllowed,
            subject,
            format!(
                "the profile {:?} is only for namespaces with the labels {selector}, which an administrator sets; {reason}",
                profile.name
            ),
        ));
    }
}

fn is_allowed(profile: &Profile, namespace: &Namespace) -> bool {
    profile.allow.as_ref().is_none_or(|allow| {
        allow
            .namespace_selector
            .selects(|key| namespace.labels.get(key).map(String::as_str))
    })
}

/// The instance and the parameter that a key such as `envoy-tls.outrigger.dev/upstream-port` names.
pub fn parameter_key(key: &str) -> Option<(&str, &str)> {
    let (domain, name) = key.split_once('/')?;
    let instance = domain.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    (instance != FILES).then_some((instance, name))
}

/// Reports annotations of the pod below our domain that mean nothing: a misspelt key is a wish that would
/// go unheard.
pub fn check_keys(pod: &Pod<'_>, instances: &[Instance<'_>], problems: &mut Vec<Problem>) {
    for (key, _) in pod.annotations() {
        // Kubernetes lets the domain of a key be written in any case; ours has one spelling.
        let lower = match key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(key.to_ascii_lowercase()),
            false => Cow::Borrowed(&**key),
        };
        let Some((domain, name)) = lower.split_once('/') else {
            continue;
        };
        if domain != DOMAIN && !domain.ends_with(".outrigger.dev") {
            continue;
        }
        if domain == DOMAIN {
            if **key != *INJECT && **key != *STATUS {
                let nearest = parameter::nearest(&lower, [INJECT].into_iter());
                let hint = nearest
                    .map(|known| format!("; did you mean {known:?}?"))
                    .unwrap_or_default();
                problems.push(Problem::new(
                    Code::UnknownKey,
                    shown_key(key),
                    format!("unknown annotation{hint}"),
                ));
            }
            continue;
        }
        if domain == "files.outrigger.dev" && domain == key.split('/').next().unwrap_or_default() {
            continue;
        }
        let instance = domain.strip_suffix(".outrigger.dev").unwrap_or_default();
        if !key.starts_with(domain) {
            problems.push(Problem::new(
                Code::UnknownKey,
                shown_key(key),
                format!(
                    "unknown annotation; did you mean {:?}?",
                    format!("{domain}/{name}")
                ),
            ));
        } else if !instances.iter().any(|known| known.name == instance) {
            let hint = match problems.len() < MAX_TOLD {
                true => hint(
                    instance,
                    instances.iter().map(|instance| instance.name.as_str()),
                ),
                false => String::new(),
            };
            problems.push(Problem::new(
                Code::UnknownKey,
                shown_key(key),
                format!("{INJECT} names no instance {}{hint}", shown(instance)),
            ));
        }
    }
}
