//! A workload drawn as a Mermaid flowchart, for people.
//!
//! The picture shows what the pod template says and nothing else: who calls whom on localhost, or whether
//! something listens on a declared port, is not known here. Every text that comes from a manifest goes
//! through `label`; ids are made of positions, so that no name can be mistaken for syntax.

use std::collections::BTreeSet;

use serde_json::Value;

use super::inject::title;
use crate::inject::status::{Record, Status};
use crate::manifest::Workload;

/// Where the kubelet mounts the API token, unless a container mounts something there itself.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Fill, border and text are all given, for a colour that is left to the theme is unreadable on the other one.
const ADDED: &str = "fill:#cfe3ff,stroke:#1f5fbf,color:#0b2545";
const OWN: &str = "fill:#eceff3,stroke:#6b7280,color:#1f2933";

/// The drawing of a workload in a Markdown code block, as it is: to be called after injection.
pub fn fenced(workload: &Workload<'_>) -> String {
    let claims: BTreeSet<&str> = list(&workload.object["spec"], "volumeClaimTemplates")
        .iter()
        .map(|claim| text(&claim["metadata"], "name"))
        .collect();
    let chart = chart(&title(workload), workload.pod, &claims);
    format!("```mermaid\n{chart}```\n")
}

/// The flowchart of a pod template. `claims` are the volumes that a StatefulSet adds to it.
fn chart(title: &str, pod: &Value, claims: &BTreeSet<&str>) -> String {
    let annotation = pod["metadata"]["annotations"]["outrigger.dev/status"].as_str();
    let status = Status::parse(annotation);
    let containers = containers(&pod["spec"], &status);
    let volumes = volumes(&pod["spec"], &status, &containers, claims);

    let mut lines = vec!["flowchart TB".to_owned()];
    lines.push(format!("  subgraph pod[\"{}\"]", label(title)));
    lines.extend(containers.iter().map(|each| format!("    {}", each.node())));
    lines.extend(volumes.iter().map(|each| format!("    {}", each.node())));
    lines.push("  end".to_owned());
    lines.extend(start_order(&containers));
    for container in &containers {
        lines.extend(volumes.iter().flat_map(|each| each.mounts(container)));
    }

    let nodes = containers
        .iter()
        .map(|each| (each.id.as_str(), each.added))
        .chain(volumes.iter().map(|each| (each.id.as_str(), each.added)));
    let (added, own): (Vec<_>, Vec<_>) = nodes.partition(|(_, added)| *added);
    for (class, style, nodes) in [("added", ADDED, added), ("own", OWN, own)] {
        if !nodes.is_empty() {
            let ids: Vec<_> = nodes.iter().map(|(id, _)| *id).collect();
            lines.push(format!("  classDef {class} {style}"));
            lines.push(format!("  class {} {class}", ids.join(",")));
        }
    }
    lines.push("  style pod fill:none,stroke:#6b7280".to_owned());
    lines.join("\n") + "\n"
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Init,
    Sidecar,
    Application,
}

struct Container<'a> {
    id: String,
    role: Role,
    added: bool,
    object: &'a Value,
}

/// Init containers in start order, then the others.
fn containers<'a>(spec: &'a Value, status: &Status) -> Vec<Container<'a>> {
    let of = |key, prefix: &'static str, names: fn(&Record) -> &Vec<String>| {
        list(spec, key)
            .iter()
            .enumerate()
            .map(move |(index, object)| Container {
                id: format!("{prefix}{}", index + 1),
                role: match (prefix, text(object, "restartPolicy")) {
                    ("init", "Always") => Role::Sidecar,
                    ("init", _) => Role::Init,
                    _ => Role::Application,
                },
                added: claims(status, names, text(object, "name")),
                object,
            })
    };
    of("initContainers", "init", |record| &record.init_containers)
        .chain(of("containers", "app", |record| &record.containers))
        .collect()
}

impl Container<'_> {
    fn node(&self) -> String {
        let (id, name) = (&self.id, label(text(self.object, "name")));
        match self.role {
            // Gone by the time that the pod gets requests, so its ports are not worth a line.
            Role::Init => format!("{id}[\"{name}<br/>init container\"]"),
            Role::Sidecar => format!("{id}([\"{name}<br/>sidecar{}\"])", self.ports()),
            Role::Application => format!("{id}[\"{name}{}\"]", self.ports()),
        }
    }

    /// Ports as lines of the node. No arrow leads to them: a declared port may be one of the pod's loopback.
    fn ports(&self) -> String {
        let ports = list(self.object, "ports").iter();
        ports.map(|each| format!("<br/>{}", port(each))).collect()
    }

    /// What is mounted from a volume, read-only or not: the path in the container.
    fn mounts<'b>(&'b self, volume: &'b str) -> impl Iterator<Item = Mount> + 'b {
        let all = |key| list(self.object, key).iter();
        let here = move |mount: &&Value| text(mount, "name") == volume;
        let mounts = all("volumeMounts").filter(here).map(|mount| {
            let path = text(mount, "mountPath");
            let part = ["subPath", "subPathExpr"]
                .map(|key| text(mount, key))
                .into_iter()
                .find(|part| !part.is_empty());
            Mount {
                token: path.trim_end_matches('/') == TOKEN_PATH,
                read_only: mount["readOnly"] == true,
                path: match part {
                    Some(part) => format!("{} (subPath {})", label(path), label(part)),
                    None => label(path),
                },
            }
        });
        let devices = all("volumeDevices").filter(here).map(|device| Mount {
            token: false,
            read_only: false,
            path: label(text(device, "devicePath")),
        });
        mounts.chain(devices)
    }
}

struct Mount {
    /// Whether it is where the API token would be.
    token: bool,
    read_only: bool,
    /// As a label.
    path: String,
}

/// `port 8443 https`, `port 53/UDP dns`, `port 8080, hostPort 80`.
fn port(port: &Value) -> String {
    let mut shown = format!("port {}", port["containerPort"]);
    let protocol = text(port, "protocol");
    if !matches!(protocol, "" | "TCP") {
        shown = format!("{shown}/{protocol}");
    }
    let name = text(port, "name");
    if !name.is_empty() {
        shown = format!("{shown} {name}");
    }
    if let Some(host) = port["hostPort"].as_u64().filter(|host| *host != 0) {
        shown = format!("{shown}, hostPort {host}");
    }
    label(&shown)
}

/// A container starts when the init container before it is done, or, if that is a sidecar, has started.
fn start_order(containers: &[Container<'_>]) -> Option<String> {
    let (last, first): (Vec<_>, Vec<_>) = containers
        .iter()
        .partition(|each| each.role == Role::Application);
    let ids = |of: &[&Container<'_>], between: &str| {
        let ids: Vec<_> = of.iter().map(|each| each.id.as_str()).collect();
        ids.join(between)
    };
    let steps = [ids(&first, " --> "), ids(&last, " & ")];
    (containers.len() > 1 && !first.is_empty()).then(|| {
        let steps: Vec<_> = steps.into_iter().filter(|step| !step.is_empty()).collect();
        format!("  {}", steps.join(" --> "))
    })
}

struct Volume<'a> {
    id: String,
    name: &'a str,
    added: bool,
    contents: Contents,
    /// Whether no mount of it can be written to, whatever the mount says.
    read_only: bool,
}

enum Contents {
    /// As a label; empty if nothing is known.
    Kind(String),
    /// Generated files: their names, as labels.
    Files(Vec<String>),
}

/// The volumes that are worth drawing, in the pod's order, then those that only the mounts tell of.
fn volumes<'a>(
    spec: &'a Value,
    status: &Status,
    containers: &'a [Container<'a>],
    claims_of_set: &BTreeSet<&str>,
) -> Vec<Volume<'a>> {
    let null = &Value::Null;
    let mut found: Vec<(&str, &Value)> = list(spec, "volumes")
        .iter()
        .map(|volume| (text(volume, "name"), volume))
        .collect();
    for container in containers {
        for key in ["volumeMounts", "volumeDevices"] {
            for mount in list(container.object, key) {
                let name = text(mount, "name");
                if found.iter().all(|(known, _)| *known != name) {
                    found.push((name, null));
                }
            }
        }
    }
    found
        .into_iter()
        .filter(|(name, _)| !only_hides_token(name, containers))
        .enumerate()
        .map(|(index, (name, volume))| {
            let added = claims(status, |record| &record.volumes, name);
            let (contents, read_only) = if claims_of_set.contains(name) {
                (Contents::Kind("PVC of this pod".to_owned()), false)
            } else if let Some(files) = generated(name, volume, status) {
                (Contents::Files(files), true)
            } else {
                kind(volume)
            };
            Volume {
                id: format!("volume{}", index + 1),
                name,
                added,
                contents,
                read_only,
            }
        })
        .collect()
}

/// Whether a volume is there for nothing but to keep a container from the API token.
fn only_hides_token(volume: &str, containers: &[Container<'_>]) -> bool {
    let mut mounts = containers
        .iter()
        .flat_map(|each| each.mounts(volume))
        .peekable();
    mounts.peek().is_some() && mounts.all(|mount| mount.token)
}

/// The names of the files that were generated for an instance, if the volume holds them.
fn generated(name: &str, volume: &Value, status: &Status) -> Option<Vec<String>> {
    let ours = status.instances.iter().any(|record| {
        name.strip_suffix("-files") == Some(record.instance.as_str())
            && record.volumes.iter().any(|volume| volume == name)
    });
    let items = volume.get("downwardAPI").filter(|_| ours)?;
    let paths = list(items, "items").iter().map(|item| text(item, "path"));
    Some(paths.map(label).collect())
}

/// What a volume is, as a label, and whether it cannot be written to.
fn kind(volume: &Value) -> (Contents, bool) {
    let Some(volume) = volume.as_object() else {
        return (Contents::Kind(String::new()), false);
    };
    // A volume without a source is an emptyDir: the API server's default.
    let (key, source) = volume
        .iter()
        .find(|(key, source)| *key != "name" && !source.is_null())
        .map_or(("emptyDir", &Value::Null), |(key, source)| {
            (key.as_str(), source)
        });
    let (shown, detail) = match key {
        "emptyDir" => ("emptyDir", text(source, "medium")),
        "secret" => ("Secret", text(source, "secretName")),
        "configMap" => ("ConfigMap", text(source, "name")),
        "csi" => ("CSI", text(source, "driver")),
        "hostPath" => ("hostPath", text(source, "path")),
        "persistentVolumeClaim" => ("PVC", text(source, "claimName")),
        "image" => ("image", text(source, "reference")),
        other => (other, ""),
    };
    // These the kubelet mounts read-only in any case.
    let always = ["secret", "configMap", "downwardAPI", "projected", "image"].contains(&key);
    let separator = match (key, detail) {
        (_, "") => "",
        ("emptyDir", _) => ", ",
        _ => " ",
    };
    (
        Contents::Kind(label(&format!("{shown}{separator}{detail}"))),
        always || source["readOnly"] == true,
    )
}

impl Volume<'_> {
    fn node(&self) -> String {
        let (id, name) = (&self.id, label(self.name));
        match &self.contents {
            Contents::Kind(kind) if kind.is_empty() => format!("{id}[(\"{name}\")]"),
            Contents::Kind(kind) => format!("{id}[(\"{name}<br/>{kind}\")]"),
            // A label beside the shape would be read as YAML, and then as Markdown: `__init__.py` in bold.
            Contents::Files(files) => {
                format!(
                    "{id}[\"{}\"]\n    {id}@{{ shape: doc }}",
                    files.join("<br/>")
                )
            }
        }
    }

    /// The arrows between the volume and a container, in the direction that data can go.
    fn mounts(&self, container: &Container<'_>) -> Vec<String> {
        let (read, written): (Vec<_>, Vec<_>) = container
            .mounts(self.name)
            .partition(|mount| mount.read_only || self.read_only);
        let paths =
            |mounts: Vec<Mount>| -> Vec<_> { mounts.into_iter().map(|mount| mount.path).collect() };
        let (read, written) = (paths(read), paths(written));
        let mut arrows = Vec::new();
        if !written.is_empty() {
            arrows.push(arrow(&container.id, "-.->", &written, &self.id));
        }
        if !read.is_empty() {
            arrows.push(arrow(&self.id, "-.->", &read, &container.id));
        }
        arrows
    }
}

fn arrow(from: &str, line: &str, labels: &[String], to: &str) -> String {
    format!("  {from} {line}|\"{}\"| {to}", labels.join("<br/>"))
}

/// Whether an instance claims to have added a thing of that name.
fn claims(status: &Status, names: fn(&Record) -> &Vec<String>, name: &str) -> bool {
    status
        .instances
        .iter()
        .any(|record| names(record).iter().any(|claimed| claimed == name))
}

/// Text for a place between double quotes.
///
/// What is not plainly text becomes an entity: it could end the label (`"`), be HTML (`<`), an entity (`#`),
/// an escape (`\`), Markdown (`*`), a directive (`%%{`), the end of the code block, or something that a
/// later Mermaid thinks of.
fn label(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' | '-' | '.' | '/' | ',' | '(' | ')' => out.push(character),
            '"' => out.push_str("#quot;"),
            '&' => out.push_str("#amp;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            // Formulas are looked for when entities have been resolved, and one that is wrong is the end of
            // the whole drawing. A word joiner keeps one dollar from the next.
            '$' => out.push_str("#36;#8288;"),
            _ if character.is_alphanumeric() => out.push(character),
            _ if character.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push_str(&format!("#{};", u32::from(character))),
        }
    }
    out
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(pod: &Value) -> String {
        chart("Pod shop/web", pod, &BTreeSet::from(["data"]))
    }

    /// The lines between the pod's title and the colours, without indentation.
    fn lines(spec: Value) -> Vec<String> {
        drawn(&json!({"spec": spec}))
            .lines()
            .map(str::trim)
            .filter(|line| {
                !["flowchart", "subgraph", "classDef", "class ", "style"]
                    .iter()
                    .any(|start| line.starts_with(start))
            })
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn what_was_added_is_told_from_the_users_own() {
        let status = json!({"instances": [{
            "instance": "tls", "profile": "p", "revision": "r",
            "initContainers": ["tls"], "containers": ["late"],
            "volumes": ["tls-files", "run", "tls-no-token"], "files": ["a.json"],
        }]});
        let token = json!({"name": "tls-no-token", "mountPath": TOKEN_PATH, "readOnly": true});
        let pod = json!({
            "metadata": {"annotations": {"outrigger.dev/status": status.to_string()}},
            "spec": {
                "initContainers": [
                    {"name": "tls", "restartPolicy": "Always", "ports": [{"containerPort": 8443, "name": "https"}],
                     "volumeMounts": [{"name": "tls-files", "mountPath": "/etc/tls", "readOnly": true}, token]},
                    {"name": "prepare", "ports": [{"containerPort": 1}]},
                ],
                "containers": [
                    {"name": "web", "volumeMounts": [{"name": "run", "mountPath": "/run"}]},
                    {"name": "late"},
                ],
                "volumes": [
                    {"name": "tls-no-token", "emptyDir": {}},
                    {"name": "tls-files", "downwardAPI": {"items": [{"path": "a.json"}, {"path": "__b__.json"}]}},
                    {"name": "web-files", "downwardAPI": {"items": [{"path": "labels"}]}},
                    {"name": "run", "emptyDir": {"medium": "Memory"}},
                ],
            },
        });
        assert_eq!(
            drawn(&pod),
            r#"flowchart TB
  subgraph pod["Pod shop/web"]
    init1(["tls<br/>sidecar<br/>port 8443 https"])
    init2["prepare<br/>init container"]
    app1["web"]
    app2["late"]
    volume1["a.json<br/>#95;#95;b#95;#95;.json"]
    volume1@{ shape: doc }
    volume2[("web-files<br/>downwardAPI")]
    volume3[("run<br/>emptyDir, Memory")]
  end
  init1 --> init2 --> app1 & app2
  volume1 -.->|"/etc/tls"| init1
  app1 -.->|"/run"| volume3
  classDef added fill:#cfe3ff,stroke:#1f5fbf,color:#0b2545
  class init1,app2,volume1,volume3 added
  classDef own fill:#eceff3,stroke:#6b7280,color:#1f2933
  class init2,app1,volume2 own
  style pod fill:none,stroke:#6b7280
"#
        );
    }

    #[test]
    fn every_kind_of_volume_has_its_label() {
        let cases = [
            (json!({"emptyDir": {}}), "emptyDir"),
            (json!({}), "emptyDir"),
            (json!({"secret": {"secretName": "s"}}), "Secret s"),
            (json!({"configMap": {"name": "c"}}), "ConfigMap c"),
            (
                json!({"csi": {"driver": "csi.cert-manager.io"}}),
                "CSI csi.cert-manager.io",
            ),
            (
                json!({"hostPath": {"path": "/var/log"}}),
                "hostPath /var/log",
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "p"}}),
                "PVC p",
            ),
            (json!({"projected": {"sources": []}}), "projected"),
            (json!({"downwardAPI": {"items": []}}), "downwardAPI"),
            (json!({"image": {"reference": "r/i:1"}}), "image r/i#58;1"),
            (json!({"nfs": {"server": "n"}}), "nfs"),
        ];
        for (mut volume, expected) in cases {
            volume["name"] = json!("v");
            assert_eq!(
                lines(json!({"volumes": [volume]})),
                [format!("volume1[(\"v<br/>{expected}\")]"), "end".to_owned()]
            );
        }
    }

    #[test]
    fn arrows_of_mounts_point_where_data_can_go() {
        let mounts = json!([
            {"name": "both", "mountPath": "/w"},
            {"name": "both", "mountPath": "/w2", "subPath": "part"},
            {"name": "both", "mountPath": "/r", "readOnly": true},
            // The kubelet mounts a Secret read-only whether the mount says so or not.
            {"name": "secret", "mountPath": "/s", "readOnly": false},
            {"name": "claim", "mountPath": "/p"},
            {"name": "data", "mountPath": "/data"},
            {"name": "unknown", "mountPath": "/u"},
        ]);
        let spec = json!({
            "containers": [{"name": "web", "volumeMounts": mounts,
                "volumeDevices": [{"name": "block", "devicePath": "/dev/xvda"}]}],
            "volumes": [
                {"name": "both", "emptyDir": {}},
                {"name": "secret", "secret": {"secretName": "s"}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": "p", "readOnly": true}},
                {"name": "block", "persistentVolumeClaim": {"claimName": "b"}},
            ],
        });
        assert_eq!(
            lines(spec)[1..],
            [
                "volume1[(\"both<br/>emptyDir\")]",
                "volume2[(\"secret<br/>Secret s\")]",
                "volume3[(\"claim<br/>PVC p\")]",
                "volume4[(\"block<br/>PVC b\")]",
                "volume5[(\"data<br/>PVC of this pod\")]",
                "volume6[(\"unknown\")]",
                "end",
                "app1 -.->|\"/w<br/>/w2 (subPath part)\"| volume1",
                "volume1 -.->|\"/r\"| app1",
                "volume2 -.->|\"/s\"| app1",
                "volume3 -.->|\"/p\"| app1",
                "app1 -.->|\"/dev/xvda\"| volume4",
                "app1 -.->|\"/data\"| volume5",
                "app1 -.->|\"/u\"| volume6",
            ]
        );
    }

    #[test]
    fn a_volume_over_the_token_is_left_out_unless_it_is_used_elsewhere_too() {
        let spec = |elsewhere: &str| {
            json!({
                "containers": [
                    {"name": "a", "volumeMounts": [{"name": "v", "mountPath": format!("{TOKEN_PATH}/")}]},
                    {"name": "b", "volumeMounts": [{"name": "v", "mountPath": elsewhere}]},
                ],
                "volumes": [{"name": "v", "emptyDir": {}}],
            })
        };
        assert!(!drawn(&json!({"spec": spec(TOKEN_PATH)})).contains("volume"));
        assert!(lines(spec("/tmp")).contains(&"app2 -.->|\"/tmp\"| volume1".to_owned()));
    }

    #[test]
    fn ports_say_what_is_unusual_about_them() {
        let ports = json!([
            {"containerPort": 8080, "protocol": "TCP"},
            {"containerPort": 53, "protocol": "UDP", "name": "dns", "hostPort": 5353},
        ]);
        assert_eq!(
            lines(json!({"containers": [{"name": "a", "ports": ports}]})),
            [
                "app1[\"a<br/>port 8080<br/>port 53/UDP dns, hostPort 5353\"]",
                "end"
            ]
        );
    }

    #[test]
    fn the_order_of_the_start_is_drawn_if_there_is_one() {
        let named =
            |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
        let cases = [
            (vec!["a"], vec!["b"], Some("init1 --> app1")),
            (vec!["a", "b"], vec![], Some("init1 --> init2")),
            (vec!["a"], vec![], None),
            (vec![], vec!["a", "b"], None),
        ];
        for (init, containers, expected) in cases {
            let spec = json!({"initContainers": named(&init), "containers": named(&containers)});
            let drawn = lines(spec);
            let order = drawn.iter().find(|line| line.contains("-->"));
            assert_eq!(order.map(String::as_str), expected);
        }
    }

    /// Whatever a name holds, between its quotes stand only harmless characters, entities and our own line
    /// breaks, and there are as many lines and quotes as for a plain name.
    #[test]
    fn no_name_breaks_out_of_its_label() {
        let pod = |name: &str| {
            let status = json!({"instances": [{"instance": name, "profile": "p", "revision": "r",
                "initContainers": [name], "volumes": [format!("{name}-files")]}]});
            json!({
                "metadata": {"annotations": {"outrigger.dev/status": status.to_string()}},
                "spec": {
                    "initContainers": [{"name": name}],
                    "containers": [{
                        "name": name,
                        "ports": [{"containerPort": 1, "name": name, "protocol": name}],
                        "volumeMounts": [{"name": name, "mountPath": name, "subPath": name}],
                    }],
                    "volumes": [
                        {"name": name, "hostPath": {"path": name}},
                        {"name": format!("{name}-files"), "downwardAPI": {"items": [{"path": name}]}},
                        {"name": format!("{name}-other"), name: {}},
                    ],
                },
            })
        };
        let draw = |name: &str| chart(name, &pod(name), &BTreeSet::new());
        let outside = |chart: &str| -> String { chart.split('"').step_by(2).collect() };
        let plain = draw("plain");
        for name in [
            "end",
            "a\"] --> b[\"x",
            "a\nend\n```\n# b",
            "a\r\u{2028}\u{85}b",
            "%%{init: {\"theme\": \"dark\"}}%%",
            "<img src=x onerror=alert(1)>&lt;",
            "#quot;#35;",
            "`**b** __c__`",
            "$$\\frac{$$",
            "classDef x:#fff;",
            "fl°°34¶ß",
            "back\\slash\\",
            "名前 ñ",
            "|'{}[]()@~^*=+?!",
            "",
        ] {
            let hostile = draw(name);
            assert_eq!(outside(&hostile), outside(&plain), "{hostile}");
            for inside in hostile.split('"').skip(1).step_by(2) {
                let rest = inside.replace("<br/>", "");
                let mut entities = rest.split('#');
                let mut text = entities.next().unwrap().to_owned();
                for entity in entities {
                    let (code, after) = entity.split_once(';').unwrap();
                    assert!(code.chars().all(|each| each.is_ascii_alphanumeric()));
                    text.push_str(after);
                }
                assert!(
                    text.chars()
                        .all(|each| each.is_alphanumeric() || " -./,()\u{fffd}".contains(each)),
                    "{inside}"
                );
            }
        }
        assert_eq!(
            label("a<b>&\"#1;\n名"),
            "a#lt;b#gt;#amp;#quot;#35;1#59;\u{fffd}名"
        );
        assert!(!label("$$x$$").contains("#36;#36;"));
    }

    #[test]
    fn a_pod_without_a_spec_is_an_empty_box() {
        assert_eq!(
            drawn(&json!({})),
            "flowchart TB\n  subgraph pod[\"Pod shop/web\"]\n  end\n  style pod fill:none,stroke:#6b7280\n"
        );
    }
}
