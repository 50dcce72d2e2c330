//! A small lake made by hand: two files and hot rows of `order.paid`, one file of `cart.add`, `beats`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use serin_lake::sums::{BLOCK_BYTES, Sums};
use serin_lake::{
    Bound, CheckedStore, Column, ColumnKind, ColumnStats, DataFile, Known, Snapshot, TableView,
};
use serin_query::{Engine, Limits, Range, WorkerCommand};
use xxhash_rust::xxh3::xxh3_64;

/// Monday 2024-01-01 00:00 UTC.
pub(crate) const T0: i64 = 1_704_067_200_000_000;
pub(crate) const MINUTE: i64 = 60_000_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// One event: minute, service, who, and a number where it has one.
pub(crate) type Row = (i64, &'static str, Option<&'static str>, Option<f64>);

pub(crate) fn range(from_minute: i64, to_minute: i64) -> Range {
    Range {
        from_us: T0 + from_minute * MINUTE,
        to_us: T0 + to_minute * MINUTE,
    }
}

fn times(rows: &[Row]) -> ArrayRef {
    let times = rows.iter().map(|row| T0 + row.0 * MINUTE);
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// A batch as ingest makes it; `as_int` writes the amount as integers, as before it widened.
pub(crate) fn batch(rows: &[Row], who: &str, amount: &str, as_int: bool) -> RecordBatch {
    let numbers: ArrayRef = if as_int {
        Arc::new(
            rows.iter()
                .map(|row| row.3.map(|x| x as i64))
                .collect::<Int64Array>(),
        )
    } else {
        Arc::new(rows.iter().map(|row| row.3).collect::<Float64Array>())
    };
    RecordBatch::try_from_iter_with_nullable([
        ("time", times(rows), true),
        ("service", texts(rows.iter().map(|row| Some(row.1))), true),
        (who, texts(rows.iter().map(|row| row.2)), true),
        (amount, numbers, true),
    ])
    .unwrap()
}

/// Writes a Parquet file and names it as the catalogue would.
pub(crate) fn file(folder: &Path, name: &str, batch: &RecordBatch) -> Arc<DataFile> {
    let path = folder.join(name);
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let schema = batch.schema();
    let stats = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let (min, max) = bounds(column);
            ColumnStats {
                name: field.name().clone(),
                bytes: 0,
                nulls: column.null_count() as u64,
                min,
                max,
                has_nan: false,
            }
        });
    Arc::new(DataFile {
        id: xxh3_64(name.as_bytes()),
        rows: batch.num_rows() as u64,
        bytes: std::fs::metadata(&path).unwrap().len(),
        stats: stats.collect(),
        arrived_us: T0,
        is_import: false,
        path,
    })
}

fn bounds(column: &ArrayRef) -> (Option<Bound>, Option<Bound>) {
    use arrow::compute::{max, max_string, min, min_string};
    let any = column.as_any();
    if let Some(array) = any.downcast_ref::<TimestampMicrosecondArray>() {
        return (min(array).map(Bound::Time), max(array).map(Bound::Time));
    }
    if let Some(array) = any.downcast_ref::<Int64Array>() {
        return (min(array).map(Bound::Int), max(array).map(Bound::Int));
    }
    if let Some(array) = any.downcast_ref::<Float64Array>() {
        return (min(array).map(Bound::Double), max(array).map(Bound::Double));
    }
    let array = any.downcast_ref::<StringArray>().unwrap();
    let text = |value: Option<&str>| value.map(|value| Bound::Text(value.to_owned()));
    (text(min_string(array)), text(max_string(array)))
}

fn columns(who: &str, amount: &str) -> Vec<Column> {
    vec![
        Column::new("time", ColumnKind::Time),
        Column::new("service", ColumnKind::Text),
        Column::new(who, ColumnKind::Text),
        Column::new(amount, ColumnKind::Double),
    ]
}

fn table(
    name: &str,
    columns: Vec<Column>,
    files: Vec<Arc<DataFile>>,
    fresh: Vec<RecordBatch>,
    known: Known,
) -> Arc<TableView> {
    Arc::new(TableView {
        name: name.to_owned(),
        columns,
        files,
        fresh,
        known,
    })
}

/// Live rows, watched from the beginning of the fixture's time.
pub(crate) fn watched() -> Known {
    Known {
        live_from_us: Some(T0),
        imports: Vec::new(),
    }
}

/// Checksums as the lake makes them when it writes a file.
pub(crate) fn sums(path: &Path) -> Arc<Sums> {
    let bytes = std::fs::read(path).unwrap();
    Arc::new(Sums {
        whole: xxh3_64(&bytes),
        blocks: bytes.chunks(BLOCK_BYTES as usize).map(xxh3_64).collect(),
    })
}

/// The lake's folder (kept while the value lives), its spill folder and a snapshot.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) store: Arc<CheckedStore>,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake");
        std::fs::create_dir(&lake).unwrap();
        std::fs::create_dir(folder.path().join("spill")).unwrap();
        let old = batch(
            &[
                (0, "pay", Some("ann"), Some(10.0)),
                (1, "pay", Some("bob"), Some(20.0)),
                (2, "pay", None, None),
            ],
            "user",
            "amount",
            true,
        );
        let new = batch(
            &[
                (60, "pay", Some("ann"), Some(2.5)),
                (61, "shop", Some("eve"), Some(7.5)),
            ],
            "user",
            "amount",
            false,
        );
        let mut extra = columns("user", "amount");
        // A column that only comes later: no file and no hot row has it yet.
        extra.push(Column::new("coupon", ColumnKind::Text));
        let hot = batch(
            &[(121, "pay", Some("bob"), Some(100.0))],
            "user",
            "amount",
            false,
        );
        let orders = table(
            "order.paid",
            extra,
            vec![
                file(&lake, "orders-1.parquet", &old),
                file(&lake, "orders-2.parquet", &new),
            ],
            vec![hot],
            watched(),
        );
        let carts = batch(
            &[
                (0, "shop", Some("ann"), Some(1.0)),
                (0, "shop", Some("bob"), Some(1.0)),
                (59, "shop", Some("ann"), Some(1.0)),
                (60, "shop", Some("eve"), Some(1.0)),
                (60, "shop", Some("joe"), Some(1.0)),
            ],
            "user",
            "items",
            false,
        );
        let carts = table(
            "cart.add",
            columns("user", "items"),
            vec![file(&lake, "carts.parquet", &carts)],
            vec![],
            watched(),
        );
        let beats = batch(
            &[
                (0, "pay", Some("i1"), Some(4.0)),
                (1, "pay", Some("i1"), Some(8.0)),
                (0, "pay", Some("i2"), Some(1.0)),
            ],
            "instance",
            "in_flight",
            false,
        );
        let beats = table(
            "beats",
            columns("instance", "in_flight"),
            vec![file(&lake, "beats.parquet", &beats)],
            vec![],
            watched(),
        );
        let clicks = batch(
            &[(0, "shop", Some("ann"), Some(3.0))],
            "userId",
            "Clicks",
            false,
        );
        let clicks = table(
            "ad.click",
            columns("userId", "Clicks"),
            vec![],
            vec![clicks],
            watched(),
        );
        let tables = [orders, carts, beats, clicks].map(|table| (table.name.clone(), table));
        let snapshot = Arc::new(Snapshot {
            number: 1,
            version: 1,
            position: Default::default(),
            watermark_us: Some(T0 + 150 * MINUTE),
            tables: BTreeMap::from(tables),
        });
        let store = Arc::new(CheckedStore::default());
        for file in snapshot.tables.values().flat_map(|table| &table.files) {
            store.know(&file.path, file.bytes, sums(&file.path));
        }
        Fixture {
            folder,
            snapshot,
            store,
        }
    }

    pub(crate) fn spill_dir(&self) -> PathBuf {
        self.folder.path().join("spill")
    }

    /// An engine whose statements run in a real worker process.
    pub(crate) fn engine(&self, limits: Limits) -> Engine {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_serin-query-worker"));
        Engine::new(
            limits,
            self.spill_dir(),
            Some(WorkerCommand {
                program,
                args: vec![],
            }),
            Arc::clone(&self.store),
        )
    }

    /// An engine that runs everything in this process.
    pub(crate) fn engine_within(&self) -> Engine {
        let store = Arc::clone(&self.store);
        Engine::new(Limits::default(), self.spill_dir(), None, store)
    }
}
