//! Names, numbers and the characters of text.

/// Whether a name is camelCase that turns into kebab-case and back without loss.
pub fn is_camel_case(name: &str) -> bool {
    let mut previous_upper = false;
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with(|last: char| last.is_ascii_uppercase())
        && name.chars().all(|character| {
            let upper = character.is_ascii_uppercase();
            let fits = character.is_ascii_alphanumeric() && !(upper && previous_upper);
            previous_upper = upper;
            fits
        })
}

/// `upstreamPort` as `upstream-port`.
pub fn kebab_case(camel: &str) -> String {
    let mut kebab = String::with_capacity(camel.len() + 4);
    for character in camel.chars() {
        if character.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(character.to_ascii_lowercase());
    }
    kebab
}

/// An integer: an optional minus, ASCII digits, no zero in front, in 64 bits.
pub(super) fn parse_integer(text: &str) -> Result<i64, Option<String>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(None);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(Some("a zero in front is not allowed".to_owned()));
    }
    text.parse()
        .map_err(|_| Some("it does not fit into 64 bits".to_owned()))
}

/// A finite number as JSON writes it.
pub(super) fn parse_number(text: &str) -> Result<f64, Option<String>> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
    match serde_json::from_str::<f64>(text) {
        Ok(number) if plain && number.is_finite() => Ok(number),
        _ => Err(None),
    }
}

/// Whether a character cannot be seen, or changes how others are seen: controls, line and paragraph
/// separators, direction marks, zero-width characters, the byte order mark, tags.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
}

/// Text from outside, safe to show in a message: quoted, hidden characters escaped, at most 80 characters.
pub fn shown(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        if index == 80 {
            quoted.push('…');
            break;
        }
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            hidden if is_hidden(hidden) => quoted.extend(hidden.escape_unicode()),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// The known name that is most like the given one, if any is like it at all.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Far longer than any name: not a typing error.
    if given.len() > 100 {
        return None;
    }
    let given = given.to_ascii_lowercase();
    known
        .map(|name| {
            (
                strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= (name.chars().count().max(3) / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_would_not_come_back_are_refused() {
        for good in ["a", "upstreamPort", "x9", "tls12Only"] {
            assert!(is_camel_case(good), "{good}");
        }
        for bad in ["", "A", "9a", "upstream-port", "urlURL", "aB", "a_b", "ä"] {
            assert!(
                !is_camel_case(bad) || bad == "aB" && !is_camel_case(bad),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_nearest_name_is_one_that_was_meant() {
        let known = ["upstream-port", "listen-port", "secret"];
        assert_eq!(
            nearest("upstreamport", known.into_iter()),
            Some("upstream-port")
        );
        assert_eq!(nearest("secert", known.into_iter()), Some("secret"));
        assert_eq!(nearest("image", known.into_iter()), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_seen(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(is_hidden));
        }

        #[test]
        fn integers_come_back(number in any::<i64>()) {
            prop_assert_eq!(parse_integer(&number.to_string()), Ok(number));
        }
    }
}
