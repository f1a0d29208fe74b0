//! Where manifests come from: files, folders, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Stream;

/// A manifest that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file or folder.
    #[error("{path}: cannot be read: {error}")]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Bytes that are no text.
    #[error("{path}: is not UTF-8 at byte {at}")]
    NotText {
        /// The file.
        path: String,
        /// The first bad byte.
        at: usize,
    },
    /// A document that is neither YAML nor JSON.
    #[error("{path}: document {document}, line {line}: {message}")]
    NotYaml {
        /// The file.
        path: String,
        /// The document, from 1.
        document: usize,
        /// The line in the file, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A folder without manifests.
    #[error("{path}: holds no .yaml, .yml or .json file")]
    Empty {
        /// Its path.
        path: String,
    },
}

/// Reads every manifest that these paths name: a file, a folder and all below it in the order of names, or `-`
/// for standard input.
///
/// # Errors
/// The first that cannot be read.
pub fn read_all(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Stream>, ManifestError> {
    let mut streams = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            stdin
                .read_to_end(&mut bytes)
                .map_err(|error| ManifestError::Unreadable {
                    path: "standard input".to_owned(),
                    error,
                })?;
            streams.push(Stream::parse("standard input", &bytes)?);
            continue;
        }
        let mut files = Vec::new();
        if path.is_dir() {
            walk(path, &mut files)?;
            if files.is_empty() {
                return Err(ManifestError::Empty {
                    path: path.display().to_string(),
                });
            }
        } else {
            files.push(path.clone());
        }
        for file in files {
            let bytes = std::fs::read(&file).map_err(|error| unreadable(&file, error))?;
            streams.push(Stream::parse(&file.display().to_string(), &bytes)?);
        }
    }
    Ok(streams)
}

fn unreadable(path: &Path, error: std::io::Error) -> ManifestError {
    ManifestError::Unreadable {
        path: path.display().to_string(),
        error,
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ManifestError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        entries.push(entry.map_err(|error| unreadable(folder, error))?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let manifest = path.extension().is_some_and(|extension| {
            extension == "yaml" || extension == "yml" || extension == "json"
        });
        if hidden {
            continue;
        } else if path.is_dir() {
            walk(&path, files)?;
        } else if manifest {
            files.push(path);
        }
    }
    Ok(())
}
