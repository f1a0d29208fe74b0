//! The webhook process that is asked everything: one for all tests, and looked at after the last.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use testkit::served::small;
use testkit::wire::{Answer, Client};
use testkit::{Result, Served};

use super::EVERYTHING;

/// How much more may be resident at any time than before the first request: that of all bodies together (32 MiB), what is
/// read from them and the answer.
const MEMORY: u64 = 96 * 1024;

/// A request as bytes, and where its answer goes.
type Asked = (Vec<u8>, Sender<Result<Answer>>);

/// To the thread that has the process.
static ASKING: LazyLock<Mutex<Option<Sender<Asked>>>> = LazyLock::new(Mutex::default);

/// Sends a request as it is and gives its answer. The connection is kept as long as the server keeps it.
pub(crate) fn ask(request: Vec<u8>) -> Answer {
    try_ask(request).unwrap()
}

/// The same, or why there is none.
pub(crate) fn try_ask(request: Vec<u8>) -> Result<Answer> {
    let (answer, answered) = channel();
    let asking = ASKING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    asking
        .context("there is no process")?
        .send((request, answer))?;
    answered.recv()?
}

/// Runs `tests` with the process beside them.
pub(crate) fn around(tests: impl FnOnce() -> ExitCode) -> ExitCode {
    // A list of tests needs no process.
    if std::env::args().any(|argument| argument == "--list") {
        return tests();
    }
    let (asking, asked) = channel();
    *ASKING.lock().unwrap_or_else(PoisonError::into_inner) = Some(asking);
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(serve(asked))
    });
    let ended = tests();
    drop(ASKING.lock().unwrap_or_else(PoisonError::into_inner).take());
    match process.join().unwrap() {
        Ok(()) => ended,
        Err(error) => {
            eprintln!("the webhook process: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(asked: Receiver<Asked>) -> Result {
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("everything.yaml");
    std::fs::write(&profile, EVERYTHING)?;
    let flags = ["--profiles", &profile.display().to_string()];
    let served = Served::start(Path::new(env!("CARGO_BIN_EXE_outrigger")), &flags).await?;
    let mut client = served.client().await?;
    ensure!(client.post(small("first")).await?.status == 200);
    let before = served.daemon.memory("VmHWM")?;
    let (mut requests, mut reviews) = (1, 1);
    let mut kept = Some(client);
    while let Ok((request, answer)) = asked.recv() {
        let told = one(&served, &mut kept, &request).await;
        requests += 1;
        reviews += usize::from(told.as_ref().is_ok_and(is_review));
        // A test that has failed does not wait for it.
        let _ = answer.send(told);
    }
    let after = served.daemon.memory("VmHWM")?;
    let told = served.client().await?.post(small("last")).await?;
    ensure!(told.status == 200, "it does not serve any more: {told:?}");
    drop(kept);
    served
        .wait_metric("outrigger_http_requests_in_flight", 0.0)
        .await?;
    let log = served.daemon.log();
    ensure!(!log.contains("panicked"), "{log}");
    let decisions = log.lines().filter(|line| line.contains("dry_run")).count();
    eprintln!(
        "{requests} requests, {reviews} of them reviews that were answered: at most {before} KiB were resident before, \
         {after} KiB after"
    );
    ensure!(
        decisions == reviews + 1,
        "{decisions} lines of {} reviews",
        reviews + 1
    );
    ensure!(
        after - before < MEMORY,
        "{} KiB more were resident",
        after - before
    );
    Ok(())
}

fn is_review(answer: &Answer) -> bool {
    answer.status == 200 && answer.body.contains("\"kind\":\"AdmissionReview\"")
}

async fn one(served: &Served, kept: &mut Option<Client>, request: &[u8]) -> Result<Answer> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => served.client().await?,
    };
    // One that is refused by its length may hear so while it still writes.
    let _ = client.send(request).await;
    let answer = client.answer().await?;
    if answer.status < 300
        && !answer.has("connection: close")
        && request.starts_with(b"POST /mutate HTTP/1.1")
    {
        *kept = Some(client);
    }
    Ok(answer)
}
