//! Files and what the catalogue says of them: that both are there, and neither changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::open;
use super::{Audit, CheckError, Finding};
use crate::catalogue::digest;
use crate::keep::first_damage;
use crate::recover::files_below;

impl Audit {
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
            .map(|(path, what)| Finding::new("I8", format!("{} {what}", path.display())))
            .collect())
    }

    /// I12: every block of every current file has the checksum it was written with.
    pub fn checksums_match(&self) -> Vec<Finding> {
        self.files()
            .filter_map(|(table, stored)| {
                let why = first_damage(&stored.file, &stored.sums)?;
                let path = stored.file.path.display();
                let what = format!("{path} of table {:?}: {why:?}", table.name);
                Some(Finding::new("I12", what))
            })
            .collect()
    }

    /// I12: SQLite finds its own file sound: pages, cells and indices agree.
    pub fn catalogue_is_sound(&self) -> Result<Vec<Finding>, CheckError> {
        let mut check = self.connection.prepare("PRAGMA integrity_check")?;
        let said = check.query_map([], |row| row.get::<_, String>(0))?;
        let said: Vec<String> = said.collect::<Result<_, _>>()?;
        let faults = said.into_iter().filter(|line| line != "ok");
        Ok(faults
            .map(|what| Finding::new("I12", format!("the catalogue is damaged: {what}")))
            .collect())
    }

    /// I12: what the catalogue says of each table and file has the digest it was written with.
    pub fn catalogue_is_as_written(&self) -> Result<Vec<Finding>, CheckError> {
        let altered = digest::altered(&self.connection)?.into_iter();
        Ok(altered
            .map(|what| Finding::new("I12", format!("the catalogue is not as written: {what}")))
            .collect())
    }

    /// I4: row counts and DuckLake's statistics are what the footers and the file lists say.
    pub fn statistics_hold(&self) -> Result<Vec<Finding>, CheckError> {
        let mut findings = Vec::new();
        for (table, stored) in self.files() {
            let file = open(&stored.file.path)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let rows = reader.metadata().file_metadata().num_rows();
            if u64::try_from(rows).ok() != Some(stored.file.rows) {
                let what = format!(
                    "{} of {:?} has {rows} rows, the catalogue says {}",
                    stored.file.path.display(),
                    table.name,
                    stored.file.rows
                );
                findings.push(Finding::new("I4", what));
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
                let what = format!(
                    "table {:?} has {rows} rows, its statistics say {said:?}",
                    table.name
                );
                findings.push(Finding::new("I4", what));
            }
        }
        Ok(findings)
    }
}
