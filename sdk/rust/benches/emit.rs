//! What one `emit` costs: the median over batches of calls, and the allocations of a call.
//!
//! First with a real bus, paced as a very busy service, where nothing may be dropped; then without
//! one, so that the caller's side is measured alone while the queue is emptied to disk. Reached is at
//! most 1 µs and no allocation beyond the payload's. `SERIN_BENCH_BURSTS` sets how many batches.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serin_bus::{Bus, BusOptions};
use serin_sdk::{Options, Serin};

/// Calls per measurement, about one batch of the SDK.
const CALLS: u32 = 500;
const BURSTS: usize = 400;
/// With a bus: 500 events each 10 ms are 50,000 a second.
const PAUSE: Duration = Duration::from_millis(10);
const NS_MAX: f64 = 1_000.0;

#[derive(Serialize)]
struct Paid<'a> {
    order: u64,
    amount: f64,
    currency: &'a str,
    country: &'a str,
    is_first: bool,
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment"
)]
fn main() {
    let bursts = std::env::var("SERIN_BENCH_BURSTS");
    let bursts = bursts.map_or(BURSTS, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let bus = runtime.block_on(Bus::start(bus_options(folder.path())));
    let bus = bus.expect("nats-server is needed; SERIN_NATS_SERVER names it");
    runtime
        .block_on(async { bus.events().await?.ensure().await })
        .expect("the stream");
    let serin = connect(bus.url(), folder.path());
    told("with a bus", measure(&serin, bursts, Some(PAUSE)));
    runtime.block_on(serin.flush());
    let counts = serin.counts();
    assert!(counts.dropped.is_empty(), "dropped {:?}", counts.dropped);
    assert_eq!(counts.acknowledged, counts.emitted, "the bus has all");
    drop(serin);
    runtime.block_on(bus.stop());

    let serin = connect("nats://127.0.0.1:9", &folder.path().join("away"));
    told("while the bus is away", measure(&serin, bursts, None));
    let calls = 10_000;
    let allocated =
        allocation_counter::measure(|| (0..calls).for_each(|order| emit(&serin, order)));
    let per_call = allocated.count_total as f64 / calls as f64;
    println!(
        "serin-bench | SDK emit(), allocations per call | {per_call:.4} ({:.0} bytes, the batch's) | 0 beyond the payload's | {}",
        allocated.bytes_total as f64 / calls as f64,
        if per_call < 0.1 { "yes" } else { "no" }
    );
    println!(
        "dropped while the bus was away: {:?}",
        serin.counts().dropped
    );
}

fn connect(bus: &str, folder: &Path) -> Serin {
    let options = Options {
        spill_dir: Some(folder.join("spill")),
        ..Options::new(bus, "bench")
    };
    Serin::connect(options).expect("the options are right")
}

fn bus_options(folder: &Path) -> BusOptions {
    BusOptions {
        data_dir: folder.join("serin"),
        joined: None,
        port: None,
        events_bytes_max: 4 << 30,
        server_binary: std::env::var_os("SERIN_NATS_SERVER").map(Into::into),
        search_path: std::env::var_os("PATH"),
        beside: None,
    }
}

fn emit(serin: &Serin, order: u64) {
    let paid = Paid {
        order,
        amount: 19.9,
        currency: "EUR",
        country: "AT",
        is_first: order.is_multiple_of(2),
    };
    serin.emit("order.paid", &paid);
}

/// Nanoseconds a call of each burst, sorted.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure(serin: &Serin, bursts: usize, pause: Option<Duration>) -> Vec<f64> {
    let mut ns_per_call: Vec<f64> = (0..bursts)
        .map(|_| {
            let start = Instant::now();
            for order in 0..CALLS {
                emit(serin, u64::from(order));
            }
            let ns = start.elapsed().as_nanos() as f64 / f64::from(CALLS);
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            ns
        })
        .collect();
    ns_per_call.sort_by(f64::total_cmp);
    ns_per_call
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn told(how: &str, ns: Vec<f64>) {
    let median = ns[ns.len() / 2];
    println!(
        "serin-bench | SDK emit() {how}, median of {} x {CALLS} calls | {median:.0} ns (p99 {:.0} ns) | 1,000 ns | {}",
        ns.len(),
        ns[ns.len() * 99 / 100],
        if median <= NS_MAX { "yes" } else { "no" }
    );
}
