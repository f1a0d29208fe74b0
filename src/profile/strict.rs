//! Strict decoding of templates as Kubernetes types, before any value is known.
//!
//! The API server decodes a patched pod leniently: a misspelt field vanishes without a word. So a
//! profile's trees are decoded here, when the profile is loaded, with unknown fields refused. Where a tree
//! holds an expression, the decoder is given whatever the type at that place wants; every branch is seen,
//! whatever its `includeWhen` says.

use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor};
use serde_json::{Error, Value as Json};

use super::document::{ProfileProblem, clean_path};
use super::template::{Mapping, Template};

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
    let join = |inner: &str| {
        let inner = clean_path(inner);
        match inner.as_str() {
            "" => path.to_owned(),
            index if index.starts_with('[') => format!("{path}{index}"),
            field => format!("{path}.{field}"),
        }
    };
    let mut unknown = Vec::new();
    let decoded: Result<T, _> = {
        let mut note = |field: serde_ignored::Path<'_>| {
            unknown.push(ProfileProblem::new(
                join(&field.to_string()),
                "Kubernetes has no such field",
            ));
        };
        let sample = Sample { template, ours };
        serde_path_to_error::deserialize(serde_ignored::Deserializer::new(sample, &mut note))
    };
    problems.append(&mut unknown);
    if let Err(error) = decoded {
        let inner = error.path().to_string();
        problems.push(ProfileProblem::new(
            join(&inner),
            error.into_inner().to_string(),
        ));
    }
}

/// A template as something that can be decoded.
#[derive(Clone, Copy)]
struct Sample<'t> {
    template: &'t Template,
    ours: &'static [&'static str],
}

impl<'t> Sample<'t> {
    fn of(template: &'t Template) -> Self {
        Self {
            template,
            ours: &[],
        }
    }

    fn mapping<'de, V: Visitor<'de>>(
        self,
        mapping: &'t Mapping,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries {
            entries: mapping.entries.iter(),
            ours: self.ours,
            value: None,
        })
    }

    /// Decodes what the template holds, or, at an expression, what `wanted` makes up.
    fn or<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        wanted: impl FnOnce(V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        match self.template {
            Template::Expression(..) => wanted(visitor),
            Template::Text(..) => visitor.visit_str("text"),
            Template::Literal(value) => value.clone().deserialize_any(visitor),
            Template::List(items) => visitor.visit_seq(de::value::SeqDeserializer::new(
                items.iter().map(Sample::of),
            )),
            Template::Mapping(mapping) => self.mapping(mapping, visitor),
        }
    }
}

impl<'de> de::IntoDeserializer<'de, Error> for Sample<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Entries<'t> {
    entries: std::slice::Iter<'t, (String, Template)>,
    ours: &'static [&'static str],
    value: Option<&'t Template>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let ours = self.ours;
        let Some((key, value)) = self.entries.find(|(key, _)| !ours.contains(&key.as_str())) else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(de::value::StrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(template) => seed.deserialize(Sample::of(template)),
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

impl<'de> Deserializer<'de> for Sample<'_> {
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
        deserialize_ignored_any => visit_unit();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.template {
            Template::Literal(Json::Null) => visitor.visit_none(),
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
        self.or(visitor, |visitor| {
            visitor.visit_seq(de::value::SeqDeserializer::new(std::iter::empty::<
                Sample<'_>,
            >()))
        })
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
            visitor.visit_map(MapDeserializer::new(
                std::iter::empty::<(&str, Sample<'_>)>(),
            ))
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
        match self.template {
            Template::Literal(value) => value.clone().deserialize_enum(name, variants, visitor),
            _ => visitor.visit_enum(de::value::StrDeserializer::new(
                variants.first().copied().unwrap_or(""),
            )),
        }
    }
}
