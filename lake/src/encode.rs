//! Turns rows into one durable, verified Parquet file beside its final name.
//!
//! Batches come in as the hot buffer held them; they are brought to the table's columns, sorted by
//! series and time, and written in row groups. What comes out is what the catalogue needs to know.
//! Start at [`encode`]; compaction feeds [`ParquetOut`] itself.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{DataType, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use thiserror::Error;

use crate::column::{Column, ColumnKind};
use crate::options::LakeOptions;
use crate::order::{sort_columns, sorted_order};
use crate::snapshot::{Bound, ColumnStats};
use crate::store::{Disk, FileError, FileOut, FileStep};
use crate::sums::{Building, Sums};

/// A column with the number by which the catalogue and the files know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredColumn {
    /// Unique in its table; it is the Parquet field id.
    pub(crate) id: u64,
    /// Name and kind.
    pub(crate) column: Column,
}

/// A file that is durable under its temporary name.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) footer_bytes: u64,
    pub(crate) sums: Sums,
    pub(crate) stats: Vec<ColumnStats>,
}

/// Why rows could not be turned into a file.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// A batch holds a column as a type that cannot become the table's.
    #[error("column {column:?} is {found} in a batch, but {expected} in the table")]
    Kind {
        /// The column.
        column: String,
        /// Its type in the batch.
        found: DataType,
        /// Its type in the table.
        expected: DataType,
    },
    /// A batch holds a column that the table's list of columns lacks.
    #[error("column {column:?} is in a batch, but not in the list of columns")]
    Unlisted {
        /// The column.
        column: String,
    },
    /// Arrow refused.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The Parquet writer refused.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was read back is not what was written.
    #[error("{} has {found} rows when read back, {expected} were written", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// Rows its footer says.
        found: u64,
        /// Rows it should have.
        expected: u64,
    },
}

/// Rows in one call of the writer: large enough to amortise, small enough for the cache.
const CHUNK_ROWS: usize = 16 * 1024;
/// Rows in a page at most, so that the page index can skip finely.
const PAGE_ROWS: usize = 20_000;
/// Texts in statistics are cut to this.
const BOUND_BYTES: usize = 64;

/// Sorts `batches` and writes them to `path`; the file is durable and verified when this returns.
pub(crate) fn encode(
    disk: &dyn Disk,
    path: &Path,
    columns: &[StoredColumn],
    sort: &[String],
    batches: &[RecordBatch],
    options: &LakeOptions,
) -> Result<Encoded, EncodeError> {
    let schema = file_schema(columns);
    let fitted: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| fit(batch, columns, &schema))
        .collect::<Result<_, _>>()?;
    let order = sorted_order(&fitted, sort)?;
    let fitted: Vec<&RecordBatch> = fitted.iter().collect();
    let mut out = ParquetOut::create(disk, path, columns, sort, options)?;
    for part in order.chunks(CHUNK_ROWS) {
        out.write(&interleave_record_batch(&fitted, part)?)?;
    }
    out.finish()
}

/// The Arrow schema of a table's files, with field ids.
pub(crate) fn file_schema(columns: &[StoredColumn]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|stored| {
            let id = ("PARQUET:field_id".to_owned(), stored.id.to_string());
            stored.column.field().with_metadata([id].into())
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Brings a batch to the table's columns: absent ones are null, integers widen where the table did.
pub(crate) fn fit(
    batch: &RecordBatch,
    columns: &[StoredColumn],
    schema: &SchemaRef,
) -> Result<RecordBatch, EncodeError> {
    let mut used = 0;
    let arrays: Vec<ArrayRef> = columns
        .iter()
        .map(|stored| {
            let column = &stored.column;
            let wanted = column.kind.arrow();
            let Some(array) = batch.column_by_name(&column.name) else {
                return Ok(new_null_array(&wanted, batch.num_rows()));
            };
            used += 1;
            if *array.data_type() == wanted {
                return Ok(array.clone());
            }
            if !can_become(array.data_type(), column.kind) {
                return Err(EncodeError::Kind {
                    column: column.name.clone(),
                    found: array.data_type().clone(),
                    expected: wanted,
                });
            }
            Ok(cast(array, &wanted)?)
        })
        .collect::<Result<_, EncodeError>>()?;
    if used != batch.num_columns() {
        let schema = batch.schema();
        let unlisted = schema.fields().iter().find(|field| {
            columns
                .iter()
                .all(|stored| stored.column.name != *field.name())
        });
        if let Some(field) = unlisted {
            return Err(EncodeError::Unlisted {
                column: field.name().clone(),
            });
        }
    }
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

fn can_become(found: &DataType, kind: ColumnKind) -> bool {
    match kind {
        ColumnKind::Double => matches!(found, DataType::Int64 | DataType::Null),
        ColumnKind::Text => matches!(
            found,
            DataType::Null | DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _)
        ),
        ColumnKind::Time => matches!(found, DataType::Null | DataType::Timestamp(_, _)),
        ColumnKind::Bool | ColumnKind::Int => matches!(found, DataType::Null),
    }
}

/// A Parquet file being written aside.
pub(crate) struct ParquetOut {
    writer: ArrowWriter<Summed>,
    path: PathBuf,
    rows: u64,
    nan: Vec<bool>,
}

/// The file under the Parquet writer; sums what passes.
struct Summed {
    file: Box<dyn FileOut>,
    sums: Building,
    buffer: Vec<u8>,
}

/// Bytes gathered before the kernel is called.
const BUFFER_BYTES: usize = 1 << 20;

impl Summed {
    fn empty_buffer(&mut self) -> io::Result<()> {
        self.sums.update(&self.buffer);
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.empty_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ParquetOut {
    /// Begins a file.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        columns: &[StoredColumn],
        sort: &[String],
        options: &LakeOptions,
    ) -> Result<ParquetOut, EncodeError> {
        let schema = file_schema(columns);
        let file = disk
            .create(path)
            .map_err(|source| FileError::new(FileStep::Create, path, source))?;
        let summed = Summed {
            file,
            sums: Building::default(),
            buffer: Vec::with_capacity(64 << 10),
        };
        let properties = properties(&schema, sort, options)?;
        Ok(ParquetOut {
            nan: vec![false; columns.len()],
            writer: ArrowWriter::try_new(summed, schema, Some(properties))?,
            path: path.to_path_buf(),
            rows: 0,
        })
    }

    /// Adds rows, which must come in the file's order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        for (seen, column) in self.nan.iter_mut().zip(batch.columns()) {
            if !*seen && let Some(doubles) = column.as_primitive_opt::<Float64Type>() {
                *seen = doubles.iter().flatten().any(f64::is_nan);
            }
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| self.failed(error))
    }

    /// Ends the file, makes it durable and reads its footer back.
    pub(crate) fn finish(mut self) -> Result<Encoded, EncodeError> {
        let metadata = match self.writer.finish() {
            Ok(metadata) => metadata,
            Err(error) => return Err(self.failed(error)),
        };
        let path = self.path.clone();
        let out = self.writer.inner_mut();
        out.empty_buffer()
            .map_err(|source| FileError::new(FileStep::Write, &path, source))?;
        out.file
            .sync()
            .map_err(|source| FileError::new(FileStep::Sync, &path, source))?;
        let bytes = out.sums.len();
        let sums = out.sums.finish();
        let footer_bytes = read_back(&path, bytes, self.rows)?;
        Ok(Encoded {
            rows: self.rows,
            bytes,
            footer_bytes,
            sums,
            stats: stats_of(&metadata, &self.nan),
        })
    }

    /// Gives the disk's error its place instead of burying it in the Parquet writer's.
    fn failed(&self, error: ParquetError) -> EncodeError {
        match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => FileError::new(FileStep::Write, &self.path, *source).into(),
                Err(source) => ParquetError::External(source).into(),
            },
            other => other.into(),
        }
    }
}

fn properties(
    schema: &Schema,
    sort: &[String],
    options: &LakeOptions,
) -> Result<WriterProperties, EncodeError> {
    let sorting = sort_columns(schema, sort)
        .into_iter()
        .map(|place| SortingColumn {
            column_idx: i32::try_from(place).unwrap_or(i32::MAX),
            descending: false,
            nulls_first: true,
        })
        .collect();
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("serin ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_max_row_group_bytes(Some(options.row_group_bytes))
        .set_sorting_columns(Some(sorting));
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        match field.data_type() {
            // Times within a series rise by little: their differences take a byte or two.
            DataType::Timestamp(_, _) => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
            // Nearly every value is new, so a dictionary would be built only to be thrown away.
            DataType::Utf8 if matches!(field.name().as_str(), "id" | "trace_id" | "span_id") => {
                properties = properties.set_column_dictionary_enabled(path, false);
            }
            _ => {}
        }
    }
    Ok(properties.build())
}

/// Reads the footer of a file that was just synced; returns the footer's length.
fn read_back(path: &Path, bytes: u64, rows: u64) -> Result<u64, EncodeError> {
    let unreadable = |source| FileError::new(FileStep::Read, path, source);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let found_bytes = file.metadata().map_err(unreadable)?.len();
    if found_bytes != bytes {
        let text = format!("{found_bytes} bytes on disk, {bytes} were written");
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, text)).into());
    }
    let footer_bytes = footer_bytes(&file, bytes).map_err(unreadable)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file)?;
    let found = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    if found != rows {
        return Err(EncodeError::ReadBack {
            path: path.to_path_buf(),
            found,
            expected: rows,
        });
    }
    Ok(footer_bytes)
}

/// The length a file says its footer has, from its last eight bytes.
pub(crate) fn footer_bytes(file: &std::fs::File, bytes: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut tail = [0_u8; 8];
    let start = bytes
        .checked_sub(8)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "too short for Parquet"))?;
    file.read_exact_at(&mut tail, start)?;
    let [a, b, c, d, magic @ ..] = tail;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if magic != *b"PAR1" || length + 12 > bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no Parquet footer at its end",
        ));
    }
    Ok(length)
}

/// Statistics of the file's columns, folded over its row groups.
fn stats_of(metadata: &ParquetMetaData, nan: &[bool]) -> Vec<ColumnStats> {
    let descriptor = metadata.file_metadata().schema_descr();
    (0..descriptor.num_columns())
        .map(|place| {
            let mut stats = ColumnStats {
                name: descriptor.column(place).name().to_owned(),
                bytes: 0,
                nulls: 0,
                min: None,
                max: None,
                has_nan: nan.get(place).copied().unwrap_or(false),
            };
            // A bound holds only if every row group with values says its own.
            let mut is_bounded = true;
            for group in metadata.row_groups() {
                let chunk = group.column(place);
                stats.bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
                let is_time = chunk.column_descr().logical_type_ref().is_some();
                if let Some(found) = chunk.statistics() {
                    let nulls = found.null_count_opt().unwrap_or(0);
                    stats.nulls += nulls;
                    let (min, max) = bounds(found, is_time);
                    let has_values = u64::try_from(chunk.num_values()).unwrap_or(0) > nulls;
                    is_bounded &= !has_values || (min.is_some() && max.is_some());
                    stats.min = least(stats.min.take(), min);
                    stats.max = greatest(stats.max.take(), max);
                }
            }
            if !is_bounded {
                (stats.min, stats.max) = (None, None);
            }
            stats
        })
        .collect()
}

fn bounds(stats: &Statistics, is_time: bool) -> (Option<Bound>, Option<Bound>) {
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.contains('\0')).then(|| Bound::Text(text.to_owned()))
    };
    match stats {
        Statistics::Int64(values) => {
            let bound = |value: &i64| match is_time {
                true => Bound::Time(*value),
                false => Bound::Int(*value),
            };
            (values.min_opt().map(bound), values.max_opt().map(bound))
        }
        Statistics::Double(values) => {
            let bound = |value: &f64| (!value.is_nan()).then_some(Bound::Double(*value));
            (
                values.min_opt().and_then(bound),
                values.max_opt().and_then(bound),
            )
        }
        Statistics::ByteArray(values) => (
            values.min_opt().and_then(|value| text(value.data())),
            values.max_opt().and_then(|value| text(value.data())),
        ),
        _ => (None, None),
    }
}

/// The lesser of two bounds that may be absent.
pub(crate) fn least(a: Option<Bound>, b: Option<Bound>) -> Option<Bound> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The greater of two bounds that may be absent.
pub(crate) fn greatest(a: Option<Bound>, b: Option<Bound>) -> Option<Bound> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        (a, b) => a.or(b),
    }
}
