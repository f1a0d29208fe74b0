//! What an event says, within the limits of the API.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::admission::{Summary, Webhook, shorten};
use crate::cluster::certificates::Happened;

/// Who writes, in the column `From` of `kubectl describe`.
const CONTROLLER: &str = "outrigger";

/// The longest note of an event, in bytes (`NoteLengthLimit` of the API server).
const MAX_NOTE: usize = 1024;

/// The longest name of a reporting instance, in bytes.
const MAX_REPORTER: usize = 128;

/// As much of the object's name as begins the event's.
const MAX_PREFIX: usize = 200;

/// An object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; also the event's.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique id, without which `kubectl describe` does not show the event. Empty where it is not known.
    pub uid: String,
}

/// What `kubectl describe` calls the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// For information.
    Normal,
    /// Somebody has to look.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What is to be written. Two that are equal are one event, seen twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// About what.
    pub regarding: Regarding,
    /// How bad it is.
    pub severity: Severity,
    /// Why, as a code.
    pub reason: &'static str,
    /// What was tried, as a code.
    pub action: &'static str,
    /// All of it, in one line.
    pub note: String,
}

impl Notice {
    fn new(
        regarding: Regarding,
        severity: Severity,
        reason: &'static str,
        action: &'static str,
        note: &str,
    ) -> Self {
        // `kubectl describe` shows a table.
        let words: Vec<&str> = note
            .split(|character: char| character.is_whitespace() || character.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        Self {
            regarding,
            severity,
            reason,
            action,
            note: shorten(&words.join(" "), MAX_NOTE).into_owned(),
        }
    }

    /// Tells the owner of a pod that it was denied. `None` for whatever else a review came to, for a dry run, and for
    /// a pod that nobody owns: who creates that reads the denial.
    #[must_use]
    pub fn denial(summary: &Summary) -> Option<Self> {
        if summary.webhook != Webhook::Mutate || summary.dry_run || summary.namespace.is_empty() {
            return None;
        }
        let (owner, message) = (summary.owner.as_ref()?, summary.message.as_ref()?);
        let regarding = Regarding {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: summary.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        let (severity, action) = (Severity::Warning, "Inject");
        Some(Self::new(
            regarding,
            severity,
            summary.reason,
            action,
            message,
        ))
    }

    /// Tells of the managed certificate what its administrator should know, if it is that.
    #[must_use]
    pub fn certificate(happened: &Happened, regarding: &Regarding) -> Option<Self> {
        let (severity, reason, note) = match happened {
            Happened::Expired { not_after } => (
                Severity::Warning,
                "CertificateExpired",
                format!(
                    "the webhook's certificate ended at {}, so the API server cannot call it; it is being renewed",
                    time(*not_after)
                ),
            ),
            Happened::NotRenewed(error) => (
                Severity::Warning,
                "CertificateNotRenewed",
                format!(
                    "the Secret of the webhook's certificate has to be written and cannot be, which is tried again: {error}"
                ),
            ),
            Happened::Secret("founded") => (
                Severity::Normal,
                "CACreated",
                "a new CA and a certificate of it are in the Secret".to_owned(),
            ),
            Happened::Secret("succeeded") => (
                Severity::Normal,
                "CARenewed",
                "the new CA signs the webhook's certificate from now on".to_owned(),
            ),
            Happened::Secret(_) | Happened::Bundle(_) => return None,
        };
        let action = "RenewCertificate";
        Some(Self::new(
            regarding.clone(),
            severity,
            reason,
            action,
            &note,
        ))
    }

    /// The name of its event, the same in every replica: that of the object and a digest of what is said.
    #[must_use]
    pub fn event_name(&self) -> String {
        let regarding = &self.regarding;
        let mut digest = Sha256::new();
        for part in [
            &*regarding.api_version,
            &regarding.kind,
            &regarding.name,
            &regarding.uid,
            self.severity.as_str(),
            self.reason,
            &self.note,
        ] {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        let digest: String = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let prefix = match &*regarding.name {
            name if name.len() <= MAX_PREFIX && is_subdomain(name) => name,
            // Kinds with names of another form, such as those of RBAC.
            _ => CONTROLLER,
        };
        format!("{prefix}.{digest}")
    }

    /// The event, seen so many times by now. `reporter` is the name of this pod.
    #[must_use]
    pub fn event(&self, reporter: &str, count: i32) -> Event {
        let regarding = self.regarding.clone();
        Event {
            metadata: ObjectMeta {
                namespace: Some(regarding.namespace.clone()),
                name: Some(self.event_name()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            regarding: Some(ObjectReference {
                api_version: Some(regarding.api_version),
                kind: Some(regarding.kind),
                namespace: Some(regarding.namespace),
                name: Some(regarding.name),
                uid: Some(regarding.uid).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            }),
            type_: Some(self.severity.as_str().to_owned()),
            reason: Some(self.reason.to_owned()),
            action: Some(self.action.to_owned()),
            note: Some(self.note.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(shorten(reporter, MAX_REPORTER).into_owned()),
            // A series is of two at least.
            series: (count > 1).then(|| series(count)),
            ..Event::default()
        }
    }
}

/// A series of so many that was last seen now.
#[must_use]
pub fn series(count: i32) -> EventSeries {
    EventSeries {
        count,
        last_observed_time: MicroTime(Timestamp::now()),
    }
}

/// Whether it is a DNS subdomain (RFC 1123), as the names of most objects and of all events are.
fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.split('.').map(str::as_bytes).all(|label| {
        alphanumeric(label.first())
            && alphanumeric(label.last())
            && label
                .iter()
                .all(|byte| *byte == b'-' || alphanumeric(Some(byte)))
    })
}

/// Seconds since 1970 as people read them.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
