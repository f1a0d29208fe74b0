//! Options that several commands share: which profiles there are, and how sidecars run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::admission::Snapshot;
use crate::inject::SidecarMode;
use crate::profile::{Catalogue, Defaults, Profile};

/// Where profiles come from.
#[derive(Debug, Clone, Default, Args)]
pub struct CatalogueOptions {
    /// A profile file, or a folder of them; may be given several times. A profile replaces the built-in one
    /// of the same name
    #[arg(long = "profiles", value_name = "FILE|DIR")]
    pub profiles: Vec<PathBuf>,

    /// The administrator's defaults: a YAML file with `profileDefaults: {PROFILE: {PARAMETER: VALUE}}`
    #[arg(long, value_name = "FILE")]
    pub defaults: Option<PathBuf>,
}

/// How sidecars run in the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum NativeSidecars {
    /// As init containers with `restartPolicy: Always` (Kubernetes 1.29 and later)
    #[default]
    Native,
    /// As ordinary containers
    Container,
}

impl From<NativeSidecars> for SidecarMode {
    fn from(option: NativeSidecars) -> Self {
        match option {
            NativeSidecars::Native => Self::Native,
            NativeSidecars::Container => Self::Container,
        }
    }
}

impl CatalogueOptions {
    /// Reads and compiles everything.
    ///
    /// # Errors
    /// A file that cannot be read, a profile or defaults that are refused: all of them at once.
    pub fn load(&self) -> anyhow::Result<Catalogue> {
        let mut profiles = Catalogue::built_in()?;
        let mut refused = Vec::new();
        for path in profile_files(&self.profiles)? {
            let text = read(&path, "--profiles")?;
            let (good, bad) = Profile::parse_all(&path.display().to_string(), &text);
            for profile in good.into_iter().map(Arc::new) {
                let before = profiles
                    .iter()
                    .find(|known| known.name == profile.name && known.source != "built-in");
                if let Some(before) = before {
                    refused.push(format!(
                        "{}: the profile {:?} stands in {} already",
                        profile.source, profile.name, before.source
                    ));
                }
                profiles.push(profile);
            }
            refused.extend(bad.iter().map(ToString::to_string));
        }
        anyhow::ensure!(refused.is_empty(), "{}", refused.join("\n"));
        let catalogue = Catalogue::new(profiles);
        let Some(path) = &self.defaults else {
            return Ok(catalogue);
        };
        let source = path.display().to_string();
        let defaults = Defaults::parse(&source, &read(path, "--defaults")?)?;
        Ok(catalogue.with_defaults(&source, &defaults)?)
    }

    /// Loads everything that answers depend on.
    ///
    /// # Errors
    /// As [`CatalogueOptions::load`].
    pub fn snapshot(&self, sidecars: NativeSidecars) -> anyhow::Result<Snapshot> {
        Ok(Snapshot {
            catalogue: self.load()?,
            sidecars: sidecars.into(),
            ..Snapshot::default()
        })
    }
}

fn read(path: &Path, flag: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{flag} {}: cannot be read", path.display()))
}

/// The profile files that these paths name: a file itself, or the YAML files directly in a folder, by name.
///
/// # Errors
/// A path that does not exist or cannot be listed.
pub fn profile_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let listing = fs::read_dir(path)
            .with_context(|| format!("--profiles {}: cannot be listed", path.display()))?;
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry
                .with_context(|| format!("--profiles {}: cannot be listed", path.display()))?
                .path();
            let yaml = entry.extension().is_some_and(|extension| {
                extension == "yaml" || extension == "yml" || extension == "json"
            });
            // A mounted ConfigMap holds hidden folders beside its files.
            let hidden = entry
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if yaml && !hidden && entry.is_file() {
                found.push(entry);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}
