//! More than the server can take: connections wait, requests are asked to come again, nobody is reset.

use std::time::Duration;

use anyhow::ensure;
use testkit::Result;
use tokio::time::sleep;

use super::kit::{Client, LIMIT, Running, padded, post, post_head, small, start, timed};

/// Opens connections that send the head of a request and nothing of its body.
async fn lagging(server: &Running, count: u32) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = server.client().await?;
        client
            .send(post_head("/mutate", "Content-Length: 5000\r\n"))
            .await?;
        clients.push(client);
    }
    Ok(clients)
}

#[tokio::test]
async fn reviews_above_the_bound_are_asked_to_come_again() -> Result {
    let server = start(|config| {
        config.max_in_flight = 4;
        config.body_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut client = server.client().await?;
    let _lagging = lagging(&server, 4).await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 4.0)
        .await?;
    let answer = client.post(small("1")).await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.has("retry-after: 1"), "{answer:?}");
    // Health is not shed: a busy server is not a dead one.
    assert_eq!(client.get("/readyz").await?.status, 200);
    server
        .wait_metric(r#"outrigger_http_rejected_total{reason="overloaded"}"#, 1.0)
        .await
}

/// The API server repeats a request that got 503, and never one whose connection was reset, which is what a
/// body that nobody reads comes to.
#[tokio::test]
async fn an_overloaded_server_reads_the_body_and_keeps_the_connection() -> Result {
    let server = start(|config| {
        config.max_in_flight = 1;
        config.body_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut client = server.client().await?;
    let lagging = lagging(&server, 1).await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 1.0)
        .await?;
    for _ in 0..3 {
        // Slower than the server decides.
        let request = post("/mutate", padded(1024 * 1024));
        let (first, second) = request.split_at(1000);
        client.send(first).await?;
        sleep(Duration::from_millis(30)).await;
        client.send(second).await?;
        assert_eq!(client.answer().await?.status, 503);
    }
    drop(lagging);
    server
        .wait_metric("outrigger_http_requests_in_flight", 0.0)
        .await?;
    assert_eq!(client.post(small("1")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_refused_body_does_not_cost_the_connection() -> Result {
    let server = start(|_| {}).await?;
    let mut client = server.client().await?;
    let body = padded(1024 * 1024);
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..3 {
        client.send(&head).await?;
        sleep(Duration::from_millis(30)).await;
        assert_eq!(client.ask(&body).await?.status, 415);
    }
    assert_eq!(client.post(small("1")).await?.status, 200);
    Ok(())
}

/// 256 bodies of 7 MiB each would be more than any pod's memory.
#[tokio::test]
async fn bodies_together_are_bounded() -> Result {
    let server = start(|config| {
        config.max_body = 256 * 1024;
        config.max_bodies = 1024 * 1024;
        config.body_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = server.client().await?;
        let request = post("/mutate", padded(256 * 1024));
        client.send(&request[..request.len() - 1]).await?;
        held.push(client);
    }
    server
        .wait_metric("outrigger_http_requests_in_flight", 3.0)
        .await?;
    sleep(Duration::from_millis(100)).await;
    // A small one still fits.
    let mut client = server.client().await?;
    assert_eq!(client.post(small("1")).await?.status, 200);
    let mut large = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await?;
        let request = post("/mutate", padded(256 * 1024));
        client.send(&request[..request.len() - 1]).await?;
        large.push(client);
    }
    for client in &mut large {
        client.send(" ").await?;
    }
    let mut statuses = Vec::new();
    for client in &mut large {
        statuses.push(client.answer().await?.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses.last(), Some(&503), "{statuses:?}");
    // Those that were there first are answered, and then there is room again.
    for client in &mut held {
        assert_eq!(client.ask(" ").await?.status, 200);
    }
    assert_eq!(client.post(padded(256 * 1024)).await?.status, 200);
    Ok(())
}

/// Slow clients that took most places give them back soon, and not at the end of the whole time for a body.
#[tokio::test]
async fn under_pressure_a_lagging_body_is_given_up_sooner() -> Result {
    let server = start(|config| {
        config.max_in_flight = 8;
        config.body_timeout = Duration::from_secs(8);
    })
    .await?;
    let mut alone = lagging(&server, 1).await?;
    sleep(Duration::from_millis(1500)).await;
    assert!(
        (server.metric("outrigger_http_requests_in_flight").await? - 1.0).abs() < 0.5,
        "there was no pressure"
    );
    let _many = lagging(&server, 7).await?;
    let ((), time) = timed(server.wait_metric("outrigger_http_requests_in_flight", 4.0)).await?;
    assert!(time < Duration::from_secs(3), "{time:?}");
    // Half of the places are free again, so that those that remain have the whole time.
    sleep(Duration::from_millis(1500)).await;
    server
        .wait_metric("outrigger_http_requests_in_flight", 4.0)
        .await?;
    assert_eq!(alone[0].answer().await?.status, 408);
    Ok(())
}

#[tokio::test]
async fn connections_above_the_bound_wait_and_are_served() -> Result {
    let server = start(|config| {
        config.max_connections = 4;
        // Those that asked something lately are not asked to leave.
        config.header_timeout = Duration::from_secs(20);
    })
    .await?;
    let mut served = Vec::new();
    for _ in 0..4 {
        let mut client = server.client().await?;
        assert_eq!(client.post(small("1")).await?.status, 200);
        served.push(client);
    }
    let (address, authority) = (server.address, server.authority.clone());
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let authority = authority.clone();
            tokio::spawn(async move {
                let mut client = Client::tls(address, &authority, &[b"http/1.1"]).await?;
                client.post(small("1")).await
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    assert!(
        waiting.iter().all(|task| !task.is_finished()),
        "a connection above the bound was served or reset"
    );
    // Those that asked something are kept, however crowded it is.
    for client in &mut served {
        assert_eq!(client.post(small("1")).await?.status, 200);
    }
    drop(served);
    for task in waiting {
        assert_eq!(tokio::time::timeout(LIMIT, task).await???.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn crowded_connections_that_never_asked_make_room() -> Result {
    let server = start(|config| config.max_connections = 4).await?;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(server.client().await?);
    }
    let (answer, time) = timed(async { server.client().await?.post(small("1")).await }).await?;
    assert_eq!(answer.status, 200);
    ensure!(
        time < Duration::from_secs(5),
        "there was no room for {time:?}"
    );
    Ok(())
}

/// A crowd on one port must not turn anybody away on the other.
#[tokio::test]
async fn the_operations_port_is_not_held_by_idle_clients() -> Result {
    let server = start(|_| {}).await?;
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut client = Client::plain(server.operations).await?;
        client.get("/healthz").await?;
        idle.push(client);
    }
    let (status, time) = timed(server.readiness()).await?;
    assert_eq!(status, 200);
    assert!(time < Duration::from_secs(1), "a probe waited for {time:?}");
    Ok(())
}
