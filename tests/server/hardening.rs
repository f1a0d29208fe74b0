//! One client, or one bad review, must not cost the others theirs.

use std::time::Duration;

use anyhow::ensure;
use testkit::Result;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::kit::{panics_when_asked, small, start, start_with, timed};

/// A reset is never repeated by the API server, and says nothing to anybody.
#[tokio::test]
async fn a_review_that_panics_gets_500_and_harms_nobody() -> Result {
    let server = start_with(panics_when_asked, |_| {}).await?;
    let mut client = server.client().await?;
    assert_eq!(client.post("panic").await?.status, 500);
    assert_eq!(client.post("calm").await?.status, 400);
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="panicked"}"#, 1.0)
        .await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 0.0)
        .await
}

/// Any pod can reach the port: one request on each of many connections must not keep the API server out until
/// they end as idle.
#[tokio::test]
async fn a_full_house_asks_the_longest_idle_to_leave() -> Result {
    let server = start(|config| config.max_connections = 4).await?;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut client = server.client().await?;
        assert_eq!(client.get("/healthz").await?.status, 200);
        idle.push(client);
    }
    for _ in 0..3 {
        // One of them is in use.
        sleep(Duration::from_millis(400)).await;
        assert_eq!(idle[0].post(small("kept")).await?.status, 200);
    }
    let (answer, time) = timed(async { server.client().await?.post(small("1")).await }).await?;
    assert_eq!(answer.status, 200);
    ensure!(
        time < Duration::from_secs(3),
        "there was no room for {time:?}"
    );
    // It is the longest idle that went, and only that one.
    assert!(idle[1].ended().await?.is_empty());
    for at in [0, 2, 3] {
        assert_eq!(idle[at].post(small("kept")).await?.status, 200);
    }
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="crowded"}"#, 1.0)
        .await
}

/// A burst of reviews comes over as many connections. The kernel drops what its queue has no room for, and the client tries
/// again a second later.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted() -> Result {
    let server = start(|config| {
        config.max_connections = 1;
        config.header_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut only = server.client().await?;
    assert_eq!(only.get("/healthz").await?.status, 200);
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    let count = most.trim().parse::<usize>()?.min(800);
    let burst = (0..count).map(|_| TcpStream::connect(server.address));
    let burst = futures_util::future::try_join_all(burst);
    let waiting = tokio::time::timeout(Duration::from_secs(20), burst).await??;
    assert_eq!(waiting.len(), count);
    assert_eq!(only.post(small("1")).await?.status, 200);
    Ok(())
}

/// Connections that never say anything cost their owner nothing.
#[tokio::test]
async fn a_full_house_does_not_wait_for_handshakes() -> Result {
    let server = start(|config| {
        config.max_connections = 4;
        config.handshake_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut silent = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpStream::connect(server.address).await?;
        stream.write_all(b"\x16\x03\x01").await?;
        silent.push(stream);
    }
    let (answer, time) = timed(async { server.client().await?.post(small("1")).await }).await?;
    assert_eq!(answer.status, 200);
    ensure!(
        time < Duration::from_secs(4),
        "there was no room for {time:?}"
    );
    Ok(())
}
