//! `outrigger profile`: look at profiles and check them.

mod check;
mod docs;
mod example;
mod new;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::options::CatalogueOptions;
use crate::profile::catalogue::hint;
use crate::profile::{Profile, SettableBy};

/// Look at profiles and check them
#[derive(Debug, Args)]
pub struct ProfileCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the profiles that pods can ask for
    List {
        #[command(flatten)]
        catalogue: CatalogueOptions,
    },
    /// Print a profile's document, to read, or to copy and change
    Show {
        /// The profile's name
        name: String,
        #[command(flatten)]
        catalogue: CatalogueOptions,
    },
    /// Explain a profile: what it does, and its parameters
    Describe {
        /// The profile's name
        name: String,
        #[command(flatten)]
        catalogue: CatalogueOptions,
    },
    /// Say everything that is wrong with profile files, and what a good one adds to a sample pod
    Check {
        /// Files, folders, or - for standard input
        #[arg(required = true, value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
        /// Print the whole sample pods as YAML instead of what they get
        #[arg(long)]
        render: bool,
    },
    /// Write the reference of profiles, in Markdown
    Docs {
        /// Names of profiles. Default: all
        names: Vec<String>,
        /// A profile file, or a folder of them with the folders below it; may be given several times. A profile
        /// replaces the built-in one of the same name
        #[arg(long = "profiles", value_name = "FILE|DIR")]
        profiles: Vec<PathBuf>,
        /// The folder in which to write a file for each profile, and README.md with the list of them. Files that
        /// are there are overwritten. Default: standard output
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Print a profile to start from, which shows the whole language
    New {
        /// The profile's name, a DNS label
        name: String,
        /// The file to write, which must not exist yet. Default: standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

impl ProfileCommand {
    /// Runs the command. Exit status 1: a profile is refused, or there is none of that name.
    ///
    /// # Errors
    /// A file that cannot be read, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match &self.action {
            Action::List { catalogue } => list(catalogue, out),
            Action::Show { name, catalogue } => {
                out.write_all(find(name, catalogue)?.text.as_bytes())?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Describe { name, catalogue } => {
                describe(find(name, catalogue)?.as_ref(), out)?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Check { paths, render } => check::check(paths, *render, out),
            Action::Docs {
                names,
                profiles,
                output,
            } => {
                let options = CatalogueOptions {
                    profiles: profiles.clone(),
                    defaults: None,
                };
                let profiles = if names.is_empty() {
                    let catalogue = options.load()?;
                    let all = catalogue.iter().map(|entry| Arc::clone(&entry.profile));
                    all.collect()
                } else {
                    let found = names.iter().map(|name| find(name, &options));
                    found.collect::<anyhow::Result<Vec<_>>>()?
                };
                docs::docs(&profiles, output.as_deref(), out)?;
                Ok(ExitCode::SUCCESS)
            }
            Action::New { name, output } => {
                new::new(name, output.as_deref(), out)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn list(options: &CatalogueOptions, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let catalogue = options.load()?;
    let width = catalogue.names().map(str::len).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:12}  {:10}  SUMMARY",
        "NAME", "REVISION", "SOURCE"
    )?;
    for entry in catalogue.iter() {
        let profile = &entry.profile;
        writeln!(
            out,
            "{:width$}  {:12}  {:10}  {}",
            profile.name, profile.revision, profile.source, profile.summary
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str, options: &CatalogueOptions) -> anyhow::Result<Arc<Profile>> {
    let catalogue = options.load()?;
    match catalogue.get(name) {
        Some(entry) => Ok(Arc::clone(&entry.profile)),
        None => anyhow::bail!(
            "there is no profile {name:?}{}",
            hint(name, catalogue.names())
        ),
    }
}

fn describe(profile: &Profile, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{} ({}, revision {})\n\n{}",
        profile.name, profile.source, profile.revision, profile.summary
    )?;
    if let Some(description) = &profile.description {
        writeln!(out, "\n{}", description.trim_end())?;
    }
    writeln!(
        out,
        "\nParameters (annotation {}.outrigger.dev/NAME):",
        profile.name
    )?;
    for parameter in &profile.parameters {
        let mut facts = vec![parameter.expected()];
        match (&parameter.default, parameter.required) {
            (Some(default), _) => facts.push(format!("default {}", default.to_json())),
            (None, true) => facts.push("required".to_owned()),
            (None, false) => {}
        }
        match parameter.settable_by {
            SettableBy::Pod => {}
            SettableBy::Namespace => facts.push("set on the namespace".to_owned()),
            SettableBy::Admin => facts.push("set by the administrator".to_owned()),
        }
        writeln!(out, "\n  {}\n      {}", parameter.kebab, facts.join("; "))?;
        for line in parameter.description.trim_end().lines() {
            writeln!(out, "      {line}")?;
        }
    }
    Ok(())
}
