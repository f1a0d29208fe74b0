//! `docs/profiles` is what `outrigger profile docs` writes for the profiles as they are. `UPDATE_DOCS=1` writes it
//! anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "docs/profiles";

fn files(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// What the command writes for the built-in profiles and those in the catalogue.
fn written() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args([
            "profile",
            "docs",
            "--profiles",
            "profiles/catalogue",
            "--output",
        ])
        .arg(folder.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    files(folder.path())
}

#[test]
fn the_reference_of_profiles_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let expected = written();
    let found = files(&folder);
    let names = expected.keys().chain(found.keys());
    let mut differing: Vec<_> = names
        .filter(|name| expected.get(*name) != found.get(*name))
        .cloned()
        .collect();
    differing.sort();
    differing.dedup();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for name in &differing {
            match expected.get(name) {
                Some(text) => fs::write(folder.join(name), text).unwrap(),
                None => fs::remove_file(folder.join(name)).unwrap(),
            }
        }
        return;
    }
    assert!(
        differing.is_empty(),
        "{FOLDER} is not what the profiles say: {}.\nWrite it anew with `UPDATE_DOCS=1 cargo test --test docs`.",
        differing.join(", ")
    );
}

#[test]
fn every_profile_has_a_page_and_the_list_leads_to_it() {
    let pages = written();
    let list = &pages["README.md"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["profiles", "profiles/catalogue"] {
        for name in files_of(&root.join(folder)) {
            assert!(pages.contains_key(&format!("{name}.md")), "{name}");
            assert!(list.contains(&format!("[{name}]({name}.md)")), "{name}");
        }
    }
}

fn files_of(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_page_shows_how_it_is_used_and_what_comes_of_it() {
    for (name, page) in written() {
        if name != "README.md" {
            assert!(page.contains("outrigger.dev/inject: "), "{name}");
            assert!(!page.contains("is refused:"), "{name}: {page}");
            assert!(!page.contains("- nothing"), "{name}: {page}");
        }
    }
}

/// SECURITY.md says what holds each of its claims: files of the repository, and `FILE::TEST`.
#[test]
fn what_holds_a_claim_of_security_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (mut tests, mut missing) = (0, Vec::new());
    // Every second part is within backticks.
    for code in text.split('`').skip(1).step_by(2) {
        let (file, test) = match code.split_once("::") {
            Some((file, test)) if file.ends_with(".rs") => (file, Some(test)),
            _ if code.contains('/') && !code.contains(' ') => (code, None),
            _ => continue,
        };
        let content = fs::read_to_string(root.join(file)).unwrap_or_default();
        let held = match test {
            Some(test) => {
                tests += 1;
                content.contains(&format!("fn {test}("))
            }
            None => !content.is_empty(),
        };
        if !held {
            missing.push(code);
        }
    }
    assert!(tests > 20, "{tests} tests are named");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
