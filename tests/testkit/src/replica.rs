//! A process in the place of a pod of the chart's Deployment.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PodSpec;

use crate::Result;
use crate::process::IMAGE_ENVIRONMENT;

/// The command of the pod's first container, run by `program`, listening at `address` for reviews and at `operations`
/// for what is told: where a pod's network differs from this one. It reaches the API server by `kubeconfig` and is
/// told its `namespace`, which a pod finds mounted.
///
/// # Errors
///
/// When the pod has no container.
pub fn command(
    program: &Path,
    spec: &PodSpec,
    (address, operations): (SocketAddr, SocketAddr),
    kubeconfig: &Path,
    namespace: &str,
) -> Result<Command> {
    let container = spec.containers.first().context("no container")?;
    let mut command = Command::new(program);
    for argument in container.args.iter().flatten() {
        match argument.split_once('=') {
            Some((flag @ "--listen", _)) => command.arg(format!("{flag}={address}")),
            Some((flag @ "--operations-listen", _)) => command.arg(format!("{flag}={operations}")),
            _ => command.arg(argument),
        };
    }
    command
        .envs(IMAGE_ENVIRONMENT)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--namespace={namespace}"));
    Ok(command)
}
