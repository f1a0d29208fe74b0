//! Which functions run from the start of the program until it has answered reviews, without a cluster and in one.
//!
//! Callgrind sees every function that is entered, of all libraries and of the C library too.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use testkit::daemon::Signal;
use testkit::process::wrapped;
use testkit::wire::Client;
use testkit::{Daemon, Result, Served, free_port, wait_until_async};

use crate::cluster::Cluster;
use crate::fixture;
use crate::load::{ask, ask_at_once, request};
use crate::reviews::Workloads;

/// How often each review is asked: with the second one the renderings are known.
const TIMES: usize = 2;
/// Connections that ask at once, and how often each does: workers then take work from each other, and more is rendered
/// than is remembered.
const CONNECTIONS: usize = 4;
const EACH: usize = 1000;
/// How long a program may take to end, which writes what was seen of it.
const END: Duration = Duration::from_secs(60);

/// Writes `alone.callgrind`, `self-signed.callgrind` and `cluster.callgrind`.
pub(crate) async fn record(program: &Path, folder: &Path) -> Result {
    let file = |name: &str| {
        let file = folder.join(name).with_extension("callgrind");
        format!("--callgrind-out-file={}", file.display())
    };
    alone(&callgrind(&file("alone")), program).await?;
    self_signed(&callgrind(&file("self-signed")), program, folder).await?;
    in_a_cluster(&callgrind(&file("cluster")), program).await
}

/// The words before a command. Functions have the names that the linker knows.
fn callgrind(file: &str) -> [&str; 5] {
    [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--demangle=no",
        file,
    ]
}

async fn alone(wrapper: &[&str], program: &Path) -> Result {
    let served = Served::wrapped(wrapper, program, &[]).await?;
    let mut client = served.client().await?;
    for (_, review) in fixture::reviews() {
        for _ in 0..TIMES {
            ask(&mut client, &request(&review)).await?;
        }
    }
    let (workloads, number) = (Workloads::new()?, Arc::new(AtomicUsize::new(0)));
    let make = move || request(&workloads.review(number.fetch_add(1, Ordering::Relaxed)));
    ask_at_once(&served, CONNECTIONS, EACH, make).await?;
    let metrics = served.operations("/metrics").await?;
    ensure!(metrics.status == 200, "{metrics:?}");
    end(served.daemon)
}

/// As the README starts it, with a certificate that it makes.
async fn self_signed(wrapper: &[&str], program: &Path, folder: &Path) -> Result {
    let operations = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = Command::new(program);
    command
        .args(["serve", "--self-signed", "--drain-seconds=0"])
        .arg("--listen=127.0.0.1:0")
        .arg(format!("--operations-listen={operations}"));
    let command = wrapped(wrapper, &command);
    let daemon = Daemon::start(&command, &folder.join("log"), END)?;
    wait_until_async("the webhook to be ready", END, async || {
        let answer = Client::plain(operations).await?.get("/readyz").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    end(daemon)
}

async fn in_a_cluster(wrapper: &[&str], program: &Path) -> Result {
    let cluster = Cluster::start().await?;
    let replica = cluster.replica(wrapper, program).await?;
    for _ in 0..TIMES {
        cluster.wait_sidecars(2).await?;
    }
    end(replica.daemon)
}

fn end(mut daemon: Daemon) -> Result {
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait_ended(END)?;
    ensure!(status.success(), "it ended with {status}: {}", daemon.log());
    Ok(())
}
