//! `cargo xtask instructions`: how many instructions a review takes, held to a budget that only ever goes down.
//!
//! Callgrind counts: the same binary on the same input gives the same count on a busy machine as on a quiet one, but
//! for a few in a thousand that depend on where things lie in memory. Times are the business of `cargo xtask bench`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{parts, run};

/// The profile that is counted: optimised as a release, without what makes a release slow to build.
const PROFILE: &str = "counted";

/// The compiler of [`BUDGETS`]: another one makes other instructions.
const COMPILER: &str = "1.95.0";

/// A count: its review, whether renderings are remembered from the one before, and the most instructions.
struct Budget {
    review: &'static str,
    remembered: bool,
    most: u64,
}

/// What each review may take. Not one of a pod with much of something: its lists grow in place or are copied, as memory
/// happens to lie, and `tests/scaling.rs` holds how they grow.
const BUDGETS: &[Budget] = &[
    Budget {
        review: "asks for nothing",
        remembered: true,
        most: 77_400,
    },
    Budget {
        review: "envoy-tls",
        remembered: true,
        most: 111_500,
    },
    Budget {
        review: "envoy-tls and fluentd",
        remembered: true,
        most: 156_200,
    },
    Budget {
        review: "envoy-tls and fluentd",
        remembered: false,
        most: 4_100_000,
    },
];

/// What a count may be above its budget, in thousandths: what the place of things in memory makes, and the compiler's
/// choices of what to inline, which a change elsewhere turns. Three in a hundred were seen.
const NOISE: u64 = 60;

/// The same for another compiler than [`COMPILER`].
const OTHER_COMPILER: u64 = 150;

/// How far below its budget a count may be before the budget must follow it, in thousandths.
const SLACK: u64 = 80;

/// `cargo xtask instructions`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(first) = arguments.first() {
        bail!("`cargo xtask instructions` takes no arguments, but `{first}` was given");
    }
    parts::install_system()?;
    run::run(
        run::cargo().args([
            "build",
            "--locked",
            "--package",
            "instructions",
            "--profile",
            PROFILE,
        ]),
        "install Rust",
    )?;
    let version = run::compiler()?;
    let is_known = version.split(' ').nth(1) == Some(COMPILER);
    let mut problems = Vec::new();
    println!("| review | instructions | budget |\n|---|---:|---:|");
    for budget in BUDGETS {
        let title = match budget.remembered {
            true => budget.review.to_owned(),
            false => format!("{}, nothing remembered", budget.review),
        };
        let count = count(budget)?;
        println!("| {title} | {count} | {} |", budget.most);
        let above = if is_known { NOISE } else { OTHER_COMPILER };
        if count * 1000 > budget.most * (1000 + above) {
            problems.push(format!(
                "{title}: {count} instructions, at most {} are meant; `callgrind_annotate` of the file in \
                 target/instructions shows where they go",
                budget.most
            ));
        } else if is_known && count * 1000 < budget.most * (1000 - SLACK) {
            problems.push(format!(
                "{title}: {count} instructions: lower its budget of {} in xtask/src/instructions.rs, so that \
                 nobody makes it worse again",
                budget.most
            ));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    if !is_known {
        println!(
            "counted with {version}; the budgets are those of {COMPILER}, so {OTHER_COMPILER} in a thousand more \
             are let pass: set them anew when the compiler stays"
        );
    }
    Ok(())
}

/// Counts the instructions of one review.
fn count(budget: &Budget) -> Result<u64> {
    let folder = run::target_directory().join("instructions");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut file = budget.review.replace([' ', ','], "-");
    if !budget.remembered {
        file.push_str("-forgetful");
    }
    let file = folder.join(file + ".callgrind");
    let mut output = std::ffi::OsString::from("--callgrind-out-file=");
    output.push(&file);
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg("--toggle-collect=instructions::measured")
        .arg(&output)
        .arg(run::target_directory().join(PROFILE).join("instructions"))
        // What the environment holds moves the stack.
        .env_clear();
    if !budget.remembered {
        command.arg("--forgetful");
    }
    run::run(command.arg(budget.review), "install valgrind")?;
    let text =
        fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    total(&text).with_context(|| format!("{}: no line `totals: N` above 0", file.display()))
}

/// The sum in a file of callgrind's.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read() {
        assert_eq!(
            total("version: 1\nsummary: 7\n\ntotals: 12345\n"),
            Some(12345)
        );
        // A function of another name: nothing was counted.
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("summary: 7\n"), None);
    }
}
