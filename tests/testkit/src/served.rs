//! The webhook as a process of its own, without a cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::certs::Authority;
use crate::process::{IMAGE_ENVIRONMENT, wrapped};
use crate::wire::{Answer, Client, LIMIT};
use crate::{Daemon, Result, free_port, wait_closely, wait_until_async};

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// How often it is asked whether it is ready.
const OFTEN: Duration = Duration::from_millis(1);

/// `outrigger serve` with a certificate of an authority of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub daemon: Daemon,
    /// Where reviews are taken.
    pub address: SocketAddr,
    /// Where metrics are told.
    pub operations: SocketAddr,
    /// Who signed its certificate.
    pub authority: Arc<Authority>,
    /// From before the process was started until it said that it is ready.
    pub ready_after: Duration,
    _folder: TempDir,
}

impl Served {
    /// Starts `program` with these flags and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub async fn start(program: &Path, flags: &[&str]) -> Result<Self> {
        Self::wrapped(&[], program, flags).await
    }

    /// The same under another command; see [`wrapped`].
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub async fn wrapped(wrapper: &[&str], program: &Path, flags: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("the authority of a webhook that is tested")?;
        let issued = authority.server(&["localhost", "127.0.0.1"])?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&certificate, issued.certificate)?;
        std::fs::write(&key, issued.key)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let operations = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg(format!("--listen={address}"))
            .arg(format!("--operations-listen={operations}"))
            .args([
                "--drain-seconds=0".as_ref(),
                "--tls-cert".as_ref(),
                certificate.as_os_str(),
            ])
            .arg("--tls-key")
            .arg(&key)
            .args(flags)
            .envs(IMAGE_ENVIRONMENT)
            .env_remove("RUST_LOG");
        let command = wrapped(wrapper, &command);
        let start = Instant::now();
        let daemon = Daemon::start(&command, &folder.path().join("log"), Duration::from_secs(5))?;
        let mut served = Self {
            daemon,
            address,
            operations,
            authority: Arc::new(authority),
            ready_after: Duration::ZERO,
            _folder: folder,
        };
        wait_closely("the webhook to be ready", START, OFTEN, async || {
            if let Some(status) = served.daemon.ended()? {
                anyhow::bail!("it ended with {status}: {}", served.daemon.log());
            }
            let answer = served.operations("/readyz").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        served.ready_after = start.elapsed();
        Ok(served)
    }

    /// A connection that speaks HTTP/1.1.
    ///
    /// # Errors
    ///
    /// When it is not taken.
    pub async fn client(&self) -> Result<Client> {
        Client::tls(self.address, &self.authority, &[b"http/1.1"]).await
    }

    /// What the operations port says of a path.
    ///
    /// # Errors
    ///
    /// When it says nothing.
    pub async fn operations(&self, path: &str) -> Result<Answer> {
        Client::plain(self.operations).await?.get(path).await
    }

    /// The sum of the samples that begin so; 0 when there is none.
    ///
    /// # Errors
    ///
    /// When the metrics cannot be read.
    pub async fn metric(&self, start: &str) -> Result<f64> {
        let mut sum = 0.0;
        for line in self.operations("/metrics").await?.body.lines() {
            if line.starts_with(start) {
                let (_, value) = line.rsplit_once(' ').context("a sample without a value")?;
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// Waits until that sum is as expected.
    ///
    /// # Errors
    ///
    /// With the last value, after a while.
    pub async fn wait_metric(&self, start: &str, expected: f64) -> Result {
        wait_until_async(start, LIMIT, async || {
            let value = self.metric(start).await?;
            ensure!(
                (value - expected).abs() < 0.5,
                "{start} is {value}, expected {expected}"
            );
            Ok(())
        })
        .await
    }
}

/// A review that asks for nothing, with this uid (in JSON, without its quotes).
#[must_use]
pub fn small(uid: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"{uid}","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{{"metadata":{{"name":"web"}},"spec":{{"containers":[{{"name":"web"}}]}}}}}}}}"#
    )
}

/// A review padded to this many bytes.
#[must_use]
pub fn padded(length: usize) -> String {
    let mut review = small("padded");
    review.push_str(&" ".repeat(length.saturating_sub(review.len())));
    review
}
