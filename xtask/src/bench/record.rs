//! One result, as a bench tells it: see `benches/support/results.rs`.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A median and its spread.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) what: String,
    pub(super) unit: String,
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
    /// The most that the median may be.
    pub(super) goal: Option<f64>,
    /// The curve that it is a point of, and where on it.
    pub(super) place: Option<(String, f64)>,
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// That it is no such object.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        let number = |key: &str| {
            let number = value[key].as_f64();
            number.with_context(|| format!("`{key}`: expected a number: {line}"))
        };
        let text = |key: &str| {
            let text = value[key].as_str().map(str::to_owned);
            text.with_context(|| format!("`{key}`: expected a text: {line}"))
        };
        Ok(Self {
            what: text("what")?,
            unit: text("unit")?,
            median: number("median")?,
            lowest: number("lowest")?,
            highest: number("highest")?,
            goal: value["goal"].as_f64(),
            place: match value["curve"].as_str() {
                Some(curve) => Some((curve.to_owned(), number("x")?)),
                None => None,
            },
        })
    }

    /// The same, with whether the goal is met.
    pub(super) fn json(&self) -> Value {
        let (curve, x) = self.place.clone().unzip();
        json!({
            "curve": curve, "x": x, "what": self.what, "unit": self.unit, "median": self.median,
            "lowest": self.lowest, "highest": self.highest, "goal": self.goal, "met": self.met(),
        })
    }

    /// Whether the goal is met, if there is one.
    pub(super) fn met(&self) -> Option<bool> {
        self.goal.map(|goal| self.median <= goal)
    }

    /// What is measured at all points of the curve: its text with an `N` for where on it.
    pub(super) fn series(&self) -> String {
        let Some((_, x)) = &self.place else {
            return self.what.clone();
        };
        let x = x.to_string();
        let word = |word: &str| match word.trim_end_matches(',') == x {
            true => word.replace(&x, "N"),
            false => word.to_owned(),
        };
        self.what.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}
