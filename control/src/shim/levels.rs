//! How grave a line is: by the words in it, and by the line above that it belongs to.
//!
//! Interpreters write what broke in several lines of which one alone says so: a traceback of Python, a
//! stack of Node or Java, a panic of Rust. An indented line, and one that such a beginning announces,
//! is as grave as its first line. Pure. Start at [`Block::level`].

use serin_wire::Level;

/// Lines that may belong to one; what is indented without end is no traceback.
const LINES_MAX: usize = 1_000;
/// What of a line is looked at: a line may be long, and is one of many.
const HEAD_BYTES: usize = 256;
/// Words of a plain line among which its level is looked for.
const WORDS: usize = 12;
/// Lines that stand within an interpreter's report without being indented.
const WITHIN: [&str; 5] = [
    "During handling of the above exception",
    "The above exception was the direct cause",
    "Caused by: ",
    "note: ",
    "stack backtrace:",
];

/// The lines that belong together, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Block {
    level: Level,
    /// Whether the next line that is not indented is the last of it: the exception, or what a panic says.
    has_last: bool,
    lines: usize,
}

impl Block {
    /// The level of the next line.
    pub(super) fn level(&mut self, text: &str) -> Level {
        let head = &text[..text.floor_char_boundary(HEAD_BYTES)];
        let own = level_in(head);
        self.lines += 1;
        let is_indented = text.starts_with([' ', '\t']);
        let is_of_it = is_indented || self.is_announced(text);
        if is_of_it && self.lines <= LINES_MAX {
            self.has_last &= is_indented;
            // A line within may be graver than its first, never less grave.
            return own.map_or(self.level, |own| own.max(self.level));
        }
        *self = Block {
            level: own.unwrap_or_default(),
            has_last: text.starts_with("Traceback")
                || head.contains("panicked at") && text.ends_with(':'),
            lines: 1,
        };
        self.level
    }

    fn is_announced(&self, text: &str) -> bool {
        let is_report = self.level == Level::Error;
        let is_within = is_report && WITHIN.iter().any(|begin| text.starts_with(begin));
        is_within || self.has_last && !text.starts_with('{') && !text.starts_with("Traceback")
    }
}

/// A level by the names that loggers have for it; numbers as in pino and bunyan.
pub(super) fn named(level: &str) -> Level {
    match level.to_ascii_lowercase().as_str() {
        "trace" | "10" => Level::Trace,
        "debug" | "20" => Level::Debug,
        "warn" | "warning" | "40" => Level::Warn,
        "error" | "err" | "fatal" | "critical" | "panic" | "50" | "60" => Level::Error,
        _ => Level::Info,
    }
}

/// The level that stands as a word of its own near the beginning of a plain line, or that its kind has.
fn level_in(text: &str) -> Option<Level> {
    let mut words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(WORDS);
    let found = words.find(|word| {
        word.chars().all(|c| c.is_ascii_uppercase())
            && matches!(
                *word,
                "TRACE" | "DEBUG" | "INFO" | "WARN" | "WARNING" | "ERROR" | "FATAL" | "CRITICAL"
            )
    });
    let broke = || is_of_what_broke(text).then_some(Level::Error);
    found.map(named).or_else(broke)
}

/// Whether a line is what an interpreter says when a program breaks.
fn is_of_what_broke(text: &str) -> bool {
    text.starts_with("Traceback")
        || text.starts_with("Exception in thread")
        || text.contains("panicked at")
        || is_exception(text)
}

/// Whether a line begins with the name of an exception: `TypeError: x`, `Error [ERR_X]: x`.
fn is_exception(text: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
    let name = text.split(|c| !is_of_name(c)).next().unwrap_or_default();
    let ends = |end| name.ends_with(end);
    let rest = &text[name.len()..];
    (ends("Error") || ends("Exception"))
        && (rest.is_empty() || rest.starts_with(": ") || rest.starts_with(" ["))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> String {
        let mut block = Block::default();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| match block.level(line) {
                Level::Trace => 't',
                Level::Debug => 'd',
                Level::Info => 'i',
                Level::Warn => 'w',
                Level::Error => 'e',
            })
            .collect()
    }

    #[test]
    fn a_line_has_the_level_that_stands_in_it() {
        let level = |text| Block::default().level(text);
        assert_eq!(
            level("2026-11-25 10:00:00,123 WARNING cart slow"),
            Level::Warn
        );
        assert_eq!(level("an error in a sentence"), Level::Info);
        assert_eq!(level("Error handling is on"), Level::Info);
        assert_eq!(level("TypeError: x is not a function"), Level::Error);
        assert_eq!(level("{not json ERROR"), Level::Error);
    }

    #[test]
    fn a_traceback_of_python_is_an_error_to_its_last_line() {
        let text = "calls\nTraceback (most recent call last):\n  File \"main.py\", line 3, in hit\n    \
                    log(INFO)\nbrokers.Timeout: no answer\n\nDuring handling of the above exception, \
                    another exception occurred:\n\nTraceback (most recent call last):\n  File \"m.py\"\n\
                    KeyboardInterrupt\nlistening\n  on 80\n";
        assert_eq!(levels(text), "ieeeeeeeeii");
    }

    #[test]
    fn a_stack_of_node_is_as_grave_as_its_first_line() {
        let text = "ready\nTypeError: x is not a function\n    at hit (file:///app.ts:3:1)\n    at main\n\
                    Node.js v20\nWARN slow\n    at look (a.ts)\nready\n";
        assert_eq!(levels(text), "ieeeiwwi");
    }

    #[test]
    fn a_panic_of_rust_is_an_error_with_what_it_says() {
        let text = "thread 'main' (7) panicked at src/main.rs:2:5:\nno stock\nnote: run with \
                    `RUST_BACKTRACE=1`\nstack backtrace:\n   0: main\n             at ./main.rs\nready\n";
        assert_eq!(levels(text), "eeeeeei");
    }

    #[test]
    fn what_is_structured_or_endless_belongs_to_nothing() {
        assert_eq!(levels("Traceback (cut):\n{\"msg\":\"x\"}\nx\n"), "eii");
        let endless = format!("ERROR x\n{}", "  y\n".repeat(LINES_MAX + 1));
        let said = levels(&endless);
        assert_eq!(said.find('i'), Some(LINES_MAX));
        assert!(said.ends_with("ii"), "stays so");
    }
}
