//! Whether the webhook's account may do what it does.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::hooks::Registered;
use super::{Finding, Verdict, unseen};
use crate::cluster::crd;
use crate::cluster::registration::Kind;

const CHECK: &str = "rbac";

/// A right of the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    verb: &'static str,
    group: &'static str,
    /// `pods`, or `pods/status`.
    resource: &'static str,
    /// The one object that it is about. None: all.
    name: Option<String>,
    /// None: in all namespaces, or of what is in none.
    namespace: Option<String>,
    /// What goes wrong without it, and how badly.
    without: &'static str,
    verdict: Verdict,
}

const DEFAULTS: &str = "defaults of namespaces do not count";
const PROFILES: &str = "profiles of the cluster do not serve";
const CERTIFICATE: &str = "the certificate is not renewed";
const BUNDLE: &str = "the caBundle is not kept";
const AUDIT: &str = "pods are not audited";
const REGISTRATIONS: &str = "admissionregistration.k8s.io";

impl Right {
    fn new(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            group,
            resource,
            name: None,
            namespace: None,
            without: "",
            verdict: Verdict::Fail,
        }
    }

    fn of(self, name: &str) -> Self {
        let name = Some(name.to_owned());
        Self { name, ..self }
    }

    fn inside(self, namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned());
        Self { namespace, ..self }
    }

    /// Without it something does not work at all.
    fn or_fails(self, without: &'static str) -> Self {
        Self { without, ..self }
    }

    /// Without it something is left out.
    fn or_warns(self, without: &'static str) -> Self {
        let verdict = Verdict::Warn;
        Self {
            without,
            verdict,
            ..self
        }
    }

    fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        ResourceAttributes {
            verb: Some(self.verb.to_owned()),
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource,
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            ..ResourceAttributes::default()
        }
    }

    fn title(&self) -> String {
        let name = self.name.as_ref();
        let name = name.map_or(String::new(), |name| format!(" {name}"));
        format!("{} {}{name}", self.verb, self.resource)
    }
}

/// The rights that the webhook needs, by its registration and its flags. They are those that the chart gives.
fn needed(registered: &Registered) -> Vec<Right> {
    let mut rights = vec![
        Right::new("list", "", "namespaces").or_fails(DEFAULTS),
        Right::new("watch", "", "namespaces").or_fails(DEFAULTS),
        Right::new("list", crd::GROUP, crd::PLURAL).or_fails(PROFILES),
        Right::new("watch", crd::GROUP, crd::PLURAL).or_fails(PROFILES),
        Right::new("patch", crd::GROUP, STATUS).or_warns("profiles do not say whether they serve"),
        Right::new("get", "apiextensions.k8s.io", "customresourcedefinitions")
            .of(&format!("{}.{}", crd::PLURAL, crd::GROUP))
            .or_warns("profiles are lost when their definition is deleted"),
        Right::new("list", "", "nodes")
            .or_warns("nodes that are too old for native sidecars go unnoticed"),
    ];
    let mut configurations: Vec<_> = registered
        .hooks
        .iter()
        .map(|hook| (hook.kind, hook.configuration.as_str()))
        .collect();
    configurations.sort_unstable();
    configurations.dedup();
    if registered
        .flag("--audit-interval")
        .first()
        .map(String::as_str)
        != Some("0")
    {
        rights.push(Right::new("list", "", "pods").or_warns(AUDIT));
        let mut audited = registered.flag("--webhook-configuration");
        audited.dedup();
        for name in audited {
            let right = Right::new("get", REGISTRATIONS, resource(Kind::Mutating));
            rights.push(right.of(&name).or_warns(AUDIT));
        }
    }
    let secret = registered.flag("--managed-certificate");
    if let (Some(secret), Some((_, namespace))) = (secret.first(), registered.service()) {
        for verb in ["get", "list", "watch", "patch"] {
            let right = Right::new(verb, "", "secrets").inside(&namespace);
            rights.push(right.of(secret).or_fails(CERTIFICATE));
        }
        let create = Right::new("create", "", "secrets").inside(&namespace);
        rights.push(create.or_fails(CERTIFICATE));
        for (kind, name) in configurations {
            for verb in ["list", "watch", "patch"] {
                let right = Right::new(verb, REGISTRATIONS, resource(kind));
                rights.push(right.of(name).or_fails(BUNDLE));
            }
        }
    }
    rights
}

const STATUS: &str = "sidecarprofiles/status";

fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::Mutating => "mutatingwebhookconfigurations",
        Kind::Validating => "validatingwebhookconfigurations",
    }
}

/// Whose rights are asked for.
enum Who {
    /// The service account of the webhook's Deployment: namespace, name.
    Account(String, String),
    /// Whoever runs the check: the webhook runs outside of the cluster, or its Deployment may not be read.
    Oneself,
}

impl Who {
    fn of(registered: &Registered) -> Self {
        let account = || {
            let deployment = registered.deployment.as_ref()?;
            let pod = deployment.spec.template.spec.as_ref()?;
            let name = pod.service_account_name.as_deref().unwrap_or("default");
            let namespace = deployment.metadata.namespace.clone()?;
            Some(Self::Account(namespace, name.to_owned()))
        };
        account().unwrap_or(Self::Oneself)
    }

    fn title(&self) -> String {
        match self {
            Self::Account(namespace, name) => format!("the service account {namespace}/{name}"),
            Self::Oneself => {
                "whoever runs this check (the webhook's own account is not known)".to_owned()
            }
        }
    }

    async fn may(&self, client: &Client, right: &Right) -> Result<bool, kube::Error> {
        let status = match self {
            Self::Account(namespace, name) => {
                let groups = [
                    "system:authenticated".to_owned(),
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                ];
                let review = SubjectAccessReview {
                    spec: SubjectAccessReviewSpec {
                        user: Some(format!("system:serviceaccount:{namespace}:{name}")),
                        groups: Some(groups.to_vec()),
                        resource_attributes: Some(right.attributes()),
                        ..SubjectAccessReviewSpec::default()
                    },
                    ..SubjectAccessReview::default()
                };
                let api: Api<SubjectAccessReview> = Api::all(client.clone());
                api.create(&PostParams::default(), &review).await?.status
            }
            Self::Oneself => {
                let review = SelfSubjectAccessReview {
                    spec: SelfSubjectAccessReviewSpec {
                        resource_attributes: Some(right.attributes()),
                        ..SelfSubjectAccessReviewSpec::default()
                    },
                    ..SelfSubjectAccessReview::default()
                };
                let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
                api.create(&PostParams::default(), &review).await?.status
            }
        };
        Ok(status.is_some_and(|status: SubjectAccessReviewStatus| status.allowed))
    }
}

/// Asks for each right.
pub(super) async fn of(client: &Client, registered: &Registered) -> Finding {
    let who = Who::of(registered);
    let needed = needed(registered);
    let mut worst = Verdict::Ok;
    let mut missing = Vec::new();
    for right in &needed {
        match who.may(client, right).await {
            Ok(true) => {}
            Ok(false) => {
                if right.verdict == Verdict::Fail || worst == Verdict::Ok {
                    worst = right.verdict;
                }
                missing.push(format!("{} ({})", right.title(), right.without));
            }
            Err(error) => {
                return unseen(CHECK, "create subjectaccessreviews", &error);
            }
        }
    }
    let title = who.title();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("{title} has all {} rights", needed.len()));
    }
    if matches!(who, Who::Oneself) {
        // Somebody with fewer rights than the webhook is no fault of the cluster.
        worst = Verdict::Warn;
    }
    Finding {
        verdict: worst,
        ..Finding::warn(
            CHECK,
            format!("{title} may not {}", missing.join(", ")),
            "upgrade the chart, which has a role for each purpose, or bind such roles by hand",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::registration::{Hook, PODS};
    use k8s_openapi::api::admissionregistration::v1::{ServiceReference, WebhookClientConfig};
    use serde_json::json;

    fn registered(arguments: &[&str]) -> Registered {
        let service = ServiceReference {
            name: "outrigger".to_owned(),
            namespace: "sidecars".to_owned(),
            ..ServiceReference::default()
        };
        let hook = |kind, name: &str| Hook {
            configuration: "outrigger".to_owned(),
            kind,
            name: name.to_owned(),
            client: WebhookClientConfig {
                service: Some(service.clone()),
                ..WebhookClientConfig::default()
            },
            ..Hook::default()
        };
        let containers = json!([{"name": "outrigger", "args": arguments}]);
        let deployment =
            json!({"metadata": {}, "spec": {"template": {"spec": {"containers": containers}}}});
        let mut registered = Registered::default();
        registered.hooks = vec![
            hook(Kind::Mutating, PODS),
            hook(Kind::Validating, "profiles.outrigger.dev"),
        ];
        registered.deployment = serde_json::from_value(deployment).unwrap();
        registered
    }

    fn titles(arguments: &[&str]) -> Vec<String> {
        needed(&registered(arguments))
            .iter()
            .map(Right::title)
            .collect()
    }

    #[test]
    fn what_is_needed_follows_from_the_flags() {
        let plain = titles(&["serve", "--webhook-configuration=outrigger"]);
        assert!(plain.contains(&"list pods".to_owned()), "{plain:?}");
        assert!(
            plain.contains(&"get mutatingwebhookconfigurations outrigger".to_owned()),
            "{plain:?}"
        );
        assert!(
            !plain.iter().any(|title| title.contains("secrets")),
            "{plain:?}"
        );

        let silent = titles(&[
            "serve",
            "--webhook-configuration=outrigger",
            "--audit-interval=0",
        ]);
        assert_eq!(silent.len(), plain.len() - 2, "{silent:?}");

        let managed = titles(&["serve", "--managed-certificate", "certificate"]);
        for title in [
            "patch secrets certificate",
            "create secrets",
            "patch mutatingwebhookconfigurations outrigger",
            "watch validatingwebhookconfigurations outrigger",
        ] {
            assert!(managed.contains(&title.to_owned()), "{title}: {managed:?}");
        }
    }
}
