//! nginx's configuration language, written from a tree.
//!
//! A configuration is a list of directives, each a mapping with one key, its name:
//!
//! | written | is |
//! |---|---|
//! | `worker_processes: 1` | `worker_processes 1;` |
//! | `listen: [8443, ssl]` | `listen 8443 ssl;` |
//! | `ip_hash: []` | `ip_hash;` |
//! | `sendfile: true` | `sendfile on;`, which YAML 1.1 reads `on` as |
//! | `http: [{…}, {…}]` | `http { … }` |
//! | `location: {args: [=, /healthz], block: [{…}]}` | `location = /healthz { … }` |
//!
//! Every word that is not plain is quoted, so that it stays one word whatever it holds. The grammar is that of
//! `ngx_conf_read_token` (nginx `src/core/ngx_conf_file.c`): in double quotes a backslash takes the meaning
//! from a quote and from itself. Variables (`$host`) are expanded in quotes too and cannot be escaped; see
//! [`Place::Variables`](super::template::Place::Variables).

use serde_json::Value as Json;

use super::document::ProfileProblem;
use super::template::UNKNOWN;

/// Where in the tree something is wrong, below its root, and what.
type Fault = (String, String);

const DIRECTIVE: &str = "expected a mapping with one key, the directive's name";
const WORDS: &str =
    "expected a word, a list of words, a list of directives, or {args: …, block: …}";

/// Checks a tree as far as it is known.
pub(super) fn check(outline: &Json, path: &str, problems: &mut Vec<ProfileProblem>) {
    if let Err((inner, message)) = write(outline) {
        problems.push(ProfileProblem::new(format!("{path}{inner}"), message));
    }
}

/// Writes a configuration.
///
/// # Errors
/// The first place that is no directive.
pub(super) fn write(tree: &Json) -> Result<String, Fault> {
    let mut text = String::new();
    directives(tree, "", 0, &mut text)?;
    Ok(text)
}

fn directives(list: &Json, path: &str, depth: usize, text: &mut String) -> Result<(), Fault> {
    if list == UNKNOWN {
        return Ok(());
    }
    let Json::Array(items) = list else {
        return Err((path.to_owned(), "expected a list of directives".to_owned()));
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if item == UNKNOWN {
            continue;
        }
        let fault = |message: &str| (path.clone(), message.to_owned());
        let object = item.as_object().ok_or_else(|| fault(DIRECTIVE))?;
        let mut entries = object.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            return Err(fault(DIRECTIVE));
        };
        directive(name, value, &format!("{path}.{name}"), depth, text)?;
    }
    Ok(())
}

fn directive(
    name: &str,
    value: &Json,
    path: &str,
    depth: usize,
    text: &mut String,
) -> Result<(), Fault> {
    text.push_str(&"    ".repeat(depth));
    word(name, text);
    let block = match value {
        Json::Array(items) if items.first().is_some_and(Json::is_object) => {
            Some((value, path.to_owned()))
        }
        Json::Object(object) => {
            if let Some(key) = object
                .keys()
                .find(|key| !["args", "block"].contains(&key.as_str()))
            {
                return Err((format!("{path}.{key}"), WORDS.to_owned()));
            }
            words(&value["args"], &format!("{path}.args"), text)?;
            object
                .get("block")
                .map(|block| (block, format!("{path}.block")))
        }
        _ => {
            words(value, path, text)?;
            None
        }
    };
    match block {
        None => text.push_str(";\n"),
        Some((block, path)) => {
            text.push_str(" {\n");
            directives(block, &path, depth + 1, text)?;
            text.push_str(&"    ".repeat(depth));
            text.push_str("}\n");
        }
    }
    Ok(())
}

fn words(value: &Json, path: &str, text: &mut String) -> Result<(), Fault> {
    let mut add = |content: &str| {
        text.push(' ');
        word(content, text);
    };
    match value {
        Json::Null => {}
        Json::Bool(on) => add(if *on { "on" } else { "off" }),
        Json::Number(number) => add(&number.to_string()),
        Json::String(content) => add(content),
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if item.is_array() || item.is_object() {
                    return Err((path, "expected a word".to_owned()));
                }
                words(item, &path, text)?;
            }
        }
        Json::Object(_) => return Err((path.to_owned(), "expected a word".to_owned())),
    }
    Ok(())
}

/// Writes one word, quoted unless it is plain.
fn word(content: &str, text: &mut String) {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_./:$@*=+,%-~^|?&!<>()[]".contains(&byte);
    if !content.is_empty() && content.bytes().all(plain) {
        text.push_str(content);
        return;
    }
    text.push('"');
    for character in content.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::write;

    #[test]
    fn directives_words_and_blocks() {
        let tree = json!([
            {"worker_processes": 1},
            {"events": {"block": []}},
            {"http": [
                {"sendfile": true},
                {"server": [
                    {"listen": [8443, "ssl"]},
                    {"ip_hash": []},
                    {"location": {"args": ["=", "/healthz"], "block": [{"return": [200, "well\n"]}]}},
                    {"proxy_set_header": ["Host", "$host"]},
                ]},
            ]},
        ]);
        let expected = "worker_processes 1;\nevents {\n}\nhttp {\n    sendfile on;\n    server {\n        \
                        listen 8443 ssl;\n        ip_hash;\n        location = /healthz {\n            \
                        return 200 \"well\n\";\n        }\n        proxy_set_header Host $host;\n    }\n}\n";
        assert_eq!(write(&tree).unwrap(), expected);
    }

    #[test]
    fn a_word_stays_one_word() {
        let tree = json!([{"return": [200, "a; } \"b\" \\ # {x}"]}, {"set": ["$a", ""]}]);
        let expected = "return 200 \"a; } \\\"b\\\" \\\\ # {x}\";\nset $a \"\";\n";
        assert_eq!(write(&tree).unwrap(), expected);
    }

    #[test]
    fn what_is_no_directive_is_named() {
        for (tree, path) in [
            (json!({"a": 1}), ""),
            (json!(["a"]), "[0]"),
            (json!([{"a": 1, "b": 2}]), "[0]"),
            (json!([{"a": [1, {"b": 2}]}]), "[0].a[1]"),
            (json!([{"a": {"words": []}}]), "[0].a.words"),
            (json!([{"a": [{"b": {"block": 3}}]}]), "[0].a[0].b.block"),
        ] {
            assert_eq!(write(&tree).unwrap_err().0, path, "{tree}");
        }
    }
}
