//! The build context of the image: the files that `.dockerignore` lets through.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What `.dockerignore` says, in the few forms that ours uses: everything is left out (`*`), but for some paths
/// (`!PATH`), and of these nothing with certain endings or names (`**/*.ENDING`, `**/NAME`).
#[derive(Debug, Default)]
struct Rules {
    paths: Vec<String>,
    endings: Vec<String>,
    names: Vec<String>,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some("*") {
            bail!(".dockerignore must begin with `*`: what is built from is listed");
        }
        for line in lines {
            if let Some(path) = line.strip_prefix('!') {
                rules.paths.push(path.to_owned());
            } else if let Some(ending) = line.strip_prefix("**/*.") {
                rules.endings.push(format!(".{ending}"));
            } else if let Some(name) = line.strip_prefix("**/") {
                rules.names.push(name.to_owned());
            } else {
                bail!(
                    ".dockerignore: `{line}` is none of `!PATH`, `**/*.ENDING` and `**/NAME`, which are known here"
                );
            }
        }
        Ok(rules)
    }

    fn leaves_out(&self, name: &str) -> bool {
        self.endings.iter().any(|ending| name.ends_with(ending))
            || self.names.iter().any(|known| known == name)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        if self.leaves_out(&name) {
            return Ok(());
        }
        if from.is_dir() {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                self.copy(&entry.path(), &to.join(entry.file_name()))?;
            }
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to)
            .map(drop)
            .with_context(|| format!("failed to copy {}", from.display()))
    }
}

/// Copies the build context of the repository at `root` to `to`.
pub(super) fn copy(root: &Path, to: &Path) -> Result<()> {
    let list = root.join(".dockerignore");
    let text =
        fs::read_to_string(&list).with_context(|| format!("failed to read {}", list.display()))?;
    let rules = Rules::parse(&text)?;
    for path in &rules.paths {
        rules.copy(&root.join(path), &to.join(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn the_build_context_is_all_that_cargo_looks_for() {
        let folder = run::target_directory().join("build-context");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        copy(run::root(), &folder).unwrap();
        // Reads every manifest of the workspace, and looks for every target that they name.
        run::output(
            run::cargo().current_dir(&folder).args([
                "metadata",
                "--no-deps",
                "--offline",
                "--format-version",
                "1",
            ]),
            "install Rust",
        )
        .unwrap();
        for source in ["src", "packages"] {
            assert_included_files_are_there(&folder.join(source));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Whether all that the sources in `folder` compile in (`include_str!`) is in the context with them.
    fn assert_included_files_are_there(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_included_files_are_there(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for call in text.split("include_str!(").skip(1) {
                    let file = call.split('"').nth(1).unwrap();
                    assert!(
                        folder.join(file).is_file(),
                        "{} includes {file}, which .dockerignore leaves out",
                        path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn keys_and_build_output_are_left_out() {
        let rules = Rules::parse("# A comment.\n*\n!src\n**/*.key\n**/target\n").unwrap();
        assert_eq!(rules.paths, ["src"]);
        assert!(rules.leaves_out("tls.key"));
        assert!(rules.leaves_out("target"));
        assert!(!rules.leaves_out("key.rs"));
    }

    #[test]
    fn a_form_that_is_not_known_is_an_error() {
        let error = Rules::parse("*\nsrc/*.txt\n").unwrap_err().to_string();
        assert!(error.contains("`src/*.txt`"), "{error}");
        assert!(Rules::parse("target\n").is_err());
    }
}
