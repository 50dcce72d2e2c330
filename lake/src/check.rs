//! The invariants of exactly-once as checkers, over catalogue and files as they rest on disk.
//!
//! Used by unit, kill and fault tests and by `serin doctor`. Nothing here trusts the open lake: an
//! [`Audit`] reads on its own and works beside a running server. docs/decisions/002 names each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use rusqlite::{Connection, OpenFlags};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use crate::catalogue::{CatalogueError, Loaded, load};
use crate::column::{Column, ColumnKind};
use crate::encode::{EncodeError, file_schema, fit};
use crate::keep::first_damage;
use crate::position::Position;
use crate::recover::files_below;
use crate::store::{FileError, FileStep};
use crate::table::{StoredFile, Table};

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which invariant, as docs/decisions/002 numbers them.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

/// Why the check itself could not be made.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
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

/// Rows of a table, however they are spread over files and in whatever order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowSum {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes, wrapping.
    pub sum: u128,
}

/// A lake's folder, opened for checking.
pub struct Audit {
    connection: Connection,
    data_dir: PathBuf,
    loaded: Loaded,
}

/// Hashes of identities held at once: 16 bytes each, so 128 MiB.
const IDS_AT_ONCE: u64 = 8 << 20;

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

    /// Every checker of this file that looks at one moment.
    pub fn all(&self) -> Result<Vec<Finding>, CheckError> {
        let mut findings = self.catalogue_is_sound()?;
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

    /// How far the files reach on the bus (I7: it never falls within an incarnation).
    pub fn position(&self) -> Position {
        self.loaded.position
    }

    /// I12: SQLite finds its own file sound: pages, cells and indices agree.
    pub fn catalogue_is_sound(&self) -> Result<Vec<Finding>, CheckError> {
        let mut check = self.connection.prepare("PRAGMA integrity_check")?;
        let said = check.query_map([], |row| row.get::<_, String>(0))?;
        let said: Vec<String> = said.collect::<Result<_, _>>()?;
        let faults = said.into_iter().filter(|line| line != "ok");
        Ok(faults
            .map(|what| Finding {
                invariant: "I12",
                what: format!("the catalogue is damaged: {what}"),
            })
            .collect())
    }

    /// I3: committed ranges follow one another without hole or overlap, and end at the position.
    pub fn commits_are_contiguous(&self) -> Result<Vec<Finding>, CheckError> {
        let mut starts = self
            .connection
            .prepare("SELECT incarnation, start FROM serin_lineage ORDER BY number")?;
        let starts: Vec<(String, u64)> = starts
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut commits = self.connection.prepare(
            "SELECT number, incarnation, from_sequence, to_sequence FROM serin_commit ORDER BY number",
        )?;
        let mut rows = commits.query([])?;
        let mut findings = Vec::new();
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let incarnation: String = row.get(1)?;
            let (from, to): (u64, u64) = (row.get(2)?, row.get(3)?);
            let expected = reached.get(&incarnation).copied();
            let begins = || {
                starts
                    .iter()
                    .any(|start| *start == (incarnation.clone(), from))
            };
            let follows = expected == Some(from) || begins();
            if !follows || to < from {
                findings.push(Finding {
                    invariant: "I3",
                    what: format!("commit {number} covers {from}..{to} of {incarnation}, but the one before ended at {expected:?}"),
                });
            }
            reached.insert(incarnation, to);
        }
        let position = self.loaded.position;
        let incarnation = position.incarnation.to_string();
        let begun = starts
            .iter()
            .rev()
            .find(|start| start.0 == incarnation)
            .map(|start| start.1);
        let end = reached.get(&incarnation).copied().max(begun);
        if end.is_some_and(|end| end != position.sequence) {
            findings.push(Finding {
                invariant: "I3",
                what: format!(
                    "commits end at {end:?}, but the position is {}",
                    position.sequence
                ),
            });
        }
        Ok(findings)
    }

    /// I4: of every commit that says so, messages and gaps fill the range.
    pub fn commits_account(&self) -> Result<Vec<Finding>, CheckError> {
        let mut query = self.connection.prepare(
            "SELECT number, to_sequence - from_sequence, messages, gap FROM serin_commit
             WHERE messages IS NOT NULL AND messages + gap <> to_sequence - from_sequence",
        )?;
        let findings = query.query_map([], |row| {
            let (number, range): (u64, u64) = (row.get(0)?, row.get(1)?);
            let (messages, gap): (u64, u64) = (row.get(2)?, row.get(3)?);
            Ok(Finding {
                invariant: "I4",
                what: format!("commit {number} covers {range} messages, but {messages} were read and {gap} are missing"),
            })
        })?;
        Ok(findings.collect::<Result<_, _>>()?)
    }

    /// I8: files on disk are files in the catalogue. While a server writes, its unfinished files
    /// are found too; ask again, or stop it first.
    pub fn files_match_catalogue(&self) -> Result<Vec<Finding>, CheckError> {
        let on_disk: BTreeSet<PathBuf> = files_below(&self.data_dir)?.into_iter().collect();
        let current = self.files().map(|(_, stored)| stored.file.path.clone());
        let current: BTreeSet<PathBuf> = current.collect();
        let retired: BTreeSet<PathBuf> = self
            .loaded
            .retired
            .iter()
            .map(|retired| self.data_dir.join(&retired.path))
            .collect();
        let missing = current
            .difference(&on_disk)
            .map(|path| (path, "is missing"));
        let left = on_disk
            .iter()
            .filter(|path| !current.contains(*path) && !retired.contains(*path));
        let left = left.map(|path| (path, "is named by no catalogue row"));
        Ok(missing
            .chain(left)
            .map(|(path, what)| Finding {
                invariant: "I8",
                what: format!("{} {what}", path.display()),
            })
            .collect())
    }

    /// I12: every block of every current file has the checksum it was written with.
    pub fn checksums_match(&self) -> Vec<Finding> {
        self.files()
            .filter_map(|(table, stored)| {
                let why = first_damage(&stored.file, &stored.sums)?;
                Some(Finding {
                    invariant: "I12",
                    what: format!(
                        "{} of table {:?}: {why:?}",
                        stored.file.path.display(),
                        table.name
                    ),
                })
            })
            .collect()
    }

    /// Row counts and DuckLake's statistics are what the footers and the file lists say.
    pub fn statistics_hold(&self) -> Result<Vec<Finding>, CheckError> {
        let mut findings = Vec::new();
        for (table, stored) in self.files() {
            let file = open(&stored.file.path)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let rows = reader.metadata().file_metadata().num_rows();
            if u64::try_from(rows).ok() != Some(stored.file.rows) {
                findings.push(Finding {
                    invariant: "I4",
                    what: format!(
                        "{} of {:?} has {rows} rows, the catalogue says {}",
                        stored.file.path.display(),
                        table.name,
                        stored.file.rows
                    ),
                });
            }
        }
        for table in self.loaded.tables.values() {
            let said: Option<u64> = self
                .connection
                .prepare_cached("SELECT record_count FROM ducklake_table_stats WHERE table_id = ?")?
                .query_map([table.id], |row| row.get(0))?
                .next()
                .transpose()?;
            let rows = table.totals().rows;
            if said.unwrap_or(0) != rows {
                findings.push(Finding {
                    invariant: "I4",
                    what: format!(
                        "table {:?} has {rows} rows, its statistics say {said:?}",
                        table.name
                    ),
                });
            }
        }
        Ok(findings)
    }

    /// I2: no event twice, over all tables: `service` and `id` together name one. Reads the two
    /// columns of every file, several times when there are more than eight million rows.
    pub fn ids_are_unique(&self) -> Result<Vec<Finding>, CheckError> {
        let rows: u64 = self.files().map(|(_, stored)| stored.file.rows).sum();
        let passes = u128::from(rows.div_ceil(IDS_AT_ONCE).max(1));
        let mut findings = Vec::new();
        for pass in 0..passes {
            let mut seen: Vec<(u128, &str)> = Vec::new();
            for (table, stored) in self.files() {
                for batch in read(stored, Some(&["service", "id"]))? {
                    let hashes = identities(&batch?).into_iter();
                    let ours = hashes.filter(|hash| hash % passes == pass);
                    seen.extend(ours.map(|hash| (hash, table.name.as_str())));
                }
            }
            seen.sort_unstable();
            for pair in seen.windows(2) {
                if let [(a, first), (b, second)] = pair
                    && a == b
                {
                    findings.push(Finding {
                        invariant: "I2",
                        what: format!("an event of {first:?} is there again in {second:?}"),
                    });
                }
            }
        }
        Ok(findings)
    }

    /// The rows of a table; I10: compaction leaves this as it was.
    pub fn row_sum(&self, table: &str) -> Result<RowSum, CheckError> {
        let mut sum = RowSum::default();
        let Some(table) = self.loaded.tables.get(table) else {
            return Ok(sum);
        };
        // A column that widened counts as a double wherever it was written.
        let schema = file_schema(&table.columns);
        for stored in &table.files {
            for batch in read(stored, None)? {
                let batch = fit(&batch?, &table.columns, &schema)?;
                sum.rows += batch.num_rows() as u64;
                for hash in row_hashes(&batch, table)? {
                    sum.sum = sum.sum.wrapping_add(hash);
                }
            }
        }
        Ok(sum)
    }

    fn files(&self) -> impl Iterator<Item = (&Table, &StoredFile)> {
        self.loaded
            .tables
            .values()
            .flat_map(|table| table.files.iter().map(move |stored| (table, &**stored)))
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::new(FileStep::Read, path, source))
}

/// Reads a file, or some of its columns.
fn read(
    stored: &StoredFile,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, CheckError> {
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(open(&stored.file.path)?)?;
    if let Some(columns) = columns {
        let schema = reader.parquet_schema();
        let mask = ProjectionMask::columns(schema, columns.iter().copied());
        reader = reader.with_projection(mask);
    }
    Ok(reader.build()?)
}

/// Hashes of service and id of the rows that have an id.
fn identities(batch: &RecordBatch) -> Vec<u128> {
    let text = |name: &str| {
        batch
            .column_by_name(name)
            .and_then(|a| a.as_string_opt::<i32>())
    };
    let Some(ids) = text("id") else {
        return Vec::new();
    };
    let services = text("service");
    (0..ids.len())
        .filter(|row| ids.is_valid(*row))
        .map(|row| {
            let service = services
                .filter(|s| s.is_valid(row))
                .map_or("", |s| s.value(row));
            xxh3_128(format!("{service}\u{0}{}", ids.value(row)).as_bytes())
        })
        .collect()
}

fn row_hashes(batch: &RecordBatch, table: &Table) -> Result<Vec<u128>, ArrowError> {
    use arrow::row::{RowConverter, SortField};
    // Ordered by name, so that a table that learnt its columns in another order sums alike.
    let mut columns: Vec<usize> = (0..table.columns.len()).collect();
    columns.sort_by_key(|place| &table.columns[*place].column.name);
    let kind = |place: &usize| -> ColumnKind { table.columns[*place].column.kind };
    let fields = columns
        .iter()
        .map(|place| SortField::new(kind(place).arrow()))
        .collect();
    let arrays: Vec<_> = columns
        .iter()
        .map(|place| batch.column(*place).clone())
        .collect();
    let rows = RowConverter::new(fields)?.convert_columns(&arrays)?;
    Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
}
