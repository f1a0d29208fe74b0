//! `outrigger profile new`: a profile to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;

use crate::profile::Profile;
use crate::profile::parameter::is_dns_label;

/// The profile, with [`PLACEHOLDER`] for its name.
const STARTER: &str = include_str!("starter.yaml");

/// Stands for the name. No YAML, no comment and no name holds it otherwise.
const PLACEHOLDER: &str = "PROFILE_NAME";

/// Writes the profile to a file that does not exist yet, or to `out`.
///
/// # Errors
/// A name that a profile cannot have, a file that exists or that cannot be written.
pub(super) fn new(name: &str, path: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = starter(name)?;
    let Some(path) = path else {
        out.write_all(text.as_bytes())?;
        return Ok(());
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "--output {}: the file exists already, and is not overwritten",
                path.display()
            ),
            _ => anyhow::Error::new(error)
                .context(format!("--output {}: cannot be written", path.display())),
        })?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("--output {}: cannot be written", path.display()))
}

/// The starting profile under a name.
///
/// # Errors
/// A name that a profile cannot have.
fn starter(name: &str) -> anyhow::Result<String> {
    // Before it becomes part of a text: a label can neither end a comment nor begin a mapping.
    anyhow::ensure!(
        is_dns_label(name),
        "NAME: given {name:?}, expected a DNS label: at most 63 lower-case letters, digits and '-'"
    );
    let text = STARTER.replace(PLACEHOLDER, name);
    // Names that are labels but have a meaning of their own, or read as another type: the loader knows them.
    Profile::parse("the new profile", &text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indexmap::IndexMap;
    use serde_json::{Value as Json, json};

    use super::{PLACEHOLDER, STARTER, starter};
    use crate::cli::profile::example::{Answer, Example};
    use crate::profile::Profile;
    use crate::profile::document::{
        Allow, Application, HostNetwork, LabelSelector, Match, PodAdditions, Spec, Validation,
        Warning,
    };
    use crate::profile::parameter::Kind;

    #[test]
    fn the_starting_profile_is_good_and_its_example_has_no_warnings() {
        let text = starter("status-page").unwrap();
        assert!(!text.contains(PLACEHOLDER));
        let profile = Arc::new(Profile::parse("new", &text).unwrap());
        assert_eq!(profile.name, "status-page");
        let example = Example::of(&profile).unwrap();
        let Answer::Injected {
            pod,
            adds,
            warnings,
        } = example.answer
        else {
            panic!("{:?}", example.answer);
        };
        assert_eq!(warnings, Vec::<String>::new());
        let kinds: Vec<_> = adds.iter().map(|addition| addition.what).collect();
        assert_eq!(
            kinds,
            [
                "sidecars",
                "volumes",
                "files",
                "environment of the application",
                "annotations"
            ]
        );
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(sidecar["args"], json!(["-f", "-p", "8089", "-h", "/srv"]));
        let file = &pod["metadata"]["annotations"]["files.outrigger.dev/status-page.status.json"];
        let file: Json = serde_json::from_str(file.as_str().unwrap()).unwrap();
        assert_eq!(
            file,
            json!({"title": "Shop", "environment": "production", "weight": 0.5, "links": [], "containers": ["app"]})
        );
    }

    #[test]
    fn a_name_that_no_profile_can_have_is_refused() {
        for name in [
            "",
            "A",
            "a b",
            "a\nkind: x",
            "a.b",
            "files",
            "none",
            "true",
            "12",
            "null",
        ] {
            assert!(starter(name).is_err(), "{name:?}");
        }
    }

    /// Written out field by field, so that a field that the language gets later does not compile here until the
    /// starting profile has it as well.
    #[test]
    fn the_starting_profile_shows_every_field_of_the_language() {
        let selector = || LabelSelector {
            match_labels: IndexMap::from([("a".to_owned(), "b".to_owned())]),
            match_expressions: Vec::new(),
        };
        let something = || json!([1]);
        let spec = Spec {
            summary: "s".to_owned(),
            description: Some("d".to_owned()),
            parameters: IndexMap::from([(
                "a".to_owned(),
                serde_json::from_value(json!({"type": "string", "description": "d"})).unwrap(),
            )]),
            r#match: Some(Match {
                pod_selector: Some(selector()),
                namespace_selector: Some(selector()),
            }),
            allow: Some(Allow {
                namespace_selector: selector(),
            }),
            host_network: HostNetwork::Allow,
            variables: IndexMap::from([("a".to_owned(), something())]),
            validations: vec![Validation {
                expression: "e".to_owned(),
                message: "m".to_owned(),
                parameter: Some("p".to_owned()),
            }],
            warnings: vec![Warning {
                when: "w".to_owned(),
                message: "m".to_owned(),
            }],
            init_containers: something(),
            containers: something(),
            volumes: something(),
            files: IndexMap::from([("a".to_owned(), something())]),
            shares: something(),
            application: Application {
                containers: something(),
                env: something(),
                volume_mounts: something(),
            },
            pod: PodAdditions {
                labels: something(),
                annotations: something(),
                image_pull_secrets: something(),
                host_aliases: something(),
                share_process_namespace: something(),
            },
        };
        let tree = serde_json::to_value(spec).unwrap();
        let top = tree.as_object().unwrap();
        let below = ["application", "pod", "match", "allow"]
            .map(|field| top[field].as_object().unwrap().keys());
        let rules =
            ["validations", "warnings"].map(|field| top[field][0].as_object().unwrap().keys());
        let fields = below.into_iter().chain(rules).flatten().chain(top.keys());
        // A section that is commented out counts: it is shown.
        let shown = |field: &str| {
            STARTER.lines().any(|line| {
                line.trim_start_matches([' ', '#', '-'])
                    .starts_with(&format!("{field}:"))
            })
        };
        let absent: Vec<_> = fields.filter(|field| !shown(field)).collect();
        assert!(absent.is_empty(), "{absent:?}");
    }

    #[test]
    fn the_starting_profile_has_a_parameter_of_each_type() {
        let tree = crate::yaml::read(STARTER).unwrap();
        let parameters = tree["spec"]["parameters"].as_object().unwrap();
        for kind in [
            Kind::String,
            Kind::Integer,
            Kind::Number,
            Kind::Boolean,
            Kind::Array,
        ] {
            let kind = serde_json::to_value(kind).unwrap();
            assert!(
                parameters.values().any(|declared| declared["type"] == kind),
                "{kind}"
            );
        }
    }
}
