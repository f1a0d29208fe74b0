//! Whether a cluster is ready, and whether the webhook in it is registered, reachable and allowed what it needs.
//!
//! Nothing is changed: pods are created as server-side dry runs. Each check stands for itself; one that may not look
//! at something warns and says what it would need.

mod bundle;
mod call;
mod hooks;
mod rights;

use kube::Client;
use serde::Serialize;

use super::{crd, is_status, partial, profiles, said, version};
use crate::inject::SidecarMode;
use crate::profile::Defaults;
use hooks::Registered;

/// The first minor version of Kubernetes 1 that knows match conditions.
const MINIMUM: u32 = 30;

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The address of the API server, for the message.
    pub address: String,
    /// The namespace of the release. None: of all registrations.
    pub namespace: Option<String>,
    /// The name of the webhook configuration. None: all that have our webhooks.
    pub registration: Option<String>,
    /// Where to try to create a pod. None: the first namespace that the registration selects.
    pub probe_namespace: Option<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or it could not be found out.
    Warn,
    /// It does not work.
    Fail,
}

impl Verdict {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: `crd`.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            message: message.into(),
            advice: None,
        }
    }

    fn warn(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            advice: Some(advice.into()),
            ..Self::ok(check, message)
        }
    }

    fn fail(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(check, message, advice)
        }
    }
}

/// Makes all checks, in the order in which a reader would mend what they find. Without an API server there is only
/// the first.
pub async fn run(client: &Client, options: &Options) -> Vec<Finding> {
    let (first, reachable) = api_server(client, options).await;
    let mut findings = vec![first];
    if !reachable {
        return findings;
    }
    findings.push(definition(client).await);
    let registered = Registered::find(client, options).await;
    findings.extend(registered.findings());
    findings.push(bundle::of(&registered.hooks));
    findings.extend(bundle::served(client, &registered).await);
    findings.push(call::probe(client, &registered, options).await);
    findings.push(rights::of(client, &registered).await);
    findings.push(sidecars(client).await);
    findings.push(ready(client).await);
    findings
}

async fn api_server(client: &Client, options: &Options) -> (Finding, bool) {
    const CHECK: &str = "api-server";
    let address = &options.address;
    let version = match client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            let finding = Finding::fail(
                CHECK,
                format!("{address} does not answer: {}", said(&error)),
                "see that kubectl version works with the same kubeconfig; name another one with --kubeconfig or --context",
            );
            return (finding, false);
        }
    };
    let found = format!("{} at {address}", version.git_version);
    let minor = version::minor_of(&version.major, &version.minor);
    let finding = match minor {
        Some(minor) if minor < MINIMUM => Finding::fail(
            CHECK,
            format!("{found} is older than Kubernetes 1.{MINIMUM}"),
            "upgrade the cluster: match conditions, which keep every other pod away from the webhook, are missing or not on by default before",
        ),
        _ => Finding::ok(CHECK, found),
    };
    (finding, true)
}

async fn definition(client: &Client) -> Finding {
    const CHECK: &str = "crd";
    const APPLY: &str = "run outrigger crd | kubectl apply --server-side -f -";
    let name = format!("{}.{}", crd::PLURAL, crd::GROUP);
    let found = match partial::definitions(client.clone()).get_opt(&name).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Finding::fail(
                CHECK,
                format!(
                    "there is no CustomResourceDefinition {name}, so no profiles of the cluster"
                ),
                APPLY,
            );
        }
        Err(error) => {
            return unseen(
                CHECK,
                &format!("get customresourcedefinitions/{name}"),
                &error,
            );
        }
    };
    let status = found.status.unwrap_or_default();
    let condition = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind)
    };
    let holds = |kind: &str| condition(kind).is_some_and(|found| found.status == "True");
    if !holds("Established") {
        let kind = if holds("NamesAccepted") {
            "Established"
        } else {
            "NamesAccepted"
        };
        let why = condition(kind).and_then(|condition| condition.message.clone());
        return Finding::fail(
            CHECK,
            format!("{name} is not established: {}", why.unwrap_or_default()),
            format!("kubectl describe crd {name}; then {APPLY}"),
        );
    }
    let stored = found.spec.versions.iter().find(|version| version.storage);
    let stored = stored.map_or("", |version| version.name.as_str());
    if stored != crd::VERSION {
        return Finding::fail(
            CHECK,
            format!(
                "{name} stores {stored:?}, and this is for {:?}",
                crd::VERSION
            ),
            format!("use the outrigger of the version that is installed, or {APPLY}"),
        );
    }
    let others: Vec<_> = status
        .stored_versions
        .into_iter()
        .flatten()
        .filter(|version| version != crd::VERSION)
        .collect();
    if !others.is_empty() {
        return Finding::warn(
            CHECK,
            format!(
                "{name} has objects that are stored as {}",
                others.join(", ")
            ),
            "write each profile again (kubectl get scp -o yaml | kubectl replace -f -), and then take the old version out of the status",
        );
    }
    Finding::ok(CHECK, format!("{name} is established and stores {stored}"))
}

async fn sidecars(client: &Client) -> Finding {
    const CHECK: &str = "sidecars";
    match version::sidecar_mode(client).await {
        Ok((SidecarMode::Native, reason)) => {
            Finding::ok(CHECK, format!("native sidecars: {reason}"))
        }
        Ok((SidecarMode::Container, reason)) => Finding::warn(
            CHECK,
            format!("sidecars run as ordinary containers: {reason}"),
            "upgrade what is older than Kubernetes 1.29; until then Jobs with sidecars are refused, because they would never end",
        ),
        Err(error) => unseen(CHECK, "list nodes", &error),
    }
}

async fn ready(client: &Client) -> Finding {
    const CHECK: &str = "profiles";
    // Defaults are the webhook's; its verdict counts, and not ours.
    let stored = match profiles::list(client, Defaults::default()).await {
        Ok(stored) => stored,
        Err(error) if is_status(&error, 404) => {
            return Finding::ok(
                CHECK,
                "built-in profiles and those of files alone: the cluster knows no SidecarProfile",
            );
        }
        Err(error) => return unseen(CHECK, "list sidecarprofiles", &error),
    };
    let mut refused = Vec::new();
    let mut unjudged = Vec::new();
    for profile in &stored {
        match &profile.verdict {
            Some((true, _)) => {}
            Some((false, message)) => {
                refused.push(format!("{}: {}", profile.name, message.replace('\n', "; ")));
            }
            None => unjudged.push(profile.name.as_str()),
        }
    }
    if !refused.is_empty() {
        return Finding::fail(
            CHECK,
            format!(
                "{} of {} are refused: {}",
                refused.len(),
                stored.len(),
                refused.join(" | ")
            ),
            "correct them; outrigger profile check FILE says the same with lines and columns",
        );
    }
    if !unjudged.is_empty() {
        return Finding::warn(
            CHECK,
            format!(
                "no webhook has judged the present version of {}",
                unjudged.join(", ")
            ),
            "look at the webhook's log; it needs the right to watch sidecarprofiles and to patch their status",
        );
    }
    match stored.len() {
        0 => Finding::ok(
            CHECK,
            "the cluster has none of its own; built-in profiles and those of files serve",
        ),
        count => Finding::ok(CHECK, format!("{count} in the cluster, all ready")),
    }
}

/// Something that could not be looked at.
fn unseen(check: &'static str, right: &str, error: &kube::Error) -> Finding {
    let advice = if is_status(error, 403) {
        format!("ask for the right to {right}, or run this as somebody who has it")
    } else {
        "try again".to_owned()
    };
    Finding::warn(
        check,
        format!("could not be looked at: {}", said(error)),
        advice,
    )
}
