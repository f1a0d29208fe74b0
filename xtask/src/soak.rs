//! `cargo xtask soak [--pods N] [--seed N]`: generated pods on a real API server, long. `cargo test` does a hundred.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::{parts, run};

/// How many pods, when nobody says.
const PODS: u64 = 3000;

/// Installs the parts, then runs the soak.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut pods, mut seed) = (PODS, now()?);
    for pair in arguments.chunks(2) {
        let (flag, number, value) = match pair {
            [flag, value] if flag == "--pods" => (flag, &mut pods, value),
            [flag, value] if flag == "--seed" => (flag, &mut seed, value),
            other => bail!(
                "`{}` is not known; usage: cargo xtask soak [--pods N] [--seed N]",
                other.join(" ")
            ),
        };
        *number = value
            .parse()
            .with_context(|| format!("{flag}: given `{value}`, expected a whole number"))?;
    }
    let search = parts::install_for_tests()?;
    run::run(
        run::cargo()
            .args([
                "test",
                "--locked",
                "--test",
                "api_server",
                "--",
                "--nocapture",
                "generated_pods",
            ])
            .env(parts::VARIABLE, search)
            .env("OUTRIGGER_SOAK_PODS", pods.to_string())
            .env("OUTRIGGER_SOAK_SEED", seed.to_string()),
        "install Rust (https://rustup.rs)",
    )
}

/// Other pods every time; the seed is printed, and `--seed` repeats it.
fn now() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(now.as_secs())
}
