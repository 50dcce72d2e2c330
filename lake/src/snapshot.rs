//! One consistent view of everything: files and hot rows, each row exactly once.
//!
//! A snapshot is a value. The files it names stay on disk as long as it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::column::{Column, ColumnKind};
use crate::known::Known;
use crate::position::Position;

/// Everything there is to read at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The catalogue's snapshot number.
    pub number: u64,
    /// Rises with every new row, fresh or committed, within one process.
    pub version: u64,
    /// How far the files reach on the bus.
    pub position: Position,
    /// Up to when the data are complete, microseconds since 1970; `None` while nobody seals time.
    pub watermark_us: Option<i64>,
    /// By table name.
    pub tables: BTreeMap<String, Arc<TableView>>,
}

/// One table.
#[derive(Debug, Clone)]
pub struct TableView {
    /// The event type, or one of our own tables.
    pub name: String,
    /// All columns, in the order they were first seen.
    pub columns: Vec<Column>,
    /// Committed files. A file may lack newer columns or hold an `Int` that has since widened.
    pub files: Vec<Arc<DataFile>>,
    /// Rows not yet in a file, likewise.
    pub fresh: Vec<RecordBatch>,
    /// Where an empty time had no events.
    pub known: Known,
}

/// One Parquet file of a table.
#[derive(Debug)]
pub struct DataFile {
    /// The catalogue's number of it.
    pub id: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// How long it is.
    pub bytes: u64,
    /// Statistics of the columns it has.
    pub stats: Vec<ColumnStats>,
    /// When its newest row arrived, microseconds.
    pub arrived_us: i64,
    /// Whether its rows were imported.
    pub is_import: bool,
}

/// What is known of one column of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// The column.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Nulls among the rows.
    pub nulls: u64,
    /// Least value; `None` where all are null or it is not kept. Texts may be cut, rounded down.
    pub min: Option<Bound>,
    /// Greatest value, likewise, rounded up.
    pub max: Option<Bound>,
    /// Whether a float is not a number.
    pub has_nan: bool,
}

/// A bound of a column's values.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Bound {
    /// Of a `Bool`.
    Bool(bool),
    /// Of an `Int`.
    Int(i64),
    /// Of a `Double`.
    Double(f64),
    /// Of a `Text`.
    Text(String),
    /// Of a `Time`, microseconds.
    Time(i64),
}

impl Snapshot {
    /// The time range that has data over the given tables (all event tables when empty).
    pub fn data_range_us<'a>(&self, tables: impl Iterator<Item = &'a str>) -> Option<(i64, i64)> {
        tables
            .filter_map(|name| self.tables.get(name)?.time_range_us())
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

impl DataFile {
    /// Least and greatest `time` of its rows.
    pub fn time_range_us(&self) -> Option<(i64, i64)> {
        let stats = self.stats.iter().find(|stats| stats.name == "time")?;
        match (stats.min.as_ref()?, stats.max.as_ref()?) {
            (Bound::Time(min), Bound::Time(max)) => Some((*min, *max)),
            _ => None,
        }
    }
}

impl TableView {
    /// Takes in the columns that fresh rows know: new ones, and integers that became doubles.
    pub(crate) fn widen(&mut self, columns: &[Column]) {
        for column in columns {
            match self
                .columns
                .iter_mut()
                .find(|known| known.name == column.name)
            {
                None => self.columns.push(column.clone()),
                Some(known)
                    if known.kind == ColumnKind::Int && column.kind == ColumnKind::Double =>
                {
                    known.kind = ColumnKind::Double;
                }
                Some(_) => {}
            }
        }
    }

    /// Least and greatest `time` of the table, from statistics and hot rows.
    pub fn time_range_us(&self) -> Option<(i64, i64)> {
        let of_files = self.files.iter().filter_map(|file| file.time_range_us());
        let of_fresh = self.fresh.iter().filter_map(|batch| {
            let times = batch.column_by_name("time")?;
            let times = times
                .as_any()
                .downcast_ref::<arrow::array::TimestampMicrosecondArray>()?;
            Some((arrow::compute::min(times)?, arrow::compute::max(times)?))
        });
        of_files
            .chain(of_fresh)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}
