//! Kubernetes objects as far as they are read here, each named and shaped as in full.
//!
//! To decode one in full takes some hundred kilobytes of code, nearly all of it for what nobody here asks for.

use k8s_openapi::api::{apps, core};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
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
