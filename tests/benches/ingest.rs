//! Bus to committed Parquet: events a second and memory, beside DuckDB and ClickHouse.
//!
//! Publishes `SERIN_BENCH_INGEST_EVENTS` events of eight types (3 million) to a real nats-server
//! first, then starts lake and ingester and times until the catalogue stands at the last message. The
//! peers load the same events from newline-delimited JSON into Parquet in the same run. Then a whole
//! `serin up` takes `SERIN_BENCH_LIVE_EVENTS` (18 million, a minute and more) as fast as its bus takes
//! them, with queries, merges and all, and its memory is looked at. Start at [`main`].

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it does")]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serin_bus::{Bus, BusOptions};
use serin_ingest::{Edge, Ingest, IngestOptions};
use serin_lake::{Lake, LakeOptions};
use serin_tests::cost::{family, pss_mib};
use serin_tests::load::Load;
use serin_tests::report::{judged, report};
use serin_tests::{Serin, place};
use serin_wire::batch::{BatchWriter, CONTENT_TYPE, Head, Id};

const START_US: i64 = 1_767_225_600_000_000;
/// As the SDK seals its batches.
const BATCH_BYTES: usize = 128 << 10;
/// Messages that wait for their acknowledgement at once: the bus syncs each.
const UNDER_WAY_MAX: usize = 16;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const RATE_MIN: f64 = 150_000.0;
const MEMORY_MIB_MAX: u64 = 1_024;

fn main() -> Result<()> {
    let events = place::number("SERIN_BENCH_INGEST_EVENTS", 3_000_000);
    let live_events = place::number("SERIN_BENCH_LIVE_EVENTS", 18_000_000);
    let dir = tempfile::tempdir()?;
    let json = dir.path().join("events");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(ours(dir.path(), &json, events))?;
    for (name, script) in [("DuckDB", DUCKDB), ("ClickHouse (chdb)", CLICKHOUSE)] {
        let seconds = peer(script, &json, dir.path())?;
        let rate = seconds.map_or("not installed".to_owned(), |s| rate(events, s));
        report(
            &format!("{name}: the same events, NDJSON file to Parquet"),
            &rate,
            "for comparison",
        );
    }
    runtime.block_on(live(live_events))
}

fn rate(events: u64, seconds: f64) -> String {
    format!("{:.0} events/s", events as f64 / seconds)
}

async fn ours(dir: &Path, json: &Path, events: u64) -> Result<()> {
    let bus = Bus::start(BusOptions {
        data_dir: dir.join("serin"),
        joined: None,
        port: None,
        events_bytes_max: 8 << 30,
        server_binary: std::env::var_os("SERIN_NATS_SERVER").map(Into::into),
        search_path: std::env::var_os("PATH"),
        beside: None,
    })
    .await?;
    let messages = publish(&bus, json, events).await?;
    println!("published {events} events in {messages} messages");
    let edge = Edge::of_machine()?;
    let options = LakeOptions {
        dir: dir.join("serin/lake"),
        ..LakeOptions::default()
    };
    let (lake, recovered) = Lake::open(options, edge.now_us())?;
    let before = resident_mib("VmRSS")?;
    let start = Instant::now();
    let ingest = Ingest::start(
        lake.clone(),
        recovered,
        &bus,
        IngestOptions::default(),
        edge,
    )
    .await?;
    let position = ingest.flush().await?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = resident_mib("VmHWM")?;
    ensure!(
        position.sequence == messages,
        "committed {} of {messages} messages",
        position.sequence
    );
    let rows: u64 = lake
        .snapshot()
        .tables
        .values()
        .flat_map(|table| &table.files)
        .map(|file| file.rows)
        .sum();
    ensure!(rows == events, "{rows} rows of {events} events");
    judged(
        "bus to committed Parquet, 8 types",
        &rate(events, seconds),
        "150,000 events/s (aim 300,000)",
        events as f64 / seconds >= RATE_MIN,
    );
    judged(
        "resident memory while ingesting",
        &format!("{peak} MiB ({before} MiB before)"),
        "1,024 MiB",
        peak <= MEMORY_MIB_MAX,
    );
    ingest.stop().await?;
    bus.stop().await;
    Ok(())
}

/// Publishes the load as SDKs would, and writes it as NDJSON, a file for each type, for the peers.
async fn publish(bus: &Bus, json: &Path, events: u64) -> Result<u64> {
    fs::create_dir_all(json)?;
    let stream = bus.events().await?;
    let mut files = Vec::new();
    for kind in serin_tests::load::TYPES {
        files.push(BufWriter::new(File::create(
            json.join(format!("{kind}.ndjson")),
        )?));
    }
    let mut batches = Batches::new(events);
    let mut messages = 0;
    loop {
        let batch = batches.next(&mut |number, time_us, data| {
            let file = &mut files[(number % 8) as usize];
            writeln!(
                file,
                r#"{{"time":{time_us},"id":"{number:026}","service":"shop","version":"v1","instance":"shop-v1-1",{}"#,
                &data[1..]
            )?;
            Ok(())
        })?;
        let Some(batch) = batch else {
            break;
        };
        messages += 1;
        let id = format!("bench/0/{messages}");
        let headers = [("Nats-Msg-Id", &*id), ("content-type", CONTENT_TYPE)];
        let subject = serin_wire::subject::batch("shop");
        stream.publish(&subject, &headers, batch.into()).await?;
    }
    for mut file in files {
        file.flush()?;
    }
    Ok(messages)
}

/// The load as messages of an SDK.
struct Batches {
    writer: BatchWriter,
    load: Load,
    text: String,
    number: u64,
    events: u64,
}

impl Batches {
    fn new(events: u64) -> Batches {
        Batches {
            writer: BatchWriter::new("shop", "v1", "shop-v1-1", 0),
            load: Load::new(7),
            text: String::new(),
            number: 0,
            events,
        }
    }

    /// The next message; shows each of its events: number, time, data.
    fn next(
        &mut self,
        show: &mut dyn FnMut(u64, i64, &str) -> Result<()>,
    ) -> Result<Option<Vec<u8>>> {
        while self.number < self.events && self.writer.len() < BATCH_BYTES {
            let number = self.number;
            let made = self.load.next(&mut self.text);
            let time_us = START_US + number as i64 * 5;
            let head = Head {
                id: Id::Ulid((u128::from(number) << 64) | u128::from(number ^ 0x5555_5555)),
                kind: made.kind,
                service: None,
                time_us,
                trace: None,
                arm: None,
            };
            self.writer.push(&head, made.data.as_bytes());
            show(number, time_us, made.data)?;
            self.number += 1;
        }
        Ok((!self.writer.is_empty()).then(|| self.writer.take()))
    }
}

/// A whole server under the same load, from the first message to the last row in a file.
async fn live(events: u64) -> Result<()> {
    let mut serin = Serin::start().await?;
    let client = serin_tests::bus::connect(serin.bus()).await?;
    let stream = async_nats::jetstream::new(client);
    let start = Instant::now();
    let publishing = tokio::spawn(async move {
        let mut batches = Batches::new(events);
        let mut under_way = VecDeque::new();
        let mut messages = 0_u64;
        while let Some(batch) = batches.next(&mut |_, _, _| Ok(()))? {
            messages += 1;
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("live/0/{messages}"));
            headers.insert("content-type", CONTENT_TYPE);
            let subject = serin_wire::subject::batch("shop");
            let sent = stream.publish_with_headers(subject, headers, batch.into());
            under_way.push_back(sent.await?.into_future());
            if under_way.len() >= UNDER_WAY_MAX {
                under_way.pop_front().context("one is under way")?.await?;
            }
        }
        for acknowledged in under_way {
            acknowledged.await?;
        }
        anyhow::Ok(())
    });
    let (mut peak, mut of_bus, mut looks) = (0, 0, Vec::new());
    while !publishing.is_finished() {
        let pss = pss_mib(&family(&serin).await?);
        if pss > peak {
            (peak, of_bus) = (pss, pss_mib(&[serin.bus_pid()?]));
        }
        looks.push(pss);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    publishing.await??;
    serin.run(&["flush"]).await?;
    let seconds = start.elapsed().as_secs_f64();
    looks.sort_unstable();
    let rows = serin.get("/api/v1/status").await?["rows"].as_u64();
    ensure!(rows >= Some(events), "{rows:?} rows of {events} events");
    judged(
        "a whole serin up, published to committed Parquet, 8 types",
        &format!("{} for {seconds:.0} s", rate(events, seconds)),
        "150,000 events/s (aim 300,000)",
        events as f64 / seconds >= RATE_MIN,
    );
    judged(
        "PSS of Serin, its workers and nats-server meanwhile, merging too",
        &format!(
            "median {} MiB, highest {peak} MiB, of which nats-server {of_bus} MiB",
            looks.get(looks.len() / 2).copied().unwrap_or_default()
        ),
        "1,024 MiB",
        peak <= MEMORY_MIB_MAX,
    );
    serin.stop().await
}

fn resident_mib(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: u64 = kib.context("no memory in /proc/self/status")?.parse()?;
    Ok(kib >> 10)
}

/// Runs a peer's script; the seconds it printed, or `None` where the peer is not installed.
fn peer(script: &str, json: &Path, dir: &Path) -> Result<Option<f64>> {
    let output = place::python()
        .arg("-c")
        .arg(script)
        .args([json, &dir.join("peer")])
        .output()
        .context("cannot start Python")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            said.contains("ModuleNotFoundError"),
            "the peer says: {said}"
        );
        return Ok(None);
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(Some(text.trim().parse().with_context(|| text.clone())?))
}

const DUCKDB: &str = r#"
import duckdb, glob, os, sys, time
source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
con = duckdb.connect()
con.execute("set threads=2")
start = time.monotonic()
for path in sorted(glob.glob(source + "/*.ndjson")):
    out = os.path.join(target, os.path.basename(path) + ".parquet")
    con.execute(f"copy (select * from read_json('{path}', format='newline_delimited') order by service, version, instance, time) to '{out}' (format parquet, compression zstd, compression_level 1)")
print(time.monotonic() - start)
"#;

const CLICKHOUSE: &str = r#"
import chdb, glob, os, sys, time
source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
start = time.monotonic()
for path in sorted(glob.glob(source + "/*.ndjson")):
    out = os.path.join(target, os.path.basename(path) + ".ch.parquet")
    chdb.query(f"insert into function file('{out}', Parquet) select * from file('{path}', JSONEachRow) order by service, version, instance, time settings max_threads=2, output_format_parquet_compression_method='zstd', input_format_json_read_objects_as_strings=1")
print(time.monotonic() - start)
"#;
