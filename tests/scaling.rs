//! Nothing grows faster than what it grows with: variables, containers and profiles of a pod, profiles and namespaces
//! that are known. Judged by what is allocated, which is the same on every machine; `cargo xtask bench` has the times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::AllocationInfo;
use outrigger::admission::{self, Snapshot};

use cluster::Followed;

#[path = "../benches/support/cluster.rs"]
mod cluster;
#[path = "../benches/support/curves.rs"]
mod curves;
#[path = "../benches/support/fixture.rs"]
#[allow(
    dead_code,
    reason = "the reviews that do not grow are those of `tests/allocations.rs`"
)]
mod fixture;

/// What grows, reviews of it at any size, and two sizes.
type Curve = (&'static str, fn(usize) -> Vec<u8>, [usize; 2]);

/// Beyond the ratio of the sizes, for lists that double as they grow.
const SLACK: f64 = 1.25;

/// What a call allocates when it is made again.
fn again(mut call: impl FnMut()) -> AllocationInfo {
    call();
    allocation_counter::measure(call)
}

/// What a review allocates whose kind was seen before.
fn review(review: &[u8], snapshot: &Snapshot) -> AllocationInfo {
    let outcome = admission::review(review, snapshot).unwrap();
    assert_eq!(outcome.summary.outcome, "injected", "{:?}", outcome.summary);
    again(|| drop(admission::review(review, snapshot)))
}

/// Holds that allocations and bytes at a size are at most those of a tenth of it times ten.
fn at_most_tenfold(what: &str, small: &AllocationInfo, large: &AllocationInfo) {
    let compare = |unit, small: u64, large: u64| {
        let ratio = large as f64 / small.max(1) as f64;
        assert!(
            ratio <= 10.0 * SLACK,
            "{what}: {large} {unit} instead of {small} at a tenth of the size, which is {ratio:.1} times as many"
        );
    };
    compare("allocations", small.count_total, large.count_total);
    compare("bytes", small.bytes_total, large.bytes_total);
    compare("bytes at a time", small.bytes_max, large.bytes_max);
}

#[test]
fn a_review_grows_at_most_as_the_pod_does() {
    let (remembering, forgetful) = (fixture::snapshot(), fixture::forgetful());
    let curves: [Curve; 4] = [
        ("variables", curves::variables, [200, 2000]),
        ("containers", curves::containers, [10, 100]),
        (
            "containers that are read",
            curves::containers_read,
            [10, 100],
        ),
        ("profiles", curves::instances, [2, 20]),
    ];
    for (what, curve, sizes) in curves {
        for (snapshot, memory) in [(&remembering, "remembered"), (&forgetful, "not remembered")] {
            let [small, large] = sizes.map(|size| review(&curve(size), snapshot));

            at_most_tenfold(&format!("{what}, {memory}"), &small, &large);
        }
    }
}

#[test]
fn a_review_allocates_the_same_however_much_is_known() {
    let of_profiles = |count| {
        let mut followed = Followed::profiles(count, fixture::snapshot());
        followed.published();
        let mut snapshot = Snapshot::clone(&followed.snapshot());
        snapshot.namespaces = curves::namespaces(1);
        let named = review(&curves::asking(), &snapshot);
        let matched = review(&curves::matched(), &snapshot);
        [
            named.count_total,
            named.bytes_total,
            matched.count_total,
            matched.bytes_total,
        ]
    };
    assert_eq!(of_profiles(1), of_profiles(100));
    let of_namespaces = |count| {
        let mut followed = Followed::namespaces(count, fixture::snapshot());
        followed.published();
        let asked = review(&curves::asking(), &followed.snapshot());
        [asked.count_total, asked.bytes_total]
    };
    assert_eq!(of_namespaces(1), of_namespaces(1000));
}

#[test]
fn a_denial_names_some_of_many_profiles() {
    let denied = |count| {
        let mut followed = Followed::profiles(count, fixture::snapshot());
        followed.published();
        let review = fixture::review(&[("outrigger.dev/inject", "quite-another")], 0);
        let outcome = admission::review(&review, &followed.snapshot()).unwrap();
        outcome.summary.message.unwrap()
    };
    assert!(!denied(1).contains("more"), "{}", denied(1));
    // Six are built in.
    assert!(denied(100).ends_with(" and 82 more"), "{}", denied(100));
}

#[test]
fn learning_grows_at_most_as_what_is_learnt() {
    let listing = |count| {
        let mut followed = Followed::namespaces(count, Snapshot::default());
        let info = allocation_counter::measure(|| followed.published());
        assert_eq!(followed.snapshot().namespaces.size(), count);
        info
    };
    at_most_tenfold(
        "the listing of namespaces",
        &listing(1000),
        &listing(10_000),
    );
    let change = |count| {
        let mut followed = Followed::namespaces(count, Snapshot::default());
        followed.published();
        let mut change = 1;
        again(|| {
            change += 1;
            followed.change_namespace(count / 2, change);
        })
    };
    let (small, large) = (change(1000), change(10_000));

    // A path of the tree, whose length is the logarithm of the number.
    for (small, large) in [
        (small.count_total, large.count_total),
        (small.bytes_total, large.bytes_total),
    ] {
        assert!(
            large <= small + small / 4,
            "the change of a namespace costs {large} instead of {small}"
        );
    }
    let change = |count| {
        let mut followed = Followed::profiles(count, Snapshot::default());
        followed.published();
        let mut change = 1;
        again(|| {
            change += 1;
            followed.change_profile(count / 2, change);
        })
    };
    let (small, large) = (change(20), change(200));

    at_most_tenfold("the change of a profile", &small, &large);
}
