//! Labels and annotations of namespaces, as they are now.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tracing::Span;

use super::audit::pages;
use super::hearing::{self, WATCH_SECONDS};
use crate::inject::{Namespace, Namespaces};
use crate::server::standing::{Following, Topic};

/// Watches all namespaces and hands over each new state, beginning with the first that is complete. Ends only
/// when it is dropped: a watch that is lost is taken up again, with growing pauses.
pub async fn watch(client: Client, following: Following, publish: impl Fn(Namespaces)) {
    // Of the metadata alone: nothing else is read, so nothing else is sent.
    let api: Api<PartialObjectMeta<v1::Namespace>> =
        Api::all(hearing::listening(&following, &client));
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let events = watcher::watcher(api, config).default_backoff();
    let mut events = pin!(events);
    let mut known = Namespaces::default();
    let mut listed = Namespaces::default();
    let mut listing = Span::none();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                listed = Namespaces::default();
                listing = hearing::listing(Topic::Namespaces);
            }
            Ok(Event::InitApply(namespace)) => insert(&mut listed, namespace),
            Ok(Event::InitDone) => {
                listing = Span::none();
                known = std::mem::take(&mut listed);
                tracing::info!(target: "cluster", namespaces = known.size(), "namespaces are known");
                publish(known.clone());
                following.known();
            }
            Ok(Event::Apply(namespace)) => {
                insert(&mut known, namespace);
                publish(known.clone());
            }
            Ok(Event::Delete(namespace)) => {
                known.remove_mut(namespace.metadata.name.as_deref().unwrap_or_default());
                publish(known.clone());
            }
            Err(error) => {
                hearing::interrupted(&mut listing, Topic::Namespaces, &error);
                tracing::warn!(target: "cluster", %error, "the watch of namespaces is interrupted");
            }
        }
    }
}

/// All namespaces, or the one of this name.
///
/// # Errors
/// An API server that does not answer or refuses, or a namespace that does not exist (404).
pub async fn list(client: &Client, name: Option<&str>) -> Result<Namespaces, kube::Error> {
    let api: Api<v1::Namespace> = Api::all(client.clone());
    let mut known = Namespaces::default();
    match name {
        Some(name) => insert(&mut known, api.get_metadata(name).await?),
        None => {
            let all = ListParams::default();
            pages(&api, all, Duration::ZERO, |namespace| {
                insert(&mut known, namespace);
            })
            .await?;
        }
    }
    Ok(known)
}

fn insert(namespaces: &mut Namespaces, object: PartialObjectMeta<v1::Namespace>) {
    let metadata = object.metadata;
    let facts = Namespace {
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
    };
    if let Some(name) = metadata.name {
        namespaces.insert_mut(name.into(), Arc::new(facts));
    }
}
