//! `cargo xtask bench`: what the webhook costs, as ratios in one run.

use anyhow::{Result, bail};

use crate::run;

/// Runs the benchmarks with the optimised build and prints their tables.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(first) = arguments.first() {
        bail!("`cargo xtask bench` takes no arguments, but `{first}` was given");
    }
    for bench in ["webhook", "scaling"] {
        println!("\n== {bench}\n");
        run::run(
            run::cargo().args([
                "bench",
                "--locked",
                "--quiet",
                "--package",
                "outrigger",
                "--bench",
                bench,
            ]),
            "install Rust, and util-linux for `taskset`",
        )?;
    }
    Ok(())
}
