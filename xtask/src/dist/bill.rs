//! The software bill of materials: every crate in the binary, and the two things in it that are no crates, as
//! CycloneDX.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{parts, run};

use super::{PROGRAM, context};

/// The moment that the bill is said to be from, in seconds since 1970 (reproducible-builds.org); the last commit's
/// unless set.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Writes the bill of a build for `target` into `folder`, and returns the file. The same source gives the same bytes.
pub(super) fn write(folder: &Path, target: &str) -> Result<PathBuf> {
    // cargo-cyclonedx writes beside every manifest of the workspace.
    let source = run::target_directory().join("dist-bill");
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    context::copy(run::root(), &source)?;
    run::run(
        Command::new(parts::program("cargo-cyclonedx")?)
            .args(["cyclonedx", "--quiet", "--format", "json", "--spec-version"])
            .args(["1.5", "--all", "--no-build-deps", "--target", target])
            .args(["--override-filename", "bill", "--manifest-path"])
            .arg(source.join("Cargo.toml"))
            .env(EPOCH, epoch()?),
        "run `cargo xtask parts cargo-cyclonedx`",
    )?;
    let written = fs::read_to_string(source.join("bill.json"))
        .context("cargo-cyclonedx wrote no bill of the program")?;
    let text = complete(&written, &source)?;
    let bill = folder.join(format!("{PROGRAM}.cdx.json"));
    fs::create_dir_all(folder)?;
    fs::write(&bill, text).with_context(|| format!("failed to write {}", bill.display()))?;
    fs::remove_dir_all(&source)?;
    println!("{}", bill.display());
    Ok(bill)
}

fn epoch() -> Result<String> {
    match std::env::var(EPOCH) {
        Ok(seconds) => Ok(seconds),
        Err(_) => run::output(
            run::git().args(["log", "-1", "--format=%ct"]),
            "install git",
        )
        .with_context(|| format!("no commit tells the time: set {EPOCH}")),
    }
}

/// Adds what is no crate, and takes out where the bill was made.
fn complete(written: &str, source: &Path) -> Result<String> {
    let place = format!("file://{}", source.display());
    let mut bill: Value = serde_json::from_str(&written.replace(&place, "file:///outrigger"))
        .context("cargo-cyclonedx wrote no JSON")?;
    ensure!(
        bill.get("serialNumber").is_none(),
        "cargo-cyclonedx gave the bill a random number although {EPOCH} is set"
    );
    bill["components"]
        .as_array_mut()
        .context("the bill has no components")?
        .extend([standard_library()?, c_library()?]);
    let mut text = serde_json::to_string_pretty(&bill)?;
    text.push('\n');
    Ok(text)
}

/// Rust's own, which comes compiled with the compiler.
fn standard_library() -> Result<Value> {
    let said = run::output(Command::new("rustc").arg("-vV"), "install Rust")?;
    let field = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .with_context(|| format!("`rustc -vV` names no `{name}`"))
    };
    let version = field("release:")?;
    Ok(json!({
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": version,
        "description": format!("The standard library of Rust, commit {}", field("commit-hash:")?),
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": format!("pkg:github/rust-lang/rust@{version}"),
    }))
}

/// The C library of the machine that builds: it is linked in.
fn c_library() -> Result<Value> {
    let said = run::output(
        Command::new("getconf").arg("GNU_LIBC_VERSION"),
        "install the GNU C library's programs (Debian: libc-bin)",
    )?;
    let version = said
        .strip_prefix("glibc ")
        .with_context(|| format!("`getconf GNU_LIBC_VERSION` said `{said}`"))?;
    Ok(json!({
        "type": "library",
        "bom-ref": "glibc",
        "name": "glibc",
        "version": version,
        "description": "The GNU C library, linked in statically",
        "scope": "required",
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
        "purl": format!("pkg:generic/glibc@{version}"),
    }))
}
