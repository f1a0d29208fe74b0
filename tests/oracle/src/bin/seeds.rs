//! Writes what the fuzz targets start from: `seeds FOLDER` makes `FOLDER/TARGET/seeds/` and `FOLDER/TARGET/dictionary`
//! of the recorded reviews, the golden cases, the examples and the profiles that the repository holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use outrigger::manifest::Stream;
use outrigger::profile::Profile;
use outrigger::profile::expression::FUNCTIONS;
use serde_json::{Value, json};

/// As in `fuzz/targets/annotations.rs`.
const RECORD: &str = "\u{1e}";
const UNIT: &str = "\u{1f}";
/// The first byte, in turn.
const FLAGS: [char; 5] = ['\u{0}', '\u{1}', '\u{2}', '\u{4}', '\u{c}'];

/// Words of reviews and of pods that matter to an injection.
const WORDS: &[&str] = &[
    "AdmissionReview",
    "admission.k8s.io/v1",
    "admission.k8s.io/v1beta1",
    "CREATE",
    "Pod",
    "annotations",
    "containers",
    "initContainers",
    "restartPolicy",
    "Always",
    "volumes",
    "volumeMounts",
    "mountPath",
    "subPath",
    "hostNetwork",
    "ports",
    "containerPort",
    "imagePullSecrets",
    "hostAliases",
    "shareProcessNamespace",
    "envFrom",
    "valueFrom",
    "resources",
    "outrigger.dev/inject",
    "outrigger.dev/status",
    "outrigger.dev/injection",
    "files.outrigger.dev/",
    "kubernetes.io/config.mirror",
    "none",
    "null",
    "true",
    "1e999",
    "18446744073709551616",
    "-0.0",
    "1Ei",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "${params.x}",
    "$(POD_IP)",
];

/// Words of the language of profiles, and of YAML.
const LANGUAGE: &[&str] = &[
    "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: t}\nspec:\n  summary: S.\n",
    "parameters:",
    "variables:",
    "validations:",
    "warnings:",
    "expression:",
    "initContainers:",
    "containers:",
    "volumes:",
    "files:",
    "shares:",
    "application:",
    "includeWhen:",
    "forEach:",
    "position: first",
    "settableBy: [Admin]",
    "required: true",
    "default:",
    "pattern:",
    "type: stringList",
    "hostNetwork: Allow",
    "${params.x}",
    "${instance}",
    "${object.spec}",
    "${variables.x}",
    ".map(x, x)",
    ".filter(x, true)",
    ".all(x, true)",
    "has(params.x)",
    "? 1 : 2",
    "in [1]",
    "matches('a')",
    "\n---\n",
    "\n...\n",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|2-\n",
    ">+\n",
    "? ",
    "\r\n",
    "# c\n",
    "%YAML 1.2\n",
];

fn main() -> Result<()> {
    let folder: PathBuf = std::env::args_os()
        .nth(1)
        .context("usage: seeds FOLDER")?
        .into();
    let found = Found::read()?;

    let mut keys: BTreeSet<String> = BTreeSet::new();
    for (_, text) in &found.profiles {
        for profile in Profile::parse_all("seeds", text).0 {
            for parameter in &profile.parameters {
                keys.insert(format!(
                    "{}.outrigger.dev/{}",
                    profile.name, parameter.kebab
                ));
                keys.extend(parameter.allowed());
            }
            keys.insert(profile.name);
        }
    }
    keys.extend(WORDS.iter().map(|word| (*word).to_owned()));
    let mut language: BTreeSet<String> = LANGUAGE.iter().map(|word| (*word).to_owned()).collect();
    language.extend(FUNCTIONS.iter().map(|(name, _)| (*name).to_owned()));
    let mut yaml = keys.clone();
    yaml.extend(language.iter().cloned());

    let mut of_annotations = keys.clone();
    of_annotations.extend([RECORD.to_owned(), UNIT.to_owned()]);

    for (target, seeds, dictionary) in [
        ("review", found.reviews()?, &keys),
        ("annotations", found.annotations()?, &of_annotations),
        ("profile", found.profiles.clone(), &language),
        ("workload", found.manifests.clone(), &yaml),
    ] {
        write(&folder.join(target), &seeds, dictionary)
            .with_context(|| format!("the seeds of {target}"))?;
        println!(
            "{target:<12} {:>4} seeds, {:>4} words",
            seeds.len(),
            dictionary.len()
        );
    }
    Ok(())
}

/// A name and a text each.
type Seeds = Vec<(String, String)>;

/// What the repository holds.
struct Found {
    recorded: Seeds,
    manifests: Seeds,
    profiles: Seeds,
}

impl Found {
    fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("this crate has moved")?;
        let mut found = Self {
            recorded: Vec::new(),
            manifests: Vec::new(),
            profiles: Vec::new(),
        };
        for folder in [
            "tests/reviews",
            "tests/golden",
            "tests/golden_workloads",
            "examples",
            "profiles",
        ] {
            for path in files(&root.join(folder))? {
                let Ok(text) = fs::read_to_string(&path) else {
                    continue;
                };
                let name = path
                    .strip_prefix(root)?
                    .display()
                    .to_string()
                    .replace('/', "-");
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") if folder == "tests/reviews" => found.recorded.push((name, text)),
                    Some("yaml") if text.contains("kind: SidecarProfile") => {
                        found.profiles.push((name, text));
                    }
                    Some("yaml") => found.manifests.push((name, text)),
                    _ => {}
                }
            }
        }
        for (what, seeds) in [
            ("recorded reviews", &found.recorded),
            ("manifests", &found.manifests),
            ("profiles", &found.profiles),
        ] {
            ensure!(seeds.len() > 10, "only {} {what} were found", seeds.len());
        }
        Ok(found)
    }

    /// Each workload of the manifests, with its pod.
    fn each(&self, mut visit: impl FnMut(String, &Value, &Value)) {
        for (name, text) in &self.manifests {
            // Some are parts of a case, and no manifests.
            let Ok(stream) = Stream::parse(name, text.as_bytes()) else {
                continue;
            };
            for (index, workload) in stream.workloads("shop").iter().enumerate() {
                visit(format!("{name}-{index}"), workload.object, workload.pod);
            }
        }
    }

    /// The recorded reviews, and one of each workload and of the pod that it makes.
    fn reviews(&self) -> Result<Seeds> {
        let mut seeds = self.recorded.clone();
        let review = |group: &str, kind: &str, object: &Value| {
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": "u", "kind": {"group": group, "version": "v1", "kind": kind},
                "namespace": "shop", "operation": "CREATE", "object": object,
            }})
            .to_string()
        };
        self.each(|name, object, pod| {
            let kind = object["kind"].as_str().unwrap_or_default();
            let group = object["apiVersion"].as_str().unwrap_or_default();
            let group = group.split_once('/').map_or("", |(group, _)| group);
            seeds.push((format!("{name}-pod"), review("", "Pod", pod)));
            if kind != "Pod" {
                seeds.push((name, review(group, kind, object)));
            }
        });
        for (name, text) in &self.profiles {
            let stream = Stream::parse(name, text.as_bytes());
            if let Ok(stream) = stream
                && let Ok(object) = outrigger::manifest::render::json(&[stream])
            {
                let object = serde_json::from_str(&object)?;
                seeds.push((
                    name.clone(),
                    review("outrigger.dev", "SidecarProfile", &object),
                ));
            }
        }
        Ok(seeds)
    }

    /// The annotations of each pod: in turn in both modes, on the pod and on its namespace, on pods of several shapes.
    fn annotations(&self) -> Result<Seeds> {
        let mut seeds = Vec::new();
        self.each(|name, _, pod| {
            let annotations = pod["metadata"]["annotations"].as_object();
            let records: Vec<String> = annotations
                .into_iter()
                .flatten()
                .filter(|(key, _)| key.contains("outrigger.dev/") && *key != "outrigger.dev/status")
                .filter_map(|(key, value)| Some(format!("{key}{UNIT}{}", value.as_str()?)))
                .collect();
            if records.is_empty() {
                return;
            }
            let flags = FLAGS[seeds.len() % FLAGS.len()];
            seeds.push((name, format!("{flags}{}", records.join(RECORD))));
        });
        ensure!(
            seeds.len() > 100,
            "only {} pods with annotations were found",
            seeds.len()
        );
        Ok(seeds)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn write(folder: &Path, seeds: &Seeds, dictionary: &BTreeSet<String>) -> Result<()> {
    let place = folder.join("seeds");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    for (name, text) in seeds {
        fs::write(place.join(name), text)?;
    }
    let words: String = dictionary.iter().map(|word| quoted(word)).collect();
    fs::write(folder.join("dictionary"), words)?;
    Ok(())
}

/// A word as libFuzzer reads it: <https://llvm.org/docs/LibFuzzer.html#dictionaries>.
fn quoted(word: &str) -> String {
    let bytes = word.bytes().map(|byte| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    });
    format!("\"{}\"\n", bytes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use outrigger::admission::{Snapshot, Webhook};
    use outrigger::profile::Catalogue;

    use super::*;

    /// Else the targets start from nothing. Every seventh is enough to tell.
    #[test]
    fn the_seeds_of_reviews_get_every_answer() {
        let snapshot = Snapshot {
            catalogue: Catalogue::new(Catalogue::built_in().unwrap()),
            ..Snapshot::default()
        };
        let mut outcomes = BTreeSet::new();
        for (name, text) in Found::read().unwrap().reviews().unwrap().iter().step_by(7) {
            for webhook in Webhook::ALL {
                match oracle::answered(webhook, text.as_bytes(), &snapshot) {
                    Err(broken) => panic!("{name}: {broken}"),
                    // What is sent to the webhook of another kind of object.
                    Ok(Err(_)) => {}
                    Ok(Ok((reviewed, result))) => {
                        assert_eq!(result.is_some(), reviewed.summary.outcome == "injected");
                        outcomes.insert((webhook.as_str(), reviewed.summary.outcome));
                    }
                }
            }
        }
        for expected in [
            ("mutate", "injected"),
            ("mutate", "denied"),
            ("mutate", "skipped"),
            ("workload", "warned"),
            ("profile", "allowed"),
        ] {
            assert!(
                outcomes.contains(&expected),
                "no {expected:?} of {outcomes:?}"
            );
        }
    }

    #[test]
    fn words_are_quoted_as_libfuzzer_reads_them() {
        assert_eq!(quoted("a \"b\\"), "\"a \\\"b\\\\\"\n");
        assert_eq!(quoted("é\n"), "\"\\xC3\\xA9\\x0A\"\n");
    }
}
