//! Hearing the API server: what it says of a topic counts for how that stands ([`Following`]).
//!
//! A watch is quiet for as long as nothing changes, so its events say nothing about whether it lives. What is heard
//! are the bytes of its answers: those hold bookmarks as well, which an API server sends about once a minute, and a
//! watch is ended and begun anew every [`WATCH_SECONDS`].

use std::fmt;
use std::time::Duration;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tower::service_fn;
use tracing::Span;

use crate::server::standing::{Following, Topic};

/// How long one call of a watch lasts. A stream that is dead is given up five seconds later.
pub const WATCH_SECONDS: u32 = 120;
/// How long the API server may take to begin an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A client for this topic alone: what it receives counts as heard, and an answer that does not begin is an
/// error instead of an endless wait. Errors that the API server answers with are not news of the topic.
pub fn listening(following: &Following, client: &Client) -> Client {
    let (inner, following) = (client.clone(), following.clone());
    let service = service_fn(move |request: hyper::Request<Body>| {
        let (client, following) = (inner.clone(), following.clone());
        async move {
            let answer = tokio::time::timeout(ANSWER, client.send(request)).await;
            let response = answer.map_err(|_| silence())??;
            let news = response.status().is_success().then_some(following);
            news.iter().for_each(Following::heard);
            Ok::<_, kube::Error>(response.map(|body| {
                body.map_frame(move |frame| {
                    news.iter().for_each(Following::heard);
                    frame
                })
            }))
        }
    });
    Client::new(service, client.default_namespace())
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
