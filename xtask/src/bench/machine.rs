//! On what it was measured, and whether others used it meanwhile.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run;

/// The facts that figures depend on.
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    /// Of what was measured; says if it had changes.
    commit: String,
    /// The load average of the last minute, before anything was begun.
    load: f64,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// That the kernel, git or the compiler does not say.
    pub(super) fn here() -> Result<Self> {
        let hint = "install it";
        let cpus = read("/proc/cpuinfo")?;
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.and_then(|rest| rest.split_once(": "));
        let mut commit = run::output(run::git().args(["rev-parse", "--short", "HEAD"]), hint)?;
        let changes = ["status", "--porcelain", "--", ".", ":!docs"];
        if !run::output(run::git().args(changes), hint)?.is_empty() {
            commit.push_str(" with changes");
        }
        let load = read("/proc/loadavg")?;
        let load = load.split(' ').next().context("/proc/loadavg is empty")?;
        Ok(Self {
            cpu: model
                .map_or("an unknown CPU", |(_, model)| model)
                .to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: run::compiler()?,
            commit,
            load: load.parse()?,
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "kernel": self.kernel, "rustc": self.rustc,
            "commit": self.commit, "load_average_before": self.load,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, Linux {}, {}, commit {}; load average before: {}",
            self.cpu, self.cores, self.kernel, self.rustc, self.commit, self.load
        )
    }
}

/// Above this share, figures are told to be noisy.
const NOISE: f64 = 0.05;

/// A share of the machine in words.
pub(super) fn others(share: Option<f64>) -> String {
    match share {
        None => "how much others used the machine is not known".to_owned(),
        Some(share) => {
            let noisy = if share > NOISE {
                ", so the figures are noisy"
            } else {
                ""
            };
            format!(
                "others used {:.0} % of the machine meanwhile{noisy}",
                share * 100.0
            )
        }
    }
}

/// Sees what part of the machine others use. Times are in the kernel's ticks.
pub(super) struct Watch {
    at: Ticks,
}

struct Ticks {
    /// All there are.
    all: u64,
    /// Those in which some process ran. Interrupts are left out: those of our own packets would count as others.
    busy: u64,
    /// Those of this process and of all that it started and that have ended.
    ours: u64,
}

impl Watch {
    pub(super) fn start() -> Result<Self> {
        Ok(Self { at: Ticks::now()? })
    }

    /// The share of CPU time that others had since; `None` where the kernel does not count.
    pub(super) fn others(&self) -> Result<Option<f64>> {
        let now = Ticks::now()?;
        let (all, busy) = (now.all - self.at.all, now.busy - self.at.busy);
        let others = busy.saturating_sub(now.ours - self.at.ours);
        Ok((all > 0).then(|| others as f64 / all as f64))
    }
}

impl Ticks {
    fn now() -> Result<Self> {
        // See proc_stat(5) and proc_pid_stat(5).
        let stat = read("/proc/stat")?;
        let all = numbers(stat.lines().next().unwrap_or_default());
        let [
            user,
            nice,
            system,
            idle,
            waiting,
            interrupts,
            soft,
            stolen,
            ..,
        ] = all[..]
        else {
            anyhow::bail!("/proc/stat: expected eight numbers in the first line");
        };
        let own = read("/proc/self/stat")?;
        let (_, own) = own
            .rsplit_once(") ")
            .context("/proc/self/stat has no name")?;
        let own: u64 = own
            .split(' ')
            .skip(11)
            .take(4)
            .filter_map(|it| it.parse::<u64>().ok())
            .sum();
        let busy = user + nice + system + stolen;
        Ok(Self {
            all: busy + idle + waiting + interrupts + soft,
            busy,
            ours: own,
        })
    }
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .filter_map(|it| it.parse().ok())
        .collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}
