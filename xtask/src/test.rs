//! `cargo xtask test`: all tests, with the real parts that some of them run.

use anyhow::Result;

use crate::{parts, run};

/// Installs the parts, then runs `cargo test` on the whole workspace with
/// `arguments` added.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let search = parts::install_for_tests()?;

    let mut cargo = run::cargo();
    cargo.args(["test", "--locked"]);
    let own_package = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|a| a == "--workspace" || a == "--package" || a.starts_with("-p"));
    if !own_package {
        cargo.arg("--workspace");
    }
    cargo.args(arguments).env(parts::VARIABLE, search);
    run::run(&mut cargo, "install Rust (https://rustup.rs)")
}
