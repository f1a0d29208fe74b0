//! The reviews that are posted, made of those that every bench shares.

use anyhow::Context as _;
use serde_json::{Value, json};
use testkit::Result;

use crate::fixture;

/// A recorded review of a pod with the annotations for `envoy-tls` and `fluentd`.
pub(crate) fn two_profiles() -> Vec<u8> {
    fixture::reviews().swap_remove(2).1
}

/// The same of a pod with so many variables that the review has this many bytes or, by a variable, more.
pub(crate) fn two_profiles_of(bytes: usize) -> Result<Vec<u8>> {
    let mut review: Value = serde_json::from_slice(&two_profiles())?;
    for number in 0.. {
        let env = review.pointer_mut("/request/object/spec/containers/0/env");
        let env = env.and_then(Value::as_array_mut).context("no env")?;
        env.push(json!({"name": format!("VARIABLE_{number}"), "value": format!("value {number}")}));
        let written = serde_json::to_vec(&review)?;
        if written.len() >= bytes {
            return Ok(written);
        }
    }
    anyhow::bail!("it never has {bytes} bytes")
}

/// How many pods a workload has.
const PODS: usize = 20;

/// The pods of one workload after the other, each with parameters of its own.
pub(crate) struct Workloads(String);

impl Workloads {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(String::from_utf8(two_profiles())?))
    }

    /// The review of a pod, counted over all of them.
    pub(crate) fn review(&self, pod: usize) -> Vec<u8> {
        let workload = pod / PODS;
        self.0
            .replace("s05-volumes", &format!("web-{workload}-{pod}"))
            .replace("web-tls", &format!("web-tls-{workload}"))
            .replace("/var/log/web/", &format!("/var/log/web-{workload}/"))
            .into_bytes()
    }
}
