//! The decision as data: what was decided, and why, for people and programs.

use serde::Serialize;
use serde_json::Value as Json;

use super::decide::Origin;
use super::status::Record;
use super::{Outcome, Report, Verdict};

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `injected`, `skipped` or `denied`.
    pub outcome: &'static str,
    /// The reason's code.
    pub reason: &'static str,
    /// The reason in a sentence.
    pub sentence: String,
    /// Everything that stands in the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemExplained>,
    /// Each instance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceExplained>,
    /// Advice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemExplained {
    /// Its code.
    pub code: &'static str,
    /// What to mend.
    pub subject: String,
    /// What was given, what is expected.
    pub message: String,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceExplained {
    /// Its name.
    pub instance: String,
    /// Its profile.
    pub profile: String,
    /// The profile's revision.
    pub revision: String,
    /// Where the profile was read from.
    pub source: String,
    /// Who asked for it.
    pub asked_by: &'static str,
    /// Whether the pod had it already.
    pub present: bool,
    /// Its parameters.
    pub parameters: Vec<ParameterExplained>,
    /// What it adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adds: Option<Record>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterExplained {
    /// Its name in an annotation.
    pub name: String,
    /// Its value.
    pub value: Json,
    /// Where the value comes from.
    pub from: &'static str,
}

impl Explanation {
    /// Explains an outcome.
    pub fn of(outcome: &Outcome<'_>) -> Self {
        let (name, reason, sentence, problems) = match &outcome.verdict {
            Verdict::Skipped(skip) => (
                "skipped",
                skip.as_str(),
                skip.sentence().to_owned(),
                &[][..],
            ),
            Verdict::Injected(patch) => {
                let new = outcome
                    .instances
                    .iter()
                    .filter(|report| !report.is_present())
                    .count();
                let sentence = format!(
                    "{new} of {} instances added by {} operations",
                    outcome.instances.len(),
                    patch.operations()
                );
                ("injected", "Injected", sentence, &[][..])
            }
            Verdict::Denied(problems) => (
                "denied",
                problems.first().map_or("", |problem| problem.code.as_str()),
                match problems.len() {
                    1 => "1 problem stands in the way".to_owned(),
                    count => format!("{count} problems stand in the way"),
                },
                problems.as_slice(),
            ),
        };
        Self {
            outcome: name,
            reason,
            sentence,
            problems: problems
                .iter()
                .map(|problem| ProblemExplained {
                    code: problem.code.as_str(),
                    subject: problem.subject.clone(),
                    message: problem.message.clone(),
                })
                .collect(),
            instances: outcome
                .instances
                .iter()
                .map(InstanceExplained::of)
                .collect(),
            warnings: outcome.warnings.clone(),
        }
    }
}

impl InstanceExplained {
    fn of(report: &Report<'_>) -> Self {
        let profile = &report.instance.entry.profile;
        let resolved = report.resolved();
        let parameters = profile
            .parameters
            .iter()
            .zip(resolved.values.iter().zip(&resolved.sources))
            .map(|(parameter, (value, source))| ParameterExplained {
                name: parameter.kebab.clone(),
                value: value.as_ref().map_or(Json::Null, |value| value.to_json()),
                from: source.as_str(),
            })
            .collect();
        Self {
            instance: report.instance.name.clone(),
            profile: profile.name.clone(),
            revision: profile.revision.clone(),
            source: profile.source.clone(),
            asked_by: match report.instance.origin {
                Origin::Pod => "the pod's annotation",
                Origin::Namespace => "the namespace's annotation",
                Origin::Match => "the profile's match",
            },
            present: report.is_present(),
            parameters,
            adds: report.record(),
        }
    }
}
