//! `outrigger explain`: the decision on each workload, with its reasons.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::inject::{Input, title};
use super::tree;

/// Show what is decided on each workload, and why
#[derive(Debug, Args)]
pub struct ExplainCommand {
    #[command(flatten)]
    input: Input,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// As a tree, for people
    #[default]
    Tree,
    /// As JSON, for programs
    Json,
}

impl ExplainCommand {
    /// Runs the command. Exit status 1: a workload is denied.
    ///
    /// # Errors
    /// Input that cannot be read, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let manifests = self.input.read()?;
        let mut denied = false;
        let mut all = Vec::new();
        for stream in &manifests.streams {
            for workload in stream.workloads(&manifests.namespace) {
                let decided = manifests.decide(stream, &workload)?;
                denied |= decided.denied.is_some();
                match self.output {
                    Output::Tree => {
                        write!(
                            out,
                            "{}",
                            tree::of(&title(&workload), &decided.explanation).draw()
                        )?;
                    }
                    Output::Json => {
                        let mut explained = json!({
                            "file": stream.name(),
                            "kind": workload.kind,
                            "namespace": workload.namespace,
                            "name": workload.name,
                        });
                        if let (Some(object), Json::Object(reasons)) = (
                            explained.as_object_mut(),
                            serde_json::to_value(&decided.explanation)?,
                        ) {
                            object.extend(reasons);
                        }
                        all.push(explained);
                    }
                }
            }
        }
        if self.output == Output::Json {
            writeln!(out, "{:#}", Json::Array(all))?;
        }
        Ok(if denied {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
