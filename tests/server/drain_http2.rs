//! HTTP/2 while the server leaves: GOAWAY, and what is under way is finished.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, channel::Channel};
use hyper::StatusCode;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::Result;
use tokio::time::{sleep, timeout};

use super::http2::{connect, request};
use super::kit::{Client, LIMIT, small, start};

#[tokio::test]
async fn a_connection_is_served_through_the_drain_and_told_to_go_away() -> Result {
    let mut server = start(|config| config.drain = Duration::from_millis(800)).await?;
    let (mut sender, connection) = connect(&server).await?;
    server.begin_stop();
    sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        sender.ready().await?;
        assert_eq!(
            sender.send_request(request(small("1"))?).await?.status(),
            StatusCode::OK
        );
    }
    // GOAWAY without an error is how the client sees the end.
    timeout(LIMIT, connection).await???;
    let time = server.stop(Duration::from_secs(5)).await?;
    assert!(time < Duration::from_secs(1), "{time:?}");
    Ok(())
}

#[tokio::test]
async fn a_stream_under_way_is_finished() -> Result {
    let mut server = start(|config| config.drain = Duration::from_millis(100)).await?;
    let client = Client::tls(server.address, &server.authority, &[b"h2"]).await?;
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(client.into_stream())).await?;
    let connection = tokio::spawn(connection);
    let (mut pieces, body) = Channel::<Bytes, Infallible>::new(2);
    let post = hyper::Request::post("https://localhost/mutate")
        .header("content-type", "application/json")
        .body(body)?;
    let answering = tokio::spawn(sender.send_request(post));
    let review = small("late");
    let (first, second) = review.split_at(20);
    pieces.send_data(first.to_owned().into()).await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 1.0)
        .await?;
    server.begin_stop();
    sleep(Duration::from_millis(600)).await;
    pieces.send_data(second.to_owned().into()).await?;
    drop(pieces);
    let answer = timeout(LIMIT, answering).await???;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    assert_eq!(answer["response"]["uid"], "late");
    timeout(LIMIT, connection).await???;
    server.stop(Duration::from_secs(5)).await?;
    Ok(())
}
