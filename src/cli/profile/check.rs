//! `outrigger profile check`: what is wrong with profile files, and what good ones do to a sample pod.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::example::{Answer, Example, PORT};
use crate::cli::options::profile_sources;
use crate::inject::problem;
use crate::manifest;
use crate::profile::{Profile, ProfileProblem};

/// Checks the profiles in files and folders. Exit status 1: one of them is refused.
///
/// `render`: print the sample pods as a YAML stream, with all that is said about them as comments in it.
///
/// # Errors
/// A file that cannot be read, no profile in any of them, or output that cannot be written.
pub(super) fn check(
    paths: &[PathBuf],
    render: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut seen: Vec<Arc<Profile>> = Vec::new();
    let (mut refused, mut examples) = (0_usize, 0_usize);
    for source in profile_sources(paths)? {
        let (good, bad) = Profile::parse_all(&source.name, &source.text);
        refused += bad.len();
        for error in bad {
            say(render, &error.to_string(), out)?;
        }
        for profile in good.into_iter().map(Arc::new) {
            let other = seen.iter().find(|known| known.name == profile.name);
            if let Some(other) = other {
                refused += 1;
                let problem = ProfileProblem::new(
                    "metadata.name",
                    format!(
                        "the profile {:?} stands in {} already",
                        profile.name,
                        place(other)
                    ),
                );
                say(render, &located(&profile, problem), out)?;
                continue;
            }
            seen.push(Arc::clone(&profile));
            let example = Example::of(&profile)?;
            let faults: Vec<_> = example
                .faults()
                .map(|fault| located(&profile, of_fault(&fault.message)))
                .collect();
            if !faults.is_empty() {
                refused += 1;
                say(render, &faults.join("\n"), out)?;
                continue;
            }
            let pod = match &example.answer {
                Answer::Injected { pod, .. } if render => Some(pod),
                _ => None,
            };
            // What follows a document belongs to the next one only after a marker.
            if pod.is_some() && examples > 0 {
                writeln!(out, "---")?;
            }
            let verdict = format!(
                "{}: {} is good, revision {}",
                profile.source, profile.name, profile.revision
            );
            say(render, &verdict, out)?;
            match pod {
                Some(pod) => {
                    examples += 1;
                    out.write_all(manifest::to_yaml(pod)?.as_bytes())?;
                }
                None => say(render, &summary(&example), out)?,
            }
        }
    }
    anyhow::ensure!(
        refused > 0 || !seen.is_empty(),
        "there is no profile in {}",
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(if refused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes lines as they are, or as comments of YAML.
fn say(as_comment: bool, text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let mark = if as_comment { "# " } else { "" };
    text.lines()
        .try_for_each(|line| writeln!(out, "{mark}{line}"))
}

/// `FILE:LINE:COLUMN` of a profile's name.
fn place(profile: &Profile) -> String {
    match profile.position("metadata.name") {
        Some(position) => format!("{}:{position}", profile.source),
        None => profile.source.clone(),
    }
}

fn located(profile: &Profile, problem: ProfileProblem) -> String {
    match profile.position(&problem.path) {
        Some(position) => format!("{}:{position}: {problem}", profile.source),
        None => format!("{}: {problem}", profile.source),
    }
}

/// A fault that only rendering showed: the path that its message begins with is set apart.
fn of_fault(message: &str) -> ProfileProblem {
    match message.split_once(": ") {
        Some((path, rest)) if path.starts_with("spec.") => {
            ProfileProblem::new(path, format!("{rest} (in an example)"))
        }
        _ => ProfileProblem::new("", format!("{message} (in an example)")),
    }
}

/// What the sample pod gets, or why it gets nothing.
fn summary(example: &Example) -> String {
    let mut lines = Vec::new();
    let set = example.pod_parameters.iter();
    let set = set.chain(&example.namespace_parameters);
    let mut set: Vec<_> = set.map(|(key, value)| format!("{key}: {value}")).collect();
    let admin = example.admin_parameters.iter();
    set.extend(admin.map(|(name, value)| format!("administrator's default of {name}: {value}")));
    match &example.answer {
        Answer::Denied(problems) => {
            let message = problem::message(problems);
            let message = message.strip_prefix("outrigger: ").unwrap_or(&message);
            lines.push(format!(
                "example: denied: {}",
                message.replace('\n', "\n  ")
            ));
            lines.extend(set.iter().map(|line| format!("  given {line}")));
        }
        Answer::Injected { adds, warnings, .. } => {
            let port = match example.port {
                PORT => String::new(),
                other => format!(" on port {other} instead of {PORT}"),
            };
            lines.push(match &set[..] {
                [] => format!("example: a pod{port} that sets no parameter gets"),
                [only] => format!("example: a pod{port} with {only} gets"),
                several => format!(
                    "example: a pod{port} gets, with\n  - {}",
                    several.join("\n  - ")
                ),
            });
            for addition in adds {
                let items: Vec<_> = addition
                    .items
                    .iter()
                    .map(|item| match &item.detail {
                        Some(detail) => format!("{} ({detail})", item.name),
                        None => item.name.clone(),
                    })
                    .collect();
                lines.push(format!("  {}: {}", addition.what, items.join(", ")));
            }
            if adds.is_empty() {
                lines.push("  nothing".to_owned());
            }
            lines.extend(
                warnings
                    .iter()
                    .map(|warning| format!("  warning: {warning}")),
            );
        }
    }
    lines
        .iter()
        .flat_map(|line| line.lines())
        .map(|line| format!("  {line}\n"))
        .collect()
}
