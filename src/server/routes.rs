//! What is answered to which request.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::body::{Bodies, BodyError};
use super::metrics::Metrics;
use super::standing::Standings;
use super::tls::Current;
use crate::admission::{ReviewError, Reviewed, Webhook};

/// Answers reviews. Called directly in the task of the connection, so it must not wait for anything; only
/// profiles are reviewed elsewhere, because they take their time.
pub trait Reviewer: Send + Sync + 'static {
    /// The answer to one AdmissionReview that was sent to a webhook.
    ///
    /// # Errors
    /// A body that is no review.
    fn review(&self, webhook: Webhook, body: &[u8]) -> Result<Reviewed, ReviewError>;
}

impl<F> Reviewer for F
where
    F: Fn(Webhook, &[u8]) -> Result<Reviewed, ReviewError> + Send + Sync + 'static,
{
    fn review(&self, webhook: Webhook, body: &[u8]) -> Result<Reviewed, ReviewError> {
        self(webhook, body)
    }
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) reviewer: Box<dyn Reviewer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) certificate: Arc<Current>,
    pub(super) standings: Arc<Standings>,
    pub(super) draining: AtomicBool,
    pub(super) bodies: Bodies,
    /// Room for one profile at a time.
    pub(super) compiler: Arc<Semaphore>,
    pub(super) continue_trace: fn(&Span, &HeaderMap),
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Where the reviews of a webhook are posted.
fn path(webhook: Webhook) -> &'static str {
    match webhook {
        Webhook::Mutate => "/mutate",
        Webhook::Workload => "/validate-workload",
        Webhook::Profile => "/validate-profile",
    }
}

/// The routes of the HTTPS port.
pub(super) fn webhook(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for webhook in Webhook::ALL {
        let take = move |shared, request| take(webhook, shared, request);
        router = router.route(path(webhook), post(take).fallback(only_post));
    }
    router
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
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

async fn not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        "there is nothing here; reviews are posted to /mutate, /validate-workload or /validate-profile\n",
    )
        .into_response()
}

async fn only_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.metrics.rejected("method");
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(ALLOW, "POST")],
        "reviews are posted\n",
    )
        .into_response()
}

/// Ready while a certificate is served that clients accept, what answers depend on is known or was waited for long
/// enough, and no end is in sight. What is known and old is no reason to be unready, and is told.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if shared.is_draining() {
        return unready("draining\n".to_owned());
    }
    if let Some(trouble) = shared.certificate.trouble() {
        return unready(format!("{trouble}\n"));
    }
    let unknown = shared.standings.unknown();
    let unknown: String = unknown
        .map(|what| format!("{what}: not known yet\n"))
        .collect();
    if !unknown.is_empty() && shared.standings.is_patient() {
        return unready(unknown);
    }
    let stale = shared.standings.staleness();
    let stale = stale.filter(|(_, stale)| stale.as_secs() > 0);
    let stale = stale.map(|(what, stale)| {
        let seconds = stale.as_secs();
        format!("{what}: stale for {seconds} s; what was last known serves\n")
    });
    format!("ok\n{unknown}{}", stale.collect::<String>()).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// While draining every answer asks the client to make its next connection elsewhere. Closing idle connections
/// at once instead would race with a request that is under way on one of them.
async fn close_while_draining(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if shared.is_draining() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn take(webhook: Webhook, State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    let span = tracing::debug_span!(
        target: "admission", "review", otel.kind = "server", webhook = webhook.as_str(),
        uid = Empty, namespace = Empty, name = Empty, outcome = Empty, reason = Empty, dry_run = Empty,
    );
    (shared.continue_trace)(&span, &head.headers);
    let answering = answer(webhook, &shared, &head, &mut body).instrument(span.clone());
    let refusal = match answering.await {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    // Who waits for 100 Continue has sent nothing yet.
    if !head.headers.contains_key(EXPECT) && refusal.leaves_body() {
        shared.bodies.discard(&mut body).await;
    }
    refusal.response(&shared.metrics, &span)
}

async fn answer(
    webhook: Webhook,
    shared: &Arc<Shared>,
    head: &Parts,
    body: &mut Body,
) -> Result<Response, Refusal> {
    check_type(&head.headers)?;
    let length = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    shared.bodies.check_length(length)?;
    let _place = shared.bodies.place()?;
    let _counted = shared.metrics.in_flight();
    let body = shared.bodies.read(body).await?;
    let start = Instant::now();
    let reviewed = match webhook {
        Webhook::Mutate | Webhook::Workload => review(shared, webhook, &body.bytes)?,
        Webhook::Profile => compile(shared, body.bytes.clone()).await?,
    };
    let duration = start.elapsed();
    shared.metrics.reviewed(&reviewed.summary, duration);
    log(&reviewed, duration);
    Ok(([(CONTENT_TYPE, "application/json")], reviewed.body).into_response())
}

fn review(shared: &Shared, webhook: Webhook, body: &[u8]) -> Result<Reviewed, Refusal> {
    // A panic would end the connection, which the API server takes for a failure that it cannot name. The
    // reviewer is not asked to be whole afterwards: it is read only.
    catch_unwind(AssertUnwindSafe(|| shared.reviewer.review(webhook, body)))
        .map_err(|_| Refusal::Panicked)?
        .map_err(|error| Refusal::NoReview(error.message))
}

/// Reviews a profile beside the tasks of connections: to compile one takes milliseconds, and one that somebody
/// made for that purpose takes longer. One at a time, so that pods always have the other cores; the API server
/// comes again.
async fn compile(shared: &Arc<Shared>, body: Bytes) -> Result<Reviewed, Refusal> {
    let room = Arc::clone(&shared.compiler).try_acquire_owned();
    let room = room.map_err(|_| BodyError::Overloaded)?;
    let shared = Arc::clone(shared);
    // The room is held until the work is done, also if nobody waits for it any more.
    let span = tracing::debug_span!(target: "admission", "compile_profile");
    let work = move || {
        let _room = room;
        let _entered = span.entered();
        review(&shared, Webhook::Profile, &body)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Refusal::Panicked))
}

/// One line a decision, and the same in the span of the request.
fn log(reviewed: &Reviewed, duration: Duration) {
    let summary = &reviewed.summary;
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let uid = line(&summary.uid, NAME);
    let namespace = line(&summary.namespace, NAME);
    let name = line(&summary.name, NAME);
    Span::current()
        .record("uid", &*uid)
        .record("namespace", &*namespace)
        .record("name", &*name)
        .record("outcome", summary.outcome)
        .record("reason", summary.reason)
        .record("dry_run", summary.dry_run);
    match &summary.message {
        None => tracing::info!(
            target: "admission",
            webhook = summary.webhook.as_str(),
            uid = &*uid,
            namespace = &*namespace,
            name = &*name,
            outcome = summary.outcome,
            reason = summary.reason,
            instances = summary.instances.join(", "),
            dry_run = summary.dry_run,
            micros,
            "reviewed"
        ),
        Some(message) => tracing::warn!(
            target: "admission",
            webhook = summary.webhook.as_str(),
            uid = &*uid,
            namespace = &*namespace,
            name = &*name,
            outcome = summary.outcome,
            reason = summary.reason,
            instances = summary.instances.join(", "),
            dry_run = summary.dry_run,
            micros,
            // Not "message", which is the name of the event's own text.
            denial = &*line(message, MESSAGE),
            "denied"
        ),
    }
}

/// As long as a name or uid may be in the log: any the API server made fits.
const NAME: usize = 256;
/// As long as a denial may be in the log.
const MESSAGE: usize = 2048;

/// Text that somebody else wrote, as it may stand in the log: without what breaks or turns a line, and not
/// longer than `limit` characters. It is a plain string and not debug text, so that JSON holds the value itself.
fn line(text: &str, limit: usize) -> Cow<'_, str> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.len() <= limit && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            safe.push('\u{2026}');
            break;
        }
        match character {
            '"' | '\'' | '\\' => safe.push(character),
            // Leaves what can be printed as it is.
            _ => safe.extend(character.escape_debug()),
        }
    }
    Cow::Owned(safe)
}

/// Why a request is no review.
enum Refusal {
    MediaType(&'static str),
    Body(BodyError),
    NoReview(String),
    /// The fault is ours; the panic's own message is on the standard error output.
    Panicked,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl Refusal {
    /// Whether the client may still be sending the body.
    fn leaves_body(&self) -> bool {
        matches!(
            self,
            Self::MediaType(_) | Self::Body(BodyError::TooLarge(_) | BodyError::Overloaded)
        )
    }

    fn response(self, metrics: &Metrics, span: &Span) -> Response {
        let close = [(CONNECTION, HeaderValue::from_static("close"))];
        let (reason, response) = match self {
            Self::MediaType(expected) => (
                "media_type",
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, expected).into_response(),
            ),
            // There may be more of the body than anybody wants to read, so the connection is of no more use.
            Self::Body(BodyError::TooLarge(limit)) => (
                "too_large",
                (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    close,
                    format!("the body is larger than {limit} bytes\n"),
                )
                    .into_response(),
            ),
            // The API server tries again, up to ten times within its deadline.
            Self::Body(BodyError::Overloaded) => (
                "overloaded",
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    [(RETRY_AFTER, "1")],
                    "too many reviews at a time\n",
                )
                    .into_response(),
            ),
            Self::Body(BodyError::Slow) => (
                "slow_body",
                (
                    StatusCode::REQUEST_TIMEOUT,
                    close,
                    "the body did not come in time\n",
                )
                    .into_response(),
            ),
            Self::Body(BodyError::Broken(error)) => (
                "broken_body",
                (
                    StatusCode::BAD_REQUEST,
                    close,
                    format!("the body broke off: {error}\n"),
                )
                    .into_response(),
            ),
            Self::NoReview(message) => (
                "no_review",
                (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
            ),
            Self::Panicked => (
                "panicked",
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the review failed by a fault of outrigger; its log says more\n",
                )
                    .into_response(),
            ),
        };
        metrics.rejected(reason);
        span.record("outcome", "rejected").record("reason", reason);
        response
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case("application/json")
        });
    if !json {
        return Err(Refusal::MediaType(
            "a review has the Content-Type application/json\n",
        ));
    }
    let plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !plain {
        return Err(Refusal::MediaType("a review has no Content-Encoding\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_short() {
        assert!(matches!(line("web-0", 5), Cow::Borrowed("web-0")));
        assert_eq!(
            line("given \"x\"\nexpected 'y'", 99),
            "given \"x\"\\nexpected 'y'"
        );
        assert_eq!(
            line("\u{1b}[31m\r\0\u{2028}\u{202e}\u{feff}", 99),
            r"\u{1b}[31m\r\0\u{2028}\u{202e}\u{feff}"
        );
        assert_eq!(line("größer", 99), "größer");
        assert_eq!(line("größer", 3), "grö\u{2026}");
    }
}
