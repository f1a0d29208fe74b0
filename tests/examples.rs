//! The gallery in `examples/`: each folder a workload that a person would write, and what becomes of it.
//!
//! A folder `NN-name` is an example of pattern NN and holds
//!
//! - `before.yaml`: the workload without sidecars, and the objects it needs,
//! - `annotations.yaml`: what its pod template is annotated with,
//! - `README.md`: what happens, in a heading and a paragraph,
//! - `profile.yaml`, `defaults.yaml`, `namespace.yaml`: what an administrator adds, where the example needs it,
//! - and, generated, `workload.yaml`: the two together, to apply; `after.yaml`: the same as it is stored;
//!   `warnings.txt`, where there are any.
//!
//! `examples/README.md` is generated too. `UPDATE_EXAMPLES=1` writes everything anew; what is not as it would be
//! written fails. That a real API server stores the same is tested in `tests/api_server.rs`, and what is stored in
//! `tests/patterns.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outrigger::manifest::Stream;
use serde_json::{Value, json};

/// The patterns that the project promises.
const PATTERNS: std::ops::RangeInclusive<u32> = 1..=30;

const HEAD: &str = "\
# Examples

<!-- Generated from the folders here by `UPDATE_EXAMPLES=1 cargo test --test examples`. -->

A workload as people write it, a few annotations, and what becomes of it. In each folder `before.yaml` is the
workload without sidecars, `annotations.yaml` what is added to its pod template, `workload.yaml` the two together,
and `after.yaml` what the cluster stores. To see one yourself:

```console
$ outrigger inject --profiles profiles/catalogue -f examples/01-https/workload.yaml -o diff
```

In the diagrams, what Outrigger adds is coloured.
";

struct Example {
    name: String,
    folder: PathBuf,
}

impl Example {
    fn pattern(&self) -> u32 {
        let number = self.name.split('-').next().unwrap();
        number
            .parse()
            .unwrap_or_else(|_| panic!("{}: expected a name such as 05-nginx-tls", self.name))
    }

    fn read(&self, file: &str) -> String {
        let path = self.folder.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The workload with its annotations, in its author's own text.
    fn annotated(&self) -> String {
        let mut stream = Stream::parse("before.yaml", self.read("before.yaml").as_bytes())
            .unwrap_or_else(|errors| panic!("{}: {errors:?}", self.name));
        let annotations: Value = serde_saphyr::from_str(&self.read("annotations.yaml"))
            .unwrap_or_else(|error| panic!("{}: annotations.yaml: {error}", self.name));
        let annotations = annotations.as_object().unwrap();
        let workloads = stream.workloads("default");
        assert_eq!(workloads.len(), 1, "{}: expected one workload", self.name);
        let workload = &workloads[0];
        let mut patch = Vec::new();
        if workload.pod.get("metadata").is_none() {
            patch.push(json!({"op": "add", "path": "/metadata", "value": {}}));
        }
        match workload.pod.pointer("/metadata/annotations") {
            None => patch
                .push(json!({"op": "add", "path": "/metadata/annotations", "value": annotations})),
            Some(_) => patch.extend(annotations.iter().map(|(key, value)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                json!({"op": "add", "path": format!("/metadata/annotations/{key}"), "value": value})
            })),
        }
        let place = workload.place.clone();
        let patch = serde_json::from_value(Value::Array(patch)).unwrap();
        stream.apply(&place, &patch).unwrap();
        stream.after().unwrap()
    }

    /// What `outrigger inject` prints of the workload: standard output, and its warnings.
    fn inject(&self, file: &str, output: &str) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command
            .current_dir(&self.folder)
            .args(["inject", "-f", file, "-o", output])
            .arg("--profiles")
            .arg(root().join("profiles/catalogue"));
        for (flag, file) in [
            ("--profiles", "profile.yaml"),
            ("--defaults", "defaults.yaml"),
            ("--namespace-manifest", "namespace.yaml"),
        ] {
            if self.folder.join(file).exists() {
                command.args([flag, file]);
            }
        }
        if self.folder.join("namespace.yaml").exists() {
            let namespace: Value = serde_saphyr::from_str(&self.read("namespace.yaml")).unwrap();
            let name = namespace["metadata"]["name"].as_str().unwrap();
            command.args(["--namespace", name]);
        }
        let output = command.output().unwrap();
        let (out, said) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success(), "{}: {said}", self.name);
        (out, said)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn examples() -> Vec<Example> {
    let mut found: Vec<Example> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|folder| Example {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            folder,
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Compares a generated file with what it should be, or writes it.
fn generated(path: &Path, now: Option<&str>, failures: &mut Vec<String>) {
    let before = fs::read_to_string(path).ok();
    if before.as_deref() == now {
        return;
    }
    if std::env::var_os("UPDATE_EXAMPLES").is_none() {
        failures.push(format!(
            "{} is stale; UPDATE_EXAMPLES=1 writes it anew",
            path.display()
        ));
        return;
    }
    match now {
        Some(now) => fs::write(path, now).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

/// The heading of an example and the first sentence below it.
fn heading(example: &Example) -> (String, String) {
    let readme = example.read("README.md");
    let mut lines = readme.lines();
    let title = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .unwrap_or_else(|| panic!("{}: README.md begins with no heading", example.name));
    let text: Vec<&str> = lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect();
    let text = text.join(" ");
    let sentence = match text.find(". ") {
        Some(end) => &text[..=end],
        None => &text,
    };
    assert!(
        !sentence.is_empty(),
        "{}: README.md says nothing",
        example.name
    );
    (title.to_owned(), sentence.to_owned())
}

#[test]
fn what_is_generated_is_up_to_date() {
    let mut failures = Vec::new();
    let mut gallery = HEAD.to_owned();
    for example in examples() {
        let file = |name: &str| example.folder.join(name);
        let annotated = example.annotated();
        generated(&file("workload.yaml"), Some(&annotated), &mut failures);
        if fs::read_to_string(file("workload.yaml")).ok().as_ref() != Some(&annotated) {
            continue;
        }
        let (after, warnings) = example.inject("workload.yaml", "yaml");
        generated(&file("after.yaml"), Some(&after), &mut failures);
        let warnings = (!warnings.is_empty()).then_some(warnings.as_str());
        generated(&file("warnings.txt"), warnings, &mut failures);
        let (diagram, _) = example.inject("workload.yaml", "diagram");
        let (title, sentence) = heading(&example);
        let name = &example.name;
        let number = example.pattern();
        write!(
            gallery,
            "\n## [{number}. {title}]({name}/)\n\n{sentence}\n\n{diagram}"
        )
        .unwrap();

        let known = [
            "README.md",
            "before.yaml",
            "annotations.yaml",
            "workload.yaml",
            "after.yaml",
            "warnings.txt",
            "profile.yaml",
            "defaults.yaml",
            "namespace.yaml",
        ];
        for entry in fs::read_dir(&example.folder).unwrap() {
            let name = entry.unwrap().file_name();
            if !known.iter().any(|known| name == *known) {
                failures.push(format!("{}: {name:?} is read by no test", example.name));
            }
        }
    }
    generated(
        &root().join("examples/README.md"),
        Some(&gallery),
        &mut failures,
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_pattern_has_an_example() {
    let shown: BTreeSet<u32> = examples().iter().map(Example::pattern).collect();
    let missing: Vec<u32> = PATTERNS.filter(|number| !shown.contains(number)).collect();
    assert!(missing.is_empty(), "there is no example of {missing:?}");
}

/// Before the annotations nothing happens, so what happens is theirs.
#[test]
fn without_its_annotations_no_workload_changes() {
    for example in examples() {
        let (out, said) = example.inject("before.yaml", "yaml");
        assert_eq!(out, example.read("before.yaml"), "{}", example.name);
        assert_eq!(said, "", "{}", example.name);
    }
}

/// What was injected is not injected again.
#[test]
fn a_second_run_on_every_example_changes_nothing() {
    for example in examples() {
        let (out, _) = example.inject("after.yaml", "yaml");
        assert_eq!(out, example.read("after.yaml"), "{}", example.name);
    }
}
