//! The core stays pure, and the profiles that it renders: what the modules of `outrigger-core` and `outrigger-profile` may
//! import. That they do not import the rest of the program is held by the compiler, as they are packages.

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

/// Of their tests those that read recorded reviews, and that hold a time.
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
fn core_and_profiles_import_no_runtime_no_client_no_clock_and_no_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let roots = ["core.rs", "loading.rs"].map(|root| src.join(root));
    let texts = roots
        .each_ref()
        .map(|root| fs::read_to_string(root).unwrap());
    let mut files = roots.to_vec();
    for line in texts.iter().flat_map(|text| text.lines()) {
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
    assert!(files.len() > 40, "{files:?}");
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
