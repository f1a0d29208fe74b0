//! What is learnt from a cluster of any size: the watches of the webhook, and an API server that is a function.
//!
//! All of it runs on the thread that calls it, but for the compiler of profiles, so that what it allocates can be
//! counted. The clock stands still while there is anything to do: pauses between two attempts take no time.

#![allow(
    clippy::panic,
    reason = "a benchmark without its cluster has nothing to measure"
)]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use outrigger::admission::Snapshot;
use outrigger::cluster::namespaces;
use outrigger::cluster::profiles::{self, Shelved};
use outrigger::inject::Namespaces;
use outrigger::profile::Defaults;
use outrigger::server::standing::{Standings, Topic};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::curves;

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

/// Objects of one kind, and a webhook that follows them.
pub(crate) struct Followed {
    runtime: Runtime,
    server: Server,
    published: UnboundedReceiver<()>,
    live: Arc<ArcSwap<Snapshot>>,
}

/// An API server with objects of one kind.
#[derive(Clone)]
struct Server {
    objects: Arc<Vec<String>>,
    /// Where the one watch is told of changes.
    watcher: Arc<Mutex<Option<UnboundedSender<Bytes>>>>,
}

impl Followed {
    /// Namespaces, beside what is in a snapshot already. Nothing is listed yet.
    pub(crate) fn namespaces(count: usize, snapshot: Snapshot) -> Self {
        let objects = (0..count).map(|index| namespace(index, 0).to_string());
        let (followed, published) = Self::new(objects.collect(), snapshot);
        let live = Arc::clone(&followed.live);
        let following = Arc::new(Standings::default()).follow(Topic::Namespaces);
        let publish = move |namespaces: Namespaces| {
            live.rcu(|old| Snapshot {
                namespaces: namespaces.clone(),
                ..Snapshot::clone(old)
            });
            let _ = published.send(());
        };
        let server = followed.server.clone();
        followed.runtime.spawn(async move {
            namespaces::watch(server.client(), following, publish).await;
        });
        followed
    }

    /// The same of profiles.
    pub(crate) fn profiles(count: usize, snapshot: Snapshot) -> Self {
        let objects = (0..count).map(|index| profile(index, "example.com/a:1", 1).to_string());
        let catalogue = snapshot.catalogue.clone();
        let (followed, published) = Self::new(objects.collect(), snapshot);
        let live = Arc::clone(&followed.live);
        let following = Arc::new(Standings::default()).follow(Topic::Profiles);
        let publish = move |shelved: Shelved| {
            let catalogue = shelved.catalogue;
            if !live.load().catalogue.is_same(&catalogue) {
                live.rcu(|old| Snapshot {
                    catalogue: catalogue.clone(),
                    ..Snapshot::clone(old)
                });
            }
            let _ = published.send(());
        };
        let server = followed.server.clone();
        followed.runtime.spawn(async move {
            let defaults = Defaults::default();
            profiles::watch(server.client(), following, catalogue, defaults, publish).await;
        });
        followed
    }

    fn new(objects: Vec<String>, snapshot: Snapshot) -> (Self, UnboundedSender<()>) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap_or_else(|error| panic!("{error}"));
        let (tell, published) = unbounded_channel();
        let server = Server {
            objects: Arc::new(objects),
            watcher: Arc::default(),
        };
        let followed = Self {
            runtime,
            server,
            published,
            live: Arc::new(ArcSwap::from_pointee(snapshot)),
        };
        (followed, tell)
    }

    /// Waits until what is known has changed.
    pub(crate) fn published(&mut self) {
        let published = self.published.recv();
        // Of the clock that stands still.
        let within = Duration::from_secs(3600);
        let published = self
            .runtime
            .block_on(async { tokio::time::timeout(within, published).await });
        assert!(matches!(published, Ok(Some(()))), "nothing is published");
    }

    /// What reviews see.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.live.load_full()
    }

    /// A namespace is changed.
    pub(crate) fn change_namespace(&mut self, index: usize, change: usize) {
        self.change("MODIFIED", &namespace(index, change));
        self.published();
    }

    /// A profile is changed.
    pub(crate) fn change_profile(&mut self, index: usize, change: usize) {
        let image = format!("example.com/a:{change}");
        let generation = change as u64;
        self.change("MODIFIED", &profile(index, &image, generation));
        self.published();
    }

    /// The watch is lost, and everything is listed again.
    #[allow(dead_code, reason = "the tests do not look at it")]
    pub(crate) fn list_again(&mut self) {
        let gone = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410,
        });
        self.change("ERROR", &gone);
        self.published();
    }

    fn change(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        // The watch begins when the list is known, which may be a step later.
        self.runtime.block_on(async {
            loop {
                let watcher = self.server.watcher.lock().map(|watcher| watcher.clone());
                if let Ok(Some(watcher)) = watcher
                    && watcher.send(line.clone().into()).is_ok()
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
    }
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<StreamBody<Frames>> {
        let query = request.uri().query().unwrap_or_default();
        if request.method() != Method::GET {
            // A status that is written.
            return whole(json!({"metadata": {}}).to_string());
        }
        if !query.contains("watch=true") {
            return whole(self.page(query));
        }
        let (tell, told) = unbounded_channel();
        if let Ok(mut watcher) = self.watcher.lock() {
            *watcher = Some(tell);
        }
        let frames = stream::unfold(told, |mut told| async move {
            Some((Ok(Frame::data(told.recv().await?)), told))
        });
        Response::new(StreamBody::new(frames.boxed()))
    }

    /// A part of the list, as long as it is asked for.
    fn page(&self, query: &str) -> String {
        let number = |key: &str| {
            let values = query.split('&').find_map(|pair| pair.strip_prefix(key));
            values.and_then(|value| value.parse().ok())
        };
        let begin = number("continue=").unwrap_or(0);
        let limit = number("limit=").unwrap_or(usize::MAX);
        let end = self.objects.len().min(begin.saturating_add(limit));
        let next = match end < self.objects.len() {
            true => format!(",\"continue\":\"{end}\""),
            false => String::new(),
        };
        let items = self.objects[begin..end].join(",");
        format!(
            "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"1\"{next}}},\"items\":[{items}]}}"
        )
    }
}

fn whole(text: String) -> Response<StreamBody<Frames>> {
    let frame = Ok(Frame::data(Bytes::from(text)));
    Response::new(StreamBody::new(stream::iter([frame]).boxed()))
}

fn namespace(index: usize, change: usize) -> Value {
    let facts = curves::namespace(index, change);
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": curves::namespace_name(index), "uid": "6f3a", "resourceVersion": change.to_string(),
            "labels": facts.labels, "annotations": facts.annotations,
        },
    })
}

fn profile(index: usize, image: &str, generation: u64) -> Value {
    json!({
        "kind": "SidecarProfile", "apiVersion": "outrigger.dev/v1alpha1",
        "metadata": {
            "name": curves::profile_name(index), "uid": "6f3a", "generation": generation,
            "resourceVersion": generation.to_string(),
        },
        "spec": curves::profile_spec(index, image),
    })
}
