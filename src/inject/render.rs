//! From a profile and parameters to the fragments that go into the pod.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::SidecarMode;
use super::decide::Instance;
use super::fragment::{
    ContainerFragment, EnvFragment, File, ForApplication, Fragments, HostAlias, MountFragment,
    Position, Role, ShareFragment, VolumeFragment,
};
use super::parameters::{self, Resolved};
use super::problem::{Code, Problem};
use super::status::Record;
use crate::profile::Profile;
use crate::profile::compile::{Rule, Share, Variable};
use crate::profile::expression::{RequestScope, Scope, json_to_cel};
use crate::profile::privilege;
use crate::profile::strict::{self, Type};
use crate::profile::template::{RenderError, Template};

/// Renders one instance. `None` if there were problems, which are then added.
pub fn render(
    instance: &Instance<'_>,
    resolved: &Resolved,
    request: &RequestScope<'_>,
    mode: SidecarMode,
    problems: &mut Vec<Problem>,
) -> Option<Fragments> {
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
    match body(profile, &scope, mode) {
        Ok(fragments) => Some(fragments),
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
                json_to_cel(template.render(scope, &path())?.unwrap_or(Json::Null))
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

fn body(profile: &Profile, scope: &Scope<'_>, mode: SidecarMode) -> Result<Fragments, Fault> {
    let body = &profile.body;
    let mut fragments = Fragments::default();
    for (index, rule) in body.warnings.iter().enumerate() {
        let path = format!("spec.warnings[{index}]");
        if rule
            .condition
            .boolean(scope)
            .map_err(|error| Fault(format!("{path}.when: {error}")))?
        {
            let text = message(rule, scope, &format!("{path}.message"))?;
            fragments
                .warnings
                .push(format!("{}: {text}", scope.instance));
        }
    }
    let judge = Judge {
        powers: profile.allow.is_some(),
    };
    for (mut json, path) in list(&body.init_containers, scope, "spec.initContainers")? {
        let position = position(&mut json, &path)?;
        let sidecar = json.get("restartPolicy").and_then(Json::as_str) == Some("Always");
        let role = if sidecar && mode == SidecarMode::Container {
            Role::StandIn
        } else {
            Role::Init(position)
        };
        let container = judge.container(role, json, &path)?;
        fragments.init_containers.push(container);
    }
    for (json, path) in list(&body.containers, scope, "spec.containers")? {
        let container = judge.container(Role::Ordinary, json, &path)?;
        fragments.containers.push(container);
    }
    for (json, path) in list(&body.volumes, scope, "spec.volumes")? {
        fragments.volumes.push(judge.volume(&json, &path)?);
    }
    for file in &body.files {
        let Some(content) = file.render(scope)? else {
            continue;
        };
        fragments
            .files
            .push(File::new(scope.instance, &file.name, content));
    }
    fragments.files_volume = files_volume(scope.instance, &fragments.files);
    for (json, path) in list(&body.shares, scope, "spec.shares")? {
        let share: Share = decode(&json, &path)?;
        fragments
            .shares
            .push(ShareFragment::new(scope.instance, share));
    }
    if let Some(names) = body
        .application_containers
        .render(scope, "spec.application.containers")?
    {
        fragments.application_containers = Some(decode(&names, "spec.application.containers")?);
    }
    fragments.env = for_application(
        Type::EnvVar,
        &body.env,
        scope,
        "spec.application.env",
        |json| Ok(EnvFragment::new(json)),
    )?;
    fragments.mounts = for_application(
        Type::VolumeMount,
        &body.volume_mounts,
        scope,
        "spec.application.volumeMounts",
        |json| MountFragment::new(&json),
    )?;
    fragments.labels = pairs(&body.labels, scope, "spec.pod.labels")?;
    fragments.annotations = pairs(&body.annotations, scope, "spec.pod.annotations")?;
    for (json, path) in list(&body.image_pull_secrets, scope, "spec.pod.imagePullSecrets")? {
        check(Type::LocalObjectReference, &json, &path)?;
        let name = json["name"].as_str().unwrap_or_default();
        fragments.image_pull_secrets.push(name.to_owned());
    }
    for (json, path) in list(&body.host_aliases, scope, "spec.pod.hostAliases")? {
        check(Type::HostAlias, &json, &path)?;
        let text = json.to_string();
        fragments.host_aliases.push(HostAlias { json, text });
    }
    let path = "spec.pod.shareProcessNamespace";
    fragments.share_process_namespace = match body.share_process_namespace.render(scope, path)? {
        Some(value) => Some(decode(&value, path)?),
        None => None,
    };
    fragments.record = record(profile, scope.instance, &fragments).into();
    Ok(fragments)
}

/// What the fragments add by name.
fn record(profile: &Profile, instance: &str, fragments: &Fragments) -> Record {
    let named = |init: bool| {
        fragments
            .all_containers()
            .filter(|container| matches!(container.role, Role::Init(_)) == init)
            .map(|container| container.name().to_owned())
            .collect()
    };
    let volumes = fragments.volumes.iter().chain(&fragments.files_volume);
    Record {
        instance: instance.to_owned(),
        profile: profile.name.clone(),
        revision: profile.revision.clone(),
        init_containers: named(true),
        containers: named(false),
        volumes: volumes.map(|volume| volume.name.clone()).collect(),
        files: fragments
            .files
            .iter()
            .map(|file| file.name.clone())
            .collect(),
    }
}

/// The volume through which containers see the files.
fn files_volume(instance: &str, files: &[File]) -> Option<VolumeFragment> {
    let items: Vec<Json> = files
        .iter()
        .map(|file| {
            let field = format!("metadata.annotations['{}']", file.key);
            json!({"path": file.name, "fieldRef": {"apiVersion": "v1", "fieldPath": field}})
        })
        .collect();
    (!items.is_empty()).then(|| {
        let name = format!("{instance}-files");
        VolumeFragment::new(&json!({"name": name, "downwardAPI": {"items": items}}))
    })
}

/// What an expression gave may be what could not be seen when the profile was loaded: something that the API
/// server will not decode, or a power over the node.
struct Judge {
    /// Whether the profile may give powers over the node.
    powers: bool,
}

impl Judge {
    fn container(
        &self,
        role: Role,
        mut json: Json,
        path: &str,
    ) -> Result<ContainerFragment, Fault> {
        check(Type::Container, &json, path)?;
        if !self.powers
            && let Some(power) = privilege::of_container(&json, path).into_iter().next()
        {
            return Err(Fault(power.to_string()));
        }
        if let (Role::StandIn, Some(object)) = (&role, json.as_object_mut()) {
            object.shift_remove("restartPolicy");
        }
        ContainerFragment::new(role, &json).map_err(|error| misfit(path, &error, &json))
    }

    fn volume(&self, json: &Json, path: &str) -> Result<VolumeFragment, Fault> {
        check(Type::Volume, json, path)?;
        match privilege::of_volume(json, path).filter(|_| !self.powers) {
            None => Ok(VolumeFragment::new(json)),
            Some(power) => Err(Fault(power.to_string())),
        }
    }
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

/// Items for the pod's own containers. The API server will be able to decode them: unknown fields were refused when
/// the profile was loaded; here it is the values that were not known then.
fn for_application<I>(
    kind: Type,
    template: &Template,
    scope: &Scope<'_>,
    path: &str,
    item: impl Fn(Json) -> Result<I, serde_json::Error>,
) -> Result<Vec<ForApplication<I>>, Fault> {
    let mut items = Vec::new();
    for (mut json, path) in list(template, scope, path)? {
        let containers = match json
            .as_object_mut()
            .and_then(|object| object.shift_remove("containers"))
        {
            Some(names) => Some(decode(&names, &format!("{path}.containers"))?),
            None => None,
        };
        check(kind, &json, &path)?;
        let item = item(json).map_err(|error| Fault(format!("{path}: {error}")))?;
        items.push(ForApplication { containers, item });
    }
    Ok(items)
}

fn decode<T: DeserializeOwned>(json: &Json, path: &str) -> Result<T, Fault> {
    strict::decode(json).map_err(|error| misfit(path, &error, json))
}

fn check(kind: Type, json: &Json, path: &str) -> Result<(), Fault> {
    kind.check(json).map_err(|error| misfit(path, &error, json))
}

fn misfit(path: &str, error: &serde_json::Error, json: &Json) -> Fault {
    Fault(format!("{path}: {error}; given {json}"))
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
