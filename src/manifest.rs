//! Kubernetes manifests as people keep them: what `-f` names, document by document.
//!
//! [`Source::read`] reads files, directories and standard input; [`Stream::parse`] reads one of
//! them, YAML or JSON; [`Stream::workloads`] finds the pod templates in it; [`Stream::apply`]
//! patches one; [`render`] writes the outcome. Nothing here knows what is injected.
//!
//! What holds:
//!
//! - A document that is not patched is written back byte for byte, and so is all between
//!   documents: comments, order, line breaks, a byte order mark, markers, empty documents.
//! - A YAML document that is patched is changed in its author's own text if that can be done:
//!   comments, quoting and anchors stay, and what is new stands in between. Where it cannot (flow
//!   style about the new lines, an anchor that is used elsewhere), the document is written anew:
//!   then its leading comments, its markers and its trailing comments stay, comments inside it
//!   are dropped. JSON is written anew with the indentation it had.
//! - Whatever is written for a patched document has been read again, and means exactly the
//!   patched value. There is no third outcome but an error.
//! - YAML is read as `kubectl` reads it, and written such that YAML 1.1 and YAML 1.2 readers
//!   agree on it.

mod document;
mod encode;
pub mod render;
mod source;
mod splice;
mod workload;

use std::fmt;

use json_patch::Patch;
use serde_json::Value;

use crate::yaml::split;
use document::Document;
pub use source::Source;
use workload::Applied;
pub use workload::{Place, Workload};

/// What is wrong with a manifest, and where.
///
/// Displayed as `file: document 2, line 17: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file's name, or `stdin`.
    pub source: String,
    /// Number of the document in the file, from 1.
    pub document: Option<usize>,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl ManifestError {
    fn of_file(source: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self {
            source: source.to_string(),
            document: None,
            line: None,
            message: message.to_string(),
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.source)?;
        match (self.document, self.line) {
            (Some(document), Some(line)) => {
                write!(formatter, "document {document}, line {line}: ")?
            }
            (Some(document), None) => write!(formatter, "document {document}: ")?,
            (None, Some(line)) => write!(formatter, "line {line}: ")?,
            (None, None) => {}
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

/// A `Namespace` in a stream: its labels and annotations are facts about the workloads beside it.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceObject<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// The whole object.
    pub object: &'a Value,
}

/// The documents of one file.
#[derive(Debug, Clone)]
pub struct Stream {
    name: String,
    byte_order_mark: bool,
    documents: Vec<Document>,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

impl Stream {
    /// Reads the documents of one file: a YAML stream, or JSON values that follow one another.
    /// A name ending in `.json` says JSON and nothing else; else JSON is recognised by itself.
    ///
    /// # Errors
    ///
    /// Every document that cannot be read.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Vec<ManifestError>> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| vec![not_utf8(name, bytes, error)])?;
        let bare = text.strip_prefix(BYTE_ORDER_MARK);
        let only_json = name.ends_with(".json");
        let mut documents = Vec::new();
        let mut errors = Vec::new();
        for piece in split::documents(bare.unwrap_or(text)) {
            match Document::read(&piece, only_json).map_err(|error| error.below(piece.line)) {
                Ok(read) => documents.extend(read),
                Err(error) => errors.push(ManifestError {
                    source: name.to_owned(),
                    document: Some(documents.len() + errors.len() + 1),
                    line: error.line,
                    message: error.message,
                }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            name: name.to_owned(),
            byte_order_mark: bare.is_some(),
            documents,
        })
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The workloads in it, in order: Pods and everything with a pod template, those in lists
    /// included. `default_namespace` is that of objects that name none.
    #[must_use]
    pub fn workloads<'a>(&'a self, default_namespace: &'a str) -> Vec<Workload<'a>> {
        let mut found = Vec::new();
        for (index, document) in self.documents.iter().enumerate() {
            found.extend(
                workload::objects(&document.value)
                    .iter()
                    .filter_map(|object| workload::workload(index, object, default_namespace)),
            );
        }
        found
    }

    /// The namespaces described in it, in order.
    #[must_use]
    pub fn namespaces(&self) -> Vec<NamespaceObject<'_>> {
        self.documents
            .iter()
            .flat_map(|document| workload::objects(&document.value))
            .filter(|object| object.api_version == "v1" && object.kind == "Namespace")
            .filter_map(|object| {
                let name = object.value.pointer("/metadata/name")?.as_str()?;
                Some(NamespaceObject {
                    name,
                    object: object.value,
                })
            })
            .collect()
    }

    /// Patches the pod template at a place that [`workloads`](Self::workloads) gave. The paths of
    /// the patch are relative to the template.
    ///
    /// # Errors
    ///
    /// That the patch does not apply; nothing is changed then.
    pub fn apply(&mut self, place: &Place, patch: &Patch) -> Result<(), ManifestError> {
        let failed = |message| ManifestError {
            source: self.name.clone(),
            document: Some(place.document_number()),
            line: None,
            message,
        };
        if patch.is_empty() {
            return Ok(());
        }
        let applied = Applied {
            place: place.clone(),
            patch: patch.clone(),
        };
        match self.documents.get_mut(place.document) {
            Some(document) => document
                .apply(&applied)
                .map_err(|error| failed(format!("the patch does not apply: {error}"))),
            None => Err(failed("there is no such document".to_owned())),
        }
    }

    /// Whether a patch changed any document.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.documents.iter().any(Document::is_changed)
    }

    /// The text of each document as it was read, with what stands around it: put together, and after a byte order
    /// mark if there is one, they are the file.
    #[must_use]
    pub fn documents(&self) -> Vec<String> {
        self.documents.iter().map(Document::before).collect()
    }

    /// The text as it was read.
    #[must_use]
    pub fn before(&self) -> String {
        let mut text = self.opening().to_owned();
        text.extend(self.documents.iter().map(Document::before));
        text
    }

    /// The text with the patches applied: fit to replace the file.
    ///
    /// # Errors
    ///
    /// That a patched document cannot be written such that it is read back the same.
    pub fn after(&self) -> Result<String, ManifestError> {
        let mut text = self.opening().to_owned();
        for (index, document) in self.documents.iter().enumerate() {
            let after = document.after().map_err(|message| ManifestError {
                source: self.name.clone(),
                document: Some(index + 1),
                line: None,
                message,
            })?;
            text.push_str(&after);
        }
        Ok(text)
    }

    fn opening(&self) -> &'static str {
        if self.byte_order_mark {
            BYTE_ORDER_MARK
        } else {
            ""
        }
    }
}

fn not_utf8(name: &str, bytes: &[u8], error: std::str::Utf8Error) -> ManifestError {
    let valid = &bytes[..error.valid_up_to()];
    let mut fault = ManifestError::of_file(name, "the text is not UTF-8");
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        fault.message.push_str(" but UTF-16: save it as UTF-8");
    } else {
        fault.line = Some(valid.iter().filter(|byte| **byte == b'\n').count() + 1);
    }
    fault
}

/// A value as YAML, laid out as kubectl does.
///
/// # Errors
///
/// None known: what JSON can hold can be written.
pub(crate) fn to_yaml(value: &Value) -> Result<String, ManifestError> {
    encode::yaml(value, encode::KUBECTL)
        .map_err(|message| ManifestError::of_file("output", message))
}

#[cfg(test)]
mod tests;
