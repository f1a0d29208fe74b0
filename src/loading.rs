//! Loading what an administrator writes: [`profile`], and [`yaml`], in which it is
//! written. Synchronous, and without cluster, clock and file, as the core is that renders it.
//!
//! A package of its own, because a review of which the rendering is remembered hardly enters it: it is compiled for size,
//! and the core for speed (`Cargo.toml`).

pub mod profile;
pub mod yaml;
