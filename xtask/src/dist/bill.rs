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
    let program = bill["metadata"]["component"]["bom-ref"].clone();
    let libraries = [standard_library()?, c_library()?];
    bill["dependencies"]
        .as_array_mut()
        .and_then(|all| all.iter_mut().find(|entry| entry["ref"] == program))
        .and_then(|entry| entry["dependsOn"].as_array_mut())
        .context("the bill does not say what the program depends on")?
        .extend(libraries.iter().map(|library| library["bom-ref"].clone()));
    bill["components"]
        .as_array_mut()
        .context("the bill has no components")?
        .extend(libraries);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Value {
        let program = "path+file:///home/somebody/outrigger#outrigger@1.2.3";
        json!({
            "metadata": {"component": {"bom-ref": program}},
            "components": [{"bom-ref": "serde"}],
            "dependencies": [{"ref": program, "dependsOn": ["serde"]}, {"ref": "serde"}],
        })
    }

    #[test]
    fn the_libraries_that_are_no_crates_are_added_and_the_place_is_not_told() {
        let place = Path::new("/home/somebody/outrigger");
        let text = complete(&written().to_string(), place).unwrap();
        assert!(!text.contains("somebody"), "{text}");
        let bill: Value = serde_json::from_str(&text).unwrap();
        let all = json!(["serde", "rust-std", "glibc"]);
        assert_eq!(bill["dependencies"][0]["dependsOn"], all);
        let names = bill["components"].as_array().unwrap();
        let names: Vec<_> = names.iter().map(|part| part["bom-ref"].clone()).collect();
        assert_eq!(Value::from(names), all);
    }

    #[test]
    fn a_bill_that_would_differ_each_time_is_refused() {
        let mut bill = written();
        bill["serialNumber"] = "urn:uuid:4c1f5f3e-8f5e-4c27-9d5f-0f6f3f3b9a11".into();
        let error = complete(&bill.to_string(), Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("SOURCE_DATE_EPOCH"), "{error}");
    }
}
