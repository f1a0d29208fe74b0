//! The auditor of a webhook that runs: looks at all pods now and then.
//!
//! Its calls are bounded whatever the interval: two a second at most, each for the metadata of 500 pods or for one
//! webhook configuration, and a run begins an interval after the end of the one before. Nothing of a page is kept
//! but counts and the workloads that lack something.
//!
//! Every replica audits: nothing is written, so there is nothing to elect anybody for. Replicas see the same profiles
//! and namespaces and so count the same pods alike; between their runs, which are an interval apart at most, their
//! numbers may differ.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::api::ListParams;
use kube::core::request::Request;
use kube::core::{ObjectList, ObjectMeta, PartialObjectMeta, PartialObjectMetaExt as _};
use kube::{Api, Client, Resource};

use super::{Facts, Finding, Reach, State, workload};
use crate::admission::Snapshot;
use crate::cluster::partial::WithMetadata;
use crate::cluster::{registration, said};

/// Objects asked for at a time.
const PAGE: u32 = 500;
/// The pause before each call. The largest clusters have 150,000 pods, which are 300 calls: they must be done within
/// the five minutes that the API server keeps the state that the pages are of.
const PAUSE: Duration = Duration::from_millis(500);
/// The bound on a run. Pages of a state that is older are gone.
const LONGEST: Duration = Duration::from_secs(600);
/// The wait before the first run: a webhook that starts has better things to do.
const FIRST: Duration = Duration::from_secs(15);
/// The finished pods are many, and nothing is missing to them any more.
pub(crate) const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Workloads that one run tells of by name; further ones are counted.
const MAX_TOLD: usize = 100;

/// How many pods are in each state.
pub type Counts = [(State, u64); State::ALL.len()];

/// What an auditor looks at, and how often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pause between two runs.
    pub interval: Duration,
    /// The mutating webhook configurations that say which pods the webhook is called for. With none, or as long as
    /// none of them is there, all pods count but those of the control plane.
    pub configurations: Vec<String>,
}

/// Audits again and again, and hands over the outcome of each run: the counts, or none if the run failed. Ends only
/// when it is dropped.
pub async fn follow(
    client: Client,
    settings: Settings,
    snapshot: impl Fn() -> Snapshot,
    tell: impl Fn(Option<Counts>),
) {
    let mut known = BTreeSet::new();
    tokio::time::sleep(FIRST.min(settings.interval)).await;
    loop {
        let run = run(&client, &settings.configurations, &snapshot);
        let run = tokio::time::timeout(LONGEST, run).await;
        match run.unwrap_or(Err(RunError::Slow)) {
            Ok(run) => {
                tracing::debug!(target: "audit", counts = ?run.counts, "the pods are audited");
                warn(&run.missed, &known);
                known = run.missed;
                tell(Some(run.counts));
            }
            Err(error) => {
                tracing::warn!(target: "audit", %error, "the pods could not be audited");
                tell(None);
            }
        }
        tokio::time::sleep(settings.interval).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("pods cannot be listed: {}", said(.0))]
    Pods(kube::Error),
    #[error("a webhook configuration cannot be read: {}", said(.0))]
    Registration(kube::Error),
    #[error("nothing is known of namespaces yet")]
    Namespaces,
    #[error("it took longer than {} s", LONGEST.as_secs())]
    Slow,
}

/// What one run found: little, so that memory stays flat.
struct Run {
    counts: Counts,
    missed: BTreeSet<Missed>,
}

/// A namespace, a workload of it, and what pods of that lack.
type Missed = (String, String, String);

async fn run(
    client: &Client,
    configurations: &[String],
    snapshot: &impl Fn() -> Snapshot,
) -> Result<Run, RunError> {
    let mut hooks = Vec::new();
    for name in configurations {
        tokio::time::sleep(PAUSE).await;
        let found = registration::of_pods_in(client, name).await;
        hooks.extend(found.map_err(RunError::Registration)?);
    }
    // One snapshot a run: pods of one workload are not judged by two revisions.
    let snapshot = snapshot();
    if snapshot.namespaces.is_empty() {
        return Err(RunError::Namespaces);
    }
    let facts = Facts {
        catalogue: snapshot.catalogue.clone(),
        namespaces: Some(&snapshot.namespaces),
        reach: Reach::new(&hooks),
        ..Facts::default()
    };
    let mut run = Run {
        counts: State::ALL.map(|state| (state, 0)),
        missed: BTreeSet::new(),
    };
    let pods: Api<v1::Pod> = Api::all(client.clone());
    let fields = ListParams::default().fields(UNFINISHED);
    pages(&pods, fields, PAUSE, |pod| {
        let finding = facts.judge(&pod);
        let state = finding.state();
        for (counted, count) in &mut run.counts {
            *count += u64::from(Some(*counted) == state);
        }
        if let Finding::Missed { missed, .. } = finding {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let lacks = missed.join(", ");
            run.missed
                .insert((namespace, workload(&pod.metadata), lacks));
        }
    })
    .await
    .map_err(RunError::Pods)?;
    Ok(run)
}

/// Tells of each once.
fn warn(missed: &BTreeSet<Missed>, known: &BTreeSet<Missed>) {
    let mut new = missed.difference(known);
    for (namespace, workload, lacks) in new.by_ref().take(MAX_TOLD) {
        tracing::warn!(
            target: "audit",
            namespace,
            workload,
            missed = lacks,
            "pods run without what they asked for; they get it when they are created again"
        );
    }
    let left = new.count();
    if left > 0 {
        tracing::warn!(target: "audit", workloads = left, "and further workloads; outrigger list --missed has them all");
    }
}

/// Hands over the metadata of all objects that `parameters` select, page by page, with a pause before each call.
///
/// # Errors
/// An API server that does not answer or refuses. Some of the objects may have been handed over by then.
pub async fn pages<K: Clone + Resource>(
    api: &Api<K>,
    parameters: ListParams,
    pause: Duration,
    mut each: impl FnMut(PartialObjectMeta<K>),
) -> Result<(), kube::Error> {
    let client = api.clone().into_client();
    let mut page = parameters.limit(PAGE);
    loop {
        tokio::time::sleep(pause).await;
        let request = Request::new(api.resource_url()).list_metadata(&page);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let list: ObjectList<WithMetadata> = client.request(request).await?;
        for object in list.items {
            each(ObjectMeta::from(object.metadata).into_response_partial());
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use hyper::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value as Json, json};
    use tokio::time::Instant;

    use super::*;
    use crate::inject::Namespace;

    /// An API server with 1,200 pods that ask and have nothing, and every request that it got, with the time since
    /// its start.
    #[derive(Clone)]
    struct Fake {
        start: Instant,
        asked: Arc<Mutex<Vec<(Duration, String)>>>,
    }

    impl Fake {
        fn start() -> (Self, Client) {
            let fake = Self {
                start: Instant::now(),
                asked: Arc::default(),
            };
            let server = fake.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let answer = server.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            (fake, Client::new(service, "default"))
        }

        fn answer(&self, request: &Request<Body>) -> Response<Body> {
            let uri = request.uri().to_string();
            self.asked
                .lock()
                .unwrap()
                .push((self.start.elapsed(), uri.clone()));
            let (code, answer) = match uri.split_once("/pods?") {
                Some((_, query)) => {
                    let accepts = request.headers()["accept"].to_str().unwrap();
                    assert!(accepts.contains("PartialObjectMetadata"), "{accepts}");
                    (200, page(query))
                }
                None => {
                    let missing = json!({
                        "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
                    });
                    (404, missing)
                }
            };
            Response::builder()
                .status(code)
                .body(Body::from(answer.to_string().into_bytes()))
                .unwrap()
        }

        fn asked(&self) -> Vec<(Duration, String)> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn page(query: &str) -> Json {
        let parameter = |key: &str| {
            let mut all = query.split('&').filter_map(|pair| pair.split_once('='));
            all.find(|(found, _)| *found == key).map(|(_, value)| value)
        };
        let limit: usize = parameter("limit").unwrap().parse().unwrap();
        let first: usize = parameter("continue").map_or(0, |token| token.parse().unwrap());
        let end = (first + limit).min(1200);
        let items: Vec<_> = (first..end)
            .map(|number| {
                json!({"metadata": {
                    "name": format!("web-{number}"), "namespace": "shop",
                    "annotations": {"outrigger.dev/inject": "fluentd"},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "1", "controller": true,
                    }],
                }})
            })
            .collect();
        let more = if end < 1200 {
            end.to_string()
        } else {
            String::new()
        };
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"continue": more}, "items": items,
        })
    }

    fn snapshot() -> Snapshot {
        let shop = ("shop".into(), Arc::new(Namespace::default()));
        Snapshot {
            namespaces: [shop].into_iter().collect(),
            ..Snapshot::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_reads_metadata_page_by_page_and_keeps_one_line_a_workload() {
        let (fake, client) = Fake::start();
        let run = run(&client, &["outrigger".to_owned()], &snapshot)
            .await
            .unwrap();
        assert_eq!(run.counts[0], (State::Missed, 1200));
        let web = ("shop".into(), "StatefulSet/web".into(), "fluentd".into());
        assert_eq!(run.missed, BTreeSet::from([web]));
        let asked = fake.asked();
        assert_eq!(asked.len(), 4, "{asked:?}");
        assert!(
            asked[0]
                .1
                .ends_with("/mutatingwebhookconfigurations/outrigger")
        );
        for (_, uri) in &asked[1..] {
            assert!(uri.contains("limit=500"), "{uri}");
            assert!(uri.contains("status.phase%21%3DSucceeded"), "{uri}");
        }
    }

    /// However short the interval, for a minute.
    #[tokio::test(start_paused = true)]
    async fn calls_are_never_closer_than_the_pause() {
        let (fake, client) = Fake::start();
        let settings = Settings {
            interval: Duration::from_millis(1),
            configurations: vec!["outrigger".to_owned()],
        };
        let runs = Mutex::new(0);
        let auditor = follow(client, settings, snapshot, |counts| {
            assert!(counts.is_some());
            *runs.lock().unwrap() += 1;
        });
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, auditor).await.is_err());
        let times: Vec<_> = fake.asked().into_iter().map(|(time, _)| time).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE));
        assert!(*runs.lock().unwrap() > 20, "{runs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_namespaces_a_run_fails_before_it_lists_pods() {
        let (fake, client) = Fake::start();
        let error = run(&client, &[], &Snapshot::default).await.err().unwrap();
        assert_eq!(error.to_string(), "nothing is known of namespaces yet");
        assert!(fake.asked().is_empty());
    }
}
