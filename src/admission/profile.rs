//! The review of profiles: one that does not compile is refused before the cluster stores it.
//!
//! It is compiled and not tried out on a pod, as `outrigger profile check` does besides: whoever reaches the
//! port can send a review, and nobody's expressions are evaluated but those of profiles that an administrator
//! installed.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::{Opened, ReviewError, Reviewed, Webhook, open};
use crate::inject::decide::DOMAIN;
use crate::inject::pod::Text;
use crate::inject::{Code, Problem, problem};
use crate::json::Written;
use crate::profile::compile::CLUSTER;
use crate::profile::{Profile, catalogue, document};

/// What of an object matters before it is compiled.
#[derive(Default, Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    metadata: HeadMetadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

/// Answers one AdmissionReview of a profile.
///
/// # Errors
/// A body that is no AdmissionReview of a version we know, or has no uid to answer to.
pub fn review_profile(body: &[u8]) -> Result<Reviewed, ReviewError> {
    let opened: Opened<'_, Written<'_>> = open(body)?;
    let object = opened.request.object.map_or("null", Written::get);
    let head: Head<'_> = serde_json::from_str(object).unwrap_or_default();
    let mut summary = opened.summary(Webhook::Profile, "allowed", &head.metadata.name);
    let mut response = opened.response();

    let written = matches!(opened.request.operation(), "CREATE" | "UPDATE");
    if opened.request.whole_kind() != Some((DOMAIN, document::KIND)) || !written {
        summary.reason = "NotWritten";
        response.allowed();
    } else if head.metadata.deletion_timestamp.is_some() {
        // Only its finalizers go now, and that must not depend on what it says.
        summary.reason = "BeingDeleted";
        response.allowed();
    } else {
        let tree: Json = serde_json::from_str(object).unwrap_or_default();
        match Profile::from_object(CLUSTER, "", &tree) {
            Ok(profile) => {
                summary.reason = "Compiles";
                response.allowed();
                if catalogue::BUILT_IN_NAMES.contains(&profile.name.as_str()) {
                    summary.reason = "ReplacesBuiltIn";
                    response.warnings(&[format!(
                        "it replaces the built-in profile {:?}: pods that ask for that get this one",
                        profile.name
                    )]);
                }
            }
            Err(error) => {
                let problems: Vec<Problem> = error
                    .problems
                    .into_iter()
                    .map(|problem| {
                        let subject = match problem.path.is_empty() {
                            true => "the profile".to_owned(),
                            false => problem.path,
                        };
                        Problem::new(Code::ProfileFault, subject, problem.message)
                    })
                    .collect();
                let message = problem::message(&problems);
                summary.outcome = "denied";
                summary.reason = "Refused";
                response.denied(&message);
                summary.message = Some(message);
            }
        }
    }
    Ok(Reviewed {
        body: response.finish(),
        summary,
    })
}
