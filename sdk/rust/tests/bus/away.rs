//! A bus that is killed, away, stuck, or that a later run finds again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use serin_sdk::{Options, Serin};

use crate::folder::Folder;
use crate::{check_all, emit_numbers, flush, folder_bytes, has_segments, server, stream, wait_for};

#[tokio::test]
async fn a_killed_bus_loses_and_doubles_nothing() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    for round in 0..4 {
        emit_numbers(&serin, round * 10_000..(round + 1) * 10_000);
        kill_process(server(&bus).await, Signal::KILL).expect("killed");
    }
    emit_numbers(&serin, 40_000..50_000);
    flush(&serin).await;
    let mut found = stream(&bus).await;
    // What the client still held when its connection broke may have come first.
    found.sort_by_key(|event| event.message.number);
    check_all(&found, 50_000);
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn events_wait_for_a_bus_that_is_away() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = folder.options(&bus);
    let serin = Serin::connect(options).expect("connected");
    emit_numbers(&serin, 0..1_000);
    bus.stop().await;
    emit_numbers(&serin, 1_000..51_000);
    wait_for(|| has_segments(&folder.spill())).await;
    let bus = folder.start().await;
    flush(&serin).await;
    check_all(&stream(&bus).await, 51_000);
    assert_eq!(serin.counts().dropped, BTreeMap::new());
    drop(serin);
    assert!(!has_segments(&folder.spill()));
    bus.stop().await;
}

/// async-nats queues 2,048 messages while disconnected, and then blocks whoever publishes, for ever.
#[tokio::test]
async fn more_messages_than_the_client_queues_wait_for_the_bus() {
    const MESSAGES: u64 = 3_000;
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..1);
    flush(&serin).await;
    bus.stop().await;
    for n in 1..MESSAGES {
        emit_numbers(&serin, n..n + 1);
        // What is asked to be flushed is a message of its own.
        assert_eq!(serin.flush().now_or_never(), None);
    }
    wait_for(|| has_segments(&folder.spill())).await;
    let bus = folder.start().await;
    flush(&serin).await;
    let found = stream(&bus).await;
    check_all(&found, MESSAGES);
    assert_eq!(
        found.last().map(|event| event.message.number),
        Some(MESSAGES)
    );
    assert_eq!(serin.counts().dropped, BTreeMap::new());
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn a_later_run_sends_what_an_earlier_one_left() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = folder.options_of_short_run(&bus);
    bus.stop().await;
    let earlier = Serin::connect(options.clone()).expect("connected");
    emit_numbers(&earlier, 0..5_000);
    drop(earlier);
    assert!(has_segments(&folder.spill()));
    let bus = folder.start().await;
    let later = Serin::connect(options).expect("connected");
    wait_for(|| !has_segments(&folder.spill())).await;
    let found = stream(&bus).await;
    check_all(&found, 5_000);
    later.emit("order.paid", &json!({"n": 5_000}));
    flush(&later).await;
    let found = stream(&bus).await;
    check_all(&found, 5_001);
    assert_ne!(found[0].message.producer, found[5_000].message.producer);
    drop(later);
    bus.stop().await;
}

#[tokio::test]
async fn a_stuck_bus_never_blocks_emit() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..100);
    flush(&serin).await;
    let server = server(&bus).await;
    kill_process(server, Signal::STOP).expect("stopped");
    // More than the 2,048 messages at which async-nats blocks, were each a message of its own.
    let emitting = tokio::task::spawn_blocking({
        let serin = serin.clone();
        move || emit_numbers(&serin, 100..30_000)
    });
    let emitted = tokio::time::timeout(Duration::from_secs(10), emitting).await;
    kill_process(server, Signal::CONT).expect("goes on");
    emitted.expect("emit does not wait").expect("no panic");
    flush(&serin).await;
    check_all(&stream(&bus).await, 30_000);
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn a_full_spill_drops_the_new_and_counts_it() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = Options {
        queue_bytes_max: 1 << 20,
        spill_bytes_max: 2 << 20,
        ..folder.options(&bus)
    };
    bus.stop().await;
    let serin = Serin::connect(options).expect("connected");
    let mut emitted = 0;
    while !serin.counts().dropped.contains_key("spill-full") {
        emit_numbers(&serin, emitted..emitted + 100);
        emitted += 100;
        assert!(emitted < 1_000_000, "{:?}", serin.counts());
        tokio::task::yield_now().await;
    }
    assert!(folder_bytes(&folder.spill()) <= 2 << 20);
    let bus = folder.start().await;
    flush(&serin).await;
    let counts = serin.counts();
    assert_eq!(
        counts.emitted + counts.dropped.values().sum::<u64>(),
        emitted
    );
    let found = stream(&bus).await;
    assert_eq!(found.len() as u64, counts.emitted);
    assert!(
        found.is_sorted_by(|a, b| a.id < b.id),
        "in order, none twice"
    );
    drop(serin);
    bus.stop().await;
}
