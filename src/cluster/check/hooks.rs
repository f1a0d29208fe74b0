//! Whether our webhooks are registered.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::Client;

use super::{Finding, Options, unseen};
use crate::cluster::partial::{self, Deployment};
use crate::cluster::registration::{self, Hook, NAMESPACES, PODS};

const CHECK: &str = "registration";

/// The webhooks that were found, and what runs behind them.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// Mutating ones first.
    pub(super) hooks: Vec<Hook>,
    /// The Deployment behind the Service that they name, if it can be read.
    pub(super) deployment: Option<Deployment>,
    /// What the options leave, in words.
    sought: String,
    narrowed: bool,
    unseen: Vec<Finding>,
}

impl Registered {
    /// Looks for them.
    pub(super) async fn find(client: &Client, options: &Options) -> Self {
        let mut found = Self {
            sought: sought(options),
            narrowed: options.namespace.is_some() || options.registration.is_some(),
            ..Self::default()
        };
        match registration::list::<MutatingWebhookConfiguration>(client).await {
            Ok(hooks) => found.hooks.extend(hooks),
            Err(error) => {
                let right = "list mutatingwebhookconfigurations";
                found.unseen.push(unseen(CHECK, right, &error));
            }
        }
        match registration::list::<ValidatingWebhookConfiguration>(client).await {
            Ok(hooks) => found.hooks.extend(hooks),
            Err(error) => {
                let right = "list validatingwebhookconfigurations";
                found.unseen.push(unseen(CHECK, right, &error));
            }
        }
        found.hooks.retain(|hook| is_sought(hook, options));
        if let Some((name, namespace)) = found.service() {
            let api = partial::deployments(client.clone(), &namespace);
            // The chart gives both one name. Without it less is known, and each check says so for itself.
            found.deployment = api.get_opt(&name).await.ok().flatten();
        }
        found
    }

    /// The webhooks for pods that ask.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| hook.name == PODS)
    }

    /// The name and the namespace of the Service that is called.
    pub(super) fn service(&self) -> Option<(String, String)> {
        let service = |hook: &Hook| hook.client.service.clone();
        let service = self.hooks.iter().find_map(service)?;
        Some((service.name, service.namespace))
    }

    /// The values of a flag of the webhook, each of `--flag=value` and `--flag value`, as far as its Deployment can
    /// be read.
    pub(super) fn flag(&self, flag: &str) -> Vec<String> {
        let spec = self.deployment.as_ref();
        let spec = spec.and_then(|deployment| deployment.spec.template.spec.as_ref());
        let mut values = Vec::new();
        for container in spec.into_iter().flat_map(|spec| &spec.containers) {
            let mut arguments = container.args.iter().flatten();
            while let Some(argument) = arguments.next() {
                let value = match argument.strip_prefix(flag) {
                    Some("") => arguments.next().map(String::as_str),
                    Some(rest) => rest.strip_prefix('='),
                    None => None,
                };
                values.extend(value.map(str::to_owned));
            }
        }
        values
    }

    /// What there is to say.
    pub(super) fn findings(&self) -> Vec<Finding> {
        if !self.unseen.is_empty() {
            return self.unseen.clone();
        }
        vec![self.finding()]
    }

    fn finding(&self) -> Finding {
        let sought = &self.sought;
        let mut pods = self.pods();
        let Some(first) = pods.next() else {
            return Finding::fail(
                CHECK,
                format!(
                    "no MutatingWebhookConfiguration{sought} has the webhook {PODS}, so pods that ask are created without sidecars"
                ),
                "install or upgrade the chart; what is there: kubectl get mutatingwebhookconfigurations",
            );
        };
        let all = self.list();
        let others: Vec<_> = pods.map(|hook| hook.configuration.as_str()).collect();
        if !others.is_empty() && !self.narrowed {
            return Finding::warn(
                CHECK,
                format!("several releases take pods: {all}"),
                "uninstall those that are not meant to be there, or name one with --registration",
            );
        }
        if first.failure_policy != "Fail" {
            return Finding::warn(
                CHECK,
                format!(
                    "{all}: while the webhook cannot be reached, pods that ask are created without their sidecars"
                ),
                "set webhook.failurePolicy to Fail; pods that do not ask are never held up",
            );
        }
        if !self.hooks.iter().any(|hook| hook.name == NAMESPACES) {
            return Finding::warn(
                CHECK,
                format!("{all}, but no webhook {NAMESPACES}: defaults of namespaces do not count"),
                "upgrade the chart",
            );
        }
        Finding::ok(CHECK, all)
    }

    /// Every configuration with its webhooks and their failure policies.
    fn list(&self) -> String {
        let mut text = String::new();
        let mut before = None;
        for hook in &self.hooks {
            let configuration = (hook.kind, &hook.configuration);
            if before == Some(configuration) {
                text.push_str(", ");
            } else {
                if before.is_some() {
                    text.push_str("; ");
                }
                text.push_str(&format!("{} {}: ", hook.kind, hook.configuration));
            }
            before = Some(configuration);
            text.push_str(&format!("{} ({})", hook.name, hook.failure_policy));
        }
        text
    }
}

fn is_sought(hook: &Hook, options: &Options) -> bool {
    let named = options.registration.as_ref();
    let service = hook
        .client
        .service
        .as_ref()
        .map(|service| &service.namespace);
    let at_home = |namespace| {
        service == Some(namespace) || hook.release_namespace.as_ref() == Some(namespace)
    };
    named.is_none_or(|name| *name == hook.configuration)
        && options.namespace.as_ref().is_none_or(at_home)
}

fn sought(options: &Options) -> String {
    let mut text = String::new();
    if let Some(name) = &options.registration {
        text.push_str(&format!(" of the name {name:?}"));
    }
    if let Some(namespace) = &options.namespace {
        text.push_str(&format!(" of a release in the namespace {namespace:?}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::cluster::registration::Kind;

    fn hook(configuration: &str, name: &str, policy: &str) -> Hook {
        Hook {
            configuration: configuration.to_owned(),
            kind: Kind::Mutating,
            name: name.to_owned(),
            failure_policy: policy.to_owned(),
            ..Hook::default()
        }
    }

    fn finding(hooks: Vec<Hook>) -> Finding {
        let registered = Registered {
            hooks,
            ..Registered::default()
        };
        registered.finding()
    }

    #[test]
    fn a_whole_registration_is_good() {
        let found = finding(vec![
            hook("outrigger", PODS, "Fail"),
            hook("outrigger", NAMESPACES, "Ignore"),
        ]);
        assert_eq!(found.verdict, Verdict::Ok);
        assert_eq!(
            found.message,
            "MutatingWebhookConfiguration outrigger: pods.outrigger.dev (Fail), namespaces.outrigger.dev (Ignore)"
        );
    }

    #[test]
    fn what_is_missing_or_weak_is_told() {
        assert_eq!(finding(Vec::new()).verdict, Verdict::Fail);
        let alone = finding(vec![hook("outrigger", PODS, "Fail")]);
        assert_eq!(alone.verdict, Verdict::Warn);
        let weak = finding(vec![hook("outrigger", PODS, "Ignore")]);
        assert!(weak.message.contains("without their sidecars"), "{weak:?}");
        let two = finding(vec![hook("a", PODS, "Fail"), hook("b", PODS, "Fail")]);
        assert!(two.message.contains("several releases"), "{two:?}");
    }

    #[test]
    fn the_options_choose_a_release() {
        let mut one = hook("one", PODS, "Fail");
        one.release_namespace = Some("here".to_owned());
        let options = |namespace: Option<&str>, registration: Option<&str>| Options {
            namespace: namespace.map(str::to_owned),
            registration: registration.map(str::to_owned),
            ..Options::default()
        };
        assert!(is_sought(&one, &options(None, None)));
        assert!(is_sought(&one, &options(Some("here"), Some("one"))));
        assert!(!is_sought(&one, &options(Some("there"), None)));
        assert!(!is_sought(&one, &options(Some("here"), Some("two"))));
    }
}
