//! One table as the lake holds it in memory: columns, files, and what follows from both.

use std::path::PathBuf;
use std::sync::Arc;

use crate::column::{Column, ColumnKind};
use crate::encode::{Encoded, StoredColumn, greatest, least};
use crate::known::Known;
use crate::snapshot::{Bound, DataFile, TableView};
use crate::sums::Sums;
use crate::text;

/// A table with its current files.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Its folder below `main/`, ending in `/`.
    pub(crate) dir: String,
    pub(crate) columns: Vec<StoredColumn>,
    pub(crate) files: Vec<Arc<StoredFile>>,
    pub(crate) next_row_id: u64,
}

/// A file with what only the lake needs to know of it.
#[derive(Debug)]
pub(crate) struct StoredFile {
    pub(crate) file: Arc<DataFile>,
    pub(crate) footer_bytes: u64,
    pub(crate) row_id_start: u64,
    pub(crate) sort: Vec<String>,
    pub(crate) sums: Arc<Sums>,
}

/// What is known of a whole table.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) columns: Vec<ColumnTotal>,
}

/// What is known of a column over all files.
#[derive(Debug, Default)]
pub(crate) struct ColumnTotal {
    pub(crate) has_null: bool,
    pub(crate) has_nan: bool,
    pub(crate) min: Option<Bound>,
    pub(crate) max: Option<Bound>,
}

/// What a flush makes of a table's columns.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    pub(crate) added: Vec<StoredColumn>,
    pub(crate) widened: Vec<StoredColumn>,
}

impl Table {
    /// A table without columns and files.
    pub(crate) fn new(id: u64, name: String, dir: String) -> Table {
        Table {
            id,
            name,
            dir,
            columns: Vec::new(),
            files: Vec::new(),
            next_row_id: 0,
        }
    }

    /// The path of a file of this table below the data folder.
    pub(crate) fn path_of(&self, file_id: u64) -> PathBuf {
        PathBuf::from(format!("main/{}{}", self.dir, text::file_name(file_id)))
    }

    /// Takes in the columns a flush knows. `Err` names a column that changed in a forbidden way.
    pub(crate) fn grow(&mut self, columns: &[Column]) -> Result<Grown, Column> {
        let mut grown = Grown::default();
        for column in columns {
            let known = self
                .columns
                .iter_mut()
                .find(|known| known.column.name == column.name);
            match known {
                None => {
                    let id = self.columns.iter().map(|known| known.id).max().unwrap_or(0) + 1;
                    let stored = StoredColumn {
                        id,
                        column: column.clone(),
                    };
                    self.columns.push(stored.clone());
                    grown.added.push(stored);
                }
                Some(known) => match (known.column.kind, column.kind) {
                    (old, new) if old == new => {}
                    // A flush that was cut before the column widened.
                    (ColumnKind::Double, ColumnKind::Int) => {}
                    (ColumnKind::Int, ColumnKind::Double) => {
                        known.column.kind = ColumnKind::Double;
                        grown.widened.push(known.clone());
                    }
                    _ => return Err(known.column.clone()),
                },
            }
        }
        Ok(grown)
    }

    /// Makes an encoded file one of this table's; its rows get the next row numbers.
    pub(crate) fn take_file(
        &mut self,
        path: PathBuf,
        id: u64,
        encoded: Encoded,
        sort: Vec<String>,
        arrived_us: i64,
        is_import: bool,
    ) -> Arc<StoredFile> {
        let stored = Arc::new(StoredFile {
            footer_bytes: encoded.footer_bytes,
            row_id_start: self.next_row_id,
            sort,
            sums: Arc::new(encoded.sums),
            file: Arc::new(DataFile {
                id,
                path,
                rows: encoded.rows,
                bytes: encoded.bytes,
                stats: encoded.stats,
                arrived_us,
                is_import,
            }),
        });
        self.next_row_id += stored.file.rows;
        self.files.push(stored.clone());
        stored
    }

    /// Folds the statistics of all files; wide rather than wrong.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals {
            rows: self.files.iter().map(|stored| stored.file.rows).sum(),
            bytes: self.files.iter().map(|stored| stored.file.bytes).sum(),
            columns: Vec::new(),
        };
        totals.columns = self
            .columns
            .iter()
            .map(|column| self.column_total(column))
            .collect();
        totals
    }

    fn column_total(&self, column: &StoredColumn) -> ColumnTotal {
        let mut total = ColumnTotal::default();
        let mut is_bounded = true;
        for stored in &self.files {
            let file = &stored.file;
            let Some(stats) = file.stats.iter().find(|s| s.name == column.column.name) else {
                total.has_null |= file.rows > 0;
                continue;
            };
            total.has_null |= stats.nulls > 0;
            total.has_nan |= stats.has_nan;
            let has_values = file.rows > stats.nulls;
            is_bounded &= !has_values || (stats.min.is_some() && stats.max.is_some());
            let widened = |bound: &Option<Bound>| match (column.column.kind, bound) {
                (ColumnKind::Double, Some(Bound::Int(value))) => Some(Bound::Double(*value as f64)),
                (_, bound) => bound.clone(),
            };
            total.min = least(total.min.take(), widened(&stats.min));
            total.max = greatest(total.max.take(), widened(&stats.max));
        }
        if !is_bounded {
            (total.min, total.max) = (None, None);
        }
        total
    }

    /// What readers get of the table, without fresh rows.
    pub(crate) fn view(&self) -> Arc<TableView> {
        Arc::new(TableView {
            name: self.name.clone(),
            columns: self
                .columns
                .iter()
                .map(|stored| stored.column.clone())
                .collect(),
            files: self
                .files
                .iter()
                .map(|stored| stored.file.clone())
                .collect(),
            fresh: Vec::new(),
            known: Known::of_files(self.files.iter().map(|stored| &stored.file)),
        })
    }
}
