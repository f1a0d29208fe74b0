//! The command line as a whole: as a plugin of kubectl, its completions and its manual pages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let help = run(Path::new(OUTRIGGER), &["--help"]).stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let found: BTreeSet<String> = list
        .lines()
        .take_while(|line| !line.is_empty())
        // A line that goes on is indented further.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert!(
        found.contains("serve") && found.contains("inject"),
        "{found:?}"
    );
    found
}

/// kubectl runs a program called `kubectl-NAME` from PATH as `kubectl NAME`.
#[test]
fn as_a_plugin_it_speaks_of_itself_as_kubectl_does() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-outrigger");
    symlink(OUTRIGGER, &plugin).unwrap();
    let help = String::from_utf8(run(&plugin, &["profile", "list", "--help"]).stdout).unwrap();
    assert!(
        help.contains("Usage: kubectl outrigger profile list"),
        "{help}"
    );
    let listed = run(&plugin, &["profile", "list"]);
    assert!(listed.status.success());
    assert!(
        String::from_utf8(listed.stdout)
            .unwrap()
            .contains("envoy-tls")
    );
    let help = String::from_utf8(run(Path::new(OUTRIGGER), &["inject", "--help"]).stdout).unwrap();
    assert!(help.contains("Usage: outrigger inject"), "{help}");
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(Path::new(OUTRIGGER), &["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let text = String::from_utf8(output.stdout).unwrap();
        for command in commands() {
            assert!(
                text.contains(&command),
                "{shell} does not complete {command}"
            );
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("man1");
    let output = run(Path::new(OUTRIGGER), &["man", man.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for command in commands().into_iter().filter(|command| command != "help") {
        let page = fs::read_to_string(man.join(format!("outrigger-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    let refused = run(Path::new(OUTRIGGER), &["man", "/dev/null/man1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("/dev/null/man1")
    );
}
