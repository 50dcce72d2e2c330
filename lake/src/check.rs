//! The invariants of exactly-once as checkers, over catalogue and files as they rest on disk.
//!
//! Used by unit, kill and fault tests and by `serin doctor`. Nothing here trusts the open lake: an
//! [`Audit`] reads on its own and works beside a running server. docs/decisions/002 names each.
//! `progress` looks at positions and commits, `files` at files and what the catalogue says of them,
//! `rows` at the rows; `watch` sits beside a reader, `start` at a folder before and after a start; `told`
//! is what the catalogue remembers beside that.

mod files;
mod progress;
mod rows;
mod start;
mod told;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use crate::catalogue::{CatalogueError, Loaded, load};
use crate::column::Column;
use crate::encode::EncodeError;
use crate::lake::LakeError;
use crate::position::Position;
use crate::store::FileError;
use crate::table::{StoredFile, Table};

pub use rows::{Acknowledged, RowSum};
pub use start::{is_held_by, start_changes_nothing};
pub use told::Lost;
pub use watch::Watch;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which invariant, as docs/decisions/002 numbers them.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

impl Finding {
    fn new(invariant: &'static str, what: impl Into<String>) -> Finding {
        Finding {
            invariant,
            what: what.into(),
        }
    }
}

/// Why the check itself could not be made.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The folder does not open.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A folder or file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not Parquet.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// A file holds other columns than its table.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Rows cannot be compared.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl From<rusqlite::Error> for CheckError {
    fn from(error: rusqlite::Error) -> CheckError {
        CheckError::Catalogue(error.into())
    }
}

/// A lake's folder, opened for checking.
pub struct Audit {
    connection: Connection,
    data_dir: PathBuf,
    loaded: Loaded,
}

impl Audit {
    /// Opens `DIR/.serin/lake` for reading, whether a server has it or not.
    pub fn open(lake_dir: &Path) -> Result<Audit, CheckError> {
        let path = lake_dir.join("catalogue.sqlite");
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let data_dir = lake_dir.join("data");
        // One transaction, so that everything is of one moment.
        connection.execute_batch("BEGIN")?;
        let loaded = load::load(&connection, &data_dir)?;
        Ok(Audit {
            connection,
            data_dir,
            loaded,
        })
    }

    /// Every checker that looks at one moment and needs to be told nothing.
    pub fn all(&self) -> Result<Vec<Finding>, CheckError> {
        let mut findings = self.catalogue_is_sound()?;
        findings.extend(self.catalogue_is_as_written()?);
        findings.extend(self.commits_are_contiguous()?);
        findings.extend(self.commits_account()?);
        findings.extend(self.files_match_catalogue()?);
        findings.extend(self.checksums_match());
        findings.extend(self.statistics_hold()?);
        findings.extend(self.ids_are_unique()?);
        Ok(findings)
    }

    /// What the tables are named and which columns they have.
    pub fn tables(&self) -> BTreeMap<String, Vec<Column>> {
        let tables = self.loaded.tables.iter();
        let columns = |table: &Table| {
            let columns = table.columns.iter();
            columns.map(|stored| stored.column.clone()).collect()
        };
        tables
            .map(|(name, table)| (name.clone(), columns(table)))
            .collect()
    }

    /// How far the files reach on the bus.
    pub fn position(&self) -> Position {
        self.loaded.position
    }

    fn files(&self) -> impl Iterator<Item = (&Table, &StoredFile)> {
        self.loaded
            .tables
            .values()
            .flat_map(|table| table.files.iter().map(move |stored| (table, &**stored)))
    }
}
