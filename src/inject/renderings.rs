//! Renderings that are remembered: the pods of a workload ask for the same, again and again.
//!
//! What a profile renders to is a function of the profile, the administrator's defaults, the instance's name, its
//! annotations and the sidecar mode; and of the pod, the request or the namespace only if some expression reads
//! them. If none does, the second pod that asks for the same gets what the first got. That is all there is to it:
//! an answer is the same with and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::decide::{Instance, parameter_key};
use super::fragment::Fragments;
use super::parameters::Resolved;
use super::{Request, SidecarMode};

/// How much memory renderings may take, in bytes: some twenty-five of those of the built-in profiles. Pods of one
/// workload come together, and one that is not remembered takes half a millisecond.
const CAPACITY: u64 = 640 * 1024;
/// The longest key: who writes longer annotations waits for them to be rendered each time.
const MAX_KEY: usize = 8 * 1024;

/// How much more memory a rendering takes than its texts have bytes: it is many small pieces, each with what it is
/// known by and what the allocator rounds it up to. Seen of a process that remembers as much as it may.
const PIECES: usize = 2;

/// What an instance came to.
#[derive(Debug, Default)]
pub struct Rendering {
    /// Its parameters.
    pub resolved: Resolved,
    /// What it adds.
    pub fragments: Fragments,
}

/// How often a rendering was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lookups {
    /// It was remembered.
    pub hits: u64,
    /// It could have been remembered, and was not.
    pub misses: u64,
    /// It depends on more than can be remembered.
    pub uncacheable: u64,
}

/// A bounded memory of renderings. Those that are asked for again stay.
#[derive(Debug)]
pub struct Renderings {
    cache: Cache<Key, Arc<Rendering>, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
    uncacheable: AtomicU64,
}

/// Everything that a rendering depends on, with the length before each piece.
pub(super) type Key = Vec<u8>;

#[derive(Debug, Clone, Copy)]
struct Weight;

impl Weighter<Key, Arc<Rendering>> for Weight {
    fn weight(&self, key: &Key, rendering: &Arc<Rendering>) -> u64 {
        let resolved = &rendering.resolved;
        let values = resolved.values.len() * 64 + resolved.sources.len();
        (PIECES * (key.len() + values + rendering.fragments.size())) as u64
    }
}

impl Default for Renderings {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Renderings {
    /// A memory that takes about so many bytes.
    pub fn with_capacity(bytes: u64) -> Self {
        Self {
            // Rather more entries than will fit.
            cache: Cache::with_weighter((bytes / (16 * 1024)) as usize, bytes, Weight),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            uncacheable: AtomicU64::new(0),
        }
    }

    /// How often renderings were looked for since the start.
    pub fn lookups(&self) -> Lookups {
        Lookups {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            uncacheable: self.uncacheable.load(Ordering::Relaxed),
        }
    }

    /// About how many bytes are remembered.
    pub fn size(&self) -> u64 {
        self.cache.weight()
    }

    /// The rendering of that key, if it is remembered. Without a key there is none.
    pub(super) fn get(&self, key: Option<&Key>) -> Option<Arc<Rendering>> {
        let found = key.and_then(|key| self.cache.get(key));
        let counter = match (&key, &found) {
            (_, Some(_)) => &self.hits,
            (Some(_), None) => &self.misses,
            (None, None) => &self.uncacheable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Remembers a rendering.
    pub(super) fn insert(&self, key: Option<Key>, rendering: &Arc<Rendering>) {
        if let Some(key) = key {
            self.cache.insert(key, Arc::clone(rendering));
        }
    }
}

/// The key of an instance's rendering, unless it depends on what no key holds.
pub(super) fn key(instance: &Instance<'_>, request: &Request<'_>) -> Option<Key> {
    let reads = instance.entry.profile.reads;
    if reads.object || reads.namespace_object || reads.request {
        return None;
    }
    let mut key = Vec::with_capacity(512);
    key.extend_from_slice(&instance.entry.id().to_le_bytes());
    key.push(match request.sidecars {
        SidecarMode::Native => 0,
        SidecarMode::Container => 1,
    });
    let mut push = |text: &str| {
        key.extend_from_slice(&(text.len() as u64).to_le_bytes());
        key.extend_from_slice(text.as_bytes());
        key.len() <= MAX_KEY
    };
    push(&instance.name);
    if reads.security_context {
        let spec = request.pod.spec.as_ref();
        let context = spec.and_then(|spec| spec.security_context);
        push(context.map_or("null", |raw| raw.get()));
    }
    let of_instance = |annotation: &str| {
        parameter_key(annotation).is_some_and(|(owner, _)| owner == instance.name)
    };
    for (annotation, value) in request.pod.annotations() {
        if of_instance(annotation) && !(push(annotation) && push(value)) {
            return None;
        }
    }
    // What follows is of the namespace.
    push("");
    let namespace = request.facts.into_iter();
    for (annotation, value) in namespace.flat_map(|facts| &facts.annotations) {
        if of_instance(annotation) && !(push(annotation) && push(value)) {
            return None;
        }
    }
    Some(key)
}
