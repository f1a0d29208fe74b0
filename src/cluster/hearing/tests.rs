//! Watches of an API server that answers, is silent or is away. The clock is the runtime's and stands still while
//! there is anything to do, so that ten minutes pass in an instant.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::Frame;
use hyper::{Request, Response};

use super::*;
use crate::cluster::{namespaces, profiles, version};
use crate::profile::{Catalogue, Defaults};
use crate::server::standing::{PATIENCE, Standings};

/// How an API server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Answers, tells nothing while nothing changes, and ends a watch when it should.
    Quiet,
    /// The same with a bookmark a minute, in watches that never end.
    Bookmarks,
    /// Takes connections and says nothing any more, in watches that are open neither.
    Stalled,
    /// Cannot be reached.
    Away,
    /// Has no profiles: the definition is not installed.
    NoDefinition,
}

/// An API server without objects, and how it behaves now.
#[derive(Clone)]
struct Fake(Arc<Mutex<Mood>>);

type Frames =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;
type Answer = Response<http_body_util::StreamBody<Frames>>;

impl Fake {
    fn new(mood: Mood) -> Self {
        Self(Arc::new(Mutex::new(mood)))
    }

    fn mood(&self) -> Mood {
        *self.0.lock().unwrap()
    }

    fn becomes(&self, mood: Mood) {
        *self.0.lock().unwrap() = mood;
    }

    fn client(&self) -> Client {
        let fake = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { fake.answer(request.uri()).await }
        });
        Client::new(service, "default")
    }

    async fn answer(self, uri: &hyper::Uri) -> Result<Answer, std::io::Error> {
        let is_profiles = uri.path().contains("sidecarprofiles");
        match self.mood() {
            Mood::Away => return Err(std::io::ErrorKind::ConnectionRefused.into()),
            Mood::Stalled => std::future::pending::<()>().await,
            Mood::NoDefinition if is_profiles => {
                let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"404 page not found","reason":"NotFound","code":404}"#;
                return Ok(whole(404, text));
            }
            _ => {}
        }
        let query = uri.query().unwrap_or_default();
        if !query.contains("watch=true") {
            return Ok(whole(
                200,
                r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#,
            ));
        }
        assert!(query.contains("timeoutSeconds=120"), "{query}");
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"SidecarProfile","apiVersion":"outrigger.dev/v1alpha1","metadata":{"resourceVersion":"2"}}}"#;
        let frames = futures_util::stream::unfold(self, move |fake| async move {
            match fake.mood() {
                Mood::Quiet | Mood::NoDefinition => {
                    tokio::time::sleep(Duration::from_secs(u64::from(WATCH_SECONDS))).await;
                    // Broken off in the meantime?
                    (fake.mood() == Mood::Stalled).then_some(())?;
                }
                Mood::Bookmarks => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    let line = Bytes::from(format!("{bookmark}\n"));
                    if fake.mood() == Mood::Bookmarks {
                        return Some((Ok(Frame::data(line)), fake));
                    }
                }
                Mood::Away => return None,
                Mood::Stalled => {}
            }
            std::future::pending().await
        });
        Ok(Response::new(http_body_util::StreamBody::new(
            frames.boxed(),
        )))
    }
}

fn whole(status: u16, text: &'static str) -> Answer {
    let frame = Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    let frames = futures_util::stream::iter([frame]).boxed();
    let mut answer = Response::new(http_body_util::StreamBody::new(frames));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    answer
}

/// Follows namespaces and profiles of that server for as long as the set lives.
fn follow(fake: &Fake) -> (Arc<Standings>, tokio::task::JoinSet<()>) {
    let standings = Arc::new(Standings::default());
    let mut tasks = tokio::task::JoinSet::new();
    let following = standings.follow(Topic::Namespaces);
    tasks.spawn(namespaces::watch(fake.client(), following, |_| {}));
    let following = standings.follow(Topic::Profiles);
    let (ours, defaults) = (Catalogue::default(), Defaults::default());
    tasks.spawn(profiles::watch(
        fake.client(),
        following,
        ours,
        defaults,
        |_| {},
    ));
    (standings, tasks)
}

/// The seconds for which namespaces and profiles are stale.
fn stale(standings: &Standings) -> Vec<u64> {
    let all = standings.staleness();
    all.map(|(_, stale)| stale.as_secs()).collect()
}

async fn minutes(count: u64) {
    // In steps, so that everything else that is due takes place.
    for _ in 0..count * 12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// The largest staleness in this many minutes, looked at every five seconds.
async fn most_stale(standings: &Standings, count: u64) -> u64 {
    let mut most = 0;
    for _ in 0..count * 12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        most = stale(standings).into_iter().fold(most, u64::max);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_is_fresh() {
    for mood in [Mood::Quiet, Mood::Bookmarks] {
        let (standings, _tasks) = follow(&Fake::new(mood));
        assert_eq!(most_stale(&standings, 60).await, 0, "{mood:?}");
        assert_eq!(standings.unknown().count(), 0);
    }
}

/// Cut for ten minutes: that long is seen, less what is usual, and all is well soon after.
#[tokio::test(start_paused = true)]
async fn a_cut_shows_and_ends() {
    for cut in [Mood::Stalled, Mood::Away] {
        for before in [Mood::Quiet, Mood::Bookmarks] {
            let fake = Fake::new(before);
            let (standings, _tasks) = follow(&fake);
            minutes(5).await;
            fake.becomes(cut);
            minutes(10).await;
            let during = stale(&standings);
            // The last word was up to two minutes before the cut.
            assert!(
                during.iter().all(|stale| (440..=580).contains(stale)),
                "{cut:?} after {before:?}: {during:?}"
            );
            assert_eq!(standings.unknown().count(), 0, "what was known is known");
            fake.becomes(before);
            // Up to 30 seconds of silence in a call and a pause of half a minute, with its jitter.
            minutes(3).await;
            assert_eq!(stale(&standings), [0, 0], "{cut:?} after {before:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_definition_there_is_nothing_to_know_of_profiles() {
    let (standings, _tasks) = follow(&Fake::new(Mood::NoDefinition));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(standings.unknown().count(), 0);
    assert_eq!(most_stale(&standings, 30).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_goes_is_missed() {
    let fake = Fake::new(Mood::Quiet);
    let (standings, _tasks) = follow(&fake);
    minutes(1).await;
    fake.becomes(Mood::NoDefinition);
    minutes(15).await;
    let stale = stale(&standings);
    assert_eq!(stale[0], 0, "namespaces are still heard of");
    assert!(stale[1] > 300, "{stale:?}");
}

#[tokio::test(start_paused = true)]
async fn what_never_answers_is_unknown_and_waited_for_only_so_long() {
    for mood in [Mood::Stalled, Mood::Away] {
        let fake = Fake::new(mood);
        let (standings, _tasks) = follow(&fake);
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        assert_eq!(standings.unknown().count(), 2, "{mood:?}");
        assert!(standings.is_patient());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!standings.is_patient());
        fake.becomes(Mood::Quiet);
        minutes(2).await;
        assert_eq!(standings.unknown().count(), 0, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn versions_are_looked_at_less_often() {
    let standings = Arc::new(Standings::default());
    let fake = Fake::new(Mood::Away);
    let client = fake.client();
    let following = standings.follow(Topic::Versions);
    let _task = tokio_task(version::follow(client, following, |_| {}));
    minutes(10).await;
    assert_eq!(stale(&standings), [0]);
    minutes(5).await;
    let stale = stale(&standings);
    assert!((230..=240).contains(&stale[0]), "{stale:?}");
}

fn tokio_task(future: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(future);
    tasks
}
