//! Every part starts, answers, and is gone afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use testkit::balancer::Traffic;
use testkit::control_plane::Controllers;
use testkit::{
    Balancer, ControlPlane, Daemon, Envoy, Helm, Result, free_port, wait_until, wait_until_async,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

testkit::main!(
    a_pod_is_created_and_read,
    a_deployment_makes_pods,
    without_controllers_pods_are_admitted_too,
    an_accounts_token_is_that_of_its_pod_and_no_administrators,
    a_balancer_carries_cuts_and_stalls,
    kubectl_applies_and_reports_refusals,
    dropping_a_control_plane_leaves_nothing,
    a_daemon_dies_with_the_process_that_started_it,
    a_daemon_that_ignores_sigterm_is_killed,
    a_daemon_that_ends_early_says_why,
    envoy_checks_a_bootstrap,
    envoy_serves_and_stops,
    helm_says_its_version,
);

fn pod(name: &str) -> serde_json::Result<Pod> {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "docker.io/library/busybox:1"}]},
    }))
}

fn alive(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).exists()
}

async fn create_and_read(plane: &ControlPlane) -> Result {
    let client = plane.client().await?;
    let namespace = plane
        .namespace(&client, "smoke", &[("team", "tests")], &[])
        .await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    pods.create(&PostParams::default(), &pod("first")?).await?;
    let read = pods.get("first").await?;
    let spec = read.spec.context("the pod has no spec")?;
    // Admission ran: the ServiceAccount plugin filled this in.
    ensure!(spec.service_account_name.as_deref() == Some("default"));
    Ok(())
}

async fn a_pod_is_created_and_read() -> Result {
    create_and_read(&*ControlPlane::shared()?).await
}

async fn an_accounts_token_is_that_of_its_pod_and_no_administrators() -> Result {
    let plane = ControlPlane::shared()?;
    let client = plane.client().await?;
    let namespace = plane.namespace(&client, "account", &[], &[]).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let held = pods.create(&PostParams::default(), &pod("holder")?).await?;
    let account = (&*namespace, "default");
    let config = plane
        .account(&client, account, Some(&held), plane.url())
        .await?;
    let config = Kubeconfig::from_yaml(&config)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let theirs: Api<Pod> = Api::namespaced(Client::try_from(config)?, &namespace);
    let refused = theirs.get("holder").await;
    let error = refused.err().context("it may read pods")?.to_string();
    let user = format!("system:serviceaccount:{namespace}:default");
    ensure!(
        error.contains(&user) && error.contains("forbidden"),
        "{error}"
    );
    // Whose token it was is in the audit log.
    let audit = plane.audit()?;
    let told = audit.iter().any(|event| {
        let extra = &event["user"]["extra"];
        event["user"]["username"] == *user
            && extra["authentication.kubernetes.io/pod-name"][0] == "holder"
    });
    ensure!(told, "{audit:#?}");
    Ok(())
}

async fn a_balancer_carries_cuts_and_stalls() -> Result {
    let echo = TcpListener::bind("127.0.0.1:0").await?;
    let address = echo.local_addr()?;
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let balancer = Balancer::start(0).await?;
    balancer.set_backends(vec![address]);
    let mut stream = TcpStream::connect(balancer.address()).await?;
    let mut letter = [0];
    stream.write_all(b"a").await?;
    stream.read_exact(&mut letter).await?;
    ensure!(letter == *b"a");

    // Open, and silent; then it goes on.
    balancer.set_traffic(Traffic::Stalled);
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.write_all(b"b").await?;
    let wait = Duration::from_millis(300);
    let silent = tokio::time::timeout(wait, stream.read_exact(&mut letter)).await;
    ensure!(silent.is_err(), "{silent:?}");
    balancer.set_traffic(Traffic::Flows);
    stream.read_exact(&mut letter).await?;
    ensure!(letter == *b"b");

    balancer.set_traffic(Traffic::Cut);
    ensure!(
        stream.read(&mut letter).await.unwrap_or(0) == 0,
        "still open"
    );
    let mut other = TcpStream::connect(balancer.address()).await?;
    ensure!(other.read(&mut letter).await.unwrap_or(0) == 0, "taken");
    serving.abort();
    Ok(())
}

async fn without_controllers_pods_are_admitted_too() -> Result {
    let plane = ControlPlane::start(Controllers::Absent)?;
    ensure!(plane.process_ids().len() == 2);
    create_and_read(&plane).await
}

async fn a_deployment_makes_pods() -> Result {
    let plane = ControlPlane::shared()?;
    let client = plane.client().await?;
    let namespace = plane.namespace(&client, "smoke", &[], &[]).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "docker.io/library/busybox:1"}]},
            },
        },
    });
    plane
        .kubectl_with(
            &["apply", "--namespace", &namespace, "-f", "-"],
            &deployment.to_string(),
        )?
        .ok()?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    wait_until_async(
        "two pods of the Deployment",
        Duration::from_secs(30),
        async || {
            let found = pods.list(&ListParams::default()).await?.items.len();
            ensure!(found == 2, "there are {found}");
            Ok(())
        },
    )
    .await
}

async fn kubectl_applies_and_reports_refusals() -> Result {
    let plane = ControlPlane::shared()?;
    let version = plane.kubectl(&["version"])?.ok()?;
    ensure!(version.contains("Server Version: v1.36."), "{version}");
    let refused = plane.kubectl_with(
        &["create", "-f", "-"],
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_A_Name"}}"#,
    )?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(refused.stderr.contains("Invalid value"), "{refused:?}");
    Ok(())
}

async fn dropping_a_control_plane_leaves_nothing() -> Result {
    let plane = ControlPlane::start(Controllers::Absent)?;
    let processes = plane.process_ids();
    let directory = plane
        .kubeconfig()
        .parent()
        .context("the kubeconfig is nowhere")?
        .to_owned();
    ensure!(processes.iter().all(|id| alive(*id)));
    drop(plane);
    ensure!(
        !processes.iter().any(|id| alive(*id)),
        "left: {processes:?}"
    );
    ensure!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
    Ok(())
}

/// Forgetting the daemon and closing its pipe is what the kernel does when a
/// test process is killed.
async fn a_daemon_dies_with_the_process_that_started_it() -> Result {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new("sleep");
    command.arg("60");
    let mut daemon = Daemon::start(
        &command,
        &directory.path().join("log"),
        Duration::from_secs(1),
    )?;
    let id = daemon.id();
    ensure!(alive(id));
    daemon.begin_stop();
    std::mem::forget(daemon);
    wait_until("the daemon to be gone", Duration::from_secs(5), || {
        ensure!(!alive(id));
        Ok(())
    })
}

async fn a_daemon_that_ignores_sigterm_is_killed() -> Result {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    let mut daemon = Daemon::start(&command, &log, Duration::from_millis(300))?;
    let (id, ready) = (daemon.id(), std::fs::read_to_string);
    daemon.wait_ready(Duration::from_secs(5), || {
        ensure!(ready(&log)?.contains("ready"));
        Ok(())
    })?;
    drop(daemon);
    ensure!(!alive(id));
    Ok(())
}

async fn a_daemon_that_ends_early_says_why() -> Result {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new("sh");
    command.args(["-c", "echo the disk is full; exit 3"]);
    let mut daemon = Daemon::start(
        &command,
        &directory.path().join("log"),
        Duration::from_secs(1),
    )?;
    let limit = Duration::from_secs(20);
    let error = daemon
        .wait_ready(limit, || -> Result { anyhow::bail!("not yet") })
        .err();
    let message = format!("{:#}", error.context("it cannot be ready")?);
    ensure!(message.contains("exit status: 3"), "{message}");
    ensure!(message.contains("the disk is full"), "{message}");
    Ok(())
}

async fn envoy_checks_a_bootstrap() -> Result {
    Envoy::validate_bootstrap(r#"{"node": {"id": "a", "cluster": "b"}}"#)?;
    let refused = Envoy::validate_bootstrap(r#"{"nod": {"id": "a"}}"#).err();
    let message = format!("{:#}", refused.context("an unknown field was accepted")?);
    ensure!(message.contains("nod"), "{message}");
    Ok(())
}

async fn envoy_serves_and_stops() -> Result {
    let port = free_port()?;
    let admin =
        json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}});
    let directory = tempfile::tempdir()?;
    let bootstrap = directory.path().join("bootstrap.json");
    std::fs::write(&bootstrap, json!({ "admin": admin }).to_string())?;

    // From a thread that ends: Envoy must not end with it.
    let started = std::thread::spawn(move || Envoy::start_bootstrap(&bootstrap, &[port])).join();
    let mut envoy = started.map_err(|_| anyhow::anyhow!("the starting thread panicked"))??;
    let id = envoy.daemon().id();
    let client = testkit::http::client("", None)?;
    let body = client
        .get(format!("http://127.0.0.1:{port}/ready"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(body.trim() == "LIVE", "{body}");
    drop(envoy);
    ensure!(!alive(id));
    Ok(())
}

async fn helm_says_its_version() -> Result {
    let version = Helm::new()?.run(&["version", "--short"])?.ok()?;
    ensure!(version.starts_with("v4."), "{version}");
    Ok(())
}
