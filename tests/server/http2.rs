//! HTTP/2, which a loopback URL may negotiate.

use std::time::Duration;

use anyhow::ensure;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{StatusCode, Version};
use testkit::Result;

use super::kit::{Client, LIMIT, REVIEW, Running, padded, small, start};

type Sender = SendRequest<Full<bytes::Bytes>>;

/// A bare connection, whose end can be seen.
pub(crate) async fn connect(
    server: &Running,
) -> Result<(Sender, tokio::task::JoinHandle<hyper::Result<()>>)> {
    let client = Client::tls(server.address, &server.authority, &[b"h2"]).await?;
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(client.into_stream())).await?;
    Ok((sender, tokio::spawn(connection)))
}

/// A request that posts a review.
pub(crate) fn request(body: String) -> Result<hyper::Request<Full<bytes::Bytes>>> {
    let builder =
        hyper::Request::post("https://localhost/mutate").header("content-type", "application/json");
    Ok(builder.body(Full::new(body.into()))?)
}

#[tokio::test]
async fn it_is_chosen_by_alpn() -> Result {
    let server = start(|_| {}).await?;
    let post = server
        .http2()?
        .post(server.url("/mutate?timeout=5s"))
        .header("content-type", "application/json");
    let answer = post.body(REVIEW).send().await?;
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.json::<serde_json::Value>().await?["response"]["allowed"],
        true
    );
    Ok(())
}

#[tokio::test]
async fn many_streams_are_answered_on_one_connection() -> Result {
    let server = start(|_| {}).await?;
    let (sender, _) = connect(&server).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut sender = sender.clone();
        tasks.spawn(async move {
            sender.ready().await?;
            Ok::<_, anyhow::Error>(sender.send_request(request(small("1"))?).await?.status())
        });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status??, StatusCode::OK);
    }
    assert!((server.metric("outrigger_connections").await? - 1.0).abs() < 0.5);
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_ends_its_stream_only() -> Result {
    let server = start(|config| config.max_body = 64 * 1024).await?;
    let (mut sender, _) = connect(&server).await?;
    let answer = sender
        .send_request(request(padded(2 * 1024 * 1024))?)
        .await?;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    sender.ready().await?;
    assert_eq!(
        sender.send_request(request(small("1"))?).await?.status(),
        StatusCode::OK
    );
    Ok(())
}

/// Frames such as the preface belong to no request: they must not make a connection that never asks for
/// anything immortal.
#[tokio::test]
async fn a_connection_that_asks_nothing_ends_as_idle() -> Result {
    let server = start(|config| config.idle_timeout = Duration::from_millis(500)).await?;
    let (_sender, connection) = connect(&server).await?;
    let _ = tokio::time::timeout(LIMIT, connection).await?;
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="idle"}"#, 1.0)
        .await
}

#[tokio::test]
async fn a_connection_that_asked_ends_as_idle_later() -> Result {
    let server = start(|config| config.idle_timeout = Duration::from_millis(1200)).await?;
    let (mut sender, connection) = connect(&server).await?;
    for _ in 0..3 {
        // Together longer than the idle time: each answer begins it anew.
        tokio::time::sleep(Duration::from_millis(600)).await;
        sender.ready().await?;
        ensure!(sender.send_request(request(small("1"))?).await?.status() == StatusCode::OK);
    }
    let _ = tokio::time::timeout(LIMIT, connection).await?;
    Ok(())
}
