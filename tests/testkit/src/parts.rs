//! Where the real programs are.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::Result;

/// Folders of programs, separated as in PATH. `cargo xtask test` sets it.
const VARIABLE: &str = "OUTRIGGER_PARTS";

/// The same list as a file in the target folder, left by `cargo xtask test` and
/// `cargo xtask parts`, for a bare `cargo test` afterwards.
const LIST: &str = "outrigger-parts";

/// Kubernetes' own convention (envtest): a folder with `kube-apiserver`, `etcd`
/// and `kubectl`, used before anything else.
pub(crate) const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The path of a program, such as `kube-apiserver`, `envoy` or `helm`.
///
/// # Errors
///
/// When it is not installed; the message says how to get it. Never looks in
/// PATH: the parts are pinned, and what PATH holds is not.
pub fn program(name: &str) -> Result<PathBuf> {
    let assets = std::env::var_os(ASSETS).map(PathBuf::from);
    let list = match std::env::var_os(VARIABLE) {
        Some(list) => list,
        None => std::fs::read_to_string(target_directory().join(LIST))
            .unwrap_or_default()
            .into(),
    };
    let found = assets
        .into_iter()
        .chain(std::env::split_paths(&list))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => {
            bail!("this test runs the real `{name}`, which is not there: run `cargo xtask test`")
        }
    }
}

fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}
