//! Regular expressions of profiles, each compiled when it is first matched and remembered then: compiling takes a
//! hundred times as long as a match, and what is compiled takes tens of kilobytes, of which a catalogue of many profiles
//! would hold more than it ever uses.

use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;
use regex::Regex;

/// How many patterns are remembered: several times what all shipped profiles have together. A pattern may come from a
/// parameter, so there is a bound.
const REMEMBERED: usize = 256;

static COMPILED: LazyLock<Cache<String, Arc<Regex>>> = LazyLock::new(|| Cache::new(REMEMBERED));

/// Whether a text is one by its grammar. It may still be too large to be compiled, which [`check`] tells, and takes
/// twenty times as long for.
///
/// # Errors
/// It is none.
pub(super) fn parse(pattern: &str) -> Result<(), regex::Error> {
    regex_syntax::parse(pattern)
        .map(drop)
        .map_err(|error| regex::Error::Syntax(error.to_string()))
}

/// Whether a text is a pattern: one of a profile that is loaded, or a value. Nothing is remembered.
///
/// # Errors
/// It is none.
pub(super) fn check(pattern: &str) -> Result<(), regex::Error> {
    Regex::new(pattern).map(drop)
}

/// What is wrong with the pattern of an expression, in words.
pub(super) fn in_words(pattern: &str, error: &regex::Error) -> String {
    format!("{pattern:?} is no pattern: {error}")
}

/// A pattern, compiled.
///
/// # Errors
/// It is none.
pub(super) fn compiled(pattern: &str) -> Result<Arc<Regex>, regex::Error> {
    COMPILED.get_or_insert_with(pattern, || Regex::new(pattern).map(Arc::new))
}
