//! What is answered to which request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use super::tls::Current;
use crate::admission::{ReviewError, Reviewed};

/// Answers reviews. Called directly in the task of the connection, so it must not wait for anything.
pub trait Reviewer: Send + Sync + 'static {
    /// The answer to one AdmissionReview.
    ///
    /// # Errors
    /// A body that is no review.
    fn review(&self, body: &[u8]) -> Result<Reviewed, ReviewError>;
}

impl<F> Reviewer for F
where
    F: Fn(&[u8]) -> Result<Reviewed, ReviewError> + Send + Sync + 'static,
{
    fn review(&self, body: &[u8]) -> Result<Reviewed, ReviewError> {
        self(body)
    }
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) reviewer: Box<dyn Reviewer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) certificate: Arc<Current>,
    pub(super) draining: AtomicBool,
    pub(super) in_flight: Semaphore,
    pub(super) max_body: usize,
    pub(super) body_timeout: Duration,
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The routes of the HTTPS port.
pub(super) fn webhook(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/mutate", post(mutate).fallback(only_post))
        .merge(health())
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(shared), close_while_draining))
        .with_state(Arc::clone(shared))
}

/// The routes of the plain port.
pub(super) fn operations(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .merge(health())
        .fallback(not_found)
        .with_state(Arc::clone(shared))
}

fn health() -> Router<Arc<Shared>> {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing here; reviews are posted to /mutate\n").into_response()
}

async fn only_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.metrics.rejected("method");
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], "reviews are posted\n").into_response()
}

/// Ready while a good certificate is served and no end is in sight.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else if !shared.certificate.is_good() {
        (StatusCode::SERVICE_UNAVAILABLE, "the certificate has ended\n").into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// While draining every answer asks the client to make its next connection elsewhere. Closing idle connections
/// at once instead would race with a request that is under way on one of them.
async fn close_while_draining(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let http1 = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if http1 && shared.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn mutate(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Err(refusal) = check_headers(request.headers(), request.version(), shared.max_body) {
        return refusal.response(&shared.metrics);
    }
    let Ok(_place) = shared.in_flight.try_acquire() else {
        return Refusal::Overloaded.response(&shared.metrics);
    };
    let _counted = shared.metrics.in_flight();
    let body = tokio::time::timeout(shared.body_timeout, read(request.into_body(), shared.max_body)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal.response(&shared.metrics),
        Err(_) => return Refusal::Slow.response(&shared.metrics),
    };
    let start = Instant::now();
    match shared.reviewer.review(&body) {
        Ok(reviewed) => {
            let duration = start.elapsed();
            shared.metrics.reviewed(&reviewed.summary, duration);
            log(&reviewed, duration);
            ([(CONTENT_TYPE, "application/json")], reviewed.body).into_response()
        }
        Err(error) => Refusal::NoReview(error.message).response(&shared.metrics),
    }
}

/// One line a decision. Values are given as debug text where a pod's author wrote them, which escapes whatever
/// could break the line.
fn log(reviewed: &Reviewed, duration: Duration) {
    let summary = &reviewed.summary;
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    match &summary.message {
        None => tracing::info!(
            target: "admission",
            uid = ?summary.uid,
            namespace = ?summary.namespace,
            name = ?summary.name,
            outcome = summary.outcome,
            reason = summary.reason,
            instances = ?summary.instances,
            dry_run = summary.dry_run,
            micros,
            "reviewed"
        ),
        Some(message) => tracing::warn!(
            target: "admission",
            uid = ?summary.uid,
            namespace = ?summary.namespace,
            name = ?summary.name,
            outcome = summary.outcome,
            reason = summary.reason,
            dry_run = summary.dry_run,
            micros,
            ?message,
            "denied"
        ),
    }
}

/// Why a request is no review.
enum Refusal {
    MediaType(&'static str),
    TooLarge(usize),
    Overloaded,
    Slow,
    Broken(String),
    NoReview(String),
}

impl Refusal {
    fn response(self, metrics: &Metrics) -> Response {
        let close = [(CONNECTION, HeaderValue::from_static("close"))];
        let (reason, response) = match self {
            Self::MediaType(expected) => ("media_type", (StatusCode::UNSUPPORTED_MEDIA_TYPE, expected).into_response()),
            // What is left of the body is not read, so the connection is of no more use.
            Self::TooLarge(limit) => (
                "too_large",
                (StatusCode::PAYLOAD_TOO_LARGE, close, format!("the body is larger than {limit} bytes\n")).into_response(),
            ),
            // The API server tries again, up to ten times within its deadline.
            Self::Overloaded => (
                "overloaded",
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many reviews at a time\n").into_response(),
            ),
            Self::Slow => {
                ("slow_body", (StatusCode::REQUEST_TIMEOUT, close, "the body did not come in time\n").into_response())
            }
            Self::Broken(error) => {
                ("broken_body", (StatusCode::BAD_REQUEST, close, format!("the body broke off: {error}\n")).into_response())
            }
            Self::NoReview(message) => ("no_review", (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()),
        };
        metrics.rejected(reason);
        response
    }
}

fn check_headers(headers: &HeaderMap, version: Version, max_body: usize) -> Result<(), Refusal> {
    let json = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if !json {
        return Err(Refusal::MediaType("a review has the Content-Type application/json\n"));
    }
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !plain {
        return Err(Refusal::MediaType("a review has no Content-Encoding\n"));
    }
    // RFC 9112, section 6.1: a sender must not give both, and a server should take it for an attack.
    if version <= Version::HTTP_11 && headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Broken("Content-Length and Transfer-Encoding are both given".to_owned()));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > max_body as u64 => Err(Refusal::TooLarge(max_body)),
        _ => Ok(()),
    }
}

async fn read(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > limit {
            return Err(Refusal::TooLarge(limit));
        }
        // A body that comes in one piece, as small ones do, is not copied.
        match (&mut whole, first.take()) {
            (Some(whole), _) => whole.extend_from_slice(&data),
            (None, None) => first = Some(data),
            (None, Some(before)) => {
                let mut joined = BytesMut::with_capacity(before.len() + data.len());
                joined.extend_from_slice(&before);
                joined.extend_from_slice(&data);
                whole = Some(joined);
            }
        }
    }
    Ok(whole.map(BytesMut::freeze).or(first).unwrap_or_default())
}
