//! With an API server that answers as it is told. A real one is in `tests/certificates/events.rs`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::correlator::Limits;
use super::notice::{Notice, Regarding, Severity};
use super::{Outcome, QUEUE, ROUNDS, Recorder, write};

fn notice(note: &str) -> Notice {
    Notice {
        regarding: Regarding {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            namespace: "shop".to_owned(),
            name: "web-5d8f".to_owned(),
            uid: "0f61".to_owned(),
        },
        severity: Severity::Warning,
        reason: "InvalidValue",
        action: "Inject",
        note: note.to_owned(),
    }
}

/// The requests that were made: their method and body.
type Asked = Arc<Mutex<Vec<(Method, Value)>>>;

/// An API server that gives these answers in their order, then fails.
fn server(answers: Vec<(u16, Value)>) -> (Client, Asked) {
    let asked = Asked::default();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            log.lock().unwrap().push((head.method, body));
            let last = (500, status(500, "InternalError"));
            let (status, body) = answers.lock().unwrap().pop_front().unwrap_or(last);
            let answer = Response::builder().status(status);
            Ok::<_, tower::BoxError>(answer.body(Body::from(body.to_string().into_bytes()))?)
        }
    });
    (Client::new(service, "default"), asked)
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code,
    })
}

fn there(version: &str, count: Option<i32>) -> Value {
    let time = "2026-01-01T00:00:00.000000Z";
    let series = count.map(|count| json!({"count": count, "lastObservedTime": time}));
    json!({
        "kind": "Event", "apiVersion": "events.k8s.io/v1", "eventTime": time,
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": version}, "series": series,
    })
}

#[tokio::test]
async fn an_event_that_is_there_gets_a_higher_count() {
    let exists = (409, status(409, "AlreadyExists"));
    let conflict = (409, status(409, "Conflict"));
    let gone = (404, status(404, "NotFound"));
    // (what the API server answers, what is asked after the first, whether it succeeds)
    type Case = (Vec<(u16, Value)>, Vec<(Method, Value)>, bool);
    let patched = |version: &str, count: i32| {
        let patch = json!({"metadata": {"resourceVersion": version}, "series": {"count": count}});
        (Method::PATCH, patch)
    };
    let read = || (Method::PATCH, json!({}));
    let created = || (Method::POST, json!({"series": {"count": 3}}));
    let table: Vec<Case> = vec![
        (vec![(201, there("1", Some(3)))], vec![], true),
        (
            vec![
                exists.clone(),
                (200, there("7", None)),
                (200, there("8", Some(4))),
            ],
            vec![read(), patched("7", 4)],
            true,
        ),
        // Another replica counts at the same time.
        (
            vec![
                exists.clone(),
                (200, there("7", Some(10))),
                conflict.clone(),
                exists.clone(),
                (200, there("9", Some(12))),
                (200, there("10", Some(15))),
            ],
            vec![
                read(),
                patched("7", 13),
                created(),
                read(),
                patched("9", 15),
            ],
            true,
        ),
        // It ends just then.
        (
            vec![exists.clone(), gone, (201, there("1", Some(3)))],
            vec![read(), created()],
            true,
        ),
        (vec![(403, status(403, "Forbidden"))], vec![], false),
        (
            (0..ROUNDS)
                .flat_map(|_| [exists.clone(), (200, there("7", None)), conflict.clone()])
                .collect(),
            (0..ROUNDS)
                .flat_map(|_| [created(), read(), patched("7", 4)])
                .skip(1)
                .collect(),
            false,
        ),
    ];
    for (answers, mut expected, good) in table {
        expected.insert(0, created());
        let (client, asked) = server(answers);
        let result = write(&client, "outrigger-7c9d", &notice("given \"x\""), 3).await;
        assert_eq!(result.is_ok(), good, "{result:?}");
        let asked: Vec<(Method, Value)> = asked.lock().unwrap().drain(..).collect();
        assert_eq!(asked.len(), expected.len(), "{asked:#?}");
        for ((method, body), (expected, part)) in asked.iter().zip(&expected) {
            assert_eq!(method, expected);
            assert_eq!(
                body["series"]["count"], part["series"]["count"],
                "{asked:#?}"
            );
            let version = |of: &Value| of["metadata"]["resourceVersion"].clone();
            assert_eq!(version(body), version(part), "{asked:#?}");
        }
    }
}

#[tokio::test]
async fn a_full_queue_drops_and_never_waits() {
    let (client, asked) = server(Vec::new());
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let tell = move |outcome| {
        assert_eq!(outcome, Outcome::Dropped);
        count.fetch_add(1, Ordering::Relaxed);
    };
    // Nobody runs what writes.
    let (recorder, _writing) =
        Recorder::new(client, "outrigger".to_owned(), Limits::default(), tell);
    for number in 0..QUEUE + 7 {
        recorder.record(notice(&number.to_string()));
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 7);
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_fails_is_tried_as_often_as_allowed_and_then_dropped() {
    let (client, asked) = server(Vec::new());
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let (tell, (told, mut done)) = (
        Arc::clone(&outcomes),
        tokio::sync::mpsc::unbounded_channel(),
    );
    let limits = Limits {
        attempts: 3,
        pause: (std::time::Duration::ZERO, std::time::Duration::ZERO),
        ..Limits::default()
    };
    let (recorder, writing) =
        Recorder::new(client, "outrigger".to_owned(), limits, move |outcome| {
            tell.lock().unwrap().push(outcome);
            let _ = told.send(outcome);
        });
    let writing = tokio::spawn(writing);
    recorder.record(notice("given \"x\""));
    while done.recv().await.unwrap() != Outcome::Dropped {}
    drop(recorder);
    writing.await.unwrap();
    let failed = Outcome::Failed;
    assert_eq!(
        *outcomes.lock().unwrap(),
        [failed, failed, failed, Outcome::Dropped]
    );
    assert_eq!(asked.lock().unwrap().len(), 3);
}
