//! The core stays pure: what `inject` and `profile` may import.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of this crate that carry bytes to the core, and crates that do I/O, tell time or roll dice.
const FORBIDDEN: &[&str] = &[
    "crate::server",
    "crate::cli",
    "crate::manifest",
    "crate::certificate",
    "crate::wait",
    "crate::cluster",
    "crate::telemetry",
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
    let mut files = vec![
        src.join("inject.rs"),
        src.join("profile.rs"),
        src.join("admission.rs"),
    ];
    sources(&src.join("admission"), &mut files);
    sources(&src.join("inject"), &mut files);
    sources(&src.join("profile"), &mut files);
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
