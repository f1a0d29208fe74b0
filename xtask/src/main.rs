//! The chores of the project, one module each: `cargo xtask <chore>`.

mod bench;
mod ci;
mod dist;
mod drill;
mod fuzz;
mod instructions;
mod parts;
mod run;
mod soak;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  test [ARGS…]         install the parts that the tests run, then `cargo test` with ARGS
  drill [NAME]         the failure drills, long; `test` runs them bounded
  fuzz [TARGET [INPUT]] [--seconds N]
                       look for inputs that break an invariant, or repeat one that did
  soak [--pods N] [--seed N]
                       generated pods on a real API server, thousands; `test` does a hundred
  bench [SUITE…] [--document]
                       what the webhook costs: webhook, process, connections, cluster, scaling; with
                       --document also into docs/performance.md
  instructions         how many instructions a review takes, held to a budget
  ci                   everything that must pass before a change is merged
  dist                 what is released, in target/dist: static binary, bill of materials, checksums
  dist --binary        the binary alone
  dist --bill          the bill of materials alone
  dist --order         record which functions run, which the linker then puts together; on x86-64
  dist --verify        the binary, built twice and compared, and run as the image would run it
  parts [NAME…]        install the parts (all of them, or those named) and say where they are
  parts --print-env    the same, printing only the environment for a bare `cargo test`
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match chore(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        bail!("no chore given\n\n{USAGE}");
    };
    match name.as_str() {
        "test" => test::run(rest),
        "drill" => drill::run(rest),
        "fuzz" => fuzz::run(rest),
        "soak" => soak::run(rest),
        "bench" => bench::run(rest),
        "instructions" => instructions::run(rest),
        "ci" => ci::run(rest),
        "dist" => dist::run(rest),
        "parts" => parts::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no chore `{other}`\n\n{USAGE}"),
    }
}
