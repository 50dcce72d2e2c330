//! The whole server, from outside: idle cost, emitted to visible, and starts with a full lake.
//!
//! Emits 20,000 events a second through the SDK for `SERIN_BENCH_SECONDS` (200: flushes and merges
//! are among them) while asking for the number of events over HTTP; kills Serin and times until the
//! last acknowledged event is there again; fills a lake with `SERIN_BENCH_STORED` events (50 million)
//! of eight types, and times how long a start over it takes. Start at [`main`].

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "server/fill.rs"]
mod fill;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use serin_sdk::{Options, Serin as Sdk};
use serin_tests::Serin;
use serin_tests::cost::{cpu_seconds, family, pss_mib};
use serin_tests::place;
use serin_tests::report::{judged, quantile};
use serin_tests::wait::until;

const EVENTS_A_SECOND: u64 = 20_000;
/// Of the rate asked for, so much must be reached, or nothing was measured.
const RATE_SHARE_MIN: f64 = 0.98;
/// An SDK is asked for this many events at once; smaller than a batch, so that batches form by age.
const BURST: u64 = 100;
/// How often it is noted what was emitted; each note becomes one waiting time.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// What a start does after it is ready is no part of idling.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// So long that a flush of the usual age, one minute, is among it.
const IDLE: Duration = Duration::from_secs(70);
/// So many windows are measured, and the median told: what else the machine does is in some of them.
const IDLE_WINDOWS: usize = 3;
const SEEN_DEADLINE: Duration = Duration::from_secs(60);
/// Flushes as a server at work has them, but so many that a run has twenty.
const SETTINGS: &str = "ingest: {flush_age_s: 10}\n";
const COUNT: &str = "SELECT count(*) FROM \"bench.visible\"";

fn main() -> Result<()> {
    let seconds = place::number("SERIN_BENCH_SECONDS", 200);
    let stored = place::number("SERIN_BENCH_STORED", 50_000_000);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(seconds, stored))
}

async fn measure(seconds: u64, stored: u64) -> Result<()> {
    idle().await?;
    let mut serin = Serin::start_set(SETTINGS).await?;
    let sdk = Sdk::connect(Options::new(serin.bus(), "bench"))?;
    let emitted = visible(&serin, &sdk, seconds).await?;
    killed(&mut serin, &sdk, emitted).await?;
    drop(sdk);
    serin.stop().await?;
    drop(serin);
    idle_with_hello().await?;
    ready(stored).await
}

/// What Serin and its nats-server cost while nothing happens.
async fn idle() -> Result<()> {
    let mut serin = Serin::start().await?;
    let pids = family(&serin).await?;
    let (pss, share) = cost(&pids).await?;
    judged(
        "idle: PSS of Serin, its gateway, its workers and nats-server",
        &format!("{pss} MiB"),
        "120 MiB",
        pss <= 120,
    );
    judged(
        "idle: share of a core",
        &format!("{:.2} %", share * 100.0),
        "1 %",
        share <= 0.01,
    );
    serin.stop().await
}

/// The same with the service that a user finds in an empty folder, without visitors.
async fn idle_with_hello() -> Result<()> {
    let mut serin = Serin::start_with_hello().await?;
    until("hello takes work", SEEN_DEADLINE, async || {
        let url = format!("{}/hello", serin.gateway());
        let answer = reqwest::get(url).await?;
        Ok(answer.status().is_success().then_some(()))
    })
    .await?;
    let pids = family(&serin).await?;
    let (pss, share) = cost(&pids).await?;
    judged(
        "idle with hello: PSS of Serin, nats-server, gateway, shim and two instances",
        &format!("{pss} MiB"),
        "150 MiB",
        pss <= 150,
    );
    judged(
        "idle with hello: share of a core",
        &format!("{:.2} %", share * 100.0),
        "2 %",
        share <= 0.02,
    );
    serin.stop().await
}

/// Memory in MiB, and the share of a core they take while nothing happens, at the median.
async fn cost(pids: &[u32]) -> Result<(u64, f64)> {
    tokio::time::sleep(SETTLED_AFTER).await;
    let mut shares = Vec::new();
    for _ in 0..IDLE_WINDOWS {
        let before = cpu_seconds(pids)?;
        tokio::time::sleep(IDLE).await;
        shares.push((cpu_seconds(pids)? - before) / IDLE.as_secs_f64());
    }
    shares.sort_by(f64::total_cmp);
    Ok((pss_mib(pids), quantile(&shares, 0.5)))
}

/// From the moment of emitting to the first answer that counts the event; how many were emitted.
async fn visible(serin: &Serin, sdk: &Sdk, seconds: u64) -> Result<u64> {
    let flushes = metric(serin, "serin_ingest_flushes_total").await?;
    let emitted = Arc::new(AtomicU64::new(0));
    let notes: Arc<Mutex<Vec<(u64, Instant)>>> = Arc::default();
    let start = Instant::now();
    let emitting = tokio::spawn(emit(sdk.clone(), Arc::clone(&emitted), start, seconds));
    let noting = tokio::spawn(note(Arc::clone(&emitted), Arc::clone(&notes)));
    let mut open: Vec<(u64, Instant)> = Vec::new();
    let mut waits_ms = Vec::new();
    let mut seen = 0;
    let deadline = Duration::from_secs(seconds) + SEEN_DEADLINE;
    while !emitting.is_finished() || seen < emitted.load(Relaxed) {
        ensure!(start.elapsed() < deadline, "{seen} events are visible");
        // Taken before the question: an event emitted after it is not in its answer.
        open.append(&mut *notes.lock().expect("nobody panics with it"));
        let rows = serin.sql(COUNT).await;
        let answer = rows.ok().and_then(|rows| rows.first()?.first()?.as_u64());
        let now = Instant::now();
        seen = answer.unwrap_or(seen);
        open.retain(|(number, since)| {
            let is_seen = seen >= *number;
            if is_seen {
                waits_ms.push(now.duration_since(*since).as_secs_f64() * 1000.0);
            }
            !is_seen
        });
    }
    noting.abort();
    let took = emitting.await?;
    let total = emitted.load(Relaxed);
    let rate = total as f64 / took.as_secs_f64();
    let dropped = sdk.counts().dropped;
    ensure!(dropped.is_empty(), "the SDK dropped {dropped:?}");
    ensure!(seen == total, "{seen} of {total} events are visible");
    ensure!(
        rate >= EVENTS_A_SECOND as f64 * RATE_SHARE_MIN,
        "only {rate:.0} events/s were emitted"
    );
    waits_ms.sort_by(f64::total_cmp);
    let p99 = quantile(&waits_ms, 0.99);
    let flushes = metric(serin, "serin_ingest_flushes_total").await? - flushes;
    judged(
        &format!("emitted to visible to SQL, {rate:.0} events/s for {seconds} s"),
        &format!(
            "p50 {:.0} ms, p99 {p99:.0} ms, worst {:.0} ms ({} samples, {flushes} flushes)",
            quantile(&waits_ms, 0.5),
            quantile(&waits_ms, 1.0),
            waits_ms.len()
        ),
        "p99 500 ms",
        p99 <= 500.0,
    );
    Ok(total)
}

/// Emits at the rate; how long that took.
async fn emit(sdk: Sdk, emitted: Arc<AtomicU64>, start: Instant, seconds: u64) -> Duration {
    let pause = Duration::from_secs_f64(BURST as f64 / EVENTS_A_SECOND as f64);
    let mut tick = tokio::time::interval(pause);
    while start.elapsed().as_secs() < seconds {
        tick.tick().await;
        for _ in 0..BURST {
            let number = emitted.fetch_add(1, Relaxed);
            let data = json!({"number": number, "country": "de", "amount": 1.5});
            sdk.emit("bench.visible", &data);
        }
    }
    let took = start.elapsed();
    sdk.flush().await;
    took
}

/// Notes on a clock of its own what was emitted, so that slow answers are not asked about less.
async fn note(emitted: Arc<AtomicU64>, notes: Arc<Mutex<Vec<(u64, Instant)>>>) {
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    loop {
        tick.tick().await;
        let noted = (emitted.load(Relaxed), Instant::now());
        notes.lock().expect("nobody panics with it").push(noted);
    }
}

/// The value of a counter of `/metrics`.
async fn metric(serin: &Serin, name: &str) -> Result<u64> {
    let answer = serin
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await?;
    let text = answer.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name} in /metrics"))?;
    Ok(value.trim().parse::<f64>()? as u64)
}

/// From the start after kill -9 to the moment the last acknowledged event is visible again.
async fn killed(serin: &mut Serin, sdk: &Sdk, emitted: u64) -> Result<()> {
    for number in 0..EVENTS_A_SECOND {
        sdk.emit(
            "bench.visible",
            &json!({"number": number, "country": "de", "amount": 1.5}),
        );
        if number % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
    sdk.flush().await;
    let dropped = sdk.counts().dropped;
    ensure!(dropped.is_empty(), "the SDK dropped {dropped:?}");
    let total = (emitted + EVENTS_A_SECOND) as i64;
    serin.kill()?;
    let start = Instant::now();
    serin.start_again().await?;
    until(
        "the last acknowledged event is visible",
        SEEN_DEADLINE,
        async || Ok((serin.sql_number(COUNT).await? == total).then_some(())),
    )
    .await?;
    let took = start.elapsed().as_secs_f64();
    judged(
        "start after kill -9 to the last acknowledged event visible",
        &format!("{took:.2} s"),
        "2 s",
        took <= 2.0,
    );
    Ok(())
}

/// A start over a full lake.
async fn ready(stored: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = fill::fill(&folder.path().join(".serin/lake"), stored)?;
    let mut serin = Serin::start_in(folder.path()).await?;
    serin.stop().await?;
    // The first start began the life of a stream; this one is like any other.
    let took = serin.start_again().await?.as_secs_f64() * 1000.0;
    let sql = "SELECT count(*) FROM events WHERE service LIKE 'filled-%'";
    let rows = serin.sql_number(sql).await? as u64;
    ensure!(rows == stored, "{rows} of {stored} events are there");
    judged(
        &format!("ready after start, {stored} events of 8 types in {files} files stored"),
        &format!("{took:.0} ms"),
        "1,000 ms",
        took <= 1_000.0,
    );
    serin.stop().await
}
