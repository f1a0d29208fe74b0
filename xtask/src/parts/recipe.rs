//! How a part is had from its registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

/// How a part is made. What `Debug` prints is hashed into the part's key, so a
/// changed recipe installs anew.
#[derive(Debug)]
pub(super) enum Recipe {
    /// Programs built from Go modules, pinned by `go.mod` and `go.sum`.
    Go {
        /// The name of each program and its package.
        packages: &'static [(&'static str, &'static str)],
        /// The module whose version is stamped, and the package that holds it.
        stamp: Option<(&'static str, &'static str)>,
    },
    /// A program in a wheel from PyPI, pinned by the hashes in `requirements.txt`.
    Wheel {
        /// Where the program is once the wheel is unpacked.
        program: &'static str,
    },
    /// A program from the crate of the part's name, built with its own lock file.
    Crate {
        /// The exact version.
        version: &'static str,
    },
}

impl Recipe {
    /// The files that pin it.
    pub(super) fn pin_files(&self) -> &'static [&'static str] {
        match self {
            Recipe::Go { .. } => &["go.mod", "go.sum"],
            Recipe::Wheel { .. } => &["requirements.txt"],
            Recipe::Crate { .. } => &[], // The version is in the recipe.
        }
    }

    /// Puts the programs into `bin`. `pins` is the part's folder below
    /// `tests/parts`; `work` may be filled at will.
    pub(super) fn install(&self, pins: &Path, work: &Path, bin: &Path) -> Result<()> {
        match self {
            Recipe::Go { packages, stamp } => {
                for (program, package) in *packages {
                    build_go(pins, work, &bin.join(program), package, *stamp)?;
                }
                Ok(())
            }
            Recipe::Wheel { program } => install_wheel(pins, work, program, bin),
            Recipe::Crate { version } => install_crate(pins, work, version, bin),
        }
    }
}

fn build_go(
    pins: &Path,
    work: &Path,
    output: &Path,
    package: &str,
    stamp: Option<(&str, &str)>,
) -> Result<()> {
    let mut linker = "-s -w".to_owned();
    if let Some((module, variables)) = stamp {
        let version = required_version(&pins.join("go.mod"), module)?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
        linker.push_str(&format!(
            " -X {variables}.gitVersion={version} -X {variables}.gitMajor={major} \
             -X {variables}.gitMinor={minor} -X {variables}.gitTreeState=clean"
        ));
    }
    run::run(
        Command::new("go")
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                &linker,
                "-o",
            ])
            .arg(output)
            .arg(package)
            .current_dir(pins)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            // Writable, so that the folder can be removed afterwards.
            .env("GOFLAGS", "-mod=readonly -modcacherw")
            .env("GOMODCACHE", work.join("go-modules"))
            .env("GOCACHE", work.join("go-build")),
        "install Go 1.26 or later (https://go.dev/dl)",
    )
}

/// The version of `module` that a `go.mod` requires.
fn required_version(go_mod: &Path, module: &str) -> Result<String> {
    let content = fs::read_to_string(go_mod)
        .with_context(|| format!("failed to read {}", go_mod.display()))?;
    content
        .lines()
        .map(|line| line.trim().trim_start_matches("require ").trim())
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(" v"))
        .map(|version| format!("v{}", version.split_whitespace().next().unwrap_or(version)))
        .with_context(|| format!("{} does not require {module}", go_mod.display()))
}

/// No virtual environment: it would need Debian's python3-venv, and all that is
/// wanted is one file of the wheel.
fn install_wheel(pins: &Path, work: &Path, program: &str, bin: &Path) -> Result<()> {
    let unpacked = work.join("wheel");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    run::run(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-cache-dir",
            ])
            .args([
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--requirement",
            ])
            .arg(pins.join("requirements.txt"))
            .arg("--target")
            .arg(&unpacked)
            // Advice about the user's own Python, which `--target` leaves alone.
            // As variables: an older pip passes over those it does not know.
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        "install Python 3 with pip (Debian: `apt install python3-pip`)",
    )?;
    let from = unpacked.join(program);
    let name = from.file_name().context("a recipe names no program")?;
    fs::rename(&from, bin.join(name))
        .with_context(|| format!("the wheel has no {}", from.display()))?;
    make_executable(&bin.join(name))
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", path.display()))
}

fn install_crate(pins: &Path, work: &Path, version: &str, bin: &Path) -> Result<()> {
    let name = pins.file_name().context("a part has no name")?;
    let root = work.join("crate");
    run::run(
        run::cargo()
            .args(["install", "--quiet", "--locked", "--no-track", "--version"])
            .arg(format!("={version}"))
            .arg("--root")
            .arg(&root)
            .arg(name)
            .env("CARGO_TARGET_DIR", work.join("crate-build"))
            // Ours, if set, are not meant for it.
            .env_remove("RUSTFLAGS"),
        "install Rust (https://rustup.rs)",
    )?;
    fs::rename(root.join("bin").join(name), bin.join(name))
        .with_context(|| format!("{} was not installed", name.display()))
}

#[cfg(test)]
mod tests {
    use super::required_version;
    use crate::run;

    #[test]
    fn the_version_is_read_from_the_pins() {
        let go_mod = run::root().join("tests/parts/kubernetes/go.mod");
        let version = required_version(&go_mod, "k8s.io/kubernetes").unwrap();
        assert!(version.starts_with("v1.36."), "{version}");
        // One of a `require` block, and not one whose name only begins so.
        let version = required_version(&go_mod, "k8s.io/klog/v2").unwrap();
        assert!(version.starts_with("v2."), "{version}");
        let error = required_version(&go_mod, "k8s.io/klog").unwrap_err();
        assert!(
            error.to_string().ends_with("does not require k8s.io/klog"),
            "{error}"
        );
    }
}
