//! The table of values in the chart's README: made of values.yaml (keys, defaults, comments) and of the schema
//! (what a value may be), and written by `UPDATE_GOLDENS=1`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{CHART, difference, read, root, schema, yaml};

const BEGIN: &str = "<!-- The table is made of values.yaml and values.schema.json: UPDATE_GOLDENS=1 cargo test --test chart -->\n";
const END: &str = "<!-- The table ends here. -->\n";

#[test]
fn the_readme_has_the_table_of_values() -> Result<()> {
    let path = format!("{CHART}/README.md");
    let readme = read(&path)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("{path} lacks the line {BEGIN}"))?;
    let (given, after) = rest
        .split_once(END)
        .with_context(|| format!("{path} lacks the line {END}"))?;
    let table = table()?;
    if env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        return fs::write(
            root().join(&path),
            format!("{before}{BEGIN}{table}{END}{after}"),
        )
        .context("failed to write README.md");
    }
    ensure!(
        given == table,
        "the table of values in {path} is stale (UPDATE_GOLDENS=1 rewrites it):\n{}",
        difference(["README.md", "values.yaml"], given, &table)
    );
    Ok(())
}

#[test]
fn the_readme_has_every_alert_in_the_order_of_the_rules() -> Result<()> {
    let rules: Value = yaml(&format!("{CHART}/files/rules.yaml"))?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let alerts = groups.iter().flat_map(|group| group["rules"].as_array());
    let told: Vec<String> = alerts
        .flatten()
        .map(|rule| {
            let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
            format!(
                "{} | {severity}",
                rule["alert"].as_str().unwrap_or_default()
            )
        })
        .collect();
    ensure!(!told.is_empty(), "no alerts");
    let readme = read(&format!("{CHART}/README.md"))?;
    let shown: Vec<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `Outrigger")?.rsplit_once(" | "))
        .map(|(alert, _)| format!("Outrigger{}", alert.replacen('`', "", 1)))
        .collect();
    ensure!(
        shown == told,
        "the README has {shown:#?}, the rules {told:#?}"
    );
    Ok(())
}

/// A key of values.yaml that is no mere group of others.
struct Entry {
    path: Vec<String>,
    comment: String,
    /// Whether it is commented out: its default belongs to the server.
    is_optional: bool,
}

fn table() -> Result<String> {
    let defaults: Value = yaml(&format!("{CHART}/values.yaml"))?;
    let schema = schema()?;
    let entries = entries(&read(&format!("{CHART}/values.yaml"))?, &schema, &defaults);

    let mut table = "\n| value | default | may be | meaning |\n|---|---|---|---|\n".to_owned();
    let mut told = BTreeSet::new();
    for entry in &entries {
        let key = entry.path.join(".");
        let Some(node) = at(&schema, &entry.path) else {
            bail!("values.yaml has {key}, which the schema does not have");
        };
        ensure!(
            !entry.comment.is_empty(),
            "{key} has no comment above it in values.yaml"
        );
        let default = match value_at(&defaults, &entry.path) {
            Some(value) if !entry.is_optional => format!("`{value}`"),
            _ => "the server's own".to_owned(),
        };
        writeln!(
            table,
            "| `{key}` | {} | {} | {} |",
            cell(&default),
            cell(&kind(&schema, node)),
            cell(&entry.comment)
        )?;
        ensure!(told.insert(key.clone()), "values.yaml has {key} twice");
    }
    table.push('\n');

    let mut known = Vec::new();
    keys(&schema, &schema, &mut Vec::new(), &mut known);
    for key in known {
        let covered = told.iter().any(|told| {
            key == *told
                || key.starts_with(&format!("{told}."))
                || told.starts_with(&format!("{key}."))
        });
        // `global` is Helm's, for charts that depend on this one.
        ensure!(
            covered || key == "global",
            "values.yaml lacks {key}, which the schema has"
        );
    }
    Ok(table)
}

/// The keys of values.yaml in its order, each with the first paragraph of the comment above it.
fn entries(text: &str, schema: &Value, defaults: &Value) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut stack: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let (content, is_comment) = match trimmed.strip_prefix('#') {
            Some(rest) => (rest.strip_prefix(' ').unwrap_or(rest), true),
            None => (trimmed, false),
        };
        if trimmed.is_empty() {
            comment.clear();
            continue;
        }
        let mut path: Vec<String> = stack
            .iter()
            .filter(|(level, _)| *level < indent)
            .map(|(_, name)| name.clone())
            .collect();
        let key = content.split_once(':').map(|(key, _)| key);
        let is_key = key.is_some_and(|key| {
            path.push(key.to_owned());
            at(schema, &path).is_some() && (!is_comment || value_at(defaults, &path).is_none())
        });
        if is_comment && !is_key {
            comment.push(content);
            continue;
        }
        let paragraph: Vec<&str> = std::mem::take(&mut comment)
            .into_iter()
            .take_while(|line| !line.is_empty())
            .flat_map(str::split_whitespace)
            .collect();
        let Some(key) = key.filter(|_| is_key) else {
            continue;
        };
        stack.retain(|(level, _)| *level < indent);
        if !is_comment {
            stack.push((indent, key.to_owned()));
        }
        // What is below a mapping of free keys belongs to its default, and an empty mapping has nothing below it.
        let is_group = at(schema, &path).is_some_and(|node| node.get("properties").is_some())
            && value_at(defaults, &path)
                .and_then(Value::as_object)
                .is_some_and(|below| !below.is_empty());
        if !is_group {
            entries.push(Entry {
                path,
                comment: paragraph.join(" "),
                is_optional: is_comment,
            });
        }
    }
    entries
}

/// The node itself, or what it refers to.
fn resolved<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    node.get("$ref")
        .and_then(Value::as_str)
        .and_then(|target| schema.pointer(target.trim_start_matches('#')))
        .unwrap_or(node)
}

fn at<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |node, part| {
        Some(resolved(schema, node.get("properties")?.get(part)?))
    })
}

fn value_at<'a>(values: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(values, |value, part| value.get(part.as_str()))
}

/// Every dotted key below `node` that has no `properties` itself.
fn keys(schema: &Value, node: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    match node.get("properties").and_then(Value::as_object) {
        None => found.push(path.join(".")),
        Some(properties) => {
            for (name, child) in properties {
                path.push(name.clone());
                keys(schema, resolved(schema, child), path, found);
                path.pop();
            }
        }
    }
}

/// What a value may be, in words.
fn kind(schema: &Value, node: &Value) -> String {
    if let Some(values) = node.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    if let Some(choices) = node.get("anyOf").and_then(Value::as_array) {
        let choices: Vec<String> = choices
            .iter()
            .map(|choice| kind(schema, resolved(schema, choice)))
            .collect();
        return choices.join(" or ");
    }
    let one = |name: &str| {
        let bound = |key: &str| node.get(key).and_then(Value::as_i64);
        match (name, bound("minimum"), bound("maximum")) {
            ("string", ..) => "text".to_owned(),
            ("array", ..) => "list".to_owned(),
            ("object", ..) => "mapping".to_owned(),
            ("integer", Some(least), Some(most)) => format!("{name} ({least} to {most})"),
            ("integer", Some(least), None) => format!("{name} ({least} or more)"),
            _ => name.to_owned(),
        }
    };
    match node.get("type") {
        Some(Value::String(name)) => one(name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .map(one)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => String::new(),
    }
}

/// Text in a cell: what would end the cell or begin a tag stands for itself. Code is left as it is.
fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|");
    let mut is_code = false;
    text.chars().fold(String::new(), |mut cell, character| {
        is_code ^= character == '`';
        if !is_code && matches!(character, '<' | '*') {
            cell.push('\\');
        }
        cell.push(character);
        cell
    })
}
