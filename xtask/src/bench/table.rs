//! Results as a table in Markdown that can be read as it is.

use super::record::Record;

const HEAD: [&str; 5] = ["what", "median", "lowest – highest", "goal", "met"];

/// One row a result.
pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(records.into_iter().map(row));
    aligned(&rows, &[0, 4])
}

/// The points of one curve, with a row for each place on it and a column for each thing that is measured there; the
/// spread is in the plot. Then a row for each goal.
pub(super) fn of_curve(records: &[&Record]) -> String {
    let mut columns: Vec<(String, &str)> = Vec::new();
    let mut places: Vec<f64> = Vec::new();
    for record in records {
        let column = (record.series(), record.unit.as_str());
        if !columns.contains(&column) {
            columns.push(column);
        }
        places.extend(record.place.iter().map(|(_, x)| *x));
    }
    places.sort_by(f64::total_cmp);
    places.dedup();
    let mut head = vec!["N".to_owned()];
    head.extend(
        columns
            .iter()
            .map(|(series, unit)| format!("{series}: {unit}")),
    );
    let mut rows = vec![head];
    for x in places {
        let cell = |(series, unit): &(String, &str)| {
            let mut here = records
                .iter()
                .filter(|it| it.unit == *unit && it.place.as_ref().is_some_and(|(_, at)| *at == x));
            let found = here.find(|it| it.series() == *series);
            found.map_or(String::new(), |it| number(it.median))
        };
        let mut row = vec![x.to_string()];
        row.extend(columns.iter().map(cell));
        rows.push(row);
    }
    let mut text = aligned(&rows, &[]);
    let mut goals = records.iter().filter(|it| it.goal.is_some()).peekable();
    if goals.peek().is_some() {
        text.push('\n');
        text.push_str(&of(goals.copied()));
    }
    text
}

fn row(record: &Record) -> Vec<String> {
    let unit = &record.unit;
    vec![
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

/// Rows with columns of one width each, the first of them the head. The columns of `left` begin at the left, as words
/// do; figures are at the right, as the line under the head says.
fn aligned(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column));
        widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            text.push_str(&match left.contains(&column) {
                true => format!("| {cell}{padding} "),
                false => format!("| {padding}{cell} "),
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                // `---:` under what is at the right.
                let end = if left.contains(&column) { '-' } else { ':' };
                text.push_str(&format!("|-{}{end}", "-".repeat(*width)));
            }
            text.push_str("|\n");
        }
    }
    text
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
