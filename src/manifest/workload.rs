//! The kinds that hold a pod template, and where they hold it.

use serde_json::Value as Json;

/// A workload in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The document, from 0.
    pub document: usize,
    /// The JSON pointer of the pod template in the document.
    pub pointer: String,
    /// The kind.
    pub kind: String,
    /// The name, or `generateName`.
    pub name: String,
    /// The namespace, where the manifest says it.
    pub namespace: Option<String>,
}

/// API groups (with any version), kind, pointer of the pod template.
const KINDS: &[(&[&str], &str, &str)] = &[
    (&[""], "Pod", ""),
    (&[""], "PodTemplate", "/template"),
    (&[""], "ReplicationController", "/spec/template"),
    (&["apps", "extensions"], "Deployment", "/spec/template"),
    (&["apps", "extensions"], "ReplicaSet", "/spec/template"),
    (&["apps", "extensions"], "DaemonSet", "/spec/template"),
    (&["apps"], "StatefulSet", "/spec/template"),
    (&["batch"], "Job", "/spec/template"),
    (&["batch"], "CronJob", "/spec/jobTemplate/spec/template"),
];

/// The workloads in one document: itself, or the items of a list.
pub(super) fn find(document: usize, value: &Json) -> Vec<Workload> {
    let kind = value.get("kind").and_then(Json::as_str).unwrap_or_default();
    if kind.ends_with("List") {
        let items = value
            .get("items")
            .and_then(Json::as_array)
            .map_or(&[][..], Vec::as_slice);
        return items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| {
                // The items of a typed list, as a DeploymentList, need not repeat their kind.
                let implied = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
                let version = value.get("apiVersion").and_then(Json::as_str);
                of(
                    document,
                    item,
                    &format!("/items/{index}"),
                    implied.zip(version),
                )
            })
            .collect();
    }
    of(document, value, "", None).into_iter().collect()
}

fn of(
    document: usize,
    value: &Json,
    prefix: &str,
    implied: Option<(&str, &str)>,
) -> Option<Workload> {
    let own = |field: &str| value.get(field).and_then(Json::as_str);
    let kind = own("kind").or(implied.map(|(kind, _)| kind))?;
    let version = own("apiVersion").or(implied.map(|(_, version)| version))?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let (_, _, pointer) = KINDS
        .iter()
        .find(|(groups, known, _)| *known == kind && groups.contains(&group))?;
    if !value.pointer(pointer)?.is_object() {
        return None;
    }
    let metadata = |field: &str| {
        value
            .get("metadata")?
            .get(field)?
            .as_str()
            .map(str::to_owned)
    };
    Some(Workload {
        document,
        pointer: format!("{prefix}{pointer}"),
        kind: kind.to_owned(),
        name: metadata("name")
            .or_else(|| metadata("generateName"))
            .unwrap_or_default(),
        namespace: metadata("namespace").filter(|name| !name.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_found_where_it_keeps_its_template() {
        let template = json!({"metadata": {}, "spec": {"containers": []}});
        for (version, kind, pointer, spec) in [
            (
                "apps/v1",
                "Deployment",
                "/spec/template",
                json!({"template": template}),
            ),
            (
                "extensions/v1beta1",
                "DaemonSet",
                "/spec/template",
                json!({"template": template}),
            ),
            (
                "batch/v1",
                "Job",
                "/spec/template",
                json!({"template": template}),
            ),
            (
                "batch/v1beta1",
                "CronJob",
                "/spec/jobTemplate/spec/template",
                json!({"jobTemplate": {"spec": {"template": template}}}),
            ),
            ("v1", "Pod", "", json!({"containers": []})),
        ] {
            let manifest = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
            let found = find(3, &manifest);
            assert_eq!(found.len(), 1, "{kind}");
            assert_eq!((found[0].document, found[0].pointer.as_str()), (3, pointer));
            let list = json!({"apiVersion": "v1", "kind": "List", "items": [{}, manifest]});
            assert_eq!(find(0, &list)[0].pointer, format!("/items/1{pointer}"));
        }
    }

    #[test]
    fn a_kind_of_another_group_is_left_alone() {
        for version in ["example.com/v1", "serving.knative.dev/v1", "v1", ""] {
            let manifest =
                json!({"apiVersion": version, "kind": "Deployment", "spec": {"template": {}}});
            assert_eq!(find(0, &manifest), []);
        }
        assert_eq!(
            find(
                0,
                &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": null})
            ),
            []
        );
        assert_eq!(find(0, &json!("text")), []);
        assert_eq!(find(0, &json!(null)), []);
    }

    #[test]
    fn items_of_a_typed_list_need_no_kind() {
        let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}, "spec": {}}]});
        assert_eq!(find(0, &list)[0].kind, "Pod");
    }
}
