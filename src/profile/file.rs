//! Generated files: constant text, or a tree that is written in a format.
//!
//! A file is `TEXT`, a tree (JSON) in a file that is called so, or
//! `{format: Text | JSON | NGINX, content: …, includeWhen: […]}`. Text is taken as it is and holds no
//! expression: only what is serialised may, because a value can then never become structure.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::document::ProfileProblem;
use super::expression::Scope;
use super::nginx;
use super::template::{Compiler, Place, RenderError, Template};

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Format {
    /// The content is the text.
    Text,
    /// The content is a tree. JSON is YAML, so this is also how YAML is written.
    #[serde(rename = "JSON")]
    Json,
    /// The content is a list of directives.
    #[serde(rename = "NGINX")]
    Nginx,
}

/// The key under which a rendered file holds its content.
const CONTENT: &str = "content";

/// A compiled file.
#[derive(Debug)]
pub struct FileTemplate {
    /// Its name.
    pub name: String,
    format: Format,
    /// The content, or `{content: …}` where the profile says a format.
    template: Template,
    /// Whether the template is `{content: …}`.
    wrapped: bool,
}

impl FileTemplate {
    /// Compiles a file. What is wrong goes to the compiler's problems.
    pub fn compile(name: &str, tree: &Json, compiler: &mut Compiler<'_>) -> Self {
        let path = format!("spec.files.{name}");
        check_name(name, &path, compiler);
        let mut refuse = |path: &str, message: &str| {
            compiler.problems.push(ProfileProblem::new(path, message));
            Self {
                name: name.to_owned(),
                format: Format::Text,
                template: Template::nothing(),
                wrapped: false,
            }
        };
        let (format, content, at) = match tree {
            Json::Object(object)
                if object.contains_key("format") && object.contains_key(CONTENT) =>
            {
                let Ok(format) = Format::deserialize(&object["format"]) else {
                    return refuse(&format!("{path}.format"), "expected Text, JSON or NGINX");
                };
                if let Some(key) = object
                    .keys()
                    .find(|key| !["format", CONTENT, "includeWhen"].contains(&key.as_str()))
                {
                    return refuse(
                        &format!("{path}.{key}"),
                        "unknown field; a file has format, content and includeWhen",
                    );
                }
                (format, &object[CONTENT], format!("{path}.{CONTENT}"))
            }
            Json::String(_) => (Format::Text, tree, path.clone()),
            Json::Array(_) | Json::Object(_)
                if [".json", ".yaml", ".yml"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix)) =>
            {
                (Format::Json, tree, path.clone())
            }
            _ => {
                return refuse(
                    &path,
                    "expected text, a tree in a file that ends in .json, .yaml or .yml, or a format and its content",
                );
            }
        };
        match (format, content) {
            (Format::Text, Json::String(text)) if text.contains("${") => {
                return refuse(
                    &at,
                    "a file given as text is taken as it is; only a tree may hold ${…}, because it is serialised and never pasted",
                );
            }
            (Format::Text, Json::String(_))
            | (Format::Json | Format::Nginx, Json::Array(_) | Json::Object(_)) => {}
            (Format::Json | Format::Nginx, Json::String(text)) if text.starts_with("${") => {}
            (Format::Text, _) => return refuse(&at, "expected text"),
            (Format::Json | Format::Nginx, _) => return refuse(&at, "expected a tree"),
        }
        let place = match format {
            Format::Nginx => Place::Variables,
            Format::Text | Format::Json => Place::Plain,
        };
        let wrapped = at != path;
        let template = if wrapped {
            // Rendered as a mapping, so that its conditions are those of any mapping.
            let mut wrapper = Map::new();
            if let Some(conditions) = tree.get("includeWhen") {
                wrapper.insert("includeWhen".to_owned(), conditions.clone());
            }
            wrapper.insert(CONTENT.to_owned(), content.clone());
            compiler.template(&Json::Object(wrapper), &path, place)
        } else {
            compiler.template(content, &path, place)
        };
        if format == Format::Nginx {
            let outline = template.outline();
            nginx::check(&outline[CONTENT], &at, &mut compiler.problems);
        }
        Self {
            name: name.to_owned(),
            format,
            template,
            wrapped,
        }
    }

    /// The file's text; `None` where it is not to be there.
    ///
    /// # Errors
    /// An expression without a value, or values that the format cannot hold.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Option<String>, RenderError> {
        let path = format!("spec.files.{}", self.name);
        let content = match self.template.render(scope, &path)? {
            Some(Json::Object(mut object)) if self.wrapped => object.shift_remove(CONTENT),
            content => content,
        };
        let Some(content) = content else {
            return Ok(None);
        };
        match (self.format, content) {
            (Format::Nginx, tree) => {
                nginx::write(&tree)
                    .map(Some)
                    .map_err(|(inner, message)| RenderError {
                        path: format!("{path}.{CONTENT}{inner}"),
                        message,
                    })
            }
            (Format::Text, Json::String(text)) => Ok(Some(text)),
            (Format::Text | Format::Json, tree) => Ok(Some(tree.to_string())),
        }
    }
}

fn check_name(name: &str, path: &str, compiler: &mut Compiler<'_>) {
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if !fits || name.len() > 60 {
        compiler.problems.push(ProfileProblem::new(
            path,
            "expected a file name of at most 60 letters, digits, '-', '_' and '.' that begins and ends with a letter or digit: it becomes part of an annotation key",
        ));
    }
}
