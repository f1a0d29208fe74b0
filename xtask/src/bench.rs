//! `cargo xtask bench [SUITE…] [--document]`: what the webhook costs, against its goals.

mod document;
mod machine;
mod plot;
mod record;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{dist, parts, run};
use machine::{Machine, Watch};
use record::Record;

/// The environment variable that tells a bench where its results go, one JSON object a line.
const RESULTS: &str = "OUTRIGGER_BENCH_RESULTS";
const HINT: &str = "install Rust (https://rustup.rs)";

/// Something that is measured together.
struct Suite {
    name: &'static str,
    /// The target of `cargo bench`, and what it is told.
    bench: &'static str,
    arguments: &'static [&'static str],
    /// Whether it looks at the program as it is released rather than at what it is compared with, which must be built
    /// alike.
    of_the_released: bool,
    /// The programs that have to be there besides Rust and util-linux.
    needs_parts: bool,
}

const SUITES: &[Suite] = &[
    Suite::of_the_webhook("webhook", &["webhook"]),
    Suite {
        of_the_released: true,
        ..Suite::of_the_webhook("process", &["process"])
    },
    Suite {
        of_the_released: true,
        ..Suite::of_the_webhook("connections", &["connections"])
    },
    Suite {
        of_the_released: true,
        needs_parts: true,
        ..Suite::of_the_webhook("cluster", &["cluster"])
    },
    Suite {
        bench: "scaling",
        ..Suite::of_the_webhook("scaling", &[])
    },
];

impl Suite {
    const fn of_the_webhook(name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self {
            name,
            bench: "webhook",
            arguments,
            of_the_released: false,
            needs_parts: false,
        }
    }
}

/// What a suite told.
struct Outcome {
    suite: &'static str,
    records: Vec<Record>,
    /// The share of the machine's CPU time that went to others meanwhile; unknown where the kernel does not count.
    others: Option<f64>,
}

/// Runs the suites that are named, or all of them, with optimised builds; prints a table, and writes that and a plot
/// of each curve into `target/bench`. With `--document` into `docs/performance.md` as well.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|it| it.starts_with('-'));
    if let Some(flag) = flags.iter().find(|flag| **flag != "--document") {
        bail!("`{flag}` is not known; usage: cargo xtask bench [SUITE…] [--document]");
    }
    let suites = chosen(&names)?;
    let machine = Machine::here()?;
    let folder = run::target_directory().join("bench");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;

    // Built before the watch begins: the compiler is nobody else.
    for suite in &suites {
        let mut cargo = run::cargo();
        cargo.args(["bench", "--locked", "--no-run", "--bench", suite.bench]);
        run::run(&mut cargo, HINT)?;
    }
    let released = match suites.iter().any(|suite| suite.of_the_released) {
        true => Some(dist::make_binary()?),
        false => None,
    };
    let mut outcomes = Vec::with_capacity(suites.len());
    for suite in suites {
        let program = released.as_deref().filter(|_| suite.of_the_released);
        outcomes.push(measure(suite, program, &folder)?);
    }

    let curves = plot::draw(&outcomes, &folder)?;
    write(&machine, &outcomes, &folder.join("results.json"))?;
    println!("\n{machine}");
    for outcome in &outcomes {
        println!(
            "\n== {}: {}\n",
            outcome.suite,
            machine::others(outcome.others)
        );
        println!("{}", table::of(&outcome.records));
    }
    println!("results.json and the plots are in {}", folder.display());
    if !flags.is_empty() {
        document::update(&machine, &outcomes, &curves, &folder)?;
    }
    Ok(())
}

/// The suites of these names in the order of [`SUITES`]; all without a name.
fn chosen(names: &[&String]) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| SUITES.iter().all(|suite| suite.name != **name))
    {
        let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!(
            "there is no suite `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| **name == suite.name);
    Ok(SUITES.iter().filter(wanted).collect())
}

/// Runs a suite and reads what it told: of `program`, or without one of what `cargo bench` built.
fn measure(suite: &Suite, program: Option<&Path>, folder: &Path) -> Result<Outcome> {
    println!("\n== {}\n", suite.name);
    let file = folder.join(format!("{}.jsonl", suite.name));
    // Results are appended.
    fs::write(&file, "").with_context(|| file.display().to_string())?;
    let mut cargo = run::cargo();
    cargo
        .args(["bench", "--locked", "--quiet", "--bench", suite.bench, "--"])
        .args(suite.arguments)
        .env(RESULTS, &file);
    if let Some(program) = program {
        cargo.arg("--program").arg(program);
    }
    if suite.needs_parts {
        cargo.env(parts::VARIABLE, parts::install_for_tests()?);
    }
    let watch = Watch::start()?;
    run::run(&mut cargo, "install Rust, and util-linux for `taskset`")?;
    let others = watch.others()?;
    let records = fs::read_to_string(&file)?
        .lines()
        .map(Record::parse)
        .collect::<Result<Vec<_>>>()
        .with_context(|| file.display().to_string())?;
    if records.is_empty() {
        bail!("the suite {} told nothing", suite.name);
    }
    Ok(Outcome {
        suite: suite.name,
        records,
        others,
    })
}

/// Writes everything that was told, and on what machine.
fn write(machine: &Machine, outcomes: &[Outcome], path: &Path) -> Result<()> {
    let suites: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let records: Vec<_> = outcome.records.iter().map(Record::json).collect();
            json!({
                "suite": outcome.suite,
                "share_of_cpu_used_by_others": outcome.others,
                "results": records,
            })
        })
        .collect();
    let all = json!({"machine": machine.json(), "suites": suites});
    fs::write(path, format!("{all:#}\n")).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
