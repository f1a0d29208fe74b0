//! The value of each parameter, and where it comes from.
//!
//! Pod annotation, else namespace annotation, else the admin's default, else the profile's default. Who may
//! set a parameter is its `settableBy`; a value from somebody who may not is a denial, not a shrug.

use super::decide::{Instance, Namespace, parameter_key};
use super::pod::Pod;
use super::problem::{Code, MAX_TOLD, Problem, shown_key};
use crate::profile::catalogue::hint;
use crate::profile::parameter::Value;
use crate::profile::{Parameter, SettableBy};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An annotation of the pod.
    Pod,
    /// An annotation of the namespace.
    Namespace,
    /// The admin's defaults.
    Admin,
    /// The profile.
    Profile,
    /// Nowhere: the value is `null`.
    Unset,
}

impl Source {
    /// The source in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod annotation",
            Self::Namespace => "namespace annotation",
            Self::Admin => "admin's default",
            Self::Profile => "profile's default",
            Self::Unset => "not set",
        }
    }
}

/// The parameters of an instance.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Values in the order of declaration; `None` is `null`.
    pub values: Vec<Option<Value>>,
    /// Where each comes from.
    pub sources: Vec<Source>,
}

/// The annotation key of a parameter of an instance.
pub fn key(instance: &str, parameter: &Parameter) -> String {
    format!("{instance}.outrigger.dev/{}", parameter.kebab)
}

/// Resolves every parameter of an instance. Problems are added, all of them; the values are then incomplete.
pub fn resolve(
    instance: &Instance<'_>,
    pod: &Pod<'_>,
    namespace: Option<&Namespace>,
    problems: &mut Vec<Problem>,
) -> Resolved {
    let profile = &instance.entry.profile;
    let count = profile.parameters.len();
    let mut resolved = Resolved {
        values: vec![None; count],
        sources: vec![Source::Unset; count],
    };
    let mut attempted = vec![false; count];

    let from_pod = pod.annotations().iter().filter_map(|(annotation, text)| {
        let (owner, name) = parameter_key(annotation)?;
        (owner == instance.name).then_some((name, &**text, Source::Pod))
    });
    let from_namespace = namespace
        .into_iter()
        .flat_map(|namespace| &namespace.annotations)
        .filter_map(|(annotation, text)| {
            let (owner, name) = parameter_key(annotation)?;
            (owner == instance.name).then_some((name, text.as_str(), Source::Namespace))
        });
    for (name, text, source) in from_pod.chain(from_namespace) {
        let Some(index) = profile
            .parameters
            .iter()
            .position(|parameter| parameter.kebab == name)
        else {
            // Looking for the name that was meant takes time, and nobody reads the hundredth hint.
            let hinted = problems.len() < MAX_TOLD;
            problems.push(unknown(instance, name, source, hinted));
            continue;
        };
        let parameter = &profile.parameters[index];
        let subject = || subject(&key(&instance.name, parameter), source);
        if !may_set(parameter.settable_by, source) {
            problems.push(Problem::new(
                Code::NotSettable,
                subject(),
                not_settable(parameter),
            ));
            attempted[index] = true;
            continue;
        }
        if attempted[index] {
            continue;
        }
        attempted[index] = true;
        match parameter.parse(text) {
            Ok(value) => {
                resolved.values[index] = Some(value);
                resolved.sources[index] = source;
            }
            Err(problem) => problems.push(Problem::new(
                Code::InvalidValue,
                subject(),
                problem.to_string(),
            )),
        }
    }

    for (index, parameter) in profile.parameters.iter().enumerate() {
        if attempted[index] {
            continue;
        }
        let admin = instance.entry.default_of(index);
        let (value, source) = match (admin, profile.default_of(index)) {
            (Some(value), _) => (Some(value.clone()), Source::Admin),
            (None, Some(value)) => (Some(value.clone()), Source::Profile),
            (None, None) => (None, Source::Unset),
        };
        if value.is_none() && parameter.required {
            problems.push(Problem::new(
                Code::MissingParameter,
                key(&instance.name, parameter),
                format!(
                    "is required by the profile {:?}; expected {}",
                    profile.name,
                    parameter.expected()
                ),
            ));
        }
        resolved.values[index] = value;
        resolved.sources[index] = source;
    }
    resolved
}

fn may_set(settable_by: SettableBy, source: Source) -> bool {
    match settable_by {
        SettableBy::Pod => true,
        SettableBy::Namespace => source != Source::Pod,
        SettableBy::Admin => !matches!(source, Source::Pod | Source::Namespace),
    }
}

fn not_settable(parameter: &Parameter) -> String {
    match parameter.settable_by {
        SettableBy::Namespace => {
            "can be set on the namespace or by the administrator, not on a pod".to_owned()
        }
        _ => "can be set only by the administrator, in the profile defaults".to_owned(),
    }
}

fn subject(key: &str, source: Source) -> String {
    if source == Source::Namespace {
        format!("{key} (on the namespace)")
    } else {
        key.to_owned()
    }
}

fn unknown(instance: &Instance<'_>, name: &str, source: Source, hinted: bool) -> Problem {
    let profile = &instance.entry.profile;
    let known = profile
        .parameters
        .iter()
        .map(|parameter| parameter.kebab.as_str());
    let camel = profile
        .parameters
        .iter()
        .find(|parameter| parameter.name == name);
    let hint = match camel {
        Some(parameter) => format!("; did you mean {:?}?", parameter.kebab),
        None if hinted => hint(name, known),
        None => String::new(),
    };
    Problem::new(
        Code::UnknownParameter,
        subject(
            &shown_key(&format!("{}.outrigger.dev/{name}", instance.name)),
            source,
        ),
        format!("the profile {:?} has no such parameter{hint}", profile.name),
    )
}
