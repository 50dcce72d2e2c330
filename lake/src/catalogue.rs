//! The SQLite file that names everything: DuckLake's tables and ours, one transaction a change.
//!
//! [`Change`]s come in from flush, compaction and expiry; either all of one is there afterwards or
//! nothing. This file alone knows SQL. Start at [`Catalogue::commit`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use thiserror::Error;

use crate::column::{Column, ColumnKind};
use crate::encode::StoredColumn;
use crate::flush::Progress;
use crate::position::{Gap, Incarnation, Position, ProducerMark};
use crate::snapshot::{ColumnStats, DataFile};
use crate::store::{Disk, Moment};
use crate::sums::Sums;
use crate::table::{StoredFile, Table};
use crate::text;

/// Why the catalogue did not do what was asked.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// SQLite refused; nothing was changed.
    #[error("the catalogue refused a statement")]
    Sqlite(#[from] rusqlite::Error),
    /// A sync failed or the commit's outcome is unknown: the process must end and recover.
    #[error("the catalogue cannot be made durable")]
    Durability(#[source] rusqlite::Error),
    /// A step before the transaction's end failed; nothing was changed.
    #[error("the commit was cut off")]
    CutOff(#[source] std::io::Error),
    /// The catalogue stands elsewhere than the flush says.
    #[error("the flush starts at {}/{}, but the catalogue stands at {}/{}", expected.incarnation, expected.sequence, found.incarnation, found.sequence)]
    Elsewhere {
        /// Where the flush starts.
        expected: Position,
        /// Where the catalogue stands.
        found: Position,
    },
    /// The file is a catalogue of something else, or of another version.
    #[error("{} is a DuckLake catalogue of version {version:?}, expected \"0.3\" written by serin; move it away or open another folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The version it says.
        version: String,
    },
    /// A value in the catalogue cannot be what it is.
    #[error("the catalogue holds {value:?} as {what}; restore it from a backup")]
    Damaged {
        /// What the value should be.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// What one transaction does.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    pub(crate) now_us: i64,
    /// Tables after the change, of which something changed.
    pub(crate) tables: Vec<TableChange>,
    /// The progress of a flush.
    pub(crate) progress: Option<&'a Progress>,
    /// What DuckLake calls an added or removed file.
    pub(crate) verb: Verb,
    pub(crate) next_file_id: u64,
    pub(crate) next_catalog_id: u64,
}

/// Why files come and go, in DuckLake's words.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Verb {
    #[default]
    Insert,
    Compact,
    Delete,
}

/// What happens to one table.
#[derive(Debug)]
pub(crate) struct TableChange {
    /// The table as it is after the change.
    pub(crate) after: Table,
    pub(crate) is_new: bool,
    pub(crate) columns_added: Vec<StoredColumn>,
    pub(crate) columns_widened: Vec<StoredColumn>,
    pub(crate) files_added: Vec<Arc<StoredFile>>,
    pub(crate) files_ended: Vec<u64>,
}

/// Everything a start needs.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) snapshot: u64,
    pub(crate) next_file_id: u64,
    pub(crate) next_catalog_id: u64,
    pub(crate) position: Position,
    pub(crate) tables: BTreeMap<String, Table>,
    /// Files of the catalogue that no current table has: superseded, or waiting to be removed.
    pub(crate) retired: Vec<Retired>,
    pub(crate) producers: Vec<ProducerMark>,
    pub(crate) seen: Vec<(u128, i64)>,
    pub(crate) gaps: Vec<Gap>,
}

/// A file that no snapshot from now on has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) id: u64,
    /// Relative to the data folder.
    pub(crate) path: String,
    /// When it was given up by the catalogue; `None` while an older snapshot still names it.
    pub(crate) scheduled_us: Option<i64>,
}

/// The open catalogue.
pub(crate) struct Catalogue {
    pub(crate) connection: Connection,
}

impl Catalogue {
    /// Opens or creates the file. `data_path` is absolute and ends in `/`.
    pub(crate) fn open(
        path: &Path,
        data_path: &str,
        now_us: i64,
    ) -> Result<Catalogue, CatalogueError> {
        let mut connection = Connection::open(path)?;
        // DuckDB may hold the file for a moment; five seconds outlast any of its reads.
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(64);
        let is_new: bool = connection.query_row(
            "SELECT count(*) = 0 FROM sqlite_master WHERE name = 'ducklake_metadata'",
            [],
            |row| row.get(0),
        )?;
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_new {
            create(&begun, now_us)?;
        }
        let version: String = begun.query_row(
            "SELECT value FROM ducklake_metadata WHERE key = 'version'",
            [],
            |row| row.get(0),
        )?;
        let is_ours: bool = begun.query_row(
            "SELECT count(*) = 1 FROM sqlite_master WHERE name = 'serin_position'",
            [],
            |row| row.get(0),
        )?;
        if version != "0.3" || !is_ours {
            let path = path.to_path_buf();
            return Err(CatalogueError::Foreign { path, version });
        }
        // The folder may have been moved since.
        begun.execute("DELETE FROM ducklake_metadata WHERE key = 'data_path'", [])?;
        begun.execute(
            "INSERT INTO ducklake_metadata(key, value) VALUES ('data_path', ?)",
            [data_path],
        )?;
        begun.commit()?;
        // A transaction whose sync failed may live in the page cache alone; this makes it durable
        // or fails before anything is built on it.
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(CatalogueError::Durability)?;
        Ok(Catalogue { connection })
    }

    /// Does all of a change or nothing; returns the snapshot number that is current afterwards.
    pub(crate) fn commit(
        &mut self,
        change: &Change<'_>,
        disk: &dyn Disk,
    ) -> Result<u64, CatalogueError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(refused)?;
        let snapshot = apply(&begun, change).map_err(|error| match error {
            CatalogueError::Sqlite(error) => refused(error),
            other => other,
        })?;
        disk.pass(Moment::BeforeCommit)
            .map_err(CatalogueError::CutOff)?;
        // Once COMMIT was tried and failed for another reason than a full disk or a busy reader,
        // nobody knows its outcome.
        begun
            .commit()
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => {
                    CatalogueError::Sqlite(error)
                }
                _ => CatalogueError::Durability(error),
            })?;
        Ok(snapshot)
    }
}

/// A statement's failure: a failing disk is fatal, anything else was rolled back.
fn refused(error: rusqlite::Error) -> CatalogueError {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => CatalogueError::Durability(error),
        _ => CatalogueError::Sqlite(error),
    }
}

fn create(begun: &Transaction<'_>, now_us: i64) -> Result<(), CatalogueError> {
    begun.execute_batch(include_str!("catalogue.sql"))?;
    begun.execute_batch(concat!(
        "INSERT INTO ducklake_metadata(key, value) VALUES ('version', '0.3'),
             ('created_by', 'serin ",
        env!("CARGO_PKG_VERSION"),
        "'), ('encrypted', 'false');
         INSERT INTO ducklake_schema VALUES
             (0, '7365726e-0000-4000-8000-000000000000', 0, NULL, 'main', 'main/', 1);
         INSERT INTO ducklake_snapshot_changes(snapshot_id, changes_made)
             VALUES (0, 'created_schema:\"main\"');
         INSERT INTO ducklake_schema_versions VALUES (0, 0);
         INSERT INTO serin_position VALUES (1, '0', 0);"
    ))?;
    begun.execute(
        "INSERT INTO ducklake_snapshot VALUES (0, ?, 0, 1, 0)",
        [text::time(now_us)],
    )?;
    Ok(())
}

fn apply(begun: &Transaction<'_>, change: &Change<'_>) -> Result<u64, CatalogueError> {
    let (mut snapshot, mut schema_version): (u64, u64) = begun.query_row(
        "SELECT snapshot_id, schema_version FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if !change.tables.is_empty() {
        snapshot += 1;
        let has_new_schema = change.tables.iter().any(TableChange::is_schema_change);
        schema_version += u64::from(has_new_schema);
        begun.execute(
            "INSERT INTO ducklake_snapshot VALUES (?, ?, ?, ?, ?)",
            params![
                snapshot,
                text::time(change.now_us),
                schema_version,
                change.next_catalog_id,
                change.next_file_id
            ],
        )?;
        if has_new_schema {
            begun.execute(
                "INSERT INTO ducklake_schema_versions VALUES (?, ?)",
                params![snapshot, schema_version],
            )?;
        }
        let made: Vec<String> = change
            .tables
            .iter()
            .flat_map(|table| table.in_words(change.verb))
            .collect();
        begun.execute(
            "INSERT INTO ducklake_snapshot_changes(snapshot_id, changes_made) VALUES (?, ?)",
            params![snapshot, made.join(",")],
        )?;
        for table in &change.tables {
            write_schema(begun, snapshot, table)?;
            write_files(begun, snapshot, table)?;
            write_totals(begun, table)?;
        }
    }
    if let Some(progress) = change.progress {
        write_progress(begun, snapshot, change, progress)?;
    }
    Ok(snapshot)
}

impl TableChange {
    fn is_schema_change(&self) -> bool {
        self.is_new || !self.columns_added.is_empty() || !self.columns_widened.is_empty()
    }

    /// The change as `ducklake_snapshot_changes` puts it.
    fn in_words(&self, verb: Verb) -> Vec<String> {
        let mut words = Vec::new();
        let id = self.after.id;
        if self.is_new {
            let name = text::quoted(&self.after.name);
            words.push(format!("created_table:\"main\".{name}"));
        } else if self.is_schema_change() {
            words.push(format!("altered_table:{id}"));
        }
        if !self.files_added.is_empty() || !self.files_ended.is_empty() {
            words.push(match verb {
                Verb::Insert => format!("inserted_into_table:{id}"),
                Verb::Compact => format!("compacted_table:{id}"),
                Verb::Delete => format!("deleted_from_table:{id}"),
            });
        }
        words
    }
}

fn write_schema(
    begun: &Transaction<'_>,
    snapshot: u64,
    change: &TableChange,
) -> Result<(), rusqlite::Error> {
    let table = &change.after;
    if change.is_new {
        begun.execute(
            "INSERT INTO ducklake_table VALUES (?, ?, ?, NULL, 0, ?, ?, 1)",
            params![
                table.id,
                text::uuid(&table.name, table.id),
                snapshot,
                table.name,
                table.dir
            ],
        )?;
    }
    for column in &change.columns_widened {
        begun.execute(
            "UPDATE ducklake_column SET end_snapshot = ?
             WHERE table_id = ? AND column_id = ? AND end_snapshot IS NULL",
            params![snapshot, table.id, column.id],
        )?;
    }
    let mut insert = begun.prepare_cached(
        "INSERT INTO ducklake_column VALUES (?, ?, NULL, ?, ?, ?, ?, NULL, NULL, 1, NULL)",
    )?;
    for column in change.columns_added.iter().chain(&change.columns_widened) {
        insert.execute(params![
            column.id,
            snapshot,
            table.id,
            column.id,
            column.column.name,
            column.column.kind.ducklake()
        ])?;
    }
    Ok(())
}

fn write_files(
    begun: &Transaction<'_>,
    snapshot: u64,
    change: &TableChange,
) -> Result<(), rusqlite::Error> {
    let table = &change.after;
    for id in &change.files_ended {
        begun
            .prepare_cached(
                "UPDATE ducklake_data_file SET end_snapshot = ? WHERE data_file_id = ?",
            )?
            .execute(params![snapshot, id])?;
    }
    for stored in &change.files_added {
        let file = &stored.file;
        begun
            .prepare_cached(
                "INSERT INTO ducklake_data_file VALUES
                 (?, ?, ?, NULL, NULL, ?, 1, 'parquet', ?, ?, ?, ?, NULL, NULL, NULL, NULL)",
            )?
            .execute(params![
                file.id,
                table.id,
                snapshot,
                text::file_name(file.id),
                file.rows,
                file.bytes,
                stored.footer_bytes,
                stored.row_id_start
            ])?;
        begun
            .prepare_cached("INSERT INTO serin_file VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                file.id,
                file.arrived_us,
                file.is_import,
                stored.sort.join("\u{1f}"),
                stored.sums.whole.to_le_bytes(),
                stored.sums.to_blob()
            ])?;
        let mut insert = begun.prepare_cached(
            "INSERT INTO ducklake_file_column_stats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        )?;
        for stats in &file.stats {
            let Some(column) = table.columns.iter().find(|c| c.column.name == stats.name) else {
                continue;
            };
            let is_double = column.column.kind == ColumnKind::Double;
            insert.execute(params![
                file.id,
                table.id,
                column.id,
                stats.bytes,
                file.rows - stats.nulls,
                stats.nulls,
                stats.min.as_ref().and_then(text::bound),
                stats.max.as_ref().and_then(text::bound),
                is_double.then_some(stats.has_nan)
            ])?;
        }
    }
    Ok(())
}

/// Writes what DuckDB's optimiser believes of the whole table; it must never be too narrow.
fn write_totals(begun: &Transaction<'_>, change: &TableChange) -> Result<(), rusqlite::Error> {
    let table = &change.after;
    let totals = table.totals();
    begun.execute(
        "DELETE FROM ducklake_table_stats WHERE table_id = ?",
        [table.id],
    )?;
    begun.execute(
        "INSERT INTO ducklake_table_stats VALUES (?, ?, ?, ?)",
        params![table.id, totals.rows, table.next_row_id, totals.bytes],
    )?;
    begun.execute(
        "DELETE FROM ducklake_table_column_stats WHERE table_id = ?",
        [table.id],
    )?;
    let mut insert = begun.prepare_cached(
        "INSERT INTO ducklake_table_column_stats VALUES (?, ?, ?, ?, ?, ?, NULL)",
    )?;
    for (column, total) in table.columns.iter().zip(&totals.columns) {
        let is_double = column.column.kind == ColumnKind::Double;
        insert.execute(params![
            table.id,
            column.id,
            total.has_null,
            is_double.then_some(total.has_nan),
            total.min.as_ref().and_then(text::bound),
            total.max.as_ref().and_then(text::bound)
        ])?;
    }
    Ok(())
}

fn write_progress(
    begun: &Transaction<'_>,
    snapshot: u64,
    change: &Change<'_>,
    progress: &Progress,
) -> Result<(), CatalogueError> {
    let found = read_position(begun)?;
    if found != progress.from {
        return Err(CatalogueError::Elsewhere {
            expected: progress.from,
            found,
        });
    }
    write_position(begun, progress.to)?;
    for gap in &progress.gaps {
        write_gap(begun, gap, change.now_us)?;
    }
    let gap: u64 = progress.gaps.iter().map(Gap::len).sum();
    let rows: u64 = change
        .tables
        .iter()
        .flat_map(|table| &table.files_added)
        .map(|stored| stored.file.rows)
        .sum();
    begun.execute(
        "INSERT INTO serin_commit(snapshot_id, incarnation, from_sequence, to_sequence, rows, gap, at_us)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            snapshot,
            progress.to.incarnation.to_string(),
            progress.from.sequence,
            progress.to.sequence,
            rows,
            gap,
            change.now_us
        ],
    )?;
    for mark in &progress.producers {
        let above: Vec<u8> = mark
            .above
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        begun
            .prepare_cached("INSERT OR REPLACE INTO serin_producer VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                mark.producer,
                mark.epoch,
                mark.contiguous,
                above,
                mark.heard_us,
                mark.is_import
            ])?;
    }
    for (id, at_us) in &progress.seen {
        begun
            .prepare_cached("INSERT OR IGNORE INTO serin_seen VALUES (?, ?)")?
            .execute(params![id.to_le_bytes(), at_us])?;
    }
    Ok(())
}

/// Moves the position.
pub(crate) fn write_position(begun: &Connection, to: Position) -> Result<(), rusqlite::Error> {
    begun.execute(
        "UPDATE serin_position SET incarnation = ?, sequence = ?",
        params![to.incarnation.to_string(), to.sequence],
    )?;
    Ok(())
}

/// Records a gap.
pub(crate) fn write_gap(begun: &Connection, gap: &Gap, now_us: i64) -> Result<(), rusqlite::Error> {
    begun.execute(
        "INSERT INTO serin_gap(incarnation, first, last, reason, at_us) VALUES (?, ?, ?, ?, ?)",
        params![
            gap.incarnation.to_string(),
            gap.first,
            gap.last,
            gap.reason,
            now_us
        ],
    )?;
    Ok(())
}

/// Where the catalogue stands.
pub(crate) fn read_position(connection: &Connection) -> Result<Position, CatalogueError> {
    let (incarnation, sequence): (String, u64) = connection.query_row(
        "SELECT incarnation, sequence FROM serin_position",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(Position {
        incarnation: parse_incarnation(incarnation)?,
        sequence,
    })
}

/// Reads an incarnation as the catalogue keeps it.
pub(crate) fn parse_incarnation(value: String) -> Result<Incarnation, CatalogueError> {
    value.parse().map_err(|_| CatalogueError::Damaged {
        what: "an incarnation",
        value,
    })
}

impl Catalogue {
    /// Reads everything a start needs.
    pub(crate) fn load(&self, data_dir: &Path) -> Result<Loaded, CatalogueError> {
        let connection = &self.connection;
        let (snapshot, next_catalog_id, next_file_id) = connection.query_row(
            "SELECT snapshot_id, next_catalog_id, next_file_id
             FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let mut tables = load_tables(connection)?;
        load_files(connection, data_dir, &mut tables)?;
        Ok(Loaded {
            snapshot,
            next_file_id,
            next_catalog_id,
            position: read_position(connection)?,
            retired: load_retired(connection)?,
            producers: load_producers(connection)?,
            seen: load_seen(connection)?,
            gaps: load_gaps(connection)?,
            tables: tables
                .into_values()
                .map(|table| (table.name.clone(), table))
                .collect(),
        })
    }
}

fn load_tables(connection: &Connection) -> Result<BTreeMap<u64, Table>, CatalogueError> {
    let mut tables = BTreeMap::new();
    let mut query = connection.prepare(
        "SELECT t.table_id, t.table_name, t.path, coalesce(s.next_row_id, 0)
         FROM ducklake_table t LEFT JOIN ducklake_table_stats s USING (table_id)
         WHERE t.end_snapshot IS NULL",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id: u64 = row.get(0)?;
        let mut table = Table::new(id, row.get(1)?, row.get(2)?);
        table.next_row_id = row.get(3)?;
        tables.insert(id, table);
    }
    let mut query = connection.prepare(
        "SELECT table_id, column_id, column_name, column_type FROM ducklake_column
         WHERE end_snapshot IS NULL ORDER BY table_id, column_order",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(3)?;
        let kind = ColumnKind::from_ducklake(&kind).ok_or(CatalogueError::Damaged {
            what: "a column type",
            value: kind,
        })?;
        if let Some(table) = tables.get_mut(&row.get(0)?) {
            table.columns.push(StoredColumn {
                id: row.get(1)?,
                column: Column::new(row.get::<_, String>(2)?, kind),
            });
        }
    }
    Ok(tables)
}

fn load_files(
    connection: &Connection,
    data_dir: &Path,
    tables: &mut BTreeMap<u64, Table>,
) -> Result<(), CatalogueError> {
    let mut stats = load_stats(connection, tables)?;
    let mut query = connection.prepare(
        "SELECT f.data_file_id, f.table_id, f.record_count, f.file_size_bytes, f.footer_size,
                f.row_id_start, s.arrived_us, s.is_import, s.sort, s.xxh3, s.blocks
         FROM ducklake_data_file f JOIN serin_file s ON s.file_id = f.data_file_id
         WHERE f.end_snapshot IS NULL ORDER BY f.data_file_id",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id: u64 = row.get(0)?;
        let Some(table) = tables.get_mut(&row.get(1)?) else {
            continue;
        };
        let sort: String = row.get(8)?;
        let blocks: Vec<u8> = row.get(10)?;
        let sums = Sums::from_blob(u64::from_le_bytes(row.get(9)?), &blocks).ok_or_else(|| {
            CatalogueError::Damaged {
                what: "the checksums of a file",
                value: id.to_string(),
            }
        })?;
        let file = DataFile {
            id,
            path: data_dir.join(table.path_of(id)),
            rows: row.get(2)?,
            bytes: row.get(3)?,
            stats: stats.remove(&id).unwrap_or_default(),
            arrived_us: row.get(6)?,
            is_import: row.get(7)?,
        };
        table.files.push(Arc::new(StoredFile {
            file: Arc::new(file),
            footer_bytes: row.get(4)?,
            row_id_start: row.get(5)?,
            sort: sort
                .split('\u{1f}')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect(),
            sums,
        }));
    }
    Ok(())
}

fn load_stats(
    connection: &Connection,
    tables: &BTreeMap<u64, Table>,
) -> Result<BTreeMap<u64, Vec<ColumnStats>>, CatalogueError> {
    let mut stats: BTreeMap<u64, Vec<ColumnStats>> = BTreeMap::new();
    let mut query = connection.prepare(
        "SELECT data_file_id, table_id, column_id, column_size_bytes, null_count, min_value,
                max_value, coalesce(contains_nan, 0)
         FROM ducklake_file_column_stats ORDER BY data_file_id, column_id",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let Some(table) = tables.get(&row.get(1)?) else {
            continue;
        };
        let column: u64 = row.get(2)?;
        let Some(stored) = table.columns.iter().find(|stored| stored.id == column) else {
            continue;
        };
        let bound = |value: Option<String>| text::parse_bound(stored.column.kind, &value?);
        stats.entry(row.get(0)?).or_default().push(ColumnStats {
            name: stored.column.name.clone(),
            bytes: row.get(3)?,
            nulls: row.get(4)?,
            min: bound(row.get(5)?),
            max: bound(row.get(6)?),
            has_nan: row.get(7)?,
        });
    }
    Ok(stats)
}

fn load_retired(connection: &Connection) -> Result<Vec<Retired>, CatalogueError> {
    let mut query = connection.prepare(
        "SELECT f.data_file_id, 'main/' || t.path || f.path, NULL
         FROM ducklake_data_file f JOIN ducklake_table t USING (table_id)
         WHERE f.end_snapshot IS NOT NULL
         UNION ALL
         SELECT data_file_id, path, schedule_start FROM ducklake_files_scheduled_for_deletion",
    )?;
    let rows = query.query_map([], |row| {
        let scheduled: Option<String> = row.get(2)?;
        Ok(Retired {
            id: row.get(0)?,
            path: row.get(1)?,
            scheduled_us: scheduled.map(|time| text::parse_time(&time).unwrap_or(0)),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn load_producers(connection: &Connection) -> Result<Vec<ProducerMark>, CatalogueError> {
    let mut query = connection.prepare(
        "SELECT producer, epoch, contiguous, above, heard_us, is_import FROM serin_producer",
    )?;
    let rows = query.query_map([], |row| {
        let above: Vec<u8> = row.get(3)?;
        let above = above.as_chunks::<8>().0;
        Ok(ProducerMark {
            producer: row.get(0)?,
            epoch: row.get(1)?,
            contiguous: row.get(2)?,
            above: above
                .iter()
                .map(|number| u64::from_le_bytes(*number))
                .collect(),
            heard_us: row.get(4)?,
            is_import: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn load_seen(connection: &Connection) -> Result<Vec<(u128, i64)>, CatalogueError> {
    let mut query = connection.prepare("SELECT id, at_us FROM serin_seen")?;
    let rows = query.query_map([], |row| {
        Ok((u128::from_le_bytes(row.get(0)?), row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn load_gaps(connection: &Connection) -> Result<Vec<Gap>, CatalogueError> {
    let mut query = connection
        .prepare("SELECT incarnation, first, last, reason FROM serin_gap ORDER BY number")?;
    let mut rows = query.query([])?;
    let mut gaps = Vec::new();
    while let Some(row) = rows.next()? {
        let reason: String = row.get(3)?;
        gaps.push(Gap {
            incarnation: parse_incarnation(row.get(0)?)?,
            first: row.get(1)?,
            last: row.get(2)?,
            reason: Gap::known_reason(&reason),
        });
    }
    Ok(gaps)
}
