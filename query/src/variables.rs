//! Chosen values in the place of `$name` in a statement, as literals; text inside quotes is never
//! touched, and no value can become anything but text. Macros (`$__range`) are left to [`crate::guard`].

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// Puts `'a', 'b'` in the place of `$name` for each of `values`. What is none of them stays, and so
/// does a text that is no SQL: the guard tells what is wrong with it.
pub fn fill_in(sql: &str, values: &BTreeMap<String, Vec<String>>) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return sql.to_owned();
    };
    let mut filled = String::new();
    let mut at = Cursor::new(sql);
    for token in tokens {
        let Token::Placeholder(name) = &token.token else {
            continue;
        };
        let Some(chosen) = name.strip_prefix('$').and_then(|name| values.get(name)) else {
            continue;
        };
        filled.push_str(at.upto(token.span.start));
        filled.push_str(&literals(chosen));
        at.skip(name);
    }
    filled.push_str(at.rest);
    filled
}

/// The values as literals; without any the one that nothing is equal to.
fn literals(values: &[String]) -> String {
    let quoted = values
        .iter()
        .map(|value| format!("'{}'", value.replace('\'', "''")));
    match values.is_empty() {
        true => String::from("NULL"),
        false => quoted.collect::<Vec<_>>().join(", "),
    }
}

/// A place in the text, by line and column as the tokenizer counts them.
struct Cursor<'a> {
    rest: &'a str,
    line: u64,
    column: u64,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Cursor<'a> {
        Cursor {
            rest: text,
            line: 1,
            column: 1,
        }
    }

    /// Goes on to a place; what lies between.
    fn upto(&mut self, place: Location) -> &'a str {
        let text = self.rest;
        let length = text
            .char_indices()
            .find(|(_, letter)| {
                let is_there = (self.line, self.column) == (place.line, place.column);
                if !is_there {
                    self.pass(*letter);
                }
                is_there
            })
            .map_or(text.len(), |(at, _)| at);
        let (between, rest) = text.split_at(length);
        self.rest = rest;
        between
    }

    fn skip(&mut self, word: &str) {
        self.column += word.chars().count() as u64;
        self.rest = self.rest.strip_prefix(word).unwrap_or(self.rest);
    }

    fn pass(&mut self, letter: char) {
        if letter == '\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else {
            self.column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(sql: &str) -> String {
        let values = [
            ("service", vec!["cart", "o'neill"]),
            ("none", Vec::new()),
            ("s", vec!["x"]),
        ];
        let values = values.map(|(name, values)| {
            let values = values.into_iter().map(str::to_owned).collect();
            (name.to_owned(), values)
        });
        fill_in(sql, &BTreeMap::from(values))
    }

    #[test]
    fn names_become_literals_and_nothing_else_changes() {
        let cases = [
            ("service IN ($service)", "service IN ('cart', 'o''neill')"),
            ("a = $s\n  AND b = $s -- $s", "a = 'x'\n  AND b = 'x' -- $s"),
            ("'$s' = \"$s\" OR c = $s", "'$s' = \"$s\" OR c = 'x'"),
            ("ü = 'é' AND $s = $other", "ü = 'é' AND 'x' = $other"),
            ("x IN ($none) AND $__range", "x IN (NULL) AND $__range"),
            ("it's not SQL $s", "it's not SQL $s"),
        ];
        for (sql, wanted) in cases {
            assert_eq!(filled(sql), wanted);
        }
    }
}
