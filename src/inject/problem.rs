//! What is wrong with a request for injection, told to the pod's author.

use std::fmt;

/// The kinds of problem, in the words of the reference. Each is one truth:
///
/// | code | who mends it |
/// |---|---|
/// | `InvalidList`, `UnknownProfile`, `UnknownKey`, `UnknownParameter`, `InvalidValue`, `NotSettable`, `MissingParameter`, `Rule` | the pod's author, in an annotation |
/// | `NotAllowed` | the admin, in the namespace's labels |
/// | `Collision`, `Unsupported`, `InvalidResult` | the pod's author, in the pod's spec |
/// | `ProfileFault` | the admin, in the profile |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// `outrigger.dev/inject` is not a list of profiles.
    InvalidList,
    /// A profile that does not exist.
    UnknownProfile,
    /// An annotation below our domain that means nothing.
    UnknownKey,
    /// A profile that is not for this namespace.
    NotAllowed,
    /// A parameter that the profile does not declare.
    UnknownParameter,
    /// A value outside of its grammar.
    InvalidValue,
    /// A parameter that only somebody else may set.
    NotSettable,
    /// A required parameter that nobody set.
    MissingParameter,
    /// A rule of the profile over several parameters does not hold.
    Rule,
    /// Something of that name is already there.
    Collision,
    /// The pod is of a kind that cannot have it.
    Unsupported,
    /// The pod that would come out is not valid, or would not start.
    InvalidResult,
    /// The profile gave something that is no part of a pod.
    ProfileFault,
}

impl Code {
    /// The code as written in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidList => "InvalidList",
            Self::UnknownProfile => "UnknownProfile",
            Self::UnknownKey => "UnknownKey",
            Self::NotAllowed => "NotAllowed",
            Self::UnknownParameter => "UnknownParameter",
            Self::InvalidValue => "InvalidValue",
            Self::NotSettable => "NotSettable",
            Self::MissingParameter => "MissingParameter",
            Self::Rule => "Rule",
            Self::Collision => "Collision",
            Self::Unsupported => "Unsupported",
            Self::InvalidResult => "InvalidResult",
            Self::ProfileFault => "ProfileFault",
        }
    }
}

/// One thing that stands in the way of an injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// What to mend: an annotation's key, a path in the pod, a profile.
    pub subject: String,
    /// What was given, what is expected.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(code: Code, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            subject: subject.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// How many problems are told at once: more than a person mends in one go, and a bound on the message.
pub const MAX_TOLD: usize = 50;

/// All problems in one message, as the person who applied the pod reads it.
pub fn message(problems: &[Problem]) -> String {
    match problems {
        [only] => format!("outrigger: {only}"),
        _ => {
            let mut text = format!("outrigger: {} problems:", problems.len());
            for problem in problems.iter().take(MAX_TOLD) {
                text.push_str("\n  - ");
                text.push_str(&problem.to_string());
            }
            if problems.len() > MAX_TOLD {
                text.push_str(&format!("\n  - and {} more", problems.len() - MAX_TOLD));
            }
            text
        }
    }
}

/// The key of an annotation as a subject: as it is where it holds only what keys may hold, else [`shown`].
pub fn shown_key(key: &str) -> String {
    let plain = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if plain && key.len() <= 320 {
        key.to_owned()
    } else {
        shown(key)
    }
}

/// Text from a pod, safe to show: control and direction characters are escaped and the length is bounded.
pub fn shown(text: &str) -> String {
    crate::profile::parameter::shown(text)
}
