//! `cargo xtask fuzz [TARGET] [--seconds N]`: inputs that a fuzzer finds, held against the invariants of `tests/oracle`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{parts, run};

const TARGETS: [&str; 4] = ["review", "annotations", "profile", "workload"];

/// How long each target runs, in seconds, when nobody says; CI takes [`BOUNDED`].
const SECONDS: u64 = 300;

/// How long each target runs in `cargo xtask ci`, in seconds.
const BOUNDED: u64 = 20;

/// How long one input may take, in seconds. The slowest that were kept take a few tenths; a machine that does much else
/// was seen to make 11 s of that.
const TIMEOUT: u64 = 60;

/// How many targets run at once.
const AT_ONCE: usize = 2;

/// What is asked of this chore.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    targets: Vec<&'static str>,
    seconds: u64,
    /// An input to repeat, instead of looking for more.
    input: Option<PathBuf>,
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut asked = Self {
            targets: TARGETS.to_vec(),
            seconds: SECONDS,
            input: None,
        };
        let mut named = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--seconds" {
                let given = rest.next().context("--seconds: how many?")?;
                asked.seconds = given
                    .parse()
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .with_context(|| {
                        format!("--seconds: given `{given}`, expected a whole number above 0")
                    })?;
            } else if argument.starts_with('-') || asked.input.is_some() {
                bail!(
                    "`{argument}` is not known; usage: cargo xtask fuzz [TARGET [INPUT]] [--seconds N]"
                );
            } else if named {
                asked.input = Some(argument.into());
            } else {
                let known = TARGETS.into_iter().find(|target| target == argument);
                asked.targets = vec![known.with_context(|| {
                    format!(
                        "there is no target `{argument}`; there are {}",
                        TARGETS.join(", ")
                    )
                })?];
                named = true;
            }
        }
        Ok(asked)
    }
}

/// Runs the targets, or repeats one input.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let asked = Asked::parse(arguments)?;
    let programs = build()?;
    if let (Some(input), [target]) = (&asked.input, &asked.targets[..]) {
        return run::run(
            Command::new(programs.join(target))
                .arg(limit())
                .arg(input)
                .env("RUST_BACKTRACE", "1"),
            "it was just built",
        );
    }
    let work = Work::prepare()?;
    let mut failed = Vec::new();
    for targets in asked.targets.chunks(AT_ONCE) {
        let running: Vec<Running> = targets
            .iter()
            .map(|target| work.start(&programs, target, asked.seconds))
            .collect::<Result<_>>()?;
        for running in running {
            failed.extend(running.wait()?);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{}", failed.join("\n\n"))
}

/// What a change must pass: all targets, bounded.
pub(crate) fn ci() -> Result<()> {
    run(&["--seconds".to_owned(), BOUNDED.to_string()])
}

/// Builds the targets, and returns the folder of their programs.
///
/// Without a sanitizer, so that Rust's stable release does: no crate of ours has `unsafe`, and what sanitizers look for
/// needs it.
fn build() -> Result<PathBuf> {
    let folder = run::root().join("fuzz");
    run::run(
        run::cargo()
            .args(["metadata", "--locked", "--quiet", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(folder.join("Cargo.toml"))
            .stdout(std::process::Stdio::null()),
        "install Rust",
    )
    .context("fuzz/Cargo.lock is not that of the manifests: `cargo update --workspace --manifest-path fuzz/Cargo.toml` mends it")?;
    let target = run::target_directory().join("fuzz");
    let host = host()?;
    let start = Instant::now();
    run::run(
        Command::new(parts::program("cargo-fuzz")?)
            .args(["build", "--sanitizer", "none"])
            // One unit makes faster programs and doubles the time that they take to build.
            .args(["--codegen-units", "16"])
            .args(["--target", &host])
            .arg("--fuzz-dir")
            .arg(&folder)
            .arg("--target-dir")
            .arg(&target)
            .current_dir(run::root())
            // Ours, if set, would be put before its own.
            .env_remove("RUSTFLAGS"),
        "run `cargo xtask parts cargo-fuzz`",
    )
    .context("the targets are built from Rust and, libFuzzer, C++ (Debian: `apt install g++`)")?;
    println!("fuzz: built in {:.0} s", start.elapsed().as_secs_f64());
    Ok(target.join(host).join("release"))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("failed to run `rustc -vV`")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}

fn limit() -> String {
    format!("-timeout={TIMEOUT}")
}

/// Where inputs come from and go to.
struct Work {
    /// The inputs that every run begins with, made from the repository's cases.
    seeds: PathBuf,
    /// What runs found worth keeping, a folder a target: it outlives the target folder.
    corpus: PathBuf,
    /// Logs, and inputs that failed.
    output: PathBuf,
}

impl Work {
    fn prepare() -> Result<Self> {
        let output = run::target_directory().join("fuzz-output");
        let work = Self {
            seeds: output.join("seeds"),
            corpus: parts::cache_directory()?.join("fuzz"),
            output,
        };
        run::run(
            run::cargo()
                .args([
                    "run",
                    "--locked",
                    "--quiet",
                    "--package",
                    "oracle",
                    "--bin",
                    "seeds",
                    "--",
                ])
                .arg(&work.seeds),
            "install Rust",
        )
        .context("failed to make the seeds")?;
        Ok(work)
    }

    fn start(&self, programs: &Path, target: &'static str, seconds: u64) -> Result<Running> {
        let corpus = self.corpus.join(target);
        let inputs = self.output.join("failed").join(target);
        for folder in [&corpus, &inputs] {
            fs::create_dir_all(folder)
                .with_context(|| format!("failed to make {}", folder.display()))?;
        }
        let log = self.output.join(format!("{target}.log"));
        let file =
            fs::File::create(&log).with_context(|| format!("failed to write {}", log.display()))?;
        let seeds = self.seeds.join(target);
        let child = Command::new(programs.join(target))
            .arg(format!("-max_total_time={seconds}"))
            .arg(limit())
            .arg(format!("-report_slow_units={TIMEOUT}"))
            .args(["-print_final_stats=1", "-rss_limit_mb=2048"])
            .arg(format!("-dict={}", seeds.join("dictionary").display()))
            // It is put before the name of the file as it stands.
            .arg(format!("-artifact_prefix={}/", inputs.display()))
            .arg(&corpus)
            .arg(seeds.join("seeds"))
            .env("RUST_BACKTRACE", "1")
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start the target {target}"))?;
        println!("fuzz: {target} runs for {seconds} s");
        Ok(Running { target, child, log })
    }
}

/// A target that runs. It is stopped when this chore ends before it does.
struct Running {
    target: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Waits for its end and tells how it went. What is to be said of a failure, if it failed.
    fn wait(mut self) -> Result<Option<String>> {
        let status = self.child.wait()?;
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let target = self.target;
        let figure = |name: &str| {
            log.lines()
                .filter_map(|line| {
                    line.strip_prefix("stat::")?
                        .strip_prefix(name)?
                        .strip_prefix(':')
                })
                .next_back()
                .unwrap_or("?")
                .trim()
                .to_owned()
        };
        println!(
            "fuzz: {target}: {} inputs tried, {} new ones kept, {} MB at most",
            figure("number_of_executed_units"),
            figure("new_units_added"),
            figure("peak_rss_mb"),
        );
        if status.success() {
            return Ok(None);
        }
        let input = log
            .lines()
            .filter_map(|line| line.split_once("Test unit written to "))
            .map(|(_, path)| path.trim())
            .next_back();
        Ok(Some(match input {
            Some(input) => format!(
                "the target {target} failed:\n{}\n  the input: {input}\n  the log: {}\n  again: cargo xtask fuzz {target} {input}",
                told(&log),
                self.log.display()
            ),
            None => format!(
                "the target {target} did not run ({status}): see {}",
                self.log.display()
            ),
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless this chore could not wait for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the failure says: the panic's message, or libFuzzer's line.
fn told(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.contains("panicked at"))
        .or_else(|| {
            lines
                .iter()
                .position(|line| line.contains("ERROR: libFuzzer"))
        })
        .unwrap_or(0);
    lines
        .iter()
        .skip(start)
        .take_while(|line| !line.starts_with("stack backtrace"))
        .take(12)
        .map(|line| format!("  {}", line.chars().take(300).collect::<String>()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Asked> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        Asked::parse(&arguments)
    }

    #[test]
    fn all_targets_run_unless_one_is_named() {
        assert_eq!(asked(&[]).unwrap().targets, TARGETS);
        let one = asked(&["profile", "--seconds", "7"]).unwrap();
        assert_eq!((one.targets, one.seconds), (vec!["profile"], 7));
        let input = asked(&["profile", "crash-1"]).unwrap().input;
        assert_eq!(input, Some(PathBuf::from("crash-1")));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (arguments, named) in [
            (&["pod"][..], "there is no target `pod`"),
            (&["--seconds"], "--seconds"),
            (&["--seconds", "0"], "given `0`"),
            (&["--second"], "`--second`"),
            (&["review", "a", "b"], "`b`"),
        ] {
            let error = format!("{:#}", asked(arguments).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn every_target_is_one_of_the_manifest() {
        let manifest = fs::read_to_string(run::root().join("fuzz/Cargo.toml")).unwrap();
        let named: Vec<&str> = manifest
            .lines()
            .filter_map(|line| {
                line.strip_prefix("path = \"targets/")?
                    .strip_suffix(".rs\"")
            })
            .collect();
        assert_eq!(named, TARGETS);
    }

    #[test]
    fn of_a_failure_the_message_is_told() {
        let log = "INFO: Seed: 1\n#1 INITED\nthread '<unnamed>' panicked at targets/x.rs:1:1:\nit broke\nwith this\nstack backtrace:\n 0: a\n";
        assert_eq!(
            told(log),
            "  thread '<unnamed>' panicked at targets/x.rs:1:1:\n  it broke\n  with this"
        );
        let slow = "INFO: Seed: 1\n==1== ERROR: libFuzzer: timeout after 10 seconds\n";
        assert_eq!(
            told(slow),
            "  ==1== ERROR: libFuzzer: timeout after 10 seconds"
        );
    }
}
