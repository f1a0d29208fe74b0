//! Where in a YAML text a value stands, found by its path.
//!
//! Paths are those of problems: `spec.containers[0].env[2].value`. Keys may hold dots themselves (file names,
//! annotation keys), so that a path alone does not say where a key ends: it is resolved against the keys that
//! the text really has.

use std::collections::HashMap;
use std::fmt;

use serde_saphyr::granit_parser::{Event, Parser, Span};

/// Mappings merged into mappings that are merged (`<<`): deeper ones are not looked into. The reader refuses
/// a circle, but a path must end whatever the text.
const MAX_MERGES: usize = 16;

/// A place in a text. Ordered as the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The same place in a text that has the located one begin on its line `first`, from 1.
    pub(crate) fn below(self, first: usize) -> Self {
        Self {
            line: self.line + first.saturating_sub(1),
            ..self
        }
    }

    fn of(span: Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The nodes of the first document of a text with their places.
///
/// Kept in one list, with children by index: an alias is then an index, too, and nothing is copied for it.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The root is the first.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    at: Position,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar,
    Sequence(Vec<usize>),
    Mapping(Vec<Entry>),
    /// The node that an alias stands for.
    Alias(usize),
}

#[derive(Debug)]
struct Entry {
    key: String,
    at: Position,
    value: usize,
}

/// A collection that is still being read.
struct Open {
    node: usize,
    /// The key whose value comes next, in a mapping.
    key: Option<(String, Position)>,
}

impl Places {
    /// The places in a text. Of one that is no YAML, those before the fault.
    pub(crate) fn of(text: &str) -> Self {
        let mut places = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut anchors = HashMap::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let (content, anchor, key) = match event {
                Event::Scalar(value, _, anchor, _) => {
                    (Content::Scalar, anchor, Some(value.into_owned()))
                }
                Event::SequenceStart(_, anchor, _) => (Content::Sequence(Vec::new()), anchor, None),
                Event::MappingStart(_, anchor, _) => (Content::Mapping(Vec::new()), anchor, None),
                Event::Alias(anchor) => match anchors.get(&anchor) {
                    Some(target) => (Content::Alias(*target), 0, None),
                    None => (Content::Scalar, 0, None),
                },
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::DocumentEnd => break,
                _ => continue,
            };
            let opens = matches!(content, Content::Sequence(_) | Content::Mapping(_));
            let node = places.nodes.len();
            let at = Position::of(span);
            places.nodes.push(Node { at, content });
            if anchor != 0 {
                anchors.insert(anchor, node);
            }
            if let Some(parent) = open.last_mut() {
                match &mut places.nodes[parent.node].content {
                    Content::Sequence(items) => items.push(node),
                    Content::Mapping(entries) => match parent.key.take() {
                        Some((key, at)) => entries.push(Entry {
                            key,
                            at,
                            value: node,
                        }),
                        // A collection as a key, which the reader refuses, has no name to find it by.
                        None => parent.key = Some((key.unwrap_or_default(), at)),
                    },
                    Content::Scalar | Content::Alias(_) => {}
                }
            }
            if opens {
                open.push(Open { node, key: None });
            }
        }
        places
    }

    /// Where the value at `path` stands: at its key, or for an item of a list where it begins. Of a value that
    /// is not there, the place of the nearest one around it. `None` if the text holds nothing at all.
    pub(crate) fn find(&self, path: &str) -> Option<Position> {
        let root = self.nodes.first()?;
        let (_, position) = self.resolve(0, root.at, path, 0);
        Some(position)
    }

    /// How much of `path` is left once it leads nowhere, and the last place that it led to. `at` is the place
    /// of `node` itself.
    fn resolve(&self, node: usize, at: Position, path: &str, merges: usize) -> (usize, Position) {
        let mut best = (path.len(), at);
        let mut consider = |found: (usize, Position)| {
            if found.0 < best.0 {
                best = found;
            }
        };
        match self.nodes.get(node).map(|node| &node.content) {
            Some(Content::Sequence(items)) => {
                let step = path
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .and_then(|(index, rest)| {
                        Some((*items.get(index.parse::<usize>().ok()?)?, rest))
                    });
                if let Some((item, rest)) = step
                    && let Some(found) = self.nodes.get(item)
                {
                    consider(self.resolve(item, found.at, rest, merges));
                }
            }
            Some(Content::Mapping(entries)) => {
                for entry in entries {
                    if let Some(rest) = after_key(path, &entry.key) {
                        consider(self.resolve(entry.value, entry.at, rest, merges));
                    }
                }
                let merged = entries.iter().filter(|entry| entry.key == "<<");
                for entry in merged.filter(|_| merges < MAX_MERGES) {
                    for source in self.merged(entry.value) {
                        // Where nothing is found the place is the mapping's own, not that of what it merges.
                        consider(self.resolve(source, at, path, merges + 1));
                    }
                }
            }
            Some(Content::Alias(target)) => return self.resolve(*target, at, path, merges),
            Some(Content::Scalar) | None => {}
        }
        best
    }

    /// The mappings that the value of a `<<` stands for.
    fn merged(&self, value: usize) -> Vec<usize> {
        match self.nodes.get(value).map(|node| &node.content) {
            Some(Content::Sequence(items)) => items.clone(),
            _ => vec![value],
        }
    }
}

/// What is left of a path after `key`, if it begins with it. A key of digits alone may stand in brackets.
fn after_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    if let Some(rest) = path.strip_prefix('[') {
        return rest.strip_prefix(key)?.strip_prefix(']');
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    path.strip_prefix(key)
        .filter(|rest| !key.is_empty() && (rest.is_empty() || rest.starts_with(['.', '['])))
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[track_caller]
    fn at(text: &str, path: &str) -> String {
        Places::of(text)
            .find(path)
            .map_or_else(String::new, |position| position.to_string())
    }

    #[test]
    fn a_path_leads_to_its_key_or_item() {
        let text = "# c\nspec:\n  containers:\n    - name: a\n      env: [{name: b}, {name: c, value: d}]\n    -   name: e\n";
        for (path, expected) in [
            ("", "2:1"),
            ("spec", "2:1"),
            ("spec.containers", "3:3"),
            ("spec.containers[0]", "4:7"),
            ("spec.containers[0].name", "4:7"),
            ("spec.containers[0].env[1]", "5:24"),
            ("spec.containers[0].env[1].value", "5:34"),
            ("spec.containers[1].name", "6:9"),
        ] {
            assert_eq!(at(text, path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_where_it_should_be() {
        let text = "spec:\n  containers:\n    - name: a\n  pod: {}\n  empty:\n";
        for (path, expected) in [
            ("spec.containers[0].image", "3:7"),
            ("spec.containers[4]", "2:3"),
            ("spec.containers.name", "2:3"),
            ("spec.pod.labels.a", "4:3"),
            ("spec.empty.a", "5:3"),
            ("spec.contain", "1:1"),
            ("metadata.name", "1:1"),
        ] {
            assert_eq!(at(text, path), expected, "{path}");
        }
        assert_eq!(at("", "spec"), "");
    }

    #[test]
    fn keys_may_hold_what_separates_keys() {
        let text = "spec:\n  files:\n    bootstrap:\n      json: {a: 1}\n    bootstrap.json:\n      admin: {x: 1}\n    a[0].b:\n      c: 1\n  annotations:\n    example.com/a.b: c\n    \"8080\": d\n    ü: {é.è: 1}\n";
        for (path, expected) in [
            ("spec.files.bootstrap.json.admin.x", "6:15"),
            ("spec.files.bootstrap.json.a", "4:14"),
            ("spec.files.bootstrap.json", "4:7"),
            ("spec.files.bootstrap.json.admin.y", "6:7"),
            ("spec.files.a[0].b.c", "8:7"),
            ("spec.annotations.example.com/a.b", "10:5"),
            ("spec.annotations[8080]", "11:5"),
            ("spec.annotations.8080", "11:5"),
            ("spec.annotations.ü.é.è", "12:9"),
        ] {
            assert_eq!(at(text, path), expected, "{path}");
        }
    }

    #[test]
    fn an_alias_leads_to_what_it_stands_for() {
        let text = "a: &a\n  x: 1\nb: *a\nc:\n  <<: *a\n  y: 1\nd: {<<: [*a, {z: 1}]}\n";
        for (path, expected) in [
            ("b", "3:1"),
            ("b.x", "2:3"),
            ("b.y", "3:1"),
            ("c.x", "2:3"),
            ("c.y", "6:3"),
            ("c.z", "4:1"),
            ("d.z", "7:15"),
        ] {
            assert_eq!(at(text, path), expected, "{path}");
        }
    }

    #[test]
    fn a_circle_has_an_end() {
        assert_eq!(at("&a {<<: *a, b: [*a]}", "c"), "1:4");
        assert_eq!(at("&a [*a]", "[0][0][0][7]"), "1:5");
    }

    #[test]
    fn json_and_broken_text_have_places_too() {
        assert_eq!(at("{\n\t\"a\": {\"b\": [1,\n 2]}}", "a.b[1]"), "3:2");
        assert_eq!(at("a:\n  b: 1\n  c: [", "a.b"), "2:3");
    }
}
