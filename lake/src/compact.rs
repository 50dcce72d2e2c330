//! Merges small files of a table into larger ones, newest first, with bounded memory.
//!
//! Sorted files come in and are merged row by row; one sorted file comes out, and takes their place
//! in one transaction. Rows, nulls and order are kept; imports stay apart. Start at [`choose`].

mod room;

use std::cmp::Ordering as Cmp;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use thiserror::Error;

use self::room::rows_at_once;
use crate::catalogue::{CatalogueError, Change, Retired, TableChange, Verb};
use crate::encode::{EncodeError, Encoded, ParquetOut, StoredColumn, file_schema, fit};
use crate::keep::first_damage;
use crate::known::Known;
use crate::lake::{Inner, Lake, locked};
use crate::options::LakeOptions;
use crate::order::{key_converter, keys_of, sort_columns};
use crate::snapshot::DataFile;
use crate::store::{FileError, FileStep};
use crate::table::{StoredFile, Table};
use crate::text;

/// What one round of compaction did; all zero when there was nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The table.
    pub table: String,
    /// Files that were merged.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Bytes of the file that took their place.
    pub bytes_after: u64,
}

/// Why files were not merged; nothing has changed.
#[derive(Debug, Error)]
pub enum CompactError {
    /// A file to be merged is not what was written; it stays as it is.
    #[error("file {file} of table {table:?} is damaged and is not merged; run `serin doctor`")]
    Damaged {
        /// The table.
        table: String,
        /// The file's number.
        file: u64,
    },
    /// The merged file does not hold what went in.
    #[error("merging table {table:?} gave {found} rows from {expected}")]
    Lost {
        /// The table.
        table: String,
        /// Rows that came out.
        found: u64,
        /// Rows that went in.
        expected: u64,
    },
    /// The lake was given up.
    #[error("the lake was given up after a failed sync; restart to recover")]
    Poisoned,
    /// Reading or writing a file failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The catalogue refused.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// Files to be merged into one.
#[derive(Debug)]
struct Group {
    table: Table,
    files: Vec<Arc<StoredFile>>,
}

/// The smallest class of files holds those up to this size.
const SMALL_BYTES: u64 = 64 << 10;

impl Lake {
    /// Merges one group of small files, the newest that are due; call again while `files` is not 0.
    pub fn compact(&self, now_us: i64) -> Result<Compacted, CompactError> {
        let inner = &*self.inner;
        let _turn = locked(&inner.tidying);
        if self.is_poisoned() {
            return Err(CompactError::Poisoned);
        }
        let chosen = {
            let shown = locked(&inner.shown);
            let damaged = locked(&inner.damaged);
            choose(shown.tables.values(), &damaged, &inner.options, now_us)
        };
        let Some(group) = chosen else {
            return Ok(Compacted::default());
        };
        let result = inner.merge(group, now_us);
        let is_unknown = match &result {
            Err(CompactError::File(error) | CompactError::Encode(EncodeError::File(error))) => {
                error.is_durability()
            }
            Err(CompactError::Catalogue(error)) => error.is_durability(),
            _ => false,
        };
        if is_unknown {
            inner.poison();
        }
        result
    }
}

/// The newest group that is due, over all tables.
fn choose<'a>(
    tables: impl Iterator<Item = &'a Table>,
    damaged: &BTreeSet<u64>,
    options: &LakeOptions,
    now_us: i64,
) -> Option<Group> {
    tables
        .filter_map(|table| {
            let bytes_max = options.merged_bytes_max(&table.name);
            let files = choose_in(&table.files, damaged, options, bytes_max, now_us)?;
            let table = table.clone();
            Some(Group { table, files })
        })
        .max_by_key(|group| group.files.first().map(|stored| stored.file.arrived_us))
}

/// The newest group of one table: files of one kind and of like size, or what is left of a day.
fn choose_in(
    files: &[Arc<StoredFile>],
    damaged: &BTreeSet<u64>,
    options: &LakeOptions,
    bytes_max: u64,
    now_us: i64,
) -> Option<Vec<Arc<StoredFile>>> {
    let span_us = i64::try_from(options.compact_span.as_micros())
        .unwrap_or(i64::MAX)
        .max(1);
    let mut small: Vec<&Arc<StoredFile>> = files
        .iter()
        .filter(|stored| stored.file.bytes < bytes_max / 2)
        .filter(|stored| !damaged.contains(&stored.file.id))
        .collect();
    if small.len() < 2 {
        return None;
    }
    small.sort_by_key(|stored| (std::cmp::Reverse(stored.file.arrived_us), stored.file.id));
    // Imported files know no age, but are one only with those of the same record; the others merge
    // only within their span.
    let known = Known::of_files(files.iter().map(|stored| &stored.file));
    let record = |file: &DataFile| known.record_of(file.time_range_us()?.0);
    let window = |stored: &StoredFile| match stored.file.is_import {
        true => record(&stored.file).unwrap_or(i64::MIN),
        false => stored.file.arrived_us.div_euclid(span_us),
    };
    let class = |stored: &StoredFile| {
        let is_closed = !stored.file.is_import && window(stored) < now_us.div_euclid(span_us);
        let size = match is_closed {
            true => u32::MAX,
            false => size_class(stored.file.bytes, options.compact_fan_in),
        };
        (stored.file.is_import, window(stored), size)
    };
    let mut tried = BTreeSet::new();
    for first in &small {
        let wanted = class(first);
        if !tried.insert((wanted, &first.sort)) {
            continue;
        }
        let mut bytes = 0;
        let group: Vec<Arc<StoredFile>> = small
            .iter()
            .filter(|stored| class(stored) == wanted && stored.sort == first.sort)
            .take(options.compact_fan_in * 2)
            .take_while(|stored| {
                bytes += stored.file.bytes;
                bytes <= bytes_max
            })
            .map(|stored| Arc::clone(stored))
            .collect();
        let due = match wanted.2 {
            u32::MAX => 2,
            _ => options.compact_fan_in.max(2),
        };
        if group.len() >= due {
            return Some(group);
        }
    }
    None
}

/// Files of one class differ in size by less than the fan-in, so that a row is rewritten once per class.
fn size_class(bytes: u64, fan_in: usize) -> u32 {
    let step = (fan_in as u64).max(2);
    let mut class = 0;
    let mut limit = SMALL_BYTES;
    while bytes > limit {
        limit = limit.saturating_mul(step);
        class += 1;
    }
    class
}

impl Inner {
    fn merge(&self, group: Group, now_us: i64) -> Result<Compacted, CompactError> {
        let table = &group.table;
        for stored in &group.files {
            if first_damage(&stored.file, &stored.sums).is_some() {
                // The next round merges the others without it.
                locked(&self.damaged).insert(stored.file.id);
                return Err(CompactError::Damaged {
                    table: table.name.clone(),
                    file: stored.file.id,
                });
            }
        }
        let id = self.next_file_id.fetch_add(1, Ordering::Relaxed);
        let path = self.data_dir.join(table.path_of(id));
        let aside = path.with_file_name(text::temporary_name(id));
        let result = self.write_merged(&group, &aside).and_then(|encoded| {
            self.rename(&aside, &path)?;
            if let Some(folder) = path.parent() {
                self.sync_dir(folder)?;
            }
            self.replace(&group, id, path.clone(), encoded, now_us)
        });
        if let Err(error) = &result
            && !matches!(error, CompactError::Catalogue(error) if error.is_durability())
        {
            self.give_up([&aside, &path].into_iter());
        }
        result
    }

    fn write_merged(
        &self,
        group: &Group,
        aside: &std::path::Path,
    ) -> Result<Encoded, CompactError> {
        let columns = &group.table.columns;
        let sort = group
            .files
            .first()
            .map(|stored| stored.sort.clone())
            .unwrap_or_default();
        let mut out = ParquetOut::create(&*self.disk, aside, columns, &sort, &self.options)?;
        merge_rows(&group.files, columns, &sort, |batch| out.write(&batch))?;
        let encoded = out.finish()?;
        let expected = group.files.iter().map(|stored| stored.file.rows).sum();
        if encoded.rows != expected || !keeps_nulls(&group.files, &encoded) {
            return Err(CompactError::Lost {
                table: group.table.name.clone(),
                found: encoded.rows,
                expected,
            });
        }
        Ok(encoded)
    }

    /// Puts the merged file in the place of those it was made from, for catalogue and readers.
    fn replace(
        &self,
        group: &Group,
        id: u64,
        path: std::path::PathBuf,
        encoded: Encoded,
        now_us: i64,
    ) -> Result<Compacted, CompactError> {
        let old: Vec<u64> = group.files.iter().map(|stored| stored.file.id).collect();
        let newest = group.files.first().map(|stored| &stored.file);
        let arrived_us = newest.map_or(now_us, |file| file.arrived_us);
        let is_import = newest.is_some_and(|file| file.is_import);
        let sort = group
            .files
            .first()
            .map(|stored| stored.sort.clone())
            .unwrap_or_default();
        let mut catalogue = locked(&self.catalogue);
        let current = locked(&self.shown).tables.get(&group.table.name).cloned();
        let mut after = current.unwrap_or_else(|| group.table.clone());
        after.files.retain(|stored| !old.contains(&stored.file.id));
        let merged = after.take_file(path, id, encoded, sort, arrived_us, is_import);
        let compacted = Compacted {
            table: group.table.name.clone(),
            files: old.len(),
            rows: merged.file.rows,
            bytes_before: group.files.iter().map(|stored| stored.file.bytes).sum(),
            bytes_after: merged.file.bytes,
        };
        let change = Change {
            now_us,
            tables: vec![TableChange {
                after,
                is_new: false,
                columns_added: Vec::new(),
                columns_widened: Vec::new(),
                files_added: vec![merged],
                files_ended: old,
            }],
            progress: None,
            verb: Verb::Compact,
            next_file_id: self.next_file_id.load(Ordering::Relaxed),
            next_catalog_id: self.next_catalog_id.load(Ordering::Relaxed),
        };
        let snapshot = catalogue.commit(&change, &*self.disk)?;
        self.show(change, snapshot, &group.files);
        Ok(compacted)
    }

    /// Shows a change that took files away; they rest until nobody reads them.
    pub(crate) fn show(&self, change: Change<'_>, snapshot: u64, gone: &[Arc<StoredFile>]) {
        let mut shown = locked(&self.shown);
        shown.number = snapshot;
        for table in change.tables {
            for stored in &table.files_added {
                self.store
                    .know(&stored.file.path, stored.file.bytes, stored.sums.clone());
            }
            shown.put(table.after);
        }
        for stored in gone {
            let path = stored
                .file
                .path
                .strip_prefix(&self.data_dir)
                .unwrap_or(&stored.file.path);
            let retired = Retired {
                id: stored.file.id,
                path: path.display().to_string(),
                scheduled_us: None,
            };
            shown.retired.push((retired, Arc::downgrade(&stored.file)));
        }
    }
}

/// A merged column has the nulls of its parts, and a null for each row of a part that lacked it.
fn keeps_nulls(files: &[Arc<StoredFile>], merged: &Encoded) -> bool {
    merged.stats.iter().all(|after| {
        let before: u64 = files
            .iter()
            .map(|stored| {
                let stats = stored
                    .file
                    .stats
                    .iter()
                    .find(|stats| stats.name == after.name);
                stats.map_or(stored.file.rows, |stats| stats.nulls)
            })
            .sum();
        before == after.nulls
    })
}

/// A sorted file being read: the batch at hand, its keys, and the next row.
struct Source {
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    keys: Rows,
    row: usize,
    /// Where its batch is in the list of batches the next output refers to.
    slot: usize,
}

/// What is the same for all sources.
struct Layout<'a> {
    columns: &'a [StoredColumn],
    schema: SchemaRef,
    places: Vec<usize>,
    converter: RowConverter,
}

/// Reads sorted files side by side and hands on their rows in order.
pub(crate) fn merge_rows(
    files: &[Arc<StoredFile>],
    columns: &[StoredColumn],
    sort: &[String],
    mut take: impl FnMut(RecordBatch) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let schema = file_schema(columns);
    let mut places = sort_columns(&schema, sort);
    if places.is_empty() {
        places.push(0);
    }
    let layout = Layout {
        converter: key_converter(&schema, &places)?,
        columns,
        schema,
        places,
    };
    let mut builders = Vec::new();
    for stored in files {
        let file = File::open(&stored.file.path)
            .map_err(|source| FileError::new(FileStep::Read, &stored.file.path, source))?;
        builders.push(ParquetRecordBatchReaderBuilder::try_new(file)?);
    }
    let rows_max = rows_at_once(builders.iter().map(|file| file.metadata().as_ref()));
    let mut sources = Vec::new();
    for builder in builders {
        let reader = builder.with_batch_size(rows_max).build()?;
        if let Some(source) = layout.open(reader)? {
            sources.push(source);
        }
    }
    let mut held: Vec<RecordBatch> = Vec::new();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(rows_max);
    for source in &mut sources {
        source.slot = held.len();
        held.push(source.batch.clone());
    }
    while !sources.is_empty() {
        let (least, end) = next_run(&sources);
        let source = &mut sources[least];
        let end = end.min(source.row + rows_max - order.len());
        order.extend((source.row..end).map(|row| (source.slot, row)));
        source.row = end;
        if source.row == source.batch.num_rows() {
            match layout.next(source)? {
                true => {
                    source.slot = held.len();
                    held.push(source.batch.clone());
                }
                false => drop(sources.swap_remove(least)),
            }
        }
        if order.len() == rows_max || sources.is_empty() {
            let parts: Vec<&RecordBatch> = held.iter().collect();
            take(interleave_record_batch(&parts, &order)?)?;
            order.clear();
            held.clear();
            for source in &mut sources {
                source.slot = held.len();
                held.push(source.batch.clone());
            }
        }
    }
    Ok(())
}

/// The source with the least row, and up to which of its rows no other source has a lesser one.
fn next_run(sources: &[Source]) -> (usize, usize) {
    let key = |place: usize| sources[place].keys.row(sources[place].row);
    let mut least = 0;
    let mut second: Option<usize> = None;
    for place in 1..sources.len() {
        if key(place) < key(least) {
            second = Some(least);
            least = place;
        } else if second.is_none_or(|second| key(place) < key(second)) {
            second = Some(place);
        }
    }
    let source = &sources[least];
    let rows = source.batch.num_rows();
    let end = match second {
        None => rows,
        Some(second) => {
            let limit = key(second);
            let is_before = |row: usize| source.keys.row(row).cmp(&limit) != Cmp::Greater;
            (source.row + 1..rows)
                .find(|row| !is_before(*row))
                .unwrap_or(rows)
        }
    };
    (least, end)
}

impl Layout<'_> {
    fn open(&self, reader: ParquetRecordBatchReader) -> Result<Option<Source>, EncodeError> {
        let batch = RecordBatch::new_empty(self.schema.clone());
        let mut source = Source {
            reader,
            keys: keys_of(&self.converter, &batch, &self.places)?,
            batch,
            row: 0,
            slot: 0,
        };
        Ok(self.next(&mut source)?.then_some(source))
    }

    /// Reads the next batch that has rows; `false` at the end.
    fn next(&self, source: &mut Source) -> Result<bool, EncodeError> {
        for batch in source.reader.by_ref() {
            let batch = fit(&batch?, self.columns, &self.schema)?;
            if batch.num_rows() > 0 {
                source.keys = keys_of(&self.converter, &batch, &self.places)?;
                source.batch = batch;
                source.row = 0;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::snapshot::DataFile;
    use crate::sums::Sums;

    const HOUR_US: i64 = 3600 * 1_000_000;

    /// Files as `(id, KiB, hour of arrival)`; negative hours are imports.
    fn chosen(files: &[(u64, u64, i64)], now_h: i64) -> Vec<u64> {
        let files: Vec<Arc<StoredFile>> = files
            .iter()
            .map(|(id, kib, hour)| {
                Arc::new(StoredFile {
                    file: Arc::new(DataFile {
                        id: *id,
                        path: PathBuf::new(),
                        rows: 1,
                        bytes: kib << 10,
                        stats: Vec::new(),
                        arrived_us: hour.abs() * HOUR_US,
                        is_import: *hour < 0,
                    }),
                    footer_bytes: 0,
                    row_id_start: 0,
                    sort: Vec::new(),
                    sums: Arc::new(Sums::of(b"")),
                })
            })
            .collect();
        let options = LakeOptions {
            compact_fan_in: 3,
            ..LakeOptions::default()
        };
        let damaged = BTreeSet::from([99]);
        let group = choose_in(
            &files,
            &damaged,
            &options,
            options.target_file_bytes,
            now_h * HOUR_US,
        );
        group
            .unwrap_or_default()
            .iter()
            .map(|stored| stored.file.id)
            .collect()
    }

    #[test]
    fn the_newest_files_of_one_size_and_kind_are_merged() {
        // Too few of one size.
        assert!(chosen(&[(1, 10, 1), (2, 10, 2), (3, 9000, 3)], 4).is_empty());
        // Newest first; the large one waits for others of its size.
        assert_eq!(
            chosen(&[(1, 10, 1), (2, 10, 2), (3, 10, 3), (4, 9000, 4)], 5),
            [3, 2, 1]
        );
        // A damaged file is left alone.
        assert!(chosen(&[(1, 10, 1), (2, 10, 2), (99, 10, 3)], 4).is_empty());
        // Large files are done; imports stay apart, however old.
        assert!(chosen(&[(1, 90_000, 1), (2, 90_000, 2), (3, 90_000, 3)], 4).is_empty());
        assert!(chosen(&[(1, 10, 1), (2, 10, -2), (3, 10, 3), (4, 10, -300)], 4).is_empty());
        assert_eq!(
            chosen(&[(1, 10, -1), (2, 10, -200), (3, 10, -3)], 900),
            [2, 3, 1]
        );
        // What is left of a day that is over becomes one file, and files of two days do not.
        assert_eq!(chosen(&[(1, 10, 1), (2, 900, 2), (3, 10, 30)], 31), [2, 1]);
        assert!(chosen(&[(1, 10, 1), (2, 10, 25)], 60).is_empty());
        // The group stays below the size that is aimed at.
        let half = 60_000;
        assert_eq!(
            chosen(&[(1, half, 1), (2, half, 2), (3, half, 3)], 30),
            [3, 2]
        );
    }
}
