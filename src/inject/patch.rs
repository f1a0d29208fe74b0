//! The JSON patch (RFC 6902), written directly.
//!
//! Every operation is an `add` of a member that was not there, an insertion into a list, or an item at a
//! list's end: nothing that the user wrote is ever replaced, moved or removed. The one member that may be
//! replaced is `outrigger.dev/status`, which is ours.

use std::fmt::Write;

/// A JSON patch of `add` operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    operations: Vec<Add>,
}

/// One `add` operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// The JSON pointer (RFC 6901).
    pub path: String,
    /// The value, as JSON text.
    pub value: String,
}

impl Patch {
    /// Appends an operation.
    pub fn add(&mut self, path: String, value: String) {
        self.operations.push(Add { path, value });
    }

    /// The operations, in order.
    pub fn operations(&self) -> &[Add] {
        &self.operations
    }

    /// Whether the patch changes nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The patch as JSON text.
    pub fn to_json(&self) -> String {
        let size = self
            .operations
            .iter()
            .map(|add| add.path.len() + add.value.len() + 40)
            .sum::<usize>();
        let mut json = String::with_capacity(size + 2);
        json.push('[');
        for (index, add) in self.operations.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str("{\"op\":\"add\",\"path\":");
            json.push_str(&quote(&add.path));
            json.push_str(",\"value\":");
            json.push_str(&add.value);
            json.push('}');
        }
        json.push(']');
        json
    }
}

/// Text as a JSON string.
pub fn quote(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        return format!("\"{text}\"");
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control < ' ' => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "\\u{:04x}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of JSON texts as a JSON array.
pub fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(item);
    }
    json.push(']');
    json
}

/// Pairs as a JSON object of strings.
pub fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut json = String::from("{");
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&quote(key));
        json.push(':');
        json.push_str(&quote(value));
    }
    json.push('}');
    json
}

/// A key as one token of a JSON pointer (RFC 6901, section 3).
pub fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
