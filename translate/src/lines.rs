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

/// A body asks for more output than is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the body becomes more than {} MiB of rows, because each repeats its resource; send it in parts",
    OUTPUT_BYTES_MAX >> 20
)]
pub struct TooMuch;

impl Refused {
    /// Counts records with one reason.
    pub fn add(&mut self, count: u64, why: impl Display) {
        if self.count == 0 && count > 0 {
            self.why = why.to_string().chars().take(WHY_CHARS_MAX).collect();
        }
        self.count += count;
    }
}

/// Output as it grows.
#[derive(Debug, Default)]
pub(crate) struct Out {
    by_subject: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    pub(crate) refused: Refused,
    pub(crate) left_out: u64,
}

impl Out {
    /// Adds a line.
    pub(crate) fn line(&mut self, subject: &str, line: &impl Serialize) -> Result<(), TooMuch> {
        if !self.by_subject.contains_key(subject) {
            self.by_subject.insert(subject.to_owned(), Vec::new());
        }
        let Some(text) = self.by_subject.get_mut(subject) else {
            return Ok(());
        };
        let before = text.len();
        if let Err(error) = serde_json::to_writer(&mut *text, line) {
            text.truncate(before);
            self.refused.add(1, error);
            return Ok(());
        }
        text.push(b'\n');
        self.bytes += text.len() - before;
        match self.bytes > OUTPUT_BYTES_MAX {
            true => Err(TooMuch),
            false => Ok(()),
        }
    }

    /// Everything, once the body is read.
    pub(crate) fn finish(self, totals: Pending) -> Translated {
        let lines = self.by_subject.into_iter();
        let lines = lines.filter(|(_, text)| !text.is_empty());
        Translated {
            lines: lines
                .map(|(subject, text)| Lines { subject, text })
                .collect(),
            refused: self.refused,
            left_out: self.left_out,
            totals,
        }
    }
}
