//! `outrigger crd`: the CustomResourceDefinition.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::cluster::crd;

/// Print the CustomResourceDefinition of SidecarProfile, for kubectl apply
#[derive(Debug, Args)]
pub struct CrdCommand {}

impl CrdCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        out.write_all(crd::YAML.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
