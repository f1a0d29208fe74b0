//! Kubeconfig files, found, read and merged as kubectl does.
//!
//! They are read with the YAML reader that profiles and manifests are read with, to which a repeated key is an error.
//! kube has one of its own, which would be compiled once more for each type of a kubeconfig: nothing may call it
//! (`Kubeconfig::read_from`, `Config::infer`, `Client::try_default` and the like), so that the linker leaves it out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use kube::Config;
use kube::config::{
    AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::profile::document::ProfileProblem;
use crate::profile::strict;
use crate::yaml;

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{files}: {problem}")]
pub struct Error {
    /// The file that is to be mended, or all of them, with what named them.
    files: String,
    problem: Problem,
}

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    #[error("this is no text: expected UTF-8, or UTF-16 with a byte order mark")]
    Encoding,
    #[error("this is no YAML: {0}")]
    Yaml(yaml::Error),
    #[error("{place}: {message}")]
    Shape { place: String, message: String },
    #[error("current-context is not set: give --context, {}", Known(.known))]
    NoContext { known: Vec<String> },
    #[error("there is no context {given:?}: {}", Known(.known))]
    UnknownContext { given: String, known: Vec<String> },
    #[error("the home directory is not known, in which the file is expected")]
    NoHome,
    #[error("{0}")]
    Unusable(KubeconfigError),
}

/// The names of the contexts that there are.
struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("the kubeconfig has no contexts"),
            names => write!(f, "expected one of {}", names.join(", ")),
        }
    }
}

/// The files of one kubeconfig: what an earlier one says holds.
#[derive(Debug)]
pub(super) struct Files {
    /// What named them, as the start of an error.
    named_by: &'static str,
    paths: Vec<PathBuf>,
}

impl Files {
    /// The file of `--kubeconfig`.
    pub(super) fn given(path: &Path) -> Self {
        Self {
            named_by: "--kubeconfig ",
            paths: vec![path.to_owned()],
        }
    }

    /// The files of `KUBECONFIG`, or else `~/.kube/config`.
    ///
    /// # Errors
    /// No home directory.
    pub(super) fn found() -> Result<Self, Error> {
        Self::named(env::var_os("KUBECONFIG").as_deref(), env::home_dir())
    }

    fn named(variable: Option<&OsStr>, home: Option<PathBuf>) -> Result<Self, Error> {
        let paths: Vec<_> = variable
            .map(|value| env::split_paths(value).collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if !paths.is_empty() {
            return Ok(Self {
                named_by: "KUBECONFIG ",
                paths,
            });
        }
        let home = home.ok_or_else(|| Error {
            files: "~/.kube/config".to_owned(),
            problem: Problem::NoHome,
        })?;
        Ok(Self {
            named_by: "",
            paths: vec![home.join(".kube/config")],
        })
    }

    /// What they say of the cluster of this context, or else of the current one.
    ///
    /// # Errors
    /// A file that cannot be read or is no kubeconfig, an unknown context, or one that cannot be used.
    pub(super) async fn config(&self, context: Option<&str>) -> Result<Config, Error> {
        let refuse = |problem| Error {
            files: self.named_by.to_owned() + &self.list(),
            problem,
        };
        let kubeconfig = self.read()?;
        let known = || kubeconfig.contexts.iter().map(|named| named.name.clone());
        match context.or(kubeconfig.current_context.as_deref()) {
            None | Some("") => {
                return Err(refuse(Problem::NoContext {
                    known: known().collect(),
                }));
            }
            Some(name) if !known().any(|known| known == name) => {
                return Err(refuse(Problem::UnknownContext {
                    given: name.to_owned(),
                    known: known().collect(),
                }));
            }
            Some(_) => {}
        }
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| refuse(Problem::Unusable(error)))
    }

    /// All of them as one. Of several, those that do not exist are passed over, as kubectl does: people keep a
    /// `KUBECONFIG` of files that come and go.
    fn read(&self) -> Result<Kubeconfig, Error> {
        let mut merged = None;
        let mut missing = None;
        for path in &self.paths {
            let refuse = |problem| Error {
                files: format!("{}{}", self.named_by, path.display()),
                problem,
            };
            let next = match read(path) {
                Err(Problem::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                    missing.get_or_insert_with(|| refuse(Problem::Read(error)));
                    continue;
                }
                read => read.map_err(refuse)?,
            };
            let before: Kubeconfig = merged.take().unwrap_or_default();
            let both = before.merge(next).map_err(Problem::Unusable);
            merged = Some(both.map_err(refuse)?);
        }
        match (merged, missing) {
            (None, Some(missing)) => Err(missing),
            (merged, _) => Ok(merged.unwrap_or_default()),
        }
    }

    fn list(&self) -> String {
        let paths: Vec<_> = self
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(":")
    }
}

/// The kubeconfig in a file, all documents of it as one. An empty file says nothing, and is none the worse.
fn read(path: &Path) -> Result<Kubeconfig, Problem> {
    let text = text(fs::read(path).map_err(Problem::Read)?).ok_or(Problem::Encoding)?;
    let mut merged = Kubeconfig::default();
    for piece in yaml::split::documents(&text) {
        let tree =
            yaml::read(piece.text).map_err(|error| Problem::Yaml(error.below(piece.line)))?;
        merged = merged.merge(decode(tree)?).map_err(Problem::Unusable)?;
    }
    resolve(&mut merged, path.parent().unwrap_or(Path::new("")));
    Ok(merged)
}

/// The text of a file. UTF-16 is what `>` writes in PowerShell 5.
fn text(bytes: Vec<u8>) -> Option<String> {
    let wide = |unit: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let (units, rest) = bytes.as_chunks();
        let units: Vec<_> = units.iter().map(|bytes| unit(*bytes)).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok())?
    };
    match bytes.as_slice() {
        [0xFF, 0xFE, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xFE, 0xFF, rest @ ..] => wide(u16::from_be_bytes, rest),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes).ok(),
    }
}

/// A document as a kubeconfig. What only those need who write such files is left out: `preferences`, `extensions`,
/// and keys that nobody knows.
fn decode(mut tree: Value) -> Result<Kubeconfig, Problem> {
    drop_nulls(&mut tree);
    let mut object = match tree {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        other => {
            return Err(Problem::Shape {
                place: "the document".to_owned(),
                message: format!(
                    "this is {}, expected a mapping with clusters, contexts and users",
                    kind(&other)
                ),
            });
        }
    };
    Ok(Kubeconfig {
        kind: take(&mut object, "kind")?,
        api_version: take(&mut object, "apiVersion")?,
        current_context: take(&mut object, "current-context")?,
        clusters: list::<NamedCluster>(&mut object, "clusters")?,
        contexts: list::<NamedContext>(&mut object, "contexts")?,
        auth_infos: list::<NamedAuthInfo>(&mut object, "users")?,
        ..Kubeconfig::default()
    })
}

/// Null is the same as nothing, as it is where Go decodes JSON. An extension may be null.
fn drop_nulls(tree: &mut Value) {
    match tree {
        Value::Object(object) => {
            object.retain(|key, value| !value.is_null() || key == "extension");
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A string of the document.
fn take(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Problem> {
    match object.remove(key) {
        None => Ok(None),
        // kubectl writes `current-context: ""` where there is none.
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::Shape {
            place: key.to_owned(),
            message: format!("this is {}, expected a string", kind(&other)),
        }),
    }
}

/// A list of the document, whose items have names.
fn list<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    key: &str,
) -> Result<Vec<T>, Problem> {
    let items = match object.remove(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(Problem::Shape {
                place: key.to_owned(),
                message: format!("this is {}, expected a list", kind(&other)),
            });
        }
    };
    let item = |(index, item): (usize, Value)| {
        let name = match item.get("name").and_then(Value::as_str) {
            Some(name) => format!(" ({name})"),
            None => String::new(),
        };
        let (decoded, _unknown) = strict::document(&item);
        decoded.map_err(|problem| Problem::Shape {
            place: format!("{key}[{index}]{name}"),
            message: without_value(&problem),
        })
    };
    items.into_iter().enumerate().map(item).collect()
}

/// What is wrong, without the value that a decoder's message quotes: it may be a secret.
fn without_value(problem: &ProfileProblem) -> String {
    let message = match problem.message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if problem.message.starts_with("missing field ") => problem.message.clone(),
        None => "this is no part of a kubeconfig".to_owned(),
    };
    match problem.path.as_str() {
        "" => message,
        path => format!("{path}: {message}"),
    }
}

/// What a value is called in an error, without the value: it may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Makes paths start from where the file is, in `dir`. A command without a slash is looked for in `PATH`.
fn resolve(kubeconfig: &mut Kubeconfig, dir: &Path) {
    let clusters = kubeconfig.clusters.iter_mut();
    for cluster in clusters.filter_map(|named| named.cluster.as_mut()) {
        absolute(dir, &mut cluster.certificate_authority);
    }
    let users = kubeconfig.auth_infos.iter_mut();
    for user in users.filter_map(|named| named.auth_info.as_mut()) {
        let AuthInfo {
            client_certificate,
            client_key,
            token_file,
            exec,
            ..
        } = user;
        for path in [client_certificate, client_key, token_file] {
            absolute(dir, path);
        }
        if let Some(exec) = exec
            && let Some(command) = &exec.command
            && command.contains(std::path::MAIN_SEPARATOR)
        {
            absolute(dir, &mut exec.command);
        }
    }
}

/// An empty path is none.
fn absolute(dir: &Path, path: &mut Option<String>) {
    if let Some(relative) = path.take_if(|path| Path::new(path).is_relative())
        && !relative.is_empty()
    {
        *path = Some(dir.join(&relative).to_str().map_or(relative, str::to_owned));
    }
}

#[cfg(test)]
mod tests;
