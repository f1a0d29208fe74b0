//! The examples in `docs/*.md` are real: every YAML block is tried, every command is run, and what the guide shows
//! is what came out. `UPDATE_DOCS=1 cargo test --test docs_examples` writes the output of commands anew.
//!
//! A guide is played from top to bottom in a folder of its own:
//!
//! - a `yaml` block that begins with a comment such as `# shop.yaml` is written to that file,
//! - a profile compiles, a workload is injected with the profiles of the repository and those shown so far, and a
//!   block of nothing but annotations is put on a pod and injected; none may be refused, unless the block is
//!   marked `yaml refused`,
//! - each line of a `console` block that begins with `$ outrigger` is run; `…` in the output shown stands for
//!   anything, and on a line of its own for any number of lines. Other commands are not run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outrigger::profile::Profile;
use serde_json::{Value, json};

/// Kinds that hold a pod template.
const WORKLOADS: &[&str] = &[
    "Pod",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
];

struct Guide {
    name: String,
    folder: tempfile::TempDir,
    problems: Vec<String>,
}

impl Guide {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for shared in ["profiles", "examples", "charts"] {
            let link = folder.path().join(shared);
            std::os::unix::fs::symlink(root().join(shared), link).unwrap();
        }
        fs::create_dir(folder.path().join("shown")).unwrap();
        Self {
            name: name.to_owned(),
            folder,
            problems: Vec::new(),
        }
    }

    /// What a shell prints, and its exit status.
    fn run(&self, command: &str) -> (String, bool) {
        let program = Path::new(env!("CARGO_BIN_EXE_outrigger"));
        let path = format!(
            "{}:{}",
            program.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.success(),
        )
    }

    fn problem(&mut self, line: usize, what: &str) {
        self.problems
            .push(format!("docs/{}:{line}: {what}", self.name));
    }

    fn yaml(&mut self, line: usize, info: &str, text: &str) {
        let comment = text
            .lines()
            .next()
            .and_then(|first| first.strip_prefix("# "));
        let file = comment.filter(|name| name.ends_with(".yaml") && !name.contains([' ', '/']));
        if let Some(file) = file {
            fs::write(self.folder.path().join(file), text).unwrap();
        }
        let refused = info.contains("refused");
        let mut workloads = false;
        for document in text.split("\n---\n") {
            let tree: Value = match serde_saphyr::from_str(document) {
                Ok(tree) => tree,
                Err(error) => return self.problem(line, &format!("no YAML: {error}")),
            };
            let kind = tree["kind"].as_str().unwrap_or_default();
            if kind == "SidecarProfile" {
                match Profile::parse("docs", document) {
                    Ok(profile) => {
                        let name = format!("shown/{}.yaml", profile.name);
                        fs::write(self.folder.path().join(name), document).unwrap();
                        if refused {
                            self.problem(line, "is not refused");
                        }
                    }
                    Err(_) if refused => {}
                    Err(error) => self.problem(line, &error.to_string()),
                }
            } else if WORKLOADS.contains(&kind) {
                workloads = true;
            } else if only_annotations(&tree) {
                let pod = json!({
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "shop", "namespace": "shop", "annotations": tree},
                    "spec": {
                        "securityContext": {"fsGroup": 2000},
                        "containers": [{"name": "shop", "image": "registry.example.com/shop:1"}],
                    },
                });
                self.inject(line, refused, &pod.to_string());
            }
        }
        if workloads {
            self.inject(line, refused, text);
        }
    }

    fn inject(&mut self, line: usize, refused: bool, manifest: &str) {
        fs::write(self.folder.path().join("manifest"), manifest).unwrap();
        let shown = self.folder.path().join("shown");
        let any = fs::read_dir(shown).unwrap().next().is_some();
        let (said, good) = self.run(&format!(
            "outrigger inject --profiles profiles/catalogue {} -o patch -f - < manifest",
            if any { "--profiles shown" } else { "" }
        ));
        match (good, refused) {
            (false, false) => self.problem(line, &said),
            (true, true) => self.problem(line, "is not refused"),
            (true, false) if said.trim() == "[]" => self.problem(line, "nothing is injected"),
            _ => {}
        }
    }

    /// A block of commands and what they print, as it should stand.
    fn console(&mut self, line: usize, text: &str) -> String {
        let mut written = String::new();
        let mut lines = text.lines().peekable();
        while let Some(command) = lines.next() {
            writeln!(written, "{command}").unwrap();
            let mut shown: Vec<&str> = Vec::new();
            while let Some(next) = lines.next_if(|next| !next.starts_with("$ ")) {
                shown.push(next);
            }
            let runs = command
                .strip_prefix("$ ")
                .filter(|command| command.starts_with("outrigger"));
            let Some(runs) = runs else {
                shown
                    .iter()
                    .for_each(|line| writeln!(written, "{line}").unwrap());
                continue;
            };
            let (said, _) = self.run(runs);
            let said: Vec<&str> = said.lines().map(str::trim_end).collect();
            if fits(&shown, &said) {
                shown
                    .iter()
                    .for_each(|line| writeln!(written, "{line}").unwrap());
            } else {
                self.problem(line, &format!("{command}\nprints\n{}", said.join("\n")));
                said.iter()
                    .for_each(|line| writeln!(written, "{}", without_revisions(line)).unwrap());
            }
        }
        written
    }
}

/// Whether a tree is a mapping of our annotations and nothing else, asking for something.
fn only_annotations(tree: &Value) -> bool {
    tree.as_object().is_some_and(|entries| {
        entries.contains_key("outrigger.dev/inject")
            && entries.keys().all(|key| key.contains("outrigger.dev/"))
    })
}

/// Whether what is shown, with `…` for what is left out, is what was said.
fn fits(shown: &[&str], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == "…" => {
            fits(rest, said) || !said.is_empty() && fits(shown, &said[1..])
        }
        (Some((wanted, shown)), Some((line, said))) => {
            line_fits(&squeezed(wanted), &squeezed(line)) && fits(shown, said)
        }
        _ => false,
    }
}

/// The column in which values stand changes with the longest name of a parameter.
fn squeezed(line: &str) -> String {
    let (name, value) = line.split_once(" = ").unwrap_or((line, ""));
    format!("{} = {value}", name.trim_end())
}

fn line_fits(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_fits(after, &rest[at..]))
        }),
    }
}

/// A revision changes with every change of a profile, and a guide does not.
fn without_revisions(line: &str) -> String {
    regex::Regex::new(r"\b[0-9a-f]{12}\b")
        .unwrap()
        .replace_all(line, "…")
        .into_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn play(name: &str) {
    let path = root().join("docs").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut guide = Guide::new(name);
    let mut written = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        writeln!(written, "{line}").unwrap();
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else {
            continue;
        };
        let mut block = String::new();
        for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
            writeln!(block, "{line}").unwrap();
        }
        match info.split(' ').next().unwrap_or_default() {
            "yaml" => guide.yaml(number + 1, info, &block),
            "console" => block = guide.console(number + 1, &block),
            _ => {}
        }
        writeln!(written, "{block}```").unwrap();
    }
    if std::env::var_os("UPDATE_DOCS").is_some() && written != text {
        fs::write(path, written).unwrap();
    }
    assert!(guide.problems.is_empty(), "{}", guide.problems.join("\n\n"));
}

#[test]
fn the_guide_for_workloads() {
    play("workloads.md");
}

#[test]
fn the_guide_for_profile_authors() {
    play("profile-authors.md");
}

#[test]
fn the_reference_of_the_language() {
    play("profile-language.md");
}

#[test]
fn the_reference_of_annotations() {
    play("annotations.md");
}
