//! Digests of what the catalogue says of each table, file and producer.
//!
//! SQLite finds a broken page, not a bit that flipped in a row: a bound or a count that is off hides
//! rows in silence, and a file that the list lost would be removed as a leftover. So each change
//! leaves, in its own transaction, a hash of its rows as SQLite has them; a start and an audit hash
//! them again. A file's hash is over its own rows, a table's over its name, columns, totals and the
//! list of its files. What is no row of theirs is held against what follows from others. Start at
//! [`seal`] and [`altered`].

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction, params};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use super::CatalogueError;
use super::load::{load_producers, reached, read_position};
use super::upgrade::has_column;
use crate::position::ProducerMark;

/// What is hashed of a file. Of each query here the first column is the number of what the row
/// belongs to, and the numbers asked for are those from `?1` to `?2`; the first query names them all.
const FILE: [&str; 2] = [
    "SELECT f.data_file_id, f.table_id, f.begin_snapshot, f.path, f.path_is_relative, f.file_format,
            f.record_count, f.file_size_bytes, f.footer_size, f.row_id_start,
            s.arrived_us, s.is_import, s.sort, s.xxh3, s.blocks
     FROM ducklake_data_file f LEFT JOIN serin_file s ON s.file_id = f.data_file_id
     WHERE f.end_snapshot IS NULL AND f.data_file_id BETWEEN ?1 AND ?2",
    "SELECT data_file_id, table_id, column_id, column_size_bytes, value_count, null_count,
            min_value, max_value, contains_nan
     FROM ducklake_file_column_stats WHERE data_file_id BETWEEN ?1 AND ?2
     ORDER BY data_file_id, column_id",
];

/// What is hashed of a table, likewise.
const TABLE: [&str; 5] = [
    "SELECT table_id, table_uuid, begin_snapshot, schema_id, table_name, path, path_is_relative
     FROM ducklake_table WHERE end_snapshot IS NULL AND table_id BETWEEN ?1 AND ?2",
    "SELECT table_id, column_id, begin_snapshot, column_order, column_name, column_type
     FROM ducklake_column WHERE end_snapshot IS NULL AND table_id BETWEEN ?1 AND ?2
     ORDER BY table_id, column_id",
    "SELECT table_id, record_count, next_row_id, file_size_bytes
     FROM ducklake_table_stats WHERE table_id BETWEEN ?1 AND ?2",
    "SELECT table_id, column_id, contains_null, contains_nan, min_value, max_value
     FROM ducklake_table_column_stats WHERE table_id BETWEEN ?1 AND ?2
     ORDER BY table_id, column_id",
    "SELECT table_id, data_file_id
     FROM ducklake_data_file WHERE end_snapshot IS NULL AND table_id BETWEEN ?1 AND ?2
     ORDER BY table_id, data_file_id",
];

/// Every number there is.
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// Leaves the digests of a table and of the files that were added to it.
pub(super) fn seal(
    begun: &Transaction<'_>,
    table: u64,
    added: impl Iterator<Item = u64>,
) -> Result<(), rusqlite::Error> {
    for file in added {
        let file = file.cast_signed();
        keep_files(begun, &digests(begun, &FILE, (file, file))?)?;
    }
    let table = table.cast_signed();
    keep_tables(begun, &digests(begun, &TABLE, (table, table))?)
}

/// Leaves the digests of everything, for a catalogue from before there were any.
pub(super) fn seal_all(begun: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    keep_files(begun, &digests(begun, &FILE, ALL)?)?;
    let mut update = begun
        .prepare_cached("UPDATE serin_producer SET digest = ? WHERE producer = ? AND epoch = ?")?;
    for mark in load_producers(begun)? {
        update.execute(params![of_mark(&mark), mark.producer, mark.epoch])?;
    }
    keep_tables(begun, &digests(begun, &TABLE, ALL)?)
}

/// The digest of what is known of one producer.
pub(super) fn of_mark(mark: &ProducerMark) -> [u8; 16] {
    let mut bytes = Vec::new();
    append(&mut bytes, mark.producer.as_str().into());
    for number in [
        u64::from(mark.epoch),
        mark.contiguous,
        u64::from(mark.is_import),
    ] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(mark.heard_us.to_le_bytes());
    for (first, last) in &mark.above {
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
    }
    xxh3_128(&bytes).to_le_bytes()
}

/// Each table, file and producer of which the catalogue says something else than was written, in
/// words; the position, where it is not where the commits end; and numbers that would be given out
/// twice.
pub(crate) fn altered(connection: &Connection) -> Result<Vec<String>, CatalogueError> {
    let mut altered = Vec::new();
    if !has_digests(connection)? {
        return Ok(altered);
    }
    let kept = kept(connection, "SELECT file_id, digest FROM serin_file")?;
    for (file, digest) in digests(connection, &FILE, ALL)? {
        if kept.get(&file) != Some(&Some(digest)) {
            altered.push(format!("the rows of file {file}"));
        }
    }
    let kept = self::kept(connection, "SELECT table_id, digest FROM serin_table")?;
    let found = digests(connection, &TABLE, ALL)?;
    let tables: BTreeSet<i64> = kept.keys().chain(found.keys()).copied().collect();
    for table in tables {
        let found = found.get(&table).copied();
        if found.is_none() || kept.get(&table).copied().flatten() != found {
            let name = name_of(connection, table)?;
            altered.push(format!("name, columns or file list of table {name}"));
        }
    }
    altered.extend(altered_marks(connection)?);
    let is_free: Option<bool> = connection.query_row(
        "SELECT next_file_id > coalesce((SELECT max(data_file_id) FROM ducklake_data_file), -1)
                AND next_catalog_id > coalesce((SELECT max(table_id) FROM ducklake_table), 0)
         FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1",
        [],
        |row| row.get(0),
    )?;
    if is_free != Some(true) {
        altered.push("the next number of a file or table is taken".to_owned());
    }
    let (position, expected) = (read_position(connection)?, reached(connection)?);
    if let Some(expected) = expected
        && expected != position
    {
        altered.push(format!(
            "the position is {position}, and the commits end at {expected}"
        ));
    }
    Ok(altered)
}

/// Whether the catalogue was ever opened by a version that leaves digests.
pub(super) fn has_digests(connection: &Connection) -> Result<bool, rusqlite::Error> {
    has_column(connection, "serin_file", "digest")
}

/// Each producer whose marks are not what was written, in words.
fn altered_marks(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut kept = BTreeMap::new();
    let mut select = connection.prepare("SELECT producer, epoch, digest FROM serin_producer")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let digest = row.get_ref(2)?.as_blob_or_null().ok().flatten();
        kept.insert(
            (row.get::<_, String>(0)?, row.get::<_, u32>(1)?),
            digest.map(<[u8]>::to_vec),
        );
    }
    let altered = load_producers(connection)?.into_iter().filter_map(|mark| {
        let digest = of_mark(&mark).to_vec();
        let producer = mark.producer;
        let is_kept = kept.get(&(producer.clone(), mark.epoch)) == Some(&Some(digest));
        (!is_kept).then(|| format!("the marks of producer {producer:?}"))
    });
    Ok(altered.collect())
}

/// A table as a person knows it; its number where the name is what is gone.
fn name_of(connection: &Connection, table: i64) -> Result<String, rusqlite::Error> {
    let mut select =
        connection.prepare("SELECT table_name FROM ducklake_table WHERE table_id = ?")?;
    let mut rows = select.query([table])?;
    let name = match rows.next()? {
        Some(row) => match row.get_ref(0)? {
            ValueRef::Text(name) => format!("{:?}", String::from_utf8_lossy(name)),
            _ => table.to_string(),
        },
        None => table.to_string(),
    };
    Ok(name)
}

/// The digests that were left; `None` for one that is none any more.
fn kept(
    connection: &Connection,
    select: &str,
) -> Result<BTreeMap<i64, Option<u128>>, rusqlite::Error> {
    let mut select = connection.prepare(select)?;
    let mut rows = select.query([])?;
    let mut kept = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let digest = row.get_ref(1)?.as_blob_or_null().ok().flatten();
        let digest = digest.and_then(|bytes| bytes.try_into().ok());
        kept.insert(row.get(0)?, digest.map(u128::from_le_bytes));
    }
    Ok(kept)
}

fn keep_files(
    begun: &Transaction<'_>,
    digests: &BTreeMap<i64, u128>,
) -> Result<(), rusqlite::Error> {
    let mut update = begun.prepare_cached("UPDATE serin_file SET digest = ? WHERE file_id = ?")?;
    for (file, digest) in digests {
        update.execute(params![digest.to_le_bytes(), file])?;
    }
    Ok(())
}

fn keep_tables(
    begun: &Transaction<'_>,
    digests: &BTreeMap<i64, u128>,
) -> Result<(), rusqlite::Error> {
    let mut insert = begun.prepare_cached("INSERT OR REPLACE INTO serin_table VALUES (?, ?)")?;
    for (table, digest) in digests {
        insert.execute(params![table, digest.to_le_bytes()])?;
    }
    Ok(())
}

/// The digest of everything that the queries say of each number.
fn digests(
    connection: &Connection,
    queries: &[&str],
    (from, to): (i64, i64),
) -> Result<BTreeMap<i64, u128>, rusqlite::Error> {
    let mut digests: BTreeMap<i64, u128> = BTreeMap::new();
    let mut bytes = Vec::new();
    for (at, query) in queries.iter().enumerate() {
        let mut select = connection.prepare_cached(query)?;
        let columns = select.column_count();
        let mut rows = select.query([from, to])?;
        while let Some(row) = rows.next()? {
            // A number that is none any more leaves its row out, which alters the digest too.
            let Ok(id) = row.get_ref(0)?.as_i64() else {
                continue;
            };
            if at == 0 {
                digests.entry(id).or_insert(0);
            }
            let Some(digest) = digests.get_mut(&id) else {
                continue;
            };
            bytes.clear();
            bytes.extend(digest.to_le_bytes());
            for column in 0..columns {
                append(&mut bytes, row.get_ref(column)?);
            }
            *digest = xxh3_128_with_seed(&bytes, at as u64);
        }
    }
    Ok(digests)
}

/// A value as it is stored: its kind, its length where that varies, and itself.
fn append(bytes: &mut Vec<u8>, value: ValueRef<'_>) {
    let (kind, content): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(value) => (1, &value.to_le_bytes()),
        ValueRef::Real(value) => (2, &value.to_bits().to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    bytes.push(kind);
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(content);
}
