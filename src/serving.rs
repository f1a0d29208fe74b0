//! Serving reviews: from a connection to the bytes that the core is asked with, and back.
//!
//! [`server`] is the HTTPS server, which is told things by whoever knows them and itself asks nobody; [`certificate`] is
//! what it serves. A package of its own, because it is compiled for speed and the rest of the program for size
//! (`Cargo.toml`).

pub mod certificate;
pub mod server;

use outrigger_core::{admission, inject, profile};
