//! The `SidecarProfile`: what an admin writes, compiled once, before any pod asks for it.
//!
//! ```text
//! YAML text → document (strict) → compiled profile → catalogue (by name, cluster over file over built-in)
//! ```
//!
//! Everything that can be wrong with a profile is found here, with the path of the culprit, so that a
//! review meets only profiles that are known to be good. This module knows no pod, no cluster, no
//! clock and no file: text comes in, compiled profiles go out.

pub mod catalogue;
pub mod compile;
pub mod document;
pub mod expression;
pub mod file;
mod matching;
mod nginx;
pub mod parameter;
mod pattern;
pub mod privilege;
pub mod strict;
pub mod template;

pub use catalogue::{Catalogue, CatalogueError, Defaults};
pub use compile::Profile;
pub use document::{Document, Position, ProfileError, ProfileProblem};
pub use parameter::{Parameter, SettableBy};
