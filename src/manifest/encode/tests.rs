//! What is written is read back as it was, strings above all.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{KUBECTL, Layout, json_like, yaml};
use crate::yaml as reader;

const LAYOUTS: [Layout; 4] = [
    KUBECTL,
    Layout {
        indent: 2,
        indented_lists: true,
    },
    Layout {
        indent: 4,
        indented_lists: false,
    },
    Layout {
        indent: 4,
        indented_lists: true,
    },
];

#[test]
fn strings_that_look_like_something_else_are_quoted() {
    let texts = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "Y",
        "N",
        "True",
        "FALSE",
        "null",
        "Null",
        "~",
        "",
        "1",
        "-1",
        "+1",
        "0",
        "012",
        "08",
        "0x1F",
        "0o17",
        "0b11",
        "1_000",
        "1e3",
        "1E3",
        "1.0",
        "1.",
        ".5",
        "-.5",
        ".inf",
        "-.INF",
        ".nan",
        "12:30:45",
        "1:30",
        "190:20:30.15",
        "2024-01-02",
        "2024-01-02T03:04:05Z",
        "2024-1-2 3:4:5",
        "=",
        "<<",
        "- a",
        "-",
        "?",
        "? a",
        ":",
        ": a",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "'a",
        "\"a",
        "[a",
        "{a",
        "]",
        "}",
        ",",
        " a",
        "a ",
        "\ta",
        "a\t",
        "---",
        "--- a",
        "...",
        "a\\b",
        "\u{feff}a",
        "a\u{85}b",
        "a\u{2028}b",
        "\u{1f6f6}",
        "\u{fc}",
        "\u{0}",
        "\u{7f}",
        "\u{fffe}",
    ];
    for text in texts {
        for value in [
            json!(text),
            json!({"a": text}),
            json!([text]),
            json!({text: 1}),
            json!([{text: text}]),
        ] {
            let written = yaml(&value, KUBECTL).unwrap();
            assert_eq!(reader::read(&written), Ok(value), "{written}");
        }
        let quoted = yaml(&json!({"a": text}), KUBECTL).unwrap();
        let plain = format!("a: {text}\n");
        assert!(
            quoted != plain || text == "\u{1f6f6}" || text == "\u{fc}" || text == "a\\b",
            "{quoted}"
        );
    }
}

#[test]
fn plain_text_stays_plain_and_long_text_on_one_line() {
    let long = "word ".repeat(60) + "end";
    let value = json!({"image": "docker.io/library/nginx:1.27", "args": ["--port=8080", "$(POD_IP)"],
        "path": "/var/log/*.log", "on": "a, b", "empty": {}, "none": [], "long": long});
    assert_eq!(
        yaml(&value, KUBECTL).unwrap(),
        format!(
            "image: docker.io/library/nginx:1.27\nargs:\n- --port=8080\n- $(POD_IP)\n\
             path: /var/log/*.log\n\"on\": a, b\nempty: {{}}\nnone: []\nlong: {long}\n"
        )
    );
}

#[test]
fn texts_of_several_lines_are_literal_blocks() {
    let value = json!({"a": "one\ntwo\n", "b": "one\n\n  two", "c": ["x\ny\n\n"]});
    assert_eq!(
        yaml(&value, KUBECTL).unwrap(),
        "a: |\n  one\n  two\nb: |-\n  one\n\n    two\nc:\n- |+\n  x\n  y\n\n"
    );
}

#[test]
fn json_keeps_the_indentation_it_had() {
    let value = json!({"a": [1]});
    assert_eq!(json_like(&value, "{\"b\":1}\n").unwrap(), "{\"a\":[1]}");
    assert_eq!(
        json_like(&value, "{\n \"b\": 1\n}\n").unwrap(),
        "{\n \"a\": [\n  1\n ]\n}"
    );
    assert_eq!(
        json_like(&value, "{\n\t\"b\": 1}").unwrap(),
        "{\n\t\"a\": [\n\t\t1\n\t]\n}"
    );
}

/// Texts full of what YAML gives a meaning to.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::collection::vec(
            prop::sample::select(vec![
                "a",
                "b",
                " ",
                "  ",
                "\n",
                "\n\n",
                "\t",
                "\r",
                ":",
                "#",
                "-",
                "?",
                "'",
                "\"",
                "\\",
                "{",
                "}",
                "[",
                "]",
                ",",
                "&",
                "*",
                "!",
                "|",
                ">",
                "%",
                "@",
                "`",
                "0",
                "1",
                "7",
                "9",
                ".",
                "_",
                "e",
                "E",
                "+",
                "x",
                "o",
                "yes",
                "no",
                "null",
                "true",
                "~",
                "---",
                "...",
                "<<",
                "=",
                "12:30",
                "2024-01-02",
                "T",
                "Z",
                "\u{fc}",
                "\u{85}",
                "\u{2028}",
                "\u{feff}",
            ]),
            0..10,
        )
        .prop_map(|parts| parts.concat()),
        "[-+]?[0-9_.:eExXoOb]{1,8}",
        "[a-z]{1,3}(\n {0,3}[a-z #:]{0,6}){1,4}\n{0,3}",
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::String),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => (-1e300_f64..1e300).prop_map(Value::from),
        1 => any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
    ]
}

/// Any value that JSON can hold.
pub(in crate::manifest) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_value_survives_the_journey(value in value(), layout in prop::sample::select(LAYOUTS.to_vec())) {
        let written = yaml(&value, layout).unwrap();
        prop_assert_eq!(reader::read(&written), Ok(value), "{}", written);
    }
}
