//! From a value to YAML that every reader reads back as that value.
//!
//! serde-saphyr quotes for YAML 1.1 and 1.2 alike: `yes`, `1e3`, `0x1F`, `012`, `12:30:45`,
//! `2024-01-02` and their kind come out quoted when they are strings. The properties in the
//! tests hold it to that.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::SingleQuoted;

use crate::yaml as reader;

/// How a YAML text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Spaces a level.
    pub(super) indent: usize,
    /// Whether the items of a list are indented below their key.
    pub(super) indented_lists: bool,
}

/// What kubectl writes.
pub(super) const KUBECTL: Layout = Layout {
    indent: 2,
    indented_lists: false,
};

/// Writes a value as one YAML document, without markers, with a line break at the end.
pub(super) fn yaml(value: &Value, layout: Layout) -> Result<String, String> {
    let options = serde_saphyr::ser_options! {
        indent_step: layout.indent,
        compact_list_indent: !layout.indented_lists,
        empty_as_braces: true,
        prefer_block_scalars: true,
        // Only lines that are there are lines: a long text is not folded.
        folded_wrap_chars: usize::MAX,
        yaml_12: false,
    };
    let text = serde_saphyr::to_string_with_options(&Node(value), options)
        .map_err(|error| error.to_string())?;
    Ok(without_trailing_blanks(&text, value).unwrap_or(text))
}

/// A value with JSON in a string put between single quotes, where it reads as it is.
struct Node<'a>(&'a Value);

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if is_json_like(text) => SingleQuoted(text).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Node)),
            Value::Object(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, Node(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

fn is_json_like(text: &str) -> bool {
    text.starts_with(['{', '[', '"'])
        && text.contains('"')
        && text
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'\'')
}

/// The serializer indents the empty lines of a literal block, too. The text without those blanks,
/// unless they are some string's own.
fn without_trailing_blanks(text: &str, value: &Value) -> Option<String> {
    let blank = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte == b' ');
    if !text.lines().any(blank) {
        return None;
    }
    let bare: String = text
        .lines()
        .flat_map(|line| [if blank(line) { "" } else { line }, "\n"])
        .collect();
    (reader::read(&bare).as_ref() == Ok(value)).then_some(bare)
}

/// Writes a value as JSON, indented like the text it comes from.
pub(super) fn json_like(value: &Value, original: &str) -> Result<String, String> {
    let broken = |error: serde_json::Error| error.to_string();
    let trimmed = original.trim();
    let Some(second) = trimmed.lines().nth(1) else {
        return serde_json::to_string(value).map_err(broken);
    };
    let indent: String = second
        .chars()
        .take_while(|character| matches!(character, ' ' | '\t'))
        .collect();
    let indent = if indent.is_empty() {
        "  ".to_owned()
    } else {
        indent
    };
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer).map_err(broken)?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(super) mod tests;
