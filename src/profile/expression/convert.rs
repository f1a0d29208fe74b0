//! Between parameters, JSON and values of CEL.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value as Cel;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use cel::objects::Key;
use serde_json::Value as Json;

use crate::profile::parameter::Value;

/// A parameter as CEL sees it. Its text is not copied.
pub(super) fn value_to_cel(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Integer(number) => Box::new(CelInt::from(*number)),
        Value::Number(number) => Box::new(CelDouble::from(*number)),
        Value::Boolean(truth) => Box::new(CelBool::from(*truth)),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(value_to_cel).collect();
            Box::new(CelList::from(items))
        }
    }
}

/// JSON as CEL sees it. Integers beyond 64 bits become floating point, as in Kubernetes.
pub fn json_to_cel(json: Json) -> Box<dyn Val> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(truth)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Box::new(CelInt::from(integer)),
            (None, Some(unsigned)) => Box::new(CelUInt::from(unsigned)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => Box::new(CelString::from(text)),
        Json::Array(items) => {
            let items: Vec<_> = items.into_iter().map(json_to_cel).collect();
            Box::new(CelList::from(items))
        }
        Json::Object(entries) => {
            let entries = entries.into_iter();
            let map: HashMap<CelMapKey<'static>, Box<dyn Val>> = entries
                .map(|(key, value)| (CelMapKey::from(key), json_to_cel(value)))
                .collect();
            Box::new(CelMap::from(map))
        }
    }
}

/// A CEL value as JSON. Maps come out in the order of their keys, because CEL keeps none.
pub(super) fn cel_to_json(value: Cel) -> Result<Json, String> {
    Ok(match value {
        Cel::Null => Json::Null,
        Cel::Bool(truth) => Json::Bool(truth),
        Cel::Int(number) => Json::from(number),
        Cel::UInt(number) => Json::from(number),
        Cel::Float(number) => serde_json::Number::from_f64(number)
            .map(Json::Number)
            .ok_or_else(|| format!("gives {number}, which JSON cannot hold"))?,
        Cel::String(text) => Json::String(Arc::unwrap_or_clone(text)),
        Cel::List(items) => {
            let items = Arc::unwrap_or_clone(items).into_iter().map(cel_to_json);
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        Cel::Map(map) => {
            let mut entries: Vec<(Arc<String>, Cel)> = Vec::with_capacity(map.map.len());
            for (key, value) in Arc::unwrap_or_clone(map.map) {
                match key {
                    Key::String(text) => entries.push((text, value)),
                    other => {
                        return Err(format!(
                            "gives a map with the key {other:?}; keys must be strings"
                        ));
                    }
                }
            }
            entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let mut object = serde_json::Map::with_capacity(entries.len());
            for (key, value) in entries {
                object.insert(Arc::unwrap_or_clone(key), cel_to_json(value)?);
            }
            Json::Object(object)
        }
        other => return Err(format!("gives {other:?}, which JSON cannot hold")),
    })
}
