//! Decoding of documents, and as Kubernetes types: strictly of templates, before any value is known, and of values
//! that they gave.
//!
//! The API server decodes a patched pod leniently: a misspelt field vanishes without a word. So a
//! profile's trees are decoded here, when the profile is loaded, with unknown fields refused. Where a tree
//! holds an expression, the decoder is given whatever the type at that place wants; every branch is seen,
//! whatever its `includeWhen` says.

use std::cell::RefCell;
use std::fmt;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, LocalObjectReference, Volume, VolumeMount,
};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor};
use serde_json::{Error, Value as Json};

use super::document::ProfileProblem;
use super::template::Template;

/// Decodes each item of a list template as `T`.
///
/// `ours` are keys of an item that are this project's, not Kubernetes'.
pub fn check_items<T: DeserializeOwned>(
    template: &Template,
    path: &str,
    ours: &'static [&'static str],
    problems: &mut Vec<ProfileProblem>,
) {
    match template {
        Template::List(items) => {
            for (index, item) in items.iter().enumerate() {
                check::<T>(item, &format!("{path}[{index}]"), ours, problems);
            }
        }
        Template::Expression(..) | Template::Literal(Json::Null) => {}
        _ => problems.push(ProfileProblem::new(path, "expected a list")),
    }
}

/// Decodes a template as `T`. `ours` are keys of it that are this project's, not Kubernetes'.
pub fn check<T: DeserializeOwned>(
    template: &Template,
    path: &str,
    ours: &'static [&'static str],
    problems: &mut Vec<ProfileProblem>,
) {
    let (decoded, unknown) = track::<T>(Tree::Template(template), path, ours);
    problems.extend(
        unknown
            .into_iter()
            .map(|path| ProfileProblem::new(path, "Kubernetes has no such field")),
    );
    problems.extend(decoded.err());
}

/// Decodes a document as `T`. Beside it, or the first that is wrong, come the paths of unknown fields.
pub fn document<T: DeserializeOwned>(tree: &Json) -> (Result<T, ProfileProblem>, Vec<String>) {
    track(Tree::Value(tree), "", &[])
}

fn track<T: DeserializeOwned>(
    tree: Tree<'_>,
    path: &str,
    ours: &'static [&'static str],
) -> (Result<T, ProfileProblem>, Vec<String>) {
    let findings = RefCell::default();
    let decoded = T::deserialize(Source {
        tree,
        ours,
        path: Path::Root(path),
        findings: Some(&findings),
    });
    let Findings { unknown, fault } = findings.into_inner();
    let decoded = decoded.map_err(|error| {
        let path = fault.unwrap_or_else(|| path.to_owned());
        ProfileProblem::new(path, error.to_string())
    });
    (decoded, unknown)
}

/// Decodes a value as `T`. Unknown fields are passed over: what a template gives may hold one, in an expression's
/// value, and the API server drops it.
///
/// # Errors
///
/// As decoding by `serde_json` has them.
pub fn decode<T: DeserializeOwned>(value: &Json) -> Result<T, Error> {
    T::deserialize(Source {
        tree: Tree::Value(value),
        ours: &[],
        path: Path::Root(""),
        findings: None,
    })
}

/// The Kubernetes types of what templates give.
///
/// By name, because what is generic is compiled where it is used: these are large, and whoever renders is compiled for
/// speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A container.
    Container,
    /// An environment variable.
    EnvVar,
    /// An entry for `/etc/hosts`.
    HostAlias,
    /// The name of an object in the pod's namespace.
    LocalObjectReference,
    /// A volume.
    Volume,
    /// A mount of a volume.
    VolumeMount,
}

impl Type {
    /// Whether the API server can decode a value as this; unknown fields are passed over, as by [`decode`].
    ///
    /// # Errors
    ///
    /// As decoding by `serde_json` has them.
    pub fn check(self, value: &Json) -> Result<(), Error> {
        match self {
            Self::Container => decode::<Container>(value).map(drop),
            Self::EnvVar => decode::<EnvVar>(value).map(drop),
            Self::HostAlias => decode::<HostAlias>(value).map(drop),
            Self::LocalObjectReference => decode::<LocalObjectReference>(value).map(drop),
            Self::Volume => decode::<Volume>(value).map(drop),
            Self::VolumeMount => decode::<VolumeMount>(value).map(drop),
        }
    }
}

/// What decoding finds beside its outcome.
#[derive(Default)]
struct Findings {
    /// The paths of fields that no type has.
    unknown: Vec<String>,
    /// The path of the innermost value that could not be decoded.
    fault: Option<String>,
}

/// Where in a document a tree stands.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root(&'p str),
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(path) => f.write_str(path),
            Self::Field(Path::Root(""), field) => f.write_str(field),
            Self::Field(outer, field) => write!(f, "{outer}.{field}"),
            Self::Index(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

/// What is decoded.
#[derive(Clone, Copy)]
enum Tree<'t> {
    Template(&'t Template),
    Value(&'t Json),
}

/// A tree as something that can be decoded.
///
/// It keeps book of paths and unknown fields itself, and is the only decoder that any type is given here: every
/// Kubernetes type is compiled once more for each other one, such as a wrapper, or a map of another kind.
#[derive(Clone, Copy)]
struct Source<'t> {
    tree: Tree<'t>,
    ours: &'static [&'static str],
    path: Path<'t>,
    /// Where they go, if anyone wants them.
    findings: Option<&'t RefCell<Findings>>,
}

impl<'t> Source<'t> {
    /// Decodes a part of what this tree holds.
    fn inner<'de, S: DeserializeSeed<'de>>(
        &self,
        tree: Tree<'_>,
        path: Path<'_>,
        seed: S,
    ) -> Result<S::Value, Error> {
        let decoded = seed.deserialize(Source {
            tree,
            ours: &[],
            path,
            findings: self.findings,
        });
        if let (Err(_), Some(findings)) = (&decoded, self.findings) {
            let fault = &mut findings.borrow_mut().fault;
            fault.get_or_insert_with(|| path.to_string());
        }
        decoded
    }

    fn list<'de, V: Visitor<'de>>(&self, items: List<'t>, visitor: V) -> Result<V::Value, Error> {
        let mut items = Items {
            list: self,
            items,
            next: 0,
        };
        let decoded = visitor.visit_seq(&mut items)?;
        let length = items.items.len();
        if items.next < length {
            let expected = &"fewer elements in array";
            return Err(de::Error::invalid_length(length, expected));
        }
        Ok(decoded)
    }

    fn mapping<'de, V: Visitor<'de>>(
        &self,
        entries: Mapping<'t>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries {
            mapping: self,
            entries,
            entry: None,
        })
    }

    /// Decodes what the tree holds, or, at an expression, what `wanted` makes up.
    fn or<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        wanted: impl FnOnce(V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Template(Template::Expression(..)) => wanted(visitor),
            Tree::Template(Template::Text(..)) => visitor.visit_str("text"),
            Tree::Template(Template::List(items)) => self.list(List::Templates(items), visitor),
            Tree::Template(Template::Mapping(mapping)) => {
                self.mapping(Mapping::Templates(mapping.entries.iter()), visitor)
            }
            Tree::Template(Template::Literal(value)) | Tree::Value(value) => match value {
                Json::Null => visitor.visit_unit(),
                Json::Bool(value) => visitor.visit_bool(*value),
                Json::Number(value) => value.deserialize_any(visitor),
                Json::String(value) => visitor.visit_str(value),
                Json::Array(items) => self.list(List::Values(items), visitor),
                Json::Object(object) => self.mapping(Mapping::Values(object.iter()), visitor),
            },
        }
    }
}

#[derive(Clone, Copy)]
enum List<'t> {
    Templates(&'t [Template]),
    Values(&'t [Json]),
}

impl<'t> List<'t> {
    fn get(self, index: usize) -> Option<Tree<'t>> {
        match self {
            Self::Templates(items) => items.get(index).map(Tree::Template),
            Self::Values(items) => items.get(index).map(Tree::Value),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Templates(items) => items.len(),
            Self::Values(items) => items.len(),
        }
    }
}

struct Items<'t> {
    list: &'t Source<'t>,
    items: List<'t>,
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let index = self.next;
        let Some(item) = self.items.get(index) else {
            return Ok(None);
        };
        self.next += 1;
        let path = Path::Index(&self.list.path, index);
        self.list.inner(item, path, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

enum Mapping<'t> {
    Templates(std::slice::Iter<'t, (String, Template)>),
    Values(serde_json::map::Iter<'t>),
}

impl<'t> Iterator for Mapping<'t> {
    type Item = (&'t str, Tree<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Templates(entries) => {
                let (key, template) = entries.next()?;
                Some((key, Tree::Template(template)))
            }
            Self::Values(entries) => {
                let (key, value) = entries.next()?;
                Some((key, Tree::Value(value)))
            }
        }
    }
}

struct Entries<'t> {
    mapping: &'t Source<'t>,
    entries: Mapping<'t>,
    /// The one whose key was read.
    entry: Option<(&'t str, Tree<'t>)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let ours = self.mapping.ours;
        self.entry = self.entries.find(|(key, _)| !ours.contains(key));
        self.entry
            .map(|(key, _)| seed.deserialize(de::value::StrDeserializer::new(key)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.entry.take() {
            Some((key, value)) => {
                let path = Path::Field(&self.mapping.path, key);
                self.mapping.inner(value, path, seed)
            }
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }
}

macro_rules! made_up {
    ($($method:ident => $visit:ident($($value:expr)?);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.or(visitor, |visitor| visitor.$visit($($value)?))
        })*
    };
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Error;

    made_up! {
        deserialize_any => visit_i64(1);
        deserialize_bool => visit_bool(true);
        deserialize_i8 => visit_i64(1);
        deserialize_i16 => visit_i64(1);
        deserialize_i32 => visit_i64(1);
        deserialize_i64 => visit_i64(1);
        deserialize_u8 => visit_u64(1);
        deserialize_u16 => visit_u64(1);
        deserialize_u32 => visit_u64(1);
        deserialize_u64 => visit_u64(1);
        deserialize_f32 => visit_f64(1.0);
        deserialize_f64 => visit_f64(1.0);
        deserialize_char => visit_char('t');
        deserialize_str => visit_str("text");
        deserialize_string => visit_str("text");
        deserialize_bytes => visit_bytes(b"text");
        deserialize_byte_buf => visit_bytes(b"text");
        deserialize_identifier => visit_str("text");
        deserialize_unit => visit_unit();
    }

    /// Asked for where no field of the type has the key.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(findings) = self.findings {
            findings.borrow_mut().unknown.push(self.path.to_string());
        }
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Template(Template::Literal(Json::Null)) | Tree::Value(Json::Null) => {
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.or(visitor, |visitor| self.list(List::Templates(&[]), visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.or(visitor, |visitor| {
            self.mapping(Mapping::Templates([].iter()), visitor)
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.tree {
            Tree::Template(Template::Literal(value)) | Tree::Value(value) => {
                value.clone().deserialize_enum(name, variants, visitor)
            }
            _ => visitor.visit_enum(de::value::StrDeserializer::new(
                variants.first().copied().unwrap_or(""),
            )),
        }
    }
}
