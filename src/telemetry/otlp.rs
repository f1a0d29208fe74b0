//! Spans to an OpenTelemetry collector, by OTLP as protobuf over HTTP. The standard variables of the environment say
//! where to (`OTEL_EXPORTER_OTLP_*`), which (`OTEL_TRACES_SAMPLER`), under which name (`OTEL_SERVICE_NAME`,
//! `OTEL_RESOURCE_ATTRIBUTES`) and how often (`OTEL_BSP_*`).

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, Response};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

/// The authorities that the collector's certificate is verified with, in PEM.
const CERTIFICATES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
];
/// How long one request may take; OpenTelemetry's default.
const REQUEST: Duration = Duration::from_secs(10);
/// How long the last spans may take at the end.
const END: Duration = Duration::from_secs(2);
/// The longest answer of a collector that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Whose spans are exported: ours, not those of libraries.
const TARGETS: [&str; 3] = ["admission", "certificates", "cluster"];

/// What sends spans, in batches, from a thread of its own.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts it as the environment says.
    pub(super) fn start(runtime: &Handle) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Transport::new(runtime.clone())?)
            .build()
            .context("OTEL_EXPORTER_OTLP_*: spans cannot be exported")?;
        // A service.name that the environment gives is there already.
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none()
            && !std::env::var("OTEL_RESOURCE_ATTRIBUTES")
                .is_ok_and(|attributes| attributes.contains("service.name="))
        {
            resource = resource.with_service_name("outrigger");
        }
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self { provider })
    }

    /// What takes our spans, whatever `RUST_LOG` says.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours = filter_fn(|metadata| metadata.is_span() && TARGETS.contains(&metadata.target()));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("outrigger"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(ours.and(LevelFilter::DEBUG))
    }

    pub(super) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(END) {
            tracing::warn!(target: "server", %error, "the last spans were not exported");
        }
    }
}

pub(super) fn continue_trace(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(target: "server", %error, "a span has no parent");
    }
}

/// An HTTP client on our runtime: the thread that sends has none.
#[derive(Debug)]
struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl Transport {
    fn new(runtime: Handle) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, runtime })
    }
}

/// TLS that trusts the authorities that the environment names, or else those of the system. Where there are none, as
/// in an image from scratch, `https` fails and `http` does not.
fn tls() -> anyhow::Result<ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")
    };
    let given = CERTIFICATES.into_iter().find_map(|name| {
        Some((
            name,
            std::env::var(name).ok().filter(|path| !path.is_empty())?,
        ))
    });
    let Some((name, path)) = given else {
        return Ok(match builder()?.with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(_) => builder()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth(),
        });
    };
    let mut roots = RootCertStore::empty();
    let refused = || format!("{name} {path}: expected a file of certificates in PEM");
    for certificate in CertificateDer::pem_file_iter(&path).with_context(refused)? {
        roots
            .add(certificate.with_context(refused)?)
            .with_context(refused)?;
    }
    anyhow::ensure!(!roots.is_empty(), refused());
    Ok(builder()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // The timer is the runtime's too.
        let bounded = async { tokio::time::timeout(REQUEST, exchange).await? };
        self.runtime.spawn(bounded).await?
    }
}
