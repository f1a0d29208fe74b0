//! Real parts for the tests: an API server, Envoy, Helm, and what it takes to
//! talk to them.
//!
//! Everything listens on loopback, is bounded in time, and is stopped by the
//! process that started it, also when that process is killed (see [`daemon`]).
//! Tests that use a part belong in a test target with `harness = false` and
//! [`main!`], which starts the shared control plane once and stops it at the
//! end.
//!
//! The parts are installed by `cargo xtask test`; without it a test that needs
//! one fails and says so. Nothing is skipped.

pub mod balancer;
pub mod certs;
pub mod control_plane;
pub mod daemon;
pub mod envoy;
pub mod harness;
pub mod helm;
pub mod http;
pub mod lifecycle;
pub mod name_server;
pub mod parts;
pub mod pod;
pub mod ports;
pub mod process;
pub mod replica;
pub mod served;
pub mod wait;
pub mod wire;

pub use balancer::Balancer;
pub use control_plane::ControlPlane;
pub use daemon::Daemon;
pub use envoy::Envoy;
pub use helm::Helm;
pub use name_server::NameServer;
pub use pod::LocalPod;
pub use ports::free_port;
pub use process::Finished;
pub use served::Served;
pub use wait::{wait_closely, wait_until, wait_until_async};

/// What a test returns. Any error will do; its whole chain is printed.
pub type Result<T = (), E = anyhow::Error> = std::result::Result<T, E>;
