//! Directories of the application that injected containers see.

use std::borrow::Cow;

use super::plan::{ContainerRef, Plan};
use super::pod::Pod;

/// A volume that holds a directory of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover<'p> {
    /// The volume's name.
    pub volume: Cow<'p, str>,
    /// The directory inside of the volume; its root if empty.
    pub sub_path: Cow<'p, str>,
}

/// Whether two mount paths are the same directory: a slash at the end does not count.
pub fn same_path(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// What remains of `path` below `directory`; `None` if it is not below or the same.
fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    let rest = path
        .trim_end_matches('/')
        .strip_prefix(directory.trim_end_matches('/'))?;
    if rest.is_empty() {
        Some("")
    } else {
        rest.strip_prefix('/')
    }
}

/// The volume that the application already mounts over `path`: the deepest mount of the first container
/// that has one, be it the pod's own or planned for it by another instance.
///
/// # Errors
/// A mount whose `subPathExpr` only the application's container can expand.
pub fn find_cover<'p>(
    pod: &'p Pod<'p>,
    plan: &Plan<'p>,
    containers: &[ContainerRef],
    path: &'p str,
) -> Result<Option<Cover<'p>>, String> {
    for reference in containers {
        let Some(container) = reference.get(pod) else {
            continue;
        };
        let planned = plan.received(pod, *reference).into_iter();
        let planned = planned.flat_map(|received| &received.mounts);
        let deepest = container
            .mounts()
            .iter()
            .chain(planned.map(|planned| &planned.mount))
            .filter_map(|mount| below(path, &mount.mount_path).map(|rest| (mount, rest)))
            // A mount over the root covers everything and shares nothing that was meant.
            .filter(|(mount, _)| !mount.mount_path.trim_end_matches('/').is_empty())
            .min_by_key(|(_, rest)| rest.len());
        let Some((mount, rest)) = deepest else {
            continue;
        };
        if let Some(expression) = mount
            .sub_path_expr
            .as_deref()
            .filter(|text| !text.is_empty())
        {
            return Err(format!(
                "the container {:?} mounts the volume {:?} over {path} with subPathExpr {expression:?}, which no other container can expand",
                &*container.name, &*mount.name
            ));
        }
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        let sub_path = match (sub_path.trim_matches('/'), rest) {
            ("", rest) => Cow::Borrowed(rest),
            (outer, "") => Cow::Owned(outer.to_owned()),
            (outer, rest) => Cow::Owned(format!("{outer}/{rest}")),
        };
        return Ok(Some(Cover {
            volume: mount.name.clone().into(),
            sub_path,
        }));
    }
    Ok(None)
}

/// Mount paths of the application below `path`.
pub fn mounts_below(pod: &Pod<'_>, containers: &[ContainerRef], path: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for mount in containers
        .iter()
        .filter_map(|reference| reference.get(pod))
        .flat_map(|container| container.mounts())
    {
        let inside = below(&mount.mount_path, path).is_some_and(|rest| !rest.is_empty());
        if inside && !found.iter().any(|known| *known == *mount.mount_path) {
            found.push(mount.mount_path.to_string());
        }
    }
    found
}
