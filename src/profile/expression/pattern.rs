//! Regular expressions of `matches`, compiled once: that takes a hundred times as long as a match.

use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;
use regex::Regex;

/// How many patterns are remembered: more than all shipped profiles have together. A pattern may come from a
/// parameter, so there is a bound.
const REMEMBERED: usize = 256;

static COMPILED: LazyLock<Cache<String, Arc<Regex>>> = LazyLock::new(|| Cache::new(REMEMBERED));

/// A pattern, compiled.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    if let Some(known) = COMPILED.get(pattern) {
        return Ok(known);
    }
    let regex =
        Regex::new(pattern).map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
    let regex = Arc::new(regex);
    COMPILED.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}
