//! What the webhook costs, one suite by argument; `cargo xtask bench` runs them all and makes tables of what they tell.
//!
//! Machines that are shared are noisy. So whatever is compared is measured in turns within one run, and what is told is
//! the median of the rounds with the lowest and the highest beside it.

mod cluster;
mod connections;
mod executed;
#[path = "../support/fixture.rs"]
mod fixture;
mod handler;
mod load;
mod process;
mod ratios;
#[path = "../support/results.rs"]
mod results;
mod reviews;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use testkit::{Result, Served};

/// The program as `cargo build --release` makes it; what is released is another (`cargo xtask dist`).
const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// Words in front of a server whose CPU time is measured: one core is its own, and its runtime has one thread.
const ON_ONE_CORE: &[&str] = &["taskset", "-c", "0"];

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
    /// The program that is measured
    #[arg(long, global = true, value_name = "FILE", default_value = OUTRIGGER)]
    program: PathBuf,
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
    /// Which functions run, written by callgrind into a folder; `cargo xtask dist --order` reads them
    Executed {
        /// The folder
        folder: PathBuf,
    },
    /// A server with one of the handlers that are compared; started by the suites
    #[command(hide = true)]
    Serve(handler::Serve),
}

fn main() -> Result {
    let Arguments { suite, program, .. } = Arguments::parse();
    if let Suite::Serve(serve) = suite {
        return serve.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match suite {
            Suite::Webhook => ratios::measure(&program).await,
            Suite::Process => process::measure(&program).await,
            Suite::Connections => connections::measure(&program).await,
            Suite::Cluster => cluster::measure(&program).await,
            Suite::Executed { folder } => executed::record(&program, &folder).await,
            Suite::Serve(_) => Ok(()),
        }
    })
}

/// `outrigger serve` on one core.
async fn on_one_core(program: &Path) -> Result<Served> {
    Served::wrapped(ON_ONE_CORE, program, &[]).await
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
