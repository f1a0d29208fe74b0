//! Which profiles may fit a pod that names none: an index by a label that each requires, so that not all of them have
//! to be asked.

use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::compile::Profile;

/// Names of profiles, by a label that they require. A copy shares what did not change.
#[derive(Debug, Clone, Default)]
pub(super) struct Matching {
    by_label: HashTrieMapSync<String, Names>,
    /// Those that require none: their selectors are empty or expressions.
    others: Names,
}

type Names = RedBlackTreeSetSync<Arc<str>>;

/// Whose label it is.
#[derive(Debug, Clone, Copy)]
enum Of {
    Pod,
    Namespace,
}

/// Where a profile is kept.
enum Place {
    /// Nowhere: it must be asked for.
    Nowhere,
    /// With those that require this label.
    Label(String),
    /// With the others.
    Others,
}

impl Place {
    fn of(profile: &Profile) -> Self {
        let Some(selector) = profile.selector.as_ref().filter(|it| !it.is_empty()) else {
            return Self::Nowhere;
        };
        let selectors = [
            (Of::Pod, &selector.pod_selector),
            (Of::Namespace, &selector.namespace_selector),
        ];
        let mut required = selectors.into_iter().filter_map(|(of, selector)| {
            let (key, value) = selector.as_ref()?.match_labels.first()?;
            let mut label = String::new();
            write_label(&mut label, of, key, value);
            Some(label)
        });
        required.next().map_or(Self::Others, Self::Label)
    }
}

/// A label as it is looked up. Whoever writes a NUL into one finds a profile too many, which then does not fit.
fn write_label(label: &mut String, of: Of, key: &str, value: &str) {
    label.clear();
    label.push(match of {
        Of::Pod => 'p',
        Of::Namespace => 'n',
    });
    label.push_str(key);
    label.push('\0');
    label.push_str(value);
}

impl Matching {
    /// Adds a profile, which is not in it.
    pub(super) fn insert(&mut self, name: &Arc<str>, profile: &Profile) {
        self.change(profile, |names| names.insert_mut(Arc::clone(name)));
    }

    /// Takes a profile out that is in it, as it was put in.
    pub(super) fn remove(&mut self, profile: &Profile) {
        self.change(profile, |names| {
            names.remove_mut(profile.name.as_str());
        });
    }

    /// Changes the names among which a profile's is kept, if it is kept anywhere.
    fn change(&mut self, profile: &Profile, change: impl FnOnce(&mut Names)) {
        match Place::of(profile) {
            Place::Nowhere => {}
            Place::Others => change(&mut self.others),
            Place::Label(label) => {
                let mut names = self.by_label.get(&label).cloned().unwrap_or_default();
                change(&mut names);
                match names.is_empty() {
                    true => drop(self.by_label.remove_mut(&label)),
                    false => self.by_label.insert_mut(label, names),
                }
            }
        }
    }

    /// The names of all profiles that fit a pod with these labels in a namespace with those, and perhaps of others,
    /// sorted.
    pub(super) fn may_fit<'m, 'l>(
        &'m self,
        pod: impl Iterator<Item = (&'l str, &'l str)>,
        namespace: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> Vec<&'m Arc<str>> {
        let mut found: Vec<_> = self.others.iter().collect();
        let pod = pod.map(|pair| (Of::Pod, pair));
        let labels = pod.chain(namespace.map(|pair| (Of::Namespace, pair)));
        let mut label = String::new();
        for (of, (key, value)) in labels {
            write_label(&mut label, of, key, value);
            found.extend(self.by_label.get(&label).into_iter().flatten());
        }
        found.sort_unstable();
        // A label may be written twice in JSON.
        found.dedup();
        found
    }
}
