//! Between parameters, JSON and values of CEL.

use std::collections::HashMap;

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
pub(super) fn cel_to_json(value: &dyn Val) -> Result<Json, String> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(Json::String(text.inner().to_owned()));
    }
    if let Some(items) = value.downcast_ref::<CelList<'_>>() {
        let items = items.inner().iter().map(|item| cel_to_json(&**item));
        return Ok(Json::Array(items.collect::<Result<_, _>>()?));
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let mut entries: Vec<(&str, &dyn Val)> = Vec::with_capacity(map.inner().len());
        for (key, value) in map.inner() {
            match key {
                CelMapKey::String(text) => entries.push((text.inner(), &**value)),
                other => {
                    let key = Key::from(other.clone());
                    return Err(format!(
                        "gives a map with the key {key:?}; keys must be strings"
                    ));
                }
            }
        }
        entries.sort_unstable_by_key(|(key, _)| *key);
        let mut object = serde_json::Map::with_capacity(entries.len());
        for (key, value) in entries {
            object.insert(key.to_owned(), cel_to_json(value)?);
        }
        return Ok(Json::Object(object));
    }
    Ok(
        match Cel::try_from(value).map_err(|error| error.to_string())? {
            Cel::Null => Json::Null,
            Cel::Bool(truth) => Json::Bool(truth),
            Cel::Int(number) => Json::from(number),
            Cel::UInt(number) => Json::from(number),
            Cel::Float(number) => serde_json::Number::from_f64(number)
                .map(Json::Number)
                .ok_or_else(|| format!("gives {number}, which JSON cannot hold"))?,
            // The name of a type.
            Cel::String(text) => Json::String(text.as_str().to_owned()),
            other => return Err(format!("gives {other:?}, which JSON cannot hold")),
        },
    )
}

/// A value that borrows nothing.
pub(super) fn to_static(value: &dyn Val) -> Result<Box<dyn Val>, String> {
    Ok(if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        Box::new(CelString::from(text.inner().to_owned()))
    } else if let Some(items) = value.downcast_ref::<CelList<'_>>() {
        let items = items.inner().iter().map(|item| to_static(&**item));
        Box::new(CelList::from(items.collect::<Result<Vec<_>, _>>()?))
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let entries = map.inner().iter();
        let entries =
            entries.map(|(key, value)| Ok((key.clone().into_static(), to_static(&**value)?)));
        Box::new(CelMap::from(
            entries.collect::<Result<HashMap<_, _>, String>>()?,
        ))
    } else {
        Cel::try_from(value)
            .and_then(TryInto::try_into)
            .map_err(|error| error.to_string())?
    })
}
