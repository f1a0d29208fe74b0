//! What connections cost: to make one, to ask over one that is kept, to hold ten thousand.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use testkit::process::allow_open_files;
use testkit::served::small;
use testkit::wire::Client;
use testkit::{Result, Served};

use crate::load::{Meter, Spent, Times, ask, micros, request};
use crate::on_one_core;
use crate::process::Held;

const ROUNDS: usize = 5;
/// Connections of a round, and requests on one that is kept.
const COUNT: usize = 500;

/// How many rest at a time, and how often that is tried, each time with a process of its own.
const IDLE: usize = 10_000;
const IDLE_ROUNDS: usize = 3;

pub(crate) async fn measure(program: &Path) -> Result {
    handshakes(program).await?;
    idle(program).await
}

async fn handshakes(program: &Path) -> Result {
    let served = on_one_core(program).await?;
    let (full, resuming) = (full(&served)?, Arc::new(http1(&served)?));
    let (mut kept, mut in_full, mut resumed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let request = requests(&served).await?;
        let less = |spent: Spent| Spent {
            cpu: spent.cpu - request.cpu,
            ..spent
        };
        kept.push(request);
        in_full.push(less(
            connections(&served, &full, HandshakeKind::Full).await?,
        ));
        // The first has nothing to resume: the server keeps few sessions, and has seen others since.
        connect(&served, &resuming).await?;
        resumed.push(less(
            connections(&served, &resuming, HandshakeKind::Resumed).await?,
        ));
    }
    for (what, spent) in [
        (
            "request on a connection that is kept, which asks for nothing",
            kept,
        ),
        ("new connection, TLS 1.3 handshake in full", in_full),
        (
            "new connection, TLS 1.3 handshake of a session that is resumed",
            resumed,
        ),
    ] {
        let cpu = spent.iter().map(|spent| spent.cpu).collect();
        let wall = spent.iter().map(|spent| spent.wall).collect();
        tell(&format!("{what}: CPU of the server"), "µs", cpu);
        tell(&format!("{what}: p50 that the client waits"), "µs", wall);
    }
    Ok(())
}

/// Clients that resume one another's sessions.
fn http1(served: &Served) -> Result<ClientConfig> {
    let mut config = testkit::http::tls(served.authority.certificate(), None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Clients that make every handshake in full.
fn full(served: &Served) -> Result<Arc<ClientConfig>> {
    let mut config = http1(served)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Opens a connection and posts a review that asks for nothing: the server tells a client of sessions that it can
/// resume after the handshake.
async fn connect(served: &Served, config: &Arc<ClientConfig>) -> Result<(Client, f64)> {
    let start = Instant::now();
    let mut client = Client::configured(served.address, Arc::clone(config), "localhost").await?;
    let time = micros(start.elapsed());
    ask(&mut client, &request(small("new").as_bytes())).await?;
    Ok((client, time))
}

/// The CPU time of a connection and a request over it, the p50 of the connection alone.
async fn connections(
    served: &Served,
    config: &Arc<ClientConfig>,
    expected: HandshakeKind,
) -> Result<Spent> {
    let mut times = Vec::with_capacity(COUNT);
    let meter = Meter::start(served)?;
    for _ in 0..COUNT {
        let (client, time) = connect(served, config).await?;
        let seen = client.handshake;
        ensure!(
            seen == Some(expected),
            "a handshake was {seen:?}, expected {expected:?}"
        );
        times.push(time);
    }
    let Spent { cpu, .. } = meter.read(COUNT)?;
    let wall = Times::new(times).p50();
    Ok(Spent { cpu, wall })
}

/// The CPU time and the p50 of a request.
async fn requests(served: &Served) -> Result<Spent> {
    let request = request(small("kept").as_bytes());
    let mut client = served.client().await?;
    ask(&mut client, &request).await?;
    let mut times = Vec::with_capacity(COUNT);
    let meter = Meter::start(served)?;
    for _ in 0..COUNT {
        let start = Instant::now();
        ask(&mut client, &request).await?;
        times.push(micros(start.elapsed()));
    }
    let Spent { cpu, .. } = meter.read(COUNT)?;
    let wall = Times::new(times).p50();
    Ok(Spent { cpu, wall })
}

async fn idle(program: &Path) -> Result {
    // Its own ends, and those of a webhook that is started under the same limit.
    allow_open_files(IDLE as u64 + 1_000)?;
    let room = format!("--max-connections={}", IDLE + 100);
    let (mut resident, mut allocated, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..IDLE_ROUNDS {
        let served = Served::start(program, &[&room]).await?;
        let config = full(&served)?;
        connect(&served, &config).await?;
        let before = Held::by(&served.daemon)?;
        let mut idle = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            idle.push(connect(&served, &config).await?.0);
        }
        let held = served.metric("outrigger_connections").await?;
        ensure!(
            held >= IDLE as f64,
            "{held} connections are held, of {IDLE}"
        );
        let after = Held::by(&served.daemon)?;
        let each = |before: f64, after: f64| (after - before) * 1e6 / IDLE as f64;
        resident.push(each(before.resident, after.resident));
        allocated.push(each(before.allocated, after.allocated));

        let start = Instant::now();
        connect(&served, &config).await?;
        calls.push(micros(start.elapsed()));
        for at in [0, IDLE / 2, IDLE - 1] {
            ask(&mut idle[at], &request(small("idle").as_bytes())).await?;
        }
    }
    let what = format!("{IDLE} idle connections");
    tell(
        &format!("{what}: resident memory (VmRSS) of each"),
        "bytes",
        resident,
    );
    tell(
        &format!("{what}: of it allocated (RssAnon)"),
        "bytes",
        allocated,
    );
    tell(
        &format!("{what}: a new one and a review over it"),
        "µs",
        calls,
    );
    Ok(())
}

fn tell(what: &str, unit: &'static str, values: Vec<f64>) {
    crate::tell("connections", what, unit, values, None);
}
