//! Outrigger, a mutating admission webhook that injects sidecars into pods.
//!
//! Profiles are the package `outrigger-profile` ([`profile`]; its root is `src/loading.rs`), the pure core that renders them
//! is `outrigger-core` ([`admission`], [`inject`] and [`json`]; `src/core.rs`), and what answers the API server is
//! `outrigger-server` ([`server`] and [`certificate`]; `src/serving.rs`).
//! Around them: [`cluster`] follows what is in the cluster, [`manifest`] does to files what the webhook does to pods,
//! [`wait`] waits inside of pods, [`telemetry`] is log lines and spans, and [`cli`] is the commands.

pub mod cli;
pub mod cluster;
pub mod manifest;
pub mod telemetry;
pub mod wait;

pub use outrigger_core::{admission, inject, json};
pub use outrigger_profile::profile;
use outrigger_profile::yaml;
pub use outrigger_server::{certificate, server};
