//! The outcome for standard output: `-o yaml`, `json`, `patch` and `diff`.

use diffy::{DiffOptions, PatchFormatter};
use serde_json::{Value, json};

use super::workload::Applied;
use super::{BYTE_ORDER_MARK, ManifestError, Stream};

/// All files as one YAML stream.
///
/// One file comes out as [`Stream::after`] has it, to the byte. Between files stands a `---`, and
/// byte order marks are left out from the second file on. A JSON file stays JSON, which is YAML,
/// too (but several JSON values in one file stay without markers between them, as they were).
///
/// # Errors
///
/// See [`Stream::after`].
pub fn yaml(streams: &[Stream]) -> Result<String, ManifestError> {
    let mut out = String::new();
    for stream in streams {
        let text = stream.after()?;
        if out.is_empty() {
            out = text;
            continue;
        }
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        // Directives are only allowed after an explicit end.
        if text.starts_with('%') {
            out.push_str("...\n");
        } else if !text.starts_with("---") {
            out.push_str("---\n");
        }
        out.push_str(text);
    }
    Ok(out)
}

/// All documents as JSON: the object itself if there is one document, else a `v1` `List` of all,
/// as kubectl prints it. Empty documents are left out, and the items of a `List` in the input
/// become items of the one in the output.
///
/// # Errors
///
/// None known: values that were read can be written.
pub fn json(streams: &[Stream]) -> Result<String, ManifestError> {
    let documents: Vec<&Value> = streams
        .iter()
        .flat_map(|stream| &stream.documents)
        .filter(|document| !document.is_empty())
        .map(|document| &document.value)
        .collect();
    if let [document] = documents[..] {
        return pretty(document);
    }
    let items: Vec<&Value> = documents
        .into_iter()
        .flat_map(|document| match document.get("items") {
            Some(Value::Array(items))
                if document["kind"] == "List" && document["apiVersion"] == "v1" =>
            {
                items.iter().collect()
            }
            _ => vec![document],
        })
        .collect();
    pretty(&json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// The patches, as JSON.
///
/// If the input holds exactly one workload: its RFC 6902 patch, an array, fit for
/// `kubectl patch --type=json`; empty if nothing is to be changed. Otherwise an array with an
/// object for each workload that is changed, in order:
/// `{"file", "document", "apiVersion", "kind", "namespace", "name", "patch"}`. Pointers are
/// relative to the document, which is counted from 1 in its file.
///
/// # Errors
///
/// None known: values that were read can be written.
pub fn patch(streams: &[Stream], default_namespace: &str) -> Result<String, ManifestError> {
    let mut entries = Vec::new();
    let mut patches = Vec::new();
    let mut workloads = 0;
    for stream in streams {
        for workload in stream.workloads(default_namespace) {
            workloads += 1;
            let place = &workload.place;
            let operations: Vec<Value> = stream.documents[place.document]
                .applied
                .iter()
                .filter(|applied| applied.place == *place)
                .flat_map(operations)
                .collect();
            patches.extend(operations.iter().cloned());
            if !operations.is_empty() {
                entries.push(json!({
                    "file": stream.name,
                    "document": place.document_number(),
                    "apiVersion": workload.api_version,
                    "kind": workload.kind,
                    "namespace": workload.namespace,
                    "name": workload.name,
                    "patch": operations,
                }));
            }
        }
    }
    pretty(&Value::Array(if workloads == 1 {
        patches
    } else {
        entries
    }))
}

/// The operations of a patch with pointers relative to the document.
fn operations(applied: &Applied) -> Vec<Value> {
    let prefix = applied.place.pointer();
    applied
        .patch
        .iter()
        .map(|operation| {
            let mut operation = json!(operation);
            for key in ["path", "from"] {
                if let Some(Value::String(pointer)) = operation.get_mut(key) {
                    pointer.insert_str(0, prefix);
                }
            }
            operation
        })
        .collect()
}

/// A unified diff of every file that is changed, from its text as it was to its text as it is,
/// such that `patch -p0` applies it. Empty if nothing is changed. No colour.
///
/// # Errors
///
/// See [`Stream::after`].
pub fn diff(streams: &[Stream]) -> Result<String, ManifestError> {
    let mut out = String::new();
    for stream in streams.iter().filter(|stream| stream.is_changed()) {
        let (before, after) = (stream.before(), stream.after()?);
        let patch = DiffOptions::new()
            .set_original_filename(stream.name.clone())
            .set_modified_filename(stream.name.clone())
            .create_patch(&before, &after);
        if !patch.hunks().is_empty() {
            let format = PatchFormatter::new().suppress_blank_empty(false);
            out.push_str(&format.fmt_patch(&patch).to_string());
        }
    }
    Ok(out)
}

fn pretty(value: &Value) -> Result<String, ManifestError> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| ManifestError::of_file("output", error))
}

#[cfg(test)]
mod tests;
