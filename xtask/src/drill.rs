//! `cargo xtask drill [NAME]`: the failure drills, long. `cargo test` runs them bounded.

use anyhow::Result;

use crate::{parts, run};

/// Installs the parts, then runs the drills whose names contain the first argument; all without one.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let search = parts::install_for_tests()?;
    let mut cargo = run::cargo();
    cargo
        .args(["test", "--locked", "--test", "drills", "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .args(arguments)
        .env(parts::VARIABLE, search)
        .env("OUTRIGGER_DRILLS", "long");
    run::run(&mut cargo, "install Rust (https://rustup.rs)")
}
