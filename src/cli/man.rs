//! `outrigger man`: manual pages.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Cli;

/// Write the manual pages, one a command, into a folder, as in: outrigger man ~/.local/share/man/man1
#[derive(Debug, Args)]
pub struct ManCommand {
    /// The folder; it is made if need be
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ManCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let shown = self.folder.display();
        let failed = || format!("{shown}: the manual pages cannot be written");
        fs::create_dir_all(&self.folder).with_context(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.folder).with_context(failed)?;
        let count = fs::read_dir(&self.folder).with_context(failed)?.count();
        writeln!(out, "{shown} holds {count} manual pages")?;
        Ok(ExitCode::SUCCESS)
    }
}
