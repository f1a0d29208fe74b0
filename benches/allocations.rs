//! How often a review allocates. Counts, not times: the same on every machine.

use outrigger::admission;

#[path = "support/fixture.rs"]
mod fixture;

fn main() {
    let snapshot = fixture::snapshot();
    println!("| review | bytes | allocations | bytes allocated |\n|---|---:|---:|---:|");
    for (name, review) in fixture::reviews() {
        // The first of its kind makes what later ones share.
        let _ = admission::review(&review, &snapshot);
        let counted = allocation_counter::measure(|| {
            let _ = std::hint::black_box(admission::review(&review, &snapshot));
        });
        println!(
            "| {name} | {} | {} | {} |",
            review.len(),
            counted.count_total,
            counted.bytes_total
        );
    }
}
