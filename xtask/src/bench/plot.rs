//! A plot of each curve as SVG: a panel for everything that is measured along it, in each of its units. They share no
//! axis, because a review takes microseconds where a first listing takes milliseconds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::Outcome;
use super::record::Record;

/// Of a panel, in pixels.
const SIZE: (u32, u32) = (460, 280);
const COLUMNS: usize = 2;
const COLOUR: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const FONT: (&str, i32) = ("sans-serif", 13);

/// Draws every curve into `folder`, as `CURVE.svg`. Gives their names, in the order of the results.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn draw(outcomes: &[Outcome], folder: &Path) -> Result<Vec<String>> {
    let records = || outcomes.iter().flat_map(|outcome| &outcome.records);
    let names = distinct(records().filter_map(|it| Some(it.place.clone()?.0)));
    for name in &names {
        let on_it = |it: &&Record| it.place.as_ref().is_some_and(|(curve, _)| curve == name);
        let path = folder.join(format!("{name}.svg"));
        let svg = svg(name, &records().filter(on_it).collect::<Vec<_>>())?;
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
    }
    Ok(names)
}

/// One curve.
pub(super) fn svg(name: &str, records: &[&Record]) -> Result<String> {
    let panels = distinct(records.iter().map(|it| (it.series(), it.unit.clone())));
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (
        SIZE.0 * u32::try_from(columns)?,
        SIZE.1 * u32::try_from(rows)?,
    );
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).map_err(broken)?;
        for ((series, unit), area) in panels.iter().zip(area.split_evenly((rows, columns))) {
            let of_it = records.iter().copied();
            let of_it: Vec<_> = of_it
                .filter(|it| it.series() == *series && it.unit == *unit)
                .collect();
            panel(series, name, unit, &of_it, &area).map_err(broken)?;
        }
        area.present().map_err(broken)?;
    }
    Ok(text + "\n")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Broken<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// The medians, with the spread at each, and the goal where there is one. Both axes begin at 0, so that what is linear
/// looks so.
fn panel<'a>(
    title: &str,
    name: &str,
    unit: &str,
    records: &[&Record],
    area: &Area<'a>,
) -> Result<(), Broken<'a>> {
    let x = |it: &Record| it.place.as_ref().map_or(0.0, |(_, x)| *x);
    let mut points = records.to_vec();
    points.sort_by(|one, other| x(one).total_cmp(&x(other)));
    let right = points.iter().map(|it| x(it)).fold(0.0, f64::max);
    let tops = points.iter().flat_map(|it| [Some(it.highest), it.goal]);
    let top = tops.flatten().fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right * 1.03, 0.0..top * 1.08)?;
    chart
        .configure_mesh()
        .x_desc(name)
        .y_desc(unit)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .label_style(FONT)
        .axis_desc_style(FONT)
        .max_light_lines(1)
        .draw()?;
    let line = points.iter().map(|it| (x(it), it.median));
    chart.draw_series(LineSeries::new(line, COLOUR.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|it| {
        ErrorBar::new_vertical(x(it), it.lowest, it.median, it.highest, COLOUR.filled(), 6)
    }))?;
    let goals = points.iter().filter_map(|it| Some((x(it), it.goal?)));
    let goals: Vec<_> = goals.collect();
    if goals.is_empty() {
        return Ok(());
    }
    let mark = |at| TriangleMarker::new(at, 6, RED.filled());
    chart
        .draw_series(goals.into_iter().map(mark))?
        .label("goal, at most")
        .legend(|(x, y)| TriangleMarker::new((x + 8, y), 6, RED.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(FONT)
        .draw()
}

/// A number at an axis, with thousands as k and millions as M.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Without the digits that adding tenths leaves behind.
    format!("{}{unit}", (value * 1e3).round() / 1e3)
}

fn broken(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the plot cannot be drawn: {error}")
}

/// Each once, in the order of the first.
fn distinct<T: PartialEq>(names: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
