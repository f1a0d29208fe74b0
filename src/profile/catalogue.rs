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
use super::matching::Matching;
use super::parameter::{self, Value};
use super::strict;
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
    matching: Matching,
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
        let refuse = |problem: ProfileProblem| CatalogueError {
            source: source.to_owned(),
            problems: vec![problem],
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let tree = yaml::read(text).map_err(|error| {
            refuse(ProfileProblem::new("", format!("this is no YAML: {error}")))
        })?;
        if let Some(key) = tree
            .as_object()
            .and_then(|object| object.keys().find(|key| *key != "profileDefaults"))
        {
            return Err(refuse(ProfileProblem::new(
                key,
                "unknown key, expected \"profileDefaults\"",
            )));
        }
        let (decoded, _) = strict::document(&tree);
        decoded.map_err(refuse)
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
        let mut catalogue = Self::default();
        for profile in profiles {
            catalogue.insert(Entry::new(profile));
        }
        catalogue
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
        let name: Arc<str> = entry.profile.name.as_str().into();
        if let Some(old) = self.entries.get(&name) {
            self.matching.remove(&old.profile);
        }
        self.matching.insert(&name, &entry.profile);
        Arc::make_mut(&mut self.entries).insert(name, entry);
    }

    /// Takes the profile of that name away, if there is one.
    pub fn remove(&mut self, name: &str) {
        if let Some(old) = self.entries.get(name) {
            self.matching.remove(&old.profile);
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

    /// All profiles whose `match` fits a pod with these labels in a namespace with those, and perhaps others, by name.
    pub fn may_fit<'l>(
        &self,
        pod: impl Iterator<Item = (&'l str, &'l str)>,
        namespace: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> impl Iterator<Item = &Entry> {
        let names = self.matching.may_fit(pod, namespace).into_iter();
        names.filter_map(|name| self.entries.get(name))
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }
}

/// `; did you mean "x"?`, or nothing.
pub fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    parameter::nearest(given, known)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&[(&str, &str)]; 5] = [
        &[],
        &[("a", "1")],
        &[("a", "2"), ("b", "1")],
        &[("b", "1")],
        &[("a", "1"), ("a", "2")],
    ];

    /// A profile that fits pods and namespaces of these selectors, in YAML's flow style.
    fn profile(name: &str, pods: Option<&str>, namespaces: Option<&str>) -> Entry {
        let selector = |key: &str, selector: Option<&str>| {
            selector.map_or(String::new(), |it| format!("    {key}: {it}\n"))
        };
        let text = format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: {name}}}\nspec:\n  \
             summary: For a test.\n  match:\n{}{}  volumes: [{{name: data, emptyDir: {{sizeLimit: 1Mi}}}}]\n",
            selector("podSelector", pods),
            selector("namespaceSelector", namespaces),
        );
        Entry::new(Arc::new(Profile::parse("a test", &text).unwrap()))
    }

    #[test]
    fn no_profile_that_fits_is_left_out() {
        let selectors = [
            None,
            Some("{}"),
            Some("{matchLabels: {a: \"1\"}}"),
            Some("{matchLabels: {b: \"1\", a: \"2\"}}"),
            Some("{matchExpressions: [{key: a, operator: In, values: [\"1\"]}]}"),
            Some("{matchExpressions: [{key: a, operator: DoesNotExist}]}"),
        ];
        let mut catalogue = Catalogue::default();
        for (index, pods) in selectors.iter().enumerate() {
            for (other, namespaces) in selectors.iter().enumerate() {
                if pods.or(*namespaces).is_some() {
                    catalogue.insert(profile(&format!("p-{index}-{other}"), *pods, *namespaces));
                }
            }
        }
        let label = |labels: &'static [(&str, &str)]| {
            move |key: &str| {
                labels
                    .iter()
                    .find(|(known, _)| *known == key)
                    .map(|it| it.1)
            }
        };
        for pods in LABELS {
            for namespaces in LABELS {
                let may: Vec<&str> = catalogue
                    .may_fit(pods.iter().copied(), namespaces.iter().copied())
                    .map(|entry| entry.profile.name.as_str())
                    .collect();
                assert!(may.is_sorted_by(|a, b| a < b), "{may:?}");
                for entry in catalogue.iter() {
                    let selector = entry.profile.selector.as_ref().unwrap();
                    let fits = selector.fits(label(pods), label(namespaces));
                    let name = entry.profile.name.as_str();
                    assert!(
                        !fits || may.contains(&name),
                        "{name} fits {pods:?} in {namespaces:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_profile_is_found_by_what_it_requires_now() {
        let first = Some("{matchLabels: {a: \"1\"}}");
        let second = Some("{matchLabels: {a: \"2\"}}");
        let none = std::iter::empty;
        let found = |catalogue: &Catalogue, value| {
            catalogue
                .may_fit([("a", value)].into_iter(), none())
                .count()
        };
        let mut catalogue = Catalogue::default();
        catalogue.insert(profile("one", first, None));
        catalogue.insert(profile("other", first, None));
        let before = catalogue.clone();
        catalogue.insert(profile("one", second, None));
        assert_eq!((found(&catalogue, "1"), found(&catalogue, "2")), (1, 1));
        catalogue.remove("one");
        catalogue.remove("other");
        assert_eq!((found(&catalogue, "1"), found(&catalogue, "2")), (0, 0));
        assert_eq!((found(&before, "1"), found(&before, "2")), (2, 0));
    }
}
