//! One document of a stream: its text, what it means, and its text once it means something else.

use std::borrow::Cow;

use serde_json::Value;

use super::encode;
use super::splice;
use super::workload::Applied;
use crate::yaml;
use crate::yaml::split::Piece;

/// A document. `head`, `body` and `tail` put together are its text.
#[derive(Debug, Clone)]
pub(super) struct Document {
    head: String,
    body: String,
    tail: String,
    json: bool,
    /// `null` for a document without content.
    pub(super) value: Value,
    /// The value as it was read, once it is another.
    original: Option<Value>,
    pub(super) applied: Vec<Applied>,
}

impl Document {
    /// Reads a piece of a stream: a YAML document, or JSON values that follow one another.
    ///
    /// `only_json`: the file's name says that it holds JSON.
    ///
    /// # Errors
    ///
    /// What is wrong; the line is counted from the piece's first.
    pub(super) fn read(piece: &Piece<'_>, only_json: bool) -> Result<Vec<Self>, yaml::Error> {
        if only_json || piece.body.trim_start().starts_with(['{', '[']) {
            match yaml::read_json(piece.body) {
                Ok(values) => return Ok(Self::of_json(piece, values)),
                Err(error) if only_json => {
                    return Err(error.below(1 + piece.head.matches('\n').count()));
                }
                // Flow style is YAML, too.
                Err(_) => {}
            }
        }
        let value = if piece.body.is_empty() {
            Value::Null
        } else {
            yaml::read(piece.text)?
        };
        Ok(vec![Self {
            head: piece.head.to_owned(),
            body: piece.body.to_owned(),
            tail: piece.tail.to_owned(),
            json: false,
            value,
            original: None,
            applied: Vec::new(),
        }])
    }

    fn of_json(piece: &Piece<'_>, values: Vec<(Value, usize)>) -> Vec<Self> {
        let count = values.len();
        let mut start = 0;
        let mut documents: Vec<Self> = values
            .into_iter()
            .enumerate()
            .map(|(index, (value, end))| {
                let text = &piece.body[start..end];
                let blanks = text.len() - text.trim_start().len();
                let head = if index == 0 { piece.head } else { "" };
                start = end;
                Self {
                    head: format!("{head}{}", &text[..blanks]),
                    body: text[blanks..].to_owned(),
                    tail: if index + 1 == count {
                        format!("{}{}", &piece.body[end..], piece.tail)
                    } else {
                        String::new()
                    },
                    json: true,
                    value,
                    original: None,
                    applied: Vec::new(),
                }
            })
            .collect();
        if documents.is_empty() {
            documents.push(Self {
                head: piece.text.to_owned(),
                body: String::new(),
                tail: String::new(),
                json: true,
                value: Value::Null,
                original: None,
                applied: Vec::new(),
            });
        }
        documents
    }

    /// Whether there is anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_null()
    }

    /// Whether it means something else than when it was read.
    pub(super) fn is_changed(&self) -> bool {
        self.original
            .as_ref()
            .is_some_and(|original| *original != self.value)
    }

    /// Patches the value at a pointer. Nothing is changed if the patch does not apply.
    pub(super) fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let pointer = applied.place.pointer();
        let original = self.value.clone();
        let Some(template) = self.value.pointer_mut(pointer) else {
            return Err(format!("there is nothing at `{pointer}`"));
        };
        json_patch::patch(template, &applied.patch).map_err(|error| error.to_string())?;
        self.original.get_or_insert(original);
        self.applied.push(applied.clone());
        Ok(())
    }

    /// The text as it was read.
    pub(super) fn before(&self) -> String {
        [self.head.as_str(), &self.body, &self.tail].concat()
    }

    /// The text of the value as it is now.
    ///
    /// # Errors
    ///
    /// That the value cannot be written such that it is read back the same.
    pub(super) fn after(&self) -> Result<Cow<'_, str>, String> {
        let Some(original) = self.original.as_ref().filter(|_| self.is_changed()) else {
            return Ok(Cow::Owned(self.before()));
        };
        if self.json {
            let body = encode::json_like(&self.value, &self.body)?;
            return Ok(Cow::Owned([self.head.as_str(), &body, &self.tail].concat()));
        }
        // A text counts only if it is read as the value, whatever became of it on the way.
        let is_right = |text: &String| yaml::read(text).as_ref() == Ok(&self.value);
        let line_break = if self.before().contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        };
        for body in splice::candidates(&self.body, original, &self.value, line_break) {
            let text = [self.head.as_str(), &body, &self.tail].concat();
            if is_right(&text) {
                return Ok(Cow::Owned(text));
            }
        }
        // Content on the marker's line goes, the marker stays.
        let marker = if self.body.starts_with("---") {
            "---\n"
        } else {
            ""
        };
        let body = format!("{marker}{}", encode::yaml(&self.value, encode::KUBECTL)?)
            .replace('\n', line_break);
        // Blank lines after a text that keeps its own (`|+`) would become part of it; its author
        // will not miss them.
        let markers = self.tail.trim_start_matches(['\r', '\n', ' ', '\t']);
        for tail in [&self.tail, markers, ""] {
            let text = [self.head.as_str(), &body, tail].concat();
            if is_right(&text) {
                return Ok(Cow::Owned(text));
            }
        }
        Err("failed to write the document such that it is read back the same".to_owned())
    }
}
