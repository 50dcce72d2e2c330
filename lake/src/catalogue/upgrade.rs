//! What was added to our own tables since the first version, to catalogues of any age.
//!
//! `schema.sql` is the first version; each step here looks whether it was taken already, so that a
//! start of an up-to-date catalogue writes nothing.

use rusqlite::Transaction;

/// Brings our tables up to date.
pub(super) fn upgrade(begun: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    let has_taken: bool = begun.query_row(
        "SELECT count(*) = 1 FROM pragma_table_info('serin_position') WHERE name = 'taken_us'",
        [],
        |row| row.get(0),
    )?;
    if !has_taken {
        begun.execute("ALTER TABLE serin_position ADD COLUMN taken_us INTEGER", [])?;
    }
    begun.execute(
        "CREATE INDEX IF NOT EXISTS serin_seen_by_age ON serin_seen(at_us)",
        [],
    )?;
    Ok(())
}
