//! The real Helm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Finished, Result, parts, process};

const LIMIT: Duration = Duration::from_secs(120);

/// Helm with homes of its own, so that the user's repositories, plugins and
/// cluster play no part.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: PathBuf,
}

impl Helm {
    /// Helm without a cluster: `lint`, `template`, `package`.
    ///
    /// # Errors
    ///
    /// When Helm is not installed.
    pub fn new() -> Result<Self> {
        let home = process::temporary_folder()?;
        // Without any kubeconfig Helm would dial localhost:8080.
        let kubeconfig = home.path().join("no-cluster");
        std::fs::write(&kubeconfig, "apiVersion: v1\nkind: Config\n")?;
        Ok(Helm {
            program: parts::program("helm")?,
            home,
            kubeconfig,
        })
    }

    /// Helm for a cluster: `install`, `upgrade`, `uninstall` too.
    ///
    /// # Errors
    ///
    /// When Helm is not installed.
    pub fn with_cluster(kubeconfig: &Path) -> Result<Self> {
        Ok(Helm {
            kubeconfig: kubeconfig.to_owned(),
            ..Self::new()?
        })
    }

    /// Runs `helm` with these arguments.
    ///
    /// # Errors
    ///
    /// When it cannot be started; see [`Finished::ok`] for its own.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        for name in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{name}_HOME"), self.home.path().join(name));
        }
        process::run(&command, b"", LIMIT)
    }
}
