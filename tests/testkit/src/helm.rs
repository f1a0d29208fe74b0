//! The real Helm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::{Finished, Result, parts, process};

const LIMIT: Duration = Duration::from_secs(120);

/// The chart of this repository.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/outrigger");

/// Stands in for the Service's template in [`nodeless_chart`].
const ALIAS: &str = r#"apiVersion: v1
kind: Service
metadata:
  name: {{ include "outrigger.fullname" . }}
  namespace: {{ .Release.Namespace | quote }}
spec:
  type: ExternalName
  externalName: localhost
  ports:
  - name: webhook
    port: {{ .Values.service.port }}
"#;

/// A copy of the chart for a cluster without nodes: its Service is an alias of localhost, so that the API server calls
/// what listens on the Service's port there, by the name that the certificate is for. All else is as it is.
///
/// # Errors
///
/// When it cannot be copied.
pub fn nodeless_chart() -> Result<TempDir> {
    let copy = process::temporary_folder()?;
    copy_folder(Path::new(CHART), copy.path())?;
    let service = copy.path().join("templates/service.yaml");
    ensure!(service.is_file(), "{} is not there", service.display());
    std::fs::write(service, ALIAS)?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> Result {
    std::fs::create_dir_all(to)?;
    let entries = std::fs::read_dir(from).with_context(|| from.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // Follows the links that the chart has.
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

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
