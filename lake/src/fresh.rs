//! Rows that are not committed yet: the trait by which the hot buffer plugs in.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;

use crate::column::Column;

/// The hot buffer, seen from a snapshot. Implemented by ingest.
///
/// The lake calls both functions under the lock that guards its file list, so that a row is in
/// exactly one of the two. They must be quick, and must never call back into the lake.
pub trait Fresh: Send + Sync {
    /// All rows whose flush number is above `flushed`.
    fn rows(&self, flushed: u64) -> FreshRows;

    /// Rows up to `flushed` are in files now and can be let go.
    fn forget(&self, flushed: u64);
}

/// What the hot buffer holds at one moment.
#[derive(Debug, Clone, Default)]
pub struct FreshRows {
    /// By table.
    pub tables: BTreeMap<String, FreshTable>,
    /// Up to when the data are complete, microseconds; `None` while nobody seals time.
    pub watermark_us: Option<i64>,
    /// Rises whenever a row was added, so that readers can tell whether anything is new.
    pub version: u64,
}

/// Rows of one table in the hot buffer.
#[derive(Debug, Clone, Default)]
pub struct FreshTable {
    /// All columns as known by now.
    pub columns: Vec<Column>,
    /// The rows; a batch may lack the newest columns or hold an `Int` that has since widened.
    pub batches: Vec<RecordBatch>,
    /// The earliest time of those that were not imported.
    pub live_from_us: Option<i64>,
    /// The earliest and the latest time of those that were.
    pub imported_us: Option<(i64, i64)>,
}
