//! Structured templates: YAML trees whose scalars may hold CEL in `${…}`.
//!
//! A scalar that is exactly one `${…}` becomes the expression's value with its type; inside longer text
//! the value is written as text. A value is only ever a value: it cannot add a key, an item or a line,
//! because the tree around it is serialised, never pasted. `null` drops its key or item, a mapping whose
//! `includeWhen` does not hold does the same, and `$${` is a literal `${`.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::document::ProfileProblem;
use super::expression::{Expression, Names, Reads, Scope};

/// A compiled tree.
#[derive(Debug)]
pub enum Template {
    /// A scalar without expressions, taken as it is.
    Literal(Json),
    /// Exactly one `${…}`.
    Expression(Expression, Place),
    /// Text with `${…}` inside.
    Text(Vec<Piece>, Place),
    /// A list.
    List(Vec<Template>),
    /// A mapping.
    Mapping(Mapping),
}

/// A compiled mapping.
#[derive(Debug)]
pub struct Mapping {
    /// Conditions that must all hold, else the mapping is dropped.
    include_when: Vec<Expression>,
    /// Its entries, in order.
    pub(super) entries: Vec<(String, Template)>,
}

/// A part of interpolated text.
#[derive(Debug)]
pub enum Piece {
    /// Text as written.
    Text(String),
    /// A value.
    Value(Expression),
}

/// A tree that could not be rendered: always the profile's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct RenderError {
    /// The path in the profile.
    pub path: String,
    /// What went wrong.
    pub message: String,
}

impl RenderError {
    /// The same, of a tree that contains the one in which it was found: at this path.
    fn below(self, outer: &str) -> Self {
        Self {
            path: format!("{outer}{}", self.path),
            ..self
        }
    }
}

/// What a tree is part of, which tells where the kubelet expands `$(NAME)`.
///
/// Where it does, every `$` in a value is written `$$`, which the kubelet turns back, so that a parameter is
/// never a reference to a variable of the container. Doubling only the `$` before a `(` would not do: `$$(X)`
/// would become `$$$(X)`, and two values beside each other, `$` and `(X)`, would make a reference that neither
/// holds (`third_party/forked/golang/expansion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A tree in which nothing is expanded.
    Plain,
    /// The list of containers, or one of them.
    Containers,
    /// The value of `command` or `args`.
    Expanded,
    /// The value of `env`: only each item's `value` is expanded.
    Env,
    /// The value of `volumeMounts`: only each item's `subPathExpr` is expanded.
    Mounts,
    /// A file in which `$` begins a variable that cannot be escaped: no value may hold one.
    Variables,
}

impl Place {
    fn child(self, key: &str) -> Self {
        match (self, key) {
            (Self::Containers, "command" | "args")
            | (Self::Env, "value")
            | (Self::Mounts, "subPathExpr") => Self::Expanded,
            (Self::Containers, "env") => Self::Env,
            (Self::Containers, "volumeMounts") => Self::Mounts,
            (Self::Variables, _) => Self::Variables,
            _ => Self::Plain,
        }
    }

    /// Escapes what is expanded in a value that stands in this place.
    fn escape(self, value: &mut Json) -> Result<(), String> {
        match value {
            Json::String(text) if text.contains('$') => match self {
                Self::Expanded => *text = text.replace('$', "$$"),
                Self::Variables => {
                    return Err(format!(
                        "the value {text:?} holds a $, which begins a variable in this file"
                    ));
                }
                Self::Plain | Self::Containers | Self::Env | Self::Mounts => {}
            },
            Json::Array(items) => items.iter_mut().try_for_each(|item| self.escape(item))?,
            Json::Object(entries) => entries
                .iter_mut()
                .try_for_each(|(key, entry)| self.child(key).escape(entry))?,
            _ => {}
        }
        Ok(())
    }
}

/// What stands for a value that is not known yet in [`Template::outline`]: no text of a profile can hold it.
pub const UNKNOWN: &str = "${}";

/// Compiles trees and collects what is wrong with them.
pub struct Compiler<'n> {
    /// The names that expressions may use.
    pub names: &'n Names,
    /// Everything found wrong so far.
    pub problems: Vec<ProfileProblem>,
    /// Everything read so far.
    pub reads: Reads,
    /// What was compiled, by its source: `instance` alone stands in a profile twenty times.
    compiled: HashMap<String, Expression>,
}

impl<'n> Compiler<'n> {
    /// A compiler for expressions that may use `names`.
    pub fn new(names: &'n Names) -> Self {
        Self {
            names,
            problems: Vec::new(),
            reads: Reads::default(),
            compiled: HashMap::new(),
        }
    }

    /// Compiles one bare expression.
    pub fn expression(&mut self, source: &str, path: &str) -> Option<Expression> {
        if let Some(expression) = self.compiled.get(source) {
            return Some(expression.clone());
        }
        match Expression::compile(source, self.names) {
            Ok(expression) => {
                self.reads.merge(expression.reads());
                self.compiled.insert(source.to_owned(), expression.clone());
                Some(expression)
            }
            Err(error) => {
                self.problems
                    .push(ProfileProblem::new(path, error.to_string()));
                None
            }
        }
    }

    /// Compiles a tree. What is wrong goes to [`Compiler::problems`]; the tree is then incomplete.
    pub fn template(&mut self, tree: &Json, path: &str, place: Place) -> Template {
        match tree {
            Json::String(text) => self.text(text, path, place),
            Json::Array(items) => Template::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.template(item, &format!("{path}[{index}]"), place))
                    .collect(),
            ),
            Json::Object(object) => self.mapping(object, path, place),
            scalar => Template::Literal(scalar.clone()),
        }
    }

    fn mapping(&mut self, object: &Map<String, Json>, path: &str, place: Place) -> Template {
        let mut include_when = Vec::new();
        let mut entries = Vec::new();
        for (key, value) in object {
            let path = format!("{path}.{key}");
            if key == "includeWhen" {
                self.conditions(value, &path, &mut include_when);
                continue;
            }
            if key.contains("${") {
                self.problems.push(ProfileProblem::new(
                    path,
                    "keys are literal; an expression can stand only in a value",
                ));
                continue;
            }
            let value = self.template(value, &path, place.child(key));
            entries.push((key.clone(), value));
        }
        Template::Mapping(Mapping {
            include_when,
            entries,
        })
    }

    fn conditions(&mut self, value: &Json, path: &str, conditions: &mut Vec<Expression>) {
        let Json::Array(items) = value else {
            self.problems.push(ProfileProblem::new(
                path,
                "expected a list of CEL conditions",
            ));
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item {
                Json::String(source) if !source.contains("${") => {
                    conditions.extend(self.expression(source, &path));
                }
                _ => self.problems.push(ProfileProblem::new(
                    path,
                    "expected CEL without ${…} around it",
                )),
            }
        }
    }

    /// Compiles text that may hold `${…}`.
    pub fn text(&mut self, text: &str, path: &str, place: Place) -> Template {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                literal.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let Some(end) = end_of_expression(after) else {
                    self.problems.push(ProfileProblem::new(
                        path,
                        "a ${ without its }; a literal ${ is written $${",
                    ));
                    return Template::Literal(Json::Null);
                };
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.extend(self.expression(&after[..end], path).map(Piece::Value));
                rest = &after[end + 1..];
            } else {
                literal.push('$');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if pieces.is_empty() {
            return Template::Literal(Json::String(literal));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.len() == 1 {
            if let Some(Piece::Value(expression)) = pieces.pop() {
                return Template::Expression(expression, place);
            }
            return Template::Literal(Json::Null);
        }
        Template::Text(pieces, place)
    }
}

/// A text with `instead` in place of each `${…}`: for people, who are not helped by CEL.
pub fn replace_expressions(text: &str, instead: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        replaced.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let end = rest.strip_prefix("${").and_then(end_of_expression);
        if let Some(after) = rest.strip_prefix("$${") {
            replaced.push_str("${");
            rest = after;
        } else if let Some(end) = end {
            replaced.push_str(instead);
            rest = &rest[2 + end + 1..];
        } else {
            replaced.push('$');
            rest = &rest[1..];
        }
    }
    replaced.push_str(rest);
    replaced
}

/// Where the expression that `text` begins with ends: at the first `}` that closes nothing inside of it
/// and stands in no string literal.
fn end_of_expression(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(index),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

impl Template {
    /// A template that gives nothing.
    pub fn nothing() -> Self {
        Self::Literal(Json::Null)
    }

    /// Whether the template surely gives nothing.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Literal(Json::Null))
    }

    /// The tree as far as it is known without values: [`UNKNOWN`] stands where an expression does. Mappings are
    /// there whatever their `includeWhen` says.
    pub fn outline(&self) -> Json {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Expression(..) | Self::Text(..) => Json::String(UNKNOWN.to_owned()),
            Self::List(items) => items.iter().map(Self::outline).collect(),
            Self::Mapping(mapping) => mapping
                .entries
                .iter()
                .map(|(key, value)| (key.clone(), value.outline()))
                .collect(),
        }
    }

    /// The tree with its values filled in; `None` where it comes to `null`.
    ///
    /// # Errors
    /// An expression without a value, or a list or mapping inside text.
    pub fn render(&self, scope: &Scope<'_>, path: &str) -> Result<Option<Json>, RenderError> {
        self.fill(scope).map_err(|error| error.below(path))
    }

    /// The same, where errors have the path in this tree.
    fn fill(&self, scope: &Scope<'_>) -> Result<Option<Json>, RenderError> {
        let wrong = |message: String| RenderError {
            path: String::new(),
            message,
        };
        match self {
            Self::Literal(Json::Null) => Ok(None),
            Self::Literal(value) => Ok(Some(value.clone())),
            Self::Expression(expression, place) => {
                let mut value = expression
                    .json(scope)
                    .map_err(|error| wrong(error.to_string()))?;
                place.escape(&mut value).map_err(wrong)?;
                drop_nulls(&mut value);
                Ok((!value.is_null()).then_some(value))
            }
            Self::Text(pieces, place) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(literal) => text.push_str(literal),
                        Piece::Value(expression) => {
                            let mut value = expression
                                .json(scope)
                                .map_err(|error| wrong(error.to_string()))?;
                            place.escape(&mut value).map_err(wrong)?;
                            match value {
                                Json::String(value) => text.push_str(&value),
                                value @ (Json::Bool(_) | Json::Number(_)) => {
                                    text.push_str(&value.to_string());
                                }
                                Json::Null => {
                                    return Err(wrong(format!(
                                        "`{}` is null inside text",
                                        expression.source()
                                    )));
                                }
                                Json::Array(_) | Json::Object(_) => {
                                    return Err(wrong(format!(
                                        "`{}` is a list or a map inside text",
                                        expression.source()
                                    )));
                                }
                            }
                        }
                    }
                }
                Ok(Some(Json::String(text)))
            }
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let item = item.fill(scope);
                    list.extend(item.map_err(|error| error.below(&format!("[{index}]")))?);
                }
                Ok(Some(Json::Array(list)))
            }
            Self::Mapping(mapping) => {
                for condition in &mapping.include_when {
                    if !condition
                        .boolean(scope)
                        .map_err(|error| wrong(error.to_string()))?
                    {
                        return Ok(None);
                    }
                }
                let mut object = Map::with_capacity(mapping.entries.len());
                for (key, value) in &mapping.entries {
                    let value = value.fill(scope);
                    if let Some(value) = value.map_err(|error| error.below(&format!(".{key}")))? {
                        object.insert(key.clone(), value);
                    }
                }
                Ok(Some(Json::Object(object)))
            }
        }
    }
}

fn drop_nulls(value: &mut Json) {
    match value {
        Json::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(drop_nulls);
        }
        Json::Object(entries) => {
            entries.retain(|_, item| !item.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}
