//! The whole server, from outside: emitted to visible, idle cost, start with a full lake.
//!
//! Emits 20,000 events a second through the SDK for `SERIN_BENCH_SECONDS` (20) while asking for the
//! newest event over HTTP; then lets Serin idle and reads what it costs; then restarts it on
//! everything that was stored. Start at [`main`].

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use serin_sdk::{Options, Serin as Sdk};
use serin_tests::Serin;
use serin_tests::report::{quantile, report};

const EVENTS_A_SECOND: u64 = 20_000;
/// An SDK is asked for this many events at once; smaller than a batch, so that batches form by age.
const BURST: u64 = 100;
const IDLE: Duration = Duration::from_secs(20);
/// Clock ticks a second in /proc (`USER_HZ`), which is 100 on every Linux.
const TICKS: f64 = 100.0;

fn main() -> Result<()> {
    let seconds = match std::env::var("SERIN_BENCH_SECONDS") {
        Ok(text) => text
            .parse()
            .context("SERIN_BENCH_SECONDS must be a number")?,
        Err(_) => 20,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(seconds))
}

async fn measure(seconds: u64) -> Result<()> {
    let mut serin = Serin::start().await?;
    idle(&serin).await?;
    visible(&serin, seconds).await?;
    serin.run(&["flush"]).await?;
    serin.stop().await?;
    let start = serin.start_again().await?;
    report(
        &format!(
            "ready after start, {} events stored",
            seconds * EVENTS_A_SECOND
        ),
        &format!("{:.0} ms", start.as_secs_f64() * 1000.0),
        "1,000 ms with 50 million",
    );
    serin.stop().await
}

/// What Serin and its nats-server cost while nothing happens.
async fn idle(serin: &Serin) -> Result<()> {
    let pids = family(serin)?;
    let before = cpu_seconds(&pids)?;
    tokio::time::sleep(IDLE).await;
    let share = (cpu_seconds(&pids)? - before) / IDLE.as_secs_f64();
    let mut pss = 0;
    for pid in &pids {
        pss += pss_kib(*pid)?;
    }
    report(
        "idle: PSS of Serin, its workers and nats-server",
        &format!("{} MiB", pss >> 10),
        "120 MiB",
    );
    report(
        "idle: share of a core",
        &format!("{:.1} %", share * 100.0),
        "1 %",
    );
    Ok(())
}

/// From the moment of emitting to the first answer that counts the event.
async fn visible(serin: &Serin, seconds: u64) -> Result<()> {
    let sdk = Sdk::connect(Options::new(serin.bus(), "bench"))?;
    let emitted = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&emitted);
    let start = Instant::now();
    let emitting = tokio::spawn(async move {
        let pause = Duration::from_secs_f64(BURST as f64 / EVENTS_A_SECOND as f64);
        let mut tick = tokio::time::interval(pause);
        while start.elapsed().as_secs() < seconds {
            tick.tick().await;
            for _ in 0..BURST {
                let number = counting.fetch_add(1, Ordering::Relaxed);
                let data = json!({"number": number, "country": "de", "amount": 1.5});
                sdk.emit("bench.visible", &data);
            }
        }
        sdk.flush().await;
    });
    // What was emitted before we asked, and when: each answer tells up to where it was visible.
    let mut open: Vec<(u64, Instant)> = Vec::new();
    let mut waits_ms = Vec::new();
    while !emitting.is_finished() {
        open.push((emitted.load(Ordering::Relaxed), Instant::now()));
        let rows = serin.sql("SELECT count(*) FROM \"bench.visible\"").await;
        let seen = rows.ok().and_then(|rows| rows.first()?.first()?.as_u64());
        let now = Instant::now();
        open.retain(|(number, since)| {
            let is_seen = seen.is_some_and(|seen| seen >= *number);
            if is_seen {
                waits_ms.push(now.duration_since(*since).as_secs_f64() * 1000.0);
            }
            !is_seen
        });
    }
    emitting.await?;
    waits_ms.sort_by(f64::total_cmp);
    report(
        "emitted to visible to SQL, 20,000 events/s",
        &format!(
            "p50 {:.0} ms, p99 {:.0} ms ({} looks)",
            quantile(&waits_ms, 0.5),
            quantile(&waits_ms, 0.99),
            waits_ms.len()
        ),
        "p99 500 ms",
    );
    Ok(())
}

/// Serin, its nats-server and the processes Serin started.
fn family(serin: &Serin) -> Result<Vec<u32>> {
    let pid = serin.pid().context("serin does not run")?;
    let mut pids = vec![pid, serin.bus_pid()?];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if parent(child) == Some(pid) && !pids.contains(&child) {
            pids.push(child);
        }
    }
    Ok(pids)
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// The fields of /proc/PID/stat behind the name, from `state` on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(proc_file(pid, "stat")).ok()?;
    let fields = text.rsplit_once(") ")?.1;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in pids {
        let fields = stat(*pid).with_context(|| format!("process {pid} has gone"))?;
        for field in &fields[11..13] {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS)
}

fn pss_kib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(proc_file(pid, "smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("no Pss in smaps_rollup")?.parse()?)
}
