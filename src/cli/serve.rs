//! `outrigger serve`: the webhook.

mod following;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::options::{CatalogueOptions, NativeSidecars};
use crate::admission::{self, Snapshot};
use crate::certificate::{CertificatePair, Offer, Subject};
use crate::cluster::events::notice::Notice;
use crate::server::{CertificateSource, Server, ServerConfig};
use crate::telemetry;
use crate::wait::parse_duration;
use following::Following;

/// What reviews see: replaced as a whole when something of it changes.
type Live = Arc<ArcSwap<Snapshot>>;

/// Run the webhook
#[derive(Debug, Args)]
#[group(id = "certificate", required = true, multiple = true, args = ["tls_cert", "self_signed", "managed_certificate"])]
pub struct ServeCommand {
    /// Where reviews are taken, with TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are told, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    operations_listen: SocketAddr,
    /// The certificate chain in PEM; a changed file is served within seconds
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make a certificate at start that is gone at the end, to try things out
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    self_signed: bool,
    /// A name in that certificate, besides localhost; may be given several times
    #[arg(long, value_name = "NAME", requires = "self_signed", conflicts_with_all = ["tls_cert", "tls_key"])]
    dns_name: Vec<String>,
    /// Keep a CA and a certificate of it in this Secret, renew them, and tell the API server of the CA
    #[arg(long, value_name = "SECRET", requires_all = ["service", "webhook_configuration"],
        conflicts_with_all = ["tls_cert", "tls_key", "self_signed"])]
    managed_certificate: Option<String>,
    /// The Service that the certificate is for, in the same namespace
    #[arg(long, value_name = "NAME", requires = "managed_certificate")]
    service: Option<String>,
    /// The namespace of the Secret and the Service. Default: that of the pod it runs in
    #[arg(long, value_name = "NAME", requires = "managed_certificate")]
    namespace: Option<String>,
    /// Webhook configurations of this name, mutating and validating, are the ones by which the API server calls this
    /// webhook; may be given several times. With --managed-certificate they get the CA in their caBundle; pods that
    /// they leave out are not audited
    #[arg(long, value_name = "NAME")]
    webhook_configuration: Vec<String>,
    /// How long a certificate is valid. For tests
    #[arg(long, value_name = "N", hide = true, requires = "managed_certificate", value_parser = clap::value_parser!(i64).range(1..=315_360_000))]
    certificate_life_seconds: Option<i64>,
    /// How long a CA is valid. For tests
    #[arg(long, value_name = "N", hide = true, requires = "managed_certificate", value_parser = clap::value_parser!(i64).range(1..=3_153_600_000))]
    ca_life_seconds: Option<i64>,
    /// How long a new CA is published before it signs. For tests
    #[arg(long, value_name = "N", hide = true, requires = "managed_certificate", value_parser = clap::value_parser!(i64).range(0..=86_400))]
    ca_settle_seconds: Option<i64>,
    /// By how much the clock that certificates are made and judged by is wrong. For tests
    #[arg(long, value_name = "N", hide = true, requires = "managed_certificate", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-315_360_000..=315_360_000))]
    clock_offset_seconds: i64,
    /// The cluster whose namespaces count. Default: that of the pod it runs in, if its account's token is
    /// mounted
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How sidecars run in the cluster
    #[arg(long, value_enum, default_value_t)]
    native_sidecars: NativeSidecars,
    /// Write no Kubernetes events: of denials, on the owner of the pod, and of the managed certificate
    #[arg(long)]
    no_events: bool,
    /// The time between two writes of the same event. For tests
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    event_window_seconds: Option<u64>,
    /// How often all pods are looked at for those that lack what they asked for or have it by an older revision;
    /// 0 for never. It takes at most two calls a second, each for the metadata of 500 pods
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_interval)]
    audit_interval: Duration,
    /// Connections held at a time; further ones wait
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Reviews worked on at a time; further ones are asked to come again
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_in_flight: u32,
    /// How long to go on serving after SIGTERM, until the API server has heard of it
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(0..=3600))]
    drain_seconds: u64,
    /// The form of log lines; RUST_LOG filters them
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    catalogue: CatalogueOptions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl ServeCommand {
    /// Runs the webhook until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// A profile, certificate or address that cannot be used; each names its flag.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?;
        let telemetry = telemetry::start(self.log_format == LogFormat::Json, runtime.handle())?;
        let ended = self.serve(&runtime);
        telemetry.end();
        ended
    }

    fn serve(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<ExitCode> {
        let loaded = self.catalogue.read()?;
        let (offer, offers) = watch::channel(Offer::default());
        let certificate = self.certificate(offers)?;
        let mut config = ServerConfig::new(self.listen, self.operations_listen, certificate);
        config.max_connections = self.max_connections as usize;
        config.max_in_flight = self.max_in_flight as usize;
        config.drain = Duration::from_secs(self.drain_seconds);
        config.continue_trace = telemetry::continue_trace;
        runtime.block_on(async {
            let mut terminate =
                signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
            let mut interrupt =
                signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
            let Following {
                live,
                recorder,
                tasks: _tasks,
            } = self.snapshot(loaded, offer, &config).await?;
            let profiles = live.load().catalogue.iter().count();
            let server = Server::bind(config, move |webhook, body: &[u8]| {
                let reviewed = admission::answer(webhook, body, &live.load())?;
                if let Some(recorder) = &recorder
                    && let Some(notice) = Notice::denial(&reviewed.summary)
                {
                    recorder.record(notice);
                }
                Ok(reviewed)
            })
            .await?;
            let (listen, operations) = server.addresses()?;
            tracing::info!(target: "server", %listen, %operations, profiles, "serving");
            let (tell, told) = tokio::sync::oneshot::channel();
            let mut signalled = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            let twice = async {
                signalled().await;
                // Nobody listens any more when the server has ended by itself.
                let _ = tell.send(());
                signalled().await;
            };
            tokio::select! {
                () = server.run(async { let _ = told.await; }) => {}
                () = twice => {
                    tracing::warn!(target: "server", "told to stop twice: ending at once");
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    fn certificate(&self, offers: watch::Receiver<Offer>) -> anyhow::Result<CertificateSource> {
        match (&self.tls_cert, &self.tls_key) {
            _ if self.managed_certificate.is_some() => Ok(CertificateSource::Offers(offers)),
            (Some(certificate), Some(private_key)) => Ok(CertificateSource::Files {
                certificate: certificate.clone(),
                private_key: private_key.clone(),
            }),
            _ => {
                let mut dns_names = vec!["localhost".to_owned()];
                dns_names.extend(self.dns_name.iter().cloned());
                let mut addresses = vec![
                    std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::Ipv6Addr::LOCALHOST.into(),
                ];
                if !self.listen.ip().is_unspecified() && !self.listen.ip().is_loopback() {
                    addresses.push(self.listen.ip());
                }
                let subject = Subject {
                    dns_names,
                    addresses,
                    days: 30,
                };
                Ok(CertificateSource::Pair(CertificatePair::self_signed(
                    &subject,
                )?))
            }
        }
    }
}

/// A duration, or 0.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => parse_duration(text),
    }
}
