//! Cutting a YAML stream into documents without reading them.
//!
//! YAML forbids `---` and `...` at the start of a line, followed by white space or the line's
//! end, inside any scalar (YAML 1.2.2, `c-forbidden`), so looking at lines is enough and exact.
//! The pieces put together again are the text, byte for byte.

/// The parts of one document. `head`, `body` and `tail` follow one another in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The whole: `head`, `body` and `tail`.
    pub text: &'a str,
    /// Directives, the comments before the first content, and the `---` line if it holds no
    /// content.
    pub head: &'a str,
    /// From the first line with content to the last.
    pub body: &'a str,
    /// Blank lines and comments after the content, and the `...` line.
    pub tail: &'a str,
    /// Where the text begins, as a line number from 1.
    pub line: usize,
}

/// Cuts a text into documents. Comments before the first `---` belong to the document after it;
/// what follows a `...` belongs to the next document, if there is one, else it is an empty one.
pub fn documents(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut current = Draft::at(0, 1);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let end = offset + line.len();
        match Line::of(line, current.preamble()) {
            Line::Start { content } => {
                if !current.preamble() {
                    pieces.push(current.cut(text, offset));
                    current = Draft::at(offset, index + 1);
                }
                current.marker = true;
                if content {
                    current.content(offset, end);
                } else {
                    current.head_end = end;
                }
            }
            Line::End => {
                pieces.push(current.cut(text, end));
                current = Draft::at(end, index + 2);
            }
            Line::Content => current.content(offset, end),
            Line::Blank => {}
        }
        offset = end;
    }
    if current.start < text.len() || pieces.is_empty() {
        pieces.push(current.cut(text, text.len()));
    }
    pieces
}

enum Line {
    /// `---`, and whether content follows on the same line.
    Start {
        content: bool,
    },
    /// `...`
    End,
    Content,
    /// Nothing, a comment, or a directive where one may stand.
    Blank,
}

impl Line {
    fn of(line: &str, preamble: bool) -> Self {
        let at_marker = |marker| {
            line.strip_prefix(marker)
                .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if let Some(rest) = at_marker("---") {
            let rest = rest.trim();
            return Self::Start {
                content: !(rest.is_empty() || rest.starts_with('#')),
            };
        }
        if at_marker("...").is_some() {
            return Self::End;
        }
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || (preamble && line.starts_with('%')) {
            Self::Blank
        } else {
            Self::Content
        }
    }
}

struct Draft {
    start: usize,
    line: usize,
    marker: bool,
    head_end: usize,
    body: Option<(usize, usize)>,
}

impl Draft {
    fn at(start: usize, line: usize) -> Self {
        Self {
            start,
            line,
            marker: false,
            head_end: start,
            body: None,
        }
    }

    /// Whether a `---` now would open this document and not the next.
    fn preamble(&self) -> bool {
        !self.marker && self.body.is_none()
    }

    fn content(&mut self, start: usize, end: usize) {
        let first = self.body.map_or(start, |(first, _)| first);
        self.body = Some((first, end));
    }

    fn cut<'a>(&self, text: &'a str, end: usize) -> Piece<'a> {
        let (body, tail) = self.body.unwrap_or((end, end));
        // A comment in a body without content cannot be told from a head: it is all head.
        Piece {
            text: &text[self.start..end],
            head: &text[self.start..body],
            body: &text[body..tail],
            tail: &text[tail..end],
            line: self.line,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::documents;

    #[test]
    fn documents_are_cut_at_markers() {
        let cases: &[(&str, &[[&str; 3]])] = &[
            ("", &[["", "", ""]]),
            ("a: 1", &[["", "a: 1", ""]]),
            (
                "a: 1\n---\nb: 2\n",
                &[["", "a: 1\n", ""], ["---\n", "b: 2\n", ""]],
            ),
            ("---\na: 1\n", &[["---\n", "a: 1\n", ""]]),
            (
                "# licence\n---\n# web\n\na: 1 # x\n# end\n",
                &[["# licence\n---\n# web\n\n", "a: 1 # x\n", "# end\n"]],
            ),
            (
                "---\n---\na: 1\n",
                &[["---\n", "", ""], ["---\n", "a: 1\n", ""]],
            ),
            (
                "--- {a: 1}\n---\t# b\nb: 1",
                &[["", "--- {a: 1}\n", ""], ["---\t# b\n", "b: 1", ""]],
            ),
            (
                "a: 1\r\n---\r\nb: 2\r\n",
                &[["", "a: 1\r\n", ""], ["---\r\n", "b: 2\r\n", ""]],
            ),
            (
                "a: 1\n...\n# more\n",
                &[["", "a: 1\n", "...\n"], ["# more\n", "", ""]],
            ),
            (
                "%YAML 1.2\n---\na: 1\n...\n%YAML 1.2\n---\nb: 1\n",
                &[
                    ["%YAML 1.2\n---\n", "a: 1\n", "...\n"],
                    ["%YAML 1.2\n---\n", "b: 1\n", ""],
                ],
            ),
            // Not markers: other text right after, or not at the start of the line.
            ("----\n", &[["", "----\n", ""]]),
            ("a: |\n  ---\n  ...\n", &[["", "a: |\n  ---\n  ...\n", ""]]),
            ("---a\n", &[["", "---a\n", ""]]),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = documents(text)
                .iter()
                .map(|piece| [piece.head, piece.body, piece.tail])
                .collect();
            assert_eq!(&found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_document_knows_the_line_it_begins_on() {
        let lines: Vec<_> = documents("# x\n---\na: 1\n...\n\n---\nb: 1\n---\n")
            .iter()
            .map(|piece| piece.line)
            .collect();
        assert_eq!(lines, [1, 5, 8]);
    }

    proptest! {
        #[test]
        fn the_pieces_make_up_the_text(
            lines in prop::collection::vec(
                prop::sample::select(vec!["---", "--- x", "...", "# c", "", "a: 1", "  b", "%Y", "\u{fc}"]),
                0..12,
            ),
            ending in prop::sample::select(vec!["\n", "\r\n"]),
            last in any::<bool>(),
        ) {
            let mut text = lines.join(ending);
            if last {
                text.push_str(ending);
            }
            let pieces = documents(&text);
            prop_assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), text.clone());
            for piece in pieces {
                prop_assert_eq!(format!("{}{}{}", piece.head, piece.body, piece.tail), piece.text);
                prop_assert_eq!(
                    text[..piece.text.as_ptr() as usize - text.as_ptr() as usize].matches('\n').count() + 1,
                    piece.line
                );
            }
        }
    }
}
