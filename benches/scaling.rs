//! How the cost of a review, and of learning what it needs to know, grows with what there is of each thing: time and
//! memory, a curve each. None may be worse than linear; `tests/scaling.rs` holds that, without times.
//!
//! `cargo xtask bench` runs this.

use std::time::{Duration, Instant};

use allocation_counter::AllocationInfo;
use outrigger::admission::{self, Snapshot};

use cluster::Followed;
use results::{Measured, record};

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/curves.rs"]
mod curves;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/results.rs"]
mod results;

const ROUNDS: usize = 5;
/// How long a round takes, unless one call takes longer.
const ROUND: Duration = Duration::from_millis(40);

fn main() {
    println!("| what | median | lowest – highest |\n|---|---:|---:|");
    reviews();
    let (ours, forgetful) = (fixture::snapshot(), fixture::forgetful());
    for count in [1, 10, 100, 250, 500, 1000, 2000] {
        let goal = (count == 2000).then_some(500.0);
        let what = format!("envoy-tls, {count} variables");
        let review = curves::variables(count);
        Point::new("variables", count, what)
            .goal(goal)
            .review(&review, &ours);
    }
    for count in [1, 2, 5, 10, 25, 50, 100] {
        let point =
            |what: &str| Point::new("containers", count, format!("{what}, {count} containers"));
        point("envoy-tls").review(&curves::containers(count), &ours);
        let reading = curves::containers_read(count);
        point("shared-volume, which reads the pod").review(&reading, &ours);
    }
    for count in [1, 2, 4, 8, 12, 16, 20] {
        let review = curves::instances(count);
        let point =
            |what: &str| Point::new("profiles", count, format!("{count} × envoy-egress{what}"));
        point("").review(&review, &ours);
        point(", nothing remembered").review(&review, &forgetful);
    }
    for count in [1, 10, 100, 300, 1000, 3000, 10_000] {
        catalogue(count, &ours);
    }
    for count in [1, 10, 100, 300, 1000, 3000, 10_000] {
        namespaces(count, &ours);
    }
}

/// How often a review allocates. Counts, not times: the same on every machine.
fn reviews() {
    let snapshot = fixture::snapshot();
    for (name, review) in fixture::reviews() {
        let counted = counted_again(|| drop(admission::review(&review, &snapshot)));
        let goal = (name == "envoy-tls and fluentd").then_some(60.0);
        let row = |unit, value: u64, goal| {
            record(&Measured {
                suite: "scaling",
                curve: None,
                x: None,
                what: format!("a review of {name} ({} bytes)", review.len()),
                unit,
                values: vec![value as f64],
                goal,
            });
        };
        row("allocations", counted.count_total, goal);
        row("B", counted.bytes_total, None);
    }
}

/// A review, and changes, with so many profiles known.
fn catalogue(count: usize, ours: &Snapshot) {
    let resident = resident();
    let mut followed = Followed::profiles(count, ours.clone());
    let listed = timed(|| followed.published());
    let held = self::resident() - resident;
    let point = |what: &str| Point::new("catalogue", count, format!("{what}, {count} profiles"));
    point("the first listing of profiles").time(vec![listed]);
    point("memory of profiles").bytes(held);
    let mut snapshot = Snapshot::clone(&followed.snapshot());
    // The pod's namespace asks for what matches.
    snapshot.namespaces = curves::namespaces(1);
    point("a review that names a profile").review(&curves::asking(), &snapshot);
    point("a review of a pod that one of them matches").review(&curves::matched(), &snapshot);
    drop(snapshot);
    let mut change = 1;
    let changed = repeated(|| {
        change += 1;
        followed.change_profile(count / 2, change);
    });
    point("a change of a profile").time(changed);
    let again = (0..3).map(|_| timed(|| followed.list_again()));
    point("the same listing again").time(again.collect());
}

/// A review, and changes, with so many namespaces known.
fn namespaces(count: usize, ours: &Snapshot) {
    let listings = (0..ROUNDS).map(|_| {
        let mut followed = Followed::namespaces(count, ours.clone());
        timed(|| followed.published())
    });
    let point = |what: &str| Point::new("namespaces", count, format!("{what}, {count} namespaces"));
    point("the first listing of namespaces").time(listings.collect());
    let mut known = None;
    let held = allocation_counter::measure(|| known = Some(curves::namespaces(count)));
    drop(known);
    point("memory of namespaces").bytes(held.bytes_current as f64);
    let mut followed = Followed::namespaces(count, ours.clone());
    followed.published();
    point("a review").review(&curves::asking(), &followed.snapshot());
    let mut change = 1;
    let mut change = || {
        change += 1;
        followed.change_namespace(count / 2, change);
    };
    let changed = repeated(&mut change);
    point("a change of a namespace").time(changed);
    point("a change of a namespace").bytes(counted_again(change).bytes_total as f64);
}

/// A point of a curve.
struct Point {
    curve: &'static str,
    x: usize,
    what: String,
    goal: Option<f64>,
}

impl Point {
    fn new(curve: &'static str, x: usize, what: String) -> Self {
        let goal = None;
        Self {
            curve,
            x,
            what,
            goal,
        }
    }

    fn goal(mut self, goal: Option<f64>) -> Self {
        self.goal = goal;
        self
    }

    fn record(&self, unit: &'static str, values: Vec<f64>, goal: Option<f64>) {
        record(&Measured {
            suite: "scaling",
            curve: Some(self.curve),
            x: Some(self.x as f64),
            what: self.what.clone(),
            unit,
            values,
            goal,
        });
    }

    fn time(&self, microseconds: Vec<f64>) {
        self.record("µs", microseconds, self.goal);
    }

    fn bytes(&self, bytes: f64) {
        self.record("B", vec![bytes], None);
    }

    /// The time of a review, and the bytes that it allocates.
    fn review(&self, review: &[u8], snapshot: &Snapshot) {
        let injected = admission::review(review, snapshot);
        let injected = injected.is_ok_and(|reviewed| reviewed.summary.outcome == "injected");
        assert!(injected, "{}: nothing is injected", self.what);
        let call = || drop(std::hint::black_box(admission::review(review, snapshot)));
        self.time(repeated(call));
        self.bytes(counted_again(call).bytes_total as f64);
    }
}

/// What a call allocates when it is made again: the first of its kind makes what later ones share.
fn counted_again(mut call: impl FnMut()) -> AllocationInfo {
    call();
    allocation_counter::measure(call)
}

/// The time of a call in microseconds.
fn timed(call: impl FnOnce()) -> f64 {
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64() * 1e6
}

/// The median time of a call in microseconds, for each round.
fn repeated(mut call: impl FnMut()) -> Vec<f64> {
    call();
    let mut round = || {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || start.elapsed() < ROUND {
            times.push(timed(&mut call));
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (0..ROUNDS).map(|_| round()).collect()
}

/// The memory of this process in bytes. Profiles are compiled on threads of their own, where nothing is counted.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0
}
