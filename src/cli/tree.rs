//! A decision drawn as a tree, for people.

use crate::inject::explain::{Explanation, InstanceExplained};
use crate::inject::status::Record;

/// A node of the tree.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Node {
    text: String,
    children: Vec<Node>,
}

impl Node {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            children: Vec::new(),
        }
    }

    fn with(mut self, children: impl IntoIterator<Item = Node>) -> Self {
        self.children.extend(children);
        self
    }

    /// The tree as lines of text.
    pub fn draw(&self) -> String {
        let mut text = format!("{}\n", self.text);
        self.draw_children("", &mut text);
        text
    }

    fn draw_children(&self, indent: &str, text: &mut String) {
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            let (branch, below) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            text.push_str(&format!("{indent}{branch}{}\n", child.text));
            child.draw_children(&format!("{indent}{below}"), text);
        }
    }
}

/// The tree of a decision on `workload`.
pub fn of(workload: &str, explanation: &Explanation) -> Node {
    let decision = Node::new(format!(
        "{} ({}): {}",
        explanation.outcome, explanation.reason, explanation.sentence
    ));
    let problems = explanation.problems.iter().map(|problem| {
        Node::new(&problem.subject)
            .with([Node::new(format!("{}: {}", problem.code, problem.message))])
    });
    let instances = explanation.instances.iter().map(instance);
    let warnings = (!explanation.warnings.is_empty())
        .then(|| Node::new("warnings").with(explanation.warnings.iter().map(Node::new)));
    Node::new(workload).with([decision.with(problems).with(instances).with(warnings)])
}

fn instance(instance: &InstanceExplained) -> Node {
    let mut node = Node::new(format!(
        "{} = profile {} ({}, revision {})",
        instance.instance, instance.profile, instance.source, instance.revision
    ));
    node.children
        .push(Node::new(format!("asked for by {}", instance.asked_by)));
    if instance.present {
        node.children.push(Node::new("already in the pod"));
    }
    let width = instance
        .parameters
        .iter()
        .map(|parameter| parameter.name.len())
        .max()
        .unwrap_or(0);
    let (set, rest): (Vec<_>, Vec<_>) = instance
        .parameters
        .iter()
        .partition(|parameter| !matches!(parameter.from, "profile's default" | "not set"));
    let line = |parameter: &&crate::inject::explain::ParameterExplained| {
        Node::new(format!(
            "{:width$} = {}  ({})",
            parameter.name, parameter.value, parameter.from
        ))
    };
    if !set.is_empty() {
        node.children
            .push(Node::new("parameters that were set").with(set.iter().map(line)));
    }
    if !rest.is_empty() {
        node.children
            .push(Node::new("parameters that were not").with(rest.iter().map(line)));
    }
    if let Some(record) = &instance.adds {
        node.children
            .push(Node::new(if instance.present { "has" } else { "adds" }).with(added(record)));
    }
    node
}

fn added(record: &Record) -> impl Iterator<Item = Node> {
    [
        ("init containers", &record.init_containers),
        ("containers", &record.containers),
        ("volumes", &record.volumes),
        ("files", &record.files),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| Node::new(format!("{what}: {}", names.join(", "))))
    .collect::<Vec<_>>()
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_line_up() {
        let tree = Node::new("a").with([Node::new("b").with([Node::new("c")]), Node::new("d")]);
        assert_eq!(tree.draw(), "a\n├─ b\n│  └─ c\n└─ d\n");
    }
}
