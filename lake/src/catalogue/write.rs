//! Writes one change into the tables of DuckLake and ours.
//!
//! A change comes in as values; rows go out, all inside the caller's transaction. Nothing here
//! commits. Start at [`apply`].

use rusqlite::{Connection, Transaction, params};

use super::load::read_position;
use super::{CatalogueError, Change, TableChange, Verb, digest};
use crate::column::ColumnKind;
use crate::flush::Progress;
use crate::position::{Gap, Position};
use crate::text;

/// The byte before the ranges of a producer's numbers: pairs of first and last.
pub(super) const RANGES: u8 = 1;

/// Writes a change; returns the snapshot number that is current afterwards.
pub(super) fn apply(begun: &Transaction<'_>, change: &Change<'_>) -> Result<u64, CatalogueError> {
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
            let added = table.files_added.iter().map(|stored| stored.file.id);
            digest::seal(begun, table.after.id, added)?;
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
            .prepare_cached(
                "INSERT INTO serin_file(file_id, arrived_us, is_import, sort, xxh3, blocks)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?
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
    write_position(begun, progress.to, progress.taken_us)?;
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
        "INSERT INTO serin_commit(snapshot_id, incarnation, from_sequence, to_sequence, rows, gap, messages, at_us)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            snapshot,
            progress.to.incarnation.to_string(),
            progress.from.sequence,
            progress.to.sequence,
            rows,
            gap,
            progress.account.map(|account| account.messages),
            change.now_us
        ],
    )?;
    for mark in &progress.producers {
        let pairs = mark.above.iter().flat_map(|&(from, to)| [from, to]);
        let above: Vec<u8> = std::iter::once(RANGES)
            .chain(pairs.flat_map(u64::to_le_bytes))
            .collect();
        begun
            .prepare_cached("INSERT OR REPLACE INTO serin_producer VALUES (?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                mark.producer,
                mark.epoch,
                mark.contiguous,
                above,
                mark.heard_us,
                mark.is_import,
                digest::of_mark(mark)
            ])?;
    }
    if let Some(from_us) = progress.seen_from_us {
        begun
            .prepare_cached("DELETE FROM serin_seen WHERE at_us < ?")?
            .execute([from_us])?;
    }
    for (id, at_us) in &progress.seen {
        // One that was forgotten in memory and not yet here is taken anew, with its new time.
        begun
            .prepare_cached("INSERT OR REPLACE INTO serin_seen VALUES (?, ?)")?
            .execute(params![id.to_le_bytes(), at_us])?;
    }
    Ok(())
}

/// Moves the position; `taken_us` is when the bus took the message there.
pub(super) fn write_position(
    begun: &Connection,
    to: Position,
    taken_us: Option<i64>,
) -> Result<(), rusqlite::Error> {
    begun.execute(
        "UPDATE serin_position SET incarnation = ?, sequence = ?, taken_us = ?",
        params![to.incarnation.to_string(), to.sequence, taken_us],
    )?;
    Ok(())
}

/// Records a gap.
pub(super) fn write_gap(begun: &Connection, gap: &Gap, now_us: i64) -> Result<(), rusqlite::Error> {
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
