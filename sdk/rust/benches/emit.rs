//! What one `emit` costs: the median over batches of calls, and the allocations of a call.
//!
//! The bus is away, so that only the caller's side is measured; the queue is emptied to disk by the
//! sender's thread meanwhile. Reached is at most 1 µs and no allocation beyond the payload's.

use std::time::Instant;

use serde::Serialize;
use serin_sdk::{Options, Serin};

/// Calls per measurement, about one batch of the SDK.
const CALLS: u32 = 500;
const MEASUREMENTS: usize = 400;

#[derive(Serialize)]
struct Paid<'a> {
    order: u64,
    amount: f64,
    currency: &'a str,
    country: &'a str,
    is_first: bool,
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn main() {
    let folder = std::env::temp_dir().join(format!("serin-bench-{}", std::process::id()));
    let serin = Serin::connect(Options {
        spill_dir: Some(folder.clone()),
        ..Options::new("nats://127.0.0.1:9", "bench")
    })
    .expect("the options are right");
    let emit = |order| {
        let paid = Paid {
            order,
            amount: 19.9,
            currency: "EUR",
            country: "AT",
            is_first: order % 2 == 0,
        };
        serin.emit("order.paid", &paid);
    };
    let mut ns_per_call: Vec<f64> = (0..MEASUREMENTS)
        .map(|_| {
            let start = Instant::now();
            for order in 0..CALLS {
                emit(u64::from(order));
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    ns_per_call.sort_by(f64::total_cmp);
    let calls = 10_000;
    let allocated = allocation_counter::measure(|| (0..calls).for_each(emit));
    println!(
        "serin-bench | SDK emit(), median of {MEASUREMENTS} x {CALLS} calls | {:.0} ns (p99 {:.0} ns) | 1,000 ns",
        ns_per_call[MEASUREMENTS / 2],
        ns_per_call[MEASUREMENTS * 99 / 100],
    );
    println!(
        "serin-bench | SDK emit(), allocations per call | {:.4} ({:.0} bytes, the batch's) | 0 beyond the payload's",
        allocated.count_total as f64 / calls as f64,
        allocated.bytes_total as f64 / calls as f64,
    );
    println!("dropped {:?}", serin.counts().dropped);
    drop(serin);
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        println!("left {}: {error}", folder.display());
    }
}
