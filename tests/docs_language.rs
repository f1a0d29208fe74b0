//! `docs/profile-language.md` leaves nothing out: every field, format, variable and function that the code has is in
//! it, in backticks. The names are taken from the code.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs;
use std::path::Path;

use outrigger::profile::Profile;
use outrigger::profile::compile::Share;
use outrigger::profile::document::{
    Allow, Application, Document, HostNetwork, LabelSelector, Match, Operator, PodAdditions,
    Requirement, Spec, Validation, Warning,
};
use outrigger::profile::expression::{Expression, FUNCTIONS, Names};
use outrigger::profile::parameter::{Kind, ParameterSpec, ScalarSpec, SettableBy, format};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor, value::Error, value::MapDeserializer};

/// Asks a type for the names that it knows, and gives it nothing.
struct Asking<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Asking<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("nothing is here"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(Error::custom("nothing is here"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(variants);
        Err(Error::custom("nothing is here"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The fields of a structure, or the variants of an enumeration.
fn names<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut found = Vec::new();
    let _ = T::deserialize(Asking(&mut found));
    assert!(!found.is_empty(), "{}", std::any::type_name::<T>());
    found
}

/// The fields of a parameter. Two structures are one mapping in a document, and such a mapping does not tell its
/// fields; written out, a new one does not compile until it is here.
fn fields_of_a_parameter() -> Vec<String> {
    let scalar = ScalarSpec::deserialize(MapDeserializer::<_, Error>::new(
        [("type", "string")].into_iter(),
    ))
    .unwrap();
    let spec = ParameterSpec {
        scalar: scalar.clone(),
        items: Some(scalar),
        min_items: Some(1),
        max_items: Some(1),
        default: Some(true.into()),
        required: true,
        settable_by: SettableBy::Pod,
        description: "d".to_owned(),
        example: Some(true.into()),
        unknown: serde_json::Map::new(),
    };
    let tree = serde_json::to_value(spec).unwrap();
    tree.as_object().unwrap().keys().cloned().collect()
}

/// The names that expressions have, from the words in which an unknown one is refused.
fn roots() -> Vec<String> {
    let error = Expression::compile("nothing", &Names::default()).unwrap_err();
    let (_, list) = error.0.split_once("there are ").unwrap();
    let list = list.split(';').next().unwrap();
    list.split(", ").map(str::to_owned).collect()
}

/// The same of the fields of `request`.
fn fields_of_request() -> Vec<String> {
    let error = Expression::compile("request.nothing", &Names::default()).unwrap_err();
    let (_, list) = error.0.split_once("it has ").unwrap();
    list.split(", ")
        .map(|field| format!("request.{field}"))
        .collect()
}

/// The same of the formats of files.
fn formats_of_files() -> Vec<String> {
    let error = Profile::parse(
        "test",
        "{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: t},
          spec: {summary: s, files: {f: {format: nothing, content: c}}}}",
    )
    .unwrap_err();
    let message = &error.problems[0].message;
    let list = message.strip_prefix("expected ").unwrap();
    list.replace(" or ", ", ")
        .split(", ")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_reference_of_the_language_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/profile-language.md");
    let text = fs::read_to_string(path).unwrap();
    let fields = [
        names::<Document>(),
        names::<Spec>(),
        names::<Match>(),
        names::<Allow>(),
        names::<LabelSelector>(),
        names::<Requirement>(),
        names::<Operator>(),
        names::<HostNetwork>(),
        names::<Validation>(),
        names::<Warning>(),
        names::<Application>(),
        names::<PodAdditions>(),
        names::<Share>(),
        names::<ScalarSpec>(),
        names::<Kind>(),
        names::<SettableBy>(),
        format::names().collect(),
        FUNCTIONS.iter().map(|(name, _)| *name).collect(),
    ];
    let missing: Vec<String> = fields
        .concat()
        .into_iter()
        .map(str::to_owned)
        .chain(fields_of_a_parameter())
        .chain(roots())
        .chain(fields_of_request())
        .chain(formats_of_files())
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/profile-language.md does not mention {missing:?}"
    );
}

#[test]
fn each_format_is_described_with_its_type() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/profile-language.md");
    let text = fs::read_to_string(path).unwrap();
    for format in format::FORMATS {
        let kind = serde_json::to_value(format.kind).unwrap();
        let row = format!("| `{}` | `{}` |", format.name, kind.as_str().unwrap());
        assert!(text.contains(&row), "there is no row {row}");
    }
}

/// The codes of refusals and of skipping are written once each, in a `match`.
#[test]
fn each_code_is_in_the_reference_of_annotations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/annotations.md")).unwrap();
    let code = regex::Regex::new(r#"Self::\w+ => "(\w+)","#).unwrap();
    let mut found = 0;
    for source in ["src/inject/problem.rs", "src/inject/decide.rs"] {
        let source = fs::read_to_string(root.join(source)).unwrap();
        for captures in code.captures_iter(&source) {
            found += 1;
            let row = format!("| `{}` |", &captures[1]);
            assert!(text.contains(&row), "there is no row {row}");
        }
    }
    assert!(found > 15, "only {found} codes were found");
}

#[test]
fn the_names_are_those_of_the_language() {
    assert!(names::<Spec>().contains(&"initContainers"));
    assert!(roots().contains(&"namespaceObject".to_owned()));
    assert!(formats_of_files().contains(&"NGINX".to_owned()));
    assert!(names::<ScalarSpec>().contains(&"pattern"));
}
