//! Golden cases: one folder each, one pod in, one pod out, through all three doors.
//!
//! A case in `tests/golden/<group>/<case>/` holds
//!
//! - `pod.yaml`: what a person would apply,
//! - `profiles/`: profiles beside the built-in ones, if the case needs any,
//! - `catalogue.txt`: names of catalogue profiles (`profiles/catalogue`), one a line, that are installed; a group
//!   that is called as one of them has it installed anyway,
//! - `defaults.yaml`: the administrator's defaults, if any,
//! - `namespace.yaml`: the pod's namespace, if its labels or annotations matter,
//! - `container-mode`: an empty file, where the cluster lacks native sidecars,
//! - and either `expected.yaml`, the pod that comes out, or `denied.txt`, the message; `warnings.txt`,
//! - `diagram.md`: what `-o diagram` draws, where that is worth a look.
//!
//! The library, the running server and the command line must all come to the same. A file that no test
//! reads fails, and so does a case without an outcome. `UPDATE_GOLDENS=1` writes the outcomes anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger::admission::{self, Snapshot};
use outrigger::certificate::{CertificatePair, Subject};
use outrigger::inject::{Namespace, SidecarMode};
use outrigger::profile::parameter::kebab_case;
use outrigger::profile::{Catalogue, Defaults, Profile};
use outrigger::server::{CertificateSource, Server, ServerConfig};
use serde_json::{Value, json};

/// What a door answered.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    pod: Option<Value>,
    denied: Option<String>,
    warnings: Vec<String>,
}

struct Case {
    name: String,
    folder: PathBuf,
    pod: Value,
    snapshot: Snapshot,
    /// Files of the catalogue that are installed.
    catalogue: Vec<PathBuf>,
    read: BTreeSet<PathBuf>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The profiles that are installed by choice.
fn catalogue_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/catalogue")
}

/// All profiles that the project ships.
fn shipped() -> Vec<Arc<Profile>> {
    let mut profiles = Catalogue::built_in().unwrap();
    let mut files = Vec::new();
    walk(&catalogue_folder(), &mut files);
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let source = file.display().to_string();
        profiles.push(Arc::new(
            Profile::parse(&source, &text).unwrap_or_else(|error| panic!("{error}")),
        ));
    }
    profiles
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

fn yaml(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    value
        .map(|value| serde_json::from_value(value.clone()).unwrap())
        .unwrap_or_default()
}

impl Case {
    fn load(folder: PathBuf, built_in: &[Arc<Profile>]) -> Self {
        let name = folder.strip_prefix(root()).unwrap().display().to_string();
        let mut read = BTreeSet::new();
        let mut existing = |file: &str| {
            let path = folder.join(file);
            path.exists().then(|| {
                read.insert(path.clone());
                path
            })
        };
        let pod =
            yaml(&existing("pod.yaml").unwrap_or_else(|| panic!("{name}: there is no pod.yaml")));
        let mut profiles = built_in.to_vec();
        let defaults = existing("defaults.yaml");
        let namespace = existing("namespace.yaml");
        let sidecars = if existing("container-mode").is_some() {
            SidecarMode::Container
        } else {
            SidecarMode::Native
        };
        let mut names: Vec<String> = existing("catalogue.txt")
            .map(|path| fs::read_to_string(path).unwrap())
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        names.extend(name.split('/').next().map(str::to_owned));
        names.dedup();
        let group = names.len() - 1;
        let catalogue: Vec<PathBuf> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (index, catalogue_folder().join(format!("{name}.yaml"))))
            .filter(|(index, path)| *index != group || path.exists())
            .map(|(_, path)| path)
            .collect();
        for path in &catalogue {
            let text = fs::read_to_string(path)
                .unwrap_or_else(|error| panic!("{name}: {}: {error}", path.display()));
            profiles.push(Arc::new(
                Profile::parse("file", &text).unwrap_or_else(|error| panic!("{name}: {error}")),
            ));
        }
        if folder.join("profiles").is_dir() {
            let mut files: Vec<_> = fs::read_dir(folder.join("profiles"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            for file in files {
                let text = fs::read_to_string(&file).unwrap();
                profiles.push(Arc::new(
                    Profile::parse("file", &text).unwrap_or_else(|error| panic!("{name}: {error}")),
                ));
                read.insert(file);
            }
        }
        let mut all = Catalogue::new(profiles);
        if let Some(path) = defaults {
            let defaults =
                Defaults::parse("defaults.yaml", &fs::read_to_string(path).unwrap()).unwrap();
            all = all.with_defaults("defaults.yaml", &defaults).unwrap();
        }
        let mut snapshot = Snapshot {
            catalogue: all,
            sidecars,
            ..Snapshot::default()
        };
        if let Some(path) = namespace {
            let tree = yaml(&path);
            let metadata = &tree["metadata"];
            let facts = Namespace {
                labels: strings(metadata.get("labels")),
                annotations: strings(metadata.get("annotations")),
            };
            snapshot
                .namespaces
                .insert_mut(metadata["name"].as_str().unwrap().into(), Arc::new(facts));
        }
        Self {
            name,
            folder,
            pod,
            snapshot,
            catalogue,
            read,
        }
    }

    fn namespace(&self) -> &str {
        self.pod["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default")
    }

    fn review(&self) -> Vec<u8> {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "b5b6a1a3-0000-4000-8000-000000000001",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": self.namespace(),
                "operation": "CREATE",
                "object": self.pod,
                "dryRun": false,
            },
        });
        serde_json::to_vec(&review).unwrap()
    }

    /// What the envelope's answer makes of the pod, as the API server would apply it.
    fn through_envelope(&self) -> Answer {
        let reviewed = admission::review(&self.review(), &self.snapshot).unwrap();
        answer_of(&self.pod, &serde_json::from_slice(&reviewed.body).unwrap())
    }

    /// `outrigger inject` on a file of the case.
    fn command(&self, file: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.arg("inject").arg("-f").arg(self.folder.join(file));
        for (flag, file) in [
            ("--profiles", "profiles"),
            ("--defaults", "defaults.yaml"),
            ("--namespace-manifest", "namespace.yaml"),
        ] {
            let path = self.folder.join(file);
            if path.exists() {
                command.arg(flag).arg(path);
            }
        }
        for path in &self.catalogue {
            command.arg("--profiles").arg(path);
        }
        if self.snapshot.sidecars == SidecarMode::Container {
            command.args(["--native-sidecars", "container"]);
        }
        command
    }

    /// What the command line draws of a file of the case.
    fn drawn(&self, file: &str) -> String {
        let output = self.command(file).args(["-o", "diagram"]).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the command line makes of it.
    fn through_command_line(&self) -> (Answer, String) {
        let output = self.command("pod.yaml").output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let warnings = stderr
            .lines()
            .filter_map(|line| {
                line.split_once(": warning: ")
                    .map(|(_, text)| text.to_owned())
            })
            .collect();
        let answer = match output.status.code() {
            Some(0) => Answer {
                pod: Some(
                    serde_saphyr::from_str(&stdout)
                        .unwrap_or_else(|error| panic!("{}: {error}\n{stdout}", self.name)),
                ),
                denied: None,
                warnings,
            },
            Some(1) => {
                let start = stderr
                    .find("outrigger: ")
                    .unwrap_or_else(|| panic!("{}: {stderr}", self.name));
                Answer {
                    pod: None,
                    denied: Some(stderr[start..].trim_end().to_owned()),
                    warnings: Vec::new(),
                }
            }
            code => panic!("{}: exit status {code:?}\n{stderr}", self.name),
        };
        (answer, stdout)
    }
}

fn answer_of(pod: &Value, review: &Value) -> Answer {
    let response = &review["response"];
    let warnings = response
        .get("warnings")
        .map(|list| serde_json::from_value(list.clone()).unwrap())
        .unwrap_or_default();
    if response["allowed"] == false {
        let message = response["status"]["message"].as_str().unwrap().to_owned();
        return Answer {
            pod: None,
            denied: Some(message),
            warnings: Vec::new(),
        };
    }
    assert_eq!(
        response.get("patch").is_some(),
        response.get("patchType").is_some()
    );
    let mut result = pod.clone();
    if let Some(patch) = response.get("patch") {
        let bytes = STANDARD.decode(patch.as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&bytes).unwrap();
        json_patch::patch(&mut result, &patch).unwrap();
    }
    Answer {
        pod: Some(result),
        denied: None,
        warnings,
    }
}

/// The command line prints warnings in full; the API server's are cut to 120 bytes.
fn cut(warnings: &[String]) -> Vec<String> {
    warnings
        .iter()
        .map(|text| text.chars().take(100).collect())
        .collect()
}

fn cases() -> Vec<Case> {
    // Compiled anew by each test, and so with other hash seeds.
    let built_in = Catalogue::built_in().unwrap();
    let load = |folder| Case::load(folder, &built_in);
    let cases: Vec<Case> = folders(&root())
        .iter()
        .flat_map(|group| folders(group))
        .map(load)
        .collect();
    assert!(
        cases.len() >= 40,
        "only {} golden cases were found",
        cases.len()
    );
    cases
}

#[test]
fn every_case_comes_out_as_expected_through_the_envelope_and_the_command_line() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut failures = Vec::new();
    for mut case in cases() {
        let envelope = case.through_envelope();
        let (command_line, text) = case.through_command_line();
        if (&envelope.pod, &envelope.denied) != (&command_line.pod, &command_line.denied)
            || cut(&envelope.warnings) != cut(&command_line.warnings)
        {
            failures.push(format!(
                "{}: the doors differ:\n{envelope:#?}\n{command_line:#?}",
                case.name
            ));
            continue;
        }
        // Only where somebody wants to look at it.
        let draws = case.folder.join("diagram.md").exists();
        let diagram = draws.then(|| case.drawn("pod.yaml"));
        let mut outcome = |file: &str, now: Option<String>| {
            let path = case.folder.join(file);
            case.read.insert(path.clone());
            let before = fs::read_to_string(&path).ok();
            if update {
                match &now {
                    Some(now) => fs::write(&path, now).unwrap(),
                    None => drop(fs::remove_file(&path)),
                }
            } else if before != now {
                failures.push(format!(
                    "{}: {file} is stale; UPDATE_GOLDENS=1 writes it anew:\n{now:?}",
                    case.name
                ));
            }
        };
        outcome("expected.yaml", command_line.pod.is_some().then_some(text));
        outcome(
            "denied.txt",
            command_line
                .denied
                .clone()
                .map(|message| format!("{message}\n")),
        );
        outcome("diagram.md", diagram);
        let warnings = command_line.warnings.join("\n");
        outcome(
            "warnings.txt",
            (!warnings.is_empty()).then(|| format!("{warnings}\n")),
        );

        let mut files = Vec::new();
        walk(&case.folder, &mut files);
        for file in files {
            if !case.read.contains(&file) {
                failures.push(format!(
                    "{}: {} is read by no test",
                    case.name,
                    file.display()
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files)
        } else {
            files.push(path)
        }
    }
}

#[test]
fn a_pod_and_what_became_of_it_are_drawn_alike() {
    let mut drawn = 0;
    for case in cases() {
        if case.folder.join("diagram.md").exists() {
            assert_eq!(
                case.drawn("pod.yaml"),
                case.drawn("expected.yaml"),
                "{}",
                case.name
            );
            drawn += 1;
        }
    }
    assert!(drawn > 0);
}

#[test]
fn a_second_run_on_every_result_changes_nothing() {
    for mut case in cases() {
        let Some(pod) = case.through_envelope().pod else {
            continue;
        };
        case.pod = pod.clone();
        let again = case.through_envelope();
        assert_eq!(again.pod.as_ref(), Some(&pod), "{}", case.name);
        let reviewed = admission::review(&case.review(), &case.snapshot).unwrap();
        let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
        assert!(
            answer["response"].get("patch").is_none(),
            "{}: {answer}",
            case.name
        );
    }
}

#[test]
fn the_same_review_gives_the_same_bytes() {
    for (case, anew) in cases().into_iter().zip(cases()) {
        let review = case.review();
        let first = admission::review(&review, &case.snapshot).unwrap();
        assert_eq!(
            admission::review(&review, &case.snapshot).unwrap(),
            first,
            "{}",
            case.name
        );
        assert_eq!(
            admission::review(&review, &anew.snapshot).unwrap(),
            first,
            "{}",
            case.name
        );
    }
}

/// What the running server answers, over TLS, with each case's own profiles.
#[tokio::test]
async fn the_running_server_answers_every_case_as_the_library_does() {
    let subject = Subject {
        dns_names: vec!["localhost".to_owned()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
        days: 1,
    };
    let pair = CertificatePair::self_signed(&subject).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig {
        drain: Duration::ZERO,
        ..ServerConfig::new(any, any, CertificateSource::Pair(pair.clone()))
    };
    let cases = Arc::new(cases());
    let served = Arc::clone(&cases);
    // The uid says which case a review belongs to.
    let reviewer = move |_, body: &[u8]| {
        let review: Value = serde_json::from_slice(body).unwrap();
        let case: usize = review["request"]["uid"].as_str().unwrap().parse().unwrap();
        admission::review(body, &served[case].snapshot)
    };
    let server = Server::bind(config, reviewer).await.unwrap();
    let (address, _) = server.addresses().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let client = testkit::http::client(&pair.certificate, None).unwrap();
    for (index, case) in cases.iter().enumerate() {
        let mut review: Value = serde_json::from_slice(&case.review()).unwrap();
        review["request"]["uid"] = json!(index.to_string());
        let request = client.post(format!("https://{address}/mutate?timeout=5s"));
        let answer = request.json(&review).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", case.name);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        assert_eq!(
            answer_of(&case.pod, &answer),
            case.through_envelope(),
            "{}",
            case.name
        );
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// A parameter, or a value of its enumeration, that no golden sets is an option that nobody has looked at.
#[test]
fn every_parameter_of_every_shipped_profile_is_set_by_some_case() {
    let mut set: BTreeSet<(String, String, String)> = BTreeSet::new();
    for case in cases() {
        let annotations = strings(case.pod["metadata"].get("annotations"));
        let list = annotations
            .get("outrigger.dev/inject")
            .cloned()
            .unwrap_or_default();
        for item in list.split(',').map(str::trim) {
            let (instance, profile) = item.split_once('=').unwrap_or((item, item));
            for (key, value) in &annotations {
                if let Some(parameter) = key.strip_prefix(&format!("{instance}.outrigger.dev/")) {
                    set.insert((profile.to_owned(), parameter.to_owned(), value.clone()));
                }
            }
        }
        if case.folder.join("defaults.yaml").exists() {
            let defaults = yaml(&case.folder.join("defaults.yaml"));
            for (profile, values) in defaults["profileDefaults"].as_object().unwrap() {
                for (name, value) in values.as_object().unwrap() {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    set.insert((profile.clone(), kebab_case(name), value));
                }
            }
        }
    }
    let mut missing = Vec::new();
    for profile in shipped() {
        for parameter in &profile.parameters {
            let values: BTreeSet<&str> = set
                .iter()
                .filter(|(owner, name, _)| *owner == profile.name && *name == parameter.kebab)
                .map(|(_, _, value)| value.as_str())
                .collect();
            if values.is_empty() {
                missing.push(format!("{} {}", profile.name, parameter.kebab));
            }
            let default = parameter.default.as_ref().map(|value| value.to_text());
            for value in parameter
                .allowed()
                .filter(|value| default.as_ref() != Some(value))
            {
                if !values.contains(value.as_str()) {
                    missing.push(format!("{} {}: {value}", profile.name, parameter.kebab));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no golden sets\n{}", missing.join("\n"));
}
