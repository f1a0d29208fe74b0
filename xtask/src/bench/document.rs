//! `docs/performance.md`: what stands between its markers is what was measured.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::machine::{self, Machine};
use super::{Outcome, table};
use crate::run;

const PAGE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";

/// Replaces the tables of the suites that were run, and the plots of their curves. Others stay as they are, with the
/// machine and the commit that they were measured at.
///
/// # Errors
/// When the page has no markers for a suite, or cannot be written.
pub(super) fn update(
    machine: &Machine,
    outcomes: &[Outcome],
    curves: &[String],
    folder: &Path,
) -> Result<()> {
    let path = run::root().join(PAGE);
    let mut page = fs::read_to_string(&path).context(PAGE)?;
    for outcome in outcomes {
        let told = format!(
            "{}\n{machine}; {}.\n",
            told(outcome, curves),
            machine::others(outcome.others)
        );
        page = replaced(&page, outcome.suite, &told)?;
    }
    let plots = run::root().join(PLOTS);
    if !curves.is_empty() {
        fs::create_dir_all(&plots).context(PLOTS)?;
    }
    for curve in curves {
        let name = format!("{curve}.svg");
        fs::copy(folder.join(&name), plots.join(&name))
            .with_context(|| format!("{PLOTS}/{name}"))?;
    }
    fs::write(&path, page).context(PAGE)
}

/// What is no curve first, then each curve with its plot.
fn told(outcome: &Outcome, curves: &[String]) -> String {
    let on = |curve: Option<&String>| {
        let on_it = move |it: &&super::Record| it.place.as_ref().map(|(name, _)| name) == curve;
        outcome.records.iter().filter(on_it).collect::<Vec<_>>()
    };
    let mut text = String::new();
    for curve in std::iter::once(None).chain(curves.iter().map(Some)) {
        let records = on(curve);
        if records.is_empty() {
            continue;
        }
        let table = match curve {
            None => table::of(records),
            Some(curve) => {
                text.push_str(&format!(
                    "\n### {curve}\n\n![{curve}](performance/{curve}.svg)\n"
                ));
                table::of_curve(&records)
            }
        };
        text.push_str(&format!("\n{table}"));
    }
    text
}

/// The page with this text between the markers of a suite.
///
/// # Errors
/// When they are not there.
pub(super) fn replaced(page: &str, suite: &str, text: &str) -> Result<String> {
    let (start, end) = (
        format!("<!-- bench: {suite} -->\n"),
        format!("<!-- end: {suite} -->"),
    );
    let missing = || format!("{PAGE} has no `{}` and `{end}` after it", start.trim_end());
    let (before, rest) = page.split_once(&start).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{start}{text}{end}{after}"))
}
