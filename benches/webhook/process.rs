//! The program as a process: how soon it is ready, how much memory it holds, how large it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::{Daemon, Result, Served};

use crate::load::{ask_at_once, micros, request};
use crate::reviews::Workloads;

const STARTS: usize = 20;
/// Processes whose memory is looked at.
const ROUNDS: usize = 3;
const CONNECTIONS: usize = 4;
/// So many reviews in all have been answered when it is looked at.
const STEPS: [usize; 4] = [0, 1_000, 20_000, 100_000];

/// A megabyte, as in the goals.
const MEGABYTE: f64 = 1e6;

pub(crate) async fn measure(program: &Path) -> Result {
    starts(program).await?;
    memory(program).await?;
    let bytes = std::fs::metadata(program)?.len() as f64;
    tell("the program", "MB", vec![bytes / MEGABYTE], Some(12.0));
    Ok(())
}

async fn starts(program: &Path) -> Result {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let served = Served::start(program, &[]).await?;
        times.push(micros(served.ready_after) / 1e3);
    }
    tell("start to ready, no cluster", "ms", times, Some(50.0));
    Ok(())
}

/// What a process holds, in megabytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// All that is resident (VmRSS): pages of the program file, which the kernel may drop, are part of it.
    pub(crate) resident: f64,
    /// What it allocated (RssAnon).
    pub(crate) allocated: f64,
}

impl Held {
    pub(crate) fn by(daemon: &Daemon) -> Result<Self> {
        let line = |name| Ok::<_, anyhow::Error>(daemon.memory(name)? as f64 * 1024.0 / MEGABYTE);
        Ok(Self {
            resident: line("VmRSS")?,
            allocated: line("RssAnon")?,
        })
    }
}

async fn memory(program: &Path) -> Result {
    let mut held: [Vec<Held>; STEPS.len()] = Default::default();
    let workloads = Arc::new(Workloads::new()?);
    for _ in 0..ROUNDS {
        let served = Served::start(program, &[]).await?;
        let number = Arc::new(AtomicUsize::new(0));
        for (at, step) in STEPS.iter().enumerate() {
            let missing = step - number.load(Ordering::Relaxed);
            // One that is idle has never been asked.
            if let Some(each) = (missing / CONNECTIONS)
                .checked_sub(1)
                .filter(|_| missing > 0)
            {
                let (workloads, number) = (Arc::clone(&workloads), Arc::clone(&number));
                let make = move || {
                    let pod = number.fetch_add(1, Ordering::Relaxed);
                    request(&workloads.review(pod))
                };
                ask_at_once(&served, CONNECTIONS, each, make).await?;
            }
            held[at].push(Held::by(&served.daemon)?);
        }
    }
    for (step, held) in STEPS.iter().zip(&held) {
        let when = match step {
            0 => "idle".to_owned(),
            step => format!("after {step} reviews"),
        };
        let resident = held.iter().map(|it| it.resident).collect();
        let allocated = held.iter().map(|it| it.allocated).collect();
        tell(
            &format!("resident memory (VmRSS), {when}"),
            "MB",
            resident,
            Some(10.0),
        );
        tell(
            &format!("of it allocated (RssAnon), {when}"),
            "MB",
            allocated,
            None,
        );
    }
    let growth = held[3].iter().zip(&held[2]);
    let growth = growth.map(|(last, middle)| last.resident / middle.resident);
    let what = "resident memory after 100000 reviews, ratio to that after 20000";
    tell(what, "×", growth.collect(), Some(1.05));
    Ok(())
}

fn tell(what: &str, unit: &'static str, values: Vec<f64>, goal: Option<f64>) {
    crate::tell("process", what, unit, values, goal);
}
