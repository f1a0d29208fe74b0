//! Drills 22 and 26: a machine that is full, and a webhook that has answered much.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use testkit::wire::Client;
use testkit::{Result, Served};
use tokio::task::JoinSet;

use super::clients::{is_well, serve};
use super::long;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const REVIEW: &str = include_str!("../../examples/review.json");

/// Makes every file system read-only or full, checks that it did, and becomes the program.
const NO_ROOM: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o size=64k full /var/tmp
dd if=/dev/zero of=/var/tmp/fill bs=1k 2>/dev/null || true
mount -o remount,ro,bind /
for folder in / /var /home /root; do
    if touch "$folder/probe" 2>/dev/null; then echo "$folder can be written" >&2; exit 9; fi
done
if echo x 2>/dev/null >/var/tmp/probe; then echo "there is room" >&2; exit 9; fi
export TMPDIR=/var/tmp
"#;

/// Both outputs go to a disk without room, where every write fails.
const NO_LOG: &str = "exec >/dev/full 2>&1\n";

pub(crate) async fn drill_22_nothing_can_be_written() -> Result {
    let count = if long() { 5_000 } else { 200 };
    for (what, preparation) in [
        ("a read-only root and a full disk", NO_ROOM.to_owned()),
        (
            "and a log that cannot be written",
            format!("{NO_ROOM}{NO_LOG}"),
        ),
    ] {
        let script = format!("{preparation}exec \"$@\"");
        let wrapper = ["unshare", "--mount", "sh", "-euc", &script, "sh"];
        let served = Served::wrapped(&wrapper, Path::new(OUTRIGGER), &[]).await?;
        let mut client = served.client().await?;
        for _ in 0..count {
            let answer = client.post(REVIEW).await?;
            ensure!(
                answer.status == 200 && answer.body.contains("JSONPatch"),
                "{what}: {answer:?}"
            );
        }
        // What is logged as a warning as well.
        ensure!(client.post("{").await?.status == 400, "{what}");
        drop(client);
        ensure!(served.operations("/readyz").await?.status == 200, "{what}");
        is_well(&served).await?;
        let log = served.daemon.log();
        ensure!(log.is_empty() == script.contains(NO_LOG), "{what}: {log}");
        eprintln!("drill 22: {what}: {count} of {count} reviews were answered with a patch");
    }
    Ok(())
}

/// How much more may be resident at the end than after a fifth.
const FLAT: f64 = 1.15;

pub(crate) async fn drill_26_many_reviews() -> Result {
    let count = if long() { 100_000 } else { 5_000 };
    let served = serve(&[]).await?;
    let mut resident = Vec::new();
    let start = Instant::now();
    for fifth in 0..5 {
        let mut asking = JoinSet::new();
        for connection in 0..4 {
            let mut client: Client = served.client().await?;
            asking.spawn(async move {
                for number in 0..count / 20 {
                    let uid = format!("{fifth}-{connection}-{number}");
                    // Each is of another pod, and every third is refused.
                    let mut review =
                        REVIEW.replace("\"name\": \"web", &format!("\"name\": \"w{uid}"));
                    if number % 3 == 0 {
                        review = review.replace("outrigger.dev/inject", "outrigger.dev/injekt");
                    }
                    let answer = client.post(review).await?;
                    ensure!(answer.status == 200, "{answer:?}");
                }
                Ok(())
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked??;
        }
        resident.push(served.daemon.memory("VmRSS")?);
    }
    let grown = resident[4] as f64 / resident[0] as f64;
    eprintln!(
        "drill 26: {count} reviews in {:?}; resident after each fifth {resident:?} KiB: {grown:.3} times",
        start.elapsed()
    );
    ensure!(grown < FLAT, "{grown:.3} times as much is resident");
    is_well(&served).await
}
