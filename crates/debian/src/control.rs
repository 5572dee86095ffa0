//! Debian control data: paragraphs of `Field: value` (deb-control(5), RFC 822 like).
//!
//! A file is cut into paragraphs at empty lines and a paragraph is looked up by field name, without copying. Values keep
//! their continuation lines (each still starts with its blank), because only a few fields have any.
//! Left out on purpose: comments inside fields and writing of folded fields, which archive indices do not have.

/// One paragraph of control data, borrowed from the text it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paragraph<'a> {
    text: &'a str,
}

impl<'a> Paragraph<'a> {
    /// Takes text that holds one paragraph.
    pub fn new(text: &'a str) -> Self {
        Self { text: text.trim_matches('\n') }
    }

    /// The paragraph as it stands in the file, without surrounding empty lines.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The value of a field (names compare without case), trimmed; continuation lines included.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in order. Lines that are neither a field nor a continuation, and comments, are passed over.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.text }
    }
}

/// Iterator over the fields of a paragraph.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let field = self.rest;
            let mut end = line_end(field, 0);
            while end < field.len() && field[end..].starts_with([' ', '\t']) {
                end = line_end(field, end);
            }
            self.rest = &field[end..];
            if field.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = field[..end].split_once(':')
                && !name.is_empty()
                && !name.contains([' ', '\t', '\n'])
            {
                return Some((name, value.trim()));
            }
        }
        None
    }
}

/// The offset just after the line that starts at `from`.
fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |at| from + at + 1)
}

/// Cuts control data into its paragraphs. A line of blanks only also ends a paragraph (deb822(5)).
pub fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    ranges(text).map(move |(start, end)| Paragraph::new(&text[start..end]))
}

/// Like [`paragraphs`], but as byte ranges of the text.
pub fn ranges(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut start = None;
        while at < text.len() {
            let end = line_end(text, at);
            let blank = text.as_bytes()[at..end].iter().all(u8::is_ascii_whitespace);
            match (blank, start) {
                (true, None) => {}
                (true, Some(start)) => {
                    let range = (start, at);
                    at = end;
                    return Some(range);
                }
                (false, None) => start = Some(at),
                (false, Some(_)) => {}
            }
            at = end;
        }
        start.map(|start| (start, text.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_paragraphs() {
        fn check(text: &str, expected: &[&str]) {
            let got: Vec<_> = paragraphs(text).map(|paragraph| paragraph.text()).collect();
            assert_eq!(got, expected, "{text:?}");
        }
        check("", &[]);
        check("\n\n", &[]);
        check("A: 1", &["A: 1"]);
        check("A: 1\n\nB: 2\n", &["A: 1", "B: 2"]);
        check("\nA: 1\n \t\nB: 2\n\n\n", &["A: 1", "B: 2"]);
    }

    #[test]
    fn finds_fields() {
        fn check(text: &str, name: &str, expected: Option<&str>) {
            assert_eq!(Paragraph::new(text).get(name), expected, "{name} in {text:?}");
        }
        check("Package: a\nVersion: 1", "version", Some("1"));
        check("Package: a\nVersion: 1", "Vers", None);
        check("A: 1\n two\n three\nB: x", "A", Some("1\n two\n three"));
        check("A: 1\n two\n three\nB: x", "B", Some("x"));
        check("# A: no\nB: x", "A", None);
        check("URIs: http://h/p", "uris", Some("http://h/p"));
        check("broken line\nB: x", "B", Some("x"));
        check("A:", "A", Some(""));
    }
}
