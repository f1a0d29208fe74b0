//! A stream of documents that remembers how each was written.

use serde_json::Value as Json;

use super::workload::{self, Workload};
use super::{ManifestError, emit};
use crate::yaml;

/// The documents of one file.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The file, as the user named it.
    pub source: String,
    documents: Vec<Document>,
    /// A byte order mark, kept.
    mark: bool,
}

#[derive(Debug, Clone)]
struct Document {
    /// The text, with its `---` line if it has one.
    text: String,
    /// What it holds; `null` if only comments.
    value: Json,
    language: Language,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Yaml,
    Json,
}

const MARK: char = '\u{FEFF}';

impl Stream {
    /// Takes a text apart and decodes each document.
    ///
    /// # Errors
    /// Bytes that are no text, or the first document that is neither YAML nor JSON, with its line.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|error| ManifestError::NotText {
            path: source.to_owned(),
            at: error.valid_up_to(),
        })?;
        let (mark, text) = text
            .strip_prefix(MARK)
            .map_or((false, text), |rest| (true, rest));
        let documents = match parse_json(text) {
            Some(documents) => documents,
            None => parse_yaml(source, text)?,
        };
        Ok(Self {
            source: source.to_owned(),
            documents,
            mark,
        })
    }

    /// Every workload in the stream, those inside of a `List` too.
    pub fn workloads(&self) -> Vec<Workload> {
        self.documents
            .iter()
            .enumerate()
            .flat_map(|(index, document)| workload::find(index, &document.value))
            .collect()
    }

    /// The pod template of a workload: an object with `metadata` and `spec`.
    pub fn template(&self, workload: &Workload) -> &Json {
        self.documents
            .get(workload.document)
            .and_then(|document| document.value.pointer(&workload.pointer))
            .unwrap_or(&Json::Null)
    }

    /// The namespaces that the stream itself describes: their names and metadata.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.documents.iter().filter_map(|document| {
            let value = &document.value;
            let is_namespace = value["kind"] == "Namespace" && value["apiVersion"] == "v1";
            let metadata = value.get("metadata").filter(|_| is_namespace)?;
            Some((metadata.get("name")?.as_str()?, metadata))
        })
    }

    /// Applies a patch to the pod template of a workload, all of it or nothing.
    ///
    /// # Errors
    /// An operation that does not apply.
    pub fn apply(
        &mut self,
        workload: &Workload,
        patch: &json_patch::Patch,
    ) -> Result<(), json_patch::PatchError> {
        let document = self.documents.get_mut(workload.document);
        let Some((template, changed)) = document.and_then(|document| {
            Some((
                document.value.pointer_mut(&workload.pointer)?,
                &mut document.changed,
            ))
        }) else {
            return Ok(());
        };
        json_patch::patch(template, patch)?;
        *changed |= !patch.0.is_empty();
        Ok(())
    }

    /// The stream as text: unchanged documents as they were, changed ones written anew in their own language.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if self.mark {
            text.push(MARK);
        }
        for document in &self.documents {
            text.push_str(&document.to_text());
        }
        text
    }

    /// The stream as it was read.
    pub fn original(&self) -> String {
        let mark = if self.mark {
            MARK.to_string()
        } else {
            String::new()
        };
        self.documents
            .iter()
            .fold(mark, |text, document| text + &document.text)
    }

    /// What the documents hold, empty ones left out.
    pub fn values(&self) -> impl Iterator<Item = &Json> {
        self.documents
            .iter()
            .map(|document| &document.value)
            .filter(|value| !value.is_null())
    }
}

impl Document {
    fn to_text(&self) -> String {
        match (self.changed, self.language) {
            (false, _) => self.text.clone(),
            (true, Language::Json) => format!("{:#}\n", self.value),
            (true, Language::Yaml) => {
                format!("{}{}", emit::head(&self.text), emit::write(&self.value))
            }
        }
    }
}

/// One or more JSON values, or `None` if that is not what the text is: a YAML flow mapping begins alike.
fn parse_json(text: &str) -> Option<Vec<Document>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut documents = Vec::new();
    let mut start = 0;
    for (value, end) in yaml::read_json(text).ok()? {
        documents.push(Document {
            text: text[start..end].to_owned(),
            value,
            language: Language::Json,
            changed: false,
        });
        start = end;
    }
    if let Some(last) = documents.last_mut() {
        last.text.push_str(&text[start..]);
    }
    Some(documents)
}

fn parse_yaml(source: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    let mut line = 1;
    for chunk in yaml::split(text) {
        let value = yaml::read(chunk).map_err(|error| ManifestError::NotYaml {
            path: source.to_owned(),
            document: documents.len() + 1,
            line: line + error.line.unwrap_or(1) - 1,
            message: error.message,
        })?;
        line += chunk.matches('\n').count();
        documents.push(Document {
            text: chunk.to_owned(),
            value,
            language: Language::Yaml,
            changed: false,
        });
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> Stream {
        Stream::parse("test", text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn what_is_not_changed_comes_back_byte_for_byte() {
        for text in [
            "",
            "# only a comment\n",
            "a: 1",
            "a: 1\n---\nb: 2\n",
            "---\na: 1\n---\n---\n# empty\n---\nb:   2   # spaced\n...\n",
            "%YAML 1.2\n---\na: 1\n",
            "\u{FEFF}a: 1\n",
            "a: 1\r\n---\r\nb: |\r\n  text\r\n",
            "a: |\n  --- not a marker\n  x\n--- # a comment\nb: 1\n",
            "{\"a\": 1.0}\n{\"b\":18446744073709551616}",
            "[{\"a\":\t1}]",
        ] {
            assert_eq!(stream(text).to_text(), text);
            assert_eq!(stream(text).original(), text);
        }
    }

    #[test]
    fn a_document_that_is_no_yaml_is_named_with_its_line() {
        let error = Stream::parse("x.yaml", b"a: 1\n---\nb: [\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("x.yaml: document 2, line "), "{error}");
        let error = Stream::parse("x.yaml", b"a: 1\na: 2\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("duplicate"), "{error}");
        let error = Stream::parse("x.yaml", b"a: \xff").unwrap_err().to_string();
        assert_eq!(error, "x.yaml: is not UTF-8 at byte 3");
    }

    #[test]
    fn aliases_are_resolved_within_bounds() {
        assert_eq!(
            stream("a: &x {b: 1}\nc: *x\n").documents[0].value["c"]["b"],
            1
        );
        let mut bomb = String::from("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            let items = vec![alias; 10].join(", ");
            bomb.push_str(&format!("b{level}: &a{level} [{items}]\n"));
        }
        assert!(Stream::parse("bomb", bomb.as_bytes()).is_err());
    }

    #[test]
    fn a_changed_document_keeps_its_head_and_its_neighbours() {
        let text = "# first\na: 1 # one\n---\n# about the pod\napiVersion: v1\nkind: Pod # inline\nmetadata: {name: x}\nspec: {}\n---\nb:  2\n";
        let mut stream = stream(text);
        let workload = stream.workloads().remove(0);
        let patch =
            serde_json::from_str(r#"[{"op":"add","path":"/metadata/labels","value":{"a":"yes"}}]"#)
                .unwrap();
        stream.apply(&workload, &patch).unwrap();
        assert_eq!(
            stream.to_text(),
            "# first\na: 1 # one\n---\n# about the pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n  labels:\n    a: \"yes\"\nspec: {}\n---\nb:  2\n"
        );
    }
}
