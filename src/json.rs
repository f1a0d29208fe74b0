//! Reading JSON where every microsecond counts: the review of a pod.
//!
//! Half of what an API server sends about a pod is passed over unread (who manages which field, tolerations,
//! status), and passing over it took more time than all of the injection. So a small reader reads what API servers
//! write, and looks for quotes in sixty-four bytes at a time. It says yes only to what it fully understands; about
//! the rest `from_str` asks `serde_json`, which reads it or says what is wrong. So there is one meaning of JSON and
//! one wording of its errors; properties and a fuzz target hold the two readers to the same answers.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

/// Reads a value, borrowing from the text where nothing is escaped.
///
/// # Errors
/// As `serde_json::from_str`.
pub(crate) fn from_str<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    let mut reader = Reader::new(text);
    T::deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .or_else(|NotUnderstood| serde_json::from_str(text))
}

/// A value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a>(&'a str);

impl<'a> Written<'a> {
    /// The text.
    pub fn get(self) -> &'a str {
        self.0
    }

    /// The name by which the reader knows that the text is wanted.
    const NAME: &'static str = "outrigger::json::Written";
}

impl<'de: 'a, 'a> Deserialize<'de> for Written<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WrittenVisitor;

        impl<'de> Visitor<'de> for WrittenVisitor {
            type Value = Written<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            /// From the reader.
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Written(text))
            }

            /// From `serde_json`.
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Self::Value, D::Error> {
                <&RawValue>::deserialize(deserializer).map(|raw| Written(raw.get()))
            }
        }

        deserializer.deserialize_newtype_struct(Self::NAME, WrittenVisitor)
    }
}

/// What the reader says of all that it does not read.
#[derive(Debug)]
struct NotUnderstood;

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not understood")
    }
}

impl std::error::Error for NotUnderstood {}

impl serde::de::Error for NotUnderstood {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, _: &dyn serde::de::Expected) -> Self {
        Self
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self
    }
}

type Understood<T = ()> = Result<T, NotUnderstood>;

/// The text, and how far it is read.
struct Reader<'de> {
    text: &'de str,
    at: usize,
    marks: scan::Marks<'de>,
}

/// A string in the text.
enum Quoted<'de> {
    /// Nothing is escaped: what stands between the quotes.
    Plain(&'de str),
    /// With the quotes.
    Escaped(&'de str),
}

impl<'de> Reader<'de> {
    fn new(text: &'de str) -> Self {
        Self {
            text,
            at: 0,
            marks: scan::Marks::from(text.as_bytes(), 0),
        }
    }

    /// The next byte that is no white space, which stays.
    fn peek(&mut self) -> Understood<u8> {
        let bytes = self.text.as_bytes();
        self.at = scan::space(bytes, self.at);
        bytes.get(self.at).copied().ok_or(NotUnderstood)
    }

    fn take(&mut self, expected: u8) -> Understood {
        if self.peek()? != expected {
            return Err(NotUnderstood);
        }
        self.at += 1;
        Ok(())
    }

    fn take_word(&mut self, word: &str) -> Understood {
        let end = scan::word(self.text.as_bytes(), self.at, word);
        self.at = end.ok_or(NotUnderstood)?;
        Ok(())
    }

    /// Nothing but white space may be left.
    fn end(&mut self) -> Understood {
        match self.peek() {
            Err(NotUnderstood) => Ok(()),
            Ok(_) => Err(NotUnderstood),
        }
    }

    /// What stands from there to here.
    fn since(&self, start: usize) -> Understood<&'de str> {
        self.text.get(start..self.at).ok_or(NotUnderstood)
    }

    /// Reads a string, which begins here.
    fn string(&mut self) -> Understood<Quoted<'de>> {
        let start = self.at;
        let (end, escaped) = self.marks.string(start).ok_or(NotUnderstood)?;
        self.at = end;
        if escaped {
            return Ok(Quoted::Escaped(self.since(start)?));
        }
        let inner = self.text.get(start + 1..end - 1);
        Ok(Quoted::Plain(inner.ok_or(NotUnderstood)?))
    }

    /// Passes over a value and returns its text.
    fn pass(&mut self) -> Understood<&'de str> {
        self.peek()?;
        let start = self.at;
        self.at = self.marks.value(start).ok_or(NotUnderstood)?;
        self.since(start)
    }
}

/// Where things end. Each takes the place at which something begins and returns the one behind it, or `None` if it
/// is not understood.
mod scan {
    use wide::u8x16;

    /// Stands before the bits of the lists and objects that are open, of which there are 63 at most.
    const NONE_OPEN: u64 = 1;
    const DEEPEST: u64 = 1 << 63;

    /// How many bytes are looked at together.
    const BLOCK: usize = u64::BITS as usize;

    #[inline(always)]
    pub(super) fn space(bytes: &[u8], at: usize) -> usize {
        // API servers write none.
        match bytes.get(at) {
            Some(byte) if *byte <= b' ' => some_space(bytes, at),
            _ => at,
        }
    }

    #[cold]
    fn some_space(bytes: &[u8], mut at: usize) -> usize {
        while bytes.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        at
    }

    /// The place of a byte, maybe behind white space.
    #[inline(always)]
    fn find(bytes: &[u8], mut at: usize, wanted: u8) -> Option<usize> {
        if bytes.get(at) != Some(&wanted) {
            at = space(bytes, at);
            if bytes.get(at) != Some(&wanted) {
                return None;
            }
        }
        Some(at)
    }

    fn is_space(byte: u8) -> bool {
        matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
    }

    pub(super) fn word(bytes: &[u8], at: usize, word: &str) -> Option<usize> {
        let found = bytes.get(at..)?.starts_with(word.as_bytes());
        found.then_some(at + word.len())
    }

    fn escape(bytes: &[u8], at: usize) -> Option<usize> {
        match bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
            b'u' => {
                let digits = bytes.get(at + 2..at + 6)?;
                let digits = digits.iter().all(u8::is_ascii_hexdigit);
                digits.then_some(at + 6)
            }
            _ => None,
        }
    }

    pub(super) fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
        if bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        at = match bytes.get(at)? {
            b'0' => at + 1,
            _ => digits(bytes, at)?,
        };
        if bytes.get(at) == Some(&b'.') {
            at = digits(bytes, at + 1)?;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            at = digits(bytes, at)?;
        }
        Some(at)
    }

    /// At least one.
    fn digits(bytes: &[u8], start: usize) -> Option<usize> {
        let mut at = start;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > start).then_some(at)
    }

    /// The bytes that mean something in a string, in order: quotes, backslashes, and control characters, which may
    /// not be there. All of a block are looked for together: finding the end of one string need not wait for where
    /// the last one ended.
    #[derive(Clone, Copy)]
    pub(super) struct Marks<'b> {
        bytes: &'b [u8],
        /// Where the block begins.
        base: usize,
        /// A bit for each mark of the block that is still ahead.
        ahead: u64,
    }

    impl<'b> Marks<'b> {
        /// Those from there on.
        pub(super) fn from(bytes: &'b [u8], at: usize) -> Self {
            Self {
                bytes,
                base: at,
                ahead: marks(bytes, at),
            }
        }

        #[inline(always)]
        fn next(&mut self) -> Option<usize> {
            while self.ahead == 0 {
                self.base += BLOCK;
                if self.base >= self.bytes.len() {
                    return None;
                }
                self.ahead = marks(self.bytes, self.base);
            }
            let at = self.base + self.ahead.trailing_zeros() as usize;
            self.ahead &= self.ahead - 1;
            Some(at)
        }

        /// The end of a string, and whether something in it is escaped.
        #[inline(always)]
        pub(super) fn string(&mut self, at: usize) -> Option<(usize, bool)> {
            if self.next()? != at {
                // Line breaks stand before it.
                *self = Self::from(self.bytes, at + 1);
            }
            let mut escaped = false;
            loop {
                let at = self.next()?;
                match self.bytes.get(at)? {
                    b'"' => return Some((at + 1, escaped)),
                    b'\\' => {
                        escaped = true;
                        escape(self.bytes, at)?;
                        if matches!(self.bytes.get(at + 1), Some(b'"' | b'\\')) {
                            self.next()?;
                        }
                    }
                    _ => return None,
                }
            }
        }

        /// The end of a value, which may stand behind white space.
        pub(super) fn value(&mut self, at: usize) -> Option<usize> {
            // A copy, which is kept in registers.
            let mut marks = *self;
            let end = marks.pass(at)?;
            *self = marks;
            Some(end)
        }

        #[inline(always)]
        fn pass(&mut self, mut at: usize) -> Option<usize> {
            let bytes = self.bytes;
            // A bit for each list and object that is open, set for an object; the last is the innermost.
            let mut open = NONE_OPEN;
            loop {
                let first = *bytes.get(at)?;
                at = match first {
                    b'"' => self.string(at)?.0,
                    b'{' | b'[' => {
                        let is_object = first == b'{';
                        let end = if is_object { b'}' } else { b']' };
                        at = space(bytes, at + 1);
                        if bytes.get(at) == Some(&end) {
                            at + 1
                        } else if open >= DEEPEST {
                            return None;
                        } else {
                            open = open << 1 | u64::from(is_object);
                            if is_object {
                                at = self.key(at)?;
                            }
                            continue;
                        }
                    }
                    b't' => word(bytes, at, "true")?,
                    b'f' => word(bytes, at, "false")?,
                    b'n' => word(bytes, at, "null")?,
                    byte if is_space(byte) => {
                        at = some_space(bytes, at);
                        continue;
                    }
                    _ => number(bytes, at)?,
                };
                // Behind a value.
                loop {
                    if open == NONE_OPEN {
                        return Some(at);
                    }
                    let is_object = open & 1 == 1;
                    match *bytes.get(at)? {
                        b',' => {
                            at += 1;
                            if is_object {
                                at = self.key(at)?;
                            }
                            break;
                        }
                        end @ (b'}' | b']') if (end == b'}') == is_object => {
                            at += 1;
                            open >>= 1;
                        }
                        byte if is_space(byte) => at = some_space(bytes, at),
                        _ => return None,
                    }
                }
            }
        }

        /// The end of the colon behind the key of a member, maybe with white space before and between.
        #[inline(always)]
        fn key(&mut self, at: usize) -> Option<usize> {
            let at = find(self.bytes, at, b'"')?;
            let (at, _) = self.string(at)?;
            Some(find(self.bytes, at, b':')? + 1)
        }
    }

    /// The marks of the block that begins there.
    #[inline(always)]
    fn marks(bytes: &[u8], at: usize) -> u64 {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(block) => of_block(block),
            None => of_last(rest),
        }
    }

    #[cold]
    fn of_last(rest: &[u8]) -> u64 {
        let mut block = [b' '; BLOCK];
        for (to, from) in block.iter_mut().zip(rest) {
            *to = *from;
        }
        of_block(&block)
    }

    #[inline(always)]
    fn of_block(block: &[u8; BLOCK]) -> u64 {
        let (chunks, _) = block.as_chunks();
        let of_chunks = chunks.iter().enumerate();
        of_chunks.fold(0, |all, (index, chunk)| {
            all | u64::from(of_chunk(*chunk)) << (16 * index)
        })
    }

    #[inline(always)]
    fn of_chunk(chunk: [u8; 16]) -> u32 {
        let chunk = u8x16::new(chunk);
        let control = chunk.min(u8x16::splat(0x1f)).simd_eq(chunk);
        let quote = chunk.simd_eq(u8x16::splat(b'"'));
        let escape = chunk.simd_eq(u8x16::splat(b'\\'));
        (control | quote | escape).to_bitmask()
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = NotUnderstood;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        match self.peek()? {
            b'"' => self.deserialize_str(visitor),
            b'{' => self.deserialize_map(visitor),
            b'[' => self.deserialize_seq(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            b'-' | b'0'..=b'9' => self.deserialize_i64(visitor),
            _ => Err(NotUnderstood),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        match self.peek()? {
            b't' => {
                self.take_word("true")?;
                visitor.visit_bool(true)
            }
            _ => {
                self.take_word("false")?;
                visitor.visit_bool(false)
            }
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.peek()?;
        let start = self.at;
        self.at = scan::number(self.text.as_bytes(), start).ok_or(NotUnderstood)?;
        let number = self.since(start)?;
        if number == "-0" {
            // To `serde_json` it is no integer.
            return Err(NotUnderstood);
        }
        visitor.visit_i64(number.parse().map_err(NotUnderstood::custom)?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        if self.peek()? != b'"' {
            return Err(NotUnderstood);
        }
        match self.string()? {
            Quoted::Plain(text) => visitor.visit_borrowed_str(text),
            Quoted::Escaped(quoted) => {
                visitor.visit_string(serde_json::from_str(quoted).map_err(NotUnderstood::custom)?)
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        if self.peek()? == b'n' {
            self.take_word("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Understood<V::Value> {
        if name != Written::NAME {
            return visitor.visit_newtype_struct(self);
        }
        visitor.visit_borrowed_str(self.pass()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.take(b'[')?;
        let mut list = Inside::new(self, b']');
        let value = visitor.visit_seq(&mut list)?;
        list.closed(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.take(b'{')?;
        let mut object = Inside::new(self, b'}');
        let value = visitor.visit_map(&mut object)?;
        object.closed(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Understood<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Understood<V::Value> {
        self.pass()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct enum
    }
}

/// A list or an object that is being read.
struct Inside<'r, 'de> {
    reader: &'r mut Reader<'de>,
    end: u8,
    is_first: bool,
    is_closed: bool,
}

impl<'r, 'de> Inside<'r, 'de> {
    fn new(reader: &'r mut Reader<'de>, end: u8) -> Self {
        Self {
            reader,
            end,
            is_first: true,
            is_closed: false,
        }
    }

    /// Whether another item or member comes. The end is passed over, and so is a comma, behind which no end may
    /// come: it would be read as an item, which it is not.
    fn has_more(&mut self) -> Understood<bool> {
        match self.reader.peek()? {
            byte if byte == self.end => {
                self.reader.at += 1;
                self.is_closed = true;
                Ok(false)
            }
            _ if std::mem::take(&mut self.is_first) => Ok(true),
            b',' => {
                self.reader.at += 1;
                Ok(true)
            }
            _ => Err(NotUnderstood),
        }
    }

    /// The value, if everything was read.
    fn closed<T>(&self, value: T) -> Understood<T> {
        if self.is_closed {
            Ok(value)
        } else {
            Err(NotUnderstood)
        }
    }
}

impl<'de> SeqAccess<'de> for Inside<'_, 'de> {
    type Error = NotUnderstood;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Understood<Option<T::Value>> {
        if !self.has_more()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Inside<'_, 'de> {
    type Error = NotUnderstood;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Understood<Option<K::Value>> {
        if !self.has_more()? {
            return Ok(None);
        }
        if self.reader.peek()? != b'"' {
            return Err(NotUnderstood);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Understood<V::Value> {
        self.reader.take(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests;
