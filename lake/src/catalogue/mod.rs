//! The SQLite file that names everything: DuckLake's tables and ours, one transaction a change.
//!
//! [`Change`]s come in from flush, compaction and expiry; either all of one is there afterwards or
//! nothing. This folder alone knows SQL. Start at [`Catalogue::commit`].

pub(crate) mod digest;
pub(crate) mod load;
mod services;
mod tidy;
mod tokens;
mod upgrade;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use thiserror::Error;

use crate::encode::StoredColumn;
use crate::flush::Progress;
use crate::position::{Gap, Position, ProducerMark};
use crate::store::{Disk, Moment};
use crate::table::{StoredFile, Table};
use crate::text;

/// Why the catalogue did not do what was asked.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// SQLite refused; nothing was changed.
    #[error("the catalogue refused a statement")]
    Sqlite(#[source] rusqlite::Error),
    /// A sync failed or the commit's outcome is unknown: the process must end and recover.
    #[error("the catalogue cannot be made durable")]
    Durability(#[source] rusqlite::Error),
    /// A step before the transaction's end failed; nothing was changed.
    #[error("the commit was cut off")]
    CutOff(#[source] std::io::Error),
    /// The catalogue stands elsewhere than the flush says.
    #[error("the flush starts at {expected}, but the catalogue stands at {found}")]
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
    /// Rows of the catalogue have another digest than they were written with.
    #[error("the catalogue is not as it was written: {}; restore catalogue.sqlite from a backup, or see `serin doctor` (nothing was changed or removed)", altered.join("; "))]
    Altered {
        /// Each table, file and producer of which it is so.
        altered: Vec<String>,
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
    pub(crate) taken_us: Option<i64>,
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
    connection: Connection,
}

/// Whether SQLite finds its pages whole; reads them all, a few milliseconds for some megabytes.
fn check_pages(connection: &Connection) -> Result<(), CatalogueError> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let found: String = match found {
        Err(error) if is_malformed(&error) => error.to_string(),
        found => found?,
    };
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(CatalogueError::Altered {
            altered: vec![found],
        }),
    }
}

fn is_malformed(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
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
        check_pages(&connection)?;
        let is_new: bool = connection.query_row(
            "SELECT count(*) = 0 FROM sqlite_master WHERE name = 'ducklake_metadata'",
            [],
            |row| row.get(0),
        )?;
        if is_new {
            // Takes effect only while the file is empty; expiry can then give pages back.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // A log that a large commit blew up shrinks again.
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        connection.set_prepared_statement_cache_capacity(64);
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
        begun.execute(services::TABLE, [])?;
        upgrade::upgrade(&begun)?;
        // The folder may have been moved since.
        let known: Option<String> = begun
            .query_row(
                "SELECT value FROM ducklake_metadata WHERE key = 'data_path'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        if known.as_deref() != Some(data_path) {
            begun.execute("DELETE FROM ducklake_metadata WHERE key = 'data_path'", [])?;
            begun.execute(
                "INSERT INTO ducklake_metadata(key, value) VALUES ('data_path', ?)",
                [data_path],
            )?;
        }
        begun.commit()?;
        // A transaction whose sync failed may live in the page cache alone; this makes it durable
        // or fails before anything is built on it.
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(CatalogueError::Durability)?;
        Ok(Catalogue { connection })
    }

    /// Reads everything a start needs, once it is known to be what was written: a file that a
    /// flipped bit hides would otherwise be removed as a leftover.
    pub(crate) fn load(&self, data_dir: &Path) -> Result<Loaded, CatalogueError> {
        let altered = digest::altered(&self.connection)?;
        if !altered.is_empty() {
            return Err(CatalogueError::Altered { altered });
        }
        load::load(&self.connection, data_dir)
    }

    /// Does all of a change or nothing; returns the snapshot number that is current afterwards.
    pub(crate) fn commit(
        &mut self,
        change: &Change<'_>,
        disk: &dyn Disk,
    ) -> Result<u64, CatalogueError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let snapshot = write::apply(&begun, change)?;
        finish(begun, disk)?;
        Ok(snapshot)
    }
}

impl CatalogueError {
    /// Whether the process must end.
    pub fn is_durability(&self) -> bool {
        matches!(self, CatalogueError::Durability(_))
    }
}

/// Ends a transaction.
fn finish(begun: Transaction<'_>, disk: &dyn Disk) -> Result<(), CatalogueError> {
    disk.pass(Moment::BeforeCommit)
        .map_err(CatalogueError::CutOff)?;
    commit(begun)
}

fn commit(begun: Transaction<'_>) -> Result<(), CatalogueError> {
    // Once COMMIT was tried and failed for another reason than a full disk or a busy reader,
    // nobody knows its outcome.
    begun
        .commit()
        .map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => CatalogueError::Sqlite(error),
            _ => CatalogueError::Durability(error),
        })
}

/// A statement's failure, on whatever way it comes: a disk that fails to write or sync is fatal,
/// anything else was rolled back.
impl From<rusqlite::Error> for CatalogueError {
    fn from(error: rusqlite::Error) -> CatalogueError {
        use rusqlite::ffi::{SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
        let is_io = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        let extended = error.sqlite_error().map(|error| error.extended_code);
        let is_read = extended
            .is_some_and(|code| [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ].contains(&code));
        match is_io && !is_read {
            true => CatalogueError::Durability(error),
            false => CatalogueError::Sqlite(error),
        }
    }
}

fn create(begun: &Transaction<'_>, now_us: i64) -> Result<(), CatalogueError> {
    begun.execute_batch(include_str!("schema.sql"))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Incarnation;
    use crate::store::RealDisk;

    #[test]
    fn a_full_disk_refuses_a_commit_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.sqlite");
        let mut catalogue = Catalogue::open(&path, "/data/", 0).unwrap();
        let at = |sequence| Position {
            incarnation: Incarnation(1),
            sequence,
        };
        catalogue
            .start_lineage(at(0), &[], "first", 0, &RealDisk)
            .unwrap();
        let pages: u64 = catalogue
            .connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap();
        let limit = |catalogue: &Catalogue, pages: u64| {
            let set = format!("PRAGMA max_page_count = {pages}");
            let now: u64 = catalogue
                .connection
                .query_row(&set, [], |row| row.get(0))
                .unwrap();
            assert_eq!(now, pages);
        };
        limit(&catalogue, pages + 2);
        let progress = Progress {
            from: at(0),
            to: at(9),
            seen: (0..10_000).map(|n| (n, 0)).collect(),
            ..Progress::default()
        };
        let change = Change {
            progress: Some(&progress),
            ..Change::default()
        };
        let error = catalogue.commit(&change, &RealDisk).unwrap_err();
        assert!(!error.is_durability(), "{error:?}");
        assert_eq!(load::read_position(&catalogue.connection).unwrap(), at(0));
        limit(&catalogue, 1_000_000);
        catalogue.commit(&change, &RealDisk).unwrap();
        assert_eq!(load::read_position(&catalogue.connection).unwrap(), at(9));
    }

    #[test]
    fn a_failed_write_is_fatal_wherever_it_comes_from() {
        use rusqlite::ffi;
        let failed = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            CatalogueError::from(error).is_durability()
        };
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_TRUNCATE,
        ] {
            assert!(failed(code), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_READ, ffi::SQLITE_FULL, ffi::SQLITE_BUSY] {
            assert!(!failed(code), "{code}");
        }
    }

    #[test]
    fn a_catalogue_of_others_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.sqlite");
        let theirs = Connection::open(&path).unwrap();
        theirs
            .execute_batch(
                "CREATE TABLE ducklake_metadata(key, value, scope, scope_id);
                 INSERT INTO ducklake_metadata VALUES ('version', '0.4', NULL, NULL);",
            )
            .unwrap();
        let refused = Catalogue::open(&path, "/data/", 0).map(|_| ());
        assert!(
            matches!(refused, Err(CatalogueError::Foreign { version, .. }) if version == "0.4")
        );
        std::fs::write(&path, [7; 9000]).unwrap();
        assert!(Catalogue::open(&path, "/data/", 0).is_err());
    }

    #[test]
    fn all_free_pages_are_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.sqlite");
        let mut catalogue = Catalogue::open(&path, "/data/", 0).unwrap();
        let before = catalogue.size().unwrap().1;
        let fill = "CREATE TABLE filled AS WITH RECURSIVE n(i) AS \
                    (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
                    SELECT zeroblob(4000) AS x FROM n; DROP TABLE filled";
        catalogue.connection.execute_batch(fill).unwrap();
        assert!(catalogue.size().unwrap().1 > before + 8_000_000);
        catalogue.give_back_pages().unwrap();
        assert!(catalogue.size().unwrap().1 < before + 100_000);
    }
}
