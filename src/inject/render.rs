//! From a profile and parameters to the fragments that go into the pod.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, LocalObjectReference, Volume, VolumeMount,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::decide::Instance;
use super::parameters::{self, Resolved};
use super::problem::{Code, Problem};
use crate::profile::Profile;
use crate::profile::compile::{Rule, Share, Variable};
use crate::profile::expression::{RequestScope, Scope, json_to_cel};
use crate::profile::privilege;
use crate::profile::template::{RenderError, Template};

/// Where an init container stands among the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Position {
    /// In its profile's block, before the pod's own.
    #[default]
    Block,
    /// Before all others.
    First,
    /// After all others.
    Last,
    /// Before the container of that name.
    Before(String),
    /// After the container of that name.
    After(String),
}

/// An init container or native sidecar.
#[derive(Debug, Clone)]
pub struct InitContainer {
    /// Its JSON.
    pub json: Json,
    /// Where it stands.
    pub position: Position,
}

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the volume.
    pub name: String,
    /// The annotation that holds its content.
    pub key: String,
    /// Its content.
    pub content: String,
}

/// Something that some of the pod's own containers receive.
#[derive(Debug, Clone)]
pub struct ForApplication {
    /// The containers meant, where the item says; else those of the instance.
    pub containers: Option<Vec<String>>,
    /// The variable or mount.
    pub json: Json,
}

/// Everything that one instance adds, before its place in the pod is known.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// Init containers and native sidecars, in order.
    pub init_containers: Vec<InitContainer>,
    /// Ordinary containers.
    pub containers: Vec<Json>,
    /// Volumes.
    pub volumes: Vec<Json>,
    /// Generated files, in the order of the profile.
    pub files: Vec<File>,
    /// Shared directories.
    pub shares: Vec<Share>,
    /// The pod's containers that receive `env` and `mounts`; all ordinary ones if absent.
    pub application_containers: Option<Vec<String>>,
    /// Environment of the pod's containers.
    pub env: Vec<ForApplication>,
    /// Mounts of the pod's containers.
    pub mounts: Vec<ForApplication>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
    /// Image pull secrets.
    pub image_pull_secrets: Vec<Json>,
    /// Host aliases.
    pub host_aliases: Vec<Json>,
    /// One process namespace.
    pub share_process_namespace: Option<bool>,
    /// Advice.
    pub warnings: Vec<String>,
}

impl Rendered {
    /// Whether it adds something by whose name it can be known again.
    pub fn has_parts(&self) -> bool {
        !(self.init_containers.is_empty()
            && self.containers.is_empty()
            && self.volumes.is_empty()
            && self.files.is_empty())
    }
}

/// Renders one instance. `None` if there were problems, which are then added.
pub fn render(
    instance: &Instance<'_>,
    resolved: &Resolved,
    request: &RequestScope<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Rendered> {
    let profile = &instance.entry.profile;
    let mut scope = Scope {
        instance: &instance.name,
        names: &profile.names,
        parameters: &resolved.values,
        variables: Vec::with_capacity(profile.body.variables.len()),
        request,
    };
    let fault = |error: Fault| {
        Problem::new(
            Code::ProfileFault,
            format!(
                "the profile {:?} (an administrator must mend it)",
                profile.name
            ),
            error.0,
        )
    };
    if let Err(error) = evaluate_variables(profile, &mut scope) {
        problems.push(fault(error));
        return None;
    }
    match broken_rules(profile, instance, &scope) {
        Ok(broken) if broken.is_empty() => {}
        Ok(broken) => {
            problems.extend(broken);
            return None;
        }
        Err(error) => {
            problems.push(fault(error));
            return None;
        }
    }
    match body(profile, &scope) {
        Ok(rendered) => Some(rendered),
        Err(error) => {
            problems.push(fault(error));
            None
        }
    }
}

/// What is wrong with a profile that compiled but does not render.
struct Fault(String);

impl From<RenderError> for Fault {
    fn from(error: RenderError) -> Self {
        Self(error.to_string())
    }
}

fn evaluate_variables(profile: &Profile, scope: &mut Scope<'_>) -> Result<(), Fault> {
    for (variable, name) in profile.body.variables.iter().zip(&profile.names.variables) {
        let path = || format!("spec.variables.{name}");
        let value = match variable {
            Variable::Expression(expression) => expression
                .evaluate(scope)
                .map_err(|error| Fault(format!("{}: {error}", path())))?,
            Variable::Template(template) => {
                json_to_cel(&template.render(scope, &path())?.unwrap_or(Json::Null))
            }
        };
        scope.variables.push(value);
    }
    Ok(())
}

fn message(rule: &Rule, scope: &Scope<'_>, path: &str) -> Result<String, Fault> {
    match rule.message.render(scope, path)? {
        Some(Json::String(text)) => Ok(text),
        other => Err(Fault(format!(
            "{path}: gives {}, expected text",
            other.unwrap_or(Json::Null)
        ))),
    }
}

fn broken_rules(
    profile: &Profile,
    instance: &Instance<'_>,
    scope: &Scope<'_>,
) -> Result<Vec<Problem>, Fault> {
    let mut broken = Vec::new();
    for (index, rule) in profile.body.validations.iter().enumerate() {
        let path = format!("spec.validations[{index}]");
        let holds = rule
            .condition
            .boolean(scope)
            .map_err(|error| Fault(format!("{path}.expression: {error}")))?;
        if !holds {
            let subject = match rule
                .parameter
                .and_then(|index| profile.parameters.get(index))
            {
                Some(parameter) => parameters::key(&instance.name, parameter),
                None => format!("{}.outrigger.dev", instance.name),
            };
            broken.push(Problem::new(
                Code::Rule,
                subject,
                message(rule, scope, &format!("{path}.message"))?,
            ));
        }
    }
    Ok(broken)
}

fn body(profile: &Profile, scope: &Scope<'_>) -> Result<Rendered, Fault> {
    let body = &profile.body;
    let mut rendered = Rendered::default();
    for (index, rule) in body.warnings.iter().enumerate() {
        let path = format!("spec.warnings[{index}]");
        if rule
            .condition
            .boolean(scope)
            .map_err(|error| Fault(format!("{path}.when: {error}")))?
        {
            rendered
                .warnings
                .push(message(rule, scope, &format!("{path}.message"))?);
        }
    }
    for (mut json, path) in list(&body.init_containers, scope, "spec.initContainers")? {
        let position = position(&mut json, &path)?;
        decode::<Container>(&json, &path)?;
        rendered
            .init_containers
            .push(InitContainer { json, position });
    }
    rendered.containers = typed_list::<Container>(&body.containers, scope, "spec.containers")?;
    rendered.volumes = typed_list::<Volume>(&body.volumes, scope, "spec.volumes")?;
    for file in &body.files {
        let Some(content) = file.render(scope)? else {
            continue;
        };
        rendered.files.push(File {
            name: file.name.clone(),
            key: format!("files.outrigger.dev/{}.{}", scope.instance, file.name),
            content,
        });
    }
    for (json, path) in list(&body.shares, scope, "spec.shares")? {
        rendered.shares.push(decode(&json, &path)?);
    }
    if let Some(names) = body
        .application_containers
        .render(scope, "spec.application.containers")?
    {
        rendered.application_containers = Some(decode(&names, "spec.application.containers")?);
    }
    rendered.env = for_application::<EnvVar>(&body.env, scope, "spec.application.env")?;
    rendered.mounts = for_application::<VolumeMount>(
        &body.volume_mounts,
        scope,
        "spec.application.volumeMounts",
    )?;
    rendered.labels = pairs(&body.labels, scope, "spec.pod.labels")?;
    rendered.annotations = pairs(&body.annotations, scope, "spec.pod.annotations")?;
    rendered.image_pull_secrets = typed_list::<LocalObjectReference>(
        &body.image_pull_secrets,
        scope,
        "spec.pod.imagePullSecrets",
    )?;
    rendered.host_aliases =
        typed_list::<HostAlias>(&body.host_aliases, scope, "spec.pod.hostAliases")?;
    let path = "spec.pod.shareProcessNamespace";
    rendered.share_process_namespace = match body.share_process_namespace.render(scope, path)? {
        Some(value) => Some(decode(&value, path)?),
        None => None,
    };
    if profile.allow.is_none() {
        check_privileges(&rendered)?;
    }
    Ok(rendered)
}

/// What an expression gave may be what could not be seen when the profile was loaded.
fn check_privileges(rendered: &Rendered) -> Result<(), Fault> {
    let init = rendered.init_containers.iter().enumerate();
    let found = init
        .map(|(index, container)| (&container.json, format!("spec.initContainers[{index}]")))
        .chain(at("spec.containers", &rendered.containers))
        .flat_map(|(container, path)| privilege::of_container(container, &path))
        .chain(
            at("spec.volumes", &rendered.volumes)
                .filter_map(|(volume, path)| privilege::of_volume(volume, &path)),
        )
        .next();
    match found {
        None => Ok(()),
        Some(problem) => Err(Fault(problem.to_string())),
    }
}

fn at<'j>(path: &str, items: &'j [Json]) -> impl Iterator<Item = (&'j Json, String)> {
    items
        .iter()
        .enumerate()
        .map(move |(index, item)| (item, format!("{path}[{index}]")))
}

fn list(template: &Template, scope: &Scope<'_>, path: &str) -> Result<Vec<(Json, String)>, Fault> {
    match template.render(scope, path)? {
        None => Ok(Vec::new()),
        Some(Json::Array(items)) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (item, format!("{path}[{index}]")))
            .collect()),
        Some(other) => Err(Fault(format!("{path}: gives {other}, expected a list"))),
    }
}

/// A list whose items the API server will be able to decode. Unknown fields were refused when the profile
/// was loaded; here it is the values that were not known then.
fn typed_list<T: DeserializeOwned>(
    template: &Template,
    scope: &Scope<'_>,
    path: &str,
) -> Result<Vec<Json>, Fault> {
    let mut items = Vec::new();
    for (json, path) in list(template, scope, path)? {
        decode::<T>(&json, &path)?;
        items.push(json);
    }
    Ok(items)
}

fn for_application<T: DeserializeOwned>(
    template: &Template,
    scope: &Scope<'_>,
    path: &str,
) -> Result<Vec<ForApplication>, Fault> {
    let mut items = Vec::new();
    for (mut json, path) in list(template, scope, path)? {
        let containers = match json
            .as_object_mut()
            .and_then(|object| object.shift_remove("containers"))
        {
            Some(names) => Some(decode(&names, &format!("{path}.containers"))?),
            None => None,
        };
        decode::<T>(&json, &path)?;
        items.push(ForApplication { containers, json });
    }
    Ok(items)
}

fn decode<T: DeserializeOwned>(json: &Json, path: &str) -> Result<T, Fault> {
    T::deserialize(json).map_err(|error| Fault(format!("{path}: {error}; given {json}")))
}

fn pairs(
    template: &Template,
    scope: &Scope<'_>,
    path: &str,
) -> Result<Vec<(String, String)>, Fault> {
    #[derive(Deserialize)]
    struct Strings(indexmap::IndexMap<String, String>);
    match template.render(scope, path)? {
        None => Ok(Vec::new()),
        Some(json) => Ok(decode::<Strings>(&json, path)?.0.into_iter().collect()),
    }
}

fn position(json: &mut Json, path: &str) -> Result<Position, Fault> {
    let Some(value) = json
        .as_object_mut()
        .and_then(|object| object.shift_remove("position"))
    else {
        return Ok(Position::Block);
    };
    let parsed = value.as_str().and_then(|text| match text.split_once(':') {
        None if text == "first" => Some(Position::First),
        None if text == "last" => Some(Position::Last),
        Some(("before", name)) => Some(Position::Before(name.trim().to_owned())),
        Some(("after", name)) => Some(Position::After(name.trim().to_owned())),
        _ => None,
    });
    parsed.ok_or_else(|| {
        Fault(format!("{path}.position: given {value}, expected first, last, \"before: NAME\" or \"after: NAME\""))
    })
}
