//! `emit` allocates nothing of its own: only the memory of the batches, once per batch.

use serde::Serialize;
use serin_sdk::{Options, Serin};

#[derive(Serialize)]
struct Paid<'a> {
    order: u64,
    currency: &'a str,
}

#[test]
fn a_call_allocates_nothing() {
    let serin = Serin::connect(Options {
        spill_dir: None,
        drain_deadline: std::time::Duration::ZERO,
        ..Options::new("nats://127.0.0.1:9", "cart")
    })
    .expect("connected");
    let emit = |order| {
        let paid = Paid {
            order,
            currency: "EUR",
        };
        serin.emit("order.paid", &paid);
    };
    (0..5_000).for_each(emit);
    let allocated = allocation_counter::measure(|| (0..10_000).for_each(emit));
    // Some 70 bytes an event make about 1,900 of them a batch of 128 KiB; a batch takes its bytes,
    // the head that shares them and now and then a longer list of batches.
    assert!(allocated.count_total <= 24, "{allocated:?}");
    assert_eq!(serin.counts().emitted, 15_000);
}
