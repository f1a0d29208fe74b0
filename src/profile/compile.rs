//! From document to compiled profile.

use indexmap::IndexMap;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, LocalObjectReference, Volume, VolumeMount,
};
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::document::{
    Document, HostNetwork, Match, ProfileError, ProfileProblem, Spec, Validation, Warning,
};
use super::expression::{Expression, Names, Reads};
use super::parameter::{self, Parameter, Value};
use super::strict;
use crate::yaml;

use super::template::{Compiler, Place, Template};

/// A profile that is known to be good.
#[derive(Debug)]
pub struct Profile {
    /// Its name, a DNS label.
    pub name: String,
    /// What it does, in a sentence.
    pub summary: String,
    /// More about it.
    pub description: Option<String>,
    /// The first 12 hexadecimal digits of the SHA-256 of its name and spec: a profile that says the same
    /// has the same revision, wherever it comes from.
    pub revision: String,
    /// Where it was read from: `built-in`, a file, the cluster.
    pub source: String,
    /// The text it was read from.
    pub text: String,
    /// Its parameters, in order of declaration.
    pub parameters: Vec<Parameter>,
    /// The names its expressions use.
    pub names: Names,
    /// Which pods get it without asking.
    pub selector: Option<Match>,
    /// Whether it may open ports on the host's network.
    pub host_network: HostNetwork,
    /// What its expressions read of the request.
    pub reads: Reads,
    /// What it adds.
    pub body: Body,
}

/// The compiled trees of a profile. Field by field the same as [`Spec`].
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are those of Spec")]
pub struct Body {
    pub variables: Vec<Variable>,
    pub validations: Vec<Rule>,
    pub warnings: Vec<Rule>,
    pub init_containers: Template,
    pub containers: Template,
    pub volumes: Template,
    pub files: Vec<(String, Template)>,
    pub shares: Template,
    pub application_containers: Template,
    pub env: Template,
    pub volume_mounts: Template,
    pub labels: Template,
    pub annotations: Template,
    pub image_pull_secrets: Template,
    pub host_aliases: Template,
    pub share_process_namespace: Template,
}

/// A named sub-expression.
#[derive(Debug)]
pub enum Variable {
    /// CEL.
    Expression(Expression),
    /// A tree with `${…}`.
    Template(Template),
}

/// A condition with a message.
#[derive(Debug)]
pub struct Rule {
    /// The condition.
    pub condition: Expression,
    /// The message, a text template.
    pub message: Template,
    /// The parameter that the message is about: an index into [`Profile::parameters`].
    pub parameter: Option<usize>,
}

/// A directory of the application that injected containers see, as rendered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The share's name; a created volume is called `<instance>-<name>`.
    pub name: String,
    /// The directory in the application.
    pub path: String,
    /// The directory in the injected containers; the same if absent.
    #[serde(default)]
    pub mount_path: Option<String>,
    /// Whether the injected containers may only read.
    #[serde(default)]
    pub read_only: bool,
    /// The bound of the volume that is created where the application has none there.
    pub size_limit: String,
    /// The medium of that volume: `Memory`, or the node's disk if absent.
    #[serde(default)]
    pub medium: Option<String>,
    /// Which injected containers see it; all of the instance's if absent.
    #[serde(default)]
    pub containers: Option<Vec<String>>,
}

/// Keys of a list item that are ours, not Kubernetes'.
pub const INIT_CONTAINER_KEYS: &[&str] = &["position"];
/// As [`INIT_CONTAINER_KEYS`], of `application.env` and `application.volumeMounts`.
pub const APPLICATION_KEYS: &[&str] = &["containers"];

/// The prefix of annotations that hold generated files; no instance may be called so.
pub const FILES: &str = "files";

impl Profile {
    /// Compiles every profile in a text of one or more YAML documents.
    ///
    /// # Errors
    /// One error for each document that is refused, with all its problems.
    pub fn parse_all(source: &str, text: &str) -> (Vec<Self>, Vec<ProfileError>) {
        let (mut profiles, mut errors) = (Vec::new(), Vec::new());
        for piece in yaml::split::documents(text) {
            let document = piece.text;
            match yaml::read(document) {
                Ok(Json::Null) => {}
                Ok(tree) => match Self::from_tree(source, document, &tree) {
                    Ok(profile) => profiles.push(profile),
                    Err(error) => errors.push(error),
                },
                Err(error) => errors.push(no_yaml(source, &error)),
            }
        }
        (profiles, errors)
    }

    /// Compiles the one profile in a YAML text.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path.
    pub fn parse(source: &str, text: &str) -> Result<Self, ProfileError> {
        let tree = yaml::read(text).map_err(|error| no_yaml(source, &error))?;
        Self::from_tree(source, text, &tree)
    }

    fn from_tree(source: &str, text: &str, tree: &Json) -> Result<Self, ProfileError> {
        let name = tree
            .pointer("/metadata/name")
            .and_then(Json::as_str)
            .map(str::to_owned);
        let refuse = |problems| ProfileError {
            source: source.to_owned(),
            name: name.clone(),
            problems,
        };
        let document = Document::decode(tree).map_err(refuse)?;
        with_room(|| compile(source, text, document))
            .unwrap_or_else(|| Err(vec![ProfileProblem::new("", "the compiler failed on it")]))
            .map_err(refuse)
    }
}

fn no_yaml(source: &str, error: &yaml::Error) -> ProfileError {
    ProfileError {
        source: source.to_owned(),
        name: None,
        problems: vec![ProfileProblem::new("", format!("this is no YAML: {error}"))],
    }
}

/// The stack for the compiler. The CEL parser takes some hundred kilobytes for each bracket that stands in
/// another (unoptimised), so that a dozen would overflow the 2 MiB of a worker. What is not used is not
/// taken from the machine.
const STACK: usize = 64 << 20;

/// Does some work on a thread with room for it. `None` if it panicked or there is no such thread: a profile
/// must never take the webhook down.
fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .ok()?
            .join()
            .ok()
    })
}

fn compile(source: &str, text: &str, document: Document) -> Result<Profile, Vec<ProfileProblem>> {
    let mut problems = Vec::new();
    let Document { metadata, spec, .. } = document;
    check_name(&metadata.name, &mut problems);
    if spec.summary.trim().is_empty() {
        problems.push(ProfileProblem::new(
            "spec.summary",
            "expected a sentence that says what the profile does",
        ));
    }
    let revision = revision(&metadata.name, &spec);

    let mut names = Names::default();
    let mut parameters = Vec::new();
    for (name, declared) in spec.parameters {
        let path = format!("spec.parameters.{name}");
        match Parameter::compile(&name, declared) {
            Ok(parameter) => parameters.push(parameter),
            Err(errors) => problems.extend(errors.into_iter().map(|error| {
                let path = if error.path.is_empty() {
                    path.clone()
                } else {
                    format!("{path}.{}", error.path)
                };
                ProfileProblem::new(path, error.message)
            })),
        }
        // A refused parameter still exists, so that its uses are not reported as well.
        names.parameters.push(name);
    }

    let mut reads = Reads::default();
    let mut variables = Vec::new();
    for (name, tree) in in_order_of_use(&spec.variables, &mut problems) {
        let path = format!("spec.variables.{name}");
        let mut compiler = Compiler::new(&names);
        let variable = match tree {
            Json::String(cel) if !cel.contains("${") => {
                compiler.expression(cel, &path).map(Variable::Expression)
            }
            tree => Some(Variable::Template(compiler.template(
                tree,
                &path,
                Place::Plain,
            ))),
        };
        reads.merge(compiler.reads);
        problems.append(&mut compiler.problems);
        let is_map = match &variable {
            Some(Variable::Expression(expression)) => expression.is_map(),
            Some(Variable::Template(template)) => matches!(template, Template::Mapping(_)),
            None => false,
        };
        if is_map {
            names.maps.push(name.clone());
        }
        names.variables.push(name.clone());
        variables.extend(variable);
    }

    let mut compiler = Compiler::new(&names);
    let plain = |compiler: &mut Compiler<'_>, tree: &Json, path: &str| {
        compiler.template(tree, path, Place::Plain)
    };
    let body = Body {
        variables,
        validations: validations(&spec.validations, &parameters, &mut compiler),
        warnings: warnings(&spec.warnings, &mut compiler),
        init_containers: compiler.template(
            &spec.init_containers,
            "spec.initContainers",
            Place::Containers,
        ),
        containers: compiler.template(&spec.containers, "spec.containers", Place::Containers),
        volumes: plain(&mut compiler, &spec.volumes, "spec.volumes"),
        files: spec
            .files
            .iter()
            .map(|(name, tree)| (name.clone(), file(name, tree, &mut compiler)))
            .collect(),
        shares: plain(&mut compiler, &spec.shares, "spec.shares"),
        application_containers: plain(
            &mut compiler,
            &spec.application.containers,
            "spec.application.containers",
        ),
        env: compiler.template(&spec.application.env, "spec.application.env", Place::Env),
        volume_mounts: compiler.template(
            &spec.application.volume_mounts,
            "spec.application.volumeMounts",
            Place::Mounts,
        ),
        labels: plain(&mut compiler, &spec.pod.labels, "spec.pod.labels"),
        annotations: plain(&mut compiler, &spec.pod.annotations, "spec.pod.annotations"),
        image_pull_secrets: plain(
            &mut compiler,
            &spec.pod.image_pull_secrets,
            "spec.pod.imagePullSecrets",
        ),
        host_aliases: plain(
            &mut compiler,
            &spec.pod.host_aliases,
            "spec.pod.hostAliases",
        ),
        share_process_namespace: plain(
            &mut compiler,
            &spec.pod.share_process_namespace,
            "spec.pod.shareProcessNamespace",
        ),
    };
    reads.merge(compiler.reads);
    problems.append(&mut compiler.problems);
    check_body(&body, &mut problems);

    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Profile {
        name: metadata.name,
        summary: spec.summary,
        description: spec.description,
        revision,
        source: source.to_owned(),
        text: text.to_owned(),
        parameters,
        names,
        selector: spec.r#match,
        host_network: spec.host_network,
        reads,
        body,
    })
}

/// Variables so that each stands after those it uses. The order in which they are written does not count: a
/// cluster keeps none for the keys of a map.
fn in_order_of_use<'s>(
    variables: &'s IndexMap<String, Json>,
    problems: &mut Vec<ProfileProblem>,
) -> Vec<(&'s String, &'s Json)> {
    let uses = |tree: &Json, name: &str| {
        tree.to_string()
            .match_indices("variables.")
            .any(|(start, word)| {
                let rest = &tree.to_string()[start + word.len()..];
                rest.strip_prefix(name).is_some_and(|after| {
                    !after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
                })
            })
    };
    let mut waiting: Vec<(&String, &Json)> = variables.iter().collect();
    let mut ordered: Vec<(&String, &Json)> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .position(|(_, tree)| !waiting.iter().any(|(other, _)| uses(tree, other)));
        match ready {
            Some(index) => ordered.push(waiting.remove(index)),
            None => {
                let names: Vec<_> = waiting.iter().map(|(name, _)| name.as_str()).collect();
                problems.push(ProfileProblem::new(
                    "spec.variables",
                    format!("these use each other in a circle: {}", names.join(", ")),
                ));
                ordered.append(&mut waiting);
            }
        }
    }
    ordered
}

fn check_name(name: &str, problems: &mut Vec<ProfileProblem>) {
    if !parameter::is_dns_label(name) {
        problems.push(ProfileProblem::new(
            "metadata.name",
            format!("given {name:?}, expected a DNS label: it becomes the prefix of annotations and container names"),
        ));
    } else if name == FILES || name == "none" {
        problems.push(ProfileProblem::new(
            "metadata.name",
            format!("{name:?} has a meaning of its own in annotations"),
        ));
    }
}

/// The content hash of a profile. Serialised from the decoded document with sorted keys, so that comments,
/// layout and the order of keys, which a cluster does not keep, do not count.
fn revision(name: &str, spec: &Spec) -> String {
    let mut content = serde_json::to_value((name, spec)).unwrap_or_default();
    content.sort_all_objects();
    Sha256::digest(content.to_string().as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn validations(
    rules: &[Validation],
    parameters: &[Parameter],
    compiler: &mut Compiler<'_>,
) -> Vec<Rule> {
    let mut compiled = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.validations[{index}]");
        let parameter = rule.parameter.as_deref().and_then(|name| {
            let found = parameters
                .iter()
                .position(|parameter| parameter.name == name);
            if found.is_none() {
                compiler.problems.push(ProfileProblem::new(
                    format!("{path}.parameter"),
                    format!("there is no parameter {name:?}"),
                ));
            }
            found
        });
        let condition = compiler.expression(&rule.expression, &format!("{path}.expression"));
        let message = compiler.text(&rule.message, &format!("{path}.message"), Place::Plain);
        compiled.extend(condition.map(|condition| Rule {
            condition,
            message,
            parameter,
        }));
    }
    compiled
}

fn warnings(rules: &[Warning], compiler: &mut Compiler<'_>) -> Vec<Rule> {
    let mut compiled = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.warnings[{index}]");
        let condition = compiler.expression(&rule.when, &format!("{path}.when"));
        let message = compiler.text(&rule.message, &format!("{path}.message"), Place::Plain);
        compiled.extend(condition.map(|condition| Rule {
            condition,
            message,
            parameter: None,
        }));
    }
    compiled
}

fn file(name: &str, tree: &Json, compiler: &mut Compiler<'_>) -> Template {
    let path = format!("spec.files.{name}");
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if !fits || name.len() > 60 {
        compiler.problems.push(ProfileProblem::new(
            path.clone(),
            "expected a file name of at most 60 letters, digits, '-', '_' and '.' that begins and ends with a letter or digit: it becomes part of an annotation key",
        ));
    }
    match tree {
        Json::String(text) if text.contains("${") => {
            compiler.problems.push(ProfileProblem::new(
                path,
                "a file given as text is taken as it is; only a tree may hold ${…}, because it is serialised and never pasted",
            ));
            Template::nothing()
        }
        Json::String(text) => Template::Literal(Json::String(text.clone())),
        Json::Array(_) | Json::Object(_)
            if [".json", ".yaml", ".yml"]
                .iter()
                .any(|suffix| name.ends_with(suffix)) =>
        {
            compiler.template(tree, &path, Place::Plain)
        }
        _ => {
            compiler.problems.push(ProfileProblem::new(
                path,
                "expected text, or a tree in a file that ends in .json, .yaml or .yml",
            ));
            Template::nothing()
        }
    }
}

/// The checks that need the compiled trees.
fn check_body(body: &Body, problems: &mut Vec<ProfileProblem>) {
    for (template, path) in [
        (&body.init_containers, "spec.initContainers"),
        (&body.containers, "spec.containers"),
    ] {
        strict::check_items::<Container>(template, path, INIT_CONTAINER_KEYS, problems);
        for (path, container) in mappings(template, path) {
            for needed in ["name", "image", "resources"] {
                if !container.iter().any(|(key, _)| key == needed) {
                    problems.push(ProfileProblem::new(
                        format!("{path}.{needed}"),
                        match needed {
                            "resources" => {
                                "missing: a quota refuses containers without requests and limits"
                            }
                            _ => "missing",
                        },
                    ));
                }
            }
        }
    }
    if let Template::List(items) = &body.containers {
        for (index, item) in items.iter().enumerate() {
            if let Template::Mapping(mapping) = item {
                for (key, _) in &mapping.entries {
                    if key == "position" || key == "restartPolicy" {
                        problems.push(ProfileProblem::new(
                            format!("spec.containers[{index}].{key}"),
                            "only an init container has it; ordinary containers start after all of those",
                        ));
                    }
                }
            }
        }
    }
    strict::check_items::<Volume>(&body.volumes, "spec.volumes", &[], problems);
    for (path, volume) in mappings(&body.volumes, "spec.volumes") {
        for (key, value) in volume {
            if let (true, Template::Mapping(empty)) = (key == "emptyDir", value)
                && !empty.entries.iter().any(|(key, _)| key == "sizeLimit")
            {
                problems.push(ProfileProblem::new(
                    format!("{path}.emptyDir.sizeLimit"),
                    "missing: without it the volume can fill the node's disk",
                ));
            }
        }
    }
    strict::check_items::<Share>(&body.shares, "spec.shares", &[], problems);
    for (template, path) in [
        (&body.labels, "spec.pod.labels"),
        (&body.annotations, "spec.pod.annotations"),
    ] {
        strict::check::<Option<std::collections::BTreeMap<String, String>>>(
            template,
            path,
            &[],
            problems,
        );
        if let Template::Mapping(mapping) = template {
            for (key, _) in &mapping.entries {
                check_key(key, path, problems);
            }
        }
    }
    strict::check::<Option<bool>>(
        &body.share_process_namespace,
        "spec.pod.shareProcessNamespace",
        &[],
        problems,
    );
    strict::check::<Option<Vec<String>>>(
        &body.application_containers,
        "spec.application.containers",
        &[],
        problems,
    );
    for (path, container) in mappings(&body.init_containers, "spec.initContainers") {
        for (key, value) in container {
            if let ("position", Template::Literal(value)) = (key.as_str(), value) {
                let text = value.as_str().unwrap_or_default();
                let beside = text
                    .strip_prefix("before:")
                    .or_else(|| text.strip_prefix("after:"));
                let named = beside.is_some_and(|name| parameter::is_dns_label(name.trim()));
                if !matches!(text, "first" | "last") && !named {
                    problems.push(ProfileProblem::new(
                        format!("{path}.position"),
                        format!("given {value}, expected first, last, \"before: NAME\" or \"after: NAME\""),
                    ));
                }
            }
        }
    }
    strict::check_items::<EnvVar>(
        &body.env,
        "spec.application.env",
        APPLICATION_KEYS,
        problems,
    );
    strict::check_items::<VolumeMount>(
        &body.volume_mounts,
        "spec.application.volumeMounts",
        APPLICATION_KEYS,
        problems,
    );
    strict::check_items::<LocalObjectReference>(
        &body.image_pull_secrets,
        "spec.pod.imagePullSecrets",
        &[],
        problems,
    );
    strict::check_items::<HostAlias>(&body.host_aliases, "spec.pod.hostAliases", &[], problems);
}

/// A key of a label or annotation that the API server takes and that is not ours to write otherwise.
fn check_key(key: &str, path: &str, problems: &mut Vec<ProfileProblem>) {
    let (domain, name) = key
        .split_once('/')
        .map_or((None, key), |(domain, name)| (Some(domain), name));
    let ends = |edge: Option<char>| edge.is_some_and(|edge| edge.is_ascii_alphanumeric());
    let fits = name.len() <= 63
        && ends(name.chars().next())
        && ends(name.chars().next_back())
        && name
            .chars()
            .all(|part| part.is_ascii_alphanumeric() || matches!(part, '-' | '_' | '.'))
        && domain.is_none_or(parameter::format::is_dns_subdomain);
    if !fits {
        problems.push(ProfileProblem::new(
            format!("{path}.{key}"),
            "this is no key: at most 63 letters, digits, '-', '_' and '.', after a domain and a '/' or not",
        ));
    }
    if domain.is_some_and(|domain| domain == "outrigger.dev" || domain.ends_with(".outrigger.dev"))
    {
        problems.push(ProfileProblem::new(
            format!("{path}.{key}"),
            "keys below outrigger.dev ask for injection or tell of it; a profile cannot set them",
        ));
    }
}

type Entries = [(String, Template)];

fn mappings<'t>(list: &'t Template, path: &str) -> Vec<(String, &'t Entries)> {
    let Template::List(items) = list else {
        return Vec::new();
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| match item {
            Template::Mapping(mapping) => {
                Some((format!("{path}[{index}]"), mapping.entries.as_slice()))
            }
            _ => None,
        })
        .collect()
}

impl Profile {
    /// The value that a parameter has when nobody sets it.
    pub fn default_of(&self, index: usize) -> Option<&Value> {
        self.parameters
            .get(index)
            .and_then(|parameter| parameter.default.as_ref())
    }
}
