//! What must hold of every answer of Outrigger, whatever it was asked.
//!
//! The properties of `tests/properties.rs` and the targets of `fuzz/` find inputs, each in its way; this crate says
//! whether the program did right by one. It shares nothing with the program but its front doors: the patch is applied
//! by a strict RFC 6902 applier of its own ([`Node`]), over a tree that keeps each scalar as it was written, and the
//! json-patch crate must come to the same; what a pod that comes out must be is written anew from Kubernetes' rules
//! ([`pod`]), and not taken from the checker of the program.

pub mod manifest;
mod node;
pub mod pod;
mod review;

pub use node::Node;
pub use review::{answered, envelope, patch_of, reviewed, unchanged};

/// An invariant that does not hold, with what it was broken by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What an invariant was held about, or how it is broken.
pub type Held<T> = Result<T, Broken>;

/// Breaks where `holds` does not.
///
/// # Errors
/// What `told` says, when it does not hold.
pub(crate) fn held(holds: bool, told: impl FnOnce() -> String) -> Held<()> {
    if holds { Ok(()) } else { Err(Broken(told())) }
}
