//! The Helm chart: rendered and linted by a real Helm, compared with the cases in `tests/chart/cases`,
//! and held together with its schema and its README.
//!
//! Helm is one of the parts that `cargo xtask test` provides. Without it the tests that need it fail: a chart
//! that nobody rendered has not been tested.

#[path = "chart/metrics.rs"]
mod metrics;
#[path = "chart/readme.rs"]
mod readme;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use testkit::{Finished, Helm};

/// Relative to the root of the repository, so that no message of Helm's holds a path of this machine.
const CHART: &str = "charts/outrigger";
const CASES: &str = "tests/chart/cases";

/// The oldest Kubernetes that the chart installs on. Fixed, so that goldens do not follow Helm's version.
const KUBE_VERSION: &str = "1.30.0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("failed to read {path}"))
}

/// The names of what is in a folder, sorted.
fn names(folder: &str) -> Result<BTreeSet<String>> {
    fs::read_dir(root().join(folder))
        .with_context(|| format!("failed to list {folder}"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Runs Helm on the chart, as if for a cluster of the oldest Kubernetes.
fn run(helm: &Helm, arguments: &[&str]) -> Result<Finished> {
    helm.run(
        &[
            arguments,
            &[
                "--namespace",
                "outrigger-system",
                "--kube-version",
                KUBE_VERSION,
            ],
        ]
        .concat(),
    )
}

/// What one case comes to; `Err` says what is wrong with it.
fn check(helm: &Helm, case: &str, update: bool) -> Result<()> {
    let folder = format!("{CASES}/{case}");
    let files = names(&folder)?;
    let values = format!("{folder}/values.yaml");
    ensure!(files.contains("values.yaml"), "values.yaml is missing");
    let refused = files.contains("error.txt");
    let known = [
        "values.yaml",
        if refused {
            "error.txt"
        } else {
            "expected.yaml"
        },
    ];
    for file in &files {
        ensure!(known.contains(&file.as_str()), "{file} is not used");
    }

    let output = run(helm, &["template", "outrigger", CHART, "--values", &values])?;
    let stderr = &output.stderr;
    if refused {
        ensure!(output.code != 0, "it should be refused, and is rendered");
        let error = read(&format!("{folder}/error.txt"))?;
        let mut lines = error
            .lines()
            .filter(|line| !line.trim().is_empty())
            .peekable();
        ensure!(lines.peek().is_some(), "error.txt is empty");
        for line in lines {
            ensure!(
                stderr.contains(line),
                "the refusal lacks `{line}`:\n{stderr}"
            );
        }
        return Ok(());
    }

    ensure!(output.code == 0, "helm template refuses it:\n{stderr}");
    let rendered = output.stdout;
    let lint = run(helm, &["lint", "--strict", CHART, "--values", &values])?;
    ensure!(
        lint.code == 0,
        "helm lint --strict refuses it:\n{}{}",
        lint.stdout,
        lint.stderr
    );
    let golden = format!("{folder}/expected.yaml");
    if update {
        return fs::write(root().join(&golden), rendered).context("failed to write expected.yaml");
    }
    let expected = read(&golden)?;
    if rendered != expected {
        bail!(
            "rendered otherwise than expected (UPDATE_GOLDENS=1 rewrites it):\n{}",
            difference(["expected", "rendered"], &expected, &rendered)
        );
    }
    Ok(())
}

/// The lines in which two texts of these names differ.
fn difference([one, other]: [&'static str; 2], before: &str, after: &str) -> String {
    diffy::DiffOptions::new()
        .set_original_filename(one)
        .set_modified_filename(other)
        .create_patch(before, after)
        .to_string()
}

/// A profile is checked by the same definition, whoever installs it. That it is the one which the types give is held by
/// `src/cluster/crd/tests.rs`.
#[test]
fn the_custom_resource_definition_is_that_of_the_program() -> Result<()> {
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .arg("crd")
        .output()?;
    let file = "charts/outrigger/files/crd.yaml";
    ensure!(
        String::from_utf8(printed.stdout)? == read(file)?,
        "`outrigger crd` prints something else than {file}"
    );
    Ok(())
}

#[test]
fn cases_render_or_are_refused_as_written() -> Result<()> {
    let helm = Helm::new()?;
    let update = env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1");
    let cases = names(CASES)?;
    ensure!(!cases.is_empty(), "there is no case in {CASES}");
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            check(&helm, case, update)
                .err()
                .map(|error| format!("{case}: {error:#}"))
        })
        .collect();
    ensure!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

/// `helm lint` does not stop at `fail`, so the defaults pass it although they name no certificate.
#[test]
fn the_defaults_pass_lint() -> Result<()> {
    let output = run(&Helm::new()?, &["lint", "--strict", CHART])?;
    ensure!(output.code == 0, "{}", output.stdout);
    Ok(())
}

/// Applied twice, nothing differs.
#[test]
fn the_same_values_give_the_same_bytes() -> Result<()> {
    let helm = Helm::new()?;
    for case in ["everything-set", "monitoring", "cert-manager"] {
        let values = format!("{CASES}/{case}/values.yaml");
        let arguments = ["template", "outrigger", CHART, "--values", &values];
        let (first, second) = (run(&helm, &arguments)?, run(&helm, &arguments)?);
        ensure!(first.code == 0, "{case}: {}", first.stderr);
        ensure!(
            first.stdout == second.stdout,
            "{case} is rendered otherwise the second time"
        );
    }
    Ok(())
}

/// The same values give the same objects: nothing random, nothing asked of a cluster, and above all
/// no certificate, which every upgrade would replace.
#[test]
fn templates_depend_on_values_alone() -> Result<()> {
    let banned = [
        "genCA",
        "genSelfSignedCert",
        "genSignedCert",
        "genPrivateKey",
        "randAlpha",
        "randNumeric",
        "randAscii",
        "randBytes",
        "randInt",
        "uuidv4",
        "lookup",
        "now",
    ];
    for name in names(&format!("{CHART}/templates"))? {
        let text = read(&format!("{CHART}/templates/{name}"))?;
        for action in text
            .split("{{")
            .skip(1)
            .filter_map(|rest| rest.split("}}").next())
        {
            if action
                .trim_start_matches('-')
                .trim_start()
                .starts_with("/*")
            {
                continue;
            }
            for word in action.split(|c: char| !c.is_alphanumeric()) {
                let found = banned.iter().find(|function| word.starts_with(**function));
                ensure!(found.is_none(), "{name} calls {word}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_chart_has_the_version_of_the_crate() -> Result<()> {
    let chart: Value = yaml(&format!("{CHART}/Chart.yaml"))?;
    for key in ["version", "appVersion"] {
        let version = chart.get(key).and_then(Value::as_str);
        ensure!(
            version == Some(env!("CARGO_PKG_VERSION")),
            "{key} in Chart.yaml is {version:?}"
        );
    }
    Ok(())
}

/// "Strict throughout": an object of the schema either lists its keys, or says what any key may hold.
#[test]
fn the_schema_leaves_no_object_open() -> Result<()> {
    fn walk(node: &Value, path: &str, open: &mut Vec<String>) {
        if let Some(object) = node.as_object() {
            let closed = object
                .get("additionalProperties")
                .is_some_and(|it| *it != Value::Bool(true));
            if object.contains_key("properties") && !closed {
                open.push(path.to_owned());
            }
        }
        let children: Vec<(String, &Value)> = match node {
            Value::Object(map) => map
                .iter()
                .map(|(key, child)| (key.clone(), child))
                .collect(),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(i, child)| (i.to_string(), child))
                .collect(),
            _ => Vec::new(),
        };
        for (key, child) in children {
            walk(child, &format!("{path}/{key}"), open);
        }
    }
    let mut open = Vec::new();
    walk(&schema()?, "", &mut open);
    ensure!(open.is_empty(), "these allow unknown keys: {open:?}");
    Ok(())
}

fn schema() -> Result<Value> {
    Ok(serde_json::from_str(&read(&format!(
        "{CHART}/values.schema.json"
    ))?)?)
}

fn yaml(path: &str) -> Result<Value> {
    serde_saphyr::from_str(&read(path)?).map_err(|error| anyhow!("{path}: {error}"))
}
