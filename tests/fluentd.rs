//! What Fluentd would make of the profile `fluentd`: every golden pod with such an instance, its files decoded
//! as data, put together as Fluentd includes them, and held against `tests/fluentd/parameters.yaml`.
//!
//! Fluentd only warns of a parameter that it does not know, so a misspelt one would lose logs in silence; and
//! whether a path is mounted, a variable set and a port declared only shows in the pod. Both are checked here,
//! from the stored pods alone. Where a `fluentd` is on the PATH its `--dry-run` has to agree.

// clippy.toml allows both in tests, but clippy takes only the functions under #[test] for tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says that it failed by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

const FILES: &str = "files.outrigger.dev/";

/// Brought by the image, not by a mount.
const PUBLIC_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

static PROFILE: LazyLock<Value> = LazyLock::new(|| yaml(&root().join("profiles/fluentd.yaml")));
static KNOWN: LazyLock<Value> =
    LazyLock::new(|| yaml(&root().join("tests/fluentd/parameters.yaml")));

/// A list in a document; empty where there is none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn named<'v>(items: &'v Value, name: &str) -> Option<&'v Value> {
    list(items).iter().find(|item| item["name"] == name)
}

/// A pod with its golden's name.
struct Case {
    name: String,
    pod: Value,
}

/// All goldens whose pod holds an instance of the profile.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let folders = |path: &Path| -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    };
    for folder in folders(&root().join("tests/golden"))
        .iter()
        .flat_map(|group| folders(group))
    {
        let path = folder.join("expected.yaml");
        // A case that is refused has none.
        if path.exists() {
            let pod = yaml(&path);
            if !instances(&pod).is_empty() {
                let name = folder
                    .strip_prefix(root().join("tests/golden"))
                    .unwrap()
                    .display()
                    .to_string();
                cases.push(Case { name, pod });
            }
        }
    }
    assert!(
        cases.len() >= 50,
        "only {} goldens hold a fluentd",
        cases.len()
    );
    cases
}

/// The names of a pod's instances of the profile, as its status tells them.
fn instances(pod: &Value) -> Vec<String> {
    let status = text(&pod["metadata"]["annotations"]["outrigger.dev/status"]);
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    list(&status["instances"])
        .iter()
        .filter(|instance| instance["profile"] == "fluentd")
        .map(|instance| text(&instance["instance"]).to_owned())
        .collect()
}

/// What stands at a path of a container.
struct Place<'p> {
    volume: &'p str,
    /// The path inside of the volume.
    inside: String,
    read_only: bool,
}

/// Where a container finds a path: in the deepest of its mounts that holds it.
fn place<'p>(container: &'p Value, path: &str) -> Option<Place<'p>> {
    let below = |mount: &Value| {
        let rest = path.strip_prefix(text(&mount["mountPath"]).trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    };
    let (mount, rest) = list(&container["volumeMounts"])
        .iter()
        .filter_map(|mount| below(mount).map(|rest| (mount, rest)))
        .min_by_key(|(_, rest)| rest.len())?;
    let inside = format!("{}{rest}", text(&mount["subPath"]).trim_matches('/'));
    Some(Place {
        volume: text(&mount["name"]),
        inside: inside.trim_matches('/').to_owned(),
        read_only: mount["readOnly"] == true,
    })
}

/// One Fluentd: its container, its files as data, and what was found wrong.
struct Instance<'p> {
    pod: &'p Value,
    container: &'p Value,
    files: BTreeMap<String, Value>,
    problems: Vec<String>,
}

/// A tagged scalar of Fluentd's YAML, as this test keeps it: the tag is a key.
const INCLUDE: &str = "!include";
const RUBY: &str = "!fluent/s";

/// Reads one of the profile's constant files. A tag may stand only before the last scalar of a line.
fn decode_constant(text: &str) -> Result<Value, String> {
    static TAGGED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^(?P<before> *(?:- )?(?:[a-z0-9_]+: )?)(?P<tag>!include|!fluent/s) (?P<value>[a-z0-9]+\.yaml|"(?:[^"\\])*")$"#)
            .unwrap()
    });
    let mut plain = String::new();
    for line in text.lines() {
        match TAGGED.captures(line) {
            Some(tagged) => {
                plain += &format!(
                    "{}{{\"{}\": {}}}\n",
                    &tagged["before"], &tagged["tag"], &tagged["value"]
                );
            }
            None if line.contains(": !") || line.contains("- !") || line.contains("[!") => {
                return Err(format!("a tag that this test cannot read: {line}"));
            }
            None => plain += &format!("{line}\n"),
        }
    }
    serde_saphyr::from_str(&plain).map_err(|error| error.to_string())
}

/// The text of a file that the profile gives as text.
fn constant(file: &Value) -> Option<&str> {
    match file["format"].as_str() {
        Some("Text") => file["content"].as_str(),
        _ => file.as_str(),
    }
}

impl<'p> Instance<'p> {
    fn new(pod: &'p Value, name: &str) -> Self {
        let spec = &pod["spec"];
        let container = named(&spec["initContainers"], name)
            .or_else(|| named(&spec["containers"], name))
            .unwrap_or_else(|| panic!("there is no container {name}"));
        let mut instance = Self {
            pod,
            container,
            files: BTreeMap::new(),
            problems: Vec::new(),
        };
        for (key, content) in entries(&pod["metadata"]["annotations"]) {
            let Some(file) = key.strip_prefix(&format!("{FILES}{name}.")) else {
                continue;
            };
            let content = text(content);
            // Either exactly what the profile says, so that nobody's value can be in it, or JSON, which holds
            // no tags, so that nothing in it is evaluated.
            let decoded = match constant(&PROFILE["spec"]["files"][file]) {
                Some(constant) if constant == content => decode_constant(content),
                Some(_) => Err("differs from the profile's constant text".to_owned()),
                None => {
                    serde_json::from_str(content).map_err(|error| format!("is not JSON: {error}"))
                }
            };
            match decoded {
                Ok(tree) => drop(instance.files.insert(file.to_owned(), tree)),
                Err(error) => instance.problem(file, error),
            }
        }
        instance
    }

    fn problem(&mut self, at: &str, message: impl AsRef<str>) {
        self.problems.push(format!("{at}: {}", message.as_ref()));
    }

    fn environment(&self, name: &str) -> Option<&'p Value> {
        named(&self.container["env"], name)
    }

    /// The file that the container is started with.
    fn main_file(&mut self) -> Option<String> {
        let arguments = list(&self.container["args"]);
        let path = arguments
            .iter()
            .position(|argument| argument == "--config")
            .and_then(|flag| arguments.get(flag + 1));
        let Some(path) = path.map(text) else {
            self.problem("args", "there is no --config");
            return None;
        };
        let Some(place) = place(self.container, path) else {
            self.problem("args", format!("{path} is not mounted"));
            return None;
        };
        let volume = named(&self.pod["spec"]["volumes"], place.volume)
            .cloned()
            .unwrap_or_default();
        let shown: BTreeMap<&str, &str> = list(&volume["downwardAPI"]["items"])
            .iter()
            .map(|item| (text(&item["path"]), text(&item["fieldRef"]["fieldPath"])))
            .collect();
        for file in self.files.keys().cloned().collect::<Vec<_>>() {
            let annotation = shown
                .get(&*file)
                .and_then(|field| field.strip_prefix("metadata.annotations['"))
                .and_then(|field| field.strip_suffix("']"));
            let name = text(&self.container["name"]);
            if annotation != Some(&format!("{FILES}{name}.{file}")) {
                self.problem(
                    &file,
                    format!("the volume {} does not show it", place.volume),
                );
            }
        }
        Some(place.inside)
    }

    /// A file with everything that it includes: an include in a list stands for the items of the file, and as
    /// a value for its whole content.
    fn resolved(&mut self, file: &str) -> Value {
        match self.files.get(file).cloned() {
            Some(tree) => self.resolve(tree, file),
            None => {
                self.problem(file, "is included and does not exist");
                Value::Null
            }
        }
    }

    fn resolve(&mut self, tree: Value, at: &str) -> Value {
        match tree {
            Value::Array(items) => {
                let mut result = Vec::new();
                for item in items {
                    let included = item.get(INCLUDE).is_some();
                    match self.resolve(item, at) {
                        Value::Array(items) if included => result.extend(items),
                        other if included => {
                            self.problem(at, format!("includes what is not a list: {other}"))
                        }
                        other => result.push(other),
                    }
                }
                Value::Array(result)
            }
            Value::Object(map) => match map.get(INCLUDE).and_then(Value::as_str) {
                Some(file) if file == at => {
                    self.problem(at, "includes itself");
                    Value::Null
                }
                Some(file) => self.resolved(file),
                None => Value::Object(
                    map.into_iter()
                        .map(|(key, value)| (key, self.resolve(value, at)))
                        .collect(),
                ),
            },
            scalar => scalar,
        }
    }

    /// The text that one of the profile's expressions gives, as far as it can be told before the pod runs;
    /// notes variables that are read and not set.
    fn evaluate(&mut self, at: &str, expression: &str) -> Option<String> {
        static READ: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"ENV(?:\['|\.key\?\('|\.fetch\(')([A-Z_]+)").unwrap());
        static PLAIN: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^#\{ENV\['([A-Z_]+)'\](?:\.strip)?(?: \|\| '([^']*)')?\}$").unwrap()
        });
        static IS_UNSET: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^#\{!ENV\.key\?\('([A-Z_]+)'\)\}$").unwrap());
        for read in READ.captures_iter(expression) {
            let variable = &read[1];
            let asked = [
                format!("ENV['{variable}'] ||"),
                format!("ENV['{variable}'] ? "),
                format!("ENV.key?('{variable}')"),
            ];
            if self.environment(variable).is_none()
                && !asked.iter().any(|question| expression.contains(question))
            {
                self.problem(
                    at,
                    format!("reads the environment variable {variable}, which is not set"),
                );
            }
        }
        if let Some(parts) = IS_UNSET.captures(expression) {
            return Some(self.environment(&parts[1]).is_none().to_string());
        }
        let parts = PLAIN.captures(expression)?;
        match self.environment(&parts[1]) {
            Some(variable) => variable["value"].as_str().map(str::to_owned),
            None => parts.get(2).map(|otherwise| otherwise.as_str().to_owned()),
        }
    }

    fn check(&mut self) {
        let Some(main) = self.main_file() else { return };
        let tree = self.resolved(&main);
        for (key, value) in entries(&tree) {
            match key.as_str() {
                "system" => self.section("system", &KNOWN["system"], value, "system"),
                "config" => {}
                _ => self.problem(&main, format!("has an unknown key {key}")),
            }
        }
        let config = list(&tree["config"]);
        let labels: BTreeSet<_> = config
            .iter()
            .filter_map(|entry| entry["label"]["$name"].as_str())
            .collect();
        self.directives(config, "config", &["source", "label"], &labels);
        self.ports(config);
        let temporary = place(self.container, "/tmp/x");
        if temporary.is_none_or(|place| place.read_only) {
            self.problem("/tmp", "cannot be written");
        }
        let writes_root = self.container["securityContext"]["readOnlyRootFilesystem"] != true;
        if writes_root {
            self.problem("securityContext", "the root can be written");
        }
    }

    /// The entries of a `config`: each is one directive.
    fn directives(
        &mut self,
        config: &[Value],
        at: &str,
        allowed: &[&str],
        labels: &BTreeSet<&str>,
    ) {
        if config.is_empty() {
            self.problem(at, "is empty");
        }
        for (index, entry) in config.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let Some((kind, body)) = entries(entry)
                .next()
                .filter(|_| entries(entry).count() == 1)
            else {
                self.problem(&at, format!("is not one directive: {entry}"));
                continue;
            };
            let at = format!("{at}.{kind}");
            if !allowed.contains(&kind.as_str()) {
                self.problem(&at, "does not belong here");
            }
            if let Some(label) = body.get("$label").map(text)
                && !labels.contains(label)
            {
                self.problem(&at, format!("goes to {label}, which does not exist"));
            }
            match kind.as_str() {
                "label" => {
                    for (key, _) in entries(body)
                        .filter(|(key, _)| !["$name", "config"].contains(&key.as_str()))
                    {
                        self.problem(&at, format!("has an unknown key {key}"));
                    }
                    let config = list(&body["config"]);
                    self.directives(
                        config,
                        &format!("{at}.{}", text(&body["$name"])),
                        &["filter", "match"],
                        labels,
                    );
                    if config
                        .iter()
                        .filter(|entry| entry.get("match").is_some())
                        .count()
                        != 1
                        || config.last().is_none_or(|last| last.get("match").is_none())
                    {
                        self.problem(&at, "does not end with its one match");
                    }
                }
                _ => {
                    if matches!(kind.as_str(), "filter" | "match") && body.get("$tag").is_none() {
                        self.problem(&at, "has no $tag");
                    }
                    self.plugin(kind, body, &at);
                }
            }
        }
    }

    /// A section of a kind that has plugins.
    fn plugin(&mut self, kind: &str, body: &Value, at: &str) {
        let known = &KNOWN[kind];
        let Some(of_type) = body.get("$type").and_then(Value::as_str) else {
            self.problem(at, "has no $type");
            return;
        };
        if matches!(of_type, "common" | "buffered") || known.get(of_type).is_none() {
            self.problem(at, format!("there is no {kind} {of_type}"));
            return;
        }
        let mut rules = known["common"].as_object().cloned().unwrap_or_default();
        rules.extend(known[of_type].as_object().cloned().unwrap_or_default());
        if rules.remove("buffered").is_some() {
            for part in ["sections", "required"] {
                let both = joined(&rules, &known["buffered"], part);
                rules.insert(part.to_owned(), both);
            }
        }
        self.section(kind, &Value::Object(rules), body, at);
        if kind == "buffer" {
            self.buffer(body, at);
        }
    }

    /// The parameters and sections of one section, by its rules.
    fn section(&mut self, kind: &str, rules: &Value, body: &Value, at: &str) {
        let Some(body) = body.as_object() else {
            self.problem(at, format!("is not a section: {body}"));
            return;
        };
        for name in list(&rules["required"])
            .iter()
            .map(text)
            .filter(|name| !body.contains_key(*name))
        {
            self.problem(at, format!("lacks {name}"));
        }
        for (key, value) in body {
            let at = format!("{at}.{key}");
            if let Some(inner) = rules["sections"].get(key).and_then(Value::as_str) {
                // A list is several sections of one kind.
                let sections = value
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![value.clone()]);
                if sections.is_empty() {
                    self.problem(&at, "is an empty list");
                }
                for section in &sections {
                    self.inner(inner, section, &at);
                }
            } else if list(&KNOWN["reserved"])
                .iter()
                .any(|reserved| reserved == key)
            {
                if !stands_in(key, kind) || !value.is_string() {
                    self.problem(&at, format!("does not belong into a {kind}"));
                }
            } else if let Some(rule) = rules
                .get(key)
                .filter(|_| !matches!(key.as_str(), "sections" | "required"))
            {
                self.parameter(rule, value, &at);
            } else {
                self.problem(&at, "is not a parameter that Fluentd knows there");
            }
        }
    }

    fn inner(&mut self, kind: &str, section: &Value, at: &str) {
        match kind {
            "free" => {
                for (key, value) in entries(section) {
                    let rule = json!({"type": "string"});
                    self.parameter(&rule, value, &format!("{at}.{key}"));
                }
            }
            "server" | "security" | "inject" => self.section(kind, &KNOWN[kind], section, at),
            _ => self.plugin(kind, section, at),
        }
    }

    fn parameter(&mut self, rule: &Value, value: &Value, at: &str) {
        let of_type = rule
            .as_str()
            .or_else(|| rule["type"].as_str())
            .unwrap_or_default();
        let value = match (value.as_str(), value.get(RUBY).and_then(Value::as_str)) {
            (Some(value), _) => value.to_owned(),
            (None, Some(expression)) => match self.evaluate(at, expression) {
                Some(value) => value,
                // A Secret's content and the pod's own facts are any text.
                None if matches!(of_type, "string" | "hash") && rule.get("file").is_none() => {
                    return;
                }
                None => return self.problem(at, format!("nobody knows what {expression} gives")),
            },
            // Fluentd 1.18 stumbles over numbers, booleans and lists.
            _ => return self.problem(at, format!("is not text: {value}")),
        };
        if of_type == "enum" {
            if !list(&rule["values"])
                .iter()
                .any(|allowed| *allowed == value)
            {
                self.problem(at, format!("{value:?} is none of {}", rule["values"]));
            }
        } else {
            let pattern = KNOWN["types"][of_type]
                .as_str()
                .unwrap_or_else(|| panic!("parameters.yaml: type {of_type}"));
            if !Regex::new(&format!("(?s)^(?:{pattern})$"))
                .unwrap()
                .is_match(&value)
            {
                self.problem(at, format!("{value:?} is no {of_type}"));
            }
        }
        if rule["forbidden"] == value {
            self.problem(at, format!("{value} is not wanted here"));
        }
        match rule["file"].as_str() {
            Some(mode) => {
                for path in value.split(',').map(str::trim) {
                    self.file(path, mode == "write", at);
                }
            }
            None if value.starts_with('/') && !matches!(of_type, "regexp") => {
                self.problem(
                    at,
                    format!("{value} looks like a path, which parameters.yaml does not say"),
                );
            }
            None => {}
        }
    }

    /// A path of the configuration is in a mount, and there is what the configuration expects there.
    fn file(&mut self, path: &str, writes: bool, at: &str) {
        if path == PUBLIC_CAS && !writes {
            return;
        }
        let fixed = path.split(['*', '?']).next().unwrap_or_default();
        let Some((directory, _)) = fixed
            .rsplit_once('/')
            .filter(|(directory, _)| !directory.is_empty())
        else {
            return self.problem(at, format!("{path} is in no directory"));
        };
        let Some(found) = place(self.container, directory) else {
            return self.problem(at, format!("{path} is not mounted"));
        };
        let Some(volume) = named(&self.pod["spec"]["volumes"], found.volume) else {
            return self.problem(at, format!("the pod has no volume {}", found.volume));
        };
        if writes && found.read_only {
            self.problem(at, format!("{path} cannot be written"));
        }
        if let Some(items) = volume["secret"].get("items") {
            let file = path.rsplit('/').next().unwrap_or_default();
            if !list(items).iter().any(|item| item["path"] == file) {
                self.problem(at, format!("the Secret shows no {file}"));
            }
        }
        // The logs themselves: the application has to write into the very same directory.
        if at.ends_with(".path") && at.contains(".source.") {
            let same = list(&self.pod["spec"]["containers"])
                .iter()
                .filter(|other| other["name"] != self.container["name"])
                .any(|other| {
                    place(other, directory).is_some_and(|there| {
                        (there.volume, &there.inside, there.read_only)
                            == (found.volume, &found.inside, false)
                    })
                });
            if !same {
                self.problem(
                    at,
                    format!("no container of the application writes into {directory}"),
                );
            }
            if !found.read_only {
                self.problem(at, format!("{directory} is not read-only for Fluentd"));
            }
        }
    }

    /// A buffer ends before its volume does.
    fn buffer(&mut self, body: &Value, at: &str) {
        let (Some(total), Some(chunk)) = (
            bytes(text(&body["total_limit_size"])),
            bytes(text(&body["chunk_limit_size"])),
        ) else {
            return self.problem(at, "has no bound");
        };
        if body["flush_at_shutdown"] != "true" {
            self.problem(at, "is not flushed at shutdown");
        }
        if total < 2 * chunk {
            self.problem(at, "holds less than two chunks");
        }
        let volume = place(self.container, text(&body["path"])).map(|place| place.volume);
        let volume = volume
            .and_then(|name| named(&self.pod["spec"]["volumes"], name))
            .cloned()
            .unwrap_or_default();
        let limit = text(&volume["emptyDir"]["sizeLimit"])
            .strip_suffix('i')
            .and_then(bytes);
        if limit.is_none_or(|limit| limit <= total) {
            self.problem(
                at,
                format!("{total} bytes do not fit into {}", volume["emptyDir"]),
            );
        }
    }

    /// Sources listen where the container says so, and the probe asks there.
    fn ports(&mut self, config: &[Value]) {
        let listening: BTreeSet<i64> = config
            .iter()
            .filter_map(|entry| entry["source"]["port"].as_str())
            .filter_map(|port| port.parse().ok())
            .collect();
        let declared: BTreeSet<i64> = list(&self.container["ports"])
            .iter()
            .filter_map(|port| port["containerPort"].as_i64())
            .collect();
        if listening != declared {
            self.problem(
                "ports",
                format!("listens on {listening:?} and declares {declared:?}"),
            );
        }
        for address in config
            .iter()
            .filter_map(|entry| entry["source"]["bind"].as_str())
        {
            if !["0.0.0.0", "::"].contains(&address) {
                self.problem("bind", format!("the kubelet cannot reach {address}"));
            }
        }
        let probe = &self.container["livenessProbe"]["httpGet"];
        let port = probe["port"].as_i64().or_else(|| {
            named(&self.container["ports"], text(&probe["port"]))?["containerPort"].as_i64()
        });
        if port.is_none_or(|port| !listening.contains(&port)) {
            self.problem(
                "livenessProbe",
                format!("nothing listens on {}", probe["port"]),
            );
        }
    }
}

/// Two rules' lists or maps of one name, in one.
fn joined(rules: &Map<String, Value>, common: &Value, part: &str) -> Value {
    match (rules.get(part), &common[part]) {
        (Some(Value::Object(own)), Value::Object(common)) => Value::Object(
            own.iter()
                .chain(common)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        (Some(Value::Array(own)), Value::Array(common)) => {
            Value::Array(own.iter().chain(common).cloned().collect())
        }
        (own, common) => own.unwrap_or(common).clone(),
    }
}

/// Where the words stand that Fluentd keeps for itself.
fn stands_in(reserved: &str, kind: &str) -> bool {
    match reserved {
        "$type" => !["system", "server", "security", "inject"].contains(&kind),
        "$label" => ["source", "match"].contains(&kind),
        "$tag" => ["filter", "match"].contains(&kind),
        "$arg" => kind == "buffer",
        "$id" | "$log_level" => ["source", "filter", "match"].contains(&kind),
        _ => false,
    }
}

/// A size as Fluentd spells it.
fn bytes(size: &str) -> Option<u64> {
    let digits = size.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let factor = match size[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// What is wrong with all instances of a pod.
fn problems(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for name in instances(pod) {
        let mut instance = Instance::new(pod, &name);
        instance.check();
        found.extend(
            instance
                .problems
                .into_iter()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    found
}

#[test]
fn every_configuration_is_one_that_fluentd_takes_whole() {
    let failures: Vec<String> = cases()
        .iter()
        .flat_map(|case| {
            problems(&case.pod)
                .into_iter()
                .map(|problem| format!("{}: {problem}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A change to a pod of the goldens, and a part of what has to be said of it.
type Fault = (&'static str, &'static str, &'static str, &'static str);

#[test]
fn faults_are_found() {
    // The file or the part of the pod, what is replaced there, by what, and what is said.
    let faults: &[Fault] = &[
        (
            "fluentd/output-forward",
            r#"\"refresh_interval\":"#,
            r#"\"refresh_intervall\":"#,
            "is not a parameter that Fluentd knows",
        ),
        (
            "fluentd/output-forward",
            r#"\"heartbeat_type\":\"none\""#,
            r#"\"heartbeat_type\":\"never\""#,
            "is none of",
        ),
        (
            "fluentd/output-forward",
            r#"\"refresh_interval\":\"5s\""#,
            r#"\"refresh_interval\":5"#,
            "is not text",
        ),
        (
            "fluentd/output-forward",
            r#"\"refresh_interval\":\"5s\""#,
            r#"\"refresh_interval\":\"soon\""#,
            "is no time",
        ),
        (
            "fluentd/output-forward",
            r#",\"total_limit_size\":\"256m\""#,
            "",
            "lacks total_limit_size",
        ),
        (
            "fluentd/output-forward",
            r#"\"total_limit_size\":\"256m\""#,
            r#"\"total_limit_size\":\"64g\""#,
            "do not fit",
        ),
        (
            "fluentd/output-forward",
            r#"\"flush_at_shutdown\":\"true\""#,
            r#"\"flush_at_shutdown\":\"false\""#,
            "is not flushed",
        ),
        (
            "fluentd/output-forward",
            r#"\"parse\":{\"$type\":\"none\"}"#,
            r#"\"parse\":{\"$type\":\"yaml\"}"#,
            "there is no parser yaml",
        ),
        (
            "fluentd/output-forward",
            r#"\"parse\":{\"$type\":\"none\"}"#,
            r#"\"inject\":{}"#,
            "lacks parse",
        ),
        (
            "fluentd/output-forward",
            r#"\"source\":{\"$type\":\"tail\""#,
            r#"\"source\":{\"$type\":\"exec\""#,
            "there is no source exec",
        ),
        (
            "fluentd/output-forward",
            r#"\"$label\":\"@LOGS\""#,
            r#"\"$label\":\"@LOG\""#,
            "which does not exist",
        ),
        (
            "fluentd/output-forward",
            r#"/positions/tail.pos"#,
            "/pos/tail.pos",
            "is not mounted",
        ),
        (
            "fluentd/output-forward",
            r#"/positions/tail.pos"#,
            "/etc/fluentd/tail.pos",
            "cannot be written",
        ),
        (
            "fluentd/output-forward",
            r#"\"path\":\"/var/log/shop/*.log\""#,
            r#"\"path\":\"/buffer/*.log\""#,
            "no container of the application",
        ),
        (
            "fluentd/output-forward",
            r#"\"port\":\"24230\""#,
            r#"\"port\":\"24231\""#,
            "nothing listens",
        ),
        (
            "fluentd/output-forward",
            r#"{\"$name\":\"@HEALTH\""#,
            r#"{\"$name\":\"@HEALTH\",\"worker\":\"0\""#,
            "has an unknown key worker",
        ),
        (
            "fluentd/output-forward-secret",
            "suppress_config_dump",
            "suppress_config_dumb",
            "differs from the profile's constant text",
        ),
        (
            "fluentd/output-forward-secret",
            r#""name":"OUTPUT_SECRET""#,
            r#""name":"OUTPUT_SECRETS""#,
            "OUTPUT_SECRET, which is not set",
        ),
        (
            "fluentd/output-forward-secret",
            r#""value":"tls""#,
            r#""value":"ssl""#,
            "is none of",
        ),
        (
            "fluentd/output-forward-secret",
            r#""key":"ca.crt","path":"ca.crt""#,
            r#""key":"ca.crt","path":"ca.pem""#,
            "the Secret shows no ca.crt",
        ),
        (
            "fluentd/output-http-token",
            r#""name":"OUTPUT_URI""#,
            r#""name":"OUTPUT_URL""#,
            "OUTPUT_URI, which is not set",
        ),
        (
            "fluentd/output-file",
            r#"/var/log/merged/shop"#,
            "/var/log/shop/shop",
            "cannot be written",
        ),
        (
            "fluentd/the-least",
            "['files.outrigger.dev/fluentd.sources.yaml']",
            "['files.outrigger.dev/other.sources.yaml']",
            "does not show it",
        ),
    ];
    let cases = cases();
    let mut failures = Vec::new();
    for (name, from, to, message) in faults {
        let case = cases
            .iter()
            .find(|case| case.name == *name)
            .unwrap_or_else(|| panic!("there is no golden {name}"));
        let before = serde_json::to_string(&case.pod).unwrap();
        let after = before.replace(from, to);
        assert_ne!(before, after, "{name} holds no {from}");
        let found = problems(&serde_json::from_str(&after).unwrap());
        if !found.iter().any(|problem| problem.contains(message)) {
            failures.push(format!(
                "{name}, {to}: {message} is not said, but {found:#?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The types of the parsers and of the outputs, and the files started with, of all goldens.
#[test]
fn every_parser_output_and_file_has_a_golden() {
    let (mut parsers, mut outputs, mut files) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in cases() {
        for name in instances(&case.pod) {
            let mut instance = Instance::new(&case.pod, &name);
            let main = instance.main_file().unwrap_or_default();
            let tree = instance.resolved(&main);
            for entry in list(&tree["config"]) {
                if let Some(parser) = entry["source"]["parse"]["$type"].as_str() {
                    parsers.insert(parser.to_owned());
                }
                if entry["label"]["$name"] == "@OUTPUT" {
                    let config = list(&entry["label"]["config"]);
                    outputs.extend(
                        config
                            .iter()
                            .filter_map(|entry| entry["match"]["$type"].as_str())
                            .map(str::to_owned),
                    );
                }
            }
            files.insert(main);
        }
    }
    let wanted = |parameter: &str| -> BTreeSet<String> {
        list(&PROFILE["spec"]["parameters"][parameter]["enum"])
            .iter()
            .map(|value| text(value).to_owned())
            .collect()
    };
    assert_eq!(parsers, wanted("parser"));
    assert_eq!(outputs, wanted("output"));
    let starts: BTreeSet<String> = entries(&PROFILE["spec"]["files"])
        .filter(|(_, file)| constant(file).is_some_and(|text| text.contains("\nconfig:")))
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(files, starts);
}

#[test]
fn every_parameter_has_a_golden_that_sets_it() {
    let mut set = BTreeSet::new();
    for case in cases() {
        let names = instances(&case.pod);
        for (key, _) in entries(&case.pod["metadata"]["annotations"]) {
            if let Some((instance, parameter)) = key.split_once(".outrigger.dev/")
                && names.iter().any(|name| name == instance)
            {
                set.insert(parameter.to_owned());
            }
        }
        let defaults = root()
            .join("tests/golden")
            .join(&case.name)
            .join("defaults.yaml");
        if defaults.exists() {
            set.extend(
                entries(&yaml(&defaults)["profileDefaults"]["fluentd"])
                    .map(|(name, _)| kebab(name)),
            );
        }
    }
    let missing: Vec<String> = entries(&PROFILE["spec"]["parameters"])
        .map(|(name, _)| kebab(name))
        .filter(|name| !set.contains(name))
        .collect();
    assert!(missing.is_empty(), "no golden sets {missing:?}");
}

/// A parameter as annotations spell it.
fn kebab(name: &str) -> String {
    name.chars()
        .flat_map(|letter| {
            letter
                .is_ascii_uppercase()
                .then_some('-')
                .into_iter()
                .chain([letter.to_ascii_lowercase()])
        })
        .collect()
}

/// Fluentd's own word, where there is one.
#[test]
fn fluentd_itself_finds_nothing_to_say() {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join("fluentd"))
            .find(|program| program.is_file())
    });
    let Some(program) = found else {
        // Straight to the terminal: the harness would hide it.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "there is no fluentd on the PATH, so none was asked to --dry-run the configurations"
        );
        return;
    };
    let failures: Vec<String> = cases()
        .iter()
        .flat_map(|case| {
            instances(&case.pod)
                .into_iter()
                .map(move |name| (case, name))
        })
        .filter_map(|(case, name)| {
            dry_run(&program, &case.pod, &name)
                .err()
                .map(|error| format!("{}, {name}: {error}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs `--dry-run` in a folder that has the pod's mounts in it. Values that lie in a mount are moved there.
fn dry_run(program: &Path, pod: &Value, name: &str) -> Result<(), String> {
    let mut instance = Instance::new(pod, name);
    let main = instance
        .main_file()
        .ok_or("there is no file to start with")?;
    let folder = tempfile::tempdir().unwrap();
    let mounts: Vec<&str> = list(&instance.container["volumeMounts"])
        .iter()
        .map(|mount| text(&mount["mountPath"]))
        .collect();
    for mount in &mounts {
        fs::create_dir_all(folder.path().join(mount.trim_start_matches('/'))).unwrap();
    }
    let moved = |value: &str| -> String {
        let part = |part: &str| match mounts.iter().any(|mount| {
            part.strip_prefix(mount)
                .is_some_and(|rest| rest.starts_with('/'))
        }) {
            true => format!("{}{part}", folder.path().display()),
            false => part.to_owned(),
        };
        value.split(',').map(part).collect::<Vec<_>>().join(",")
    };
    for (key, content) in entries(&pod["metadata"]["annotations"]) {
        let Some(file) = key.strip_prefix(&format!("{FILES}{name}.")) else {
            continue;
        };
        let content = match serde_json::from_str(text(content)) {
            Ok(tree) => map_text(tree, &moved).to_string(),
            Err(_) => text(content).to_owned(),
        };
        fs::write(folder.path().join("etc/fluentd").join(file), content).unwrap();
    }
    for volume in list(&pod["spec"]["volumes"]) {
        let mount = list(&instance.container["volumeMounts"])
            .iter()
            .find(|mount| mount["name"] == volume["name"]);
        for item in list(&volume["secret"]["items"]) {
            let Some(mount) = mount else { continue };
            let path = folder
                .path()
                .join(text(&mount["mountPath"]).trim_start_matches('/'))
                .join(text(&item["path"]));
            fs::write(path, "").unwrap();
        }
    }
    let mut command = Command::new(program);
    command
        .arg("--dry-run")
        .arg("--config")
        .arg(folder.path().join("etc/fluentd").join(main));
    for variable in list(&instance.container["env"]) {
        command.env(
            text(&variable["name"]),
            variable["value"]
                .as_str()
                .map_or_else(|| "shop".to_owned(), &moved),
        );
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // The official image has no such plugins either; the administrator's has.
    if ["elasticsearch", "s3"]
        .iter()
        .any(|plugin| said.contains(&format!("Unknown output plugin '{plugin}'")))
    {
        return Ok(());
    }
    if !output.status.success() || said.contains("is not used") {
        Err(said)
    } else {
        Ok(())
    }
}

/// A tree with every text changed.
fn map_text(tree: Value, change: &dyn Fn(&str) -> String) -> Value {
    match tree {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| map_text(item, change))
            .collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, map_text(value, change)))
            .collect(),
        other => other,
    }
}
