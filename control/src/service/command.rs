//! A command line as people write it, taken apart into program and arguments.
//!
//! Quotes and backslashes work as in a POSIX shell; nothing else does, since no shell runs it:
//! no variables, no pipes, no globs. Whoever wants them writes `sh -c '…'`.

use thiserror::Error;

/// Why a command line cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CommandError {
    #[error("the command is empty")]
    Empty,
    #[error("the quote {0} is not closed")]
    Open(char),
    #[error("{0:?} needs a shell; write sh -c '…' around the command")]
    Shell(char),
}

/// Program and arguments.
pub(super) fn split(line: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '|' | '&' | ';' | '<' | '>' | '`' | '$' => return Err(CommandError::Shell(c)),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match words.is_empty() {
        true => Err(CommandError::Empty),
        false => Ok(words),
    }
}

fn quoted(
    quote: char,
    chars: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), CommandError> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => word.extend(chars.next()),
            c => word.push(c),
        }
    }
    Err(CommandError::Open(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        let words = split(r#"sh -c 'exec "$0"' "a b" c\ d ''"#).expect("a command");
        assert_eq!(words, ["sh", "-c", "exec \"$0\"", "a b", "c d", ""]);
        assert_eq!(split(" "), Err(CommandError::Empty));
        assert_eq!(split("a 'b"), Err(CommandError::Open('\'')));
        assert_eq!(split("a | b"), Err(CommandError::Shell('|')));
        // It would get these five characters and no port.
        assert_eq!(split("a $PORT"), Err(CommandError::Shell('$')));
        assert_eq!(
            split("sh -c \"a $PORT\"").expect("a command"),
            ["sh", "-c", "a $PORT"]
        );
    }
}
