//! Which kinds hold a pod template, and where.

use json_patch::Patch;
use serde_json::Value;

/// Where a pod template is in a stream. Given by [`Stream::workloads`](super::Stream::workloads),
/// taken by [`Stream::apply`](super::Stream::apply) of the same stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Index of the document in the stream, from 0.
    pub(super) document: usize,
    /// JSON pointer (RFC 6901) of the workload in the document: empty, or `/items/N` in a list.
    pub(super) object: String,
    /// JSON pointer of the pod template in the document; empty for a lone Pod.
    pub(super) template: String,
}

impl Place {
    /// Number of the document in its file, from 1.
    #[must_use]
    pub fn document_number(&self) -> usize {
        self.document + 1
    }

    /// JSON pointer of the pod template in the document; empty for a lone Pod.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.template
    }
}

/// A workload found in a stream.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// Where it is.
    pub place: Place,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// `metadata.name`, else `metadata.generateName`, else empty.
    pub name: &'a str,
    /// `metadata.namespace`, else the default that was given.
    pub namespace: &'a str,
    /// The whole object.
    pub object: &'a Value,
    /// The pod template, a mapping: `metadata` and `spec` (and, for a Pod, all of it).
    pub pod: &'a Value,
}

/// A patch of a pod template, applied to a stream.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    pub(super) place: Place,
    /// Relative to the pod template.
    pub(super) patch: Patch,
}

/// An object of a document that is no list, and where it is.
pub(super) struct Object<'a> {
    pub(super) pointer: String,
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) value: &'a Value,
}

/// The objects of a document: itself, or the items of the list that it is, lists in it included.
pub(super) fn objects(document: &Value) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    collect(document, String::new(), None, &mut found);
    found
}

fn collect<'a>(
    value: &'a Value,
    pointer: String,
    inherited: Option<(&'a str, &'a str)>,
    found: &mut Vec<Object<'a>>,
) {
    let own = |key| value.get(key).and_then(Value::as_str);
    // The API server leaves apiVersion and kind out of the items of a typed list.
    let (api_version, kind) = match (own("apiVersion"), own("kind"), inherited) {
        (Some(api_version), Some(kind), _) | (None, None, Some((api_version, kind))) => {
            (api_version, kind)
        }
        _ => return,
    };
    let items = value.get("items").and_then(Value::as_array);
    if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), items) {
        let inherited = (!item_kind.is_empty()).then_some((api_version, item_kind));
        for (index, item) in items.iter().enumerate() {
            collect(item, format!("{pointer}/items/{index}"), inherited, found);
        }
        return;
    }
    found.push(Object {
        pointer,
        api_version,
        kind,
        value,
    });
}

/// Where a kind keeps its pod template; `None` for a kind that has none.
///
/// The API group counts: a custom resource may well be called `Job`.
pub(super) fn template_of(api_version: &str, kind: &str) -> Option<&'static str> {
    let group = match api_version.split_once('/') {
        Some((group, _)) => group,
        None if api_version == "v1" => "",
        None => return None,
    };
    match (group, kind) {
        ("", "Pod") => Some(""),
        ("", "PodTemplate") => Some("/template"),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        // Before apps/v1 (1.9); files of that age are still about.
        | ("extensions", "Deployment" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// The workload that an object is, if its kind has a pod template and the object has one too.
pub(super) fn workload<'a>(
    document: usize,
    object: &Object<'a>,
    default_namespace: &'a str,
) -> Option<Workload<'a>> {
    let template = template_of(object.api_version, object.kind)?;
    let pod = object
        .value
        .pointer(template)
        .filter(|pod| pod.is_object())?;
    let metadata = |key| {
        object
            .value
            .get("metadata")
            .and_then(|metadata| metadata.get(key))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    Some(Workload {
        place: Place {
            document,
            template: format!("{}{template}", object.pointer),
            object: object.pointer.clone(),
        },
        api_version: object.api_version,
        kind: object.kind,
        name: metadata("name")
            .or(metadata("generateName"))
            .unwrap_or_default(),
        namespace: metadata("namespace").unwrap_or(default_namespace),
        object: object.value,
        pod,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{objects, template_of, workload};

    #[test]
    fn kinds_of_kubernetes_are_known_by_their_group() {
        let cases = [
            ("v1", "Pod", Some("")),
            ("v1", "PodTemplate", Some("/template")),
            ("v1", "ReplicationController", Some("/spec/template")),
            ("apps/v1", "Deployment", Some("/spec/template")),
            ("apps/v1beta2", "StatefulSet", Some("/spec/template")),
            ("apps/v1", "DaemonSet", Some("/spec/template")),
            ("apps/v1", "ReplicaSet", Some("/spec/template")),
            ("extensions/v1beta1", "Deployment", Some("/spec/template")),
            ("batch/v1", "Job", Some("/spec/template")),
            (
                "batch/v1beta1",
                "CronJob",
                Some("/spec/jobTemplate/spec/template"),
            ),
            // Other groups' kinds of the same name, and kinds without pods.
            ("batch.volcano.sh/v1alpha1", "Job", None),
            ("serving.example.com/v1", "Deployment", None),
            ("apps/v1", "Pod", None),
            ("v1", "Deployment", None),
            ("v2", "Pod", None),
            ("v1", "Service", None),
            ("", "Pod", None),
        ];
        for (api_version, kind, expected) in cases {
            assert_eq!(
                template_of(api_version, kind),
                expected,
                "{api_version} {kind}"
            );
        }
    }

    #[test]
    fn items_of_lists_are_found_with_their_pointers() {
        let item = |name: &str| json!({"metadata": {"name": name}, "spec": {"template": {}}});
        let full = |name: &str| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"template": {"spec": {}}}})
        };
        let cases = [
            (full("a"), vec![("a", "/spec/template", "shop")]),
            (
                json!({"apiVersion": "v1", "kind": "List", "items": [full("a"), {"kind": "Service", "apiVersion": "v1"}, full("b")]}),
                vec![
                    ("a", "/items/0/spec/template", "shop"),
                    ("b", "/items/2/spec/template", "shop"),
                ],
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [item("a")]}),
                vec![("a", "/items/0/spec/template", "here")],
            ),
            (
                json!({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "List", "items": [full("a")]}]}),
                vec![("a", "/items/0/items/0/spec/template", "shop")],
            ),
            // A List of nothing in particular does not lend its kind.
            (
                json!({"apiVersion": "v1", "kind": "List", "items": [item("a")]}),
                vec![],
            ),
            // A kind of some group that happens to end in List, without items.
            (
                json!({"apiVersion": "example.com/v1", "kind": "AllowList", "spec": {}}),
                vec![],
            ),
            // A workload without a template is the API server's to refuse.
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": null}}),
                vec![],
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": ["Deployment"]}),
                vec![],
            ),
            (json!([1, 2]), vec![]),
            (json!("text"), vec![]),
        ];
        for (document, expected) in cases {
            let objects = objects(&document);
            let found: Vec<_> = objects
                .iter()
                .filter_map(|object| workload(0, object, "here"))
                .collect();
            let found: Vec<_> = found
                .iter()
                .map(|workload| (workload.name, workload.place.pointer(), workload.namespace))
                .collect();
            assert_eq!(found, expected, "{document}");
        }
    }
}
