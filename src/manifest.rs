//! Kubernetes manifests as people keep them: YAML streams and JSON, several workloads in a file.
//!
//! A document that is not changed is written back byte for byte. One that is changed keeps the comments before
//! its first line and the order of its keys; comments inside of it are lost, as no YAML library that is fit for
//! other people's files keeps them.

mod emit;
pub mod sources;
pub mod stream;
pub mod workload;

pub use sources::{ManifestError, read_all};
pub use stream::Stream;
pub use workload::Workload;
