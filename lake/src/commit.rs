//! One flush becomes durable: plan, encode aside, sync, rename, one transaction, then readers see it.
//!
//! Nothing here is done twice: whatever fails before the transaction leaves no trace but leftovers,
//! which are removed at once or at the next start; whatever fails in a sync poisons the lake.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::catalogue::{CatalogueError, Change, TableChange, Verb};
use crate::column::Column;
use crate::encode::{EncodeError, Encoded, encode};
use crate::flush::{Account, Flush, TableRows};
use crate::lake::{Inner, Lake, locked};
use crate::position::{Gap, Position};
use crate::store::{FileError, FileStep, Moment, ensure_dir};
use crate::table::Table;
use crate::text;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The catalogue's snapshot number now.
    pub snapshot: u64,
    /// How far the files reach on the bus now; acknowledge up to here.
    pub position: Position,
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Why a flush was not committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// A sync failed, or the outcome is unknown: never retry, end the process, recover.
    #[error("cannot make flush {number} durable; the process must end and recover")]
    Durability {
        /// The flush.
        number: u64,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier commit failed that way.
    #[error("the lake was given up after a failed sync; restart to recover")]
    Poisoned,
    /// The flush does not start where the catalogue stands; nothing was written.
    #[error("flush {number} starts at {expected}, but the catalogue stands at {found}")]
    Elsewhere {
        /// The flush.
        number: u64,
        /// Where it starts.
        expected: Position,
        /// Where the catalogue stands.
        found: Position,
    },
    /// The flush does not account for every message and row; nothing was written.
    #[error("flush {number} covers {range} messages, but accounts for {} and {gap} missing; it brings {rows} rows, but accounts for {}", account.messages, account.rows)]
    Account {
        /// The flush.
        number: u64,
        /// Messages between its positions.
        range: u64,
        /// Messages in its gaps.
        gap: u64,
        /// Rows in its batches.
        rows: u64,
        /// What it says itself.
        account: Account,
    },
    /// A column came with a kind that it cannot have any more.
    #[error("column {:?} of table {table:?} is {:?} and cannot become {:?}", known.name, known.kind, wanted.kind)]
    Column {
        /// The table.
        table: String,
        /// The column as it is.
        known: Column,
        /// As the flush has it.
        wanted: Column,
    },
    /// Rows could not be encoded; nothing was written. Try again when the cause is gone.
    #[error("cannot write the rows of table {table:?}")]
    Encode {
        /// The table.
        table: String,
        /// Why.
        source: EncodeError,
    },
    /// The disk failed before anything was committed; try again when the cause is gone.
    #[error(transparent)]
    File(#[from] FileError),
    /// The catalogue refused; nothing was changed. Try again when the cause is gone.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// A file to be written.
struct Job<'a> {
    rows: &'a TableRows,
    table: usize,
    id: u64,
    aside: PathBuf,
    path: PathBuf,
}

impl Lake {
    /// Makes a flush durable and shows it to readers. Blocks; one flush at a time.
    ///
    /// After an error that is neither [`CommitError::Durability`] nor [`CommitError::Poisoned`]
    /// nothing has changed and the same flush may be tried again.
    pub fn commit(&self, flush: Flush) -> Result<Committed, CommitError> {
        let inner = &*self.inner;
        let _turn = locked(&inner.flushing);
        if self.is_poisoned() {
            return Err(CommitError::Poisoned);
        }
        let result = inner.commit(&flush);
        if matches!(result, Err(CommitError::Durability { .. })) {
            inner.poison();
        }
        result
    }
}

impl Inner {
    fn commit(&self, flush: &Flush) -> Result<Committed, CommitError> {
        let found = locked(&self.shown).position;
        let is_one_life = flush.progress.to.incarnation == found.incarnation;
        if found != flush.progress.from || !is_one_life {
            return Err(CommitError::Elsewhere {
                number: flush.number,
                expected: flush.progress.from,
                found,
            });
        }
        account(flush)?;
        let tables = self.plan(flush)?;
        let jobs = self.jobs(flush, &tables);
        let result = self
            .write_files(&jobs, &tables)
            .map_err(|error| in_flush(flush.number, error))
            .and_then(|encoded| self.name_files(flush, tables, &jobs, encoded));
        let is_unknown = matches!(result, Err(CommitError::Durability { .. }));
        if result.is_err() && !is_unknown {
            self.give_up(jobs.iter().flat_map(|job| [&job.aside, &job.path]));
        }
        result
    }

    /// What the flush makes of each table it has rows for.
    fn plan(&self, flush: &Flush) -> Result<Vec<TableChange>, CommitError> {
        let shown = locked(&self.shown);
        let mut changes: Vec<TableChange> = Vec::new();
        for rows in &flush.tables {
            let place = changes
                .iter()
                .position(|change| change.after.name == rows.name);
            let change = match place {
                Some(place) => &mut changes[place],
                None => {
                    let known = shown.tables.get(&rows.name).cloned();
                    changes.push(TableChange {
                        is_new: known.is_none(),
                        after: known.unwrap_or_else(|| {
                            let id = self.next_catalog_id.fetch_add(1, Ordering::Relaxed);
                            Table::new(id, rows.name.clone(), text::table_dir(&rows.name, id))
                        }),
                        columns_added: Vec::new(),
                        columns_widened: Vec::new(),
                        files_added: Vec::new(),
                        files_ended: Vec::new(),
                    });
                    let last = changes.len() - 1;
                    &mut changes[last]
                }
            };
            let grown = change.after.grow(&rows.columns).map_err(|known| {
                let wanted = rows.columns.iter().find(|column| column.name == known.name);
                CommitError::Column {
                    table: rows.name.clone(),
                    wanted: wanted.cloned().unwrap_or_else(|| known.clone()),
                    known,
                }
            })?;
            change.columns_added.extend(grown.added);
            change.columns_widened.extend(grown.widened);
        }
        for change in &mut changes {
            // A column that is new in this very flush and widened by a later part of it is only new.
            let after = &change.after;
            let current = |id: u64| after.columns.iter().find(|column| column.id == id).cloned();
            let added: BTreeSet<u64> = change
                .columns_added
                .iter()
                .map(|column| column.id)
                .collect();
            change
                .columns_widened
                .retain(|column| !added.contains(&column.id));
            change.columns_added = added.into_iter().filter_map(current).collect();
        }
        Ok(changes)
    }

    fn jobs<'a>(&self, flush: &'a Flush, tables: &[TableChange]) -> Vec<Job<'a>> {
        let mut jobs: Vec<Job<'a>> = Vec::new();
        for rows in &flush.tables {
            let has_rows = rows.batches.iter().any(|batch| batch.num_rows() > 0);
            let place = tables
                .iter()
                .position(|change| change.after.name == rows.name);
            if let (true, Some(table)) = (has_rows, place) {
                let id = self.next_file_id.fetch_add(1, Ordering::Relaxed);
                let path = self.data_dir.join(tables[table].after.path_of(id));
                let aside = path.with_file_name(text::temporary_name(id));
                jobs.push(Job {
                    rows,
                    table,
                    id,
                    aside,
                    path,
                });
            }
        }
        jobs
    }

    /// Writes all files of a flush side by side, then gives them their names, durably.
    fn write_files(
        &self,
        jobs: &[Job<'_>],
        tables: &[TableChange],
    ) -> Result<Vec<Encoded>, WriteError> {
        let folders: BTreeSet<&Path> = jobs.iter().filter_map(|job| job.path.parent()).collect();
        for folder in &folders {
            ensure_dir(&*self.disk, folder)?;
        }
        let done = self.encode_all(jobs, tables);
        let mut encoded = Vec::with_capacity(jobs.len());
        for (job, result) in jobs.iter().zip(done) {
            encoded.push(result.map_err(|source| WriteError::Encode {
                table: job.rows.name.clone(),
                source,
            })?);
        }
        for job in jobs {
            self.rename(&job.aside, &job.path)?;
        }
        for folder in &folders {
            self.sync_dir(folder)?;
        }
        Ok(encoded)
    }

    fn encode_all(
        &self,
        jobs: &[Job<'_>],
        tables: &[TableChange],
    ) -> Vec<Result<Encoded, EncodeError>> {
        let encode_one = |job: &Job<'_>| {
            let rows = job.rows;
            let columns = &tables[job.table].after.columns;
            let disk = &*self.disk;
            encode(
                disk,
                &job.aside,
                columns,
                &rows.sort,
                &rows.batches,
                &self.options,
            )
        };
        if jobs.len() < 2 || self.options.encoders < 2 {
            return jobs.iter().map(encode_one).collect();
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(jobs.len()));
        std::thread::scope(|scope| {
            for _ in 0..self.options.encoders.min(jobs.len()) {
                scope.spawn(|| {
                    while let Some((place, job)) = {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        jobs.get(place).map(|job| (place, job))
                    } {
                        let result = encode_one(job);
                        locked(&done).push((place, result));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// The transaction, and then the swap of what readers see.
    fn name_files(
        &self,
        flush: &Flush,
        mut tables: Vec<TableChange>,
        jobs: &[Job<'_>],
        encoded: Vec<Encoded>,
    ) -> Result<Committed, CommitError> {
        self.disk
            .pass(Moment::FilesDurable)
            .map_err(|source| CommitError::from(CatalogueError::CutOff(source)))?;
        let mut catalogue = locked(&self.catalogue);
        self.rebase(&mut tables);
        let (mut rows, mut bytes) = (0, 0);
        for (job, encoded) in jobs.iter().zip(encoded) {
            rows += encoded.rows;
            bytes += encoded.bytes;
            let change = &mut tables[job.table];
            change.files_added.push(change.after.take_file(
                job.path.clone(),
                job.id,
                encoded,
                job.rows.sort.clone(),
                flush.now_us,
                job.rows.is_import,
            ));
        }
        let change = Change {
            now_us: flush.now_us,
            tables,
            progress: Some(&flush.progress),
            verb: Verb::Insert,
            next_file_id: self.next_file_id.load(Ordering::Relaxed),
            next_catalog_id: self.next_catalog_id.load(Ordering::Relaxed),
        };
        let snapshot = catalogue
            .commit(&change, &*self.disk)
            .map_err(|error| in_flush(flush.number, error.into()))?;
        self.disk
            .pass(Moment::AfterCommit)
            .map_err(|source| CommitError::Durability {
                number: flush.number,
                source: source.into(),
            })?;
        locked(&self.clock).hear(flush.now_us);
        let mut shown = locked(&self.shown);
        shown.number = snapshot;
        shown.position = flush.progress.to;
        shown.changes += 1;
        shown.flushed = shown.flushed.max(flush.number);
        for table in change.tables {
            for stored in &table.files_added {
                self.store
                    .know(&stored.file.path, stored.file.bytes, stored.sums.clone());
            }
            shown.put(table.after);
        }
        if let Some(fresh) = &shown.fresh {
            fresh.forget(flush.number);
        }
        Ok(Committed {
            snapshot,
            position: flush.progress.to,
            rows,
            bytes,
        })
    }

    /// Takes in what compaction and expiry did to the file lists while we encoded. Columns are
    /// changed by flushes alone, so the plan for them still holds.
    fn rebase(&self, tables: &mut [TableChange]) {
        let shown = locked(&self.shown);
        for change in tables {
            if let Some(current) = shown.tables.get(&change.after.name) {
                change.after.files = current.files.clone();
                change.after.next_row_id = current.next_row_id;
            }
        }
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.disk
            .rename(from, to)
            .map_err(|source| FileError::new(FileStep::Rename, to, source))
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.disk
            .sync_dir(dir)
            .map_err(|source| FileError::new(FileStep::SyncDir, dir, source))
    }

    /// Removes what a failed attempt may have left; what cannot be removed now is removed at the
    /// next start.
    pub(crate) fn give_up<'a>(&self, paths: impl Iterator<Item = &'a PathBuf>) {
        for path in paths {
            if let Err(error) = self.disk.remove(path) {
                tracing::warn!(path = %path.display(), %error, "left a file of a failed commit");
            }
        }
    }
}

/// Refuses a flush whose messages, gaps and rows do not add up (invariant I4).
fn account(flush: &Flush) -> Result<(), CommitError> {
    let progress = &flush.progress;
    let Some(account) = progress.account else {
        return Ok(());
    };
    let range = progress.to.sequence.saturating_sub(progress.from.sequence);
    let gap: u64 = progress.gaps.iter().map(Gap::len).sum();
    let batches = flush.tables.iter().flat_map(|rows| &rows.batches);
    let rows: u64 = batches.map(|batch| batch.num_rows() as u64).sum();
    if account.messages + gap == range && account.rows == rows {
        return Ok(());
    }
    Err(CommitError::Account {
        number: flush.number,
        range,
        gap,
        rows,
        account,
    })
}

/// Why files could not be written.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("cannot write the rows of table {table:?}")]
    Encode { table: String, source: EncodeError },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl WriteError {
    /// Whether the process must end.
    pub(crate) fn is_durability(&self) -> bool {
        match self {
            WriteError::File(error)
            | WriteError::Encode {
                source: EncodeError::File(error),
                ..
            } => error.is_durability(),
            WriteError::Catalogue(error) => matches!(error, CatalogueError::Durability(_)),
            WriteError::Encode { .. } => false,
        }
    }
}

fn in_flush(number: u64, error: WriteError) -> CommitError {
    if error.is_durability() {
        let source = Box::new(error);
        return CommitError::Durability { number, source };
    }
    match error {
        WriteError::Encode { table, source } => CommitError::Encode { table, source },
        WriteError::File(error) => error.into(),
        WriteError::Catalogue(CatalogueError::Elsewhere { expected, found }) => {
            CommitError::Elsewhere {
                number,
                expected,
                found,
            }
        }
        WriteError::Catalogue(error) => error.into(),
    }
}
