//! The file is what the types give, and that is a schema which Kubernetes takes.

use std::path::Path;
use std::{env, fs};

use serde_json::{Value as Json, json};

use super::YAML;
use super::schema::definition;
use crate::manifest;

const FILE: &str = "charts/outrigger/files/crd.yaml";

/// `UPDATE_GOLDENS=1` writes the file.
#[test]
fn the_file_is_what_the_types_give() {
    let made = manifest::to_yaml(&definition()).unwrap();
    if env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        return fs::write(path, made).unwrap();
    }
    assert!(
        made == YAML,
        "{FILE} is stale: write it anew with `UPDATE_GOLDENS=1 cargo test --lib crd`\n{}",
        diffy::DiffOptions::new()
            .set_original_filename("the file")
            .set_modified_filename("what the types give")
            .create_patch(YAML, &made)
    );
}

fn spec() -> Json {
    let definition = definition();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Every place of a schema, with its path.
fn places<'s>(schema: &'s Json, path: &str, found: &mut Vec<(String, &'s Json)>) {
    found.push((path.to_owned(), schema));
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        places(inner, &format!("{path}.{name}"), found);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner_schema) = schema.get(inner) {
            places(inner_schema, &format!("{path}.{inner}"), found);
        }
    }
}

#[test]
fn the_schema_is_structural() {
    let spec = spec();
    let mut found = Vec::new();
    places(&spec, "spec", &mut found);
    assert!(found.len() > 60, "{}", found.len());
    for (path, schema) in found {
        let typed = schema["type"].is_string();
        let kept = schema["x-kubernetes-preserve-unknown-fields"] == true;
        assert!(typed || kept, "{path} has no type: {schema}");
        for key in [
            "anyOf", "oneOf", "allOf", "$ref", "default", "nullable", "title",
        ] {
            assert!(schema.get(key).is_none(), "{path} has {key}");
        }
        if schema.get("properties").is_some() {
            assert!(kept, "{path} would prune");
            assert!(
                schema.get("additionalProperties").is_none(),
                "{path} has both"
            );
        }
        if path.matches('.').count() == 1 {
            assert!(schema["description"].is_string(), "{path} is not described");
        }
    }
}

#[test]
fn words_of_the_language_are_enumerated() {
    let spec = spec();
    let parameter = &spec["properties"]["parameters"]["additionalProperties"];
    assert_eq!(
        parameter["properties"]["settableBy"]["enum"],
        json!(["Pod", "Namespace", "Admin"])
    );
    assert_eq!(
        parameter["properties"]["type"]["enum"],
        json!(["string", "integer", "number", "boolean", "array"])
    );
    assert_eq!(parameter["required"], json!(["type", "description"]));
    assert_eq!(
        spec["properties"]["hostNetwork"]["enum"],
        json!(["Refuse", "Allow"])
    );
    assert_eq!(spec["required"], json!(["summary"]));
    let containers = &spec["properties"]["initContainers"];
    assert_eq!(containers["x-kubernetes-preserve-unknown-fields"], true);
    assert!(containers.get("type").is_none());
}
