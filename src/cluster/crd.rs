//! The CustomResourceDefinition of `SidecarProfile`.
//!
//! The program carries it as text, the file that the chart installs. A test makes it of the types that read a profile
//! and holds the file to that, so that what makes it is no part of the program.

/// The API group.
pub const GROUP: &str = "outrigger.dev";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";
/// The plural, in URLs.
pub const PLURAL: &str = "sidecarprofiles";

/// The CustomResourceDefinition, for `kubectl apply`.
pub const YAML: &str = include_str!("../../charts/outrigger/files/crd.yaml");

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
