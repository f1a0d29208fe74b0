//! What a review costs beside what it costs to be asked at all: the floor is an empty handler in the same server.

use std::path::Path;
use std::time::Instant;

use outrigger::admission::{self, Snapshot};
use testkit::{Result, Served};

use crate::handler::Handler;
use crate::load::{Spent, Times, ask, ask_at_once, micros, request};
use crate::{fixture, on_one_core, reviews};

const ROUNDS: usize = 7;
/// Where CPU time is measured.
const CONNECTIONS: usize = 16;
const EACH: usize = 250;
/// Where latency is measured, on one connection.
const REQUESTS: usize = 3000;
/// A round of calls within the process.
const CALLS: usize = 2000;

/// What one round saw of one server, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Seen {
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// What is told of a round: a name, the value, the goal of its ratio to the floor.
type Aspect = (&'static str, fn(&Seen) -> f64, f64);

const ASPECTS: &[Aspect] = &[
    (
        "CPU of a request over TLS, 16 connections",
        |seen| seen.cpu,
        2.0,
    ),
    (
        "latency of a request at one connection, p50",
        |seen| seen.p50,
        1.25,
    ),
    (
        "latency of a request at one connection, p99",
        |seen| seen.p99,
        1.5,
    ),
];

pub(crate) async fn measure(program: &Path) -> Result {
    against_the_floor(program).await?;
    in_process()
}

async fn against_the_floor(program: &Path) -> Result {
    let (empty, engine) = (
        Handler::Empty.start().await?,
        Handler::Engine.start().await?,
    );
    // As it runs: with a line in the log for every review.
    let logging = on_one_core(program).await?;
    let request = request(&reviews::two_profiles());
    let (mut floor, mut ours, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (served, seen) in [
            (&empty, &mut floor),
            (&engine, &mut ours),
            (&logging, &mut whole),
        ] {
            seen.push(look(served, &request).await?);
        }
    }
    for (what, value, goal) in ASPECTS {
        let tell = |name: &str, unit, values, goal| {
            tell(&format!("{what}{name}"), unit, values, goal);
        };
        let values = |seen: &[Seen]| seen.iter().map(value).collect::<Vec<_>>();
        let ratio = |seen: &[Seen]| {
            let both = seen.iter().zip(&floor);
            both.map(|(seen, floor)| value(seen) / value(floor))
                .collect()
        };
        tell(": empty handler", "µs", values(&floor), None);
        tell(": review", "µs", values(&ours), None);
        tell(
            ": review, ratio to the empty handler",
            "×",
            ratio(&ours),
            Some(*goal),
        );
        tell(
            ": review and its line in the log",
            "µs",
            values(&whole),
            None,
        );
        tell(
            ": review and its line in the log, ratio",
            "×",
            ratio(&whole),
            None,
        );
    }
    Ok(())
}

async fn look(served: &Served, request: &[u8]) -> Result<Seen> {
    let posted = request.to_vec();
    let make = move || posted.clone();
    let Spent { cpu, .. } = ask_at_once(served, CONNECTIONS, EACH, make).await?;
    let mut client = served.client().await?;
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let start = Instant::now();
        ask(&mut client, request).await?;
        times.push(micros(start.elapsed()));
    }
    let times = Times::new(times);
    Ok(Seen {
        cpu,
        p50: times.p50(),
        p99: times.p99(),
    })
}

/// The engine alone, called in this process.
fn in_process() -> Result {
    let (remembering, forgetful) = (fixture::snapshot(), fixture::forgetful());
    let of_8_kb = reviews::two_profiles_of(8192)?;
    let what = format!(
        "in process: two profiles, a review of {} bytes",
        of_8_kb.len()
    );
    tell(&what, "µs", calls(&of_8_kb, &remembering)?, Some(12.0));
    for (name, review) in fixture::reviews().into_iter().take(3) {
        let what = format!("in process: {name}, a review of {} bytes", review.len());
        tell(&what, "µs", calls(&review, &remembering)?, None);
        let what = format!("in process: {name}, nothing remembered");
        tell(&what, "µs", calls(&review, &forgetful)?, None);
    }
    Ok(())
}

/// The p50 of each round.
fn calls(review: &[u8], snapshot: &Snapshot) -> Result<Vec<f64>> {
    admission::review(review, snapshot)?;
    let call = || {
        let start = Instant::now();
        let reviewed = admission::review(review, snapshot);
        let time = micros(start.elapsed());
        drop(std::hint::black_box(reviewed));
        time
    };
    let round = |_| Times::new((0..CALLS).map(|_| call()).collect()).p50();
    Ok((0..ROUNDS).map(round).collect())
}

fn tell(what: &str, unit: &'static str, values: Vec<f64>, goal: Option<f64>) {
    crate::tell("webhook", what, unit, values, goal);
}
