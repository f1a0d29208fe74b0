//! Another mutating webhook, as clusters have them: it rewrites registries, adds a mount, a variable and a
//! label to everything, and a container of its own.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testkit::{ControlPlane, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The registry that it has images come from.
const MIRROR: &str = "mirror.example.com/";

/// The running webhook. Dropping it takes the registration away.
pub(crate) struct Editor<'p> {
    plane: &'p ControlPlane,
    name: &'static str,
    serving: JoinHandle<()>,
}

impl<'p> Editor<'p> {
    /// Serves and registers it for namespaces with the label `edited`, under this name: the API server calls webhooks
    /// in the order of their names.
    pub(crate) async fn start(plane: &'p ControlPlane, name: &'static str) -> Result<Self> {
        let issued = plane.authority().server(&["127.0.0.1"])?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(
                    issued.certificate.as_bytes(),
                )?],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
            )?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls))));
        let registration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "editor.example.com",
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{port}/edit"),
                    "caBundle": STANDARD.encode(plane.authority().certificate()),
                },
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "namespaceSelector": {"matchLabels": {"edited": "yes"}},
                "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
            }],
        });
        plane
            .kubectl_with(&["create", "-f", "-"], &registration.to_string())?
            .ok()?;
        // The API server learns of a registration within a second or so.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        Ok(Self {
            plane,
            name,
            serving,
        })
    }
}

impl Drop for Editor<'_> {
    fn drop(&mut self) {
        let deleted = self
            .plane
            .kubectl(&["delete", "mutatingwebhookconfiguration", self.name]);
        if let Err(error) = deleted.and_then(|finished| finished.ok()) {
            eprintln!("{} could not be deleted: {error:#}", self.name);
        }
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    let router = Router::new().route("/edit", post(edit));
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = TowerToHyperService::new(router);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Everything is added once, also to what others added in the meantime.
async fn edit(body: Bytes) -> String {
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let object = &review["request"]["object"];
    let mut patch = Vec::new();
    let mut add =
        |path: String, value: Value| patch.push(json!({"op": "add", "path": path, "value": value}));
    if object["metadata"]["labels"]["edited"] != "yes" {
        if !object["metadata"]["labels"].is_object() {
            add("/metadata/labels".into(), json!({}));
        }
        add("/metadata/labels/edited".into(), json!("yes"));
        add(
            "/spec/volumes/-".into(),
            json!({"name": "late", "emptyDir": {"sizeLimit": "1Mi"}}),
        );
        add(
            "/spec/containers/-".into(),
            json!({"name": "late", "image": "mirror.example.com/late:1"}),
        );
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in object["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let image = container["image"].as_str().unwrap_or_default();
            let rest = image.split_once('/').map_or(image, |(_, rest)| rest);
            if image.starts_with(MIRROR) {
                continue;
            }
            let at = format!("/spec/{list}/{index}");
            add(format!("{at}/image"), json!(format!("{MIRROR}{rest}")));
            let mount = json!({"name": "late", "mountPath": "/late"});
            match container["volumeMounts"].is_array() {
                true => add(format!("{at}/volumeMounts/-"), mount),
                false => add(format!("{at}/volumeMounts"), json!([mount])),
            }
            let variable = json!({"name": "LATE", "value": "yes"});
            match container["env"].is_array() {
                true => add(format!("{at}/env/-"), variable),
                false => add(format!("{at}/env"), json!([variable])),
            }
        }
    }
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    if !patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(Value::Array(patch).to_string()));
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        .to_string()
}
