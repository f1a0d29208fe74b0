//! The pure core of Outrigger: bytes of an AdmissionReview in, bytes of the answer out.
//!
//! From the outside in: [`admission`] takes the bytes of an AdmissionReview and gives the bytes of the
//! answer; [`inject`] decides and writes the patch; [`profile`], of a package before this one, is what admins write and
//! [`inject`] reads; [`json`] reads reviews. It is synchronous, and knows no cluster, no clock and no file.
//!
//! A package of its own, because it is compiled for speed and the rest of the program for size (`Cargo.toml`).

pub mod admission;
pub mod inject;
pub mod json;

pub use outrigger_profile::profile;
