//! A pod as the core sees it: borrowed from the bytes it came in, and only the fields that a decision needs.
//!
//! What is not named here is not touched, so a field newer than this program survives. Decoding is lenient
//! where the API server's is (`null` is the same as absent) and strict where a wrong type would make an
//! answer wrong.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::json::{self, Written};

/// Text borrowed from the JSON where it holds no escapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Text<'_> {
    /// The same text, borrowed from this one.
    pub fn borrowed(&self) -> Text<'_> {
        Text(Cow::Borrowed(&self.0))
    }

    /// The same text, on its own.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'a> From<Text<'a>> for Cow<'a, str> {
    fn from(text: Text<'a>) -> Self {
        text.0
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self(text)
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod, or the template of one.
#[derive(Debug, Default, Deserialize)]
pub struct Pod<'a> {
    /// Metadata; absent in a bare template.
    #[serde(borrow, default)]
    pub metadata: Option<Metadata<'a>>,
    /// The spec; absent only in broken input.
    #[serde(borrow, default)]
    pub spec: Option<Spec<'a>>,
}

/// The metadata of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    /// Empty for a pod that a controller makes.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// What a controller gives instead of a name.
    #[serde(borrow, default)]
    pub generate_name: Option<Text<'a>>,
    /// Labels.
    #[serde(borrow, default)]
    pub labels: Option<Pairs<'a>>,
    /// Annotations.
    #[serde(borrow, default)]
    pub annotations: Option<Pairs<'a>>,
    /// Who made it, as written: only a denial asks.
    #[serde(borrow, default)]
    pub owner_references: Option<Written<'a>>,
}

/// One of those who own an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference<'a> {
    /// Group and version.
    #[serde(borrow, default)]
    pub api_version: Text<'a>,
    /// Kind.
    #[serde(borrow, default)]
    pub kind: Text<'a>,
    /// Name; it is in the pod's namespace or in none.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Unique id.
    #[serde(borrow, default)]
    pub uid: Text<'a>,
    /// Whether it is the one that made the pod.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// A map of strings, in the order written.
#[derive(Debug, Default, Clone)]
pub struct Pairs<'a>(pub Vec<(Text<'a>, Text<'a>)>);

impl<'a> Pairs<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| **known == *key)
            .map(|(_, value)| &**value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs: Vec<(Text<'de>, Text<'de>)> = Vec::with_capacity(8);
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    // A null value is an empty string to Kubernetes' decoder.
                    let value = map.next_value::<Option<Text<'de>>>()?.unwrap_or_default();
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

/// The spec of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// Init containers, native sidecars among them.
    #[serde(borrow, default)]
    pub init_containers: Option<Vec<Container<'a>>>,
    /// Ordinary containers.
    #[serde(borrow, default)]
    pub containers: Option<Vec<Container<'a>>>,
    /// Volumes.
    #[serde(borrow, default)]
    pub volumes: Option<Vec<Volume<'a>>>,
    /// `Always` if absent.
    #[serde(borrow, default)]
    pub restart_policy: Option<Text<'a>>,
    /// Whether the pod uses the node's network.
    #[serde(default)]
    pub host_network: Option<bool>,
    /// The security context, as written.
    #[serde(borrow, default)]
    pub security_context: Option<Written<'a>>,
    /// The operating system, where the pod says.
    #[serde(borrow, default)]
    pub os: Option<Os<'a>>,
    /// Whether the containers see each other's processes.
    #[serde(default)]
    pub share_process_namespace: Option<bool>,
    /// Whether the containers see the processes of the node.
    #[serde(rename = "hostPID", default)]
    pub host_pid: Option<bool>,
    /// Image pull secrets.
    #[serde(borrow, default)]
    pub image_pull_secrets: Option<Vec<Named<'a>>>,
    /// Entries for `/etc/hosts`, as written.
    #[serde(borrow, default)]
    pub host_aliases: Option<Vec<Written<'a>>>,
    /// Resources of the pod as a whole.
    #[serde(borrow, default)]
    pub resources: Option<Resources<'a>>,
}

/// Something of which only the name matters.
#[derive(Debug, Default, Deserialize)]
pub struct Named<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
}

/// The operating system of a pod.
#[derive(Debug, Default, Deserialize)]
pub struct Os<'a> {
    /// `linux` or `windows`.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
}

/// A container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// `command`, as written.
    #[serde(borrow, default)]
    pub command: Option<Written<'a>>,
    /// `args`, as written.
    #[serde(borrow, default)]
    pub args: Option<Written<'a>>,
    /// Ports.
    #[serde(borrow, default)]
    pub ports: Option<Vec<Port<'a>>>,
    /// Environment variables.
    #[serde(borrow, default)]
    pub env: Option<Vec<Env<'a>>>,
    /// Mounts.
    #[serde(borrow, default)]
    pub volume_mounts: Option<Vec<Mount<'a>>>,
    /// `Always` makes an init container a native sidecar.
    #[serde(borrow, default)]
    pub restart_policy: Option<Text<'a>>,
    /// Requests and limits.
    #[serde(borrow, default)]
    pub resources: Option<Resources<'a>>,
}

impl Container<'_> {
    /// The same container on its own, but for what is kept as written (`command`, `args`, `env[].valueFrom`).
    pub fn into_owned(self) -> Container<'static> {
        fn list<T, O>(items: Option<Vec<T>>, owned: impl Fn(T) -> O) -> Option<Vec<O>> {
            items.map(|items| items.into_iter().map(owned).collect())
        }
        Container {
            name: self.name.into_owned(),
            command: None,
            args: None,
            ports: list(self.ports, |port| Port {
                name: port.name.map(Text::into_owned),
                container_port: port.container_port,
                host_port: port.host_port,
                protocol: port.protocol.map(Text::into_owned),
            }),
            env: list(self.env, |env| Env {
                name: env.name.into_owned(),
                value: env.value.map(Text::into_owned),
                value_from: None,
            }),
            volume_mounts: list(self.volume_mounts, Mount::into_owned),
            restart_policy: self.restart_policy.map(Text::into_owned),
            resources: self.resources.map(|resources| Resources {
                requests: resources.requests.map(Quantities::into_owned),
                limits: resources.limits.map(Quantities::into_owned),
            }),
        }
    }

    /// Whether an init container of this shape is a native sidecar (KEP-753).
    pub fn is_native_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port<'_>] {
        self.ports.as_deref().unwrap_or_default()
    }

    /// Its environment.
    pub fn env(&self) -> &[Env<'_>] {
        self.env.as_deref().unwrap_or_default()
    }

    /// Its mounts.
    pub fn mounts(&self) -> &[Mount<'_>] {
        self.volume_mounts.as_deref().unwrap_or_default()
    }
}

/// A port of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Its number.
    #[serde(default)]
    pub container_port: i64,
    /// The node's port, where it has one.
    #[serde(default)]
    pub host_port: Option<i64>,
    /// `TCP` if absent.
    #[serde(borrow, default)]
    pub protocol: Option<Text<'a>>,
}

impl Port<'_> {
    /// Its protocol.
    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or("TCP")
    }
}

/// An environment variable.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Env<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Its value, where it is given.
    #[serde(borrow, default)]
    pub value: Option<Text<'a>>,
    /// Its source, as written.
    #[serde(borrow, default)]
    pub value_from: Option<Written<'a>>,
}

/// A mount of a volume.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount<'a> {
    /// The volume's name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
    /// Where.
    #[serde(borrow, default)]
    pub mount_path: Text<'a>,
    /// A path inside of the volume.
    #[serde(borrow, default)]
    pub sub_path: Option<Text<'a>>,
    /// The same, with variables.
    #[serde(borrow, default)]
    pub sub_path_expr: Option<Text<'a>>,
    /// Whether it is read-only.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// How mounts spread.
    #[serde(borrow, default)]
    pub mount_propagation: Option<Text<'a>>,
}

impl Mount<'_> {
    /// The same mount, borrowed from this one.
    pub fn borrowed(&self) -> Mount<'_> {
        Mount {
            name: self.name.borrowed(),
            mount_path: self.mount_path.borrowed(),
            sub_path: self.sub_path.as_ref().map(Text::borrowed),
            sub_path_expr: self.sub_path_expr.as_ref().map(Text::borrowed),
            read_only: self.read_only,
            mount_propagation: self.mount_propagation.as_ref().map(Text::borrowed),
        }
    }

    /// The same mount, on its own.
    pub fn into_owned(self) -> Mount<'static> {
        Mount {
            name: self.name.into_owned(),
            mount_path: self.mount_path.into_owned(),
            sub_path: self.sub_path.map(Text::into_owned),
            sub_path_expr: self.sub_path_expr.map(Text::into_owned),
            read_only: self.read_only,
            mount_propagation: self.mount_propagation.map(Text::into_owned),
        }
    }
}

/// A volume: its name is all that matters, and what kind it is does not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Text<'a>,
}

/// Requests and limits.
#[derive(Debug, Default, Deserialize)]
pub struct Resources<'a> {
    /// Requests by resource.
    #[serde(borrow, default)]
    pub requests: Option<Quantities<'a>>,
    /// Limits by resource.
    #[serde(borrow, default)]
    pub limits: Option<Quantities<'a>>,
}

/// Quantities by resource; a quantity may be written as a number.
#[derive(Debug, Default)]
pub struct Quantities<'a>(pub Vec<(Text<'a>, Cow<'a, str>)>);

impl Quantities<'_> {
    /// The same quantities, on their own.
    pub fn into_owned(self) -> Quantities<'static> {
        let owned = |(resource, quantity): (Text<'_>, Cow<'_, str>)| {
            (resource.into_owned(), Cow::Owned(quantity.into_owned()))
        };
        Quantities(self.0.into_iter().map(owned).collect())
    }

    /// The quantity of a resource.
    pub fn get(&self, resource: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| **known == *resource)
            .map(|(_, quantity)| &**quantity)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Quantities<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuantitiesVisitor;

        impl<'de> Visitor<'de> for QuantitiesVisitor {
            type Value = Quantities<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of quantities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quantities<'de>, A::Error> {
                let mut quantities = Vec::with_capacity(4);
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    let text = map.next_value::<Written<'de>>()?.get();
                    let quantity = match text
                        .strip_prefix('"')
                        .and_then(|text| text.strip_suffix('"'))
                    {
                        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
                        Some(_) => Cow::Owned(
                            serde_json::from_str(text).map_err(serde::de::Error::custom)?,
                        ),
                        None => Cow::Borrowed(text),
                    };
                    quantities.push((key, quantity));
                }
                Ok(Quantities(quantities))
            }
        }

        deserializer.deserialize_map(QuantitiesVisitor)
    }
}

impl<'a> Pod<'a> {
    /// The pod in these bytes of JSON.
    ///
    /// # Errors
    /// Bytes that are no JSON, or a field that the core reads with a type that Kubernetes would refuse.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        // At once, which is faster than string by string; for the wording of what is wrong `serde_json` is asked.
        match std::str::from_utf8(bytes) {
            Ok(text) => json::from_str(text),
            Err(_) => serde_json::from_slice(bytes),
        }
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.annotations.as_ref()?.get(key)
    }

    /// All annotations.
    pub fn annotations(&self) -> &[(Text<'a>, Text<'a>)] {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref())
            .map_or(&[], |annotations| annotations.0.as_slice())
    }

    /// All labels.
    pub fn labels(&self) -> &[(Text<'a>, Text<'a>)] {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref())
            .map_or(&[], |labels| labels.0.as_slice())
    }

    /// Init containers.
    pub fn init_containers(&self) -> &[Container<'a>] {
        self.spec
            .as_ref()
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default()
    }

    /// Ordinary containers.
    pub fn containers(&self) -> &[Container<'a>] {
        self.spec
            .as_ref()
            .and_then(|spec| spec.containers.as_deref())
            .unwrap_or_default()
    }

    /// Volumes.
    pub fn volumes(&self) -> &[Volume<'a>] {
        self.spec
            .as_ref()
            .and_then(|spec| spec.volumes.as_deref())
            .unwrap_or_default()
    }

    /// Who made the pod: the owner that is its controller, else the first. `None` when it has none, or they cannot be
    /// read.
    pub fn owner(&self) -> Option<OwnerReference<'a>> {
        let written = self.metadata.as_ref()?.owner_references?;
        let mut owners: Vec<OwnerReference<'a>> = serde_json::from_str(written.get()).ok()?;
        let controller = owners.iter().position(|it| it.controller == Some(true));
        let index = controller.unwrap_or_default();
        (index < owners.len()).then(|| owners.swap_remove(index))
    }

    /// The name, or what a controller gives instead of one.
    pub fn name(&self) -> &str {
        let Some(metadata) = &self.metadata else {
            return "";
        };
        match metadata.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => metadata.generate_name.as_deref().unwrap_or_default(),
        }
    }
}
