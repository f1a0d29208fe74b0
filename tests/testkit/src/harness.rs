//! The main function of a test target with `harness = false`.
//!
//! Why not libtest: it has no moment after the last test, and statics are never
//! dropped, so a control plane that all tests share could not be stopped in
//! order. Names, filters, `--list` and `--test-threads` work as ever.

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Result, control_plane};

/// The bound on one test, the start of the control plane included.
const LIMIT: Duration = Duration::from_secs(240);

type Outcome = Pin<Box<dyn Future<Output = Result>>>;

/// One test.
#[derive(Debug)]
pub struct Test {
    name: &'static str,
    body: fn() -> Outcome,
    limit: Duration,
}

impl Test {
    /// For [`crate::main!`].
    #[must_use]
    pub fn new(name: &'static str, body: fn() -> Outcome) -> Self {
        Test {
            name,
            body,
            limit: LIMIT,
        }
    }

    /// The same with another bound, for one that is told how much to do.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Test { limit, ..self }
    }
}

/// Makes a `main` that runs these tests, each an `async fn() -> testkit::Result`
/// with a runtime of its own.
#[macro_export]
macro_rules! main {
    ($($test:ident),* $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::harness::run(vec![$(
                $crate::harness::Test::new(stringify!($test), || ::std::boxed::Box::pin($test()))
            ),*])
        }
    };
}

/// Runs the tests that the command line asks for, then stops the shared control
/// plane if one was started.
#[must_use]
pub fn run(tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = tests
        .into_iter()
        .map(|test| {
            Trial::test(test.name, move || {
                // The whole chain, without the backtrace that `{:?}` may add.
                block_on(test.body, test.limit).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    let kept = control_plane::keep_shared();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(kept);
    conclusion.exit_code()
}

fn block_on(body: fn() -> Outcome, limit: Duration) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start a runtime")?;
    runtime.block_on(async move {
        tokio::time::timeout(limit, body())
            .await
            .with_context(|| format!("the test took longer than {} s", limit.as_secs()))?
    })
}
