//! `cargo xtask ci`: everything that must pass before a change is merged.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{fuzz, instructions, parts, run, test};

/// `require` makes a missing advisory database an error; `.github/workflows`
/// sets it. Anything else: check when the database can be had, and say so
/// loudly when not.
const ADVISORIES: &str = "OUTRIGGER_ADVISORIES";

/// The workspaces of the repository.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// How long the advisory database may take to arrive.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

/// The cheap checks first: a formatting mistake is known in a second.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(first) = arguments.first() {
        bail!("`cargo xtask ci` takes no arguments, but `{first}` was given");
    }
    step("fmt", format)?;
    step("clippy", clippy)?;
    step("doc", documentation)?;
    step("deny", deny)?;
    step("hadolint", hadolint)?;
    step("test", || test::run(&[]))?;
    // Features that are not the default's: their code and their own tests. The rest is the same with them.
    step("otlp", || {
        clippy_with("Cargo.toml", &["--features", "otlp"])?;
        test::run(
            &[
                "--package",
                "outrigger",
                "--features",
                "otlp",
                "--test",
                "otlp",
            ]
            .map(str::to_owned),
        )
    })?;
    step("instructions", || instructions::run(&[]))?;
    step("fuzz", fuzz::ci)?;
    println!("ci: all passed");
    Ok(())
}

fn step(name: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {name}");
    let start = Instant::now();
    body().with_context(|| format!("ci: {name}"))?;
    println!(
        "== {name}: passed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn format() -> Result<()> {
    for manifest in MANIFESTS {
        run::run(
            run::cargo().args(["fmt", "--all", "--check", "--manifest-path", manifest]),
            "install Rust",
        )
        .with_context(|| {
            format!(
                "run `cargo fmt --all --manifest-path {manifest}` (and `rustup component add rustfmt` if that is missing)"
            )
        })?;
    }
    Ok(())
}

/// Of both workspaces: the fuzz targets are built last, and one that does not compile should be known before.
fn clippy() -> Result<()> {
    MANIFESTS
        .into_iter()
        .try_for_each(|manifest| clippy_with(manifest, &[]))
}

fn clippy_with(manifest: &str, features: &[&str]) -> Result<()> {
    run::run(
        run::cargo()
            .args(["clippy", "--locked", "--workspace", "--all-targets"])
            .args(["--manifest-path", manifest])
            .args(features)
            .args(["--", "-D", "warnings"])
            // What both are made of is then compiled once.
            .env("CARGO_TARGET_DIR", run::target_directory()),
        "install Rust",
    )
    .context("mend what clippy names (`rustup component add clippy` if that is missing)")
}

fn documentation() -> Result<()> {
    run::run(
        run::cargo()
            .args([
                "doc",
                "--locked",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
        "install Rust",
    )
}

fn deny() -> Result<()> {
    let program = parts::program("cargo-deny")?;
    let hint = "run `cargo xtask parts cargo-deny`";
    let deny = || {
        let mut command = Command::new(&program);
        command.arg("--locked").current_dir(run::root());
        command
    };
    for manifest in MANIFESTS {
        let mut deny = deny();
        deny.args(["--manifest-path", manifest, "--config", "deny.toml"]);
        run::run(deny.args(["check", "licenses", "bans", "sources"]), hint)
            .context("see deny.toml for what is allowed and why")?;
    }

    if fetch_advisories(deny().args(["fetch", "db"]))? {
        run::run(deny().args(["check", "advisories"]), hint)?;
        println!("deny: licenses, bans, sources and ADVISORIES were checked");
    } else if std::env::var_os(ADVISORIES).is_some_and(|value| value == "require") {
        bail!("the advisory database could not be fetched, and {ADVISORIES}=require is set");
    } else {
        println!(
            "deny: licenses, bans and sources were checked\n\
             deny: ADVISORIES WERE NOT CHECKED: the database could not be fetched from here \
             (set {ADVISORIES}=require to make this an error)"
        );
    }
    Ok(())
}

/// Whether the advisory database is here now. Bounded in time: a network that
/// swallows packets must not hold everything up.
fn fetch_advisories(command: &mut Command) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start cargo-deny")?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > FETCH_LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn hadolint() -> Result<()> {
    let dockerfile = run::root().join("Dockerfile");
    if !dockerfile.exists() {
        println!("hadolint: there is no Dockerfile, so nothing to lint");
        return Ok(());
    }
    let program = parts::program("hadolint")?;
    run::run(
        Command::new(program)
            .arg("--failure-threshold")
            .arg("style")
            .arg(dockerfile),
        "run `cargo xtask parts hadolint`",
    )
}
