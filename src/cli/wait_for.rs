//! `outrigger wait-for`: holds an init container until services answer.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hyper::Uri;

use crate::wait::{self, Patience, Target, parse_duration};

/// Wait until services answer; meant for init containers
#[derive(Debug, Args)]
#[group(id = "targets", required = true, multiple = true, args = ["tcp", "http", "dns"])]
pub struct WaitForCommand {
    /// A HOST:PORT that must take TCP connections; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Vec<String>,
    /// An http:// URL that must answer with 2xx or 3xx; may be given several times
    #[arg(long, value_name = "URL", value_parser = parse_http)]
    http: Vec<Uri>,
    /// A name that must resolve; may be given several times
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// The time for all of them together
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    /// The time between two tries
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// The time for one try
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    per_try_timeout: Duration,
}

fn parse_http(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err(
            "expected http://HOST…; for a service with TLS, wait for its port with --tcp"
                .to_owned(),
        ),
    }
}

impl WaitForCommand {
    /// Waits. Exit status 1: something did not answer in time.
    ///
    /// # Errors
    /// A runtime that cannot be started.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let targets: Vec<Target> = self
            .dns
            .iter()
            .cloned()
            .map(Target::Dns)
            .chain(self.tcp.iter().cloned().map(Target::Tcp))
            .chain(self.http.iter().cloned().map(Target::Http))
            .collect();
        let patience = Patience {
            total: self.timeout,
            interval: self.interval.max(Duration::from_millis(10)),
            one_try: self.per_try_timeout,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?;
        let outcome = runtime.block_on(wait::wait_for(&targets, patience, |line| {
            anstream::println!("{line}");
        }));
        // A name may still be looked up, and a silent name server holds that for longer than there is patience.
        runtime.shutdown_background();
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                anstream::eprintln!("outrigger: {error}");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
