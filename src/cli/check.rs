//! `outrigger check`: whether a cluster is ready and the webhook works.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use owo_colors::OwoColorize;
use serde_json::json;

use super::options::ClusterOptions;
use crate::cluster::check::{self, Finding, Options, Verdict};

/// Check that a cluster is ready, and that the webhook is registered, reachable and allowed what it needs
///
/// Nothing is changed; a pod is created as a server-side dry run, to see whether the webhook is called. Exit status
/// 1: a check failed.
#[derive(Debug, Args)]
pub struct CheckCommand {
    /// The namespace of the release to check. Default: whatever is registered
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The name of the webhook configuration to check. Default: all that are Outrigger's
    #[arg(long, value_name = "NAME")]
    registration: Option<String>,
    /// Where the pod is tried. Default: a namespace that the registration selects
    #[arg(long, value_name = "NAMESPACE")]
    probe_namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line or two a check, for people
    #[default]
    Text,
    /// JSON, for programs
    Json,
}

impl CheckCommand {
    /// Runs the command. Exit status 1: a check failed.
    ///
    /// # Errors
    /// No cluster that could be asked, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let findings = self.cluster.with_client(async |client, address| {
            let options = Options {
                address,
                namespace: self.namespace.clone(),
                registration: self.registration.clone(),
                probe_namespace: self.probe_namespace.clone(),
            };
            Ok(check::run(&client, &options).await)
        })?;
        let good = findings
            .iter()
            .all(|finding| finding.verdict != Verdict::Fail);
        match self.output {
            Output::Json => writeln!(out, "{:#}", json!({"ok": good, "checks": findings}))?,
            Output::Text => out.write_all(text(&findings).as_bytes())?,
        }
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The findings, with colours: whoever prints them takes them away where they do not belong.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let verdict = format!("{:4}", finding.verdict.as_str());
        let verdict = match finding.verdict {
            Verdict::Ok => verdict.green().to_string(),
            Verdict::Warn => verdict.yellow().to_string(),
            Verdict::Fail => verdict.red().to_string(),
        };
        text.push_str(&format!(
            "{verdict}  {:width$}  {}\n",
            finding.check, finding.message
        ));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("      {:width$}  → {advice}\n", ""));
        }
    }
    text
}
