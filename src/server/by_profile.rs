//! How many instances of each profile are injected and denied. Every profile of the catalogue has its series from the
//! start, and one that is gone takes them along.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Profiles with series of their own, the first ones by name: replicas with one catalogue must agree on them,
/// whatever each of them has seen.
const MOST: usize = 200;
/// What all further ones are counted under. No profile can have this name.
const OTHER: &str = "_other";
const OUTCOMES: [&str; 2] = ["injected", "denied"];

/// A counter for each of the outcomes.
type Counts = [AtomicU64; OUTCOMES.len()];

/// The counters. Counting neither waits nor allocates.
#[derive(Debug, Default)]
pub(super) struct ByProfile {
    named: ArcSwap<BTreeMap<String, Arc<Counts>>>,
    other: Counts,
}

impl ByProfile {
    /// These are the profiles now. Those that were there before keep their counts.
    pub(super) fn rename<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let before = self.named.load();
        let counts = |name| before.get(name).cloned().unwrap_or_default();
        let named = names.take(MOST).map(|name| (name.to_owned(), counts(name)));
        self.named.store(Arc::new(named.collect()));
    }

    /// An instance of this profile was injected or denied; other outcomes are not counted.
    pub(super) fn count(&self, profile: &str, outcome: &str) {
        let Some(index) = OUTCOMES.iter().position(|known| *known == outcome) else {
            return;
        };
        let named = self.named.load();
        let counts = named.get(profile).map_or(&self.other, Arc::as_ref);
        counts[index].fetch_add(1, Ordering::Relaxed);
    }
}

impl Collector for ByProfile {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "profile_instances",
            "Instances injected, or asked for by pods that were denied, by profile.",
            None,
            MetricType::Counter,
        )?;
        let named = self.named.load();
        let named = named.iter().map(|(name, counts)| (&**name, &**counts));
        for (profile, counts) in named.chain([(OTHER, &self.other)]) {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                let count = ConstCounter::new(count.load(Ordering::Relaxed));
                let labels = [("profile", profile), ("outcome", outcome)];
                count.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(counters: &Arc<ByProfile>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(counters)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_profile_keeps_its_count_as_long_as_it_is_there() {
        let counters = Arc::new(ByProfile::default());
        counters.rename(["a", "b"].into_iter());
        counters.count("a", "injected");
        counters.count("b", "denied");
        counters.count("b", "skipped");
        counters.rename(["a", "c"].into_iter());
        counters.count("a", "injected");
        let text = text(&counters);
        for line in [
            "profile_instances_total{profile=\"a\",outcome=\"injected\"} 2",
            "profile_instances_total{profile=\"a\",outcome=\"denied\"} 0",
            "profile_instances_total{profile=\"c\",outcome=\"injected\"} 0",
            "profile_instances_total{profile=\"_other\",outcome=\"denied\"} 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("\"b\""), "{text}");
    }

    #[test]
    fn ten_thousand_profiles_do_not_make_ten_thousand_series() {
        let counters = Arc::new(ByProfile::default());
        let names: Vec<String> = (0..10_000).map(|n| format!("p{n:05}")).collect();
        counters.rename(names.iter().map(String::as_str));
        counters.count("p00000", "injected");
        counters.count("p09999", "injected");
        let text = text(&counters);
        let series = text.matches("profile_instances_total{").count();
        assert_eq!(series, 2 * (MOST + 1));
        assert!(
            text.contains("{profile=\"p00000\",outcome=\"injected\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("{profile=\"_other\",outcome=\"injected\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn counting_allocates_nothing() {
        let counters = ByProfile::default();
        counters.rename(["envoy-tls"].into_iter());
        counters.count("envoy-tls", "injected");
        let info = allocation_counter::measure(|| {
            counters.count("envoy-tls", "injected");
            counters.count("none-of-these", "denied");
        });
        assert_eq!(info.count_total, 0);
    }
}
