//! Results as a table in Markdown that can be read as it is.

use super::record::Record;

const HEAD: [&str; 5] = ["what", "median", "lowest – highest", "goal", "met"];

/// One row a result.
pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(records.into_iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push_str(&line(row, &widths, ' '));
        if number == 0 {
            text.push_str(&line(&Default::default(), &widths, '-'));
        }
    }
    text
}

fn row(record: &Record) -> [String; 5] {
    let unit = &record.unit;
    [
        record.what.clone(),
        format!("{} {unit}", number(record.median)),
        format!("{} – {}", number(record.lowest), number(record.highest)),
        record
            .goal
            .map_or(String::new(), |goal| format!("≤ {goal} {unit}")),
        match record.met() {
            None => String::new(),
            Some(true) => "yes".to_owned(),
            Some(false) => "**no**".to_owned(),
        },
    ]
}

/// A line of the table; figures are at the right, as the line under the head says.
fn line(cells: &[String; 5], widths: &[usize; 5], fill: char) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = fill.to_string().repeat(width - cell.chars().count());
        let (left, right) = match column {
            0 | 4 => ("", padding.as_str()),
            _ => (padding.as_str(), ""),
        };
        // `---:` under what is at the right.
        let end = if fill == '-' && !matches!(column, 0 | 4) {
            ':'
        } else {
            fill
        };
        line.push_str(&format!("|{fill}{left}{cell}{right}{end}"));
    }
    line + "|\n"
}

/// Three digits, or all those before the point.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}
