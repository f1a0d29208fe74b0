//! `outrigger completions`: for the shell.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print the completions for a shell, as in: source <(outrigger completions bash)
#[derive(Debug, Args)]
pub struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        // Written to memory first: the generator panics where output fails.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "outrigger", &mut text);
        out.write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
