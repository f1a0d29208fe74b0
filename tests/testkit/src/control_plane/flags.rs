//! The files and flags that the programs are started with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::Result;
use crate::certs::{Authority, Issued};

/// The ports on 127.0.0.1.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) peer: u16,
    pub(super) api: u16,
}

impl Ports {
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api)
    }
}

/// What is on disk before anything starts.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) admin: Issued,
}

impl Files {
    pub(super) fn write(directory: &Path, authority: &Authority, port: u16) -> Result<Self> {
        let serving = authority.server(&[
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "10.0.0.1", // the address of the Service `kubernetes`
        ])?;
        let admin = authority.client("outrigger-tests", Some("system:masters"))?;
        let account = authority.client("service-accounts", None)?;
        let server = format!("https://127.0.0.1:{port}");
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {
                "server": server, "certificate-authority": path("ca.crt"),
            }}],
            "users": [{"name": "admin", "user": {
                "client-certificate": path("admin.crt"), "client-key": path("admin.key"),
            }}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
            "current-context": "tests",
        });
        for (name, content) in [
            ("ca.crt", authority.certificate()),
            ("serving.crt", &serving.certificate),
            ("serving.key", &serving.key),
            ("admin.crt", &admin.certificate),
            ("admin.key", &admin.key),
            ("service-accounts.crt", &account.certificate),
            ("service-accounts.key", &account.key),
            ("kubeconfig", &kubeconfig.to_string()),
            ("audit.json", &audit_policy().to_string()),
        ] {
            let path = directory.join(name);
            fs::write(&path, content)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        let kubeconfig = directory.join("kubeconfig");
        Ok(Files {
            directory: directory.to_owned(),
            kubeconfig,
            admin,
        })
    }

    /// Where the API server writes its audit log.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

/// What ServiceAccounts ask for, and pods that are created; the controllers' own requests would drown them.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "Metadata", "verbs": ["create"], "resources": [{"group": "", "resources": ["pods"]}]},
            {"level": "None"},
        ],
    })
}

pub(super) fn etcd(files: &Files, ports: &Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.peer);
    vec![
        format!("--data-dir={}", files.path("etcd")),
        "--name=tests".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=tests={peer}"),
        // Nothing here outlives the test.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn api_server(files: &Files, ports: &Ports) -> Vec<String> {
    vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.api),
        // A loopback address is refused as an endpoint of the Service `kubernetes`.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-key-file={}",
            files.path("service-accounts.crt")
        ),
        format!(
            "--service-account-signing-key-file={}",
            files.path("service-accounts.key")
        ),
        format!("--client-ca-file={}", files.path("ca.crt")),
        format!("--tls-cert-file={}", files.path("serving.crt")),
        format!("--tls-private-key-file={}", files.path("serving.key")),
        format!("--audit-policy-file={}", files.path("audit.json")),
        format!("--audit-log-path={}", files.path("audit.log")),
    ]
}

pub(super) fn controllers(files: &Files, port: u16) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.path("kubeconfig")),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!(
            "--service-account-private-key-file={}",
            files.path("service-accounts.key")
        ),
        format!("--root-ca-file={}", files.path("ca.crt")),
    ]
}
