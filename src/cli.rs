//! The command line: a thin layer that reads files, calls the library and prints.

pub mod certificate;
pub mod check;
pub mod completions;
pub mod crd;
pub mod diagram;
pub mod explain;
pub mod inject;
pub mod list;
pub mod man;
pub mod options;
pub mod profile;
pub mod serve;
pub mod tree;
pub mod wait_for;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
    List(list::ListCommand),
    Check(check::CheckCommand),
    Crd(crd::CrdCommand),
    Certificate(certificate::CertificateCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
    WaitFor(wait_for::WaitForCommand),
}

/// Exit status of a command that could not be carried out as it was given.
const USAGE: u8 = 2;

/// The name under which kubectl finds it in PATH and runs it as `kubectl outrigger`.
const PLUGIN: &str = "kubectl-outrigger";

/// The command line, under the name that people call it by.
fn command(program: Option<OsString>) -> clap::Command {
    let name = program.as_deref().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|name| name == PLUGIN) {
        Cli::command().bin_name("kubectl outrigger")
    } else {
        Cli::command()
    }
}

/// Runs the command of this process: 0 done, 1 denied or not good, 2 not possible as asked.
pub fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command(std::env::args_os().next()).get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let mut out = anstream::stdout().lock();
    let result = match &cli.command {
        Command::Serve(command) => command.run(),
        Command::Certificate(command) => command.run(),
        Command::WaitFor(command) => command.run(),
        Command::Inject(command) => command.run(&mut out),
        Command::Explain(command) => command.run(&mut out),
        Command::Profile(command) => command.run(&mut out),
        Command::List(command) => command.run(&mut out),
        Command::Check(command) => command.run(&mut out),
        Command::Crd(command) => command.run(&mut out),
        Command::Completions(command) => command.run(&mut out),
        Command::Man(command) => command.run(&mut out),
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
