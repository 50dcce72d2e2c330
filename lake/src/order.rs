//! The order of rows in a file: by series, then by time.
//!
//! Flushes sort rows at hand, compaction merges rows that are sorted; both must agree to the last
//! tie, which they do by the same keys. Pure. Start at [`sorted_order`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The columns a file is sorted by: those asked for that exist, then `time`.
pub(crate) fn sort_columns(schema: &Schema, sort: &[String]) -> Vec<usize> {
    let mut places: Vec<usize> = Vec::new();
    for name in sort.iter().map(String::as_str).chain(["time"]) {
        if let Ok(place) = schema.index_of(name)
            && !places.contains(&place)
        {
            places.push(place);
        }
    }
    places
}

/// A converter that makes sort keys of a file comparable as bytes.
pub(crate) fn key_converter(schema: &Schema, places: &[usize]) -> Result<RowConverter, ArrowError> {
    RowConverter::new(
        places
            .iter()
            .map(|place| SortField::new(schema.field(*place).data_type().clone()))
            .collect(),
    )
}

/// The sort keys of a batch.
pub(crate) fn keys_of(
    converter: &RowConverter,
    batch: &RecordBatch,
    places: &[usize],
) -> Result<Rows, ArrowError> {
    let keys: Vec<ArrayRef> = places
        .iter()
        .map(|place| batch.column(*place).clone())
        .collect();
    converter.convert_columns(&keys)
}

/// Where each row goes: `(batch, row)` in the file's order. Rows with equal keys keep their order.
///
/// There are many rows and few series, so series are ranked once and rows compared as numbers;
/// comparing the names row by row took a seventh of all encoding.
pub(crate) fn sorted_order(
    batches: &[RecordBatch],
    sort: &[String],
) -> Result<Vec<(usize, usize)>, ArrowError> {
    let Some(first) = batches.first() else {
        return Ok(Vec::new());
    };
    let schema = first.schema();
    let mut series = sort_columns(&schema, sort);
    let is_time =
        |place: &usize| matches!(schema.field(*place).data_type(), DataType::Timestamp(_, _));
    let time = series.pop_if(|place| is_time(place));
    let ranks = ranks(batches, &series)?;
    let mut keys = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (place, (batch, ranks)) in batches.iter().zip(ranks).enumerate() {
        let times = time.map(|time| {
            batch
                .column(time)
                .as_primitive::<TimestampMicrosecondType>()
        });
        for (row, rank) in ranks.into_iter().enumerate() {
            let time = times
                .filter(|times| times.is_valid(row))
                .map(|times| times.value(row));
            keys.push((rank, time, place as u32, row as u32));
        }
    }
    keys.sort_unstable();
    Ok(keys
        .into_iter()
        .map(|(_, _, place, row)| (place as usize, row as usize))
        .collect())
}

/// The place of each row's series among all series.
fn ranks(batches: &[RecordBatch], series: &[usize]) -> Result<Vec<Vec<u32>>, ArrowError> {
    let Some(first) = batches.first().filter(|_| !series.is_empty()) else {
        return Ok(batches
            .iter()
            .map(|batch| vec![0; batch.num_rows()])
            .collect());
    };
    let converter = key_converter(&first.schema(), series)?;
    let names: Vec<Rows> = batches
        .iter()
        .map(|batch| keys_of(&converter, batch, series))
        .collect::<Result<_, _>>()?;
    let mut known: HashMap<&[u8], u32, BuildHasherDefault<KeyHasher>> = HashMap::default();
    let mut ranks: Vec<Vec<u32>> = names
        .iter()
        .map(|names| {
            (0..names.num_rows())
                .map(|row| {
                    let next = known.len() as u32;
                    *known.entry(names.row(row).data()).or_insert(next)
                })
                .collect()
        })
        .collect();
    let mut in_order: Vec<(&[u8], u32)> = known.into_iter().collect();
    in_order.sort_unstable();
    let mut rank_of = vec![0; in_order.len()];
    for (rank, (_, found)) in in_order.iter().enumerate() {
        rank_of[*found as usize] = rank as u32;
    }
    for rank in ranks.iter_mut().flatten() {
        *rank = rank_of[*rank as usize];
    }
    Ok(ranks)
}

/// Hashes keys of a hundred bytes; the names come from our own users' services, and a flush is
/// bounded, so crafted collisions have nothing to gain.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, value: usize) {
        self.0 ^= value as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use arrow::compute::interleave_record_batch;

    use super::*;
    use crate::column::{Column, ColumnKind};

    fn batch(rows: &[(Option<&str>, Option<i64>)]) -> RecordBatch {
        let columns = [
            Column::new("s", ColumnKind::Text),
            Column::new("time", ColumnKind::Time),
        ];
        let fields: Vec<_> = columns.iter().map(Column::field).collect();
        let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0)));
        let times = TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.1));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![names, times]).unwrap()
    }

    #[test]
    fn flush_and_merge_agree_on_the_order() {
        let batches = [
            batch(&[
                (Some("b"), Some(1)),
                (None, Some(5)),
                (Some("a"), None),
                (Some(""), Some(i64::MIN)),
            ]),
            batch(&[
                (Some("a"), Some(-7)),
                (Some("ab"), Some(0)),
                (Some("b"), Some(1)),
                (Some("a"), Some(3)),
            ]),
            batch(&[
                (Some("\u{e9}"), Some(0)),
                (Some(""), None),
                (None, None),
                (Some(&"a".repeat(40)), Some(0)),
            ]),
        ];
        let sort = ["s".to_owned(), "no such column".to_owned()];
        let order = sorted_order(&batches, &sort).unwrap();
        assert_eq!(order.len(), 12);
        let parts: Vec<&RecordBatch> = batches.iter().collect();
        let sorted = interleave_record_batch(&parts, &order).unwrap();
        let places = sort_columns(&sorted.schema(), &sort);
        let converter = key_converter(&sorted.schema(), &places).unwrap();
        let keys = keys_of(&converter, &sorted, &places).unwrap();
        assert!((1..12).all(|row| keys.row(row - 1) <= keys.row(row)));
        // Equal rows keep the order in which they came.
        let twins: Vec<usize> = order
            .iter()
            .filter(|at| [(0, 0), (1, 2)].contains(at))
            .map(|at| at.0)
            .collect();
        assert_eq!(twins, [0, 1]);
        assert!(sorted_order(&[], &sort).unwrap().is_empty());
        assert_eq!(
            sorted_order(&batches[..1], &[]).unwrap(),
            [(0, 2), (0, 3), (0, 0), (0, 1)]
        );
    }
}
