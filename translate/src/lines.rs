//! What comes out of a body: lines by subject, and what was refused.
//!
//! A few bytes in can ask for many out, since each record repeats what its sender said once. So the
//! output is counted while it grows. Start at [`Out`].

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use thiserror::Error;

use crate::increase::Pending;

/// What one body becomes at most: some ten times what an exporter sends in one of its batches.
const OUTPUT_BYTES_MAX: usize = 32 << 20;
/// Groups, records and points of one body: some ten times what a collector sends at once. An empty one
/// has two bytes and takes as long as a small one.
pub(crate) const PIECES_MAX: usize = 100_000;
/// The first reason is told; of a long one so many characters.
const WHY_CHARS_MAX: usize = 400;

/// Many lines under one subject of telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// `tel.<what>.<service>.<version>.<instance>`.
    pub subject: String,
    /// NDJSON.
    pub text: Vec<u8>,
}

/// What became of a body.
#[derive(Debug, Default)]
pub struct Translated {
    /// What is to be told.
    pub lines: Vec<Lines>,
    /// What follows of them, to be told after them: rows of `requests`.
    pub derived: Vec<Lines>,
    /// Records that are not among them.
    pub refused: Refused,
    /// Numbers that were left out because they say nothing: not finite, or marked as not recorded.
    pub left_out: u64,
    /// The totals that came, to be kept once the lines are told.
    pub totals: Pending,
}

/// Records that were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// What is wrong with the first of them.
    pub why: String,
}

/// A body asks for more than is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TooMuch {
    /// Bytes of output.
    #[error(
        "the body becomes more than {} MiB of rows, because each repeats its resource; send it in parts",
        OUTPUT_BYTES_MAX >> 20
    )]
    Rows,
    /// Groups, records and points, though they may be empty.
    #[error("the body has more than {PIECES_MAX} groups, records and points; send it in parts")]
    Pieces,
}

impl Refused {
    /// Counts records with one reason.
    pub fn add(&mut self, count: u64, why: impl Display) {
        if self.count == 0 && count > 0 {
            self.why = why.to_string().chars().take(WHY_CHARS_MAX).collect();
        }
        self.count += count;
    }
}

type BySubject = BTreeMap<String, Vec<u8>>;

/// Output as it grows.
#[derive(Debug, Default)]
pub(crate) struct Out {
    told: BySubject,
    derived: BySubject,
    bytes: usize,
    pub(crate) refused: Refused,
    pub(crate) left_out: u64,
}

impl Out {
    /// Adds a line.
    pub(crate) fn line(&mut self, subject: &str, line: &impl Serialize) -> Result<(), TooMuch> {
        match append(&mut self.told, subject, line) {
            Ok(bytes) => self.grow(bytes),
            Err(error) => {
                self.refused.add(1, error);
                Ok(())
            }
        }
    }

    /// Adds a line that follows of one that was added.
    pub(crate) fn derived(&mut self, subject: &str, line: &impl Serialize) -> Result<(), TooMuch> {
        // What cannot be written is refused with the line it follows of.
        append(&mut self.derived, subject, line).map_or(Ok(()), |bytes| self.grow(bytes))
    }

    fn grow(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.bytes += bytes;
        match self.bytes > OUTPUT_BYTES_MAX {
            true => Err(TooMuch::Rows),
            false => Ok(()),
        }
    }

    /// Everything, once the body is read.
    pub(crate) fn finish(self, totals: Pending) -> Translated {
        Translated {
            lines: lines_of(self.told),
            derived: lines_of(self.derived),
            refused: self.refused,
            left_out: self.left_out,
            totals,
        }
    }
}

/// Writes a line below those of its subject; how many bytes it has.
fn append(
    to: &mut BySubject,
    subject: &str,
    line: &impl Serialize,
) -> Result<usize, serde_json::Error> {
    if !to.contains_key(subject) {
        to.insert(subject.to_owned(), Vec::new());
    }
    let Some(text) = to.get_mut(subject) else {
        return Ok(0);
    };
    let before = text.len();
    let written = serde_json::to_writer(&mut *text, line);
    match written {
        Ok(()) => text.push(b'\n'),
        Err(_) => text.truncate(before),
    }
    written.map(|()| text.len() - before)
}

fn lines_of(by_subject: BySubject) -> Vec<Lines> {
    let lines = by_subject.into_iter();
    let lines = lines.filter(|(_, text)| !text.is_empty());
    lines
        .map(|(subject, text)| Lines { subject, text })
        .collect()
}
