//! The webhook configurations by which the API server calls us, as they stand in the cluster.

use std::fmt;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::inject::decide::DOMAIN;

/// The webhook for pods that ask.
pub const PODS: &str = "pods.outrigger.dev";
/// The webhook for pods of namespaces that are opted in.
pub const NAMESPACES: &str = "namespaces.outrigger.dev";

/// The annotation by which Helm knows what it made.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// What the API server fills in, in seconds.
const TIMEOUT: i32 = 10;

/// The kinds of configuration that register webhooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `MutatingWebhookConfiguration`.
    #[default]
    Mutating,
    /// `ValidatingWebhookConfiguration`.
    Validating,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mutating, Self::Validating];

    /// As it stands in `kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingWebhookConfiguration",
            Self::Validating => "ValidatingWebhookConfiguration",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A webhook of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Hook {
    /// The name of the configuration that it stands in.
    pub configuration: String,
    /// The kind of that.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// `Fail`, which is also the default, or `Ignore`.
    pub failure_policy: String,
    /// Where the API server finds it, and how it verifies it.
    pub client: WebhookClientConfig,
    /// The namespaces whose objects are sent. An empty one is all of them.
    pub namespaces: LabelSelector,
    /// The objects that are sent, by their own labels. An empty one is all of them.
    pub objects: LabelSelector,
    /// The seconds after which the API server gives up.
    pub timeout: i32,
    /// The namespace of the Helm release that the configuration belongs to.
    pub release_namespace: Option<String>,
}

impl Hook {
    /// Whether pods are sent to it, to be injected.
    #[must_use]
    pub fn takes_pods(&self) -> bool {
        self.kind == Kind::Mutating && (self.name == PODS || self.name == NAMESPACES)
    }

    /// Whether it is one of ours, by its name.
    fn is_ours(&self) -> bool {
        let name = self.name.strip_suffix(DOMAIN);
        name.is_some_and(|name| name.ends_with('.'))
    }

    /// `MutatingWebhookConfiguration outrigger: pods.outrigger.dev`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}: {}", self.kind, self.configuration, self.name)
    }
}

/// A kind of configuration, of which both have the same webhooks under other types.
pub trait Configuration:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + 'static
{
    /// Which kind.
    const KIND: Kind;

    /// Its webhooks.
    fn hooks(self) -> Vec<Hook>;
}

macro_rules! configuration {
    ($type:ty, $kind:expr) => {
        impl Configuration for $type {
            const KIND: Kind = $kind;

            fn hooks(self) -> Vec<Hook> {
                let configuration = self.name_any();
                let release_namespace = self.annotations().get(RELEASE_NAMESPACE).cloned();
                let hooks = self.webhooks.into_iter().flatten();
                hooks
                    .map(|hook| Hook {
                        configuration: configuration.clone(),
                        kind: Self::KIND,
                        name: hook.name,
                        failure_policy: hook.failure_policy.unwrap_or_else(|| "Fail".to_owned()),
                        client: hook.client_config,
                        namespaces: hook.namespace_selector.unwrap_or_default(),
                        objects: hook.object_selector.unwrap_or_default(),
                        timeout: hook.timeout_seconds.unwrap_or(TIMEOUT),
                        release_namespace: release_namespace.clone(),
                    })
                    .collect()
            }
        }
    };
}

configuration!(MutatingWebhookConfiguration, Kind::Mutating);
configuration!(ValidatingWebhookConfiguration, Kind::Validating);

/// Our webhooks in all configurations of a kind, of all releases.
///
/// # Errors
/// An API server that does not answer, or refuses.
pub async fn list<K: Configuration>(client: &Client) -> kube::Result<Vec<Hook>> {
    let list = Api::<K>::all(client.clone());
    let list = list.list(&ListParams::default()).await?;
    let hooks = list.items.into_iter().flat_map(K::hooks);
    Ok(hooks.filter(Hook::is_ours).collect())
}

/// Our webhooks that pods are sent to, of all releases.
///
/// # Errors
/// An API server that does not answer, or refuses.
pub async fn of_pods(client: &Client) -> kube::Result<Vec<Hook>> {
    let mut hooks = list::<MutatingWebhookConfiguration>(client).await?;
    hooks.retain(Hook::takes_pods);
    Ok(hooks)
}

/// Those in the mutating configuration of this name; none if it is not there.
///
/// # Errors
/// An API server that does not answer, or refuses.
pub async fn of_pods_in(client: &Client, name: &str) -> kube::Result<Vec<Hook>> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = api.get_opt(name).await?;
    let mut hooks: Vec<_> = found.into_iter().flat_map(Configuration::hooks).collect();
    hooks.retain(Hook::takes_pods);
    Ok(hooks)
}
