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
    let (ours, theirs) = (Pod::parse(body), serde_json::from_slice::<Pod<'_>>(body));
    let shown = |pod: serde_json::Result<Pod<'_>>| pod.map_err(|error| error.to_string());
    assert_eq!(
        format!("{:?}", shown(ours)),
        format!("{:?}", shown(theirs)),
        "read in two ways"
    );
});
