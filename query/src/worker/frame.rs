//! What parent and worker say to each other: frames of a kind, a length and a body.
//!
//! The parent sends one question (JSON, then the hot rows of each table as Arrow IPC) and reads one
//! answer (Arrow IPC and its JSON, or an error). The types here leave the process, so they have serde.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use serin_lake::sums::Sums;
use serin_lake::{
    Bound, CheckedStore, Column, ColumnKind, ColumnStats, DataFile, Known, Snapshot, TableView,
};

use crate::error::QueryError;
use crate::limits::{Limits, Range};
use crate::table::{adapt, query_schema};

/// The worker is warm and waits.
pub(super) const READY: u8 = b'R';
/// A question in JSON.
pub(super) const QUESTION: u8 = b'Q';
/// The hot rows of one table, in the order of the question's tables.
pub(super) const FRESH: u8 = b'F';
/// The rows of an answer.
pub(super) const ROWS: u8 = b'A';
/// The end of an answer, with what is known of it.
pub(super) const DONE: u8 = b'D';
/// There is no answer.
pub(super) const FAILED: u8 = b'E';

/// Bytes before the body of a frame: kind and length.
pub(super) const HEAD_BYTES: usize = 5;

/// A question to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) sql: String,
    pub(super) range_us: Option<(i64, i64)>,
    pub(super) deadline_ms: u64,
    pub(super) memory_bytes: usize,
    pub(super) rows_max: usize,
    pub(super) result_bytes_max: usize,
    pub(super) sql_bytes_max: usize,
    pub(super) spill_bytes_max: u64,
    pub(super) spill_dir: PathBuf,
    /// The folders that may be read: all of the lake's, each once.
    pub(super) folders: Vec<PathBuf>,
    pub(super) watermark_us: Option<i64>,
    pub(super) tables: Vec<Table>,
}

/// A table as the worker must see it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<(String, String)>,
    pub(super) files: Vec<File>,
    pub(super) has_fresh: bool,
}

/// A file of a table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    path: PathBuf,
    rows: u64,
    bytes: u64,
    stats: Vec<Stats>,
    /// Checksums: of the whole, and of each block.
    sums: Option<(u64, Vec<u64>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stats {
    name: String,
    nulls: u64,
    min: Option<Value>,
    max: Option<Value>,
    has_nan: bool,
}

/// A bound; a double travels as its bits, since JSON has no infinities.
#[derive(Debug, Serialize, Deserialize)]
enum Value {
    Bool(bool),
    Int(i64),
    Double(u64),
    Text(String),
    Time(i64),
}

/// What is known of an answer beside its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) is_truncated: bool,
    /// What the kernel could not close.
    pub(super) lacking: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failed {
    Statement(String),
    Value(String),
    NoTable {
        name: String,
        hint: String,
        is_to_come: bool,
    },
    NoColumn {
        name: String,
        table: String,
        hint: String,
    },
    Deadline,
    Memory,
    Spill,
    ResultBytes,
    /// A file is not what was written.
    Damaged(String),
    /// The worker could not be made safe, or broke.
    Worker(String),
}

impl Failed {
    pub(super) fn of(error: QueryError) -> Failed {
        match error {
            QueryError::Deadline { .. } => Failed::Deadline,
            QueryError::Memory { .. } => Failed::Memory,
            QueryError::Spill { .. } => Failed::Spill,
            QueryError::ResultBytes { .. } => Failed::ResultBytes,
            QueryError::Damaged { message } => Failed::Damaged(message),
            QueryError::Value { message } => Failed::Value(message),
            QueryError::NoTable {
                name,
                hint,
                is_to_come,
            } => Failed::NoTable {
                name,
                hint,
                is_to_come,
            },
            QueryError::NoColumn { name, table, hint } => Failed::NoColumn { name, table, hint },
            other => Failed::Statement(other.to_string()),
        }
    }

    pub(super) fn into_error(self, limits: &Limits) -> QueryError {
        match self {
            Failed::Statement(message) => QueryError::Statement { message },
            Failed::Value(message) => QueryError::Value { message },
            Failed::NoTable {
                name,
                hint,
                is_to_come,
            } => QueryError::NoTable {
                name,
                hint,
                is_to_come,
            },
            Failed::NoColumn { name, table, hint } => QueryError::NoColumn { name, table, hint },
            Failed::Deadline => QueryError::Deadline {
                deadline: limits.deadline,
            },
            Failed::Memory => QueryError::Memory {
                bytes: limits.memory_bytes,
            },
            Failed::Spill => QueryError::Spill {
                bytes: limits.spill_bytes_max,
            },
            Failed::ResultBytes => QueryError::ResultBytes {
                bytes: limits.result_bytes_max,
            },
            Failed::Damaged(message) => QueryError::Damaged { message },
            Failed::Worker(status) => QueryError::WorkerDied { status },
        }
    }
}

impl Question {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            deadline: Duration::from_millis(self.deadline_ms),
            memory_bytes: self.memory_bytes,
            rows_max: self.rows_max,
            result_bytes_max: self.result_bytes_max,
            sql_bytes_max: self.sql_bytes_max,
            spill_bytes_max: self.spill_bytes_max,
            ..Limits::default()
        }
    }

    pub(super) fn range(&self) -> Option<Range> {
        self.range_us
            .map(|(from_us, to_us)| Range { from_us, to_us })
    }

    /// Lets a store read its files, against their checksums.
    pub(super) fn tell_files(&self, store: &CheckedStore) {
        for file in self.tables.iter().flat_map(|table| &table.files) {
            if let Some((whole, blocks)) = file.sums.clone() {
                store.know(&file.path, file.bytes, Arc::new(Sums { whole, blocks }));
            }
        }
    }

    /// The snapshot it describes; `fresh` gives the hot rows of each table that has some, in order.
    pub(super) fn snapshot(&self, fresh: &mut dyn Iterator<Item = Vec<RecordBatch>>) -> Snapshot {
        let view = |table: &Table, fresh: Vec<RecordBatch>| TableView {
            name: table.name.clone(),
            columns: table
                .columns
                .iter()
                .filter_map(|(name, kind)| {
                    Some(Column::new(name, ColumnKind::from_ducklake(kind)?))
                })
                .collect(),
            files: table
                .files
                .iter()
                .map(|file| Arc::new(file.read()))
                .collect(),
            fresh,
            known: Known::default(),
        };
        let tables = self.tables.iter().map(|table| {
            let rows = if table.has_fresh {
                fresh.next().unwrap_or_default()
            } else {
                Vec::new()
            };
            (table.name.clone(), Arc::new(view(table, rows)))
        });
        Snapshot {
            number: 0,
            version: 0,
            position: Default::default(),
            watermark_us: self.watermark_us,
            tables: tables.collect(),
        }
    }
}

impl Table {
    /// The table with its files, or only with its columns where the statement does not read it.
    pub(super) fn of(view: &TableView, is_read: bool, store: &CheckedStore) -> Table {
        let columns = view.columns.iter();
        Table {
            name: view.name.clone(),
            columns: columns
                .map(|c| (c.name.clone(), c.kind.ducklake().to_owned()))
                .collect(),
            files: view
                .files
                .iter()
                .filter(|_| is_read)
                .map(|file| File::of(file, store))
                .collect(),
            has_fresh: is_read && view.fresh.iter().any(|batch| batch.num_rows() > 0),
        }
    }
}

impl File {
    fn of(file: &DataFile, store: &CheckedStore) -> File {
        let stats = file.stats.iter().map(|stats| Stats {
            name: stats.name.clone(),
            nulls: stats.nulls,
            min: stats.min.as_ref().map(Value::of),
            max: stats.max.as_ref().map(Value::of),
            has_nan: stats.has_nan,
        });
        File {
            path: file.path.clone(),
            rows: file.rows,
            bytes: file.bytes,
            stats: stats.collect(),
            // One the store does not know is refused by the worker's store too.
            sums: store
                .sums(&file.path)
                .map(|sums| (sums.whole, sums.blocks.clone())),
        }
    }

    fn read(&self) -> DataFile {
        let stats = self.stats.iter().map(|stats| ColumnStats {
            name: stats.name.clone(),
            bytes: 0,
            nulls: stats.nulls,
            min: stats.min.as_ref().map(Value::read),
            max: stats.max.as_ref().map(Value::read),
            has_nan: stats.has_nan,
        });
        DataFile {
            id: 0,
            path: self.path.clone(),
            rows: self.rows,
            bytes: self.bytes,
            stats: stats.collect(),
            arrived_us: 0,
            is_import: false,
        }
    }
}

impl Value {
    fn of(bound: &Bound) -> Value {
        match bound {
            Bound::Bool(value) => Value::Bool(*value),
            Bound::Int(value) => Value::Int(*value),
            Bound::Double(value) => Value::Double(value.to_bits()),
            Bound::Text(value) => Value::Text(value.clone()),
            Bound::Time(value) => Value::Time(*value),
        }
    }

    fn read(&self) -> Bound {
        match self {
            Value::Bool(value) => Bound::Bool(*value),
            Value::Int(value) => Bound::Int(*value),
            Value::Double(bits) => Bound::Double(f64::from_bits(*bits)),
            Value::Text(value) => Bound::Text(value.clone()),
            Value::Time(value) => Bound::Time(*value),
        }
    }
}

/// The hot rows of a table as Arrow IPC, laid out under its schema.
pub(super) fn fresh_bytes(view: &TableView) -> Result<Vec<u8>, ArrowError> {
    let schema = query_schema(&view.columns);
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for batch in &view.fresh {
        let batch =
            adapt(batch, &schema).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        writer.write(&batch)?;
    }
    writer.into_inner()
}

/// Batches from Arrow IPC, with their schema.
pub(super) fn batches(
    bytes: &[u8],
) -> Result<(arrow::datatypes::SchemaRef, Vec<RecordBatch>), ArrowError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

/// The head of a frame.
pub(super) fn head(kind: u8, body: &[u8]) -> io::Result<[u8; HEAD_BYTES]> {
    let length = u32::try_from(body.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a frame is longer than 4 GiB"))?;
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    Ok(head)
}

/// The kind and length that a head tells.
pub(super) fn parse_head(head: [u8; HEAD_BYTES]) -> (u8, usize) {
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    (head[0], length as usize)
}

/// Writes a frame.
pub(super) fn write(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    to.write_all(&head(kind, body)?)?;
    to.write_all(body)?;
    to.flush()
}

/// Reads a frame; `None` when the other side is gone.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; HEAD_BYTES];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (kind, length) = parse_head(head);
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((kind, body)))
}
