//! The core stays pure: what the modules of `outrigger-core` may import. That they do not import the rest of the program
//! is held by the compiler, as they are a package.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Crates and modules that do I/O, tell time or roll dice.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "tracing",
    "opentelemetry",
    "prometheus_client",
    "hyper",
    "axum",
    "kube::",
    "rustls",
    "reqwest",
    "rand::",
    "std::fs",
    "std::env",
    "std::process",
    "std::time",
    "SystemTime",
    "Instant",
    "std::net::Tcp",
    "std::net::Udp",
    "anyhow",
];

/// Of the core's tests those that read recorded reviews, and that hold a time.
const TESTS: [&str; 2] = ["json/tests.rs", "yaml/tests.rs"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_core_imports_no_runtime_no_client_no_clock_and_no_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = src.join("core.rs");
    let text = fs::read_to_string(&root).unwrap();
    let mut files = vec![root];
    for line in text.lines() {
        let module = line.strip_prefix("pub mod ").unwrap_or_default();
        let Some(module) = module.strip_suffix(';') else {
            continue;
        };
        files.push(src.join(format!("{module}.rs")));
        let folder = src.join(module);
        if folder.exists() {
            sources(&folder, &mut files);
        }
    }
    files.retain(|file| !TESTS.iter().any(|tests| file.ends_with(tests)));
    assert!(files.len() > 20, "{files:?}");
    let mut offences = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN.iter().filter(|word| code.contains(**word)) {
                offences.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn profile_does_not_know_inject() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("crate::inject"), "{}", file.display());
    }
}
