//! Values between JSON, parameters and CEL.

use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::Key;
use serde_json::Value as Json;

use crate::profile::parameter::Value;

pub(super) fn value_to_cel(value: &Value) -> Cel {
    match value {
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Integer(number) => Cel::Int(*number),
        Value::Number(number) => Cel::Float(*number),
        Value::Boolean(truth) => Cel::Bool(*truth),
        Value::List(items) => Cel::List(Arc::new(items.iter().map(value_to_cel).collect())),
    }
}

/// JSON as CEL sees it. Integers beyond 64 bits become floating point, as in Kubernetes.
pub fn json_to_cel(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(truth) => Cel::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Cel::Int(integer),
            (None, Some(unsigned)) => Cel::UInt(unsigned),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Cel::String(Arc::new(text.clone())),
        Json::Array(items) => Cel::List(Arc::new(items.iter().map(json_to_cel).collect())),
        Json::Object(entries) => {
            let map: std::collections::HashMap<Key, Cel> = entries
                .iter()
                .map(|(key, value)| (Key::String(Arc::new(key.clone())), json_to_cel(value)))
                .collect();
            Cel::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

/// A CEL value as JSON. Maps come out in the order of their keys, because CEL keeps none.
pub(super) fn cel_to_json(value: &Cel) -> Result<Json, String> {
    Ok(match value {
        Cel::Null => Json::Null,
        Cel::Bool(truth) => Json::Bool(*truth),
        Cel::Int(number) => Json::from(*number),
        Cel::UInt(number) => Json::from(*number),
        Cel::Float(number) => serde_json::Number::from_f64(*number)
            .map(Json::Number)
            .ok_or_else(|| format!("gives {number}, which JSON cannot hold"))?,
        Cel::String(text) => Json::String(text.as_str().to_owned()),
        Cel::List(items) => Json::Array(items.iter().map(cel_to_json).collect::<Result<_, _>>()?),
        Cel::Map(map) => {
            let mut entries: Vec<(&str, &Cel)> = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                match key {
                    Key::String(text) => entries.push((text.as_str(), value)),
                    other => {
                        return Err(format!(
                            "gives a map with the key {other:?}; keys must be strings"
                        ));
                    }
                }
            }
            entries.sort_unstable_by_key(|(key, _)| *key);
            let mut object = serde_json::Map::with_capacity(entries.len());
            for (key, value) in entries {
                object.insert(key.to_owned(), cel_to_json(value)?);
            }
            Json::Object(object)
        }
        other => return Err(format!("gives {other:?}, which JSON cannot hold")),
    })
}
