//! The definition made from the types that read a profile.
//!
//! Two things differ from a schema as others generate it. Fields that the schema does not know are kept
//! (`x-kubernetes-preserve-unknown-fields` on every object) instead of being pruned: a misspelt `settableBy` would
//! vanish without a word and open a parameter to everybody, while our own check refuses it by name. And there are
//! no defaults: what is stored is what somebody wrote.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use super::{GROUP, PLURAL, VERSION};
use crate::profile::document::{KIND, Spec};

/// The CustomResourceDefinition.
pub(super) fn definition() -> Json {
    let mut spec = schema_of_spec();
    tidy(&mut spec);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": "sidecarprofile",
                "shortNames": ["scp"],
                "categories": ["outrigger"],
            },
            "scope": "Cluster",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {
                        "name": "Ready", "type": "string",
                        "description": "Whether its current version serves.",
                        "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status",
                    },
                    {
                        "name": "Parameters", "type": "integer",
                        "description": "How many parameters it has.",
                        "jsonPath": ".status.parameters",
                    },
                    {
                        "name": "Revision", "type": "string",
                        "description": "The revision that serves.",
                        "jsonPath": ".status.revision",
                    },
                    {
                        "name": "Reason", "type": "string", "priority": 1,
                        "description": "Why it is ready or not.",
                        "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message",
                    },
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {
                    "description": "What an administrator lets pods ask for: containers, volumes and files to add, and the parameters that annotations may set.",
                    "type": "object",
                    "required": ["spec"],
                    "properties": {"spec": spec, "status": status()},
                    "x-kubernetes-validations": [
                        {
                            "rule": "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && self.metadata.name.size() <= 63",
                            "message": "metadata.name must be a DNS label: it becomes the prefix of annotations and container names",
                        },
                        {
                            "rule": "!(self.metadata.name in ['none', 'files'])",
                            "message": "metadata.name has a meaning of its own in annotations",
                        },
                    ],
                }},
            }],
        },
    })
}

fn schema_of_spec() -> Json {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .into_generator()
        .into_root_schema_for::<Spec>()
        .to_value()
}

fn status() -> Json {
    json!({
        "description": "Written by Outrigger.",
        "type": "object",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64", "description": "The generation that this is about."},
            "revision": {"type": "string", "description": "The revision that serves; it may be of an older generation."},
            "parameters": {"type": "integer", "format": "int32", "description": "How many parameters it has."},
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": {"type": "string", "maxLength": 316},
                        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                        "message": {"type": "string", "maxLength": 32768},
                    },
                },
            },
        },
    })
}

/// Makes a schema one that Kubernetes calls structural
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).
fn tidy(schema: &mut Json) {
    match schema {
        // Anything: a template, whose types are known once it is rendered.
        Json::Bool(_) => *schema = json!({"x-kubernetes-preserve-unknown-fields": true}),
        Json::Object(object) => tidy_object(object),
        _ => {}
    }
}

fn tidy_object(object: &mut Map<String, Json>) {
    for key in ["$schema", "title", "default", "nullable"] {
        object.shift_remove(key);
    }
    // An optional value is one that may be left out.
    if let Some(Json::Array(types)) = object.get("type") {
        let kind = types.iter().find(|kind| *kind != "null").cloned();
        object.insert("type".to_owned(), kind.unwrap_or(Json::Null));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let Some(Json::Array(variants)) = object.shift_remove(key) else {
            continue;
        };
        let words: Vec<Json> = variants.iter().filter_map(word).flatten().collect();
        if !words.is_empty() {
            object.insert("type".to_owned(), "string".into());
            object.insert("enum".to_owned(), Json::Array(words));
        } else if let Some(Json::Object(variant)) =
            variants.into_iter().find(|variant| !is_null(variant))
        {
            // An optional object: itself, and its field's description.
            for (key, value) in variant {
                object.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Json::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    // Kubernetes knows no others, and says so at each apply.
    if let Some(format) = object.get_mut("format")
        && matches!(format.as_str(), Some("uint" | "uint32" | "uint64"))
    {
        *format = "int64".into();
    }
    let is_anything = object.keys().all(|key| key == "description");
    if object.contains_key("properties") || is_anything {
        object.shift_remove("additionalProperties");
        object.insert(
            "x-kubernetes-preserve-unknown-fields".to_owned(),
            true.into(),
        );
    }
    if let Some(Json::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            tidy(inner);
        }
    }
}

/// The words that a variant of an enumeration stands for.
fn word(variant: &Json) -> Option<Vec<Json>> {
    match (variant.get("const"), variant.get("enum")) {
        (Some(word), _) => Some(vec![word.clone()]),
        (None, Some(Json::Array(words))) => Some(
            words
                .iter()
                .filter(|word| !word.is_null())
                .cloned()
                .collect(),
        ),
        _ => None,
    }
}

fn is_null(variant: &Json) -> bool {
    variant.get("type").is_some_and(|kind| kind == "null")
        || variant.get("const").is_some_and(Json::is_null)
        || variant.get("enum") == Some(&json!([null]))
}
