//! What the webhook costs, one suite by argument; `cargo xtask bench` runs them all and makes tables of what they tell.
//!
//! Machines that are shared are noisy. So whatever is compared is measured in turns within one run, and what is told is
//! the median of the rounds with the lowest and the highest beside it.

mod cluster;
mod connections;
#[path = "../support/fixture.rs"]
mod fixture;
mod handler;
mod load;
mod process;
mod ratios;
#[path = "../support/results.rs"]
mod results;
mod reviews;

use clap::{Parser, Subcommand};
use testkit::{Result, Served};

/// The program with all optimisations; the released one is also linked statically (`cargo xtask dist`).
const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// Words in front of a server whose CPU time is measured: one core is its own, and its runtime has one thread.
const ON_ONE_CORE: &[&str] = &["taskset", "-c", "0"];

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
    /// What cargo says to every bench
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Suite {
    /// CPU and latency of a review, against an empty handler in the same server
    Webhook,
    /// Memory, start and size of the program
    Process,
    /// Handshakes, requests on connections that are kept, and idle connections
    Connections,
    /// What creating a pod on a real API server takes, with the webhook and without
    Cluster,
    /// A server with one of the handlers that are compared; started by the suites
    #[command(hide = true)]
    Serve(handler::Serve),
}

fn main() -> Result {
    let suite = Arguments::parse().suite;
    if let Suite::Serve(serve) = suite {
        return serve.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match suite {
            Suite::Webhook => ratios::measure().await,
            Suite::Process => process::measure().await,
            Suite::Connections => connections::measure().await,
            Suite::Cluster => cluster::measure().await,
            Suite::Serve(_) => Ok(()),
        }
    })
}

/// `outrigger serve` with these flags, on all cores.
async fn outrigger(flags: &[&str]) -> Result<Served> {
    Served::start(OUTRIGGER.as_ref(), flags).await
}

/// The same on one core.
async fn outrigger_on_one_core(flags: &[&str]) -> Result<Served> {
    Served::wrapped(ON_ONE_CORE, OUTRIGGER.as_ref(), flags).await
}

/// Records a result of a suite that is no point of a curve.
fn tell(suite: &'static str, what: &str, unit: &'static str, values: Vec<f64>, goal: Option<f64>) {
    results::record(&results::Measured {
        suite,
        curve: None,
        x: None,
        what: what.to_owned(),
        unit,
        values,
        goal,
    });
}
