//! The command line: a thin layer that reads files, calls the library and prints.

pub mod certificate;
pub mod diagram;
pub mod explain;
pub mod inject;
pub mod options;
pub mod profile;
pub mod serve;
pub mod tree;
pub mod wait_for;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Injects sidecars into Kubernetes pods: a mutating admission webhook, and the same engine at your prompt.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeCommand>),
    Inject(inject::InjectCommand),
    Explain(explain::ExplainCommand),
    Profile(profile::ProfileCommand),
    Certificate(certificate::CertificateCommand),
    WaitFor(wait_for::WaitForCommand),
}

/// Exit status of a command that could not be carried out as it was given.
const USAGE: u8 = 2;

/// Runs the command of this process: 0 done, 1 denied or not good, 2 not possible as asked.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = anstream::stdout().lock();
    let result = match &cli.command {
        Command::Serve(command) => command.run(),
        Command::Certificate(command) => command.run(),
        Command::WaitFor(command) => command.run(),
        Command::Inject(command) => command.run(&mut out),
        Command::Explain(command) => command.run(&mut out),
        Command::Profile(command) => command.run(&mut out),
    };
    match result.and_then(|code| out.flush().map(|()| code).map_err(Into::into)) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("outrigger: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether whoever read our output went away, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
