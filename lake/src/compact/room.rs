//! How many rows of each source a merge holds at once, so that its memory is bounded in bytes.
//!
//! Footers say how long rows are. Start at [`rows_at_once`].

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

/// Rows that a source holds in memory, and rows that are written at once, at most.
const ROWS_MAX: usize = 4096;
/// Bytes of these rows, about: sixteen sources, twice each while the output refers to an earlier batch,
/// and the output hold 132 MiB.
const BYTES: u64 = 4 << 20;

/// As many rows as fit, of the file whose rows are longest.
pub(super) fn rows_at_once<'a>(footers: impl Iterator<Item = &'a ParquetMetaData>) -> usize {
    let groups = footers.flat_map(ParquetMetaData::row_groups);
    let longest = groups.map(bytes_per_row).max().unwrap_or(0);
    let rows = BYTES / longest.max(1);
    usize::try_from(rows).unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX)
}

fn bytes_per_row(group: &RowGroupMetaData) -> u64 {
    let bytes = group.columns().iter().map(|column| {
        // A text that is repeated is once in a dictionary, and in memory as often as it is said.
        let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
        u64::try_from(column.uncompressed_size().max(texts)).unwrap_or(0)
    });
    bytes.sum::<u64>() / u64::try_from(group.num_rows()).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn file(texts: impl Iterator<Item = String>) -> Bytes {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let batch = RecordBatch::try_from_iter([("text", texts)]).expect("a batch");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("a footer");
        bytes.into()
    }

    /// The rows at once, and the greatest batch that is read with as many.
    fn read(bytes: Bytes) -> (usize, usize) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a file");
        let rows = rows_at_once([&**reader.metadata()].into_iter());
        let batches = reader.with_batch_size(rows).build().expect("a reader");
        let sizes = batches.map(|batch| batch.expect("a batch").get_array_memory_size());
        (rows, sizes.max().unwrap_or(0))
    }

    #[test]
    fn large_rows_are_few_at_once_and_small_ones_many() {
        let bound = 2 * BYTES as usize;
        let large = (0..200).map(|n: u32| n.to_string().repeat(60_000));
        let (rows, bytes) = read(file(large));
        assert!(rows < 100 && bytes < bound, "{rows} rows, {bytes} bytes");
        let same = (0..1000).map(|_| "x".repeat(60_000));
        let (rows, bytes) = read(file(same));
        assert!(rows < 100 && bytes < bound, "{rows} rows, {bytes} bytes");
        let (rows, _) = read(file((0..10_000).map(|n: u32| n.to_string())));
        assert_eq!(rows, ROWS_MAX);
    }
}
