//! What the lake's tests share: rows to write, a hot buffer, a failing disk, DuckDB beside us.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serin_lake::check::{Acknowledged, Audit, Finding, start_changes_nothing};
use serin_lake::store::{Disk, FileOut, Moment, RealDisk};
use serin_lake::{
    Account, Column, ColumnKind, Flush, Fresh, FreshRows, FreshTable, Incarnation, Lake,
    LakeOptions, Position, ProducerMark, Progress, Recovered, Snapshot, TableRows, TableView,
};

/// 2026-01-01, in microseconds.
pub(crate) const START_US: i64 = 1_767_225_600_000_000;
pub(crate) const SECOND_US: i64 = 1_000_000;
pub(crate) const DAY_US: i64 = 24 * 3600 * SECOND_US;

pub(crate) fn incarnation() -> Incarnation {
    Incarnation(0x5e41)
}

pub(crate) fn at(sequence: u64) -> Position {
    Position {
        incarnation: incarnation(),
        sequence,
    }
}

pub(crate) fn options(dir: &Path) -> LakeOptions {
    LakeOptions {
        dir: dir.join("lake"),
        ..LakeOptions::default()
    }
}

/// Opens a lake and begins its first lineage when it is new.
pub(crate) fn open(options: &LakeOptions) -> (Lake, Recovered) {
    let (lake, recovered) = Lake::open(options.clone(), START_US).unwrap();
    if recovered.position == Position::default() {
        lake.start_lineage(at(0), &[], "first", START_US).unwrap();
    }
    (lake, recovered)
}

pub(crate) fn columns() -> Vec<Column> {
    vec![
        Column::new("time", ColumnKind::Time),
        Column::new("id", ColumnKind::Text),
        Column::new("service", ColumnKind::Text),
        Column::new("amount", ColumnKind::Int),
        Column::new("share", ColumnKind::Double),
        Column::new("paid", ColumnKind::Bool),
    ]
}

/// Rows numbered `from..to`, their times a millisecond apart, their order mixed.
pub(crate) fn batch(from: u64, to: u64) -> RecordBatch {
    let mut numbers: Vec<u64> = (from..to).collect();
    numbers.sort_by_key(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let time = numbers.iter().map(|n| Some(START_US + *n as i64 * 1000));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter(time).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|n| format!("id-{n:08}")),
        )),
        Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|n| format!("svc-{}", n % 5)),
        )),
        Arc::new(Int64Array::from_iter(
            numbers.iter().map(|n| (n % 7 != 0).then_some(*n as i64)),
        )),
        Arc::new(Float64Array::from_iter_values(
            numbers.iter().map(|n| *n as f64 / 4.0),
        )),
        Arc::new(BooleanArray::from_iter(
            numbers.iter().map(|n| Some(n % 2 == 0)),
        )),
    ];
    let fields: Vec<_> = columns().iter().map(Column::field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

pub(crate) fn table_rows(name: &str, batches: Vec<RecordBatch>) -> TableRows {
    TableRows {
        name: name.to_owned(),
        columns: columns(),
        batches,
        sort: vec!["service".to_owned()],
        is_import: false,
    }
}

/// One message a row: rows `from..to` stand for messages `from+1..=to`.
pub(crate) fn flush(number: u64, table: &str, from: u64, to: u64) -> Flush {
    Flush {
        number,
        tables: vec![table_rows(table, vec![batch(from, to)])],
        progress: progress(from, to),
        now_us: START_US + to as i64 * 1000,
    }
}

pub(crate) fn progress(from: u64, to: u64) -> Progress {
    Progress {
        from: at(from),
        to: at(to),
        producers: vec![ProducerMark {
            producer: "p".to_owned(),
            epoch: 1,
            contiguous: to,
            above: vec![(to + 2, to + 2)],
            heard_us: START_US + to as i64,
            is_import: false,
        }],
        seen: vec![(u128::from(to) << 70, START_US + to as i64)],
        account: Some(Account {
            messages: to - from,
            rows: to - from,
        }),
        ..Progress::default()
    }
}

/// All `id`s of a table in a snapshot, files and fresh rows.
pub(crate) fn ids(snapshot: &Snapshot, table: &str) -> Vec<String> {
    let Some(view) = snapshot.tables.get(table) else {
        return Vec::new();
    };
    let mut ids: Vec<String> = batches(view).iter().flat_map(ids_of).collect();
    ids.sort();
    ids
}

pub(crate) fn ids_of(batch: &RecordBatch) -> Vec<String> {
    let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
    ids.iter().flatten().map(str::to_owned).collect()
}

pub(crate) fn batches(view: &TableView) -> Vec<RecordBatch> {
    let mut batches = view.fresh.clone();
    for file in &view.files {
        let file = std::fs::File::open(&file.path).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    batches
}

/// Rows and the sum of `amount`, whichever of the two types it has by now.
pub(crate) fn count_and_sum(view: &TableView) -> (u64, f64) {
    let (mut rows, mut sum) = (0, 0.0);
    for batch in batches(view) {
        rows += batch.num_rows() as u64;
        let amount = batch.column_by_name("amount").unwrap();
        sum += match amount.as_primitive_opt::<Int64Type>() {
            Some(ints) => ints.iter().flatten().map(|n| n as f64).sum::<f64>(),
            None => amount
                .as_primitive::<Float64Type>()
                .iter()
                .flatten()
                .sum::<f64>(),
        };
    }
    (rows, sum)
}

pub(crate) fn assert_ids(found: &[String], from: u64, to: u64) {
    let expected: Vec<String> = (from..to).map(|n| format!("id-{n:08}")).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "ids differ");
}

/// The events of rows `from..to`, as their senders know them: one message a row.
pub(crate) fn acknowledged(from: u64, to: u64) -> Vec<Acknowledged> {
    let event = |n| Acknowledged {
        key: format!("id-{n:08}"),
        at: Some(at(n + 1)),
    };
    (from..to).map(event).collect()
}

/// Every checker that can be asked of a folder at rest in which rows `from..to` were acknowledged.
pub(crate) fn findings(options: &LakeOptions, from: u64, to: u64) -> Vec<Finding> {
    let audit = Audit::open(&options.dir).unwrap();
    let mut findings = audit.all().unwrap();
    let acknowledged = acknowledged(from, to);
    let unaccounted = audit.acknowledged_are_accounted("id", &acknowledged);
    findings.extend(unaccounted.unwrap());
    findings.extend(audit.sent_again_is_there_once("id").unwrap());
    findings.extend(audit.position_never_falls(at(to)));
    drop(audit);
    findings.extend(start_changes_nothing(options, START_US).unwrap());
    findings
}

/// Runs statements in DuckDB with the catalogue attached; the answer of each is an array of rows.
pub(crate) fn duckdb(catalogue: &Path, statements: &[&str]) -> Vec<serde_json::Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/duckdb_read.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(catalogue)
        .args(statements)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A hot buffer as small as can be.
#[derive(Default)]
pub(crate) struct Hot {
    rows: Mutex<Vec<(u64, String, RecordBatch)>>,
    version: AtomicU64,
}

impl Hot {
    pub(crate) fn push(&self, number: u64, table: &str, batch: RecordBatch) {
        self.version
            .fetch_add(batch.num_rows() as u64, Ordering::SeqCst);
        self.rows
            .lock()
            .unwrap()
            .push((number, table.to_owned(), batch));
    }
}

impl Fresh for Hot {
    fn rows(&self, flushed: u64) -> FreshRows {
        let mut tables: BTreeMap<String, FreshTable> = BTreeMap::new();
        for (number, name, batch) in self.rows.lock().unwrap().iter() {
            if *number > flushed {
                let table = tables.entry(name.clone()).or_insert_with(|| FreshTable {
                    columns: columns(),
                    ..FreshTable::default()
                });
                table.batches.push(batch.clone());
            }
        }
        FreshRows {
            tables,
            watermark_us: Some(START_US),
            version: self.version.load(Ordering::SeqCst),
        }
    }

    fn forget(&self, flushed: u64) {
        self.rows
            .lock()
            .unwrap()
            .retain(|(number, ..)| *number > flushed);
    }
}

/// How the n-th step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing happens, an error comes back.
    Refused,
    /// It happens, and an error comes back all the same.
    Done,
    /// A write stops half-way.
    Torn,
}

/// A disk whose n-th step fails, and with it all later ones, as after a crash.
pub(crate) struct Failing {
    pub(crate) at: u64,
    pub(crate) how: Failure,
    /// Whether later steps work again.
    pub(crate) once: bool,
    pub(crate) steps: Arc<AtomicU64>,
}

impl Failing {
    fn step(steps: &AtomicU64, at: u64, once: bool) -> bool {
        let step = steps.fetch_add(1, Ordering::SeqCst) + 1;
        step == at || (!once && step > at)
    }

    fn run<T>(&self, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !Failing::step(&self.steps, self.at, self.once) {
            return what();
        }
        if self.how == Failure::Done {
            what()?;
        }
        Err(io::Error::from_raw_os_error(5))
    }
}

struct FailingFile {
    file: Box<dyn FileOut>,
    at: u64,
    how: Failure,
    once: bool,
    steps: Arc<AtomicU64>,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !Failing::step(&self.steps, self.at, self.once) {
            self.file.write_all(bytes)?;
            return Ok(bytes.len());
        }
        match self.how {
            Failure::Refused => {}
            Failure::Torn => self.file.write_all(&bytes[..bytes.len() / 2])?,
            Failure::Done => self.file.write_all(bytes)?,
        }
        Err(io::Error::from_raw_os_error(28))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileOut for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        if Failing::step(&self.steps, self.at, self.once) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync()
    }
}

impl Disk for Failing {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(|| RealDisk.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>> {
        let file = self.run(|| RealDisk.create(path))?;
        Ok(Box::new(FailingFile {
            file,
            at: self.at,
            how: self.how,
            once: self.once,
            steps: self.steps.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(|| RealDisk.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(|| RealDisk.sync_dir(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(|| RealDisk.remove(path))
    }

    fn pass(&self, _: Moment) -> io::Result<()> {
        self.run(|| Ok(()))
    }
}

/// Options under which everything expires at once and three files are merged.
pub(crate) fn hasty(dir: &Path) -> LakeOptions {
    LakeOptions {
        snapshot_keep: Duration::ZERO,
        delete_grace: Duration::ZERO,
        compact_fan_in: 3,
        ..options(dir)
    }
}
