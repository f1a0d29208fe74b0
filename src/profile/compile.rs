//! From document to compiled profile.

mod check;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::document::{
    Allow, Document, HostNetwork, Match, Position, ProfileError, ProfileProblem, Spec, Validation,
    Warning,
};
use super::expression::{Expression, Names, Reads};
use super::parameter::{self, Parameter, Value};
use crate::yaml::{self, locate::Places};
use check::{check_body, check_privileges};

use super::file::FileTemplate;
use super::template::{Compiler, Place, Template};

/// The source of a profile that is compiled into the binary.
pub const BUILT_IN: &str = "built-in";
/// The source of a profile that is an object of the cluster.
pub const CLUSTER: &str = "cluster";

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
    /// Where it was read from: [`BUILT_IN`], a file, [`CLUSTER`].
    pub source: String,
    /// The text it was read from.
    pub text: String,
    /// The line of its source on which that text begins, from 1.
    pub line: usize,
    /// Its parameters, in order of declaration.
    pub parameters: Vec<Parameter>,
    /// The names its expressions use.
    pub names: Names,
    /// Which pods get it without asking.
    pub selector: Option<Match>,
    /// In which namespaces it may be used.
    pub allow: Option<Allow>,
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
    pub files: Vec<FileTemplate>,
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
                Ok(tree) => match Self::from_tree(source, document, piece.line, &tree) {
                    Ok(profile) => profiles.push(profile),
                    Err(error) => errors.push(error),
                },
                Err(error) => errors.push(no_yaml(source, error.below(piece.line))),
            }
        }
        (profiles, errors)
    }

    /// Compiles the one profile in a YAML text.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path and its place in the text.
    pub fn parse(source: &str, text: &str) -> Result<Self, ProfileError> {
        let tree = yaml::read(text).map_err(|error| no_yaml(source, error))?;
        Self::from_tree(source, text, 1, &tree)
    }

    /// Where in its source the value at `path` stands, or the nearest one around it: a path as problems have it.
    pub fn position(&self, path: &str) -> Option<Position> {
        let position = Places::of(&self.text).find(path)?;
        Some(position.below(self.line))
    }

    /// Compiles a profile that comes as a tree, as an object of the cluster does. `text` is what it is shown as.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path.
    pub fn from_object(source: &str, text: &str, tree: &Json) -> Result<Self, ProfileError> {
        Self::from_tree(source, text, 1, tree)
    }

    /// `line`: that of the source on which the text begins.
    fn from_tree(source: &str, text: &str, line: usize, tree: &Json) -> Result<Self, ProfileError> {
        let name = tree
            .pointer("/metadata/name")
            .and_then(Json::as_str)
            .map(str::to_owned);
        let refuse = |mut problems: Vec<ProfileProblem>| {
            let places = Places::of(text);
            for problem in &mut problems {
                problem.position = places
                    .find(&problem.path)
                    .map(|position| position.below(line));
            }
            problems.sort_by_key(|problem| problem.position);
            ProfileError {
                source: source.to_owned(),
                name: name.clone(),
                problems,
            }
        };
        let document = Document::decode(tree).map_err(refuse)?;
        with_room(|| compile(source, text, line, document))
            .unwrap_or_else(|| Err(vec![ProfileProblem::new("", "the compiler failed on it")]))
            .map_err(refuse)
    }
}

fn no_yaml(source: &str, error: yaml::Error) -> ProfileError {
    let position = error.line.map(|line| Position {
        line,
        column: error.column.unwrap_or(1),
    });
    let message = format!("this is no YAML: {}", error.message);
    ProfileError {
        source: source.to_owned(),
        name: None,
        problems: vec![ProfileProblem {
            position,
            ..ProfileProblem::new("", message)
        }],
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

fn compile(
    source: &str,
    text: &str,
    line: usize,
    document: Document,
) -> Result<Profile, Vec<ProfileProblem>> {
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
            .map(|(name, tree)| FileTemplate::compile(name, tree, &mut compiler))
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
    check_privileges(&body, spec.allow.as_ref(), &mut problems);

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
        line,
        parameters,
        names,
        selector: spec.r#match,
        allow: spec.allow,
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
    let mut waiting: Vec<Waiting<'s>> = variables
        .iter()
        .map(|(name, tree)| Waiting {
            name,
            tree,
            uses: variables_named(&tree.to_string()),
        })
        .collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .position(|one| !waiting.iter().any(|other| one.uses.contains(other.name)));
        match ready {
            Some(index) => {
                let Waiting { name, tree, .. } = waiting.remove(index);
                ordered.push((name, tree));
            }
            None => {
                let names: Vec<_> = waiting.iter().map(|one| one.name.as_str()).collect();
                problems.push(ProfileProblem::new(
                    "spec.variables",
                    format!("these use each other in a circle: {}", names.join(", ")),
                ));
                ordered.extend(waiting.drain(..).map(|one| (one.name, one.tree)));
            }
        }
    }
    ordered
}

/// A variable that has no place yet.
struct Waiting<'s> {
    name: &'s String,
    tree: &'s Json,
    /// The names of variables that stand in it.
    uses: BTreeSet<String>,
}

/// The words that stand behind `variables.` in a text.
fn variables_named(text: &str) -> BTreeSet<String> {
    text.match_indices("variables.")
        .map(|(start, word)| {
            text[start + word.len()..]
                .chars()
                .take_while(|next| next.is_ascii_alphanumeric() || *next == '_')
                .collect()
        })
        .collect()
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

impl Profile {
    /// The value that a parameter has when nobody sets it.
    pub fn default_of(&self, index: usize) -> Option<&Value> {
        self.parameters
            .get(index)
            .and_then(|parameter| parameter.default.as_ref())
    }
}
