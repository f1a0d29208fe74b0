//! The catalogue: every profile that a pod may ask for, by name, with the admin's defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use super::compile::{self, Profile};
use super::document::{ProfileError, ProfileProblem};
use super::parameter::{self, Value};
use crate::yaml;

/// The profiles that are compiled into the binary.
const BUILT_IN: [&str; 6] = [
    include_str!("../../profiles/envoy-egress.yaml"),
    include_str!("../../profiles/envoy-tls.yaml"),
    include_str!("../../profiles/fluentd.yaml"),
    include_str!("../../profiles/log-tail.yaml"),
    include_str!("../../profiles/shared-volume.yaml"),
    include_str!("../../profiles/wait-for.yaml"),
];

/// Their names.
pub const BUILT_IN_NAMES: [&str; 6] = [
    "envoy-egress",
    "envoy-tls",
    "fluentd",
    "log-tail",
    "shared-volume",
    "wait-for",
];

/// Profiles by name. A copy is cheap, and is not touched by changes of the original.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: Arc<BTreeMap<Arc<str>, Entry>>,
}

/// A profile and what the admin set for it.
#[derive(Debug, Clone)]
pub struct Entry {
    id: u64,
    /// The profile.
    pub profile: Arc<Profile>,
    /// The admin's value of each parameter, in the order of declaration. Copies share it.
    defaults: Arc<[Option<Value>]>,
}

/// The admin's defaults, as a file holds them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// By profile, by camelCase parameter.
    #[serde(default)]
    pub profile_defaults: IndexMap<String, IndexMap<String, Json>>,
}

/// Defaults that do not fit the profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueError {
    /// The file of the defaults.
    pub source: String,
    /// All that is wrong, each with its path in the file.
    pub problems: Vec<ProfileProblem>,
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the profile defaults are refused:", self.source)?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for CatalogueError {}

impl Defaults {
    /// Decodes the YAML text of a defaults file.
    ///
    /// # Errors
    /// Text that is no YAML, or a key other than `profileDefaults`.
    pub fn parse(source: &str, text: &str) -> Result<Self, CatalogueError> {
        let refuse = |path: String, message: String| CatalogueError {
            source: source.to_owned(),
            problems: vec![ProfileProblem::new(path, message)],
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let tree = yaml::read(text)
            .map_err(|error| refuse(String::new(), format!("this is no YAML: {error}")))?;
        if let Some(key) = tree
            .as_object()
            .and_then(|object| object.keys().find(|key| *key != "profileDefaults"))
        {
            return Err(refuse(
                key.clone(),
                "unknown key, expected \"profileDefaults\"".to_owned(),
            ));
        }
        serde_path_to_error::deserialize(tree)
            .map_err(|error| refuse(error.path().to_string(), error.inner().to_string()))
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Entry {
    /// A profile for which the admin has set nothing.
    pub fn new(profile: Arc<Profile>) -> Self {
        let defaults = vec![None; profile.parameters.len()].into();
        let id = next_id();
        Self {
            id,
            profile,
            defaults,
        }
    }

    /// A number that no other profile or set of defaults has in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The admin's value of a parameter, by its place in the declaration.
    pub fn default_of(&self, index: usize) -> Option<&Value> {
        self.defaults.get(index)?.as_ref()
    }

    /// Sets the admin's values, by camelCase parameter. What does not fit is told, with its path in the file of
    /// the defaults, and not set.
    pub fn set_defaults(&mut self, values: &IndexMap<String, Json>) -> Vec<ProfileProblem> {
        let mut problems = Vec::new();
        self.id = next_id();
        let parameters = &self.profile.parameters;
        let defaults = Arc::make_mut(&mut self.defaults);
        for (key, value) in values {
            let path = format!("profileDefaults.{}.{key}", self.profile.name);
            let Some(index) = parameters
                .iter()
                .position(|parameter| parameter.name == *key)
            else {
                let hint = hint(
                    key,
                    parameters.iter().map(|parameter| parameter.name.as_str()),
                );
                problems.push(ProfileProblem::new(
                    path,
                    format!("the profile has no such parameter{hint}"),
                ));
                continue;
            };
            match parameters[index].accept(value) {
                Ok(value) => defaults[index] = Some(value),
                Err(problem) => problems.push(ProfileProblem::new(path, problem.to_string())),
            }
        }
        problems
    }
}

impl Catalogue {
    /// A catalogue of these profiles. Of two with one name the later wins: hand over the built-in ones,
    /// then those of files, then those of the cluster.
    pub fn new(profiles: impl IntoIterator<Item = Arc<Profile>>) -> Self {
        let entries = profiles
            .into_iter()
            .map(|profile| (profile.name.as_str().into(), Entry::new(profile)))
            .collect();
        Self {
            entries: Arc::new(entries),
        }
    }

    /// Compiles the built-in profiles.
    ///
    /// # Errors
    /// A built-in profile that does not compile; the tests see to it that there is none.
    pub fn built_in() -> Result<Vec<Arc<Profile>>, ProfileError> {
        BUILT_IN
            .iter()
            .map(|text| Profile::parse(compile::BUILT_IN, text).map(Arc::new))
            .collect()
    }

    /// The same catalogue with the admin's defaults.
    ///
    /// # Errors
    /// A profile or parameter that does not exist, or a value outside its grammar: all of them, each
    /// with its path.
    pub fn with_defaults(
        mut self,
        source: &str,
        defaults: &Defaults,
    ) -> Result<Self, CatalogueError> {
        let mut problems = Vec::new();
        for (name, values) in &defaults.profile_defaults {
            match Arc::make_mut(&mut self.entries).get_mut(name.as_str()) {
                Some(entry) => problems.extend(entry.set_defaults(values)),
                None => problems.push(ProfileProblem::new(
                    format!("profileDefaults.{name}"),
                    format!("there is no such profile{}", hint(name, self.names())),
                )),
            }
        }
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(CatalogueError {
                source: source.to_owned(),
                problems,
            })
        }
    }

    /// Puts a profile in the place of the one of its name, or besides the others.
    pub fn insert(&mut self, entry: Entry) {
        let name = entry.profile.name.as_str().into();
        Arc::make_mut(&mut self.entries).insert(name, entry);
    }

    /// Takes the profile of that name away, if there is one.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            Arc::make_mut(&mut self.entries).remove(name);
        }
    }

    /// Whether both have the same profiles of the same sources.
    pub fn is_same(&self, other: &Self) -> bool {
        let one = |(a, b): (&Entry, &Entry)| {
            let (a, b) = (&a.profile, &b.profile);
            (&a.name, &a.revision, &a.source) == (&b.name, &b.revision, &b.source)
        };
        Arc::ptr_eq(&self.entries, &other.entries)
            || self.entries.len() == other.entries.len() && self.iter().zip(other.iter()).all(one)
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All profiles, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }
}

/// `; did you mean "x"?`, or nothing.
pub(crate) fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    parameter::nearest(given, known)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}
