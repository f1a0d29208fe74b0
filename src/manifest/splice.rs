//! Changing a document in its author's own text, so that comments and quoting stay.
//!
//! The value before and the value after are both written in one layout. What differs between the
//! two is carried over to the author's text: lines of the first are matched with the author's,
//! and what was inserted between two lines goes between the same two there. This is a guess at
//! where lines belong, and nothing depends on its being a good one: the caller reads the outcome
//! again and takes it only if it means exactly what it should.

use std::ops::Range;

use diffy::{DiffOptions, HunkRange};
use serde_json::Value;

use super::encode::{self, Layout};

/// Layouts that manifests come in.
const LAYOUTS: [Layout; 4] = [
    encode::KUBECTL,
    Layout {
        indent: 2,
        indented_lists: true,
    },
    Layout {
        indent: 4,
        indented_lists: false,
    },
    Layout {
        indent: 4,
        indented_lists: true,
    },
];

/// Texts that may be `text` with the step from `before` to `after` made in it, the one nearest to
/// the author's layout first. `line_break` ends the lines that are new.
pub(super) fn candidates(
    text: &str,
    before: &Value,
    after: &Value,
    line_break: &str,
) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut found: Vec<(usize, String)> = LAYOUTS
        .iter()
        .filter_map(|layout| {
            let before = encode::yaml(before, *layout).ok()?;
            let after = encode::yaml(after, *layout).ok()?;
            let before: Vec<&str> = before.lines().collect();
            let after: Vec<&str> = after.lines().collect();
            let matches = matching(&before, &lines);
            let strangers = before
                .iter()
                .zip(&matches)
                .filter(|(line, own)| {
                    own.is_none_or(|own| indentation(line) != indentation(lines[own]))
                })
                .count();
            let spliced = splice(&lines, &before, &after, &matches, line_break)?;
            Some((strangers, spliced))
        })
        .collect();
    found.sort_by_key(|(strangers, _)| *strangers);
    found.dedup();
    found.into_iter().map(|(_, text)| text).collect()
}

/// For each line of `before`, the line of the author's that says the same.
fn matching(before: &[&str], lines: &[&str]) -> Vec<Option<usize>> {
    let content: Vec<usize> = (0..lines.len())
        .filter(|index| !is_blank(lines[*index]))
        .collect();
    let ours: Vec<String> = before.iter().map(|line| essence(line)).collect();
    let theirs: Vec<String> = content.iter().map(|index| essence(lines[*index])).collect();
    let mut matches = vec![None; before.len()];
    let mut equate = |ours: Range<usize>, theirs: Range<usize>| {
        for (ours, theirs) in ours.zip(theirs) {
            matches[ours] = Some(content[theirs]);
        }
    };
    let (mut own, mut other) = (0, 0);
    for (old, new) in changes(&ours, &theirs) {
        equate(own..old.start, other..new.start);
        // As many lines here as there: the same ones, spelt otherwise (`0644` and `420`).
        if old.len() == new.len() {
            equate(old.clone(), new.clone());
        }
        (own, other) = (old.end, new.end);
    }
    equate(own..ours.len(), other..theirs.len());
    matches
}

/// Where `after` differs from `before`, in order: the lines that go, and those that come in their place. What is
/// between two changes is the same in both.
fn changes<L: AsRef<str>>(before: &[L], after: &[L]) -> Vec<(Range<usize>, Range<usize>)> {
    let text = |lines: &[L]| -> String {
        lines
            .iter()
            .flat_map(|line| [line.as_ref(), "\n"])
            .collect()
    };
    // An empty range has the number of the line before it, another that of its first line, counted from 1.
    let lines = |range: HunkRange| {
        let start = range.start() - usize::from(!range.is_empty());
        start..start + range.len()
    };
    DiffOptions::new()
        .set_context_len(0)
        .create_patch(&text(before), &text(after))
        .hunks()
        .iter()
        .map(|hunk| (lines(hunk.old_range()), lines(hunk.new_range())))
        .collect()
}

fn splice(
    lines: &[&str],
    before: &[&str],
    after: &[&str],
    matches: &[Option<usize>],
    line_break: &str,
) -> Option<String> {
    let mut dropped = vec![false; lines.len()];
    // What goes in front of each of the author's lines, and at the end.
    let mut inserted: Vec<Vec<String>> = vec![Vec::new(); lines.len() + 1];
    for (old, new) in changes(before, after) {
        // Comments above a line that is replaced stay above what replaces it (`volumes: []`, then
        // `volumes:`), and below what comes new before it.
        let ahead = match before.get(old.start) {
            Some(first) if !old.is_empty() => after[new.clone()]
                .iter()
                .position(|line| key(line) == key(first))
                .unwrap_or_default(),
            _ => new.len(),
        };
        let start = if ahead > 0 {
            gap(lines, matches, old.start)?
        } else {
            0
        };
        let own: Vec<usize> = matches[old.clone()]
            .iter()
            .copied()
            .collect::<Option<_>>()?;
        for index in &own {
            dropped[*index] = true;
        }
        // A line goes in as far as the new line it is under; the outermost ones, as far as the
        // author's lines about them.
        let mut shifts: Vec<(usize, isize)> = Vec::new();
        for (index, line) in after[new].iter().enumerate() {
            let at = if index < ahead { start } else { *own.first()? };
            if line.is_empty() {
                inserted[at].push(String::new());
                continue;
            }
            let level = indentation(line);
            shifts.retain(|(above, _)| *above <= level);
            let shift = match shifts.last() {
                Some((_, shift)) => *shift,
                None => shift(lines, before, matches, old.start, level),
            };
            shifts.push((level, shift));
            inserted[at].push(shifted(line, shift)?);
        }
    }
    let mut out = String::new();
    for (index, new) in inserted.iter().enumerate() {
        for line in new {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push_str(line_break);
            }
            out.push_str(line);
            out.push_str(line_break);
        }
        if index < lines.len() && !dropped[index] {
            out.push_str(lines[index]);
        }
    }
    Some(out)
}

/// Where in the author's text what comes before line `at` of `before` goes.
fn gap(lines: &[&str], matches: &[Option<usize>], at: usize) -> Option<usize> {
    let above = at.checked_sub(1).and_then(|above| matches[above]);
    let below = match matches.get(at) {
        Some(below) => *below,
        None => Some(lines.len()),
    };
    match (above, below) {
        // Right after the line above: comments in between belong to what follows them.
        (Some(above), Some(below))
            if above < below && lines[above + 1..below].iter().all(|line| is_blank(line)) =>
        {
            Some(above + 1)
        }
        // A scalar of several lines is in between: after it, before the comments.
        (_, Some(below)) => {
            let comments = lines[..below]
                .iter()
                .rev()
                .take_while(|line| is_blank(line))
                .count();
            Some(below - comments)
        }
        (Some(above), None) => Some(above + 1),
        (None, None) => None,
    }
}

/// How much further in (or out) the author's lines about line `at` of `before` are: best seen on
/// a line of the same level.
fn shift(
    lines: &[&str],
    before: &[&str],
    matches: &[Option<usize>],
    at: usize,
    level: usize,
) -> isize {
    let known = |index: usize| {
        let own = matches[index]?;
        let here = indentation(before[index]);
        Some((
            here,
            indentation(lines[own]).cast_signed() - here.cast_signed(),
        ))
    };
    let above = (0..at).rev().filter_map(known);
    let below = (at..before.len()).filter_map(known);
    let mut nearest = None;
    for (here, shift) in above.chain(below) {
        if here == level {
            return shift;
        }
        nearest.get_or_insert(shift);
    }
    nearest.unwrap_or_default()
}

fn shifted(line: &str, shift: isize) -> Option<String> {
    let level = indentation(line);
    let wanted = level.checked_add_signed(shift)?;
    Some(format!("{}{}", " ".repeat(wanted), &line[level..]))
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// A line's indentation and the key on it.
fn key(line: &str) -> &str {
    line.split(": ")
        .next()
        .unwrap_or(line)
        .trim_end_matches(':')
}

fn is_blank(line: &str) -> bool {
    let trimmed = line.trim();
    trimmed.is_empty() || trimmed.starts_with('#')
}

/// A line without what layout and quoting add to it.
fn essence(line: &str) -> String {
    let line = match line.find(" #") {
        Some(comment) => &line[..comment],
        None => line,
    };
    line.chars()
        .filter(|character| !character.is_whitespace() && !matches!(character, '"' | '\''))
        .collect()
}
