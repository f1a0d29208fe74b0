//! Programs that run to their end.

use std::ffi::OsStr;
use std::io::{Seek as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::Result;

/// What the image sets for the program, as `ENV` in the `Dockerfile`.
pub const IMAGE_ENVIRONMENT: [(&str, &str); 1] = [("MALLOC_ARENA_MAX", "1")];

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 124 when it took too long.
    pub code: i32,
    /// Everything it wrote there.
    pub stdout: String,
    /// Everything it wrote there.
    pub stderr: String,
}

impl Finished {
    /// Standard output, if the program succeeded.
    ///
    /// # Errors
    ///
    /// With the command and what it said, if it did not.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!(
                "`{}` exited with {}:\n{}{}",
                self.command,
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self.stdout)
    }
}

/// `command` with the words of `wrapper` before it, which must end in becoming it, so that the process is its.
#[must_use]
pub fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut words = wrapper
        .iter()
        .map(OsStr::new)
        .chain([command.get_program()])
        .chain(command.get_args());
    let first = words.next().unwrap_or(command.get_program());
    let mut whole = Command::new(first);
    whole.args(words);
    crate::daemon::copy_surroundings(command, &mut whole);
    whole
}

/// Runs `command` with `input` on standard input, for at most `limit`.
///
/// # Errors
///
/// When it cannot be started. A failing program is not an error: see
/// [`Finished::ok`].
pub fn run(command: &Command, input: &[u8], limit: Duration) -> Result<Finished> {
    // coreutils' timeout bounds it without a thread of ours.
    let mut bounded = Command::new("timeout");
    bounded
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string());
    bounded.arg(command.get_program()).args(command.get_args());
    crate::daemon::copy_surroundings(command, &mut bounded);

    // A file, not a pipe: nothing to deadlock on.
    let mut stdin = tempfile::tempfile().context("failed to make a temporary file")?;
    stdin.write_all(input)?;
    stdin.rewind()?;
    let output = bounded
        .stdin(Stdio::from(stdin))
        .output()
        .context("failed to start `timeout` (coreutils)")?;
    Ok(Finished {
        command: crate::daemon::command_line(command),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A folder that goes when it is dropped, with a name that tells whose it was
/// when it could not be.
pub(crate) fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("outrigger-tests-")
        .tempdir()
        .context("failed to make a temporary folder")
}

/// Lets this process, and what it starts from now on, have more files open, sockets among them. Gives how many.
///
/// # Errors
///
/// When the kernel allows fewer than `least`.
pub fn allow_open_files(least: u64) -> Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(u64::MAX);
    if most < least {
        bail!("{least} files are to be open, and the hard limit (ulimit -Hn) is {most}");
    }
    if now.current.is_some_and(|current| current < least) {
        let wanted = Rlimit {
            current: Some(least),
            ..now
        };
        setrlimit(Resource::Nofile, wanted).context("failed to raise the limit on open files")?;
    }
    Ok(least)
}
