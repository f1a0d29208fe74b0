//! Whether the API server calls the webhook, and gets an answer.
//!
//! A pod that asks for a profile that nobody has is created as a dry run. Only the webhook can refuse it in the words
//! that it uses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::json;

use super::hooks::Registered;
use super::{Finding, Options, Verdict};
use crate::cluster::audit::Reach;
use crate::cluster::registration::{Hook, PODS};
use crate::cluster::{is_status, namespaces, said};
use crate::inject::{INJECT, Namespaces};

const CHECK: &str = "webhook";
/// A profile that nobody has.
const PROFILE: &str = "outrigger-check-no-such-profile";
/// Namespaces that every cluster has, and no workload is in at first.
const USUAL: [&str; 2] = ["default", "kube-public"];

/// Tries it.
pub(super) async fn probe(client: &Client, registered: &Registered, options: &Options) -> Finding {
    let Some(hook) = registered.pods().next() else {
        return Finding::warn(CHECK, "there is none to call", "see registration");
    };
    let labels = labels_for(&hook.objects);
    let namespace = match &options.probe_namespace {
        Some(namespace) => namespace.clone(),
        None => {
            let reach = Reach::new(registered.pods());
            // Who may not list namespaces may still create a pod.
            let known = namespaces::list(client, None).await.ok();
            match choose(&reach, known.as_ref(), &labels) {
                Some(namespace) => namespace,
                None => {
                    return Finding::fail(
                        CHECK,
                        format!(
                            "{} selects no pod in any of the namespaces that are there",
                            hook.title()
                        ),
                        "correct its namespaceSelector and objectSelector (webhook.excludedNamespaces, webhook.namespaceSelector, webhook.objectSelector)",
                    );
                }
            }
        }
    };
    // Without the type, which is a lot of code for a pod that says so little.
    let resource = ApiResource::erase::<Pod>(&());
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let mut pod = DynamicObject::new("outrigger-check", &resource).data(json!({
        "spec": {"containers": [{"name": "none", "image": "example.invalid/none"}]},
    }));
    pod.metadata.labels = Some(labels);
    let asked = BTreeMap::from([(INJECT.to_owned(), PROFILE.to_owned())]);
    pod.metadata.annotations = Some(asked);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&dry, &pod).await {
        Ok(_) => let_through(hook, &namespace),
        Err(error) => {
            let authorization = is_status(&error, 403);
            refused(hook, &namespace, &said(&error), authorization)
        }
    }
}

/// A namespace whose pods are sent to the webhook.
fn choose(
    reach: &Reach,
    known: Option<&Namespaces>,
    labels: &BTreeMap<String, String>,
) -> Option<String> {
    let Some(known) = known else {
        return Some(USUAL[0].to_owned());
    };
    let usual = USUAL.into_iter().filter(|name| known.contains_key(*name));
    let all = known.keys().map(AsRef::as_ref);
    usual
        .chain(all)
        .find(|name| reach.covers(name, known.get(*name).map(AsRef::as_ref), labels))
        .map(str::to_owned)
}

/// Labels that a selector selects, as far as there are some that it must have.
fn labels_for(selector: &LabelSelector) -> BTreeMap<String, String> {
    let mut labels = selector.match_labels.clone().unwrap_or_default();
    for expression in selector.match_expressions.iter().flatten() {
        let value = expression.values.iter().flatten().next();
        match expression.operator.as_str() {
            "In" => labels.insert(expression.key.clone(), value.cloned().unwrap_or_default()),
            "Exists" => labels.insert(expression.key.clone(), String::new()),
            _ => None,
        };
    }
    labels
}

fn let_through(hook: &Hook, namespace: &str) -> Finding {
    let message = format!(
        "a pod in {namespace:?} that asks for a profile that does not exist was let through (a dry run), "
    );
    if hook.failure_policy == "Fail" {
        return Finding::fail(
            CHECK,
            message + "so the webhook is not called",
            format!(
                "see that {} selects the namespace and that its rules and match conditions are those of the chart; after a change the API server takes some seconds",
                hook.title()
            ),
        );
    }
    Finding::fail(
        CHECK,
        message
            + "so the webhook is not called, or the call fails, which the failure policy Ignore keeps quiet",
        "look at the webhook's pods and their log, and at the metric apiserver_admission_webhook_fail_open_count of the API server; with webhook.failurePolicy Fail this check can tell more",
    )
}

/// What a refusal says.
fn refused(hook: &Hook, namespace: &str, message: &str, forbidden: bool) -> Finding {
    let ours = format!("admission webhook \"{PODS}\" denied the request");
    if message.contains(&ours) && message.contains(PROFILE) {
        let found = format!(
            "the API server called it for a pod in {namespace:?} (a dry run), and it answered"
        );
        return Finding::ok(CHECK, found);
    }
    if let Some(cause) = message
        .split_once(&format!("failed calling webhook \"{PODS}\": "))
        .map(|(_, cause)| cause.trim_start_matches("failed to call webhook: "))
    {
        let (what, advice) = diagnose(cause, hook);
        return Finding::fail(CHECK, format!("{what}: {cause}"), advice);
    }
    let advice = if forbidden && !message.contains("admission webhook") {
        "ask for the right to create pods there, or name a namespace where you have it with --probe-namespace"
    } else {
        "something else refused the pod before the webhook could; name another namespace with --probe-namespace"
    };
    Finding {
        verdict: Verdict::Warn,
        ..Finding::fail(
            CHECK,
            format!("it could not be tried in {namespace:?}: {message}"),
            advice,
        )
    }
}

/// What went wrong with a call, and what to do about it. The words are those of Go's `net/http`, `crypto/x509` and
/// the API server's service resolver.
fn diagnose(cause: &str, hook: &Hook) -> (&'static str, String) {
    let any = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    let seconds = hook.timeout;
    if any(&["x509:", "tls:"]) {
        let advice = if any(&["unknown authority"]) {
            "the caBundle is not of the CA that signed the served certificate: see ca-bundle and certificate, and that the webhook's pods serve the present one"
        } else if any(&[
            "certificate is valid for",
            "doesn't contain any IP SANs",
            "legacy Common Name",
        ]) {
            "issue the certificate for the name that is called, <service>.<namespace>.svc"
        } else if any(&["expired"]) {
            "renew the certificate, and look at the clocks"
        } else {
            "see ca-bundle and certificate"
        };
        return ("the API server does not trust it (TLS)", advice.to_owned());
    }
    if any(&["no endpoints available", "no service endpoint"]) {
        let advice = "none of its pods is ready: look at them and their log, in the namespace of the release";
        return (
            "nothing is behind its Service (no endpoints)",
            advice.to_owned(),
        );
    }
    if any(&["service \"", "no such host"]) && any(&["not found", "no such host"]) {
        let advice = "the registration names a Service or a host that is not there: upgrade the chart, or delete a registration that an old release left";
        return ("the Service is not there", advice.to_owned());
    }
    // Not just "timeout": that stands in the address that was called.
    if any(&[
        "deadline exceeded",
        "i/o timeout",
        "timed out",
        "Client.Timeout",
    ]) {
        let advice = format!(
            "open the way from the control plane to port 8443 of the webhook's pods (network policies, firewalls of private clusters); it has {seconds} s (webhook.timeoutSeconds)"
        );
        return ("it does not answer in time (timeout)", advice);
    }
    if any(&[
        "connection refused",
        "no route to host",
        "network is unreachable",
    ]) {
        let advice =
            "see that the webhook runs, and listens on the port that the registration names";
        return ("nobody listens there", advice.to_owned());
    }
    let advice = "look at the webhook's log";
    ("the call fails", advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(policy: &str) -> Hook {
        Hook {
            configuration: "outrigger".to_owned(),
            name: PODS.to_owned(),
            failure_policy: policy.to_owned(),
            timeout: 5,
            ..Hook::default()
        }
    }

    #[test]
    fn our_own_words_prove_the_call() {
        let message = format!(
            "admission webhook \"pods.outrigger.dev\" denied the request: outrigger.dev/inject: there is no profile \"{PROFILE}\"; there are fluentd"
        );
        let found = refused(&hook("Fail"), "default", &message, false);
        assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
    }

    /// As API servers of 1.30 to 1.36 say it.
    #[test]
    fn a_failed_call_says_which() {
        for (cause, expected) in [
            (
                "Post \"https://outrigger.outrigger.svc:443/mutate?timeout=5s\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "(TLS)",
            ),
            (
                "Post \"https://outrigger.outrigger.svc:443/mutate?timeout=5s\": no endpoints available for service \"outrigger\"",
                "(no endpoints)",
            ),
            (
                "Post \"https://outrigger.outrigger.svc:443/mutate?timeout=5s\": service \"outrigger\" not found",
                "the Service is not there",
            ),
            (
                "Post \"https://outrigger.outrigger.svc:443/mutate?timeout=5s\": context deadline exceeded",
                "(timeout)",
            ),
            (
                "Post \"https://127.0.0.1:1/mutate?timeout=5s\": dial tcp 127.0.0.1:1: connect: connection refused",
                "nobody listens",
            ),
            ("an error on the server", "the call fails"),
            // The address has the word in it, whatever went wrong.
            (
                "Post \"https://outrigger.outrigger.svc:443/mutate?timeout=5s\": EOF",
                "the call fails",
            ),
        ] {
            let message = format!(
                "Internal error occurred: failed calling webhook \"pods.outrigger.dev\": failed to call webhook: {cause}"
            );
            let found = refused(&hook("Fail"), "default", &message, false);
            assert_eq!(found.verdict, Verdict::Fail);
            assert!(found.message.contains(expected), "{found:?}");
            assert!(found.message.ends_with(cause), "{found:?}");
        }
    }

    #[test]
    fn what_proves_nothing_only_warns() {
        let message = "pods is forbidden: User \"me\" cannot create resource \"pods\"";
        let found = refused(&hook("Fail"), "default", message, true);
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.advice.unwrap().contains("--probe-namespace"));
        let message = "admission webhook \"policy.example.com\" denied the request: no";
        let found = refused(&hook("Fail"), "default", message, true);
        assert!(found.advice.unwrap().starts_with("something else"));
    }

    #[test]
    fn no_refusal_is_a_failure_with_a_reason() {
        let fail = let_through(&hook("Fail"), "default");
        assert!(fail.message.ends_with("so the webhook is not called"));
        let ignore = let_through(&hook("Ignore"), "default");
        assert!(ignore.message.contains("Ignore"), "{ignore:?}");
    }

    #[test]
    fn a_namespace_that_is_selected_is_chosen() {
        let known: Namespaces = ["a", "default", "kube-public", "kube-system"]
            .into_iter()
            .map(|name| {
                let mut facts = crate::inject::Namespace::default();
                facts
                    .labels
                    .insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
                (name.into(), std::sync::Arc::new(facts))
            })
            .collect();
        let hook = |namespace: &str, objects: serde_json::Value| {
            let namespaces = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
            Hook {
                namespaces: serde_json::from_value(namespaces).unwrap(),
                objects: serde_json::from_value(objects).unwrap(),
                ..super::tests::hook("Fail")
            }
        };
        let only = |name: &str| hook(name, json!({}));
        let chosen = |hook: &Hook| {
            let labels = labels_for(&hook.objects);
            choose(&Reach::new([hook]), Some(&known), &labels)
        };
        let any = choose(&Reach::default(), Some(&known), &BTreeMap::new());
        assert_eq!(any.as_deref(), Some("default"));
        assert_eq!(chosen(&only("a")).as_deref(), Some("a"));
        assert_eq!(chosen(&only("kube-system")), None);
        let unknown = choose(&Reach::new([&only("a")]), None, &BTreeMap::new());
        assert_eq!(unknown.as_deref(), Some("default"));
        // The pod gets the labels that the webhook wants.
        let labelled = json!({"matchLabels": {"team": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "sidecars", "operator": "Exists"},
            {"key": "legacy", "operator": "DoesNotExist"},
        ]});
        assert_eq!(chosen(&hook("a", labelled)).as_deref(), Some("a"));
    }
}
