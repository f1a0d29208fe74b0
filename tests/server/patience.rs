//! Clients that are slow, and clients that are merely idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use outrigger::server::{CertificateSource, ServerConfig};
use testkit::Result;
use tokio::time::sleep;

use super::kit::{Client, Running, post_head, small, start, timed};

/// The drills ask for ten seconds, the API server's client keeps a connection for ninety.
#[test]
fn the_defaults_are_those_of_the_drills() -> Result {
    let any = "127.0.0.1:0".parse()?;
    let files = CertificateSource::Files {
        certificate: "tls.crt".into(),
        private_key: "tls.key".into(),
    };
    let config = ServerConfig::new(any, any, files);
    let ten = Duration::from_secs(10);
    assert!(
        config.handshake_timeout <= ten
            && config.header_timeout <= ten
            && config.body_timeout <= ten
    );
    assert!(
        config.idle_timeout > Duration::from_secs(90),
        "{:?}",
        config.idle_timeout
    );
    assert_eq!(config.max_body, 7 * 1024 * 1024);
    assert_eq!((config.max_connections, config.max_in_flight), (4096, 256));
    assert!(config.max_bodies >= 2 * config.max_body && config.max_bodies <= 64 * 1024 * 1024);
    assert_eq!(config.drain, Duration::from_secs(15));
    assert!(
        config.grace < ten,
        "the chart gives ten seconds after the drain"
    );
    Ok(())
}

/// Asks again and again while `slow` runs; gives how often, and fails on a failure or a long wait.
async fn others<T>(server: &Running, slow: impl Future<Output = Result<T>>) -> Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, mut client) = (Arc::clone(&stop), server.client().await?);
    let (address, authority) = (server.address, Arc::clone(&server.authority));
    let asking = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            let (answer, kept) = timed(client.post(small("other"))).await?;
            ensure!(answer.status == 200, "{answer:?}");
            let mut fresh = Client::tls(address, &authority, &[]).await?;
            let (answer, new) = timed(fresh.post(small("fresh"))).await?;
            ensure!(answer.status == 200, "{answer:?}");
            ensure!(
                kept.max(new) < Duration::from_millis(600),
                "others waited: {kept:?}, {new:?}"
            );
            count += 1;
            sleep(Duration::from_millis(10)).await;
        }
        ensure!(count > 5, "asked {count} times only");
        Ok(())
    });
    let result = slow.await;
    stop.store(true, Ordering::Relaxed);
    asking.await??;
    result
}

#[tokio::test]
async fn a_slow_handshake_is_ended_while_others_are_served() -> Result {
    let server = start(|_| {}).await?;
    let ((), time) = timed(others(&server, async {
        let mut silent = Client::plain(server.address).await?;
        let mut begun = Client::plain(server.address).await?;
        begun.send(b"\x16\x03\x01\x02\x00\x01\x00").await?;
        silent.ended().await?;
        begun.ended().await?;
        Ok(())
    }))
    .await?;
    assert!(
        time > Duration::from_millis(700) && time < Duration::from_secs(4),
        "{time:?}"
    );
    server
        .wait_metric(r#"outrigger_tls_handshakes_total{result="slow"}"#, 2.0)
        .await
}

#[tokio::test]
async fn slow_headers_are_ended_while_others_are_served() -> Result {
    let server = start(|_| {}).await?;
    let time = others(&server, async {
        let mut client = server.client().await?;
        let dripping = async {
            // Each byte comes long before any time is over.
            for byte in "GET /healthz HTTP/1.1\r\nHost: slow.example.com\r\n"
                .bytes()
                .cycle()
            {
                if client.send([byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
            client.ended().await
        };
        let (told, time) = timed(dripping).await?;
        ensure!(told.is_empty(), "{}", String::from_utf8_lossy(&told));
        Ok(time)
    })
    .await?;
    assert!(
        time > Duration::from_millis(700) && time < Duration::from_secs(4),
        "{time:?}"
    );
    server
        .wait_metric(
            r#"outrigger_http_rejected_total{reason="slow_headers"}"#,
            1.0,
        )
        .await
}

/// A connection that was good for a request is no better for a slow one.
#[tokio::test]
async fn slow_headers_of_a_second_request_are_ended_as_well() -> Result {
    let server = start(|_| {}).await?;
    let mut client = server.client().await?;
    assert_eq!(client.post(small("1")).await?.status, 200);
    client.send("POST /mutate HTT").await?;
    let (_, time) = timed(client.ended()).await?;
    assert!(
        time > Duration::from_millis(700) && time < Duration::from_secs(4),
        "{time:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_slow_body_gets_408_while_others_are_served() -> Result {
    let server = start(|_| {}).await?;
    let ((), time) = timed(others(&server, async {
        let mut client = server.client().await?;
        client
            .send(post_head("/mutate", "Content-Length: 1000\r\n"))
            .await?;
        client.send("{").await?;
        let answer = client.answer().await?;
        ensure!(
            answer.status == 408 && answer.has("connection: close"),
            "{answer:?}"
        );
        client.ended().await?;
        Ok(())
    }))
    .await?;
    assert!(
        time > Duration::from_millis(1400) && time < Duration::from_secs(5),
        "{time:?}"
    );
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="slow_body"}"#, 1.0)
        .await
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_headers_and_serves() -> Result {
    let server = start(|config| config.header_timeout = Duration::from_millis(200)).await?;
    let mut unused = server.client().await?;
    let mut used = server.client().await?;
    assert_eq!(used.post(small("1")).await?.status, 200);
    for _ in 0..2 {
        sleep(Duration::from_millis(700)).await;
        assert_eq!(used.post(small("2")).await?.status, 200);
    }
    assert_eq!(unused.post(small("3")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_ends_at_last() -> Result {
    let server = start(|config| config.idle_timeout = Duration::from_millis(500)).await?;
    let mut unused = server.client().await?;
    let mut used = server.client().await?;
    assert_eq!(used.post(small("1")).await?.status, 200);
    let (_, time) = timed(used.ended()).await?;
    unused.ended().await?;
    assert!(
        time > Duration::from_millis(400) && time < Duration::from_secs(3),
        "{time:?}"
    );
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="idle"}"#, 2.0)
        .await?;
    server.wait_metric("outrigger_connections", 0.0).await
}
