//! `outrigger profile` as it is called at a prompt.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

const HEAD: &str = "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\n";

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn profile(folder: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .arg("profile")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn check(text: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    profile(folder.path(), &[&["check", "x.yaml"], arguments].concat())
}

#[test]
fn every_problem_says_where_it_is() {
    let said = check(
        &format!(
            "# licence\n---\n{HEAD}metadata: {{name: a}}\nspec:\n  summary: s\n  containers:\n    - name: a\n      resources: {{}}\n      env:\n        - {{name: A, valeu: x}}\n  files:\n    bootstrap.json:\n      admin: ${{params.nope}}\n---\n{HEAD}metadata: {{name: b}}\nspec:\n  sumary: s\n---\na: [1\n---\n{HEAD}spec: {{}}\n"
        ),
        &[],
    );
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(
        lines,
        [
            "x.yaml:9:7: spec.containers[0].image: missing",
            "x.yaml:12:21: spec.containers[0].env[0].valeu: Kubernetes has no such field",
            "x.yaml:15:7: spec.files.bootstrap.json.admin: `params.nope`: there is no parameter \"nope\"",
            "x.yaml:20:1: spec: missing field `summary`",
            "x.yaml:21:3: spec.sumary: unknown field",
            "x.yaml:23:4: this is no YAML: unclosed bracket '['",
            "x.yaml:27:1: spec: missing field `summary`",
        ]
    );
}

#[test]
fn what_only_an_example_shows_is_a_problem_as_well() {
    let said = check(
        &format!(
            "{HEAD}metadata: {{name: a}}\nspec:\n  summary: s\n  parameters:\n    a: {{type: integer, description: d, default: 0}}\n  files:\n    x.json: {{a: '${{1 / params.a}}'}}\n"
        ),
        &[],
    );
    assert_eq!(said.code, 1, "{}", said.out);
    assert_eq!(
        said.out,
        "x.yaml:9:14: spec.files.x.json.a: `1 / params.a`: Division by zero of Int(1) (in an example)\n"
    );
}

#[test]
fn a_profile_stands_in_one_place() {
    let one = format!("{HEAD}metadata: {{name: a}}\nspec: {{summary: s}}\n");
    let said = check(&format!("{one}---\n{one}"), &[]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(
        said.out.ends_with(
            "x.yaml:8:12: metadata.name: the profile \"a\" stands in x.yaml:3:12 already\n"
        ),
        "{}",
        said.out
    );
}

#[test]
fn a_good_profile_is_shown_at_work() {
    let text = format!(
        "{HEAD}metadata: {{name: a}}\nspec:\n  summary: s\n  allow: {{namespaceSelector: {{matchLabels: {{team: a}}, matchExpressions: [{{key: b, operator: In, values: [c]}}]}}}}\n  parameters:\n    one: {{type: integer, description: d, required: true, example: 1}}\n    two: {{type: string, description: d, example: x}}\n  validations: [{{expression: params.two != null, message: set two}}]\n  containers:\n    - name: ${{instance}}\n      image: i:1\n      resources: {{limits: {{cpu: '1'}}}}\n  files: {{x.json: {{a: '${{params.one}}'}}}}\n  application: {{env: [{{name: A, value: b}}]}}\n"
    );
    let said = check(&text, &[]);
    assert_eq!(said.code, 0, "{}", said.out);
    let (first, rest) = said.out.split_once('\n').unwrap();
    assert!(first.starts_with("x.yaml: a is good, revision "), "{first}");
    assert_eq!(
        rest,
        "  example: a pod gets, with\n    - a.outrigger.dev/one: 1\n    - a.outrigger.dev/two: x\n    containers: a (i:1)\n    volumes: a-files\n    files: x.json\n    environment of the application: A\n    annotations: kubectl.kubernetes.io/default-container: app\n"
    );

    let said = check(&text, &["--render"]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.starts_with("# x.yaml: a is good"), "{}", said.out);
    let pod: serde_json::Value = serde_saphyr::from_str(&said.out).unwrap();
    assert_eq!(pod["spec"]["containers"][1]["name"], "a");
    assert_eq!(pod["metadata"]["annotations"]["a.outrigger.dev/two"], "x");
}

#[test]
fn an_example_that_is_denied_is_no_error() {
    let said = check(
        &format!(
            "{HEAD}metadata: {{name: a}}\nspec:\n  summary: s\n  validations: [{{expression: 'false', message: never}}]\n"
        ),
        &[],
    );
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        said.out
            .ends_with("\n  example: denied: a.outrigger.dev: never\n"),
        "{}",
        said.out
    );
}

#[test]
fn all_profiles_of_the_project_inject_something_into_the_sample() {
    let said = profile(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["check", "profiles"],
    );
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(!said.out.contains("denied"), "{}", said.out);
}

#[test]
fn a_new_profile_is_good_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let said = profile(folder.path(), &["new", "status-page", "-o", "p.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    let said = profile(folder.path(), &["check", "p.yaml"]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        !said.out.contains("warning") && said.out.contains("sidecars: status-page ("),
        "{}",
        said.out
    );

    fs::write(folder.path().join("q.yaml"), "mine").unwrap();
    let said = profile(folder.path(), &["new", "status-page", "-o", "q.yaml"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err
            .contains("--output q.yaml: the file exists already"),
        "{}",
        said.err
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("q.yaml")).unwrap(),
        "mine"
    );

    let said = profile(folder.path(), &["new", "Status Page"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("expected a DNS label"), "{}", said.err);
}
