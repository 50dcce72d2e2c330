//! Six usual panels over many events, beside DuckDB on the same files in the same run.
//!
//! `cargo bench --profile up -p serin-query --bench panels`. `SERIN_BENCH_PANEL_EVENTS` (50 million)
//! are made up from their numbers alone and committed in flushes of a million; each panel is asked
//! as SQL through a worker process (the one of `SERIN_BIN`, as users get it), as SQL in process, and
//! as a KPI, five times, taking turns with DuckDB on two threads; then the files are merged and all
//! is asked again. Then each KPI is asked as an open dashboard asks it, a few seconds later each time,
//! by an engine that keeps what it found. Answers are compared too. `SERIN_BENCH_DIR` keeps the (merged) lake for
//! the next run; an argument picks panels by part of their name. A row is SQL over DuckDB, and the
//! medians of each.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at any error")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Schema};
use serin_lake::{
    Column, ColumnKind, Flush, Incarnation, Lake, LakeOptions, Position, Progress, Snapshot,
    TableRows,
};
use serin_query::kpi::{self, Catalog, Definition, Kind};
use serin_query::{Engine, KpiAnswer, KpiRequest, Limits, Range, WorkerCommand};

const TABLE: &str = "http.request";
/// 2026-01-01 00:00 UTC.
const START_US: i64 = 1_767_225_600_000_000;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// All events lie in one week.
const END_US: i64 = START_US + 7 * DAY;
const FLUSH_ROWS: u64 = 1_000_000;
const BATCH_ROWS: u64 = 8192;
const RUNS: usize = 5;
/// How far a window slides from one refresh to the next.
const REFRESH_US: i64 = 5_000_000;
/// A panel may take so many times what DuckDB takes.
const RATIO_MAX: f64 = 1.2;

/// One panel, in three languages. The last column of each answer is the number that is compared.
struct Panel {
    name: &'static str,
    /// Over how much of the end of the week.
    span_us: i64,
    sql: &'static str,
    duck: &'static str,
    kpi: &'static str,
    step_us: Option<i64>,
    by: Option<&'static str>,
    series_max: usize,
    /// How far the answers may differ, as a share.
    tolerance: f64,
}

const PANELS: [Panel; 6] = [
    Panel {
        name: "count per minute, 6 h",
        span_us: 6 * HOUR,
        sql: r#"SELECT time_bucket('1 minute', time) AS t, count(*) AS n
            FROM "http.request" WHERE $__range GROUP BY 1 ORDER BY 1"#,
        duck: "SELECT epoch_us(time) // 60000000 AS t, count(*) AS n \
            FROM requests WHERE $__range GROUP BY 1 ORDER BY 1",
        kpi: "requests",
        step_us: Some(MINUTE),
        by: None,
        series_max: 1,
        tolerance: 0.0,
    },
    Panel {
        name: "sum by country, 1 day",
        span_us: DAY,
        sql: r#"SELECT country, sum(amount) AS s
            FROM "http.request" WHERE $__range GROUP BY 1 ORDER BY 2 DESC"#,
        duck: "SELECT country, sum(amount) AS s \
            FROM requests WHERE $__range GROUP BY 1 ORDER BY 2 DESC",
        kpi: "revenue",
        step_us: None,
        by: Some("country"),
        series_max: 1000,
        tolerance: 1e-9,
    },
    Panel {
        name: "p95 by path, 1 day",
        span_us: DAY,
        sql: r#"SELECT path, p95(duration_ms) AS p
            FROM "http.request" WHERE $__range GROUP BY 1 ORDER BY 2 DESC"#,
        duck: "SELECT path, approx_quantile(duration_ms, 0.95) AS p \
            FROM requests WHERE $__range GROUP BY 1 ORDER BY 2 DESC",
        kpi: "p95",
        step_us: None,
        by: Some("path"),
        series_max: 1000,
        tolerance: 0.02,
    },
    Panel {
        name: "error ratio per hour, 7 days",
        span_us: 7 * DAY,
        sql: r#"SELECT time_bucket('1 hour', time) AS t,
                count(*) FILTER (WHERE status >= 500) / CAST(count(*) AS DOUBLE) AS r
            FROM "http.request" WHERE $__range GROUP BY 1 ORDER BY 1"#,
        duck: "SELECT epoch_us(time) // 3600000000 AS t, \
                count(*) FILTER (WHERE status >= 500) / count(*) AS r \
            FROM requests WHERE $__range GROUP BY 1 ORDER BY 1",
        kpi: "error_ratio",
        step_us: Some(HOUR),
        by: None,
        series_max: 1,
        tolerance: 1e-9,
    },
    Panel {
        name: "distinct users per day, 7 days",
        span_us: 7 * DAY,
        sql: r#"SELECT time_bucket('1 day', time) AS t, approx_distinct("user") AS u
            FROM "http.request" WHERE $__range GROUP BY 1 ORDER BY 1"#,
        duck: "SELECT epoch_us(time) // 86400000000 AS t, approx_count_distinct(\"user\") AS u \
            FROM requests WHERE $__range GROUP BY 1 ORDER BY 1",
        kpi: "users",
        step_us: Some(DAY),
        by: None,
        series_max: 1,
        // DuckDB's sketch is up to 12 % off here, ours 1 %.
        tolerance: 0.15,
    },
    Panel {
        name: "top 10 paths of failures in one country, 7 days",
        span_us: 7 * DAY,
        sql: r#"SELECT path, count(*) AS n FROM "http.request"
            WHERE $__range AND country = 'DE' AND status >= 400
            GROUP BY 1 ORDER BY 2 DESC LIMIT 10"#,
        duck: "SELECT path, count(*) AS n FROM requests \
            WHERE $__range AND country = 'DE' AND status >= 400 \
            GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
        kpi: "failures",
        step_us: None,
        by: Some("path"),
        series_max: 10,
        tolerance: 0.0,
    },
];

fn catalog() -> Catalog {
    let simple = |name, measure, filter| Definition::simple(name, TABLE, measure, filter);
    let ratio = Kind::Ratio {
        numerator: "errors".to_owned(),
        denominator: "requests".to_owned(),
    };
    let mut error_ratio = simple("error_ratio", "count()", None);
    error_ratio.kind = ratio;
    kpi::compile(vec![
        simple("requests", "count()", None),
        simple("errors", "count()", Some("status >= 500")),
        simple("revenue", "sum(amount)", None),
        simple("p95", "p95(duration_ms)", None),
        simple("users", "distinct(\"user\")", None),
        simple(
            "failures",
            "count()",
            Some("country = 'DE' and status >= 400"),
        ),
        error_ratio,
    ])
    .unwrap()
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
        ("path", Text),
        ("status", Int),
        ("amount", Double),
        ("duration_ms", Double),
        ("user", Text),
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

/// One of `0..count`, low ones more often.
fn skewed(row: u64, salt: u64, count: u64) -> u64 {
    let share = (mixed(row, salt) >> 11) as f64 / (1_u64 << 53) as f64;
    (share * share * count as f64) as u64
}

fn batch(rows: std::ops::Range<u64>, events: u64) -> RecordBatch {
    const COUNTRIES: [&str; 12] = [
        "US", "DE", "FR", "JP", "BR", "IN", "GB", "NL", "SE", "PL", "ES", "IT",
    ];
    let text = |value: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.clone().map(value)))
    };
    let apart = (END_US - START_US) as f64 / events as f64;
    let times = rows.clone().map(|row| {
        let jitter = (mixed(row, 1) % 1_000_000) as i64;
        (START_US + (row as f64 * apart) as i64 + jitter).min(END_US - 1)
    });
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let status = rows.clone().map(|row| match mixed(row, 7) % 1000 {
        0..10 => 500,
        10..15 => 503,
        15..60 => 404,
        60..100 => 302,
        _ => 200,
    });
    let amount = rows.clone().map(|row| {
        (mixed(row, 8).is_multiple_of(3)).then(|| (mixed(row, 9) % 20_000) as f64 / 100.0)
    });
    let duration = rows.clone().map(|row| {
        let share = ((mixed(row, 10) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        (-share.ln() * 40_000.0).round() / 1000.0
    });
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(times),
        text(&|row| format!("01K{:07X}{:016X}", row / 1000, mixed(row, 2))),
        text(&|row| format!("service-{}", mixed(row, 3) % 3)),
        text(&|row| format!("v{}", mixed(row, 4) % 2)),
        text(&|row| format!("service-{}-{}", mixed(row, 3) % 3, mixed(row, 5) % 4)),
        text(&|row| COUNTRIES[skewed(row, 6, 12) as usize].to_owned()),
        text(&|row| {
            let path = skewed(row, 11, 200);
            format!("/shop/category/{}/item/{path}", path % 20)
        }),
        Arc::new(Int64Array::from_iter_values(status)),
        Arc::new(Float64Array::from_iter(amount)),
        Arc::new(Float64Array::from_iter_values(duration)),
        text(&|row| format!("user-{}", skewed(row, 12, 300_000))),
    ];
    let fields: Vec<_> = columns().iter().map(Column::field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn at(sequence: u64) -> Position {
    Position {
        incarnation: Incarnation(1),
        sequence,
    }
}

fn flush(number: u64, events: u64) -> Flush {
    let rows = (number - 1) * FLUSH_ROWS..events.min(number * FLUSH_ROWS);
    let batches = rows
        .clone()
        .step_by(BATCH_ROWS as usize)
        .map(|from| batch(from..rows.end.min(from + BATCH_ROWS), events))
        .collect();
    let sort = ["service", "version", "instance"].map(str::to_owned);
    Flush {
        number,
        tables: vec![TableRows {
            name: TABLE.to_owned(),
            columns: columns(),
            batches,
            sort: sort.to_vec(),
            is_import: false,
        }],
        progress: Progress {
            from: at(number - 1),
            to: at(number),
            ..Progress::default()
        },
        now_us: END_US,
    }
}

/// Commits all events; one flush is made while the one before is written.
fn fill(lake: &Lake, events: u64) {
    lake.start_lineage(at(0), &[], "first", START_US).unwrap();
    let (tx, rx) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 1..=events.div_ceil(FLUSH_ROWS) {
                tx.send(flush(number, events)).unwrap();
            }
        });
        for flush in rx {
            lake.commit(flush).unwrap();
        }
    });
}

/// Merges until nothing is left to merge, as a day later; returns the rows written.
fn merge(lake: &Lake) -> u64 {
    let mut rows = 0;
    loop {
        let compacted = lake.compact(END_US + 2 * DAY).unwrap();
        if compacted.files == 0 {
            return rows;
        }
        rows += compacted.rows;
    }
}

/// What one way of asking answered, and how long it took.
#[derive(Clone, Copy)]
struct Answer {
    seconds: f64,
    rows: usize,
    sum: f64,
}

/// A DuckDB process that reads the same files.
struct Duck {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Duck {
    fn start(snapshot: &Snapshot) -> Duck {
        let python = std::env::var("SERIN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/duck.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python with DuckDB is needed; SERIN_PYTHON names it");
        let mut duck = Duck {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        let files = &snapshot.tables[TABLE].files;
        let files: Vec<String> = files
            .iter()
            .map(|file| format!("'{}'", file.path.display()))
            .collect();
        let files = files.join(", ");
        duck.ask(&format!(
            "CREATE VIEW requests AS SELECT * FROM read_parquet([{files}])"
        ));
        duck
    }

    fn ask(&mut self, sql: &str) -> Answer {
        writeln!(self.input, "{}", sql.replace('\n', " ")).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().map(|word| word.parse().unwrap());
        let mut next = || -> f64 { words.next().expect("DuckDB said why on standard error") };
        Answer {
            seconds: next(),
            rows: next() as usize,
            sum: next(),
        }
    }
}

impl Drop for Duck {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Everything that answers.
struct Bench {
    snapshot: Arc<Snapshot>,
    /// Hands statements to worker processes, where there is a program for them.
    engine: Engine,
    /// Runs them itself.
    inner: Engine,
    /// Keeps what it found for the next refresh.
    keeping: Engine,
    has_worker: bool,
    duck: Duck,
    catalog: Catalog,
    threads: tokio::runtime::Runtime,
}

impl Bench {
    fn sql(&self, engine: &Engine, panel: &Panel) -> Answer {
        let begun = Instant::now();
        let asked = engine.sql(&self.snapshot, panel.sql, Some(range(panel)));
        let answer = self.threads.block_on(asked).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let sum = |batch: &RecordBatch| -> f64 {
            let last = batch.column(batch.num_columns() - 1);
            let numbers = arrow::compute::cast(last, &DataType::Float64).unwrap();
            numbers.as_primitive::<Float64Type>().iter().flatten().sum()
        };
        Answer {
            seconds,
            rows: answer.batches.iter().map(RecordBatch::num_rows).sum(),
            sum: answer.batches.iter().map(sum).sum(),
        }
    }

    fn kpi(&self, engine: &Engine, panel: &Panel, range: Range) -> Answer {
        let request = KpiRequest {
            range,
            step_us: panel.step_us,
            by: panel.by.map(str::to_owned).into_iter().collect(),
            filters: vec![],
            shift_us: 0,
            series_max: panel.series_max,
        };
        let begun = Instant::now();
        let asked = engine.kpi(&self.snapshot, &self.catalog[panel.kpi], &request);
        let answer: KpiAnswer = self.threads.block_on(asked).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let points = || answer.series.iter().flat_map(|series| &series.points);
        Answer {
            seconds,
            rows: points().count(),
            sum: points().filter_map(|(_, value)| *value).sum(),
        }
    }

    fn duck(&mut self, panel: &Panel) -> Answer {
        let Range { from_us, to_us } = range(panel);
        let within =
            format!("time >= make_timestamptz({from_us}) AND time < make_timestamptz({to_us})");
        self.duck.ask(&panel.duck.replace("$__range", &within))
    }

    /// Asks each way in turn, checks that all answer the same, and prints the row.
    fn measure(&mut self, panel: &Panel, files: &str) {
        let mut seconds = [const { Vec::new() }; 4];
        // The first turn warms all caches and is not counted.
        for turn in 0..=RUNS {
            let answers = [
                self.sql(&self.engine, panel),
                self.sql(&self.inner, panel),
                self.kpi(&self.engine, panel, range(panel)),
                self.duck(panel),
            ];
            let duck = answers[3];
            for (ours, what) in answers.iter().zip(["SQL", "SQL in process", "KPI"]) {
                let apart = (ours.sum - duck.sum).abs() / duck.sum.abs().max(1.0);
                assert!(
                    ours.rows == duck.rows && apart <= panel.tolerance,
                    "{}: {what} answers {} rows, sum {}; DuckDB {} rows, sum {}",
                    panel.name,
                    ours.rows,
                    ours.sum,
                    duck.rows,
                    duck.sum
                );
            }
            if turn > 0 {
                for (all, answer) in seconds.iter_mut().zip(answers) {
                    all.push(answer.seconds);
                }
            }
        }
        let [sql, inner, kpi, duck] = seconds.map(median_ms);
        let by = match self.has_worker {
            true => "SQL through a worker",
            false => "SQL in process, SERIN_BIN names no worker",
        };
        println!(
            "serin-bench | panel: {}; {files} | {:.2} × DuckDB ({by} {sql:.0} ms, in process {inner:.0} ms, KPI {kpi:.0} ms, DuckDB {duck:.0} ms) | ≤ 1.2 × | {}",
            panel.name,
            sql / duck,
            if sql <= duck * RATIO_MAX { "yes" } else { "no" }
        );
    }

    /// Asks a KPI as an open dashboard does, checks each answer, and prints what a refresh costs.
    fn refresh(&self, panel: &Panel, files: &str) {
        let (mut first, mut later) = (Vec::new(), Vec::new());
        // The second look is the one from which on parts are kept of a range without steps.
        for look in 0..RUNS + 2 {
            let back_us = (RUNS + 1 - look) as i64 * REFRESH_US;
            let Range { from_us, to_us } = range(panel);
            let range = Range {
                from_us: from_us - back_us,
                to_us: to_us - back_us,
            };
            let answers =
                [&self.keeping, &self.engine].map(|engine| self.kpi(engine, panel, range));
            let [kept, anew] = answers;
            let apart = (kept.sum - anew.sum).abs() / anew.sum.abs().max(1.0);
            assert!(
                kept.rows == anew.rows && apart <= panel.tolerance.max(1e-9),
                "{}: {} rows, sum {}; anew {} rows, sum {}",
                panel.name,
                kept.rows,
                kept.sum,
                anew.rows,
                anew.sum
            );
            first.push(anew.seconds);
            if look > 1 {
                later.push(kept.seconds);
            }
        }
        let [first, later] = [first, later].map(median_ms);
        println!(
            "serin-bench | refresh after 5 s: {}; {files} | {later:.1} ms, read anew {first:.1} ms | - |",
            panel.name
        );
    }
}

fn range(panel: &Panel) -> Range {
    Range {
        from_us: END_US - panel.span_us,
        to_us: END_US,
    }
}

fn median_ms(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2] * 1000.0
}

fn measure_all(lake: &Lake, spill: &Path) {
    let snapshot = lake.snapshot();
    let view = &snapshot.tables[TABLE];
    let rows: u64 = view.files.iter().map(|file| file.rows).sum();
    let files = format!(
        "{} M events in {} files",
        rows / 1_000_000,
        view.files.len()
    );
    // Every question must be computed anew.
    let limits = Limits {
        cache_bytes: 0,
        ..Limits::default()
    };
    let worker = std::env::var_os("SERIN_BIN").map(|program| WorkerCommand {
        program: PathBuf::from(program),
        args: vec![String::from("query-worker")],
    });
    let mut bench = Bench {
        has_worker: worker.is_some(),
        engine: Engine::new(limits.clone(), spill.to_owned(), worker, lake.store()),
        inner: Engine::new(limits, spill.to_owned(), None, lake.store()),
        keeping: Engine::new(Limits::default(), spill.to_owned(), None, lake.store()),
        duck: Duck::start(&snapshot),
        snapshot,
        catalog: catalog(),
        threads: tokio::runtime::Runtime::new().unwrap(),
    };
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_asked = |panel: &&Panel| only.as_ref().is_none_or(|only| panel.name.contains(only));
    for panel in PANELS.iter().filter(is_asked) {
        bench.measure(panel, &files);
        bench.refresh(panel, &files);
    }
}

fn main() {
    let events: u64 = std::env::var("SERIN_BENCH_PANEL_EVENTS")
        .ok()
        .map_or(50_000_000, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("SERIN_BENCH_DIR")
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let dir = dir.join(format!("panels-{events}"));
    let spill = dir.join("spill");
    std::fs::create_dir_all(&spill).unwrap();
    let options = LakeOptions {
        dir: dir.join("lake"),
        ..LakeOptions::default()
    };
    let (lake, _) = Lake::open(options, START_US).unwrap();
    if !lake.snapshot().tables.contains_key(TABLE) {
        let begun = Instant::now();
        fill(&lake, events);
        println!(
            "made {events} events in {:.0} s",
            begun.elapsed().as_secs_f64()
        );
    }
    measure_all(&lake, &spill);
    let begun = Instant::now();
    let rows = merge(&lake);
    println!(
        "merged {rows} rows in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    if rows > 0 {
        measure_all(&lake, &spill);
    }
}
