//! Options that several commands share: which profiles there are, and how sidecars run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use kube::Client;

use crate::admission::Snapshot;
use crate::cluster;
use crate::inject::SidecarMode;
use crate::manifest::{ManifestError, Source};
use crate::profile::compile::BUILT_IN;
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

/// Which cluster a command looks at.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterOptions {
    /// The kubeconfig of the cluster. Default: KUBECONFIG or ~/.kube/config, or else the account of the pod that
    /// this runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig. Default: the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterOptions {
    /// Does `work` with a client, and the address of its API server.
    ///
    /// # Errors
    /// No cluster that could be used; what `work` says.
    pub fn with_client<T>(
        &self,
        work: impl AsyncFnOnce(Client, String) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?;
        runtime.block_on(async {
            let (client, address) =
                cluster::client(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
            work(client, address).await
        })
    }
}

/// How sidecars run in the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum NativeSidecars {
    /// Native where the cluster that is known and all its nodes can, and where none is known
    #[default]
    Auto,
    /// As init containers with `restartPolicy: Always` (Kubernetes 1.29 and later)
    Native,
    /// As ordinary containers
    Container,
}

impl From<NativeSidecars> for SidecarMode {
    fn from(option: NativeSidecars) -> Self {
        match option {
            NativeSidecars::Auto | NativeSidecars::Native => Self::Native,
            NativeSidecars::Container => Self::Container,
        }
    }
}

/// Profiles of files and of the binary, and the administrator's defaults, which may be for others as well.
pub struct Loaded {
    catalogue: Catalogue,
    defaults: Defaults,
    /// The file of the defaults.
    source: String,
}

impl Loaded {
    /// The profiles with their defaults, where there are no others.
    ///
    /// # Errors
    /// Defaults that do not fit.
    pub fn alone(self) -> anyhow::Result<Catalogue> {
        Ok(self.catalogue.with_defaults(&self.source, &self.defaults)?)
    }

    /// The profiles with their defaults, and all defaults for profiles of the cluster: those may replace ours, and
    /// those that are not known yet may still come.
    ///
    /// # Errors
    /// Defaults that do not fit the profiles that are known.
    pub fn beside_a_cluster(self) -> anyhow::Result<(Catalogue, Defaults)> {
        let mut ours = self.defaults.clone();
        ours.profile_defaults
            .retain(|name, _| self.catalogue.get(name).is_some());
        let catalogue = self.catalogue.with_defaults(&self.source, &ours)?;
        Ok((catalogue, self.defaults))
    }
}

impl CatalogueOptions {
    /// Reads and compiles everything, where there is no cluster.
    ///
    /// # Errors
    /// A file that cannot be read, a profile or defaults that are refused: all of them at once.
    pub fn load(&self) -> anyhow::Result<Catalogue> {
        self.read()?.alone()
    }

    /// Reads and compiles everything, before the defaults are applied.
    ///
    /// # Errors
    /// A file that cannot be read, a profile that is refused, defaults that are no YAML: all of them at once.
    pub fn read(&self) -> anyhow::Result<Loaded> {
        let mut profiles = Catalogue::built_in()?;
        let mut refused = Vec::new();
        for source in profile_sources(&self.profiles).context("--profiles")? {
            let (good, bad) = Profile::parse_all(&source.name, &source.text);
            for profile in good.into_iter().map(Arc::new) {
                let before = profiles
                    .iter()
                    .find(|known| known.name == profile.name && known.source != BUILT_IN);
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
        let (source, defaults) = match &self.defaults {
            None => (String::new(), Defaults::default()),
            Some(path) => {
                let source = path.display().to_string();
                let defaults = Defaults::parse(&source, &read(path, "--defaults")?)?;
                (source, defaults)
            }
        };
        Ok(Loaded {
            catalogue: Catalogue::new(profiles),
            defaults,
            source,
        })
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
    let sources = Source::read(paths, std::io::stdin().lock()).map_err(all_of)?;
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

/// Everything that is wrong with some files, a line each.
pub fn all_of(errors: Vec<ManifestError>) -> anyhow::Error {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// A file that holds profiles.
pub struct ProfileSource {
    /// Its path, or `stdin`.
    pub name: String,
    /// What it holds.
    pub text: String,
}
