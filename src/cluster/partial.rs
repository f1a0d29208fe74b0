//! Kubernetes objects as far as they are read here, each named and shaped as in full.
//!
//! To decode one in full takes some hundred kilobytes of code, nearly all of it for what nobody here asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps, core};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::{ApiResource, NotUsed, Object};
use kube::{Api, Client};
use serde::Deserialize;

pub(super) type Node = Object<Option<NotUsed>, NodeStatus>;

pub(super) type Deployment = Object<DeploymentSpec, NotUsed>;

pub(super) type CustomResourceDefinition =
    Object<CustomResourceDefinitionSpec, CustomResourceDefinitionStatus>;

pub(super) fn nodes(client: Client) -> Api<Node> {
    Api::all_with(client, &ApiResource::erase::<core::v1::Node>(&()))
}

pub(super) fn deployments(client: Client, namespace: &str) -> Api<Deployment> {
    let resource = ApiResource::erase::<apps::v1::Deployment>(&());
    Api::namespaced_with(client, namespace, &resource)
}

pub(super) fn definitions(client: Client) -> Api<CustomResourceDefinition> {
    let resource = ApiResource::erase::<apiextensions::v1::CustomResourceDefinition>(&());
    Api::all_with(client, &resource)
}

/// An object of any kind, of which nothing but the metadata was asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WithMetadata {
    pub(super) metadata: Metadata,
}

/// Metadata without its managed fields, which are a tree of maps larger than all else.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: metadata.owner_references,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeStatus {
    pub(super) node_info: Option<NodeSystemInfo>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeSystemInfo {
    #[serde(default)]
    pub(super) kubelet_version: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct DeploymentSpec {
    pub(super) template: PodTemplateSpec,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PodTemplateSpec {
    pub(super) spec: Option<PodSpec>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) containers: Vec<Container>,
    pub(super) service_account_name: Option<String>,
    pub(super) volumes: Option<Vec<Volume>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Container {
    pub(super) args: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) secret: Option<SecretVolumeSource>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretVolumeSource {
    pub(super) secret_name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CustomResourceDefinitionSpec {
    pub(super) versions: Vec<CustomResourceDefinitionVersion>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CustomResourceDefinitionVersion {
    pub(super) name: String,
    pub(super) storage: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CustomResourceDefinitionStatus {
    pub(super) conditions: Option<Vec<CustomResourceDefinitionCondition>>,
    pub(super) stored_versions: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CustomResourceDefinitionCondition {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
    pub(super) message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{CustomResourceDefinition, Deployment, Node, ObjectMeta, WithMetadata};
    use serde_json::json;

    #[test]
    fn a_node_says_its_version_whatever_else_it_has() {
        let version = |node| {
            let node: Node = serde_json::from_value(node).unwrap();
            node.status
                .and_then(|status| status.node_info)
                .map(|info| info.kubelet_version)
        };
        let info = json!({"kubeletVersion": "v1.28.15", "osImage": "x"});
        let full = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"nodeInfo": info, "images": [{"names": ["x"]}]},
        });
        assert_eq!(version(full).as_deref(), Some("v1.28.15"));
        assert_eq!(version(json!({"metadata": {}})), None);
        assert_eq!(version(json!({"metadata": {}, "status": {}})), None);
    }

    #[test]
    fn of_metadata_all_is_kept_that_is_read() {
        let metadata = json!({
            "name": "web-0", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"a": "b"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "1"}],
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        });
        let mut full = metadata.clone();
        full["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:metadata": {}}}]);
        let read: WithMetadata = serde_json::from_value(json!({"metadata": full})).unwrap();
        let read = serde_json::to_value(ObjectMeta::from(read.metadata)).unwrap();
        assert_eq!(read, metadata);
    }

    #[test]
    fn what_a_deployment_and_a_definition_may_lack_is_absent() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {}, "spec": {"template": {"spec": {"containers": [{"name": "a"}]}}},
        }))
        .unwrap();
        let pod = deployment.spec.template.spec.unwrap();
        assert!(pod.containers[0].args.is_none());
        assert!(pod.volumes.is_none() && pod.service_account_name.is_none());
        let definition: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {}, "spec": {"versions": [{"name": "v1alpha1", "storage": true}]},
            "status": {"conditions": null, "storedVersions": null},
        }))
        .unwrap();
        assert!(definition.status.unwrap().conditions.is_none());
    }
}
