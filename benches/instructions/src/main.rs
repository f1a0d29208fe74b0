//! Answers one review, for callgrind to count the instructions of `measured`. A package of its own, so that not
//! all that the tests need is compiled for it. `cargo xtask instructions` runs it.
//!
//! Without an argument it prints the names of the reviews, one a line; with one of them it answers that review, whose
//! renderings are remembered by then, or with `--forgetful NAME` are not.

use std::hint::black_box;
use std::process::ExitCode;

use outrigger::admission::{self, Snapshot};

#[path = "../../support/fixture.rs"]
mod fixture;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (snapshot, name) = match arguments.as_slice() {
        [] => {
            for (name, _) in fixture::reviews() {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        [flag, name] if flag == "--forgetful" => (fixture::forgetful(), name),
        [name, ..] => (fixture::snapshot(), name),
    };
    let mut reviews = fixture::reviews().into_iter();
    let Some((_, review)) = reviews.find(|(known, _)| known == name) else {
        eprintln!("there is no review `{name}`");
        return ExitCode::FAILURE;
    };
    // The first makes what later ones share, and some more bring the allocator to where it stays.
    for _ in 0..4 {
        if let Err(error) = admission::review(&review, &snapshot) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    measured(&review, &snapshot);
    ExitCode::SUCCESS
}

/// What callgrind counts, by this name.
#[inline(never)]
fn measured(review: &[u8], snapshot: &Snapshot) {
    let _ = black_box(admission::review(black_box(review), snapshot));
}
