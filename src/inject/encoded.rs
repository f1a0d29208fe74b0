//! JSON text on its way to base64, in which a patch travels.
//!
//! Base64 turns every three bytes into four characters, by themselves. So a text that begins at a multiple of three
//! looks the same wherever that is, and can be encoded once and not for each pod. JSON lets spaces stand between its
//! tokens, and a space or two bring each piece to such a place.

use std::sync::LazyLock;

use base64::Engine;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::general_purpose::GeneralPurpose as Base64;
use base64::engine::general_purpose::PAD;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::simd::Simd as Base64;

/// With the processor's wide instructions, where it has them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<Base64> = LazyLock::new(|| Base64::standard(PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<Base64> = LazyLock::new(|| Base64::new(&base64::alphabet::STANDARD, PAD));

/// Bytes that base64 encodes together.
const TOGETHER: usize = 3;

/// A piece of JSON, encoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// A piece of JSON that begins and ends between tokens. It may come out with spaces behind it.
    pub fn new(json: &str) -> Self {
        let (whole, rest) = json.as_bytes().as_chunks::<TOGETHER>();
        let mut encoded = Vec::with_capacity((whole.len() + 1) * 4);
        encode(whole.as_flattened(), &mut encoded);
        if !rest.is_empty() {
            let mut last = [b' '; TOGETHER];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            encode(&last, &mut encoded);
        }
        Self(encoded)
    }

    /// How many bytes it has, encoded.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// Writes JSON that ends up as base64.
#[derive(Debug, Default)]
pub struct EncodedWriter {
    encoded: Vec<u8>,
    /// What comes behind that.
    rest: String,
}

impl EncodedWriter {
    /// A writer that writes behind `before`, with room for so many bytes of JSON beside pieces that have so many,
    /// encoded.
    pub fn with_capacity(before: &str, json: usize, pieces: usize) -> Self {
        let mut encoded = Vec::with_capacity(before.len() + pieces + json.div_ceil(TOGETHER) * 4);
        encoded.extend_from_slice(before.as_bytes());
        Self {
            encoded,
            rest: String::with_capacity(json),
        }
    }

    /// Appends text.
    pub fn push_str(&mut self, text: &str) {
        self.rest.push_str(text);
    }

    /// Appends a character.
    pub fn push(&mut self, character: char) {
        self.rest.push(character);
    }

    /// To append text to.
    pub fn text(&mut self) -> &mut String {
        &mut self.rest
    }

    /// Appends a piece. What was written before it must end between tokens.
    pub fn push_encoded(&mut self, piece: &Encoded) {
        while !self.rest.len().is_multiple_of(TOGETHER) {
            self.rest.push(' ');
        }
        encode(self.rest.as_bytes(), &mut self.encoded);
        self.rest.clear();
        self.encoded.extend_from_slice(&piece.0);
    }

    /// What was there before, and all that was written as base64.
    pub fn finish(mut self) -> Vec<u8> {
        encode(self.rest.as_bytes(), &mut self.encoded);
        self.encoded
    }
}

/// Appends bytes, encoded in place: the library's way to the end of a string is by way of a buffer.
fn encode(bytes: &[u8], encoded: &mut Vec<u8>) {
    let start = encoded.len();
    let length = bytes.len().div_ceil(TOGETHER) * 4;
    encoded.resize(start + length, 0);
    // There is exactly the room that it takes.
    let written = BASE64.encode_slice(bytes, &mut encoded[start..]);
    encoded.truncate(start + written.unwrap_or_default());
}

/// The text that was encoded.
pub fn decode(encoded: &[u8]) -> String {
    // It was encoded here, from text.
    let bytes = BASE64.decode(encoded).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_where_they_were_put() {
        for length in 0..10 {
            let text = format!("[\"{}\",", "a".repeat(length));
            let mut writer = EncodedWriter::default();
            writer.push_str(&text);
            writer.push_encoded(&Encoded::new("[1]"));
            writer.push(',');
            writer.push_encoded(&Encoded::new("{\"ö\":2}"));
            writer.push_str("]");
            let json = decode(&writer.finish());
            let tree: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(
                tree,
                serde_json::json!(["a".repeat(length), [1], {"ö": 2}]),
                "{json}"
            );
        }
    }
}
