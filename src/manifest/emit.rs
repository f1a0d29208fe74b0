//! Writing YAML, for every reader there is.

use serde_json::Value as Json;

use crate::yaml::is_marker;

/// What stands before the first line of content: directives, comments, the marker.
pub(super) fn head(text: &str) -> String {
    let mut head = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if is_marker(line) {
            // Content may stand on the marker's own line.
            let rest = line.trim_start_matches('-').trim();
            if rest.is_empty() || rest.starts_with('#') {
                head.push_str(line.trim_end());
                head.push('\n');
                continue;
            }
            head.push_str("---\n");
            break;
        }
        if !trimmed.is_empty() && !trimmed.starts_with('#') && !line.starts_with('%') {
            break;
        }
        head.push_str(line.trim_end());
        head.push('\n');
    }
    head
}

/// Writes a document: block style, keys in their order, every string that a YAML 1.1 or 1.2 reader could take
/// for something else in double quotes.
pub(super) fn write(value: &Json) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Json, indent: usize, text: &mut String) {
    match value {
        Json::Object(object) if !object.is_empty() => {
            for (index, (key, value)) in object.iter().enumerate() {
                if index > 0 || text.ends_with('\n') || text.is_empty() {
                    pad(indent, text);
                }
                text.push_str(&scalar(key));
                text.push(':');
                child(value, indent, false, text);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || text.ends_with('\n') || text.is_empty() {
                    pad(indent, text);
                }
                text.push('-');
                child(item, indent, true, text);
            }
        }
        other => {
            text.push_str(&inline(other));
            text.push('\n');
        }
    }
}

/// What follows a key's colon or an item's dash. Items stand at the indent of their key, as kubectl writes them.
fn child(value: &Json, indent: usize, in_list: bool, text: &mut String) {
    match value {
        Json::Object(object) if !object.is_empty() => {
            text.push(if in_list { ' ' } else { '\n' });
            block(value, indent + 2, text);
        }
        Json::Array(items) if !items.is_empty() => {
            text.push(if in_list { ' ' } else { '\n' });
            block(value, if in_list { indent + 2 } else { indent }, text);
        }
        Json::String(lines) if fits_block(lines) => literal(lines, indent + 2, text),
        other => {
            text.push(' ');
            text.push_str(&inline(other));
            text.push('\n');
        }
    }
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        // Empty lists and mappings, numbers, booleans and null are written as JSON, which is YAML.
        other => other.to_string(),
    }
}

/// Whether a text of several lines can be a literal block as it is: no character that a block cannot hold, no
/// first line whose spaces would be taken for indentation, no line of spaces alone.
fn fits_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text
            .chars()
            .all(|character| character == '\n' || character == '\t' || is_printable(character))
        && !text.lines().any(|line| line.ends_with([' ', '\t']))
}

fn literal(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    let trailing = text.len() - body.len();
    out.push_str(match trailing {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in body.split('\n') {
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
    for _ in 1..trailing {
        out.push('\n');
    }
}

/// Characters that YAML takes as they are, without those that change how others look.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200B}'..='\u{200F}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}

/// A string as a scalar on one line: plain where no reader can mistake it, else in double quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            printable if is_printable(printable) => quoted.push(printable),
            other if (other as u32) <= 0xFFFF => {
                quoted.push_str(&format!("\\u{:04X}", other as u32))
            }
            other => quoted.push_str(&format!("\\U{:08X}", other as u32)),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a string is plain beyond doubt. Words that YAML 1.1 reads as booleans or null, and everything that
/// looks like a number, a date or a sexagesimal, is not.
fn is_plain(text: &str) -> bool {
    if is_quantity(text) {
        return true;
    }
    const WORDS: &[&str] = &[
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan",
    ];
    let first = text.chars().next();
    let starts_well =
        first.is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '/' | '_' | '$'));
    let holds = |character: char| {
        character.is_ascii_alphanumeric()
            || matches!(
                character,
                '/' | '_'
                    | '-'
                    | '.'
                    | '$'
                    | '('
                    | ')'
                    | '+'
                    | '='
                    | '@'
                    | '~'
                    | '*'
                    | '^'
                    | ';'
                    | '<'
                    | '>'
                    | ' '
                    | ':'
                    | ','
                    | '%'
            )
    };
    starts_well
        && text.chars().all(holds)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// Whether a string is a quantity with a suffix, as in `10m` or `64Mi`, which no reader takes for a number.
fn is_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0
        && matches!(
            &text[digits..],
            "m" | "k" | "M" | "G" | "T" | "Ki" | "Mi" | "Gi" | "Ti"
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_stay_strings_for_every_reader() {
        for text in [
            "",
            "yes",
            "No",
            "on",
            "null",
            "~",
            "1e3",
            "0x1F",
            "012",
            "1_000",
            "12:30:45",
            "2001-01-01",
            ".5",
            "+1",
            "-",
            "--- x",
            "a: b",
            "a #b",
            "# a",
            "- a",
            "? a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a",
            "|",
            ">",
            "'a",
            "\"a",
            " a",
            "a ",
            "a\tb",
            "a\nb",
            "a\nb\n",
            "a\n\n",
            "\na",
            " a\nb",
            "a \nb",
            "\u{FEFF}",
            "\u{2028}",
            "é",
            "😀",
            "\0",
            "=",
            "<<",
            "NaN",
            ".inf",
        ] {
            let value = json!({text: text, "list": [text, [text]]});
            let written = write(&value);
            let read: Json = serde_saphyr::from_str(&written)
                .unwrap_or_else(|error| panic!("{text:?}: {error}\n{written}"));
            assert_eq!(read, value, "{written}");
        }
    }

    #[test]
    fn lists_stand_as_kubectl_writes_them() {
        let value = json!({"a": [{"b": 1, "c": ["x"]}, []], "d": {}, "e": "l1\nl2\n"});
        assert_eq!(
            write(&value),
            "a:\n- b: 1\n  c:\n  - x\n- []\nd: {}\ne: |\n  l1\n  l2\n"
        );
    }

    fn trees() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite()
                    && number.abs() < 1e15
                    && number.abs() > 1e-5)
                .prop_map(Json::from),
            any::<String>().prop_map(Json::from),
            "[ -~\n]{0,20}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::vec(("[ -~]{0,10}", inner), 0..5)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in trees()) {
            let written = write(&value);
            let read: Json = serde_saphyr::from_str(&written).map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?;
            prop_assert_eq!(read, value, "{}", written);
        }
    }
}
