//! Running other programs, and where things are.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The top folder of the repository.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The folder that cargo builds into.
pub(crate) fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Cargo reads a relative one from where it was started.
        Some(directory) => std::path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => root().join("target"),
    }
}

/// The cargo that runs this chore, working in the top folder.
///
/// Build scripts that look at what cargo says of a package (ring's does) must not see what it says of this one: they
/// would be run again, and all that is built on them, each time a bare `cargo` follows a chore.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// git, working in the top folder.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(root());
    command
}

/// The compiler and its version, as `rustc` says them.
pub(crate) fn compiler() -> Result<String> {
    output(
        Command::new("rustc").arg("--version"),
        "install Rust (https://rustup.rs)",
    )
}

/// Runs a command to its end and returns what it printed, without the white space around it. Fails when it does.
///
/// `hint` is as for [`run`].
pub(crate) fn output(command: &mut Command, hint: &str) -> Result<String> {
    let line = line(command);
    let output = match command.stderr(Stdio::inherit()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("`{line}`: not there: {hint}"),
        output => output.with_context(|| format!("failed to start `{line}`"))?,
    };
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{line}` printed what is not UTF-8"))?;
    Ok(text.trim().to_owned())
}

/// Runs a command to its end and fails when it does.
///
/// `hint` says how to get the program when it is not there.
pub(crate) fn run(command: &mut Command, hint: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = match command.status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{program}` is not there: {hint}")
        }
        status => status.with_context(|| format!("failed to start `{program}`"))?,
    };
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
