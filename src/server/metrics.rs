//! Metrics, in OpenMetrics text. Every label has a closed set of values: nothing that a pod's author wrote
//! becomes a label. Names of profiles do, which the administrator wrote, and so many of them at most. What there is
//! stands in `docs/metrics.md`.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::by_profile::ByProfile;
use super::standing::Standings;
use crate::admission::{Summary, Webhook};
use crate::inject::Renderings;
use crate::profile::Catalogue;
use crate::profile::compile::{BUILT_IN, CLUSTER};

type Labels1 = [(&'static str, &'static str); 1];
type Labels3 = [(&'static str, &'static str); 3];

/// Why requests and connections are turned away.
const REJECTED: &[&str] = &[
    "broken_body",
    "crowded",
    "idle",
    "media_type",
    "method",
    "no_review",
    "overloaded",
    "panicked",
    "slow_body",
    "slow_headers",
    "too_large",
];
/// How handshakes end.
const HANDSHAKES: &[&str] = &["failed", "ok", "slow"];
/// What becomes of a changed certificate.
const RELOADS: &[&str] = &["refused", "served"];
/// What pods count as that are audited.
pub const AUDITED: &[&str] = &["injected", "missed", "stale"];
/// How audits end.
const AUDITS: &[&str] = &["failed", "ok"];

fn durations() -> Histogram {
    // From a microsecond, a skipped review, to the longest that an API server can be told to wait. Above a
    // tenth of a second there is a fault; how bad it is against webhook.timeoutSeconds, the alerts ask.
    Histogram::new([
        1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1,
        0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}
/// What is done to the Secret of a managed certificate.
const RENEWALS: &[&str] = &[
    "conflict",
    "failed",
    "founded",
    "leaf_issued",
    "restored",
    "retired",
    "succeeded",
    "succession_begun",
];
/// Where a profile comes from.
const ORIGINS: &[&str] = &["built_in", "cluster", "file"];
/// What becomes of writing a caBundle.
const BUNDLES: &[&str] = &["failed", "written"];
/// What becomes of a Kubernetes event.
const EVENTS: &[&str] = &["dropped", "failed", "written"];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: Family<Labels3, Counter>,
    durations: Family<Labels1, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    rejected: Family<Labels1, Counter>,
    handshakes: Family<Labels1, Counter>,
    connections: Gauge,
    certificate_end: Gauge<i64, AtomicI64>,
    reloads: Family<Labels1, Counter>,
    renewals: Family<Labels1, Counter>,
    bundles: Family<Labels1, Counter>,
    events: Family<Labels1, Counter>,
    audit_pods: Family<Labels1, Gauge>,
    audit_runs: Family<Labels1, Counter>,
    audit_end: Gauge<i64, AtomicI64>,
    generation: Gauge,
    profiles: Family<Labels1, Gauge>,
    refused: Gauge,
    by_profile: Arc<ByProfile>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Arc::default(), Arc::default())
    }
}

impl Metrics {
    /// Metrics of a server, with how long these have been stale.
    pub fn new(standings: Arc<Standings>, renderings: Arc<Renderings>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("outrigger"),
            reviews: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
            rejected: Family::default(),
            handshakes: Family::default(),
            connections: Gauge::default(),
            certificate_end: Gauge::default(),
            reloads: Family::default(),
            renewals: Family::default(),
            bundles: Family::default(),
            events: Family::default(),
            audit_pods: Family::default(),
            audit_runs: Family::default(),
            audit_end: Gauge::default(),
            generation: Gauge::default(),
            profiles: Family::default(),
            refused: Gauge::default(),
            by_profile: Arc::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "admission_reviews",
            "Reviews answered, by webhook, outcome and reason",
            metrics.reviews.clone(),
        );
        registry.register_with_unit(
            "admission_review_duration",
            "Time to answer a review, without the network, by webhook",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Reviews being read or answered",
            metrics.in_flight.clone(),
        );
        registry.register(
            "http_rejected",
            "Requests that were no reviews, or too many",
            metrics.rejected.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes, by result",
            metrics.handshakes.clone(),
        );
        registry.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the served certificate ends, since 1970",
            Unit::Seconds,
            metrics.certificate_end.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Changes of the certificate, by result",
            metrics.reloads.clone(),
        );
        registry.register(
            "certificate_renewals",
            "What was done to the Secret of a managed certificate, by outcome",
            metrics.renewals.clone(),
        );
        registry.register(
            "ca_bundle_writes",
            "Times that the caBundle of a webhook configuration was put right, by result",
            metrics.bundles.clone(),
        );
        registry.register(
            "events",
            "Kubernetes events: written, attempts that failed, and those that are not written, by result",
            metrics.events.clone(),
        );
        registry.register(
            "audit_pods",
            "Pods that have what they asked for, have it by an older revision, or lack it, at the last audit",
            metrics.audit_pods.clone(),
        );
        registry.register(
            "audit_runs",
            "Audits of all pods, by result",
            metrics.audit_runs.clone(),
        );
        registry.register_with_unit(
            "audit_last_success_timestamp",
            "When an audit last came to its end, since 1970; 0 for never",
            Unit::Seconds,
            metrics.audit_end.clone(),
        );
        registry.register(
            "catalogue_generation",
            "Changes of the catalogue that took effect since the start; the first is what it started with",
            metrics.generation.clone(),
        );
        registry.register(
            "catalogue_profiles",
            "Profiles that serve, by origin",
            metrics.profiles.clone(),
        );
        registry.register(
            "catalogue_refused_profiles",
            "SidecarProfile objects of the cluster whose latest version is refused",
            metrics.refused.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&metrics.by_profile)));
        registry.register_collector(Box::new(standings));
        registry.register_collector(Box::new(Remembered(renderings)));
        for state in AUDITED {
            let _ = metrics.audit_pods.get_or_create(&[("state", *state)]);
        }
        // A counter that appears with its first event has no increase that an alert could see.
        for (family, label, values) in [
            (&metrics.rejected, "reason", REJECTED),
            (&metrics.handshakes, "result", HANDSHAKES),
            (&metrics.reloads, "result", RELOADS),
            (&metrics.renewals, "outcome", RENEWALS),
            (&metrics.bundles, "result", BUNDLES),
            (&metrics.events, "result", EVENTS),
            (&metrics.audit_runs, "result", AUDITS),
        ] {
            for value in values {
                let _ = family.get_or_create(&[(label, *value)]);
            }
        }
        for origin in ORIGINS {
            let _ = metrics.profiles.get_or_create(&[("origin", *origin)]);
        }
        for webhook in Webhook::ALL {
            let _ = metrics.duration_of(webhook);
        }
        metrics
    }

    /// Another catalogue takes effect.
    pub fn catalogue_changed(&self, catalogue: &Catalogue) {
        self.generation.inc();
        for origin in ORIGINS {
            let profiles = catalogue.iter().map(|entry| &*entry.profile.source);
            let count = profiles.filter(|source| origin_of(source) == *origin);
            self.profiles
                .get_or_create(&[("origin", *origin)])
                .set(i64::try_from(count.count()).unwrap_or(i64::MAX));
        }
        self.by_profile.rename(catalogue.names());
    }

    /// So many objects of the cluster are refused now.
    pub fn profiles_refused(&self, count: usize) {
        self.refused.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A review was answered.
    pub fn reviewed(&self, summary: &Summary, duration: Duration) {
        self.reviews
            .get_or_create(&[
                ("webhook", summary.webhook.as_str()),
                ("outcome", summary.outcome),
                ("reason", summary.reason),
            ])
            .inc();
        self.duration_of(summary.webhook)
            .observe(duration.as_secs_f64());
        if summary.webhook == Webhook::Mutate {
            for profile in summary.profiles() {
                self.by_profile.count(profile, summary.outcome);
            }
        }
    }

    fn duration_of(&self, webhook: Webhook) -> impl Deref<Target = Histogram> {
        self.durations
            .get_or_create(&[("webhook", webhook.as_str())])
    }

    /// A request was turned away; `reason` is one of a closed set.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&[("reason", reason)]).inc();
    }

    /// A handshake ended; `result` is one of a closed set.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.get_or_create(&[("result", result)]).inc();
    }

    /// Something was done to the Secret of a managed certificate; `outcome` is one of a closed set.
    pub fn certificate_renewed(&self, outcome: &'static str) {
        self.renewals.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A caBundle was written, or could not be; `result` is one of a closed set.
    pub fn bundle_written(&self, result: &'static str) {
        self.bundles.get_or_create(&[("result", result)]).inc();
    }

    /// A Kubernetes event was written, or was not; `result` is one of a closed set.
    pub fn event(&self, result: &'static str) {
        self.events.get_or_create(&[("result", result)]).inc();
    }

    /// The certificate was changed.
    pub fn certificate_reloaded(&self, good: bool) {
        self.reloads
            .get_or_create(&[("result", if good { "served" } else { "refused" })])
            .inc();
    }

    /// The served certificate ends then, in seconds since 1970.
    pub fn certificate_ends(&self, not_after: i64) {
        self.certificate_end.set(not_after);
    }

    /// An audit ended: with the pods in each state, which is one of a closed set, or none if it failed, and then the
    /// last numbers stay.
    pub fn audited(&self, counts: Option<impl IntoIterator<Item = (&'static str, u64)>>) {
        let result = if counts.is_some() { "ok" } else { "failed" };
        self.audit_runs.get_or_create(&[("result", result)]).inc();
        let Some(counts) = counts else {
            return;
        };
        for (state, count) in counts {
            let gauge = self.audit_pods.get_or_create(&[("state", state)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.audit_end
            .set(now.map_or(0, |now| now.as_secs().cast_signed()));
    }

    /// Counts a review that is being read or answered, until the guard is dropped.
    pub fn in_flight(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// Counts a connection, until the guard is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// All of it, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Something that is counted while this lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn origin_of(source: &str) -> &'static str {
    match source {
        BUILT_IN => "built_in",
        CLUSTER => "cluster",
        _ => "file",
    }
}

/// The renderings that are remembered, as a source of metrics.
#[derive(Debug)]
struct Remembered(Arc<Renderings>);

impl Collector for Remembered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "rendering_lookups",
            "Instances of reviews, by whether what they add was remembered from an earlier review.",
            None,
            MetricType::Counter,
        )?;
        let lookups = self.0.lookups();
        for (result, count) in [
            ("hit", lookups.hits),
            ("miss", lookups.misses),
            ("uncacheable", lookups.uncacheable),
        ] {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}

impl Collector for Standings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "watch_staleness",
            "How long the API server has been silent about something beyond what is usual; 0 is fresh.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (topic, stale) in self.staleness() {
            let seconds = ConstGauge::new(stale.as_secs_f64());
            seconds.encode(family.encode_family(&[("watch", topic.as_str())])?)?;
        }
        Ok(())
    }
}
