use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;
use crate::inject::Pod;

/// What the reader makes of a text by itself.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Understood<T> {
    let mut reader = Reader::new(text);
    let value = T::deserialize(&mut reader)?;
    reader.end().map(|()| value)
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is compared as it is printed")]
struct Review<'a> {
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "it is compared as it is printed")]
struct Request<'a> {
    #[serde(borrow)]
    uid: Option<crate::inject::pod::Text<'a>>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    object: Option<Pod<'a>>,
}

/// What the reader understands `serde_json` understands too, and alike.
fn agree(text: &str) {
    fn same<'a, T: Deserialize<'a> + fmt::Debug>(text: &'a str) {
        if let Ok(ours) = read::<T>(text) {
            let theirs = serde_json::from_str::<T>(text).map(|it| format!("{it:?}"));
            assert_eq!(theirs.ok(), Some(format!("{ours:?}")), "{text}");
        }
    }
    same::<Review<'_>>(text);
    same::<Pod<'_>>(text);
    same::<IgnoredAny>(text);
    same::<Written<'_>>(text);
    same::<Vec<Option<i64>>>(text);
    same::<Vec<String>>(text);
}

fn recorded() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reviews");
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .filter(|text| text.starts_with('{'))
        .collect()
}

#[test]
fn every_recorded_review_is_understood() {
    let recorded = recorded();
    assert!(recorded.len() > 5);
    for text in &recorded {
        // As the API server sends it, which writes no white space, and as a person would write it.
        let tree: serde_json::Value = serde_json::from_str(text).unwrap();
        for text in [text.as_str(), &tree.to_string()] {
            agree(text);
            assert!(read::<IgnoredAny>(text).is_ok(), "{text}");
            if tree["request"]["kind"]["kind"] == "Pod" {
                assert!(read::<Review<'_>>(text).is_ok(), "{text}");
            }
        }
    }
}

#[test]
fn what_is_no_json_is_not_understood() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "\"",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1]",
        "[1}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "nul",
        "NaN",
        "truefalse",
        "1 1",
        "\"\n\"",
        "\"\u{7}\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\",
        "\"\\u12",
        "'a'",
        "{1:2}",
        "[1}]",
        "\u{feff}1",
        "/**/1",
        "[\"a\" \"b\"]",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{\"a\":1,,\"b\":2}",
    ] {
        for text in [text.to_owned(), format!("[{text}"), format!("{text}x")] {
            assert!(read::<IgnoredAny>(&text).is_err(), "{text}");
            assert!(read::<Written<'_>>(&text).is_err(), "{text}");
        }
    }
}

#[test]
fn what_is_not_understood_is_asked_of_the_library() {
    let deep = format!("{}{}", "[".repeat(99), "]".repeat(99));
    assert!(read::<Written<'_>>(&deep).is_err());
    assert_eq!(from_str::<Written<'_>>(&deep).unwrap().get(), deep);
    let error = from_str::<Pod<'_>>("{\"spec\":7}").unwrap_err();
    assert!(error.to_string().contains("line 1 column"), "{error}");
}

#[test]
fn strings_of_every_length_are_read() {
    for length in 0..140 {
        for end in ["", "\\n", "\\u00e9\\\"", "ö", "\\\\"] {
            for behind in ["", "                 "] {
                let text = format!("[\"{}{end}\",\"b\"]{behind}", "a".repeat(length));
                let strings: Vec<String> = read(&text).unwrap();
                assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), strings);
                agree(&text);
            }
        }
    }
}

proptest! {
    /// Pieces of JSON in any order: mostly wrong, in every way.
    #[test]
    fn they_agree_about_anything(pieces in proptest::collection::vec(prop_oneof![
        Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\""), Just("\\"), Just("null"),
        Just("true"), Just("false"), Just("-0"), Just("12"), Just("1.5e3"), Just("9223372036854775808"),
        Just("\"spec\""), Just("\"metadata\""), Just("\"containers\""), Just("\"name\":\"a\""), Just(" "),
        Just("\\u00"), Just("\"\\ud800\""), Just("\"hostNetwork\""), Just("\"resources\""), Just("\n"),
    ], 0..24)) {
        agree(&pieces.concat());
    }

    /// A review that lost, doubled or changed something somewhere.
    #[test]
    fn they_agree_about_damaged_reviews(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
                                        length in 0..6_usize, instead in "[\\]\\[{}:,\"\\\\ 0-9tn.-]{0,4}") {
        let recorded = recorded();
        let text = which.get(&recorded);
        let start = text.floor_char_boundary(at.index(text.len()));
        let end = text.ceil_char_boundary((start + length).min(text.len()));
        agree(&format!("{}{instead}{}", &text[..start], &text[end..]));
    }
}
