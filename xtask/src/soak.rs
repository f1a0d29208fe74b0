//! `cargo xtask soak [--pods N]`: generated pods on a real API server, long. `cargo test` does a hundred.

use anyhow::{Context, Result, bail};

use crate::{parts, run};

/// How many pods, when nobody says.
const PODS: u32 = 3000;

/// Installs the parts, then runs the soak.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let pods = match arguments {
        [] => PODS,
        [flag, count] if flag == "--pods" => count
            .parse()
            .with_context(|| format!("--pods: given `{count}`, expected a whole number"))?,
        other => bail!(
            "`{}` is not known; usage: cargo xtask soak [--pods N]",
            other.join(" ")
        ),
    };
    let search = parts::install_for_tests()?;
    run::run(
        run::cargo()
            .args(["test", "--locked", "--test", "soak", "--", "--nocapture"])
            .env(parts::VARIABLE, search)
            .env("OUTRIGGER_SOAK_PODS", pods.to_string()),
        "install Rust (https://rustup.rs)",
    )
}
