//! Any text as a file of profiles; what compiles is rendered.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use oracle::Node;
use outrigger::profile::{Catalogue, Profile};
use outrigger_fuzz::{MODES, hold, snapshot};
use serde_json::{Map, Value, json};

fuzz_target!(|text: &str| {
    let (good, bad) = Profile::parse_all("fuzz.yaml", text);
    for error in &bad {
        assert!(!error.problems.is_empty(), "refused without a word");
        assert!(!error.to_string().is_empty(), "refused without a word");
    }
    let (again, bad_again) = Profile::parse_all("fuzz.yaml", text);
    assert!(
        good.iter()
            .map(|profile| &profile.revision)
            .eq(again.iter().map(|profile| &profile.revision)),
        "another revision of the same text"
    );
    assert_eq!(
        bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
        bad_again
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        "another fault of the same text"
    );
    for profile in good.into_iter().map(Arc::new) {
        render(&profile);
    }
});

/// With the defaults, and with the examples of its parameters where it has them.
fn render(profile: &Arc<Profile>) {
    let catalogue = Catalogue::new([Arc::clone(profile)]);
    let inject = ("outrigger.dev/inject".to_owned(), json!(profile.name));
    let examples = profile.parameters.iter().filter_map(|parameter| {
        let key = format!("{}.outrigger.dev/{}", profile.name, parameter.kebab);
        Some((key, json!(parameter.example.clone()?)))
    });
    let asked: Map<String, Value> = examples.chain([inject.clone()]).collect();
    let plain: Map<String, Value> = [inject].into_iter().collect();
    for annotations in [plain, asked] {
        let pod = json!({
            "metadata": {"name": "web", "annotations": annotations},
            "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
        });
        let pod = Node::parse(&pod.to_string()).unwrap_or_else(|error| panic!("{error}"));
        for mode in MODES {
            hold(oracle::reviewed(&pod, &snapshot(&catalogue, mode, &[])));
        }
    }
}
