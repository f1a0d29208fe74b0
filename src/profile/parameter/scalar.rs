//! One value of a parameter: its type, its bounds, its format.

use serde_json::Value as Json;

use super::format::{self, Format};
use super::{Kind, MAX_JSON_LENGTH, MAX_LENGTH, ScalarSpec, Value, nearest, text};
use crate::profile::pattern;

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    kind: Kind,
    format: Option<&'static Format>,
    pub(super) values: Vec<Value>,
    pattern: Option<Pattern>,
    /// What is expected, where the profile says it in words.
    words: Option<String>,
    length: (u64, u64),
    range: (Option<f64>, Option<f64>),
}

/// What the whole of a text must match.
#[derive(Debug, Clone)]
struct Pattern {
    source: String,
    anchored: String,
}

impl Pattern {
    fn new(source: &str) -> Result<Self, regex::Error> {
        // The bare source first: `a)|(b` is good only inside of the anchors, and would lift them.
        pattern::parse(source)?;
        let anchored = format!("^(?:{source})$");
        pattern::check(&anchored)?;
        Ok(Self {
            source: source.to_owned(),
            anchored,
        })
    }

    fn is_match(&self, text: &str) -> bool {
        // That it compiles was seen when the profile was loaded.
        pattern::compiled(&self.anchored).is_ok_and(|regex| regex.is_match(text))
    }
}

impl Scalar {
    pub(super) fn compile(
        spec: &ScalarSpec,
        prefix: &str,
        refuse: &mut impl FnMut(&str, String),
    ) -> Option<Self> {
        let mut refuse =
            |field: &str, message: String| refuse(&format!("{prefix}{field}"), message);
        if spec.kind == Kind::Array {
            refuse("type", "the items of an array are scalars".to_owned());
            return None;
        }
        let format = spec.format.as_deref().and_then(|name| {
            let format = format::find(name);
            match format {
                None => {
                    let hint = nearest(name, format::names())
                        .map(|known| format!("; did you mean {known:?}?"))
                        .unwrap_or_default();
                    refuse("format", format!("there is no format {name:?}{hint}"));
                }
                Some(format) if format.kind != spec.kind => {
                    refuse("format", format!("{name:?} is a format of another type"));
                }
                Some(_) => {}
            }
            format
        });
        let text = spec.kind == Kind::String;
        let number = matches!(spec.kind, Kind::Integer | Kind::Number);
        let misplaced = [
            ("pattern", spec.pattern.is_some() && !text),
            (
                "patternMessage",
                spec.pattern_message.is_some() && spec.pattern.is_none(),
            ),
            ("minLength", spec.min_length.is_some() && !text),
            ("maxLength", spec.max_length.is_some() && !text),
            ("minimum", spec.minimum.is_some() && !number),
            ("maximum", spec.maximum.is_some() && !number),
        ];
        for (field, _) in misplaced.into_iter().filter(|(_, wrong)| *wrong) {
            refuse(
                field,
                match field {
                    "patternMessage" => "there is no pattern that it could explain",
                    _ => "does not go with the type",
                }
                .to_owned(),
            );
        }
        let pattern = spec.pattern.as_deref().and_then(|source| {
            Pattern::new(source)
                .map_err(|error| {
                    refuse("pattern", format!("this is no regular expression: {error}"));
                })
                .ok()
        });
        let longest = if format.is_some_and(|format| format.name == "json") {
            MAX_JSON_LENGTH
        } else {
            MAX_LENGTH
        };
        let length = (
            spec.min_length.unwrap_or(1),
            spec.max_length.unwrap_or(longest),
        );
        if length.0 > length.1 {
            refuse(
                "minLength",
                format!("{} is above maxLength, {}", length.0, length.1),
            );
        }
        let range = match format {
            Some(format) if format.name == "port" => (
                Some(spec.minimum.unwrap_or(1.0).max(1.0)),
                Some(spec.maximum.unwrap_or(65535.0).min(65535.0)),
            ),
            _ => (spec.minimum, spec.maximum),
        };
        if let (Some(minimum), Some(maximum)) = range
            && minimum > maximum
        {
            refuse("minimum", format!("{minimum} is above maximum, {maximum}"));
        }
        let mut scalar = Self {
            kind: spec.kind,
            format,
            values: Vec::new(),
            pattern,
            words: spec.pattern_message.clone(),
            length,
            range,
        };
        if let Some(values) = &spec.values {
            if values.is_empty() {
                refuse("enum", "expected at least one value".to_owned());
            }
            let mut compiled = Vec::with_capacity(values.len());
            for (index, value) in values.iter().enumerate() {
                match scalar.accept(value) {
                    Ok(value) => compiled.push(value),
                    Err(detail) => refuse(
                        &format!("enum[{index}]"),
                        format!(
                            "given {value}: {}",
                            detail.unwrap_or_else(|| "of another type".to_owned())
                        ),
                    ),
                }
            }
            scalar.values = compiled;
        }
        Some(scalar)
    }

    pub(super) fn parse(&self, text: &str) -> Result<Value, Option<String>> {
        let value = match self.kind {
            Kind::String => Value::String(text.to_owned()),
            Kind::Integer => Value::Integer(text::parse_integer(text)?),
            Kind::Number => Value::Number(text::parse_number(text)?),
            Kind::Boolean => match text {
                "true" => Value::Boolean(true),
                "false" => Value::Boolean(false),
                _ => return Err(None),
            },
            Kind::Array => return Err(None),
        };
        self.check(value)
    }

    pub(super) fn accept(&self, json: &Json) -> Result<Value, Option<String>> {
        let value = match (self.kind, json) {
            (Kind::String, Json::String(text)) => Value::String(text.clone()),
            (Kind::Integer, Json::Number(number)) => Value::Integer(number.as_i64().ok_or(None)?),
            (Kind::Number, Json::Number(number)) => Value::Number(number.as_f64().ok_or(None)?),
            (Kind::Boolean, Json::Bool(truth)) => Value::Boolean(*truth),
            _ => return Err(Some("of another type".to_owned())),
        };
        self.check(value)
    }

    fn check(&self, value: Value) -> Result<Value, Option<String>> {
        if !self.values.is_empty() && !self.values.contains(&value) {
            return Err(nearest(
                &value.to_text(),
                self.values.iter().filter_map(|known| match known {
                    Value::String(known) => Some(known.as_str()),
                    _ => None,
                }),
            )
            .map(|known| format!("did you mean {known:?}?")));
        }
        let number = match &value {
            Value::Integer(number) => Some(*number as f64),
            Value::Number(number) => Some(*number),
            _ => None,
        };
        if let Some(number) = number {
            let (minimum, maximum) = self.range;
            if minimum.is_some_and(|minimum| number < minimum)
                || maximum.is_some_and(|maximum| number > maximum)
            {
                return Err(None);
            }
        }
        if let Value::String(text) = &value {
            self.check_text(text)?;
        }
        Ok(value)
    }

    fn check_text(&self, text: &str) -> Result<(), Option<String>> {
        let length = text.chars().count() as u64;
        if text.is_empty() && self.length.0 > 0 {
            return Err(Some("it is empty".to_owned()));
        }
        if length < self.length.0 || length > self.length.1 {
            return Err(Some(format!(
                "{length} characters, from {} to {} are allowed",
                self.length.0, self.length.1
            )));
        }
        let lines = self.format.is_some_and(|format| format.name == "json");
        if let Some(bad) = text.chars().find(|character| {
            text::is_hidden(*character) && !(lines && matches!(character, '\n' | '\r' | '\t'))
        }) {
            return Err(Some(format!(
                "the character U+{:04X} cannot be seen and is not allowed",
                bad as u32
            )));
        }
        if !lines && (text.starts_with(' ') || text.ends_with(' ')) {
            return Err(Some(
                "a space at the beginning or end is not allowed".to_owned(),
            ));
        }
        if let Some(format) = self.format
            && !text.is_empty()
        {
            (format.check)(text).map_err(|detail| (!detail.is_empty()).then_some(detail))?;
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(text) => Err(None),
            _ => Ok(()),
        }
    }

    /// The bounds of its length in words, where they are not those of every text.
    pub(super) fn bounds(&self) -> Option<String> {
        if self.kind != Kind::String || !self.values.is_empty() {
            return None;
        }
        let (minimum, maximum) = self.length;
        match (minimum > 1, maximum != MAX_LENGTH) {
            (false, false) => None,
            (false, true) => Some(format!("at most {maximum} characters")),
            (true, false) => Some(format!("at least {minimum} characters")),
            (true, true) => Some(format!("{minimum} to {maximum} characters")),
        }
    }

    pub(super) fn expected(&self) -> String {
        if !self.values.is_empty() {
            let values: Vec<_> = self
                .values
                .iter()
                .map(|value| format!("\"{}\"", value.to_text()))
                .collect();
            return format!("one of {}", values.join(", "));
        }
        if let Some(words) = &self.words {
            return words.clone();
        }
        if let Some(format) = self.format.filter(|format| format.name != "port") {
            return match &self.pattern {
                Some(pattern) => format!("{} that matches {}", format.expected, pattern.source),
                None => format.expected.to_owned(),
            };
        }
        let kind = match self.kind {
            Kind::String => "text",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Boolean => return "\"true\" or \"false\"".to_owned(),
            Kind::Array => "a list",
        };
        if let Some(pattern) = &self.pattern {
            return format!("{kind} that matches {}", pattern.source);
        }
        match self.range {
            (Some(minimum), Some(maximum)) => format!("{kind} from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("{kind} of at least {minimum}"),
            (None, Some(maximum)) => format!("{kind} of at most {maximum}"),
            (None, None) => kind.to_owned(),
        }
    }
}
