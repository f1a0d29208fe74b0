//! Outrigger, a mutating admission webhook that injects sidecars into pods.
//!
//! The pure core is the package `outrigger-core` ([`admission`], [`inject`], [`json`] and [`profile`]; its root is
//! `src/core.rs`), what answers the API server is `outrigger-server` ([`server`] and [`certificate`]; `src/serving.rs`).
//! Around them: [`cluster`] follows what is in the cluster, [`manifest`] does to files what the webhook does to pods,
//! [`wait`] waits inside of pods, [`telemetry`] is log lines and spans, and [`cli`] is the commands.

pub mod cli;
pub mod cluster;
pub mod manifest;
pub mod telemetry;
pub mod wait;

use outrigger_core::yaml;
pub use outrigger_core::{admission, inject, json, profile};
pub use outrigger_server::{certificate, server};
