//! Beats and pulses, and what they seal.

use futures::StreamExt;
use serde_json::json;
use serin_sdk::Serin;
use serin_wire::{Beat, State};

use crate::folder::Folder;
use crate::{Found, PATIENCE, emit_numbers, flush, stream};

#[tokio::test]
async fn beats_go_on_under_a_flood_and_seal_only_what_is_stored() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let mut beats = bus
        .client()
        .subscribe("tel.beat.>")
        .await
        .expect("listening");
    let mut pulses = bus
        .client()
        .subscribe("tel.pulse.>")
        .await
        .expect("listening");
    bus.client().flush().await.expect("subscribed");
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    serin.gauge("queue.depth", || 7.0);
    serin.emit("bad type", &json!({}));
    let mut request = serin.request();
    request.failed();
    drop(request);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = tokio::task::spawn_blocking({
        let serin = serin.clone();
        move || {
            let mut n = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                emit_numbers(&serin, n..n + 50);
                n += 50;
                std::thread::yield_now();
            }
        }
    });
    let mut told: Vec<Beat> = Vec::new();
    while told.len() < 4 {
        let beat = tokio::time::timeout(PATIENCE, beats.next())
            .await
            .expect("in time");
        let beat = beat.expect("a beat");
        assert_eq!(beat.subject.as_str(), "tel.beat.cart.v3.cart-v3-1");
        told.push(serde_json::from_slice(&beat.payload).expect("a beat"));
    }
    let pulse = tokio::time::timeout(PATIENCE, pulses.next())
        .await
        .expect("in time");
    assert_eq!(
        pulse.expect("a pulse").subject.as_str(),
        "tel.pulse.cart.v3.cart-v3-1"
    );
    stop.send(()).expect("the flood goes on");
    flood.await.expect("no panic");
    flush(&serin).await;
    let found = stream(&bus).await;
    let numbers: std::collections::BTreeSet<u64> =
        found.iter().map(|event| event.message.number).collect();
    for beat in &told {
        let sealed = beat.sealed.as_ref().expect("sealed");
        assert!((1..=sealed.number).all(|number| numbers.contains(&number)));
        let is_true =
            |event: &Found| event.time_us > sealed.time_us || event.message.number <= sealed.number;
        assert!(found.iter().all(is_true), "{sealed:?}");
        assert_eq!(beat.gauges["queue.depth"], 7.0);
        assert_eq!(beat.dropped["bad-type"], 1);
    }
    assert!(told.is_sorted_by(|a, b| a.number + 1 == b.number));
    // Each second, however many events there are; the bound leaves room for a machine that is busy.
    let gaps = told.windows(2).map(|two| two[1].time_us - two[0].time_us);
    let gaps: Vec<i64> = gaps.collect();
    assert!(gaps.iter().all(|&gap| gap < 1_800_000), "{gaps:?}");
    assert!(
        told[3].sealed.as_ref().expect("sealed").number > 1,
        "the seal moves under load"
    );
    let (requests, errors) = told.iter().fold((0, 0), |sum, beat| {
        (sum.0 + beat.requests.count, sum.1 + beat.errors)
    });
    assert_eq!((requests, errors), (1, 1));
    assert!(told[3].memory_bytes > 0 && told[3].cpu > 0.0);
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn who_wants_no_pulses_sends_only_beats() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let mut told = bus.client().subscribe("tel.>").await.expect("listening");
    bus.client().flush().await.expect("subscribed");
    let options = serin_sdk::Options {
        pulses: false,
        ..folder.options(&bus)
    };
    let serin = Serin::connect(options).expect("connected");
    let mut beat = async || {
        let next = tokio::time::timeout(PATIENCE, told.next()).await;
        let message = next.expect("in time").expect("a message");
        assert_eq!(message.subject.as_str(), "tel.beat.cart.v3.cart-v3-1");
        serde_json::from_slice::<Beat>(&message.payload).expect("a beat")
    };
    for _ in 0..3 {
        beat().await;
    }
    // One out of turn, right after another, puts the next one off by no more than a second.
    serin.set_state(State::Draining);
    let (at_once, next) = (beat().await, beat().await);
    assert_eq!(at_once.state, State::Draining);
    let gap_us = next.time_us - at_once.time_us;
    assert!(gap_us < 1_500_000, "{gap_us}");
}
