//! Reading files, directories and standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::ManifestError;

/// The bytes of one file, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as given, or as found below a directory that was given; `stdin` for `-`.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads what `-f` was given: files, directories and `-`, in that order.
    ///
    /// In a directory, files ending in `.yaml`, `.yml` and `.json` are read, sorted by name, and
    /// the same in the directories below it; names that begin with a dot are passed over. A file
    /// that is named is read whatever it is called.
    ///
    /// # Errors
    ///
    /// Every path that cannot be read, with the reason; a directory without a manifest in it;
    /// `-` given twice.
    pub fn read(paths: &[PathBuf], stdin: impl Read) -> Result<Vec<Self>, Vec<ManifestError>> {
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        let mut stdin = Some(stdin);
        for path in paths {
            if path.as_os_str() == "-" {
                let mut bytes = Vec::new();
                match stdin.take().map(|mut stdin| stdin.read_to_end(&mut bytes)) {
                    Some(Ok(_)) => sources.push(Self {
                        name: "stdin".to_owned(),
                        bytes,
                    }),
                    Some(Err(error)) => errors.push(ManifestError::of_file("stdin", error)),
                    None => errors.push(ManifestError::of_file("stdin", "`-` is given twice")),
                }
                continue;
            }
            let mut files = Vec::new();
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    let faults = errors.len();
                    walk(path, &mut files, &mut errors);
                    if files.is_empty() && errors.len() == faults {
                        errors.push(ManifestError::of_file(
                            path.display(),
                            "no .yaml, .yml or .json file in this directory",
                        ));
                    }
                }
                // Reading names the reason better than looking does.
                _ => files.push(path.clone()),
            }
            for file in files {
                match fs::read(&file) {
                    Ok(bytes) => sources.push(Self {
                        name: file.display().to_string(),
                        bytes,
                    }),
                    Err(error) => errors.push(ManifestError::of_file(file.display(), error)),
                }
            }
        }
        if errors.is_empty() {
            Ok(sources)
        } else {
            Err(errors)
        }
    }
}

/// Manifests below a directory. Links to files are followed; links to directories are not, which
/// rules out going round in circles.
fn walk(directory: &Path, files: &mut Vec<PathBuf>, errors: &mut Vec<ManifestError>) {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(ManifestError::of_file(directory.display(), error));
            return;
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, files, errors),
            Ok(_) if is_manifest(&path) && !path.is_dir() => files.push(path),
            Ok(_) => {}
            Err(error) => errors.push(ManifestError::of_file(path.display(), error)),
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::Source;

    fn names(sources: &[Source], root: &std::path::Path) -> Vec<String> {
        let root = format!("{}/", root.display());
        sources
            .iter()
            .map(|source| source.name.replace(&root, ""))
            .collect()
    }

    #[test]
    fn directories_are_read_in_the_order_of_names() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        for name in [
            "b.yaml",
            "a/z.yml",
            "a/c/d.json",
            "c.txt",
            ".hidden.yaml",
            ".git/x.yaml",
            "README.md",
        ] {
            write(name);
        }
        let sources = Source::read(&[root.path().to_owned()], std::io::empty()).unwrap();
        assert_eq!(
            names(&sources, root.path()),
            ["a/c/d.json", "a/z.yml", "b.yaml"]
        );
        assert_eq!(sources[2].bytes, b"b.yaml");
        // A file that is named is read, whatever its name.
        let paths = [
            root.path().join("c.txt"),
            PathBuf::from("-"),
            root.path().join(".hidden.yaml"),
        ];
        let sources = Source::read(&paths, &b"piped"[..]).unwrap();
        assert_eq!(
            names(&sources, root.path()),
            ["c.txt", "stdin", ".hidden.yaml"]
        );
        assert_eq!(sources[1].bytes, b"piped");
    }

    #[test]
    fn every_path_that_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("missing.yaml");
        let paths = [
            missing.clone(),
            root.path().to_owned(),
            PathBuf::from("-"),
            PathBuf::from("-"),
        ];
        let errors = Source::read(&paths, std::io::empty()).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3);
        assert!(
            errors[0].starts_with(&format!("{}: ", missing.display())),
            "{}",
            errors[0]
        );
        assert!(
            errors[1].ends_with("no .yaml, .yml or .json file in this directory"),
            "{}",
            errors[1]
        );
        assert_eq!(errors[2], "stdin: `-` is given twice");
    }
}
