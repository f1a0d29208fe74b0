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
    // The first makes what later ones share.
    let first = admission::review(&review, &snapshot);
    measured(&review, &snapshot);
    match first {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What callgrind counts, by this name.
#[inline(never)]
fn measured(review: &[u8], snapshot: &Snapshot) {
    let _ = black_box(admission::review(black_box(review), snapshot));
}
