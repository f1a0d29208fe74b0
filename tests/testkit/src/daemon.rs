//! Programs that run beside the tests and must not outlive them.
//!
//! Each runs under a small shell that holds the reading end of a pipe whose
//! writing end is ours. When the pipe closes, the shell terminates the program,
//! and kills it when it takes too long. We close it in `Drop`; the kernel closes
//! it when the test process dies in any way, `SIGKILL` included. (A
//! parent-death signal would need `unsafe`, and fires already when the *thread*
//! that started the program ends, as test threads do.)

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::Result;

/// Arguments: the log file, the tenths of a second between SIGTERM and SIGKILL,
/// then the command. Prints the program's process id.
const KEEPER: &str = r#"
exec 3<&0 </dev/null
log=$1 patience=$2
shift 2
"$@" 3<&- >"$log" 2>&1 &
program=$!
echo "$program"
exec >&-
{
    read -r _ <&3
    kill -TERM "$program"
    while [ "$patience" -gt 0 ]; do
        sleep 0.1
        kill -0 "$program" || exit
        patience=$((patience - 1))
    done
    kill -KILL "$program"
} &
watcher=$!
wait "$program"
status=$?
kill "$watcher"
exit "$status"
"#;

/// A program running in the background. Dropping it stops it and waits until it
/// is gone.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    keeper: Child,
    pid: Pid,
    log: PathBuf,
    patience: Duration,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command` with both outputs going to the file `log`. When stopped
    /// it has `patience` to leave by itself after SIGTERM.
    ///
    /// # Errors
    ///
    /// When the shell cannot be started. A program that does not exist shows as
    /// one that has ended.
    pub fn start(command: &Command, log: &Path, patience: Duration) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().map_or_else(
            || "program".into(),
            |name| name.to_string_lossy().into_owned(),
        );
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(KEEPER).arg("keeper").arg(log);
        shell.arg((patience.as_millis() / 100).to_string());
        shell.arg(command.get_program()).args(command.get_args());
        copy_surroundings(command, &mut shell);
        let mut keeper = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C reaches the test process alone; the rest follows from the pipe.
            .process_group(0)
            .spawn()
            .context("failed to start `sh`")?;

        let mut line = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("no process id came for {name}"))?;
        Ok(Daemon {
            name,
            keeper,
            pid,
            log: log.to_owned(),
            patience,
            ended: None,
        })
    }

    /// The program's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// A line of its `/proc/PID/status`, in KiB: `VmRSS`, what is resident, or `VmHWM`, the most that ever was.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn memory(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let found = status.lines().find_map(|it| it.strip_prefix(line));
        let value = found.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
        Ok(value.context("no such line")?.parse()?)
    }

    /// The CPU time that its threads have used so far; that of threads which have ended is not in it.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split(' ').next().context("schedstat is empty")?;
            total += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// How many files, sockets among them, it has open.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }

    /// What it has written until now, both outputs together.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result {
        kill_process(self.pid, signal).with_context(|| format!("failed to signal {}", self.name))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// When the kernel will not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.keeper.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// After `limit`.
    pub fn wait_ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        crate::wait_until(&what, limit, || self.ended()?.context("it still runs"))
    }

    /// Calls `probe` until it succeeds, giving up at once when the program ends.
    ///
    /// # Errors
    ///
    /// With the end of the log, after `limit` or when the program has ended.
    pub fn wait_ready<T>(
        &mut self,
        limit: Duration,
        mut probe: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let outcome = match probe() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended ({status}) before it was ready:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            if start.elapsed() > limit {
                return Err(outcome).with_context(|| {
                    let seconds = limit.as_secs();
                    format!(
                        "{} not ready after {seconds} s:\n{}",
                        self.name,
                        self.log_end()
                    )
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to stop without waiting, so that several stop at the same time.
    pub fn begin_stop(&mut self) {
        drop(self.keeper.stdin.take());
    }

    /// Stops it and waits until it is gone; what `Drop` does.
    pub fn stop(&mut self) {
        self.begin_stop();
        let limit = self.patience + Duration::from_secs(2);
        if self.wait_ended(limit).is_err() {
            // Not even the shell answered: end the whole group.
            if let Some(group) = i32::try_from(self.keeper.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            self.ended = self.keeper.wait().ok();
        }
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Gives `to` the environment and the working folder of `from`.
pub(crate) fn copy_surroundings(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(directory) = from.get_current_dir() {
        to.current_dir(directory);
    }
}

/// The command as one would type it, for messages.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
