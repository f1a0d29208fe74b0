//! Failure drills: real etcd and kube-apiserver, replicas of the webhook as processes behind a balancer, and a load
//! of pod creations. *Failed* is a create error, or a missing or doubled sidecar.
//!
//! `cargo test` runs them bounded; `cargo xtask drill [NAME]` runs them long. Each prints its criterion and what it
//! saw. A replica that is refused a right of the API server fails its drill.

#[path = "api_server/editor.rs"]
mod editor;

mod drills {
    pub(crate) mod clients;
    pub(crate) mod cluster;
    pub(crate) mod endurance;
    pub(crate) mod gateway;
    pub(crate) mod load;
    pub(crate) mod neighbours;
    pub(crate) mod outages;
    pub(crate) mod renewals;
    pub(crate) mod restarts;
    pub(crate) mod site;
    pub(crate) mod strain;

    /// Whether the drills run long, as `cargo xtask drill` has them.
    pub(crate) fn long() -> bool {
        std::env::var_os("OUTRIGGER_DRILLS").is_some_and(|value| value == "long")
    }
}

use std::process::ExitCode;
use std::time::{Duration, Instant};

use drills::clients::*;
use drills::endurance::*;
use drills::neighbours::*;
use drills::outages::*;
use drills::renewals::*;
use drills::restarts::*;
use drills::site::Site;
use drills::strain::*;
use testkit::Result;
use testkit::harness::Test;

/// Drills at a time, each with a cluster of its own. They wait most of the time.
const AT_ONCE: usize = 3;

/// The bound on a drill, bounded and long.
const LIMITS: [Duration; 2] = [Duration::from_secs(240), Duration::from_secs(3000)];

/// Says when the drill passes, runs it, and says how long it took.
async fn perform(name: &str, criterion: &str, drill: impl Future<Output = Result>) -> Result {
    eprintln!("{name} passes when: {criterion}");
    let start = Instant::now();
    drill.await?;
    eprintln!("{name} took {:?}", start.elapsed());
    Ok(())
}

/// Drills that have a cluster.
macro_rules! at_a_site {
    ($($drill:ident: $criterion:literal),* $(,)?) => {
        vec![$(Test::new(stringify!($drill), || Box::pin(perform(stringify!($drill), $criterion, async {
            let mut site = Site::new().await?;
            $drill(&mut site).await?;
            site.end().await
        }))).within(LIMITS[usize::from(drills::long())])),*]
    };
}

/// Drills that start webhook processes alone.
macro_rules! alone {
    ($($drill:ident: $criterion:literal),* $(,)?) => {
        vec![$(Test::new(stringify!($drill), || {
            Box::pin(perform(stringify!($drill), $criterion, $drill()))
        }).within(LIMITS[usize::from(drills::long())])),*]
    };
}

fn main() -> ExitCode {
    // Of those that need no cluster the one that takes longest begins, beside those that wait most of the time.
    let mut drills = alone![
        drill_26_many_reviews:
            "less than 1.15 times is resident at the end of what was after a fifth",
    ];
    drills.extend(at_a_site![
            drill_01_one_of_two_replicas_is_killed:
                "no more creations fail than were in flight on it or came before the balancer was told, and none later",
            drill_02_both_replicas_are_gone:
                "Fail refuses pods that ask and nothing else, Ignore lets them through bare, and it comes back by itself",
            drill_03_a_rolling_restart_under_load: "no creation fails",
            drill_04_a_rolling_restart_with_idle_connections:
                "no creation fails: a connection that rested is never closed under a request",
            drill_05_the_leaf_is_rotated:
                "no creation fails, and every replica serves the new leaf within 5 s",
            drill_06_the_authority_is_rotated:
                "no creation fails while old and new are published, a leaf of the new is served, the new alone is published",
            drill_07_whoever_takes_a_step_dies:
                "it converges, and no leaf is ever served that a published bundle does not verify",
            drill_08_the_certificate_has_ended:
                "unready and told by a metric and an event while it has ended, and renewed by itself",
            drill_09_the_bundle_is_wrong:
                "it is put right within 10 s, creations fail only until then, and Helm applied again changes nothing",
            drill_10_clocks_are_two_hours_wrong:
                "no creation fails with clocks ahead, behind, and one of each, while they make new keys",
            drill_11_the_api_server_restarts:
                "the last catalogue serves from the first answer on, and the watch resumes",
            drill_12_the_watch_is_cut:
                "no creation fails, it is told how stale what serves is, what was applied meanwhile serves afterwards, and a relist takes less than 1.5 times the memory",
            drill_13_the_definition_of_profiles_is_deleted:
                "the last good catalogue is kept, and it is said loudly",
            drill_14_an_invalid_profile_gets_in:
                "it is refused at apply; if it gets in, the last good version is kept and a condition says why",
            drill_21_more_than_it_can_take:
                "further reviews get 503 and Retry-After, and no creation fails",
            drill_23_a_replica_is_stopped:
                "no creation takes longer than the webhook's timeout and a second, probes get no answer, and none fails that begins later than that timeout after the replica is out of the Service",
            drill_24_two_injectors:
                "whichever comes first, our second patch is empty and what comes out is a fixed point",
            drill_25_etcd_is_paused:
                "no replica restarts or writes anything, none sends more than a request a second, all is well within 10 s",
            drill_28_everything_is_drained:
                "the webhook's own pods and kube-system's are admitted without it, and it comes back with and without its Secret",
    ]);
    drills.extend(alone![
        drill_15_slow_clients:
            "each is closed within 10 s (and the time that a busy machine takes to notice), and the p99 of others is less than 4 times that of a server without slow clients, or than 0.2 s",
        drill_16_idle_connections:
            "they are held or capped, bytes a connection are told, and new calls are answered",
        drill_17_bodies_that_are_too_large:
            "413, or 503 where all bodies together are too large, and less than 96 MiB more are ever resident",
        drill_18_bodies_that_are_no_reviews: "400 with a reason, no panic, and the connection serves on",
        drill_19_requests_of_two_meanings: "one answer each, and the connection is closed",
        drill_20_outdated_handshakes: "no ServerHello to SSL, TLS 1.0, TLS 1.1 or weak ciphers",
        drill_22_nothing_can_be_written: "every review is answered, and it stays ready",
        drill_27_clients_that_give_up:
            "the reviews in flight and the connections go back to 0 within 5 s, files are closed, memory does not grow",
    ]);
    let conclusion = testkit::harness::run_at_once(AT_ONCE, drills);
    drills::cluster::stop_idle();
    conclusion
}
