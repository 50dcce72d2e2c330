//! Fills a lake without a bus: flushes of a million rows over eight types, made up from numbers.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use serin_lake::{
    Column, ColumnKind, Flush, Incarnation, Lake, LakeOptions, Position, Progress, TableRows,
};
use serin_tests::load::TYPES;

/// 2026-01-01 00:00 UTC.
const START_US: i64 = 1_767_225_600_000_000;
/// Between two events.
const STEP_US: i64 = 10_000;
const FLUSH_ROWS: u64 = 1_000_000;
const BATCH_ROWS: u64 = 8_192;

/// Commits so many events; how many files hold them.
pub(crate) fn fill(dir: &Path, events: u64) -> Result<usize> {
    let options = LakeOptions {
        dir: dir.to_owned(),
        ..LakeOptions::default()
    };
    let (lake, _) = Lake::open(options, START_US)?;
    lake.start_lineage(at(0), &[], "first", START_US)?;
    for number in 1..=events.div_ceil(FLUSH_ROWS) {
        let rows = (number - 1) * FLUSH_ROWS..events.min(number * FLUSH_ROWS);
        lake.commit(flush(number, rows))?;
    }
    let files = lake.snapshot();
    Ok(files.tables.values().map(|table| table.files.len()).sum())
}

fn at(sequence: u64) -> Position {
    Position {
        incarnation: Incarnation(1),
        sequence,
    }
}

fn columns() -> Vec<Column> {
    use ColumnKind::{Double, Int, Text, Time};
    [
        ("time", Time),
        ("id", Text),
        ("service", Text),
        ("version", Text),
        ("instance", Text),
        ("country", Text),
        ("user", Text),
        ("status", Int),
        ("amount", Double),
    ]
    .map(|(name, kind)| Column::new(name, kind))
    .to_vec()
}

fn flush(number: u64, rows: std::ops::Range<u64>) -> Flush {
    let tables = (0_u64..).zip(TYPES).map(|(of, name)| {
        let numbers: Vec<u64> = rows.clone().filter(|row| row % 8 == of).collect();
        TableRows {
            name: name.to_owned(),
            columns: columns(),
            batches: numbers.chunks(BATCH_ROWS as usize).map(batch).collect(),
            sort: ["service", "version", "instance"]
                .map(str::to_owned)
                .to_vec(),
            is_import: false,
        }
    });
    Flush {
        number,
        tables: tables.filter(|table| !table.batches.is_empty()).collect(),
        progress: Progress {
            from: at(number - 1),
            to: at(number),
            ..Progress::default()
        },
        now_us: START_US + rows.end as i64 * STEP_US,
    }
}

fn batch(numbers: &[u64]) -> RecordBatch {
    let text = |value: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|n| value(*n)),
        ))
    };
    let times = numbers.iter().map(|n| START_US + *n as i64 * STEP_US);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(times),
        text(&|n| format!("{n:026}")),
        text(&|n| format!("filled-{}", n % 3)),
        text(&|n| format!("v{}", n % 2)),
        text(&|n| format!("filled-{}-{}", n % 3, n % 4)),
        text(&|n| ["de", "fr", "es", "it"][(mixed(n) % 4) as usize].to_owned()),
        text(&|n| format!("user-{}", mixed(n) % 300_000)),
        Arc::new(Int64Array::from_iter_values(
            numbers
                .iter()
                .map(|n| if mixed(*n) % 50 == 0 { 500 } else { 200 }),
        )),
        Arc::new(Float64Array::from_iter_values(
            numbers.iter().map(|n| (mixed(*n) % 20_000) as f64 / 100.0),
        )),
    ];
    let fields: Vec<_> = columns().iter().map(Column::field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}
