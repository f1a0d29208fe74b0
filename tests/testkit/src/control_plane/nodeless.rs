//! What stands in for nodes: a process beside the API server takes the place of a pod, with the identity that the
//! pod would have.

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::ControlPlane;
use crate::Result;

/// As long as a drill may take. The kubelet asks for an hour and one of its own choosing.
const TOKEN_SECONDS: i64 = 2 * 3600;

impl ControlPlane {
    /// A kubeconfig that holds a token of a ServiceAccount and nothing else, so that its holder has the account's
    /// rights. With `pod` the token is bound to that pod, which must be of the account: the API server then tells it
    /// from other pods' tokens, and refuses it when the pod is gone. `server` is where the API server is to be
    /// reached, as in [`ControlPlane::url`].
    ///
    /// # Errors
    ///
    /// When there is no such account, or the pod is none of it.
    pub async fn account(
        &self,
        client: &Client,
        (namespace, account): (&str, &str),
        pod: Option<&Pod>,
        server: &str,
    ) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: pod.map(|pod| BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.uid(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for {namespace}/{account}"))?;
        let token = issued.status.context("a token request without an answer")?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": server,
                "certificate-authority-data": STANDARD.encode(self.authority().certificate()),
            }}],
            "users": [{"name": "it", "user": {"token": token.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        Ok(config.to_string())
    }
}
