//! A real kube-apiserver with `outrigger serve` behind it, registered by the chart's own configuration.
//!
//! No kubelet runs: what is checked is what the API server stores. That the stored pods run is checked in
//! `tests/envoy.rs`, with a real Envoy.

mod api_server {
    pub(crate) mod editor;
    pub(crate) mod examples;
    pub(crate) mod soak;
    pub(crate) mod webhook;
}

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use testkit::control_plane::Controllers;
use testkit::{ControlPlane, Result, wait_until_async};

use api_server::editor::Editor;
use api_server::webhook::{Webhook, shared};

/// Longer than the minute that a CronJob may wait for its next turn.
const CRON: Duration = Duration::from_secs(100);
const LIMIT: Duration = Duration::from_secs(40);
/// Long enough for tens of thousands of pods, which `cargo xtask soak` may ask for.
const SOAK: Duration = Duration::from_secs(4 * 60 * 60);

macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        vec![$(testkit::harness::Test::new(stringify!($test), || Box::pin($test()))),*]
    };
}

fn main() -> ExitCode {
    let mut tests = tests![
        a_bare_pod_is_stored_with_everything_it_asked_for,
        pods_of_every_controller_are_stored_injected,
        a_restricted_namespace_accepts_every_built_in_profile,
        the_sidecars_get_no_service_account_token,
        a_pod_that_does_not_ask_is_stored_as_it_was,
        a_denial_tells_the_client_everything_that_is_wrong,
        warnings_reach_the_client,
        a_dry_run_answers_the_same_and_stores_nothing,
        after_another_webhook_edited_there_is_still_one_of_each,
        what_inject_prints_is_what_is_stored,
        a_wrong_workload_is_stored_and_its_author_is_warned,
        what_a_controller_made_is_told_of_nobody,
        a_profile_that_does_not_compile_is_refused,
        with_the_webhook_down_only_pods_that_ask_are_refused,
        the_chart_installs_upgrades_rolls_back_and_uninstalls,
        a_quota_that_wants_limits_accepts_the_result,
        profiles_of_the_cluster_take_effect_when_they_are_applied,
        pods_of_a_labelled_namespace_get_its_defaults,
        a_profile_bound_to_namespaces_is_refused_in_others,
        every_example_is_stored_as_it_is_shown,
        every_review_is_counted,
    ];
    tests.push(
        testkit::harness::Test::new("generated_pods_are_injected_or_denied_by_us", || {
            Box::pin(api_server::soak::generated_pods_are_injected_or_denied_by_us())
        })
        .within(SOAK),
    );
    let code = testkit::harness::run(tests);
    api_server::webhook::stop_shared();
    code
}

fn annotations(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)));
    Value::Object(pairs.collect())
}

/// A pod that asks for these, as its author would write it.
fn pod(name: &str, asked: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations(asked)},
        "spec": template_spec(),
    })
}

/// A pod that restricted Pod Security accepts.
fn template_spec() -> Value {
    json!({
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "web", "image": "registry.example.com/web:1",
            "ports": [{"containerPort": 8080}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    })
}

const TLS: &[(&str, &str)] = &[
    ("outrigger.dev/inject", "envoy-tls"),
    ("envoy-tls.outrigger.dev/secret", "web-tls"),
];

/// Every built-in profile at once.
const EVERYTHING: &[(&str, &str)] = &[
    (
        "outrigger.dev/inject",
        "wait-for, envoy-tls, db=envoy-egress, fluentd, log-tail, shared-volume",
    ),
    ("wait-for.outrigger.dev/tcp", "queue.shop.svc:5672"),
    ("envoy-tls.outrigger.dev/secret", "web-tls"),
    ("db.outrigger.dev/upstream", "db.example.com:5432"),
    ("db.outrigger.dev/listen-port", "5432"),
    ("fluentd.outrigger.dev/path", "/var/log/web/*.log"),
    ("log-tail.outrigger.dev/path", "/var/log/web/error.log"),
    ("shared-volume.outrigger.dev/path", "/cache"),
];

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list]
        .as_array()
        .map(|items| {
            items
                .iter()
                .filter_map(|item| item["name"].as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default()
}

async fn create(plane: &ControlPlane, namespace: &str, pod: &Value) -> Result<Value> {
    let pods: Api<Pod> = Api::namespaced(plane.client().await?, namespace);
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod.clone())?,
    )
    .await?;
    let name = pod["metadata"]["name"]
        .as_str()
        .context("the pod has no name")?;
    Ok(serde_json::to_value(pods.get(name).await?)?)
}

async fn a_bare_pod_is_stored_with_everything_it_asked_for() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("bare", &[]).await?;
    let stored = create(webhook.plane(), &namespace, &pod("web", EVERYTHING)).await?;

    ensure!(names(&stored, "containers") == ["web"], "{stored:#}");
    let init = names(&stored, "initContainers");
    ensure!(
        init == ["wait-for", "envoy-tls", "db", "fluentd", "log-tail"],
        "{init:?}"
    );
    for sidecar in stored["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .skip(1)
    {
        ensure!(sidecar["restartPolicy"] == "Always", "{sidecar:#}");
    }
    let status: Value = serde_json::from_str(
        stored["metadata"]["annotations"]["outrigger.dev/status"]
            .as_str()
            .context("no status")?,
    )?;
    ensure!(
        status["instances"].as_array().map(Vec::len) == Some(6),
        "{status:#}"
    );
    // The application sees the log directory and the shared volume.
    let mounts: Vec<_> = stored["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    ensure!(
        mounts.contains(&"/var/log/web") && mounts.contains(&"/cache"),
        "{mounts:?}"
    );
    Ok(())
}

async fn pods_of_every_controller_are_stored_injected() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("controllers", &[]).await?;
    let annotations: serde_json::Map<String, Value> = TLS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let template = |policy: &str| {
        let mut spec = template_spec();
        spec["restartPolicy"] = json!(policy);
        json!({"metadata": {"labels": {"app": "web"}, "annotations": annotations}, "spec": spec})
    };
    let selector = json!({"matchLabels": {"app": "web"}});
    let job = json!({"template": template("Never")});
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "deployment"},
         "spec": {"replicas": 2, "selector": selector, "template": template("Always")}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "statefulset"},
         "spec": {"serviceName": "web", "selector": selector, "template": template("Always")}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": job},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cronjob"},
         "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}},
    ]});
    webhook
        .plane()
        .kubectl_with(
            &["apply", "--namespace", &namespace, "-f", "-"],
            &manifests.to_string(),
        )?
        .ok()?;
    let pods: Api<Pod> = Api::namespaced(webhook.plane().client().await?, &namespace);
    for (owner, count) in [
        ("deployment-", 2),
        ("statefulset-", 1),
        ("job-", 1),
        ("cronjob-", 1),
    ] {
        wait_until_async(&format!("{count} pods of {owner}"), CRON, async || {
            let found = pods.list(&ListParams::default()).await?.items;
            let mine: Vec<_> = found
                .iter()
                .filter(|pod| {
                    pod.metadata
                        .name
                        .as_deref()
                        .is_some_and(|name| name.starts_with(owner))
                })
                .collect();
            ensure!(mine.len() >= count, "there are {}", mine.len());
            for pod in mine {
                let pod = serde_json::to_value(pod)?;
                ensure!(names(&pod, "initContainers") == ["envoy-tls"], "{pod:#}");
                ensure!(names(&pod, "containers") == ["web"], "{pod:#}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn a_restricted_namespace_accepts_every_built_in_profile() -> Result {
    let webhook = shared().await?;
    let restricted = [
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/enforce-version", "latest"),
    ];
    let namespace = webhook.namespace("restricted", &restricted).await?;
    // The namespace does refuse what is not restricted.
    let mut loose = pod("loose", &[]);
    loose["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let refused = create(webhook.plane(), &namespace, &loose).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("restricted")));
    let stored = create(webhook.plane(), &namespace, &pod("web", EVERYTHING)).await?;
    ensure!(names(&stored, "initContainers").len() == 5);
    // And the ways of a certificate that add containers and volumes of their own.
    let self_signed = pod(
        "self-signed",
        &[
            ("outrigger.dev/inject", "envoy-tls"),
            ("envoy-tls.outrigger.dev/certificate", "self-signed"),
        ],
    );
    let stored = create(webhook.plane(), &namespace, &self_signed).await?;
    ensure!(names(&stored, "initContainers").len() == 2, "{stored:#}");
    let cert_manager = pod(
        "cert-manager",
        &[
            ("outrigger.dev/inject", "envoy-tls"),
            ("envoy-tls.outrigger.dev/certificate", "cert-manager"),
            ("envoy-tls.outrigger.dev/issuer-name", "ca"),
            ("envoy-tls.outrigger.dev/dns-names", "web.shop.svc"),
        ],
    );
    let stored = create(webhook.plane(), &namespace, &cert_manager).await?;
    ensure!(
        stored["spec"]["volumes"]
            .to_string()
            .contains("csi.cert-manager.io"),
        "{stored:#}"
    );
    Ok(())
}

/// CONTRACT, rule 4: on reinvocation the ServiceAccount plugin mounts the token into every container that has
/// nothing at its path.
async fn the_sidecars_get_no_service_account_token() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("token", &[]).await?;
    let stored = create(webhook.plane(), &namespace, &pod("web", EVERYTHING)).await?;
    for container in stored["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let at_token: Vec<_> = container["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount")
            .collect();
        ensure!(at_token.len() == 1, "{container:#}");
        ensure!(
            !at_token[0]["name"]
                .as_str()
                .unwrap_or_default()
                .starts_with("kube-api-access-"),
            "{container:#}"
        );
    }
    Ok(())
}

async fn a_pod_that_does_not_ask_is_stored_as_it_was() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("unasked", &[]).await?;
    let stored = create(
        webhook.plane(),
        &namespace,
        &pod("web", &[("other", "annotation")]),
    )
    .await?;
    ensure!(names(&stored, "initContainers").is_empty());
    ensure!(
        stored["metadata"]["annotations"] == json!({"other": "annotation"}),
        "{stored:#}"
    );
    Ok(())
}

async fn a_denial_tells_the_client_everything_that_is_wrong() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("denied", &[]).await?;
    let wrong = pod(
        "web",
        &[
            ("outrigger.dev/inject", "envoy-tls"),
            ("envoy-tls.outrigger.dev/secret", "web-tls"),
            ("envoy-tls.outrigger.dev/listen-prot", "8443"),
            ("envoy-tls.outrigger.dev/upstream-port", "99999"),
        ],
    );
    let refused = webhook.plane().kubectl_with(
        &["create", "--namespace", &namespace, "-f", "-"],
        &wrong.to_string(),
    )?;
    ensure!(refused.code == 1, "{refused:?}");
    for part in [
        "denied the request: outrigger: 2 problems",
        "envoy-tls.outrigger.dev/listen-prot",
        "did you mean \"listen-port\"?",
        "envoy-tls.outrigger.dev/upstream-port: given \"99999\", expected an integer from 1 to 65535",
    ] {
        ensure!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let pods: Api<Pod> = Api::namespaced(webhook.plane().client().await?, &namespace);
    ensure!(pods.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

async fn warnings_reach_the_client() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("warned", &[]).await?;
    let asking = pod(
        "web",
        &[
            ("outrigger.dev/inject", "log-tail"),
            ("log-tail.outrigger.dev/path", "/var/log/web/error.log"),
        ],
    );
    let created = webhook.plane().kubectl_with(
        &["create", "--namespace", &namespace, "-f", "-"],
        &asking.to_string(),
    )?;
    ensure!(created.code == 0, "{created:?}");
    ensure!(
        created.stderr.contains("hides what the image has there"),
        "{}",
        created.stderr
    );
    Ok(())
}

async fn a_dry_run_answers_the_same_and_stores_nothing() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("dry", &[]).await?;
    let pods: Api<Pod> = Api::namespaced(webhook.plane().client().await?, &namespace);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let asking = serde_json::from_value(pod("web", TLS))?;
    let answered = serde_json::to_value(pods.create(&dry, &asking).await?)?;
    ensure!(names(&answered, "initContainers") == ["envoy-tls"]);
    ensure!(pods.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

/// `reinvocationPolicy: IfNeeded`: a webhook that runs after ours changes the pod, so ours runs again.
async fn after_another_webhook_edited_there_is_still_one_of_each() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("twice", &[("edited", "yes")]).await?;
    let editor = Editor::start(webhook.plane(), "zz-editor").await?;
    let stored = create(webhook.plane(), &namespace, &pod("web", EVERYTHING)).await?;
    drop(editor);
    ensure!(
        stored["metadata"]["labels"]["edited"] == "yes",
        "the other webhook did not run: {stored:#}"
    );
    let init = names(&stored, "initContainers");
    ensure!(
        init == ["wait-for", "envoy-tls", "db", "fluentd", "log-tail"],
        "{init:?}"
    );
    ensure!(
        names(&stored, "containers") == ["web", "late"],
        "{stored:#}"
    );
    for container in stored["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let image = container["image"].as_str().unwrap_or_default();
        ensure!(image.starts_with("mirror.example.com/"), "{image}");
    }
    let mut volumes = names(&stored, "volumes");
    let all = volumes.len();
    volumes.sort();
    volumes.dedup();
    ensure!(volumes.len() == all, "{volumes:?}");
    Ok(())
}

/// One engine: the command line and the webhook come to the same pod.
async fn what_inject_prints_is_what_is_stored() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("doors", &[]).await?;
    let asking = pod("web", EVERYTHING);
    let stored = create(webhook.plane(), &namespace, &asking).await?;
    let printed = webhook.inject(&asking)?;
    ensure!(
        stored["metadata"]["annotations"] == printed["metadata"]["annotations"],
        "{:#}\n{:#}",
        stored["metadata"]["annotations"],
        printed["metadata"]["annotations"]
    );
    ensure!(names(&stored, "initContainers") == names(&printed, "initContainers"));
    // The API server fills in defaults; what we wrote is all there.
    contains(
        &stored["spec"]["initContainers"],
        &printed["spec"]["initContainers"],
        "initContainers",
    )
}

/// Whether `whole` has everything of `part`.
fn contains(whole: &Value, part: &Value, path: &str) -> Result {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().try_for_each(|(key, value)| {
            contains(
                whole.get(key).unwrap_or(&Value::Null),
                value,
                &format!("{path}.{key}"),
            )
        }),
        (Value::Array(whole), Value::Array(part)) => {
            ensure!(
                whole.len() == part.len(),
                "{path}: {} and {} items",
                whole.len(),
                part.len()
            );
            whole
                .iter()
                .zip(part)
                .try_for_each(|(whole, part)| contains(whole, part, path))
        }
        _ => {
            ensure!(whole == part, "{path}: {whole} and {part}");
            Ok(())
        }
    }
}

/// A Deployment without pods, with annotations of its own and of its pod template.
fn deployment(name: &str, own: &[(&str, &str)], template: &[(&str, &str)]) -> Value {
    let pod = pod(name, template);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "annotations": annotations(own)},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": pod["metadata"]["annotations"]},
                "spec": pod["spec"],
            },
        },
    })
}

/// Applies an object, as a person does, and gives the warnings that kubectl prints.
fn apply(plane: &ControlPlane, namespace: &str, object: &Value) -> Result<Vec<String>> {
    let arguments = ["apply", "--namespace", namespace, "-f", "-"];
    let applied = plane.kubectl_with(&arguments, &object.to_string())?;
    ensure!(applied.code == 0, "{applied:?}");
    let warnings = applied.stderr.lines().map(|line| {
        let warning = line.strip_prefix("Warning: ");
        warning.map(str::to_owned).context(line.to_owned())
    });
    warnings.collect()
}

async fn a_wrong_workload_is_stored_and_its_author_is_warned() -> Result {
    let webhook = shared().await?;
    let plane = webhook.plane();
    let namespace = webhook.namespace("workloads", &[]).await?;
    let told = |object: &Value| apply(plane, &namespace, object);

    let right = deployment("right", &[], TLS);
    ensure!(told(&right)?.is_empty());
    let unasked = deployment("unasked", &[("other", "annotation")], &[]);
    ensure!(told(&unasked)?.is_empty());

    let misplaced = told(&deployment("misplaced", &TLS[..1], &[]))?;
    let place = "spec.template.metadata.annotations";
    let expected =
        format!("outrigger.dev/inject on the Deployment does nothing: move it to {place}");
    ensure!(misplaced == [expected], "{misplaced:?}");

    let wrong = [TLS[0], TLS[1], ("envoy-tls.outrigger.dev/listen-prot", "1")];
    let mut wrong = deployment("wrong", &[], &wrong);
    let warned = told(&wrong)?;
    let expected = [
        "pods of this Deployment will be refused: envoy-tls.outrigger.dev/listen-prot: the profile \"envoy-tls\" has no such",
        "  parameter; did you mean \"listen-port\"?",
    ];
    ensure!(warned == expected, "{warned:?}");
    // An update is told as well, and a change of the scale is none.
    wrong["spec"]["paused"] = json!(true);
    ensure!(told(&wrong)? == expected);
    let scaled = [
        "scale",
        "deployment/wrong",
        "--replicas=0",
        "-n",
        &namespace,
    ];
    let scaled = plane.kubectl(&scaled)?;
    ensure!(
        scaled.code == 0 && !scaled.stderr.contains("Warning"),
        "{scaled:?}"
    );

    // Keys that only look like ours come here, too.
    let misspelt = told(&deployment(
        "misspelt",
        &[],
        &[("Outrigger.dev/inject", "x")],
    ))?;
    ensure!(
        misspelt
            .concat()
            .ends_with("did you mean outrigger.dev/inject?"),
        "{misspelt:?}"
    );
    let mut labelled = deployment("labelled", &[], &[]);
    labelled["spec"]["template"]["metadata"]["labels"]["outrigger.dev/inject"] = json!("envoy-tls");
    let labelled = told(&labelled)?;
    let start = "the label outrigger.dev/inject on the pod template does nothing: move it to";
    ensure!(labelled.concat().starts_with(start), "{labelled:?}");

    let mut spec = template_spec();
    spec["restartPolicy"] = json!("Never");
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"},
        "spec": {"schedule": "0 3 * * *", "suspend": true, "jobTemplate": {
            "metadata": {"annotations": annotations(&TLS[..1])},
            "spec": {"template": {"spec": spec}},
        }},
    });
    let cron = told(&cron)?;
    let start = "outrigger.dev/inject on spec.jobTemplate.metadata does nothing: move it to";
    ensure!(cron.concat().starts_with(start), "{cron:?}");

    let stored = ["get", "deployment,cronjob", "-n", &namespace, "-o", "name"];
    let stored = plane.kubectl(&stored)?.ok()?;
    for name in [
        "right",
        "misplaced",
        "wrong",
        "misspelt",
        "labelled",
        "cron",
    ] {
        ensure!(stored.contains(&format!("/{name}\n")), "{name}: {stored}");
    }
    Ok(())
}

/// A ReplicaSet that a Deployment made has the same wrong annotations, and nobody who could mend them.
async fn what_a_controller_made_is_told_of_nobody() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("made", &[]).await?;
    let mut made = deployment("made", TLS, &[("outrigger.dev/inject", "envoy-tsl")]);
    made["kind"] = json!("ReplicaSet");
    ensure!(apply(webhook.plane(), &namespace, &made)?.len() > 1);
    made["metadata"]["name"] = json!("owned");
    made["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "6c1f", "controller": true},
    ]);
    let warnings = apply(webhook.plane(), &namespace, &made)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

async fn a_profile_that_does_not_compile_is_refused() -> Result {
    let webhook = shared().await?;
    let plane = webhook.plane();
    let bounds = json!({"cpu": "10m", "memory": "16Mi"});
    let profile = |name: &str, image: &str| {
        json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile",
            "metadata": {"name": name},
            "spec": {"summary": "Greets.", "containers": [{
                "name": "${instance}", "image": image,
                "resources": {"requests": bounds, "limits": bounds},
            }]},
        })
        .to_string()
    };
    // Nothing is stored: what is replaced here would be for the other tests, too.
    let arguments = ["apply", "--dry-run=server", "-f", "-"];
    let apply = |document: &str| plane.kubectl_with(&arguments, document);
    wait_until_async("a good profile to be taken", LIMIT, async || {
        let good = apply(&profile("greeter", "registry.example.com/greeter:1"))?;
        ensure!(good.code == 0 && good.stderr.is_empty(), "{good:?}");
        Ok(())
    })
    .await?;
    let refused = apply(&profile("greeter", "${params.imgae}"))?;
    ensure!(refused.code == 1, "{refused:?}");
    let message = "admission webhook \"profiles.outrigger.dev\" denied the request: outrigger: \
                   spec.containers[0].image: `params.imgae`: there is no parameter \"imgae\"";
    ensure!(refused.stderr.contains(message), "{}", refused.stderr);
    let replaced = apply(&profile("envoy-tls", "registry.example.com/greeter:1"))?;
    let warning = "Warning: it replaces the built-in profile \"envoy-tls\"";
    ensure!(replaced.stderr.starts_with(warning), "{replaced:?}");
    Ok(())
}

async fn with_the_webhook_down_only_pods_that_ask_are_refused() -> Result {
    let mut webhook = Webhook::start(
        std::sync::Arc::new(ControlPlane::start(Controllers::Absent)?),
        "down",
    )
    .await?;
    let namespace = webhook.namespace("down", &[]).await?;
    create(webhook.plane(), &namespace, &pod("before", TLS)).await?;
    let misplaced = deployment("before", TLS, &[]);
    let warnings = apply(webhook.plane(), &namespace, &misplaced)?;
    ensure!(warnings.len() == 2, "{warnings:?}");
    webhook.stop_serving();
    create(webhook.plane(), &namespace, &pod("unasked", &[])).await?;
    let refused = create(webhook.plane(), &namespace, &pod("asked", TLS)).await;
    let error = format!(
        "{:#}",
        refused
            .err()
            .context("the pod was created without its sidecar")?
    );
    ensure!(
        error.contains("failed calling webhook \"pods.outrigger.dev\""),
        "{error}"
    );
    let misplaced = deployment("misplaced", TLS, &[]);
    let warnings = apply(webhook.plane(), &namespace, &misplaced)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

/// With the real chart as an admin would install it: objects that the API server takes, an upgrade and back, and
/// nothing left after the uninstall.
async fn the_chart_installs_upgrades_rolls_back_and_uninstalls() -> Result {
    let plane = ControlPlane::shared()?;
    let namespace = plane
        .namespace(
            &plane.client().await?,
            "chart",
            &[("pod-security.kubernetes.io/enforce", "restricted")],
            &[],
        )
        .await?;
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, plane.authority().certificate())?;
    let ca = format!("tls.caBundle={}", ca.display());
    let helm = testkit::Helm::with_cluster(plane.kubeconfig())?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/outrigger");
    let arguments = |verb: &'static str, extra: &[&'static str]| {
        let mut all: Vec<String> = [
            verb,
            "one",
            chart,
            "--namespace",
            &namespace,
            "--set",
            "tls.mode=files,tls.secretName=tls",
            "--set-file",
            &ca,
        ]
        .map(str::to_owned)
        .to_vec();
        all.extend(extra.iter().map(|&text| text.to_owned()));
        all
    };
    let run = |arguments: Vec<String>| -> Result<String> {
        helm.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?
            .ok()
    };
    // Nothing may be called while it is installed: no pod in this cluster asks at this moment but those of
    // other tests, whose namespaces this registration must not reach.
    let only = [
        "--set",
        "webhook.failurePolicy=Ignore",
        "--set",
        "webhook.timeoutSeconds=1",
        // A cluster has one definition, and here another release brought it.
        "--set",
        "crds.install=false",
    ];
    run(arguments("install", &only))?;
    let before = plane
        .kubectl(&[
            "get",
            "deployment,service,mutatingwebhookconfiguration",
            "--namespace",
            &namespace,
            "-o",
            "yaml",
        ])?
        .ok()?;
    ensure!(
        before.contains("kind: Deployment") && before.contains("matchConditions"),
        "{before}"
    );
    // A generation is another when something of an object's specification is.
    let generations = || -> Result<String> {
        plane
            .kubectl(&[
                "get",
                "deployment,poddisruptionbudget,mutatingwebhookconfiguration",
                "--namespace",
                &namespace,
                "-l",
                "app.kubernetes.io/instance=one",
                "-o",
                "jsonpath={range .items[*]}{.kind} {.metadata.generation}{\"\\n\"}{end}",
            ])?
            .ok()
    };
    let first = generations()?;
    ensure!(first.lines().count() == 3, "{first}");
    // What every object of the release asks for.
    let wanted = || -> Result<BTreeMap<String, Value>> {
        let kinds = "deployment,service,poddisruptionbudget,horizontalpodautoscaler,networkpolicy,configmap,\
                     serviceaccount,mutatingwebhookconfiguration,validatingwebhookconfiguration,clusterrole";
        let ours = ["-l", "app.kubernetes.io/instance=one", "-o", "json"];
        let get = ["get", kinds, "--namespace", &namespace];
        let listed = plane.kubectl(&[&get[..], &ours].concat())?.ok()?;
        let listed: Value = serde_json::from_str(&listed)?;
        let mut objects = BTreeMap::new();
        for object in listed["items"].as_array().into_iter().flatten() {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let labels = &object["metadata"]["labels"];
            let parts = ["spec", "webhooks", "rules", "data"].map(|part| &object[part]);
            objects.insert(name, json!([labels, parts]));
        }
        Ok(objects)
    };
    let installed = wanted()?;
    run(arguments("upgrade", &only))?;
    let second = generations()?;
    ensure!(
        first == second,
        "the same chart again changed something:\n{first}{second}"
    );
    wait_until_async("the pods of the Deployment", LIMIT, async || {
        let pods: Api<Pod> = Api::namespaced(plane.client().await?, &namespace);
        let found = pods.list(&ListParams::default()).await?.items.len();
        ensure!(found == 2, "there are {found}");
        Ok(())
    })
    .await?;
    // What is there by choice is taken too.
    let more = [
        "--set",
        "webhook.port=10250",
        "--set",
        "webhook.namespaceSelector.matchLabels.environment=none-of-these",
        "--set",
        "webhook.objectSelector.matchLabels.sidecars=wanted",
        "--set",
        "autoscaling.enabled=true,autoscaling.behavior.scaleDown.stabilizationWindowSeconds=60",
        "--set",
        "networkPolicy.enabled=true,networkPolicy.egress.enabled=true",
        "--set",
        "networkPolicy.webhookFrom[0].ipBlock.cidr=10.0.0.0/8",
        "--set",
        "metrics.service.enabled=true,metrics.dashboard.enabled=true",
        "--set",
        "commonLabels.owner=platform",
        "--set",
        "extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug",
    ];
    run(arguments("upgrade", &[&only[..], &more[..]].concat()))?;
    // Nothing runs pods here, so that of `helm test` is only shown to the API server: it is restricted too.
    let test = run(arguments(
        "template",
        &["--show-only", "templates/test.yaml"],
    ))?;
    let dry_run = [
        "create",
        "--dry-run=server",
        "--filename=-",
        "--output=name",
    ];
    let taken = plane.kubectl_with(&dry_run, &test)?.ok()?;
    ensure!(taken.trim() == "pod/one-outrigger-test", "{taken}");
    let upgraded = wanted()?;
    ensure!(
        upgraded.len() > installed.len()
            && installed.iter().any(|it| upgraded.get(it.0) != Some(it.1)),
        "the upgrade changed nothing: {upgraded:#?}"
    );
    // Back to what was installed first, and nothing of what came between stays.
    let rollback = ["rollback", "one", "1", "--namespace", &namespace];
    run(rollback.map(str::to_owned).to_vec())?;
    let back = wanted()?;
    ensure!(
        back == installed,
        "installed: {installed:#?}\nafter the rollback: {back:#?}"
    );
    run(vec![
        "uninstall".into(),
        "one".into(),
        "--namespace".into(),
        namespace.clone(),
    ])?;
    let left = plane
        .kubectl(&[
            "get",
            "deployment,service,configmap,serviceaccount,poddisruptionbudget,horizontalpodautoscaler,networkpolicy",
            "--namespace",
            &namespace,
            "-l",
            "app.kubernetes.io/instance=one",
            "-o",
            "name",
        ])?
        .ok()?;
    ensure!(left.trim().is_empty(), "{left}");
    let left = plane
        .kubectl(&[
            "get",
            "mutatingwebhookconfigurations,clusterroles,clusterrolebindings",
            "-l",
            "app.kubernetes.io/instance=one",
            "-o",
            "name",
        ])?
        .ok()?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}

/// CONTRACT, rule 5: a quota on requests and limits refuses containers without.
async fn a_quota_that_wants_limits_accepts_the_result() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("quota", &[]).await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"},
        "spec": {"hard": {"requests.cpu": "4", "limits.cpu": "8", "requests.memory": "4Gi", "limits.memory": "8Gi"}},
    });
    webhook
        .plane()
        .kubectl_with(
            &["create", "--namespace", &namespace, "-f", "-"],
            &quota.to_string(),
        )?
        .ok()?;
    let mut asking = pod("web", EVERYTHING);
    asking["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}});
    wait_until_async(
        "the quota to be counted and the pod to be accepted",
        LIMIT,
        async || create(webhook.plane(), &namespace, &asking).await.map(drop),
    )
    .await
}

/// Applied, changed, broken, mended and deleted by kubectl.
async fn profiles_of_the_cluster_take_effect_when_they_are_applied() -> Result {
    let plane = std::sync::Arc::new(ControlPlane::start(Controllers::Absent)?);
    let webhook = Webhook::start(plane, "profiles").await?;
    let plane = webhook.plane();
    // What becomes of one that slips through: the review of profiles fails open.
    plane
        .kubectl(&["delete", "validatingwebhookconfigurations", "--all"])?
        .ok()?;
    let namespace = webhook.namespace("profiles", &[]).await?;
    let profile = |image: &str, extra: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: kubectl-greeter}}\n\
             spec:\n  summary: Says hello.\n  parameters:\n    name: {{type: string, default: you, description: To whom.}}\n  \
             containers:\n  - name: ${{instance}}\n    image: {image}\n    args: [\"${{params.name}}\"]\n    \
             resources: {{limits: {{cpu: 10m, memory: 16Mi}}}}\n{extra}"
        )
    };
    let apply = |text: String| plane.kubectl_with(&["apply", "-f", "-"], &text)?.ok();
    let ready = async |status: &str| {
        wait_until_async("the status of the profile", LIMIT, async || {
            let columns = plane
                .kubectl(&["get", "sidecarprofiles", "kubectl-greeter"])?
                .ok()?;
            let words: Vec<&str> = columns.split_whitespace().collect();
            ensure!(
                words[..5] == ["NAME", "READY", "PARAMETERS", "REVISION", "AGE"],
                "{columns}"
            );
            ensure!(words.get(6) == Some(&status), "{columns}");
            Ok(columns)
        })
        .await
    };
    let image = async |name: &str| -> Result<String> {
        let asks = [("outrigger.dev/inject", "kubectl-greeter")];
        let stored = create(plane, &namespace, &pod(name, &asks)).await?;
        Ok(stored["spec"]["containers"][1]["image"].to_string())
    };

    let started = std::time::Instant::now();
    apply(profile("registry.example.com/greeter:1", ""))?;
    wait_until_async("the profile to be known", LIMIT, async || {
        image("first").await.map(drop)
    })
    .await?;
    eprintln!(
        "a profile took effect after {:?}, with kubectl's own time",
        started.elapsed()
    );
    let columns = ready("True").await?;
    ensure!(columns.split_whitespace().nth(7) == Some("1"), "{columns}");

    // Strict where the schema of the API server is not: nothing was pruned.
    wait_until_async("profiles not to be reviewed", LIMIT, async || {
        apply(profile("registry.example.com/greeter:2", "  colour: red\n")).map(drop)
    })
    .await?;
    ready("False").await?;
    let told = plane
        .kubectl(&["get", "sidecarprofiles", "kubectl-greeter", "-o", "yaml"])?
        .ok()?;
    ensure!(
        told.contains("spec.colour: unknown field") && told.contains("still serves"),
        "{told}"
    );
    ensure!(
        image("second").await?.contains("greeter:1"),
        "the last good version does not serve"
    );

    apply(profile("registry.example.com/greeter:3", ""))?;
    ready("True").await?;
    wait_until_async("the new version to serve", LIMIT, async || {
        let name = format!("third-{}", std::time::UNIX_EPOCH.elapsed()?.as_nanos());
        ensure!(image(&name).await?.contains("greeter:3"));
        Ok(())
    })
    .await?;

    plane
        .kubectl(&["delete", "sidecarprofiles", "kubectl-greeter"])?
        .ok()?;
    wait_until_async("the profile to be gone", LIMIT, async || {
        let name = format!("gone-{}", std::time::UNIX_EPOCH.elapsed()?.as_nanos());
        let refused = image(&name).await.err().context("it still serves")?;
        ensure!(
            format!("{refused:#}").contains("there is no profile"),
            "{refused:#}"
        );
        Ok(())
    })
    .await?;

    // A name that cannot be the prefix of an annotation does not get as far.
    let named = profile("i", "").replace("kubectl-greeter", "a.b");
    let refused = plane.kubectl_with(&["apply", "-f", "-"], &named)?;
    ensure!(
        refused.stderr.contains("must be a DNS label"),
        "{refused:?}"
    );
    Ok(())
}

/// Defaults of the namespace, a parameter of the pod's own, and a pod that opts out, as the watch sees them.
async fn pods_of_a_labelled_namespace_get_its_defaults() -> Result {
    let webhook = shared().await?;
    let namespace = webhook
        .namespace("defaults", &[("outrigger.dev/injection", "enabled")])
        .await?;
    webhook
        .plane()
        .kubectl(&[
            "annotate",
            "namespace",
            &namespace,
            "outrigger.dev/inject=envoy-tls",
            "envoy-tls.outrigger.dev/secret=web-tls",
            "envoy-tls.outrigger.dev/listen-port=7443",
        ])?
        .ok()?;
    wait_until_async("the namespace's defaults to be known", LIMIT, async || {
        let preview = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(webhook.plane().client().await?, &namespace);
        let asked = serde_json::from_value(pod("known", &[]))?;
        let stored = serde_json::to_value(pods.create(&preview, &asked).await?)?;
        ensure!(names(&stored, "initContainers") == ["envoy-tls"]);
        Ok(())
    })
    .await?;
    let stored = create(webhook.plane(), &namespace, &pod("plain", &[])).await?;
    ensure!(
        stored["spec"]["initContainers"][0]["ports"]
            .to_string()
            .contains("7443"),
        "{stored:#}"
    );
    let own = [("envoy-tls.outrigger.dev/listen-port", "9443")];
    let stored = create(webhook.plane(), &namespace, &pod("own", &own)).await?;
    ensure!(
        stored["spec"]["initContainers"][0]["ports"]
            .to_string()
            .contains("9443"),
        "{stored:#}"
    );
    let out = [("outrigger.dev/inject", "none")];
    let stored = create(webhook.plane(), &namespace, &pod("out", &out)).await?;
    ensure!(names(&stored, "initContainers").is_empty(), "{stored:#}");
    Ok(())
}

/// Two people must agree: the administrator who installs a profile with power over the node, and the one who
/// labels the namespace. The pod's author alone gets a refusal that says so.
async fn a_profile_bound_to_namespaces_is_refused_in_others() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("bound", &[]).await?;
    let asks = [("outrigger.dev/inject", "kernel-setting")];
    let refused = create(webhook.plane(), &namespace, &pod("search", &asks)).await;
    let error = format!("{:#}", refused.err().context("the pod was taken")?);
    ensure!(
        error.contains(
            "the profile \"kernel-setting\" is only for namespaces with the labels \
             outrigger.dev/allow-kernel-setting=true, which an administrator sets"
        ),
        "{error}"
    );
    webhook
        .plane()
        .kubectl(&[
            "label",
            "namespace",
            &namespace,
            "outrigger.dev/allow-kernel-setting=true",
        ])?
        .ok()?;
    wait_until_async("the label to be known", LIMIT, async || {
        create(webhook.plane(), &namespace, &pod("search", &asks))
            .await
            .map(drop)
    })
    .await
}

/// Each in a namespace of its own, restricted where its pattern allows that.
async fn every_example_is_stored_as_it_is_shown() -> Result {
    let webhook = shared().await?;
    let examples = api_server::examples::examples()?;
    ensure!(!examples.is_empty());
    let checks = examples.iter().map(async |example| {
        let checked = example.check(&webhook).await;
        checked.with_context(|| example.name.clone())
    });
    let failures: Vec<String> = futures_util::stream::iter(checks)
        .buffer_unordered(6)
        .filter_map(async |checked| checked.err().map(|error| format!("{error:#}")))
        .collect()
        .await;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

async fn every_review_is_counted() -> Result {
    let webhook = shared().await?;
    let namespace = webhook.namespace("counted", &[]).await?;
    let before = webhook.reviews().await?;
    create(webhook.plane(), &namespace, &pod("web", TLS)).await?;
    let after = webhook.reviews().await?;
    ensure!(after >= before + 1.0, "{before} before, {after} after");
    Ok(())
}
