//! The client: requests as the API server makes them, and what they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use testkit::wire::Client;
use testkit::{Result, Served};
use tokio::task::JoinSet;

/// A request that posts a review, with the header lines that the API server sends.
pub(crate) fn request(review: &[u8]) -> Vec<u8> {
    let length = review.len();
    let head = format!(
        "POST /mutate?timeout=5s HTTP/1.1\r\nHost: outrigger.outrigger.svc:443\r\n\
         User-Agent: kube-apiserver-admission\r\nContent-Length: {length}\r\n\
         Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    [head.as_bytes(), review].concat()
}

/// Asks, and wants a good answer.
pub(crate) async fn ask(client: &mut Client, request: &[u8]) -> Result {
    let answer = client.ask(request).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Asks so many times over each of so many connections at once, after one request over each that is not counted.
pub(crate) async fn ask_at_once<M>(
    served: &Served,
    connections: usize,
    each: usize,
    make: M,
) -> Result<Spent>
where
    M: Fn() -> Vec<u8> + Send + Sync + 'static,
{
    let make = Arc::new(make);
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = served.client().await?;
        ask(&mut client, &make()).await?;
        clients.push(client);
    }
    let meter = Meter::start(served)?;
    let mut asking: JoinSet<Result<Client>> = JoinSet::new();
    for mut client in clients {
        let make = Arc::clone(&make);
        asking.spawn(async move {
            for _ in 0..each {
                ask(&mut client, &make()).await?;
            }
            Ok(client)
        });
    }
    // Connections end after the measuring.
    let mut clients = Vec::with_capacity(connections);
    while let Some(asked) = asking.join_next().await {
        clients.push(asked??);
    }
    meter.read(connections * each)
}

/// What a thing took that was done many times, in microseconds each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// CPU time of the server.
    pub(crate) cpu: f64,
    /// Wall time.
    pub(crate) wall: f64,
}

/// Measures what a server spends.
pub(crate) struct Meter<'a> {
    served: &'a Served,
    cpu: Duration,
    start: Instant,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(served: &'a Served) -> Result<Self> {
        Ok(Self {
            served,
            cpu: served.daemon.cpu_time()?,
            start: Instant::now(),
        })
    }

    /// What was spent since, on each of so many.
    pub(crate) fn read(&self, count: usize) -> Result<Spent> {
        let each = |time: Duration| micros(time) / count as f64;
        let wall = self.start.elapsed();
        let cpu = self.served.daemon.cpu_time()?.saturating_sub(self.cpu);
        Ok(Spent {
            cpu: each(cpu),
            wall: each(wall),
        })
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The times of many single things, sorted.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// In microseconds.
    pub(crate) fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// That below which so many of a hundred lie.
    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}
