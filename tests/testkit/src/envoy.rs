//! The real Envoy.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::{Daemon, Result, parts, process};

const VALIDATE_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);

/// A running Envoy, stopped when dropped.
#[derive(Debug)]
pub struct Envoy {
    daemon: Daemon,
    // After the daemon: its log lives here.
    _directory: TempDir,
}

impl Envoy {
    /// Lets Envoy check a bootstrap, YAML or JSON. Unknown fields are refused;
    /// what SDS files hold is not looked at.
    ///
    /// # Errors
    ///
    /// With what Envoy said, when it refuses.
    pub fn validate_bootstrap(bootstrap: &str) -> Result {
        let directory = process::temporary_folder()?;
        let path = directory.path().join("bootstrap.yaml"); // JSON is YAML.
        std::fs::write(&path, bootstrap)?;
        Self::validate(&["-c", &path.to_string_lossy()], &[])
    }

    /// Runs Envoy with these arguments and `--mode validate`.
    ///
    /// # Errors
    ///
    /// With what Envoy said, when it refuses.
    pub fn validate(arguments: &[&str], environment: &[(&str, &str)]) -> Result {
        let command = command(&[arguments, &["--mode", "validate"]].concat(), environment)?;
        process::run(&command, b"", VALIDATE_LIMIT)?.ok()?;
        Ok(())
    }

    /// Starts Envoy and waits until it listens on all `ports` of 127.0.0.1.
    ///
    /// `--disable-hot-restart` is added when missing: without it two Envoys on
    /// one machine meet in shared memory.
    ///
    /// # Errors
    ///
    /// With the end of its log, when it ends or does not listen in time.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)], ports: &[u16]) -> Result<Self> {
        let mut command = command(arguments, environment)?;
        if !arguments.contains(&"--disable-hot-restart") {
            command.arg("--disable-hot-restart");
        }
        let directory = process::temporary_folder()?;
        let mut daemon = Daemon::start(&command, &directory.path().join("envoy.log"), PATIENCE)?;
        for port in ports {
            daemon.wait_ready(START_LIMIT, || {
                TcpStream::connect(("127.0.0.1", *port))
                    .with_context(|| format!("nothing listens on port {port}"))
            })?;
        }
        Ok(Envoy {
            daemon,
            _directory: directory,
        })
    }

    /// Starts Envoy with the flags of a sidecar and the bootstrap at this path.
    ///
    /// # Errors
    ///
    /// As [`Envoy::start`].
    pub fn start_bootstrap(bootstrap: &Path, ports: &[u16]) -> Result<Self> {
        let path = bootstrap.to_string_lossy();
        Self::start(
            &["-c", &path, "--concurrency", "1", "-l", "warning"],
            &[],
            ports,
        )
    }

    /// The process, to signal it, to wait for its end or to read its log.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(parts::program("envoy")?);
    command.args(arguments).envs(environment.iter().copied());
    Ok(command)
}
