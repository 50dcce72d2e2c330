//! What is written at a place of a file: the key and the value, as a message may quote them.
//!
//! Only for words: what a file means is the parser's to say. Pure.

use crate::problem::Place;

/// Longest value that is quoted; of a longer one its beginning.
const QUOTED_CHARS_MAX: usize = 40;

/// A key and its value, as far as they can be told from the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written<'a> {
    /// The key, where the value has one.
    pub(crate) key: Option<&'a str>,
    value: &'a str,
}

impl<'a> Written<'a> {
    /// Of a place where a value begins.
    pub(crate) fn at(text: &'a str, place: Place) -> Written<'a> {
        let (before, value) = split(text, place);
        // A key without a value: the place is that of its colon.
        if value.trim_end() == ":" {
            return Written {
                key: Some(last_word(before)),
                value: "",
            };
        }
        let key = match before.trim_end() {
            "" => above(text, place),
            before => before.strip_suffix(':').map(last_word),
        };
        Written { key, value }
    }

    /// Of a place where a value begins, or its key.
    pub(crate) fn from_key(text: &'a str, place: Place) -> Written<'a> {
        let (_, rest) = split(text, place);
        match key_of(rest) {
            Some((key, value)) => Written {
                key: Some(key),
                value,
            },
            None => Written::at(text, place),
        }
    }

    /// The value as it is quoted.
    pub(crate) fn found(&self) -> String {
        let value = self.value;
        match value.chars().next() {
            None | Some(',' | '}' | ']' | '#') => return String::from("nothing"),
            Some('{') => return String::from("keys with values"),
            Some('[') => return String::from("a list"),
            Some('|' | '>') => return String::from("text"),
            Some(quote @ ('"' | '\'')) => {
                let inner = value[1..].split(quote).next().unwrap_or_default();
                return format!("{:?}", start_of(inner));
            }
            Some(_) if value.starts_with("- ") => return String::from("a list"),
            Some(_) if key_of(value).is_some() => return String::from("keys with values"),
            Some(_) => {}
        }
        let end = [", ", "}", "]", " #"].into_iter();
        let end = end.filter_map(|sign| value.find(sign)).min();
        let value = value[..end.unwrap_or(value.len())].trim_end();
        match value {
            "null" | "~" => String::from("nothing"),
            "true" | "false" => value.to_owned(),
            value if value.parse::<f64>().is_ok() => start_of(value),
            value => format!("{:?}", start_of(value)),
        }
    }
}

/// The key before a place whose value follows its colon without a blank, as in `a:{b: 1}`: to the parser
/// that is a key of another name.
pub(crate) fn glued(text: &str, place: Place) -> Option<&str> {
    let (before, _) = split(text, place);
    let at = [":{", ":["]
        .into_iter()
        .find_map(|sign| before.find(sign))?;
    Some(last_word(&before[..at]))
}

/// How far a line is indented.
pub(crate) fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The key at the beginning of a piece of text, and what follows.
pub(crate) fn key_of(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches("- ");
    let at = text.find(':')?;
    let (key, rest) = (&text[..at], &text[at + 1..]);
    let is_key = !key.is_empty() && !key.contains(['{', '[', ',', '}', ']', '#']);
    let is_alone = rest.is_empty() || rest.starts_with([' ', '\r']);
    (is_key && is_alone).then(|| (unquoted(key), rest.trim()))
}

/// The line of a place, cut in two there; nothing where the text has no such place.
fn split(text: &str, place: Place) -> (&str, &str) {
    let line = usize::try_from(place.line.max(1) - 1).ok();
    let line = line
        .and_then(|line| text.lines().nth(line))
        .unwrap_or_default();
    let column = usize::try_from(place.column.max(1) - 1).unwrap_or_default();
    let at = line.char_indices().nth(column);
    line.split_at(at.map_or(line.len(), |(at, _)| at))
}

/// The key on a line above, where the value stands on lines of its own.
fn above(text: &str, place: Place) -> Option<&str> {
    let count = usize::try_from(place.line.max(1) - 1).ok()?;
    let column = usize::try_from(place.column.max(1) - 1).ok()?;
    let lines: Vec<&str> = text.lines().take(count).collect();
    let is_written = |line: &&&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    let line = lines.iter().rev().find(is_written)?;
    let (key, value) = key_of(line.trim())?;
    (indent(line) < column.max(1) && value.is_empty()).then_some(key)
}

fn last_word(text: &str) -> &str {
    unquoted(text.rsplit(['{', '[', ',', ' ']).next().unwrap_or(text))
}

fn unquoted(key: &str) -> &str {
    key.trim().trim_matches(['"', '\''])
}

fn start_of(value: &str) -> String {
    if value.chars().count() <= QUOTED_CHARS_MAX {
        return value.to_owned();
    }
    value.chars().take(QUOTED_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_with_its_key() {
        let text = "a: {top: many, by: [x]}\nb:\n  - 1\nc: 'it''s'\nd:\n";
        let said = |line, column| {
            let written = Written::from_key(text, Place { line, column });
            format!("{:?} {}", written.key, written.found())
        };
        assert_eq!(said(1, 4), "Some(\"a\") keys with values");
        assert_eq!(said(1, 10), "Some(\"top\") \"many\"");
        assert_eq!(said(1, 20), "Some(\"by\") a list");
        assert_eq!(said(3, 3), "Some(\"b\") a list");
        assert_eq!(said(4, 1), "Some(\"c\") \"it\"");
        assert_eq!(said(5, 1), "Some(\"d\") nothing");
        assert_eq!(said(5, 2), "Some(\"d\") nothing");
        let place = Place { line: 1, column: 9 };
        assert_eq!(glued("  a:{b: 1}", place), Some("a"));
        assert_eq!(glued("  a: {b: 1}", place), None);
    }
}
