//! How what is known of the cluster stands: whether it has come at all, and how long ago the API server was last
//! heard. `/readyz` and the metrics tell it.
//!
//! A watch is quiet for as long as nothing changes, so its events say nothing about whether it lives. What is heard
//! are the bytes of its answers: those hold bookmarks as well, which an API server sends about once a minute, and a
//! watch is ended and begun anew every [`WATCH_SECONDS`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;
use tower::service_fn;
use tracing::Span;

/// How long one call of a watch lasts. A stream that is dead is given up five seconds later.
pub const WATCH_SECONDS: u32 = 120;
/// How long the API server may take to begin an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long to be unready for what the cluster has not told yet.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is learnt from the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Labels and annotations of namespaces.
    Namespaces,
    /// `SidecarProfile` objects.
    Profiles,
    /// The versions of the API server and the nodes.
    Versions,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Profiles, Self::Versions];

    /// The name as written in metrics and in `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Profiles => "profiles",
            Self::Versions => "versions",
        }
    }

    /// How long silence means nothing: one call of a watch, or one pause between two looks, and what it may take
    /// to begin the next.
    fn usual_silence(self) -> Duration {
        match self {
            Self::Namespaces | Self::Profiles => Duration::from_secs(150),
            Self::Versions => super::version::PERIOD + Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How each topic stands. One that is not followed is neither waited for nor told.
#[derive(Debug)]
pub struct Standings {
    began: Instant,
    patience: Duration,
    each: [Standing; Topic::ALL.len()],
}

#[derive(Debug, Default)]
struct Standing {
    followed: AtomicBool,
    known: AtomicBool,
    /// Milliseconds after `began`.
    heard: AtomicU64,
}

impl Default for Standings {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Standings {
    /// Standings of which nothing is followed yet. `patience` is how long to be unready for what is unknown.
    pub fn new(patience: Duration) -> Self {
        Self {
            began: Instant::now(),
            patience,
            each: Default::default(),
        }
    }

    /// Begins to follow a topic: until its first word, silence counts from now.
    pub fn follow(self: &Arc<Self>, topic: Topic) -> Following {
        let following = Following {
            standings: Arc::clone(self),
            topic,
        };
        following.heard();
        self.of(topic).followed.store(true, Ordering::Release);
        following
    }

    /// How long each followed topic has been silent beyond what is usual. Zero is fresh.
    pub fn staleness(&self) -> impl Iterator<Item = (Topic, Duration)> {
        self.staleness_at(Instant::now())
    }

    fn staleness_at(&self, now: Instant) -> impl Iterator<Item = (Topic, Duration)> {
        let now = now.saturating_duration_since(self.began);
        self.followed().map(move |topic| {
            let heard = Duration::from_millis(self.of(topic).heard.load(Ordering::Relaxed));
            let silence = now.saturating_sub(heard);
            (topic, silence.saturating_sub(topic.usual_silence()))
        })
    }

    /// The followed topics of which nothing is known yet.
    pub fn unknown(&self) -> impl Iterator<Item = Topic> {
        self.followed()
            .filter(|topic| !self.of(*topic).known.load(Ordering::Acquire))
    }

    /// Whether what is unknown is still waited for.
    pub fn is_patient(&self) -> bool {
        self.began.elapsed() < self.patience
    }

    fn followed(&self) -> impl Iterator<Item = Topic> {
        Topic::ALL
            .into_iter()
            .filter(|topic| self.of(*topic).followed.load(Ordering::Acquire))
    }

    fn of(&self, topic: Topic) -> &Standing {
        &self.each[topic as usize]
    }
}

/// One topic, for those who follow it.
#[derive(Debug, Clone)]
pub struct Following {
    standings: Arc<Standings>,
    topic: Topic,
}

impl Following {
    /// The API server said something of the topic.
    pub fn heard(&self) {
        let after = self.standings.began.elapsed().as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        let standing = self.standings.of(self.topic);
        standing.heard.store(after, Ordering::Relaxed);
    }

    /// All of the topic is known, or it is known that there is none.
    pub fn known(&self) {
        let standing = self.standings.of(self.topic);
        standing.known.store(true, Ordering::Release);
    }

    /// A client for this topic alone: what it receives counts as heard, and an answer that does not begin is an
    /// error instead of an endless wait. Errors that the API server answers with are not news of the topic.
    pub fn listening(&self, client: &Client) -> Client {
        let (inner, following) = (client.clone(), self.clone());
        let service = service_fn(move |request: hyper::Request<Body>| {
            let (client, following) = (inner.clone(), following.clone());
            async move {
                let answer = tokio::time::timeout(ANSWER, client.send(request)).await;
                let response = answer.map_err(|_| silence())??;
                let news = response.status().is_success().then_some(following);
                news.iter().for_each(Self::heard);
                Ok::<_, kube::Error>(response.map(|body| {
                    body.map_frame(move |frame| {
                        news.iter().for_each(Self::heard);
                        frame
                    })
                }))
            }
        });
        Client::new(service, client.default_namespace())
    }
}

/// A span for as long as all of a topic is listed: at the start, and when a watch could not go on where it was.
pub fn listing(topic: Topic) -> Span {
    tracing::debug_span!(target: "cluster", "list", watch = topic.as_str(), error = tracing::field::Empty)
}

/// A watch or its list was interrupted: ends the span of the list with it, or is a span of its own.
pub fn interrupted(listing: &mut Span, topic: Topic, error: &dyn fmt::Display) {
    let span = match std::mem::replace(listing, Span::none()) {
        span if span.is_none() => {
            tracing::debug_span!(target: "cluster", "interruption", watch = topic.as_str(), error = tracing::field::Empty)
        }
        span => span,
    };
    span.record("error", tracing::field::display(error));
}

fn silence() -> kube::Error {
    let text = format!(
        "the API server did not begin to answer within {} s",
        ANSWER.as_secs()
    );
    kube::Error::Service(text.into())
}

#[cfg(test)]
mod tests;
