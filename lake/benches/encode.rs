//! How fast rows become durable files: `cargo bench -p serin-lake --bench encode`.
//!
//! Eight event types, twelve columns each, values as in 500-byte JSON events, sorted by service,
//! version and instance, then time. Prints rows a second with one and with two encoders, bytes a
//! row, what compaction of the files costs, and the same per second of processor time. An argument that is a number sets the rows.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at any error")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use serin_lake::{
    Column, ColumnKind, Flush, Incarnation, Lake, LakeOptions, Position, Progress, TableRows,
};

const START_US: i64 = 1_767_225_600_000_000;
const BATCH_ROWS: u64 = 8192;
const TYPES: u64 = 8;

fn columns() -> Vec<Column> {
    use ColumnKind::{Bool, Double, Int, Text, Time};
    [
        ("time", Time),
        ("id", Text),
        ("service", Text),
        ("version", Text),
        ("instance", Text),
        ("trace_id", Text),
        ("user", Text),
        ("country", Text),
        ("path", Text),
        ("amount", Double),
        ("items", Int),
        ("paid", Bool),
    ]
    .map(|(name, kind)| Column::new(name, kind))
    .to_vec()
}

/// A number that looks random and depends on the row alone.
fn mixed(row: u64, salt: u64) -> u64 {
    let mut x = (row ^ (salt << 56)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn batch(from: u64, to: u64) -> RecordBatch {
    let text = |value: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((from..to).map(value)))
    };
    let times = (from..to).map(|row| START_US + row as i64 * 20 + (mixed(row, 1) % 5000) as i64);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(times),
        text(&|row| format!("01K{:07X}{:016X}", row / 1000, mixed(row, 2))),
        text(&|row| format!("service-{}", mixed(row, 3) % 3)),
        text(&|row| format!("v{}", mixed(row, 4) % 2)),
        text(&|row| format!("service-{}-{}", mixed(row, 3) % 3, mixed(row, 5) % 4)),
        text(&|row| format!("{:016x}{:016x}", mixed(row, 6), mixed(row, 7))),
        text(&|row| format!("user-{}", mixed(row, 8) % 100_000)),
        text(&|row| ["DE", "FR", "US", "JP", "BR"][(mixed(row, 9) % 5) as usize].to_owned()),
        text(&|row| {
            format!(
                "/shop/category/{}/item/{}",
                mixed(row, 10) % 20,
                mixed(row, 11) % 500
            )
        }),
        Arc::new(Float64Array::from_iter_values(
            (from..to).map(|row| (mixed(row, 12) % 20_000) as f64 / 100.0),
        )),
        Arc::new(Int64Array::from_iter_values(
            (from..to).map(|row| (mixed(row, 13) % 9) as i64),
        )),
        Arc::new(BooleanArray::from_iter(
            (from..to).map(|row| Some(!mixed(row, 14).is_multiple_of(10))),
        )),
    ];
    let fields: Vec<_> = columns().iter().map(Column::field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn tables(rows: u64) -> Vec<TableRows> {
    let per_table = rows / TYPES;
    (0..TYPES)
        .map(|table| TableRows {
            name: format!("type.{table}"),
            columns: columns(),
            batches: (0..per_table)
                .step_by(BATCH_ROWS as usize)
                .map(|from| batch(from, per_table.min(from + BATCH_ROWS)))
                .collect(),
            sort: ["service", "version", "instance"]
                .map(str::to_owned)
                .to_vec(),
            is_import: false,
        })
        .collect()
}

fn at(sequence: u64) -> Position {
    Position {
        incarnation: Incarnation(1),
        sequence,
    }
}

fn main() {
    let rows: u64 = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(800_000);
    let tables = tables(rows);
    println!(
        "{:<22} {:>12} {:>14} {:>9} {:>10}",
        "what", "rows/s", "rows/s/core", "seconds", "bytes/row"
    );
    for (encoders, name) in [(1, "commit, 1 encoder"), (2, "commit, 2 encoders")] {
        let dir = tempfile::tempdir().unwrap();
        let options = LakeOptions {
            dir: dir.path().join("lake"),
            encoders,
            compact_fan_in: 4,
            ..LakeOptions::default()
        };
        let (lake, _) = Lake::open(options, START_US).unwrap();
        lake.start_lineage(at(0), &[], "first", START_US).unwrap();
        let begun = (Instant::now(), cpu_seconds());
        let mut bytes = 0;
        for number in 1..=4 {
            let progress = Progress {
                from: at(number - 1),
                to: at(number),
                ..Progress::default()
            };
            let committed = lake
                .commit(Flush {
                    number,
                    tables: tables.clone(),
                    progress,
                    now_us: START_US,
                })
                .unwrap();
            bytes = committed.bytes;
        }
        line(name, rows * 4, begun, bytes as f64 / rows as f64);
        let begun = (Instant::now(), cpu_seconds());
        let (mut merged, mut bytes) = (0, 0);
        loop {
            let compacted = lake.compact(START_US).unwrap();
            if compacted.files == 0 {
                break;
            }
            merged += compacted.rows;
            bytes += compacted.bytes_after;
        }
        line(
            "compact",
            merged,
            begun,
            bytes as f64 / merged.max(1) as f64,
        );
    }
}

fn line(what: &str, rows: u64, begun: (Instant, f64), bytes: f64) {
    let seconds = begun.0.elapsed().as_secs_f64();
    let per_core = rows as f64 / (cpu_seconds() - begun.1);
    let rate = rows as f64 / seconds;
    println!("{what:<22} {rate:>12.0} {per_core:>14.0} {seconds:>9.3} {bytes:>10.1}");
    let to_reach = match what {
        "commit, 1 encoder" => "300,000",
        _ => "-",
    };
    println!("serin-bench | lake: {what}, rows/s per core | {per_core:.0} | {to_reach}");
}

/// Processor time of this process; a busy machine does not change it much.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |place: usize| -> f64 {
        fields
            .split_whitespace()
            .nth(place)
            .unwrap()
            .parse()
            .unwrap()
    };
    // User and system time, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
