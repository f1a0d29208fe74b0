//! Outrigger, a mutating admission webhook that injects sidecars into pods.

pub mod admission;
