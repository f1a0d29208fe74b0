//! How what is known of the cluster stands: whether it has come at all, and how long ago the API server was last
//! heard. `/readyz` and the metrics tell it; who follows the cluster says so.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long to be unready for what the cluster has not told yet.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often the versions of the nodes are looked at. Nodes are seldom older than those before them.
pub const VERSIONS_PERIOD: Duration = Duration::from_secs(600);

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
            Self::Versions => VERSIONS_PERIOD + Duration::from_secs(60),
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
        let now = self.began.elapsed();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_followed_is_neither_waited_for_nor_told() {
        let standings = Standings::default();
        assert_eq!(standings.unknown().count(), 0);
        assert_eq!(standings.staleness().count(), 0);
    }
}
