//! The JSON patch (RFC 6902), written directly.
//!
//! Every operation is an `add` of a member that was not there, an insertion into a list, or an item at a
//! list's end: nothing that the user wrote is ever replaced, moved or removed. The one member that may be
//! replaced is `outrigger.dev/status`, which is ours.

use std::fmt::Write;

use super::encoded::{Encoded, EncodedWriter, decode};

/// A JSON patch of `add` operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    buffer: Vec<u8>,
    /// Where in the buffer the patch begins, in base64.
    start: usize,
    operations: usize,
}

impl Patch {
    /// The number of operations.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// [`super::Request::before_patch`] and the patch in base64, for what comes behind it.
    pub fn into_answer(self) -> Vec<u8> {
        self.buffer
    }

    /// The patch as JSON text.
    pub fn to_json(&self) -> String {
        self.buffer
            .get(self.start..)
            .map(decode)
            .unwrap_or_default()
    }
}

/// A piece of a JSON pointer (RFC 6901).
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'p> {
    /// As it stands: slashes and fixed names.
    Fixed(&'p str),
    /// A key, as one token.
    Key(&'p str),
    /// An index.
    Index(usize),
}

/// Writes a patch, operation by operation.
#[derive(Debug)]
pub(super) struct PatchWriter {
    out: EncodedWriter,
    start: usize,
    operations: usize,
}

impl PatchWriter {
    /// A writer of a patch behind `before`. As to the room, see [`EncodedWriter::with_capacity`].
    pub(super) fn with_capacity(before: &str, json: usize, pieces: usize) -> Self {
        let mut out = EncodedWriter::with_capacity(before, json, pieces);
        out.push('[');
        Self {
            out,
            start: before.len(),
            operations: 0,
        }
    }

    /// An `add` operation at the end of a list.
    pub(super) fn append(&mut self, list: &[Piece<'_>], value: impl FnOnce(&mut EncodedWriter)) {
        self.operation(list, "/-", value);
    }

    /// An `add` operation, whose value `value` writes as JSON text.
    pub(super) fn add(&mut self, path: &[Piece<'_>], value: impl FnOnce(&mut EncodedWriter)) {
        self.operation(path, "", value);
    }

    /// An operation that is written already.
    pub(super) fn add_encoded(&mut self, operation: &Encoded) {
        self.begin();
        self.out.push_encoded(operation);
    }

    fn operation(&mut self, path: &[Piece<'_>], end: &str, value: impl FnOnce(&mut EncodedWriter)) {
        self.begin();
        push_add(self.out.text(), path, end);
        value(&mut self.out);
        self.out.push('}');
    }

    /// Begins an operation.
    fn begin(&mut self) {
        if self.operations > 0 {
            self.out.push(',');
        }
        self.operations += 1;
    }

    /// The whole patch.
    pub(super) fn finish(mut self) -> Patch {
        self.out.push(']');
        Patch {
            buffer: self.out.finish(),
            start: self.start,
            operations: self.operations,
        }
    }
}

/// The operation that sets an annotation of a pod that has some.
pub(super) fn set_annotation(key: &str, value: &str) -> Encoded {
    let mut json = String::with_capacity(key.len() + value.len() + value.len() / 8 + 64);
    push_add(&mut json, &annotation(key), "");
    push_quoted(&mut json, value);
    json.push('}');
    Encoded::new(&json)
}

/// The path of an annotation.
pub(super) fn annotation(key: &str) -> [Piece<'_>; 2] {
    [Piece::Fixed("/metadata/annotations/"), Piece::Key(key)]
}

/// Appends the beginning of an `add` operation, until its value.
fn push_add(json: &mut String, path: &[Piece<'_>], end: &str) {
    json.push_str("{\"op\":\"add\",\"path\":\"");
    for piece in path {
        match piece {
            Piece::Fixed(text) => json.push_str(text),
            Piece::Key(key) => push_token(json, key),
            Piece::Index(index) => {
                // Writing to a String does not fail.
                let _ = write!(json, "{index}");
            }
        }
    }
    json.push_str(end);
    json.push_str("\",\"value\":");
}

/// Appends a key as one token of a JSON pointer (RFC 6901, section 3), as it stands in a JSON string.
fn push_token(json: &mut String, key: &str) {
    push_replaced(json, key, |byte| match byte {
        b'~' => Some("~0"),
        b'/' => Some("~1"),
        other => escape(other),
    });
}

/// Appends text as it stands within the quotes of a JSON string.
pub fn push_escaped(json: &mut String, text: &str) {
    push_replaced(json, text, escape);
}

/// What stands for a byte in a JSON string that may not stand there itself (RFC 8259, section 7).
fn escape(byte: u8) -> Option<&'static str> {
    const CONTROLS: [&str; 0x20] = [
        "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
        "\\b", "\\t", "\\n", "\\u000b", "\\f", "\\r", "\\u000e", "\\u000f", "\\u0010", "\\u0011",
        "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017", "\\u0018", "\\u0019",
        "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
    ];
    match byte {
        b'"' => Some("\\\""),
        b'\\' => Some("\\\\"),
        other => CONTROLS.get(usize::from(other)).copied(),
    }
}

/// Appends text with some of its bytes, all ASCII, replaced. Runs of others are copied whole.
fn push_replaced(json: &mut String, text: &str, replacement: impl Fn(u8) -> Option<&'static str>) {
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(replacement) = replacement(byte) {
            json.push_str(&text[start..at]);
            json.push_str(replacement);
            start = at + 1;
        }
    }
    json.push_str(&text[start..]);
}

/// Appends text as a JSON string.
pub fn push_quoted(json: &mut String, text: &str) {
    json.push('"');
    push_escaped(json, text);
    json.push('"');
}

/// Text as a JSON string.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + text.len() / 8 + 2);
    push_quoted(&mut quoted, text);
    quoted
}

/// Appends pairs as a JSON object of strings.
pub fn push_object<'a>(json: &mut String, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
    json.push('{');
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_quoted(json, key);
        json.push(':');
        push_quoted(json, value);
    }
    json.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_escaped_where_they_must_be() {
        let mut writer = PatchWriter::with_capacity("", 0, 0);
        writer.add(&[Piece::Fixed("/a/"), Piece::Key("x/~y\"z\n")], |out| {
            push_quoted(out.text(), "\u{1}a\\\"ö\t");
        });
        writer.add(&[Piece::Fixed("/b/"), Piece::Index(12)], |out| {
            out.push_str("[1,2]");
        });
        let patch = writer.finish();
        assert_eq!(patch.operations(), 2);
        let tree: serde_json::Value = serde_json::from_str(&patch.to_json()).unwrap();
        assert_eq!(
            tree,
            serde_json::json!([
                {"op": "add", "path": "/a/x~1~0y\"z\n", "value": "\u{1}a\\\"ö\t"},
                {"op": "add", "path": "/b/12", "value": [1, 2]},
            ])
        );
    }
}
