//! What was added to our own tables since the first version, to catalogues of any age.
//!
//! `schema.sql` is the first version; each step here looks whether it was taken already, so that a
//! start of an up-to-date catalogue writes nothing.

use rusqlite::{Connection, Transaction};

use super::{digest, tokens};

/// Brings our tables up to date.
pub(super) fn upgrade(begun: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    if !has_column(begun, "serin_position", "taken_us")? {
        begun.execute("ALTER TABLE serin_position ADD COLUMN taken_us INTEGER", [])?;
    }
    begun.execute(
        "CREATE INDEX IF NOT EXISTS serin_seen_by_age ON serin_seen(at_us)",
        [],
    )?;
    begun.execute_batch(
        "CREATE INDEX IF NOT EXISTS serin_files_of_table ON ducklake_data_file(table_id) WHERE end_snapshot IS NULL;
         CREATE INDEX IF NOT EXISTS serin_columns_of_table ON ducklake_column(table_id);
         CREATE INDEX IF NOT EXISTS serin_totals_of_table ON ducklake_table_column_stats(table_id);",
    )?;
    begun.execute(tokens::INDEX, [])?;
    if !digest::has_digests(begun)? {
        begun.execute_batch(
            "ALTER TABLE serin_file ADD COLUMN digest BLOB;
             ALTER TABLE serin_producer ADD COLUMN digest BLOB;
             CREATE TABLE serin_table(table_id INTEGER PRIMARY KEY, digest BLOB NOT NULL);",
        )?;
        digest::seal_all(begun)?;
    }
    Ok(())
}

/// Whether a table has a column by now.
pub(super) fn has_column(
    begun: &Connection,
    table: &str,
    column: &str,
) -> Result<bool, rusqlite::Error> {
    begun.query_row(
        "SELECT count(*) = 1 FROM pragma_table_info(?) WHERE name = ?",
        [table, column],
        |row| row.get(0),
    )
}
