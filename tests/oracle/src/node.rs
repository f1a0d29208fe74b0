//! A JSON tree that keeps text, and strict RFC 6902 `add`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The one member that a patch may replace.
const STATUS: &str = "/metadata/annotations/outrigger.dev~1status";

/// JSON whose scalars are the text they were written as.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A number, a text, a boolean or `null`, as it was written.
    Scalar(String),
    /// An array.
    List(Vec<Node>),
    /// An object, its members in order; a key may stand there twice.
    Object(Vec<(String, Node)>),
}

/// How deep a tree may be: deeper than what serde_json reads into values, and no danger to the stack.
const DEEPEST: usize = 256;

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Node {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Text that is no JSON, holds a key that is no text, or is nested deeper than any pod.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Self::parse_within(text, DEEPEST)
    }

    fn parse_within(text: &str, depth: usize) -> Result<Self, serde_json::Error> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(serde::de::Error::custom("nested too deep"));
        };
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let members: Members = serde_json::from_str(text)?;
                let members = members
                    .0
                    .into_iter()
                    .map(|(key, raw)| Self::parse_within(raw.get(), depth).map(|node| (key, node)));
                Self::Object(members.collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text)?;
                let items = items.iter().map(|raw| Self::parse_within(raw.get(), depth));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            _ => Self::Scalar(
                serde_json::from_str::<Box<RawValue>>(text)?
                    .get()
                    .to_owned(),
            ),
        })
    }

    /// The text: as it was read, but for space between tokens.
    pub fn text(&self) -> String {
        let join = |parts: Vec<String>| parts.join(",");
        match self {
            Self::Scalar(text) => text.clone(),
            Self::List(items) => format!("[{}]", join(items.iter().map(Self::text).collect())),
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, node)| format!("{}:{}", json!(key), node.text()));
                format!("{{{}}}", join(members.collect()))
            }
        }
    }

    /// As a value; numbers that no value can hold become null.
    pub fn value(&self) -> Value {
        match self {
            Self::Scalar(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, node)| (key.clone(), node.value()))
                    .collect(),
            ),
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        *self == Self::Scalar("null".to_owned())
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The member of an object, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members
                .iter_mut()
                .find(|(known, _)| known == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Sets a member of an object; nothing happens to what is no object.
    pub fn set(&mut self, key: &str, node: Self) {
        match self.get_mut(key) {
            Some(old) => *old = node,
            None => {
                if let Self::Object(members) = self {
                    members.push((key.to_owned(), node));
                }
            }
        }
    }

    /// The items of the list at a key; none where there is no list.
    pub fn items(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    /// The list at a key, made where there is none. Nothing in what is no object.
    pub fn list_mut(&mut self, key: &str) -> Option<&mut Vec<Self>> {
        if !matches!(self.get(key), Some(Self::List(_))) {
            self.set(key, Self::List(Vec::new()));
        }
        match self.get_mut(key) {
            Some(Self::List(items)) => Some(items),
            _ => None,
        }
    }

    /// The `name`, or nothing.
    pub fn name(&self) -> String {
        self.get("name")
            .map(|node| node.value().as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    }

    /// RFC 6902 `add`, strictly: the parent exists, an index is at most the length, and nothing that is there
    /// is replaced but `null` and our own status.
    ///
    /// # Errors
    /// What is against that.
    pub fn add(&mut self, path: &str, value: Self) -> Result<(), String> {
        let (parent, last) = path
            .rsplit_once('/')
            .ok_or_else(|| format!("{path:?} points at the whole"))?;
        let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
        let mut node = self;
        for token in parent.split('/').skip(1) {
            let token = unescape(token);
            node = match node {
                Self::Object(_) => node
                    .get_mut(&token)
                    .ok_or_else(|| format!("{path}: there is no {token}"))?,
                Self::List(items) => {
                    let at = index(&token)?;
                    items
                        .get_mut(at)
                        .ok_or_else(|| format!("{path}: there is no item {at}"))?
                }
                Self::Scalar(_) => return Err(format!("{path}: {token} is inside of a scalar")),
            };
        }
        let last = unescape(last);
        match node {
            Self::Object(members) => match members.iter_mut().find(|(key, _)| *key == last) {
                Some((_, old)) if old.is_null() || path == STATUS => *old = value,
                Some(_) => return Err(format!("{path}: replaces what is there")),
                None => members.push((last, value)),
            },
            Self::List(items) if last == "-" => items.push(value),
            Self::List(items) => {
                let at = index(&last)?;
                if at > items.len() {
                    return Err(format!("{path}: beyond the end, {}", items.len()));
                }
                items.insert(at, value);
            }
            Self::Scalar(_) => return Err(format!("{path}: adds to a scalar")),
        }
        Ok(())
    }

    /// Applies a JSON patch of nothing but `add`; how many operations it has.
    ///
    /// # Errors
    /// A patch that is no such patch, or does not fit.
    pub fn apply(&mut self, patch: &str) -> Result<usize, String> {
        let operations = Self::parse(patch).map_err(|error| format!("the patch: {error}"))?;
        let Self::List(operations) = operations else {
            return Err("the patch is no list".to_owned());
        };
        for operation in &operations {
            let text = |key: &str| {
                operation
                    .get(key)
                    .and_then(|node| node.value().as_str().map(str::to_owned))
            };
            if text("op").as_deref() != Some("add") {
                return Err(format!("not an add: {}", operation.text()));
            }
            let value = operation.get("value").ok_or("an add without a value")?;
            self.add(&text("path").ok_or("an add without a path")?, value.clone())?;
        }
        Ok(operations.len())
    }

    /// Whether everything of `self` is in `other`, as it was written and in the order it was written. `null`
    /// is nothing.
    ///
    /// # Errors
    /// The path of what is gone, changed or moved.
    pub fn survives_in(&self, other: &Self, path: &str) -> Result<(), String> {
        match (self, other) {
            (Self::Scalar(_), _) if self.is_null() || path == STATUS => Ok(()),
            (Self::Scalar(a), Self::Scalar(b)) if a == b => Ok(()),
            (Self::Object(mine), Self::Object(theirs)) => {
                let mut rest = theirs.iter();
                for (key, node) in mine {
                    let found = rest
                        .find(|(known, _)| known == key)
                        .ok_or_else(|| format!("{path}: {key:?} is gone or has moved"))?;
                    let token = key.replace('~', "~0").replace('/', "~1");
                    node.survives_in(&found.1, &format!("{path}/{token}"))?;
                }
                Ok(())
            }
            (Self::List(mine), Self::List(theirs)) => {
                let mut rest = theirs.iter();
                for (index, node) in mine.iter().enumerate() {
                    if !rest.any(|found| node.survives_in(found, path).is_ok()) {
                        return Err(format!(
                            "{path}[{index}] is gone, changed or moved: {}",
                            node.text()
                        ));
                    }
                }
                Ok(())
            }
            _ => Err(format!("{path}: was {}, is {}", self.text(), other.text())),
        }
    }
}

fn index(token: &str) -> Result<usize, String> {
    let plain = !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_digit())
        && (token == "0" || !token.starts_with('0'));
    token
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| format!("{token:?} is no index"))
}

#[cfg(test)]
mod tests {
    use super::Node;

    fn node(text: &str) -> Node {
        Node::parse(text).unwrap()
    }

    #[test]
    fn the_applier_is_strict() {
        let start = node(r#"{"a":[1,2],"b":{"c/d":null},"n":1.0}"#);
        let run = |path: &str| {
            let mut tree = start.clone();
            tree.add(path, node("7")).map(|()| tree.text())
        };
        assert_eq!(
            run("/a/-"),
            Ok(r#"{"a":[1,2,7],"b":{"c/d":null},"n":1.0}"#.to_owned())
        );
        assert_eq!(
            run("/a/0"),
            Ok(r#"{"a":[7,1,2],"b":{"c/d":null},"n":1.0}"#.to_owned())
        );
        assert_eq!(
            run("/b/c~1d"),
            Ok(r#"{"a":[1,2],"b":{"c/d":7},"n":1.0}"#.to_owned())
        );
        for bad in [
            "/a/3", "/a/01", "/a/+1", "/a", "/n", "/x/y", "/n/x", "", "/a/-/x",
        ] {
            assert!(run(bad).is_err(), "{bad}");
        }
        assert!(node("1.0").survives_in(&node("1"), "").is_err());
        assert!(
            node(r#"{"a":1,"b":2}"#)
                .survives_in(&node(r#"{"b":2,"a":1}"#), "")
                .is_err()
        );
        assert!(node("[1,2]").survives_in(&node("[2,1]"), "").is_err());
        assert!(node("[1,2]").survives_in(&node("[0,1,3,2]"), "").is_ok());
    }

    #[test]
    fn what_is_no_json_is_no_tree() {
        for text in ["", "{", "[1,]", "nul", "01", "{\"a\":}", "\u{a0}1"] {
            assert!(Node::parse(text).is_err(), "{text:?}");
        }
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Node::parse(&deep(200)).is_ok());
        assert!(Node::parse(&deep(100_000)).is_err());
    }
}
