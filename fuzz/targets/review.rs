//! Any bytes, sent to each webhook.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outrigger::admission::{Snapshot, Webhook};
use outrigger::inject::{Pod, SidecarMode};
use outrigger_fuzz::{CATALOGUE, hold, snapshot};

static SNAPSHOT: LazyLock<Snapshot> =
    LazyLock::new(|| snapshot(&CATALOGUE, SidecarMode::Native, &[]));

fuzz_target!(|body: &[u8]| {
    for webhook in Webhook::ALL {
        if let Err(refused) = hold(oracle::answered(webhook, body, &SNAPSHOT)) {
            assert!(!refused.message.is_empty(), "refused without a word");
        }
    }
    // The program's own reader and the library's.
    assert_eq!(
        shown(Pod::parse(body)),
        shown(serde_json::from_slice(body)),
        "read in two ways"
    );
});

fn shown(pod: serde_json::Result<Pod<'_>>) -> String {
    match pod {
        Ok(pod) => format!("{pod:?}"),
        Err(error) => error.to_string(),
    }
}
