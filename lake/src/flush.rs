//! What one flush brings: rows of many tables and the progress they stand for.

use arrow::record_batch::RecordBatch;

use crate::column::Column;
use crate::position::{Gap, Position, ProducerMark};

/// Rows that leave the hot buffer together and become durable together.
#[derive(Debug, Clone)]
pub struct Flush {
    /// Which flush of the hot buffer this is, rising from 1 in each process. [`crate::Fresh`] rows
    /// carry the same number, so that a snapshot knows which of them are in files already.
    pub number: u64,
    /// The rows, a table each; a table without rows is left out.
    pub tables: Vec<TableRows>,
    /// What the rows account for; committed in the same transaction.
    pub progress: Progress,
    /// The moment of the flush, microseconds; it becomes the files' time of arrival.
    pub now_us: i64,
}

/// Rows of one table.
#[derive(Debug, Clone)]
pub struct TableRows {
    /// The table: an event type, or one of our own tables.
    pub name: String,
    /// All its columns as the ingester knows them by now. They only grow and widen.
    pub columns: Vec<Column>,
    /// The rows; a batch may lack the newest columns or hold an `Int` that has since widened.
    pub batches: Vec<RecordBatch>,
    /// Columns to sort by, most significant first.
    pub sort: Vec<String>,
    /// Whether the rows were imported; such files are kept apart and never expire by age of arrival.
    pub is_import: bool,
}

/// How far a flush brings us.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Where the previous flush ended. The commit is refused when the catalogue says otherwise.
    pub from: Position,
    /// Where this one ends.
    pub to: Position,
    /// What could not be read on the way.
    pub gaps: Vec<Gap>,
    /// The producers heard of in this flush, with their whole mark.
    pub producers: Vec<ProducerMark>,
    /// When the bus took the message at `to`, by its clock, where it is there: a stream that has
    /// another message at that place is not the one we read.
    pub taken_us: Option<i64>,
    /// Identities given by clients (hash of service and id, time of arrival), kept for 24 hours.
    pub seen: Vec<(u128, i64)>,
    /// Identities that arrived before this are forgotten earlier, since there are too many.
    pub seen_from_us: Option<i64>,
    /// What became of the messages in between; the commit is refused when it does not add up.
    pub account: Option<Account>,
}

/// What became of the messages of a flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Messages that were read between the two positions; with the gaps they fill the whole range.
    pub messages: u64,
    /// Rows that were made of them, over all tables: events taken, and refused ones kept as rows.
    pub rows: u64,
}
