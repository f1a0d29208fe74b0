//! Log lines and spans: who gets them.
//!
//! Spans are of the level `debug`, so that `RUST_LOG=info`, the default, does without them and they cost nothing. An
//! OpenTelemetry collector gets them all, in builds with the feature `otlp`, when the environment names one.

#[cfg(feature = "otlp")]
mod otlp;

use std::ffi::OsStr;
use std::io::IsTerminal;

use hyper::HeaderMap;
use tracing::Span;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

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
/// is set already, as in a test, stays. A `RUST_LOG` that cannot be followed is warned of and `info` is logged: pods are
/// not to be refused for the form of a log.
///
/// # Errors
/// Variables of OpenTelemetry that cannot be followed.
pub fn start(json: bool, runtime: &tokio::runtime::Handle) -> anyhow::Result<Telemetry> {
    let (filter, problem) = match filter(std::env::var_os("RUST_LOG").as_deref()) {
        Ok(filter) => (filter, None),
        Err(problem) => (informative(), Some(problem)),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines: Writer = if json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    let telemetry = begin(lines, runtime)?;
    if let Some(problem) = problem {
        tracing::warn!(target: "server", "{problem}; \"info\" is logged");
    }
    Ok(telemetry)
}

/// The level `info` of all targets.
fn informative() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

/// The filter that `RUST_LOG` asks for: levels, targets and `TARGET=LEVEL`, separated by commas. The longest target that
/// the one of a log line begins with counts. Unset and empty are `info`.
///
/// The error names the variable, what was given and what is expected.
fn filter(given: Option<&OsStr>) -> Result<Targets, String> {
    let Some(given) = given else {
        return Ok(informative());
    };
    let unreadable = || {
        format!(
            "RUST_LOG: given {given:?}, expected levels and TARGET=LEVEL, separated by commas, as in \"info\" or \
             \"warn,cluster=debug\"; levels are off, error, warn, info, debug and trace"
        )
    };
    let text = given.to_str().ok_or_else(unreadable)?;
    let directives: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    if directives.is_empty() {
        return Ok(informative());
    }
    if !directives.iter().all(|directive| is_plain(directive)) {
        return Err(unreadable());
    }
    directives.join(",").parse().map_err(|_| unreadable())
}

/// Whether a directive is of a form that [`Targets`] reads as it is meant. One of spans or fields (`[review]=debug`) it
/// would read as a target that nothing has, and a side that is left out as one of its own choice.
fn is_plain(directive: &str) -> bool {
    let stray = |char: char| char.is_whitespace() || "[]{}".contains(char);
    !directive.contains(stray)
        && directive
            .split_once('=')
            .is_none_or(|(target, level)| !target.is_empty() && !level.is_empty())
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use tracing::Level;

    use super::*;

    fn read(text: &str) -> Targets {
        filter(Some(OsStr::new(text))).unwrap()
    }

    /// The most that is logged of a target.
    fn level(filter: &Targets, target: &str) -> LevelFilter {
        [
            Level::TRACE,
            Level::DEBUG,
            Level::INFO,
            Level::WARN,
            Level::ERROR,
        ]
        .into_iter()
        .find(|level| filter.would_enable(target, level))
        .map_or(LevelFilter::OFF, LevelFilter::from_level)
    }

    #[test]
    fn levels_and_targets_are_read() {
        const OTHER: &str = "other";
        for (text, target, expected) in [
            ("info", OTHER, LevelFilter::INFO),
            ("DEBUG", OTHER, LevelFilter::DEBUG),
            ("off", OTHER, LevelFilter::OFF),
            ("server=debug", "server", LevelFilter::DEBUG),
            ("server=debug", OTHER, LevelFilter::OFF),
            ("kube=warn,debug", "kube::client", LevelFilter::WARN),
            ("kube=warn,debug", OTHER, LevelFilter::DEBUG),
            (
                "kube=warn,kube::client=trace",
                "kube::client",
                LevelFilter::TRACE,
            ),
            // All of one target, and nothing else.
            ("cluster", "cluster", LevelFilter::TRACE),
            ("cluster", OTHER, LevelFilter::OFF),
            // Blanks and commas too many say nothing.
            (" info, cluster=debug ,", OTHER, LevelFilter::INFO),
            (" info, cluster=debug ,", "cluster", LevelFilter::DEBUG),
            ("", OTHER, LevelFilter::INFO),
            (" ,", OTHER, LevelFilter::INFO),
        ] {
            assert_eq!(
                level(&read(text), target),
                expected,
                "{target} with {text:?}"
            );
        }
        assert_eq!(level(&filter(None).unwrap(), OTHER), LevelFilter::INFO);
    }

    #[test]
    fn what_cannot_be_followed_is_told_with_what_is_expected() {
        for text in [
            "server=loud",
            "info,server=debug=trace",
            "server=",
            "=debug",
            "[review]=debug",
            "admission[review]=debug",
            "admission[{uid}]=debug",
            "admission[review{uid=1,name}]=debug",
            "info debug",
        ] {
            let error = filter(Some(OsStr::new(text))).unwrap_err();
            let given = format!("RUST_LOG: given {text:?}, expected ");
            assert!(error.starts_with(&given), "{error}");
        }
        let error = filter(Some(OsStr::from_bytes(b"info\xff"))).unwrap_err();
        assert!(error.contains(r#"given "info\xFF""#), "{error}");
    }
}
