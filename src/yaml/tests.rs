//! How scalars, keys and aliases are read.

use serde_json::json;

use super::{read as yaml, read_json};

#[test]
fn scalars_mean_what_kubectl_makes_of_them() {
    let cases = [
        // YAML 1.1 booleans, which go-yaml v2 keeps.
        ("yes", json!(true)),
        ("No", json!(false)),
        ("on", json!(true)),
        ("OFF", json!(false)),
        ("y", json!(true)),
        ("true", json!(true)),
        ("\"yes\"", json!("yes")),
        ("!!str yes", json!("yes")),
        // Nulls.
        ("~", json!(null)),
        ("null", json!(null)),
        ("NULL", json!(null)),
        ("", json!(null)),
        ("''", json!("")),
        // Integers.
        ("0", json!(0)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("0644", json!(420)),
        ("0o644", json!(420)),
        ("-012", json!(-10)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("9223372036854775807", json!(i64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
        (
            "18446744073709551616",
            json!(18_446_744_073_709_551_616_f64),
        ),
        // Floats; a leading zero that is no octal number is one, as in Go.
        ("1.10", json!(1.1)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("-0.5", json!(-0.5)),
        ("08", json!(8.0)),
        // What stays a string.
        ("12:30:45", json!("12:30:45")),
        ("2024-01-02", json!("2024-01-02")),
        ("2024-01-02T03:04:05Z", json!("2024-01-02T03:04:05Z")),
        ("100m", json!("100m")),
        ("1Gi", json!("1Gi")),
        ("1.2.3", json!("1.2.3")),
        ("0x", json!("0x")),
        ("0xZZ", json!("0xZZ")),
        ("inf", json!("inf")),
        ("nan", json!("nan")),
        ("=", json!("=")),
        ("a b", json!("a b")),
        ("|\n    a\n    b\n", json!("a\nb\n")),
        (">-\n    a\n    b\n", json!("a b")),
        // Tags of YAML itself.
        ("!!int \"3\"", json!(3)),
        ("!!binary aGVsbG8=", json!("hello")),
    ];
    for (text, expected) in cases {
        let document = format!("value: {text}\n");
        let read = yaml(&document).unwrap_or_else(|error| panic!("{document}{error:?}"));
        assert_eq!(read, json!({"value": expected}), "{document}");
    }
}

#[test]
fn keys_become_strings_by_their_value() {
    let text = "8080: a\nyes: b\n0x10: c\n012: d\n1.5: e\n\"no\": f\nplain: g\n2024-01-02: h\n";
    assert_eq!(
        yaml(text).unwrap(),
        json!({"8080": "a", "true": "b", "16": "c", "10": "d", "1.5": "e", "no": "f",
               "plain": "g", "2024-01-02": "h"})
    );
}

#[test]
fn the_order_of_keys_is_kept() {
    let read = yaml("b: 1\na: 2\nc: 3\n").unwrap();
    assert_eq!(
        serde_json::to_string(&read).unwrap(),
        r#"{"b":1,"a":2,"c":3}"#
    );
}

#[test]
fn anchors_aliases_and_merge_keys_are_expanded() {
    let text = "base: &base {a: 1, b: 2}\nuse: *base\nmerged:\n  <<: *base\n  b: 3\nmany:\n  <<: [*base, {c: 4}]\n";
    assert_eq!(
        yaml(text).unwrap(),
        json!({"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 2}, "merged": {"a": 1, "b": 3},
               "many": {"a": 1, "b": 2, "c": 4}})
    );
}

#[test]
fn texts_that_would_have_to_be_guessed_at_are_refused_with_their_line() {
    let cases = [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate"),
        ("a: 1\nb:\n  8080: x\n  \"8080\": y\n", 0, "duplicate"),
        ("a: 1\nyes: 1\n\"true\": 2\n", 0, "duplicate"),
        ("a: 1\nb: !secret x\n", 2, "tag"),
        ("a: .inf\n", 1, "finite"),
        ("a: .nan\n", 1, "finite"),
        ("a: 1\n~: x\n", 2, "key"),
        ("a: 1\n? [x]\n: y\n", 2, "key"),
        ("a: [1\nb: 2\n", 0, ""),
        ("a: *unknown\n", 1, "unknown"),
        ("a: 1\n\tb: 2\n", 0, ""),
        ("a: &x [*x]\n", 1, ""),
    ];
    for (text, line, word) in cases {
        let error = yaml(text).expect_err(text);
        // 0: any line, as parsers differ on where the fault lies, but there is one.
        assert!(error.line.is_some(), "{text}: {error:?}");
        if line > 0 {
            assert_eq!(error.line, Some(line), "{text}: {error:?}");
        }
        let message = error.message.to_lowercase();
        assert!(message.contains(word), "{text}: {message}");
        assert!(
            !message.contains("at line") && !message.is_empty(),
            "{text}: {message}"
        );
        // The author of the text cannot set the reader's options.
        assert!(
            !message.contains("options") && !message.contains("policy"),
            "{text}: {message}"
        );
    }
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let started = std::time::Instant::now();
    assert!(yaml(&text).is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_deep_document_is_refused_and_does_not_overflow_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("{}{}", open.repeat(20_000), close.repeat(20_000));
        assert!(yaml(&text).is_err());
    }
    let block: String = (0..5_000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(yaml(&block).is_err());
    assert!(read_json(&"[".repeat(20_000)).is_err());
}

#[test]
fn json_values_may_follow_one_another() {
    let text = "{\"a\": 1.0, \"b\": 12345678901234567890}\n\n[true]";
    let read = read_json(text).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(
        read[0].0,
        json!({"a": 1.0, "b": 12_345_678_901_234_567_890_u64})
    );
    assert_eq!(
        &text[..read[0].1],
        "{\"a\": 1.0, \"b\": 12345678901234567890}"
    );
    assert_eq!(read[1].0, json!([true]));
    assert_eq!(read[1].1, text.len());
}

#[test]
fn json_faults_name_their_line() {
    let duplicate = read_json("{\"a\": 1,\n \"a\": 2}").unwrap_err();
    assert_eq!(duplicate.line, Some(2));
    assert_eq!(duplicate.message, "duplicate key `a`");
    assert_eq!(read_json("{}\n{\"a\":}").unwrap_err().line, Some(2));
}
