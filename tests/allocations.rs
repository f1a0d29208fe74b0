//! How often a review allocates: a budget that only ever goes down. Counts are the same on every machine, so what
//! they rise by is what a change costs. `cargo xtask bench` has the times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use outrigger::admission::{self, Snapshot};

#[path = "../benches/support/fixture.rs"]
mod fixture;

/// The most allocations of a review whose renderings are remembered, by the name of the fixture.
const BUDGETS: &[(&str, u64)] = &[
    ("asks for nothing", 15),
    ("envoy-tls", 38),
    ("envoy-tls and fluentd", 57),
    ("envoy-tls, 1 variables", 38),
    ("envoy-tls, 2000 variables", 46),
];

/// The same of reviews whose renderings are not remembered.
const RENDERED: &[(&str, u64)] = &[("envoy-tls", 1935), ("envoy-tls and fluentd", 3781)];

#[test]
fn a_review_allocates_no_more_often_than_its_budget() {
    hold(&fixture::snapshot(), BUDGETS);
}

#[test]
fn a_review_that_is_rendered_allocates_no_more_often_than_its_budget() {
    hold(&fixture::forgetful(), RENDERED);
}

fn hold(snapshot: &Snapshot, budgets: &[(&str, u64)]) {
    let mut told = Vec::new();
    for (name, review) in fixture::reviews() {
        // The first of its kind is rendered.
        admission::review(&review, snapshot).unwrap();
        let counted = allocation_counter::measure(|| {
            admission::review(&review, snapshot).unwrap();
        });
        if let Some((_, budget)) = budgets.iter().find(|(known, _)| *known == name) {
            told.push((name, counted.count_total, *budget));
        }
    }
    assert_eq!(told.len(), budgets.len());
    for (name, counted, budget) in &told {
        assert!(
            counted <= budget,
            "{name}: {counted} allocations, at most {budget} are allowed"
        );
        // Who made it better lowers the budget, so that nobody makes it worse again.
        assert!(
            counted + 2 > *budget,
            "{name}: {counted} allocations: lower the budget of {budget}"
        );
    }
}
