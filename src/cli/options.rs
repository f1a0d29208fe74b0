//! Options that several commands share: which profiles there are, and how sidecars run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::admission::Snapshot;
use crate::inject::SidecarMode;
use crate::manifest::Source;
use crate::profile::{Catalogue, Defaults, Profile};

/// Where profiles come from.
#[derive(Debug, Clone, Default, Args)]
pub struct CatalogueOptions {
    /// A profile file, or a folder of them with the folders below it; may be given several times. A profile
    /// replaces the built-in one of the same name
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
        for source in profile_sources(&self.profiles)? {
            let (good, bad) = Profile::parse_all(&source.name, &source.text);
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
        // A line each, as it stands, so that an editor or a log finds the places.
        anyhow::ensure!(
            refused.is_empty(),
            "profiles are refused:\n{}",
            refused.join("\n")
        );
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

/// The profile files that these paths name: a file itself, - for standard input, or all YAML and JSON files in a
/// folder and the folders below it, by name.
///
/// # Errors
/// Every path that cannot be read, and a folder without such a file.
pub fn profile_sources(paths: &[PathBuf]) -> anyhow::Result<Vec<ProfileSource>> {
    let sources = Source::read(paths, std::io::stdin().lock()).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    sources
        .into_iter()
        .map(|source| {
            let text = String::from_utf8(source.bytes)
                .with_context(|| format!("{}: the text is not UTF-8", source.name))?;
            Ok(ProfileSource {
                name: source.name,
                text,
            })
        })
        .collect()
}

/// A file that holds profiles.
pub struct ProfileSource {
    /// Its path, or `stdin`.
    pub name: String,
    /// What it holds.
    pub text: String,
}
