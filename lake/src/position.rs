//! Where a reader of the bus stands, and which messages of whom were taken.
//!
//! These rest in the catalogue and are committed with the rows they account for.

use std::fmt;
use std::str::FromStr;

/// A producer that was silent this long is forgotten: the bound of exactly-once. A spill has no limit
/// of age, but one replayed later than this may be doubled where its first try had arrived
/// (docs/decisions/002). Imports are remembered for ever.
pub const PRODUCER_KEPT_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// One life of a stream: a random name given when the stream is made and kept in its metadata.
///
/// A stream that was wiped or restored counts from the start again; its old positions would then be
/// silently wrong. The incarnation makes that visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Incarnation)
    }
}

/// "Everything up to and including this message of this life of the stream is in."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// Which life of the stream.
    pub incarnation: Incarnation,
    /// The last message that is in; 0 before the first.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.incarnation, self.sequence)
    }
}

/// Messages that were acknowledged once and can no longer be read: recorded, never skipped silently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The life of the stream that lost them.
    pub incarnation: Incarnation,
    /// The first one missing.
    pub first: u64,
    /// The last one missing.
    pub last: u64,
    /// Why, as far as known: `purged`, `regressed`, `wiped`.
    pub reason: &'static str,
}

/// Which messages of one producer were taken: all up to `contiguous`, and those `above` it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerMark {
    /// The producer's name, see `serin_wire::producer`.
    pub producer: String,
    /// Its run.
    pub epoch: u32,
    /// Every number up to this was taken.
    pub contiguous: u64,
    /// Ranges above the mark that were taken too: first and last, rising, apart from each other.
    /// Bounded in number by the ingester.
    pub above: Vec<(u64, u64)>,
    /// When it was last heard of, in microseconds; old ones are forgotten, imports never.
    pub heard_us: i64,
    /// Whether it is an import, whose numbers name content and must be known for ever.
    pub is_import: bool,
}

impl Gap {
    /// How many messages are missing.
    pub fn len(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The reason as written in the catalogue; `unknown` for one this version does not give.
    pub(crate) fn known_reason(text: &str) -> &'static str {
        ["purged", "regressed", "wiped"]
            .into_iter()
            .find(|reason| *reason == text)
            .unwrap_or("unknown")
    }
}
