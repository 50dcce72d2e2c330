//! Reads the catalogue at a start: tables, files, statistics, position, and whom we heard of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::write::RANGES;
use super::{CatalogueError, Loaded, Retired};
use crate::column::{Column, ColumnKind};
use crate::encode::StoredColumn;
use crate::position::{Gap, Incarnation, Position, ProducerMark};
use crate::snapshot::{ColumnStats, DataFile};
use crate::sums::Sums;
use crate::table::{StoredFile, Table};
use crate::text;

/// Reads everything a start needs.
pub(crate) fn load(connection: &Connection, data_dir: &Path) -> Result<Loaded, CatalogueError> {
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
        taken_us: connection
            .query_row("SELECT taken_us FROM serin_position", [], |row| row.get(0))?,
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
            sums: Arc::new(sums),
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

/// Reads whom the catalogue has heard of, and what.
pub(super) fn load_producers(
    connection: &Connection,
) -> Result<Vec<ProducerMark>, rusqlite::Error> {
    let mut query = connection.prepare(
        "SELECT producer, epoch, contiguous, above, heard_us, is_import FROM serin_producer",
    )?;
    let rows = query.query_map([], |row| {
        let above: Vec<u8> = row.get(3)?;
        Ok(ProducerMark {
            producer: row.get(0)?,
            epoch: row.get(1)?,
            contiguous: row.get(2)?,
            above: above_of(&above),
            heard_us: row.get(4)?,
            is_import: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Ranges as [`super::write`] keeps them; the first version kept single numbers.
fn above_of(blob: &[u8]) -> Vec<(u64, u64)> {
    let numbers = |bytes: &[u8]| -> Vec<u64> {
        let chunks = bytes.as_chunks::<8>().0;
        chunks.iter().map(|n| u64::from_le_bytes(*n)).collect()
    };
    match blob.split_first() {
        Some((&RANGES, pairs)) if blob.len() % 16 == 1 => {
            let pairs = numbers(pairs);
            pairs
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&[from, to]| (from, to))
                .collect()
        }
        _ => numbers(blob).into_iter().map(|n| (n, n)).collect(),
    }
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

/// Where the commits and lives of the stream say that the position is; `None` before the first life.
pub(crate) fn reached(connection: &Connection) -> Result<Option<Position>, CatalogueError> {
    let life: Option<(String, u64)> = connection
        .query_row(
            "SELECT incarnation, start FROM serin_lineage ORDER BY number DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((incarnation, start)) = life else {
        return Ok(None);
    };
    let committed: Option<u64> = connection.query_row(
        "SELECT max(to_sequence) FROM serin_commit WHERE incarnation = ?",
        [&incarnation],
        |row| row.get(0),
    )?;
    Ok(Some(Position {
        incarnation: parse_incarnation(incarnation)?,
        sequence: start.max(committed.unwrap_or(0)),
    }))
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
