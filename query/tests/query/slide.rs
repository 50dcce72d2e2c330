//! Windows that slide: what is kept from before never changes an answer, and little is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serin_lake::{CheckedStore, Column, ColumnKind, DataFile, Snapshot, TableView};
use serin_query::kpi::{self, Across, Catalog, Definition, GaugeMeasure, Kind, Since};
use serin_query::{Engine, KpiRequest, Limits};
use xxhash_rust::xxh3::xxh3_64;

use crate::fixture::{HOUR, MINUTE, Row, T0, batch, file, range, sums, watched};

fn catalog() -> Catalog {
    let simple = |name, measure, filter| Definition::simple(name, "order.paid", measure, filter);
    let made = |name, kind| Definition {
        kind,
        ..Definition::simple(name, "", "", None)
    };
    let gauge = |measure, across| Kind::Gauge {
        event: "order.paid".to_owned(),
        value: "amount".to_owned(),
        filter: None,
        measure,
        across,
        hold_us: 7 * MINUTE,
    };
    let ratio = Kind::Ratio {
        numerator: "big".to_owned(),
        denominator: "orders".to_owned(),
    };
    let running = |since| Kind::Cumulative {
        of: "revenue".to_owned(),
        since,
    };
    kpi::compile(vec![
        simple("orders", "count()", None),
        simple("revenue", "sum(amount)", None),
        simple("big", "count()", Some("amount >= 10")),
        simple("span", "max(amount) - min(amount)", None),
        simple("buyers", "distinct(user)", None),
        made("share", ratio),
        made("total", running(Since::Ever)),
        made("two_hours", running(Since::Window(2 * HOUR))),
        made("level", gauge(GaugeMeasure::Last, Across::Sum)),
        made("level_mean", gauge(GaugeMeasure::Mean, Across::Max)),
    ])
    .unwrap()
}

/// A table as it lives: rows come, are flushed, merged and expired.
struct World {
    folder: tempfile::TempDir,
    store: Arc<CheckedStore>,
    files: Vec<(Vec<Row>, Arc<DataFile>)>,
    hot: Vec<Row>,
    now: i64,
    rolls: u64,
    written: usize,
    version: u64,
    /// Whether amounts were integers up to now.
    is_int: bool,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::default(),
            files: Vec::new(),
            hot: Vec::new(),
            now: 0,
            rolls: seed << 32,
            written: 0,
            version: 0,
            is_int: true,
        }
    }

    /// A number below `end`.
    fn roll(&mut self, end: u64) -> u64 {
        self.rolls += 1;
        xxh3_64(&self.rolls.to_le_bytes()) % end
    }

    fn pass(&mut self, minutes: i64) {
        const WHO: [Option<&str>; 4] = [Some("ann"), Some("bob"), Some("eve"), None];
        self.now += minutes;
        for _ in 0..self.roll(6) {
            let late = match self.roll(8) {
                0 => self.roll(90) as i64,
                _ => self.roll(3) as i64,
            };
            let service = ["pay", "shop"][self.roll(2) as usize];
            let who = WHO[self.roll(4) as usize];
            let amount = (self.roll(5) > 0).then(|| self.roll(40) as f64);
            self.hot.push((self.now - late, service, who, amount));
        }
        self.version += 1;
    }

    fn write(&mut self, rows: Vec<Row>) -> (Vec<Row>, Arc<DataFile>) {
        self.written += 1;
        let name = format!("{}.parquet", self.written);
        let rows_of = batch(&rows, "user", "amount", self.is_int);
        let file = file(self.folder.path(), &name, &rows_of);
        self.store.know(&file.path, file.bytes, sums(&file.path));
        (rows, file)
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.hot);
        if !rows.is_empty() {
            let written = self.write(rows);
            self.files.push(written);
        }
    }

    /// Two files become one.
    fn merge(&mut self) {
        if self.files.len() < 2 {
            return;
        }
        let at = self.roll(self.files.len() as u64 - 1) as usize;
        let (mut rows, _) = self.files.remove(at);
        rows.extend(self.files[at].0.iter().copied());
        self.files[at] = self.write(rows);
    }

    fn expire(&mut self) {
        if self.files.len() > 6 {
            self.files.remove(0);
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let amount = match self.is_int {
            true => ColumnKind::Int,
            false => ColumnKind::Double,
        };
        let columns = [
            ("time", ColumnKind::Time),
            ("service", ColumnKind::Text),
            ("user", ColumnKind::Text),
            ("amount", amount),
        ];
        let hot = (!self.hot.is_empty()).then(|| batch(&self.hot, "user", "amount", self.is_int));
        let view = TableView {
            name: "order.paid".to_owned(),
            columns: columns.map(|(name, kind)| Column::new(name, kind)).to_vec(),
            files: self
                .files
                .iter()
                .map(|(_, file)| Arc::clone(file))
                .collect(),
            fresh: hot.into_iter().collect(),
            known: watched(),
        };
        Arc::new(Snapshot {
            number: self.written as u64,
            version: self.version,
            position: Default::default(),
            watermark_us: Some(T0 + self.now * MINUTE),
            tables: BTreeMap::from([(view.name.clone(), Arc::new(view))]),
        })
    }

    fn engine(&self, cache_bytes: usize) -> Engine {
        let limits = Limits {
            cache_bytes,
            ..Limits::default()
        };
        let spill = self.folder.path().join("spill");
        Engine::new(limits, spill, None, Arc::clone(&self.store))
    }
}

fn is_slow() -> bool {
    std::env::var_os("SERIN_SLOW").is_some_and(|value| value == "1")
}

fn request(from: i64, to: i64, step_us: Option<i64>, by: &[&str], shift_us: i64) -> KpiRequest {
    KpiRequest {
        range: range(from, to),
        step_us,
        by: by.iter().map(|by| (*by).to_owned()).collect(),
        filters: vec![],
        shift_us,
        series_max: 10,
    }
}

/// Whatever happens to the table between two refreshes, all KPIs answer as if nothing were kept.
#[tokio::test]
async fn what_is_kept_changes_no_answer() {
    let plans = catalog();
    let seeds = if is_slow() { 8 } else { 1 };
    for seed in 0..seeds {
        let mut world = World::new(seed);
        let (kept, bare) = (world.engine(32 << 20), world.engine(0));
        for turn in 0..40 {
            let minutes = world.roll(12) as i64;
            world.pass(minutes);
            match world.roll(10) {
                0..4 => world.flush(),
                4..6 => world.merge(),
                6 => world.expire(),
                _ => {}
            }
            world.is_int = turn < 20;
            let (snapshot, now) = (world.snapshot(), world.now);
            let (step_us, by, shift_us) = match world.roll(5) {
                0 => (Some(10 * MINUTE), &[][..], 0),
                1 => (Some(10 * MINUTE), &["service"][..], 0),
                2 => (Some(HOUR), &["amount"][..], 30 * MINUTE),
                3 => (None, &[][..], 0),
                _ => (None, &["user"][..], 0),
            };
            let request = request(now - 300, now + 1, step_us, by, shift_us);
            for (name, plan) in &plans {
                let found = kept.kpi(&snapshot, plan, &request).await.unwrap();
                let right = bare.kpi(&snapshot, plan, &request).await.unwrap();
                assert_eq!(
                    found, right,
                    "{name}, seed {seed}, turn {turn}: {request:?}"
                );
            }
        }
        let stats = kept.stats();
        assert!(stats.steps_kept > stats.steps_read, "{stats:?}");
        assert_eq!(bare.stats().steps_kept, 0);
    }
}

/// A change of the table between two looks at its first two hours.
type Change = fn(&mut World);

fn row(minute: i64, amount: f64) -> Row {
    (minute, "pay", Some("ann"), Some(amount))
}

/// However rows come and go, the steps that they are in are read again.
#[tokio::test]
async fn whatever_changes_is_read_again() {
    let changes: [(&str, &str, &[&str], Change); 7] = [
        ("a late row is hot", "orders", &[], |world| {
            world.hot.push(row(20, 1.0));
        }),
        ("a late row is in a file", "orders", &[], |world| {
            world.hot.push(row(20, 1.0));
            world.flush();
        }),
        ("rows are expired", "orders", &[], |world| {
            world.files.remove(0);
        }),
        (
            "rows that were hot are flushed and expired",
            "orders",
            &[],
            |world| {
                world.flush();
                world.files.pop();
            },
        ),
        ("rows are merged with a late one", "revenue", &[], |world| {
            world.hot.push(row(20, 1.0));
            world.flush();
            while world.files.len() > 1 {
                world.merge();
            }
        }),
        ("a column has widened", "orders", &["amount"], |world| {
            world.is_int = false;
        }),
        (
            "a level before the range holds in it",
            "level",
            &[],
            |world| {
                world.hot.push(row(-5, 3.0));
                world.flush();
            },
        ),
    ];
    let plans = catalog();
    for (what, kpi, by, change) in changes {
        let mut world = World::new(0);
        for minute in [30, 50, 80, 90] {
            world.hot.push(row(minute, 1.0));
            world.flush();
        }
        world.hot.extend([row(115, 2.0), row(119, 1.0)]);
        world.now = 120;
        let (kept, bare) = (world.engine(32 << 20), world.engine(0));
        let asked = request(0, 120, Some(10 * MINUTE), by, 0);
        let ask = async |engine: &Engine, snapshot| {
            engine.kpi(snapshot, &plans[kpi], &asked).await.unwrap()
        };
        let snapshot = world.snapshot();
        let before = ask(&kept, &snapshot).await;
        change(&mut world);
        world.version += 1;
        let snapshot = world.snapshot();
        let after = ask(&bare, &snapshot).await;
        assert_ne!(before, after, "{what}: a change that changes nothing");
        assert_eq!(ask(&kept, &snapshot).await, after, "{what}");
    }
}

/// A minute later an hour of minutes reads the minute that came, and those that were hot.
#[tokio::test]
async fn only_the_new_slice_is_read() {
    let plans = catalog();
    let mut world = World::new(7);
    let engine = world.engine(32 << 20);
    let mut read = Vec::new();
    for now in 1..=180 {
        let rows = (0..10).map(|row| (now - 1, "pay", Some("ann"), Some(f64::from(row))));
        world.hot.extend(rows);
        (world.now, world.version) = (now, now as u64);
        if now % 2 == 0 {
            world.flush();
        }
        let asked = request(now - 60, now, Some(MINUTE), &[], 0);
        let before = engine.stats().steps_read;
        let snapshot = world.snapshot();
        let answer = engine
            .kpi(&snapshot, &plans["orders"], &asked)
            .await
            .unwrap();
        assert_eq!(answer.samples, now.min(60) as u64 * 10);
        read.push(engine.stats().steps_read - before);
    }
    assert_eq!(read[0], 60);
    let most = read[1..].iter().max();
    assert!(most <= Some(&4), "{read:?}");
}

/// A range without steps is read as a whole once, in parts the second time, and then a part at a time.
#[tokio::test]
async fn a_whole_range_is_put_together_from_parts() {
    let plans = catalog();
    let mut world = World::new(8);
    let engine = world.engine(32 << 20);
    let mut read = Vec::new();
    for now in 1..=70 {
        world.hot.push((now - 1, "pay", Some("ann"), Some(1.0)));
        (world.now, world.version) = (now, now as u64);
        world.flush();
        let asked = request(now - 64, now, None, &["service"], 0);
        let before = engine.stats();
        let snapshot = world.snapshot();
        let answer = engine
            .kpi(&snapshot, &plans["revenue"], &asked)
            .await
            .unwrap();
        assert_eq!(answer.series[0].points[0].1, Some(now.min(64) as f64));
        let after = engine.stats();
        read.push((
            after.steps_kept - before.steps_kept,
            after.steps_read - before.steps_read,
        ));
    }
    assert_eq!((read[0], read[1]), ((0, 0), (0, 64)));
    assert!(
        read[2..]
            .iter()
            .all(|(kept, read)| *kept >= 60 && *read <= 4),
        "{read:?}"
    );
}

/// Who looks at yesterday does not push out today.
#[tokio::test]
async fn two_windows_are_kept_beside_each_other() {
    let plans = catalog();
    let mut world = World::new(9);
    for _ in 0..300 {
        world.pass(10);
        world.flush();
    }
    let engine = world.engine(32 << 20);
    let mut read = Vec::new();
    for _ in 0..5 {
        world.pass(1);
        let snapshot = world.snapshot();
        for back in [0, 1440] {
            let to = world.now - back;
            let asked = request(to - 360, to, Some(2 * MINUTE), &[], 0);
            engine
                .kpi(&snapshot, &plans["orders"], &asked)
                .await
                .unwrap();
        }
        let before = read.iter().sum::<u64>();
        read.push(engine.stats().steps_read - before);
    }
    assert!(read[0] >= 360, "{read:?}");
    assert!(read[1..].iter().all(|read| *read < 200), "{read:?}");
}
