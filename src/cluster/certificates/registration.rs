//! The `caBundle` of the webhooks that are registered: watched, and put right by server-side apply.
//!
//! Only `webhooks[name=…].clientConfig.caBundle` is written and owned, so that whoever manages the rest, by Helm or
//! from Git, sees no drift as long as they leave that field out.

use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::authority::Certificate;
use crate::cluster::registration::{Configuration, Kind};

/// Who owns the field, in `managedFields`.
pub const FIELD_MANAGER: &str = "outrigger-ca-bundle";

/// Which configuration.
pub type Id = (Kind, String);

/// What is known of a configuration that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    uid: String,
    version: u64,
    /// Of each webhook, its name and bundle.
    webhooks: Vec<(String, Vec<u8>)>,
}

impl Registration {
    fn read<K: Configuration>(object: &K) -> Self {
        let webhooks = object.clone().hooks().into_iter();
        Self {
            uid: object.uid().unwrap_or_default(),
            version: version(object),
            webhooks: webhooks
                .map(|hook| (hook.name, hook.client.ca_bundle.unwrap_or_default().0))
                .collect(),
        }
    }

    /// Whether every webhook has this bundle.
    #[must_use]
    pub fn has(&self, bundle: &str) -> bool {
        self.webhooks
            .iter()
            .all(|(_, found)| found == bundle.as_bytes())
    }

    /// Whether this was seen after the other, which may come later all the same: an answer overtakes a watch.
    #[must_use]
    pub fn replaces(&self, old: &Self) -> bool {
        self.uid != old.uid || self.version >= old.version
    }

    /// The bundles, each once.
    #[must_use]
    pub fn bundles(&self) -> Vec<Vec<Certificate>> {
        let mut texts: Vec<&[u8]> = self.webhooks.iter().map(|(_, found)| &found[..]).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.into_iter().map(Certificate::read_all).collect()
    }
}

/// A resource version as a number, by which two states of one object can be compared (KEP-5504). 0 for one that
/// is none.
pub fn version(object: &impl Resource) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

/// A change of one configuration; `None` when there is none of that name.
pub type Change = (Id, Option<Registration>);

/// The changes of the configurations of this name, beginning with what is there. Never ends.
pub fn watch(client: &Client, name: &str) -> [Pin<Box<dyn Stream<Item = Change> + Send>>; 2] {
    [
        watch_one::<MutatingWebhookConfiguration>(client, name),
        watch_one::<ValidatingWebhookConfiguration>(client, name),
    ]
}

fn watch_one<K: Configuration>(
    client: &Client,
    name: &str,
) -> Pin<Box<dyn Stream<Item = Change> + Send>> {
    let api: Api<K> = Api::all(client.clone());
    let id = (K::KIND, name.to_owned());
    Box::pin(
        super::one(api, name, K::KIND.name())
            .map(move |object| (id.clone(), object.as_ref().map(Registration::read))),
    )
}

/// What is there now.
///
/// # Errors
/// As the API server says it.
pub async fn get(client: &Client, id: &Id) -> kube::Result<Option<Registration>> {
    async fn one<K: Configuration>(
        client: &Client,
        name: &str,
    ) -> kube::Result<Option<Registration>> {
        let object = Api::<K>::all(client.clone()).get_opt(name).await?;
        Ok(object.as_ref().map(Registration::read))
    }
    match id.0 {
        Kind::Mutating => one::<MutatingWebhookConfiguration>(client, &id.1).await,
        Kind::Validating => one::<ValidatingWebhookConfiguration>(client, &id.1).await,
    }
}

/// Gives every webhook of a configuration this bundle, and returns what the configuration then is.
///
/// # Errors
/// As the API server says it. Among others a conflict, when it is another configuration by now.
pub async fn publish(
    client: &Client,
    id: &Id,
    seen: &Registration,
    bundle: &str,
) -> kube::Result<Registration> {
    async fn one<K: Configuration>(
        client: &Client,
        name: &str,
        patch: &serde_json::Value,
    ) -> kube::Result<Registration> {
        // By force: this field is ours, whoever wrote it last.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = Api::<K>::all(client.clone());
        let object = api.patch(name, &params, &Patch::Apply(patch)).await?;
        Ok(Registration::read(&object))
    }
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let webhooks: Vec<_> = seen
        .webhooks
        .iter()
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": id.0.name(),
        // With the uid a configuration that is gone is not made again: an apply would.
        "metadata": {"name": id.1, "uid": seen.uid},
        "webhooks": webhooks,
    });
    match id.0 {
        Kind::Mutating => one::<MutatingWebhookConfiguration>(client, &id.1, &patch).await,
        Kind::Validating => one::<ValidatingWebhookConfiguration>(client, &id.1, &patch).await,
    }
}
