//! What was measured: as a line for people, and as a JSON object a line for whoever draws it.

use std::fs::File;
use std::io::Write;

use serde_json::json;

/// Names the file to which results are appended, if they are to be kept.
const RESULTS: &str = "OUTRIGGER_BENCH_RESULTS";

/// A number that was measured, once or several times.
pub(crate) struct Measured {
    /// The benchmark.
    pub(crate) suite: &'static str,
    /// The curve that it is a point of, if any.
    pub(crate) curve: Option<&'static str>,
    /// Where on that curve.
    pub(crate) x: Option<f64>,
    /// What was measured, in words.
    pub(crate) what: String,
    /// `µs`, `B`, `allocations`, `×`.
    pub(crate) unit: &'static str,
    /// One number a round; at least one.
    pub(crate) values: Vec<f64>,
    /// What the median is to be at most.
    pub(crate) goal: Option<f64>,
}

/// Prints the median with the lowest and the highest, and appends them to the file of results.
pub(crate) fn record(measured: &Measured) {
    let mut values = measured.values.clone();
    values.sort_by(f64::total_cmp);
    let (lowest, highest) = (values[0], values[values.len() - 1]);
    let median = values[values.len() / 2];
    let goal = measured.goal.map(|goal| format!(", at most {goal}"));
    println!(
        "| {} | {median:.2} {} | {lowest:.2} – {highest:.2}{} |",
        measured.what,
        measured.unit,
        goal.unwrap_or_default()
    );
    let Some(path) = std::env::var_os(RESULTS) else {
        return;
    };
    let line = json!({
        "suite": measured.suite, "curve": measured.curve, "x": measured.x, "what": measured.what,
        "unit": measured.unit, "median": median, "lowest": lowest, "highest": highest, "goal": measured.goal,
    });
    let file = File::options().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("{RESULTS}: {}: {error}", path.display());
    }
}
