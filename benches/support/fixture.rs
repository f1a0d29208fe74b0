//! The reviews that are measured.

#![expect(
    clippy::panic,
    reason = "a benchmark without its reviews has nothing to measure"
)]

use std::sync::Arc;

use outrigger::admission::Snapshot;
use outrigger::inject::Renderings;
use outrigger::profile::Catalogue;
use serde_json::{Value, json};

/// The built-in profiles.
pub(crate) fn snapshot() -> Snapshot {
    let profiles = Catalogue::built_in().unwrap_or_else(|error| panic!("{error}"));
    Snapshot {
        catalogue: Catalogue::new(profiles),
        ..Snapshot::default()
    }
}

/// The same, remembering nothing from one review to the next.
#[allow(dead_code, reason = "not every benchmark looks at it")]
pub(crate) fn forgetful() -> Snapshot {
    Snapshot {
        renderings: Arc::new(Renderings::with_capacity(0)),
        ..snapshot()
    }
}

/// Reviews by name: a recorded one that asks for nothing, for one profile, for two, and pods with many variables.
pub(crate) fn reviews() -> Vec<(String, Vec<u8>)> {
    let tls = [
        ("outrigger.dev/inject", "envoy-tls"),
        ("envoy-tls.outrigger.dev/secret", "web-tls"),
    ];
    let both = [
        ("outrigger.dev/inject", "envoy-tls, fluentd"),
        ("envoy-tls.outrigger.dev/secret", "web-tls"),
        ("fluentd.outrigger.dev/path", "/var/log/web/*.log"),
        ("fluentd.outrigger.dev/parser", "nginx"),
        ("fluentd.outrigger.dev/output", "forward"),
        ("fluentd.outrigger.dev/output-host", "logs.logging.svc"),
    ];
    let mut reviews = vec![
        ("asks for nothing".to_owned(), review(&[], 0)),
        ("envoy-tls".to_owned(), review(&tls, 0)),
        ("envoy-tls and fluentd".to_owned(), review(&both, 0)),
    ];
    for count in [1, 500, 1000, 2000] {
        reviews.push((format!("envoy-tls, {count} variables"), review(&tls, count)));
    }
    reviews
}

/// A recorded review with these annotations and so many environment variables more.
pub(crate) fn review(annotations: &[(&str, &str)], variables: usize) -> Vec<u8> {
    let recorded = include_str!("../../tests/reviews/005-CREATE-pods-s05-volumes.json");
    let mut review: Value =
        serde_json::from_str(recorded).unwrap_or_else(|error| panic!("{error}"));
    let object = &mut review["request"]["object"];
    for (key, value) in annotations {
        object["metadata"]["annotations"][*key] = json!(value);
    }
    let container = &mut object["spec"]["containers"][0];
    if let Some(env) = container["env"].as_array_mut() {
        env.extend((0..variables).map(
            |index| json!({"name": format!("VARIABLE_{index}"), "value": format!("value {index}")}),
        ));
    }
    serde_json::to_vec(&review).unwrap_or_else(|error| panic!("{error}"))
}
