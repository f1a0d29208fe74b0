//! YAML and JSON text: from one document to a value, as `kubectl` would read it.
//!
//! Kubernetes reads YAML through `sigs.k8s.io/yaml`, which is go-yaml v2: YAML 1.1 with a few
//! twists. What a manifest means is what `kubectl apply` makes of it, so these are followed:
//!
//! | text | value | |
//! |---|---|---|
//! | `yes` `no` `on` `off` `y` `n` | boolean | YAML 1.1 |
//! | `0644` `0o644` | 420 | `defaultMode: 0644` is common |
//! | `0x1F` `0b11` `1_000` | integer | |
//! | `12:30:45` `2024-01-02` | string | no base 60, no timestamps |
//! | `8080: x` `yes: x` | key `"8080"`, key `"true"` | keys become strings by their value |
//! | an integer beyond 64 bits | float | as in Go's JSON decoding of an untyped number |
//!
//! Stricter than kubectl, on purpose: a repeated key, a tag that YAML does not define, `.inf`
//! and `.nan` (JSON has neither) and a null key are errors, because rewriting such a document
//! would have to guess.
//!
//! Looser in one way: boolean and null words are recognised in any mix of cases (`tRUE`), which
//! go-yaml reads as strings.

pub(crate) mod locate;
pub mod split;

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

/// Nesting deeper than this is refused, in YAML as in JSON (where it is serde_json's own bound).
/// The deepest documents people keep, definitions of custom resources, reach about 60.
const MAX_DEPTH: usize = 128;

/// Stack for reading one YAML document: a level of nesting was seen to take 30 KiB in a build
/// without optimisation, so that 128 of them do not fit in the 2 MiB of an ordinary thread.
const STACK: usize = 16 << 20;

/// Scalars, sequences and mappings in one document once aliases are expanded: the API server
/// takes objects of 3 MiB, which cannot hold as many.
const MAX_NODES: usize = 500_000;

/// What is wrong with a document's text, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Line in the text handed in, from 1.
    pub line: Option<usize>,
    /// Column in that line in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong, without the position.
    pub message: String,
}

impl Error {
    /// The same, of a text that has the one handed in begin on its line `first`, from 1.
    #[must_use]
    pub fn below(self, first: usize) -> Self {
        Self {
            line: self.line.map(|line| line + first.saturating_sub(1)),
            ..self
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Reads one YAML document. One without content is `null`.
///
/// # Errors
///
/// Text that is no YAML, or that means something else to one reader than to another.
pub fn read(text: &str) -> Result<Value, Error> {
    let failed = |message: String| Error {
        line: None,
        column: None,
        message,
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || read_here(text))
            .map_err(|error| failed(format!("failed to start a thread for reading: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(failed("failed to read: the YAML reader broke down".into())))
    })
}

fn read_here(text: &str) -> Result<Value, Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            // Comments are the author's business; a licence header can be long.
            max_buffered_comment_events: usize::MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES / 5,
            max_replay_stack_depth: 32,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        legacy_octal_numbers: true,
        strict_booleans: false,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        emit_comments: false,
        with_snippet: false,
    };
    let Tree(value) = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // 0 is how the parser writes that it does not know.
        let known = |number: u64| usize::try_from(number).ok().filter(|number| *number > 0);
        let location = error.location();
        Error {
            line: location.and_then(|location| known(location.line())),
            column: location.and_then(|location| known(location.column())),
            message: plain_message(&error),
        }
    })?;
    Ok(value)
}

/// The first line of an error, without the position that the parser appends to it.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let rendered = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter);
    let first = rendered.lines().next().unwrap_or_default();
    let text = match first.rfind(" at line ") {
        Some(at) => &first[..at],
        None => first,
    };
    text.trim_end_matches([':', ' ']).to_owned()
}

/// Reads JSON values that follow one another, with where each ends (a byte offset).
pub fn read_json(text: &str) -> Result<Vec<(Value, usize)>, Error> {
    let mut values = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Tree>();
    while let Some(next) = stream.next() {
        match next {
            Ok(Tree(value)) => values.push((value, stream.byte_offset())),
            Err(error) => {
                // In a stream the parser counts lines from the start of the text.
                let rendered = error.to_string();
                let message = match rendered.rfind(" at line ") {
                    Some(at) => rendered[..at].to_owned(),
                    None => rendered,
                };
                return Err(Error {
                    line: Some(error.line()).filter(|line| *line > 0),
                    column: Some(error.column()).filter(|column| *column > 0),
                    message,
                });
            }
        }
    }
    Ok(values)
}

/// A value whose keys are strings by value, and each of them once.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite has no place in Kubernetes"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key(&map))? {
            let Tree(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A mapping key that the mapping so far does not hold: a string, or a scalar that becomes one as
/// in `sigs.k8s.io/yaml`.
///
/// serde_json keeps the last of two equal keys without a word, and YAML's `8080` and `"8080"` are
/// different keys there but the same one here. Looking while the key is read gives the error a
/// line.
struct Key<'a>(&'a Map<String, Value>);

impl Key<'_> {
    fn unique<E: de::Error>(self, key: String) -> Result<String, E> {
        if self.0.contains_key(&key) {
            return Err(E::custom(format_args!("duplicate key `{key}`")));
        }
        Ok(key)
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key that is a string, a number or a boolean")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<String, E> {
        self.unique(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
        self.unique(value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
        self.unique(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
        self.unique(value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        self.unique(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<String, E> {
        self.unique(value)
    }
}

#[cfg(test)]
mod tests;
