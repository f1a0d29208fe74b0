//! Leaving without losing a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use outrigger::admission::{self, Snapshot};
use testkit::Result;
use testkit::certs::Authority;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::kit::{Client, Running, post, post_head, small, start, start_with, timed};

/// What stands for a Service: the servers that are ready, and a pause until everybody has heard of a change.
struct Balancer {
    servers: [(Running, AtomicBool); 2],
    turn: AtomicU32,
}

impl Balancer {
    fn pick(&self) -> &Running {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let ready: Vec<&Running> = self
            .servers
            .iter()
            .filter(|(_, ready)| ready.load(Ordering::Relaxed))
            .map(|(server, _)| server)
            .collect();
        ready
            .get(turn % ready.len().max(1))
            .copied()
            .unwrap_or(&self.servers[0].0)
    }

    /// As kube-proxy: hears of readiness by a probe, and somewhat late.
    async fn watch(self: Arc<Self>) -> Result {
        loop {
            for (server, ready) in &self.servers {
                // A server that has ended does not answer its probe.
                ready.store(
                    server.readiness().await.is_ok_and(|status| status == 200),
                    Ordering::Relaxed,
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Drill 3: clients that keep their connection and clients that open one a request, two servers, one of which
/// leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails() -> Result {
    let drain = Duration::from_millis(1500);
    let mut leaving = start(|config| config.drain = drain).await?;
    let stays = start(|_| {}).await?;
    let (stop, operations) = (leaving.take_stop(), leaving.operations);
    let balancer = Arc::new(Balancer {
        servers: [
            (leaving, AtomicBool::new(true)),
            (stays, AtomicBool::new(true)),
        ],
        turn: AtomicU32::new(0),
    });
    let watching = tokio::spawn(Arc::clone(&balancer).watch());
    let ending = Arc::new(AtomicBool::new(false));
    let closed = Arc::new(AtomicU32::new(0));
    let mut tasks: JoinSet<Result> = JoinSet::new();
    for kept in [true, true, true, false, false] {
        let (balancer, ending, closed) = (
            Arc::clone(&balancer),
            Arc::clone(&ending),
            Arc::clone(&closed),
        );
        tasks.spawn(async move {
            let (mut client, mut count) = (None, 0);
            // However slow the machine is, there are enough requests for one to meet the end.
            while !ending.load(Ordering::Relaxed) || count <= 20 {
                let mut using = match client.take() {
                    Some(client) if kept => client,
                    _ => balancer.pick().client().await?,
                };
                let answer = using.post(small("1")).await?;
                ensure!(answer.status == 200, "{answer:?}");
                count += 1;
                if answer.has("connection: close") {
                    closed.fetch_add(1, Ordering::Relaxed);
                } else {
                    client = Some(using);
                }
                // Load, but not so much that two cores are busy with nothing else.
                sleep(Duration::from_millis(3)).await;
            }
            Ok(())
        });
    }
    sleep(Duration::from_millis(300)).await;
    drop(stop);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(
        Client::plain(operations)
            .await?
            .get("/readyz")
            .await?
            .status,
        503
    );
    assert_eq!(
        Client::plain(operations)
            .await?
            .get("/healthz")
            .await?
            .status,
        200
    );
    sleep(drain + Duration::from_millis(500)).await;
    ending.store(true, Ordering::Relaxed);
    while let Some(asked) = tasks.join_next().await {
        asked??;
    }
    assert!(
        closed.load(Ordering::Relaxed) >= 3,
        "the kept connections were not told to close"
    );
    assert!(
        Client::plain(balancer.servers[0].0.address).await.is_err(),
        "it still listens"
    );
    watching.abort();
    Ok(())
}

#[tokio::test]
async fn idle_connections_are_served_until_the_end_of_the_drain_and_then_closed() -> Result {
    let mut server = start(|config| config.drain = Duration::from_millis(1500)).await?;
    let (mut asked, mut idle, mut unused) = (
        server.client().await?,
        server.client().await?,
        server.client().await?,
    );
    assert_eq!(asked.post(small("1")).await?.status, 200);
    assert_eq!(idle.post(small("1")).await?.status, 200);
    server.begin_stop();
    sleep(Duration::from_millis(700)).await;
    // Long after the drain began a request on a kept connection is answered, and the connection closed.
    let answer = asked.post(small("2")).await?;
    assert!(
        answer.status == 200 && answer.has("connection: close"),
        "{answer:?}"
    );
    let (rest, time) = timed(asked.ended()).await?;
    assert!(
        rest.is_empty() && time < Duration::from_millis(500),
        "{time:?}"
    );
    // So is one on a new connection.
    assert_eq!(server.client().await?.post(small("3")).await?.status, 200);
    let time = server.stop(Duration::from_secs(5)).await?;
    assert!(
        time < Duration::from_secs(2),
        "idle connections held up the end: {time:?}"
    );
    assert!(idle.ended().await?.is_empty());
    assert!(unused.ended().await?.is_empty());
    Ok(())
}

/// Also an error or a refusal must tell the client to go elsewhere.
#[tokio::test]
async fn every_answer_of_a_drain_closes_its_connection() -> Result {
    let mut server = start(|config| config.drain = Duration::from_secs(2)).await?;
    server.begin_stop();
    sleep(Duration::from_millis(100)).await;
    for (request, status) in [
        (post("/mutate", small("1")), 200),
        (post("/mutate", "{}"), 400),
        (post("/nothing", "{}"), 404),
        (b"GET /mutate HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 405),
        (
            b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            415,
        ),
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 503),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 200),
    ] {
        let mut client = server.client().await?;
        let answer = client.ask(request).await?;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.has("connection: close"), "{answer:?}");
        client.ended().await?;
    }
    server.stop(Duration::from_secs(5)).await?;
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_finished() -> Result {
    let mut server = start(|config| config.drain = Duration::from_millis(100)).await?;
    let mut client = server.client().await?;
    let body = small("late");
    client
        .send(post_head(
            "/mutate",
            &format!("Content-Length: {}\r\n", body.len()),
        ))
        .await?;
    client.send(&body[..20]).await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 1.0)
        .await?;
    server.begin_stop();
    // By now the drain is over, and the server waits for this one.
    sleep(Duration::from_millis(600)).await;
    assert!(
        server.client().await.is_err(),
        "new connections are still taken"
    );
    client.send(&body[20..]).await?;
    let answer = client.answer().await?;
    assert_eq!(answer.json()?["response"]["uid"], "late");
    assert!(answer.has("connection: close"), "{answer:?}");
    let time = server.stop(Duration::from_secs(5)).await?;
    assert!(time < Duration::from_secs(1), "{time:?}");
    Ok(())
}

/// A client that never ends its request must not hold up a node that is drained.
#[tokio::test]
async fn the_end_is_bounded_and_nothing_outlives_it() -> Result {
    let mut server = start(|config| {
        config.drain = Duration::from_millis(100);
        config.grace = Duration::from_millis(700);
        config.body_timeout = Duration::from_secs(60);
        config.handshake_timeout = Duration::from_secs(60);
    })
    .await?;
    let mut endless = server.client().await?;
    endless
        .send(post_head("/mutate", "Content-Length: 1000\r\n"))
        .await?;
    server
        .wait_metric("outrigger_http_requests_in_flight", 1.0)
        .await?;
    let mut silent = Client::plain(server.address).await?;
    server.wait_metric("outrigger_connections", 2.0).await?;
    server.begin_stop();
    let time = server.stop(Duration::from_secs(5)).await?;
    assert!(
        time > Duration::from_millis(700) && time < Duration::from_secs(2),
        "{time:?}"
    );
    let (_, time) = timed(endless.ended()).await?;
    assert!(
        time < Duration::from_secs(1),
        "a connection outlived its server by {time:?}"
    );
    let (_, time) = timed(silent.ended()).await?;
    assert!(
        time < Duration::from_secs(1),
        "a handshake outlived its server by {time:?}"
    );
    Ok(())
}

/// A review that takes its time is answered, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_that_takes_time_is_finished() -> Result {
    let busy = |_, body: &[u8]| {
        std::thread::sleep(Duration::from_millis(600));
        admission::review(body, &Snapshot::default())
    };
    let mut server = start_with(busy, |config| config.drain = Duration::from_millis(50)).await?;
    let mut client = server.client().await?;
    client.send(post("/mutate", small("1"))).await?;
    sleep(Duration::from_millis(100)).await;
    server.begin_stop();
    assert_eq!(client.answer().await?.status, 200);
    server.stop(Duration::from_secs(5)).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_nobody_uses_ends_after_its_drain() -> Result {
    let server = start(|config| config.drain = Duration::from_millis(400)).await?;
    let authority: Arc<Authority> = Arc::clone(&server.authority);
    let address = server.address;
    let time = server.stop(Duration::from_secs(5)).await?;
    assert!(
        time >= Duration::from_millis(400) && time < Duration::from_millis(1200),
        "{time:?}"
    );
    assert!(Client::tls(address, &authority, &[]).await.is_err());
    Ok(())
}
