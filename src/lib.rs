//! Outrigger, a mutating admission webhook that injects sidecars into pods.
//!
//! From the outside in: [`admission`] takes the bytes of an AdmissionReview and gives the bytes of the
//! answer; [`inject`] is the pure core that decides and writes the patch; [`profile`] is what admins write
//! and the core reads.

pub mod admission;
pub mod certificate;
pub mod cli;
pub mod cluster;
pub mod inject;
pub mod json;
pub mod manifest;
pub mod profile;
pub mod server;
pub mod telemetry;
pub mod wait;
mod yaml;
