//! Rows, read from the files themselves: each one that was promised, once, and the same after a merge.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use xxhash_rust::xxh3::xxh3_128;

use super::{Audit, CheckError, Finding};
use crate::column::ColumnKind;
use crate::encode::{file_schema, fit};
use crate::position::Position;
use crate::store::{FileError, FileStep};
use crate::table::Table;

/// An event that its sender was told is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// What it has in the column that is looked at, and no other event has.
    pub key: String,
    /// Where its message lies on the bus, if the sender was told.
    pub at: Option<Position>,
}

/// Rows of a table, however they are spread over files and in whatever order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowSum {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes, wrapping.
    pub sum: u128,
}

/// Hashes of identities held at once: 16 bytes each, so 128 MiB.
const IDS_AT_ONCE: u64 = 8 << 20;

impl Audit {
    /// I1: each acknowledged event is once in the files, refused ones in theirs, or was in a message
    /// that a recorded gap has. Ask after a flush: what is fresh is not in files yet.
    pub fn acknowledged_are_accounted(
        &self,
        column: &str,
        acknowledged: &[Acknowledged],
    ) -> Result<Vec<Finding>, CheckError> {
        let keys = acknowledged.iter().map(|event| (event.key.as_str(), 0));
        let mut found: BTreeMap<&str, u64> = keys.collect();
        for (_, stored) in self.files() {
            for batch in read(&stored.file.path, Some(&[column]))? {
                for key in texts(&batch?, column).flatten() {
                    if let Some(count) = found.get_mut(key) {
                        *count += 1;
                    }
                }
            }
        }
        let unaccounted = acknowledged.iter().filter_map(|event| {
            let what = match found.get(event.key.as_str()) {
                Some(1) => return None,
                Some(0) | None if self.is_in_a_gap(event.at) => return None,
                Some(0) | None => format!("acknowledged, and nowhere: {:?}", event.key),
                Some(count) => format!(
                    "acknowledged once, and {count} times there: {:?}",
                    event.key
                ),
            };
            Some(Finding::new("I1", what))
        });
        Ok(unaccounted.collect())
    }

    fn is_in_a_gap(&self, at: Option<Position>) -> bool {
        let holds = |at: Position| {
            self.loaded.gaps.iter().any(|gap| {
                gap.incarnation == at.incarnation && (gap.first..=gap.last).contains(&at.sequence)
            })
        };
        at.is_some_and(holds)
    }

    /// I2: no event twice, over all tables: `service` and `id` together name one. Reads the two
    /// columns of every file, several times when there are more than eight million rows.
    pub fn ids_are_unique(&self) -> Result<Vec<Finding>, CheckError> {
        let twice = self.twice(&["service", "id"], identities)?;
        let what = |first, second| format!("an event of {first:?} is there again in {second:?}");
        let finding = |(first, second)| Finding::new("I2", what(first, second));
        Ok(twice.into_iter().map(finding).collect())
    }

    /// I14: what was sent again, since nobody knew what became of it, is there once: no value of
    /// `column`, in which each event has its own, is there twice.
    pub fn sent_again_is_there_once(&self, column: &str) -> Result<Vec<Finding>, CheckError> {
        let hashes = |batch: &RecordBatch| {
            let values = texts(batch, column).flatten();
            values.map(|value| xxh3_128(value.as_bytes())).collect()
        };
        let twice = self.twice(&[column], hashes)?;
        let what = |first, second| {
            format!("a value of {column:?} in {first:?} is there again in {second:?}")
        };
        let finding = |(first, second)| Finding::new("I14", what(first, second));
        Ok(twice.into_iter().map(finding).collect())
    }

    /// Where two rows have the same hash: the tables of both.
    fn twice(
        &self,
        columns: &[&str],
        hashes: impl Fn(&RecordBatch) -> Vec<u128>,
    ) -> Result<Vec<(&str, &str)>, CheckError> {
        let rows: u64 = self.files().map(|(_, stored)| stored.file.rows).sum();
        let passes = u128::from(rows.div_ceil(IDS_AT_ONCE).max(1));
        let mut twice = Vec::new();
        for pass in 0..passes {
            let mut seen: Vec<(u128, &str)> = Vec::new();
            for (table, stored) in self.files() {
                for batch in read(&stored.file.path, Some(columns))? {
                    let hashes = hashes(&batch?).into_iter();
                    let ours = hashes.filter(|hash| hash % passes == pass);
                    seen.extend(ours.map(|hash| (hash, table.name.as_str())));
                }
            }
            seen.sort_unstable();
            let pairs = seen.windows(2).filter(|pair| pair[0].0 == pair[1].0);
            twice.extend(pairs.map(|pair| (pair[0].1, pair[1].1)));
        }
        Ok(twice)
    }

    /// The rows of a table, to be compared with [`Audit::rows_are_kept`].
    pub fn row_sum(&self, table: &str) -> Result<RowSum, CheckError> {
        let mut sum = RowSum::default();
        let Some(table) = self.loaded.tables.get(table) else {
            return Ok(sum);
        };
        // A column that widened counts as a double wherever it was written.
        let schema = file_schema(&table.columns);
        for stored in &table.files {
            for batch in read(&stored.file.path, None)? {
                let batch = fit(&batch?, &table.columns, &schema)?;
                sum.rows += batch.num_rows() as u64;
                for hash in row_hashes(&batch, table)? {
                    sum.sum = sum.sum.wrapping_add(hash);
                }
            }
        }
        Ok(sum)
    }

    /// I10: compaction leaves the rows of a table as they were.
    pub fn rows_are_kept(&self, table: &str, before: RowSum) -> Result<Vec<Finding>, CheckError> {
        let now = self.row_sum(table)?;
        let what = || format!("table {table:?} had {before:?}, and has {now:?}");
        let finding = (now != before).then(|| Finding::new("I10", what()));
        Ok(finding.into_iter().collect())
    }
}

/// Opens a file of the lake.
pub(super) fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::new(FileStep::Read, path, source))
}

/// Reads a file, or some of its columns.
pub(super) fn read(
    path: &Path,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, CheckError> {
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(open(path)?)?;
    if let Some(columns) = columns {
        let schema = reader.parquet_schema();
        let mask = ProjectionMask::columns(schema, columns.iter().copied());
        reader = reader.with_projection(mask);
    }
    Ok(reader.build()?)
}

/// Hashes of service and id of the rows that have an id.
pub(super) fn identities(batch: &RecordBatch) -> Vec<u128> {
    let mut services = texts(batch, "service");
    texts(batch, "id")
        .filter_map(|id| {
            let service = services.next().flatten().unwrap_or("");
            Some(xxh3_128(format!("{service}\u{0}{}", id?).as_bytes()))
        })
        .collect()
}

/// The values of a column of text; none where the file has no such column.
fn texts<'a>(batch: &'a RecordBatch, column: &str) -> impl Iterator<Item = Option<&'a str>> {
    let texts = batch
        .column_by_name(column)
        .and_then(|array| array.as_string_opt::<i32>());
    texts.into_iter().flatten()
}

fn row_hashes(batch: &RecordBatch, table: &Table) -> Result<Vec<u128>, ArrowError> {
    use arrow::row::{RowConverter, SortField};
    // Ordered by name, so that a table that learnt its columns in another order sums alike.
    let mut columns: Vec<usize> = (0..table.columns.len()).collect();
    columns.sort_by_key(|place| &table.columns[*place].column.name);
    let kind = |place: &usize| -> ColumnKind { table.columns[*place].column.kind };
    let fields = columns
        .iter()
        .map(|place| SortField::new(kind(place).arrow()))
        .collect();
    let arrays: Vec<_> = columns
        .iter()
        .map(|place| batch.column(*place).clone())
        .collect();
    let rows = RowConverter::new(fields)?.convert_columns(&arrays)?;
    Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
}
