//! What is wrong with a file, where, and what would be right.
//!
//! Every reader of YAML here ends in problems rather than in a first error, so that `serin check`
//! tells all of them at once.

use std::fmt;

use serde::Serialize;

/// Something wrong in one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, relative to the folder that was read.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// Under which the documentation explains it.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right, where we can tell.
    pub hint: Option<String>,
    /// Whether all works without it being mended.
    pub is_warning: bool,
}

/// The codes, each with a page in the documentation.
pub mod code {
    /// The file cannot be read, is too large, or is no UTF-8.
    pub const FILE: &str = "SER-DASH-001";
    /// It is no YAML, or more of it than a file may hold.
    pub const YAML: &str = "SER-DASH-002";
    /// A key that is not known.
    pub const KEY: &str = "SER-DASH-003";
    /// A value of the wrong kind, or one that is missing.
    pub const VALUE: &str = "SER-DASH-004";
    /// A KPI, panel or column that does not exist.
    pub const NAME: &str = "SER-DASH-005";
    /// The same name twice.
    pub const TWICE: &str = "SER-DASH-006";
    /// A KPI that cannot be compiled.
    pub const KPI: &str = "SER-DASH-008";
    /// No such data have arrived yet.
    pub const NO_DATA: &str = "SER-DASH-009";
    /// A statement that cannot be run.
    pub const SQL: &str = "SER-DASH-010";
}

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column in characters.
    pub column: u64,
}

impl Place {
    /// Of something that remembers where it stood.
    pub fn of<T>(spanned: &serde_saphyr::Spanned<T>) -> Place {
        Place::at(spanned.referenced)
    }

    pub fn at(location: serde_saphyr::Location) -> Place {
        Place {
            line: location.line(),
            column: location.column(),
        }
    }
}

impl Problem {
    /// An error at a place.
    pub fn new(file: &str, place: Place, code: &'static str, message: String) -> Problem {
        Problem {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            code,
            message,
            hint: None,
            is_warning: false,
        }
    }

    /// The same with what would be right.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Problem {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: ",
            self.file,
            self.line.max(1),
            self.column.max(1)
        )?;
        if self.is_warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// "did you mean …?" when a known name is near, else a list of all that are known.
pub fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    /// More names than this do not help a reader.
    const LISTED_MAX: usize = 24;
    /// Shorter names are near to nearly everything.
    const CHARS_MIN: usize = 4;
    let near = nearest(name, known.clone());
    if let Some(near) = near.filter(|_| name.chars().count() >= CHARS_MIN) {
        return format!("did you mean {near:?}?");
    }
    let mut listed: Vec<&str> = known.clone().take(LISTED_MAX).collect();
    if listed.is_empty() {
        return String::from("there are none yet");
    }
    if known.count() > LISTED_MAX {
        listed.push("…");
    }
    format!("there are {}", listed.join(", "))
}

/// The known name that a name is, but for a slip of the pen: one letter of a short name, two of a longer
/// one. Where it matters that a name is new, as of data that have not come yet, this is what to ask.
pub fn slip_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// From so many letters on two may be wrong.
    const LONG_CHARS: usize = 8;
    let near = nearest(name, known)?;
    let edits_max = if near.len() < LONG_CHARS { 1 } else { 2 };
    (strsim::levenshtein(name, near) <= edits_max).then_some(near)
}

/// The known name that differs least, where it differs little.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Nobody means a longer name by mistake, and comparing is quadratic.
    const CHARS_MAX: usize = 64;
    let name: String = name.chars().take(CHARS_MAX).collect();
    known
        .filter(|candidate| candidate.len() <= 4 * CHARS_MAX)
        .map(|candidate| (strsim::levenshtein(&name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
