//! Any bytes as a manifest that goes through `outrigger inject`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outrigger::admission::Snapshot;
use outrigger::inject::SidecarMode;
use outrigger_fuzz::{CATALOGUE, hold, snapshot};

static SNAPSHOT: LazyLock<Snapshot> =
    LazyLock::new(|| snapshot(&CATALOGUE, SidecarMode::Native, &[]));

fuzz_target!(|bytes: &[u8]| {
    hold(oracle::manifest::injected(bytes, &SNAPSHOT));
});
