//! Typed parameters: what an annotation may say, and nothing else.
//!
//! An annotation is text that somebody untrusted wrote. It becomes one value of a declared type, inside of
//! a declared grammar, or it is refused; it is never trimmed, guessed at or replaced by a default.

pub mod format;
pub mod host_port;
pub mod path;
pub mod quantity;
mod scalar;
pub mod text;

use std::fmt;

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use format::is_dns_label;
pub use text::{kebab_case, nearest, shown};

use scalar::Scalar;

/// The longest text of a parameter, in characters, where its declaration says nothing.
const MAX_LENGTH: u64 = 1024;
/// The same for JSON documents.
const MAX_JSON_LENGTH: u64 = 32 * 1024;
/// The most items of a list where its declaration says nothing.
const MAX_ITEMS: u64 = 64;

/// A parameter as a profile declares it, in the words of OpenAPI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSpec {
    /// Its type, and for scalars the bounds of its values.
    #[serde(flatten)]
    pub scalar: ScalarSpec,
    /// What the items of an `array` are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ScalarSpec>,
    /// The fewest items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// The most items; 64 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// The value when nobody sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// Whether somebody must set it.
    #[serde(default)]
    pub required: bool,
    /// Who may set it.
    #[serde(default)]
    pub settable_by: SettableBy,
    /// What it is for, told to a workload's author.
    pub description: String,
    /// A value: as it would stand in an annotation, or typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Json>,
    /// Fields that do not exist. A flattened struct swallows them unseen, and a misspelt `settableBy` would
    /// open a parameter to everybody, so they are caught here and refused.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, Json>,
}

/// A scalar type with its bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalarSpec {
    /// The type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The grammar of a string, or `port` for an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The only values.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Json>>,
    /// A regular expression that the whole string must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What the pattern asks for, in words: `a size in MiB, as in 64Mi`. Told instead of the pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern_message: Option<String>,
    /// The fewest characters; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// The most characters; 1024 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// The least number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The greatest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
}

/// The types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list of scalars, comma-separated in an annotation.
    Array,
}

/// Who may set a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SettableBy {
    /// The pod, its namespace, the administrator.
    #[default]
    Pod,
    /// The namespace, the administrator.
    Namespace,
    /// The administrator alone.
    Admin,
}

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    List(Vec<Value>),
}

impl Value {
    /// The value as JSON.
    pub fn to_json(&self) -> Json {
        match self {
            Self::String(text) => Json::String(text.clone()),
            Self::Integer(number) => Json::from(*number),
            Self::Number(number) => Json::from(*number),
            Self::Boolean(truth) => Json::Bool(*truth),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
        }
    }

    /// The value as it would stand in an annotation.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => Json::from(*number).to_string(),
            Self::Boolean(truth) => truth.to_string(),
            Self::List(items) => items
                .iter()
                .map(Self::to_text)
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

/// A value that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was given, safe to show.
    pub given: String,
    /// What is expected.
    pub expected: String,
    /// What exactly is wrong, where that helps.
    pub detail: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "given {}, expected {}", self.given, self.expected)?;
        self.detail
            .as_ref()
            .map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The field, relative to the parameter; empty for its name.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// A parameter that is ready to take values.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in a profile, in camelCase.
    pub name: String,
    /// Its name in an annotation, in kebab-case.
    pub kebab: String,
    /// Who may set it.
    pub settable_by: SettableBy,
    /// Whether somebody must.
    pub required: bool,
    /// The value when nobody does.
    pub default: Option<Value>,
    /// What it is for.
    pub description: String,
    /// A value, as in an annotation.
    pub example: Option<String>,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    Scalar(Scalar),
    List {
        item: Scalar,
        minimum: u64,
        maximum: u64,
    },
}

impl Parameter {
    /// Compiles a declaration.
    ///
    /// # Errors
    /// All that is wrong with it, a default or an example outside of its own grammar included.
    pub fn compile(name: &str, spec: ParameterSpec) -> Result<Self, Vec<SpecError>> {
        let mut errors = Vec::new();
        let mut refuse = |path: &str, message: String| {
            errors.push(SpecError {
                path: path.to_owned(),
                message,
            });
        };
        for field in spec.unknown.keys() {
            refuse(field, "unknown field".to_owned());
        }
        let kebab = kebab_case(name);
        if !text::is_camel_case(name) || kebab.len() > 63 {
            refuse("", "the name of a parameter is camelCase: letters and digits, beginning with a lower-case letter, no two capitals in a row".to_owned());
        }
        if matches!(name, "in" | "true" | "false" | "null") {
            refuse(
                "",
                format!("{name:?} is a word of CEL, so params.{name} could not be read"),
            );
        }
        if spec.description.trim().is_empty() {
            refuse(
                "description",
                "expected a sentence that a workload's author understands".to_owned(),
            );
        }
        let shape = match (spec.scalar.kind, &spec.items) {
            (Kind::Array, Some(items)) => {
                let extra = [
                    ("format", spec.scalar.format.is_some()),
                    ("enum", spec.scalar.values.is_some()),
                    ("pattern", spec.scalar.pattern.is_some()),
                ];
                for (field, _) in extra.into_iter().filter(|(_, given)| *given) {
                    refuse(field, "belongs into items, for an array".to_owned());
                }
                let (minimum, maximum) = (
                    spec.min_items.unwrap_or(0),
                    spec.max_items.unwrap_or(MAX_ITEMS),
                );
                if minimum > maximum {
                    refuse(
                        "minItems",
                        format!("{minimum} is above maxItems, {maximum}"),
                    );
                }
                if matches!(items.format.as_deref(), Some("json" | "regex")) {
                    refuse(
                        "items.format",
                        "may hold commas, which separate items".to_owned(),
                    );
                }
                Scalar::compile(items, "items.", &mut refuse).map(|item| Shape::List {
                    item,
                    minimum,
                    maximum,
                })
            }
            (Kind::Array, None) => {
                refuse("items", "an array says what its items are".to_owned());
                None
            }
            (_, Some(_)) => {
                refuse("items", "only an array has items".to_owned());
                None
            }
            (_, None) => Scalar::compile(&spec.scalar, "", &mut refuse).map(Shape::Scalar),
        };
        if spec.required && spec.default.is_some() {
            refuse(
                "required",
                "a parameter with a default is not required of anybody".to_owned(),
            );
        }
        let Some(shape) = shape else {
            return Err(errors);
        };
        let mut parameter = Self {
            name: name.to_owned(),
            kebab,
            settable_by: spec.settable_by,
            required: spec.required,
            default: None,
            description: spec.description,
            example: None,
            shape,
        };
        if let Some(default) = &spec.default {
            match parameter.accept(default) {
                Ok(value) => parameter.default = Some(value),
                Err(problem) => {
                    errors.push(SpecError {
                        path: "default".to_owned(),
                        message: problem.to_string(),
                    });
                }
            }
        }
        let example = spec.example.as_ref().map(|example| match example {
            Json::String(text) => parameter.parse(text),
            typed => parameter.accept(typed),
        });
        match example {
            Some(Ok(value)) => parameter.example = Some(value.to_text()),
            Some(Err(problem)) => {
                errors.push(SpecError {
                    path: "example".to_owned(),
                    message: problem.to_string(),
                });
            }
            None => {}
        }
        if errors.is_empty() {
            Ok(parameter)
        } else {
            Err(errors)
        }
    }

    /// The value that an annotation's text stands for.
    ///
    /// # Errors
    /// Text outside of the parameter's grammar.
    pub fn parse(&self, text: &str) -> Result<Value, Problem> {
        match &self.shape {
            Shape::Scalar(scalar) => scalar
                .parse(text)
                .map_err(|detail| self.problem(text, detail)),
            Shape::List {
                item,
                minimum,
                maximum,
            } => {
                let mut values: Vec<Value> = Vec::new();
                let mut seen = IndexSet::new();
                if !text.is_empty() {
                    for part in text.split(',') {
                        let part = part.trim_matches(' ');
                        if part.is_empty() {
                            return Err(self.problem(text, Some("an item is empty".to_owned())));
                        }
                        if !seen.insert(part) {
                            return Err(
                                self.problem(text, Some(format!("{} stands twice", shown(part))))
                            );
                        }
                        values.push(
                            item.parse(part)
                                .map_err(|detail| self.problem(part, detail))?,
                        );
                    }
                }
                self.count(values, *minimum, *maximum, text)
            }
        }
    }

    /// A typed value, as defaults hold it.
    ///
    /// # Errors
    /// A value of another type or outside of the grammar.
    pub fn accept(&self, value: &Json) -> Result<Value, Problem> {
        match (&self.shape, value) {
            (Shape::Scalar(scalar), value) => scalar
                .accept(value)
                .map_err(|detail| self.problem(&value.to_string(), detail)),
            (
                Shape::List {
                    item,
                    minimum,
                    maximum,
                },
                Json::Array(items),
            ) => {
                let values = items
                    .iter()
                    .map(|part| {
                        item.accept(part)
                            .map_err(|detail| self.problem(&part.to_string(), detail))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                self.count(values, *minimum, *maximum, &value.to_string())
            }
            (Shape::List { .. }, other) => {
                Err(self.problem(&other.to_string(), Some("this is no list".to_owned())))
            }
        }
    }

    fn count(
        &self,
        values: Vec<Value>,
        minimum: u64,
        maximum: u64,
        text: &str,
    ) -> Result<Value, Problem> {
        let count = values.len() as u64;
        if count < minimum || count > maximum {
            return Err(self.problem(
                text,
                Some(format!(
                    "{count} items, from {minimum} to {maximum} are allowed"
                )),
            ));
        }
        Ok(Value::List(values))
    }

    fn problem(&self, given: &str, detail: Option<String>) -> Problem {
        Problem {
            given: shown(given),
            expected: self.expected(),
            detail,
        }
    }

    /// The only values that it can have, as in an annotation; none if there is no such list.
    pub fn allowed(&self) -> impl Iterator<Item = String> {
        let (Shape::Scalar(scalar) | Shape::List { item: scalar, .. }) = &self.shape;
        scalar.values.iter().map(Value::to_text)
    }

    /// How much it may hold, in words: `at most 16 items`. Nothing where only the general bound of every text holds.
    pub fn bounds(&self) -> Option<String> {
        match &self.shape {
            Shape::Scalar(scalar) => scalar.bounds(),
            Shape::List {
                item,
                minimum,
                maximum,
            } => {
                let items = match (minimum, maximum) {
                    (0, maximum) => format!("at most {maximum} items"),
                    (1, 1) => "1 item".to_owned(),
                    (minimum, maximum) if minimum == maximum => format!("{minimum} items"),
                    (minimum, maximum) => format!("{minimum} to {maximum} items"),
                };
                Some(match item.bounds() {
                    Some(bounds) => format!("{items}, each of {bounds}"),
                    None => items,
                })
            }
        }
    }

    /// What is expected, in words: `an integer from 1 to 65535`.
    pub fn expected(&self) -> String {
        match &self.shape {
            Shape::Scalar(scalar) => scalar.expected(),
            Shape::List { item, .. } => format!("a comma-separated list, each {}", item.expected()),
        }
    }
}
