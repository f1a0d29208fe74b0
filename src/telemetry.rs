//! Log lines and spans: who gets them.
//!
//! Spans are of the level `debug`, so that `RUST_LOG=info`, the default, does without them and they cost nothing. An
//! OpenTelemetry collector gets them all, in builds with the feature `otlp`, when the environment names one.

#[cfg(feature = "otlp")]
mod otlp;

use std::io::IsTerminal;

use hyper::HeaderMap;
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What names a collector, as OpenTelemetry has it for all exporters.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What is to be ended orderly.
#[derive(Debug, Default)]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    exporter: Option<otlp::Exporter>,
}

type Writer = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log, and to export spans where the environment says so. `runtime` carries the export. A subscriber that
/// is set already, as in a test, stays.
///
/// # Errors
/// Variables of OpenTelemetry that cannot be followed.
pub fn start(json: bool, runtime: &tokio::runtime::Handle) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines: Writer = if json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    begin(lines, runtime)
}

#[cfg(feature = "otlp")]
fn begin(lines: Writer, runtime: &tokio::runtime::Handle) -> anyhow::Result<Telemetry> {
    let exporter = match endpoint() {
        Some(_) => Some(otlp::Exporter::start(runtime)?),
        None => None,
    };
    let spans = exporter.as_ref().map(otlp::Exporter::layer);
    let _ = Registry::default().with(lines).with(spans).try_init();
    if let Some(endpoint) = endpoint() {
        tracing::info!(target: "server", endpoint, "spans are exported");
    }
    Ok(Telemetry { exporter })
}

#[cfg(not(feature = "otlp"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "with the feature there are errors"
)]
fn begin(lines: Writer, _runtime: &tokio::runtime::Handle) -> anyhow::Result<Telemetry> {
    let _ = Registry::default().with(lines).try_init();
    if let Some(endpoint) = endpoint() {
        tracing::warn!(
            target: "server", endpoint,
            "{} or {} is set, and no span is exported: this build is without the feature \"otlp\"",
            ENDPOINTS[0], ENDPOINTS[1]
        );
    }
    Ok(Telemetry::default())
}

/// The collector that the environment names.
fn endpoint() -> Option<String> {
    ENDPOINTS
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
}

impl Telemetry {
    /// Sends the spans that are left, for two seconds at most. Blocks; the runtime must still run.
    pub fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.end();
        }
    }
}

/// Makes the span part of the trace that a request belongs to (its header `traceparent`, W3C Trace Context). An API
/// server that traces sends one.
#[cfg(feature = "otlp")]
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    otlp::continue_trace(span, headers);
}

/// Does nothing in this build.
#[cfg(not(feature = "otlp"))]
pub fn continue_trace(_span: &Span, _headers: &HeaderMap) {}
