//! What every bench tells: a line for people, and a line of JSON for `cargo xtask bench`.

#![expect(
    clippy::panic,
    reason = "a result that cannot be written would be missing from the table"
)]

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

/// The environment variable that names the file to which results are appended, one JSON object a line.
const FILE: &str = "OUTRIGGER_BENCH_RESULTS";

/// One thing that was measured several times.
pub(crate) struct Measured {
    /// What `cargo xtask bench` is told to run it by.
    pub(crate) suite: &'static str,
    /// The curve that it is a point of, and where on it.
    pub(crate) curve: Option<&'static str>,
    pub(crate) x: Option<f64>,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// One value a round, in any order.
    pub(crate) values: Vec<f64>,
    /// The most that the median may be.
    pub(crate) goal: Option<f64>,
}

/// Prints the median with the lowest and the highest value, and appends the same to the file of results, if there is
/// one.
pub(crate) fn record(measured: &Measured) {
    let Measured {
        suite,
        curve,
        x,
        what,
        unit,
        values,
        goal,
    } = measured;
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let (Some(lowest), Some(highest)) = (sorted.first(), sorted.last()) else {
        panic!("{what}: nothing was measured");
    };
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    let verdict = goal.map_or(String::new(), |goal| {
        let met = if median <= goal { "met" } else { "missed" };
        format!("; at most {goal} {unit}: {met}")
    });
    println!("{what}: {median:.2} {unit} ({lowest:.2} – {highest:.2}){verdict}");
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let line = json!({
        "suite": suite, "curve": curve, "x": x, "what": what, "unit": unit,
        "median": median, "lowest": lowest, "highest": highest, "goal": goal,
    });
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = appended {
        panic!("{FILE}: {}: {error}", path.display());
    }
}
