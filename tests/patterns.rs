//! The thirty patterns: what must come out, stated on the examples of the gallery.
//!
//! `after.yaml` is what a real API server stores (`tests/api_server.rs`), so what is said of it here is said of the
//! stored pod. The order of start and stop is derived from it by the rules of KEP-753 (`testkit::lifecycle`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs;
use std::path::Path;

use outrigger::manifest::Stream;
use serde_json::{Value, json};
use testkit::lifecycle;

/// The pod of an example, as it is stored.
struct Stored(Value);

/// The example of that folder.
fn stored(example: &str) -> Stored {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example)
        .join("after.yaml");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stream = Stream::parse("after.yaml", &bytes).unwrap();
    Stored(stream.workloads("default")[0].pod.clone())
}

impl Stored {
    fn list(&self, list: &str) -> &[Value] {
        self.0["spec"][list].as_array().map_or(&[], Vec::as_slice)
    }

    fn names(&self, list: &str) -> Vec<&str> {
        self.list(list)
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect()
    }

    /// A container, of either list.
    fn container(&self, name: &str) -> &Value {
        self.list("initContainers")
            .iter()
            .chain(self.list("containers"))
            .find(|container| container["name"] == name)
            .unwrap_or_else(|| panic!("there is no container {name}: {:#}", self.0))
    }

    /// A native sidecar.
    fn sidecar(&self, name: &str) -> &Value {
        let container = self.container(name);
        assert_eq!(container["restartPolicy"], "Always", "{name} is no sidecar");
        container
    }

    fn volume(&self, name: &str) -> &Value {
        self.list("volumes")
            .iter()
            .find(|volume| volume["name"] == name)
            .unwrap_or_else(|| panic!("there is no volume {name}: {:#}", self.0))
    }

    /// What a container has mounted at a path.
    fn mount(&self, container: &str, path: &str) -> &Value {
        self.container(container)["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|mount| mount["mountPath"] == path)
            .unwrap_or_else(|| panic!("{container} has nothing at {path}"))
    }

    fn annotation(&self, key: &str) -> &str {
        self.0["metadata"]["annotations"][key]
            .as_str()
            .unwrap_or_else(|| panic!("there is no annotation {key}"))
    }

    /// A generated file.
    fn file(&self, instance: &str, name: &str) -> &str {
        self.annotation(&format!("files.outrigger.dev/{instance}.{name}"))
    }

    fn environment(&self, container: &str, name: &str) -> &Value {
        self.container(container)["env"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|variable| variable["name"] == name)
            .unwrap_or_else(|| panic!("{container} has no variable {name}"))
    }
}

/// The number of a port by its name.
fn port(container: &Value, name: &str) -> u64 {
    container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|port| port["name"] == name)
        .and_then(|port| port["containerPort"].as_u64())
        .unwrap_or_else(|| panic!("no port is called {name}: {container:#}"))
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn pattern_01_envoy_terminates_tls_before_an_http_application() {
    let pod = stored("01-https");
    let envoy = pod.sidecar("envoy-tls");
    assert_eq!(port(envoy, "https"), 8443);
    let bootstrap = pod.file("envoy-tls", "bootstrap.json");
    assert!(
        bootstrap.contains(r#""address":"127.0.0.1","port_value":8080"#),
        "{bootstrap}"
    );
    // Admin on loopback, so not reachable from outside of the pod.
    assert!(
        bootstrap.contains(
            r#""admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9901}}}"#
        ),
        "{bootstrap}"
    );
    assert_eq!(
        pod.volume("envoy-tls-certificate")["secret"]["secretName"],
        "kiada-tls"
    );
    // The whole directory, watched: that is what makes a renewed certificate be seen.
    let mount = pod.mount("envoy-tls", "/certs");
    assert!(
        mount.get("subPath").is_none() && mount["readOnly"] == true,
        "{mount}"
    );
    assert!(
        pod.file("envoy-tls", "sds.json")
            .contains(r#""watched_directory":{"path":"/certs"}"#)
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(envoy[probe].is_object(), "{probe}");
    }
}

#[test]
fn pattern_02_client_certificates_are_required() {
    let pod = stored("02-mutual-tls");
    let bootstrap = pod.file("envoy-tls", "bootstrap.json");
    assert!(
        bootstrap.contains(r#""require_client_certificate":true"#),
        "{bootstrap}"
    );
    let ca = pod
        .list("volumes")
        .iter()
        .find(|volume| volume["secret"]["secretName"] == "batch-ca");
    // The CA's certificate and nothing else of that Secret.
    let items = &ca.unwrap()["secret"]["items"];
    assert_eq!(items.as_array().map(Vec::len), Some(1), "{items}");
    let files = pod.0["metadata"]["annotations"].to_string();
    assert!(files.contains("nightly-report.batch.svc"), "{files}");
}

#[test]
fn pattern_03_tokens_are_verified_before_the_application() {
    let pod = stored("03-jwt");
    let bootstrap = pod.file("envoy-tls", "bootstrap.json");
    for part in [
        "envoy.filters.http.jwt_authn",
        r#""issuer":"https://login.example.com/""#,
        "https://login.example.com/.well-known/jwks.json",
        r#""audiences":["qdrant"]"#,
    ] {
        assert!(bootstrap.contains(part), "{part}: {bootstrap}");
    }
    let (jwt, router) = (
        bootstrap.find("jwt_authn"),
        bootstrap.find("envoy.filters.http.router"),
    );
    assert!(
        jwt < router,
        "the token is verified after the request is passed on"
    );
}

#[test]
fn pattern_04_a_certificate_without_a_secret() {
    let minted = stored("04-self-signed-certificate");
    let steps = lifecycle::start(&minted.0);
    assert_eq!(
        steps[..2],
        ["envoy-tls-certificate ends", "envoy-tls is up"],
        "{steps:?}"
    );
    let volume = minted.mount("envoy-tls", "/certs")["name"]
        .as_str()
        .unwrap();
    assert_eq!(minted.volume(volume)["emptyDir"]["medium"], "Memory");

    let issued = stored("04-certificate-from-cert-manager");
    let volume = issued.mount("envoy-tls", "/certs")["name"]
        .as_str()
        .unwrap();
    let csi = &issued.volume(volume)["csi"];
    assert_eq!(csi["driver"], "csi.cert-manager.io");
    assert_eq!(
        csi["volumeAttributes"]["csi.cert-manager.io/issuer-name"],
        "internal-ca"
    );
}

#[test]
fn pattern_05_nginx_terminates_tls_before_an_application_moved_to_loopback() {
    let pod = stored("05-nginx-tls");
    assert_eq!(port(pod.sidecar("nginx-tls"), "https"), 9200);
    let configuration = pod.file("nginx-tls", "nginx.conf");
    assert!(
        configuration.contains("listen 9200 ssl;"),
        "{configuration}"
    );
    assert!(
        configuration.contains("server 127.0.0.1:9201;"),
        "{configuration}"
    );
    let application = pod.names("containers")[0];
    assert_eq!(
        pod.environment(application, "http.host")["value"],
        "127.0.0.1"
    );
    assert_eq!(pod.environment(application, "http.port")["value"], "9201");
    assert_eq!(
        pod.volume("nginx-tls-certificate")["secret"]["secretName"],
        "search-tls"
    );
}

#[test]
fn pattern_06_nginx_is_a_plain_proxy_with_configuration_from_a_config_map() {
    let pod = stored("06-nginx-proxy");
    assert_eq!(port(pod.sidecar("nginx-proxy"), "http"), 80);
    let mount = pod.mount("nginx-proxy", "/etc/nginx/conf.d/default.conf");
    assert_eq!(mount["subPath"], "default.conf");
    let volume = pod.volume(mount["name"].as_str().unwrap());
    assert_eq!(volume["configMap"]["name"], "registry-nginx");
    let before = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/06-nginx-proxy/before.yaml"),
    );
    assert!(before.unwrap().contains("127.0.0.1:5000"));
}

#[test]
fn pattern_07_envoy_is_an_ambassador_to_several_external_services() {
    let pod = stored("07-egress");
    for (name, listen, upstream) in [
        ("cache", 6379, "cache.example.com"),
        ("api", 15001, "api.example.com"),
    ] {
        assert_eq!(port(pod.sidecar(name), "egress"), listen);
        let bootstrap = pod.file(name, "bootstrap.json");
        let listener = format!(r#"{{"address":"127.0.0.1","port_value":{listen}}}"#);
        assert!(bootstrap.contains(&listener), "{name}: {bootstrap}");
        assert!(
            bootstrap.contains(&format!(r#""sni":"{upstream}""#)),
            "{name}: {bootstrap}"
        );
    }
}

#[test]
fn pattern_08_a_sql_proxy_is_the_ambassador_to_a_managed_database() {
    let pod = stored("08-sql-proxy");
    assert_eq!(port(pod.sidecar("sql-proxy"), "sql"), 3306);
    let variable = |name| pod.environment("sql-proxy", name)["value"].clone();
    assert_eq!(
        variable("CSQL_PROXY_INSTANCE_CONNECTION_NAME"),
        "my-project:europe-west1:blog"
    );
    assert_eq!(variable("CSQL_PROXY_ADDRESS"), "127.0.0.1");
    assert_eq!(variable("CSQL_PROXY_PORT"), "3306");
}

#[test]
fn pattern_09_fluentd_ships_log_files() {
    let pod = stored("09-logs");
    pod.sidecar("fluentd");
    let sources = pod.file("fluentd", "sources.yaml");
    assert!(
        sources.contains("/var/log/nginx/*.log") && sources.contains(r#""$type":"nginx""#),
        "{sources}"
    );
    let output = pod.file("fluentd", "output.yaml");
    assert!(
        output.contains(r#""$type":"forward""#) && output.contains("collector.logging.svc"),
        "{output}"
    );
    // The directory that the application writes, for reading only, and a buffer with a bound.
    let web = pod.names("containers")[0];
    let shared = pod.mount(web, "/var/log/nginx")["name"].clone();
    let mount = pod.mount("fluentd", "/var/log/nginx");
    assert!(
        mount["name"] == shared && mount["readOnly"] == true,
        "{mount}"
    );
    assert!(pod.volume("fluentd-buffer")["emptyDir"]["sizeLimit"].is_string());
}

#[test]
fn pattern_10_a_log_file_comes_out_on_standard_output() {
    let pod = stored("10-log-tail");
    let tail = pod.sidecar("log-tail");
    assert!(
        words(&tail["command"])
            .iter()
            .any(|word| word.contains("tail -q -n +1 -F"))
    );
    assert_eq!(words(&tail["args"]), ["/var/log/mysql/slow.log"]);
    assert_eq!(pod.mount("log-tail", "/var/log/mysql")["readOnly"], true);
}

#[test]
fn pattern_11_an_adapter_rewrites_log_lines() {
    let pod = stored("11-log-adapter");
    pod.sidecar("log-adapter");
    let input = pod.environment("log-adapter", "INPUT")["value"]
        .as_str()
        .unwrap();
    let output = pod.environment("log-adapter", "OUTPUT")["value"]
        .as_str()
        .unwrap();
    assert_ne!(input, output);
    for file in [input, output] {
        let directory = Path::new(file).parent().unwrap();
        let covered = pod.container("log-adapter")["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|mount| directory.starts_with(mount["mountPath"].as_str().unwrap()));
        assert!(covered, "the adapter does not see {file}");
    }
    // The program is constant: what the author says stands in the environment.
    let program = pod.file("log-adapter", "rewrite.awk");
    assert!(
        program.contains("ENVIRON[") && !program.contains(input),
        "{program}"
    );
}

/// The annotations by which the usual service discovery of Prometheus finds a pod.
#[test]
fn pattern_12_an_exporter_gives_metrics_to_an_application_without() {
    let pod = stored("12-exporter");
    let exporter = pod.sidecar("elasticsearch-exporter");
    assert_eq!(port(exporter, "metrics"), 9114);
    assert!(
        words(&exporter["args"]).contains(&"--es.uri=http://localhost:9200"),
        "{exporter:#}"
    );
    assert_eq!(pod.annotation("prometheus.io/scrape"), "true");
    assert_eq!(pod.annotation("prometheus.io/port"), "9114");
    assert_eq!(pod.annotation("prometheus.io/path"), "/metrics");
}

#[test]
fn pattern_13_containers_share_a_volume_each_at_a_path_of_its_own() {
    let pod = stored("13-shared-volume");
    let shared: Vec<&Value> = pod
        .list("volumes")
        .iter()
        .filter(|volume| volume["emptyDir"]["sizeLimit"].is_string())
        .collect();
    assert!(
        shared
            .iter()
            .any(|volume| volume["emptyDir"]["medium"] == "Memory"),
        "{shared:#?}"
    );
    let mounts: Vec<(&str, &Value)> = pod
        .list("containers")
        .iter()
        .flat_map(|container| {
            let name = container["name"].as_str().unwrap();
            container["volumeMounts"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |mount| (name, mount))
        })
        .filter(|(_, mount)| shared.iter().any(|volume| volume["name"] == mount["name"]))
        .collect();
    let differ = |test: &dyn Fn(&Value, &Value) -> bool| {
        mounts.iter().any(|(one, a)| {
            mounts
                .iter()
                .any(|(other, b)| one != other && a["name"] == b["name"] && test(a, b))
        })
    };
    assert!(
        differ(&|a, b| a["mountPath"] != b["mountPath"]),
        "{mounts:#?}"
    );
    assert!(
        differ(&|a, b| a["readOnly"] == true && b["readOnly"] != true),
        "{mounts:#?}"
    );
    assert!(
        mounts.iter().any(|(_, mount)| mount["subPath"].is_string()),
        "{mounts:#?}"
    );
}

#[test]
fn pattern_14_an_agent_writes_what_the_web_server_serves() {
    let pod = stored("14-content-agent");
    pod.sidecar("git-sync");
    let written = pod.mount("git-sync", "/git");
    assert_ne!(written["readOnly"], true);
    let web = pod.list("containers")[0]["volumeMounts"]
        .as_array()
        .unwrap();
    let served = web
        .iter()
        .find(|mount| mount["name"] == written["name"])
        .unwrap();
    assert_eq!(served["readOnly"], true);
    assert_ne!(served["mountPath"], "/git");
}

/// That an annotation alone does not get there is in `tests/api_server.rs` and in the goldens.
#[test]
fn pattern_15_a_directory_of_the_node_only_where_the_administrator_says_so() {
    let pod = stored("15-host-path");
    let volume = pod.volume("host-path");
    let defaults = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/15-host-path/defaults.yaml"),
    );
    let path = volume["hostPath"]["path"].as_str().unwrap();
    assert!(defaults.unwrap().contains(path), "{path}");
    assert!(!pod.annotation("outrigger.dev/inject").contains(path));
    let mounted = pod.list("containers")[0]["volumeMounts"]
        .as_array()
        .unwrap();
    assert!(
        mounted
            .iter()
            .any(|mount| mount["name"] == "host-path" && mount["readOnly"] == true)
    );
}

#[test]
fn pattern_16_processes_share_memory() {
    let pod = stored("16-shared-memory");
    let application = pod.names("containers")[0];
    let volume = pod.mount(application, "/dev/shm")["name"].as_str().unwrap();
    assert_eq!(
        pod.volume(volume)["emptyDir"],
        json!({"medium": "Memory", "sizeLimit": "512Mi"})
    );
}

#[test]
fn pattern_17_a_site_is_downloaded_before_the_application_starts() {
    let pod = stored("17-download");
    assert_eq!(lifecycle::start(&pod.0), ["site ends", "nginx start"]);
    let served = pod.mount("nginx", "/usr/share/nginx/html");
    assert_eq!(served["readOnly"], true);
    assert_eq!(pod.mount("site", "/download")["name"], served["name"]);
}

#[test]
fn pattern_18_the_application_waits_until_services_answer() {
    let pod = stored("18-wait-for");
    let steps = lifecycle::start(&pod.0);
    assert_eq!(steps[0], "wait-for ends", "{steps:?}");
    let arguments = words(&pod.container("wait-for")["args"]);
    for kind in ["--tcp=", "--http=", "--dns="] {
        assert!(
            arguments.iter().any(|argument| argument.starts_with(kind)),
            "{arguments:?}"
        );
    }
}

#[test]
fn pattern_19_a_secret_is_fetched_from_vault_into_memory() {
    let pod = stored("19-vault-secret");
    let steps = lifecycle::start(&pod.0);
    assert_eq!(steps[0], "vault-secret ends", "{steps:?}");
    assert_eq!(pod.volume("vault-secret")["emptyDir"]["medium"], "Memory");
    let mounts = pod.list("containers")[0]["volumeMounts"]
        .as_array()
        .unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| mount["name"] == "vault-secret" && mount["readOnly"] == true)
    );
    // A token that is good for nothing but Vault.
    let token = &pod.volume("vault-secret-token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "vault");
}

#[test]
fn pattern_20_the_database_is_migrated_after_the_ambassador_is_up() {
    let pod = stored("20-database-migration");
    assert_eq!(
        lifecycle::start(&pod.0),
        ["db is up", "database-migration ends", "postgrest start"]
    );
}

#[test]
fn pattern_21_a_kernel_setting_in_a_short_privileged_container() {
    let pod = stored("21-kernel-setting");
    let steps = lifecycle::start(&pod.0);
    assert_eq!(steps[0], "kernel-setting ends", "{steps:?}");
    assert_eq!(
        pod.container("kernel-setting")["securityContext"]["privileged"],
        true
    );
    for container in pod.list("containers") {
        assert_ne!(container["securityContext"]["privileged"], true);
    }
}

#[test]
fn pattern_22_permissions_are_set_before_the_application_starts() {
    let pod = stored("22-volume-permissions");
    let steps = lifecycle::start(&pod.0);
    assert_eq!(steps[0], "volume-permissions ends", "{steps:?}");
    assert_eq!(
        pod.environment("volume-permissions", "OWNER")["value"],
        "1000:1000"
    );
    assert_eq!(pod.mount("volume-permissions", "/volume")["name"], "home");
    let added = &pod.container("volume-permissions")["securityContext"]["capabilities"]["add"];
    assert!(words(added).contains(&"CHOWN"), "{added}");
}

#[test]
fn pattern_23_init_containers_run_one_after_the_other() {
    let pod = stored("23-init-containers-in-order");
    assert_eq!(
        lifecycle::start(&pod.0),
        [
            "wait-for ends",
            "database-migration ends",
            "load-places ends",
            "martin start"
        ]
    );
}

#[test]
fn pattern_24_the_application_hears_of_a_changed_config_map() {
    let pod = stored("24-config-reload");
    pod.sidecar("config-reload");
    let application = pod.names("containers")[0];
    let path = pod
        .annotation("config-reload.outrigger.dev/path")
        .to_owned();
    let seen = pod.mount(application, &path);
    let watched = pod.mount("config-reload", "/watched");
    assert_eq!(seen["name"], watched["name"]);
    assert!(
        seen.get("subPath").is_none(),
        "a file mounted with subPath is never updated"
    );
    assert_eq!(
        pod.environment("config-reload", "URL")["value"],
        "http://127.0.0.1:9090/-/reload"
    );
}

#[test]
fn pattern_25_a_redis_beside_the_application() {
    let pod = stored("25-redis-cache");
    let redis = pod.sidecar("redis-cache");
    assert_eq!(port(redis, "redis"), 6379);
    let arguments = words(&redis["args"]);
    assert_eq!(arguments[..2], ["--bind", "127.0.0.1"]);
    let steps = lifecycle::start(&pod.0);
    assert_eq!(steps[0], "redis-cache is up", "{steps:?}");
}

#[test]
fn pattern_26_a_job_with_a_sidecar_completes() {
    for example in ["26-job", "26-cron-job"] {
        let pod = stored(example);
        pod.sidecar("db");
        assert_eq!(lifecycle::waits_for(&pod.0).len(), 1, "{example}");
        assert!(!lifecycle::waits_for(&pod.0).contains(&"db"), "{example}");
        assert_ne!(pod.0["spec"]["restartPolicy"], "Always");
    }
    // On clusters without native sidecars it is refused, and told why.
    let refused = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/envoy-tls/denied-job-in-container-mode/denied.txt");
    let refused = fs::read_to_string(refused).unwrap();
    assert!(refused.contains("would never"), "{refused}");
}

#[test]
fn pattern_27_the_sidecar_is_probed_by_named_ports() {
    let pod = stored("27-probes");
    let envoy = pod.sidecar("envoy-tls");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let name = envoy[probe]["httpGet"]["port"].as_str();
        assert!(
            port(
                envoy,
                name.unwrap_or_else(|| panic!("{probe} names no port"))
            ) > 0
        );
    }
    // The startup probe succeeds before the application starts.
    assert_eq!(
        lifecycle::start(&pod.0),
        ["envoy-tls is up", "podinfo start"]
    );
    let before =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/27-probes/before.yaml"))
            .unwrap();
    let before = Stream::parse("before.yaml", &before).unwrap();
    let own = &before.workloads("default")[0].pod["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(
            own[probe],
            pod.container("podinfo")[probe],
            "the application's {probe}"
        );
    }
}

#[test]
fn pattern_28_the_proxy_and_the_shipper_stop_after_the_application() {
    let pod = stored("28-orderly-stop");
    assert_eq!(
        lifecycle::start(&pod.0),
        ["fluentd is started", "envoy-tls is up", "gitea start"]
    );
    assert_eq!(
        lifecycle::stop(&pod.0),
        [
            "preStop of gitea",
            "gitea end",
            "envoy-tls ends",
            "fluentd ends"
        ]
    );
    let hook = &pod.container("gitea")["lifecycle"]["preStop"]["exec"]["command"];
    let pause: u64 = words(hook)[1].parse().unwrap();
    let grace = pod.0["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    assert!(
        grace >= pause + 20,
        "{grace} s leave too little after {pause} s"
    );
}

#[test]
fn pattern_29_an_extra_container_with_command_and_arguments() {
    let pod = stored("29-extra-container");
    assert_eq!(pod.names("containers"), ["alertmanager", "heartbeat"]);
    let extra = pod.container("heartbeat");
    assert_eq!(words(&extra["command"])[..2], ["sh", "-c"]);
    assert_eq!(
        words(&extra["args"]),
        ["http://127.0.0.1:9093/-/healthy", "30"]
    );
    // kubectl logs and exec still mean the application.
    assert_eq!(
        pod.annotation("kubectl.kubernetes.io/default-container"),
        "alertmanager"
    );
}

#[test]
fn pattern_30_several_at_once() {
    let pod = stored("30-several-at-once");
    let status: Value = serde_json::from_str(pod.annotation("outrigger.dev/status")).unwrap();
    let instances = status["instances"].as_array().unwrap();
    assert!(instances.len() >= 5, "{status:#}");
    assert_eq!(
        lifecycle::start(&pod.0),
        [
            "wait-for ends",
            "fluentd is started",
            "envoy-tls is up",
            "db is up",
            "redis-cache is up",
            "grafana, collector start",
        ]
    );
    let stop = lifecycle::stop(&pod.0);
    assert_eq!(
        stop.last().map(String::as_str),
        Some("fluentd ends"),
        "{stop:?}"
    );
    assert_eq!(pod.mount("grafana", "/dashboards")["readOnly"], true);
    assert_ne!(pod.mount("collector", "/dashboards")["readOnly"], true);
}
