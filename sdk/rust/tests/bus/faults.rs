//! What goes wrong on the way: damaged segments, a stream that refuses, a password that is wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde_json::{Value, json};
use serin_bus::Bus;
use serin_sdk::{Options, Serin};

use crate::folder::Folder;
use crate::{PATIENCE, check_all, emit_numbers, flush, has_segments, segments, stream, wait_for};

/// Changes settings of the events stream, as an operator may.
async fn set(bus: &Bus, settings: Value) {
    let ask = async |verb: &str, body: String| -> Value {
        let subject = format!("$JS.API.STREAM.{verb}.EVENTS");
        let answer = bus.client().request(subject, body.into()).await;
        serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
    };
    let mut config = ask("INFO", String::new()).await["config"].take();
    for (name, value) in settings.as_object().expect("settings") {
        config[name] = value.clone();
    }
    let answer = ask("UPDATE", config.to_string()).await;
    assert!(answer.get("error").is_none(), "{answer}");
}

#[tokio::test]
async fn damage_on_disk_is_counted_and_costs_no_more_than_its_batch() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = folder.options_of_short_run(&bus);
    bus.stop().await;
    let earlier = Serin::connect(options.clone()).expect("connected");
    emit_numbers(&earlier, 0..5_000);
    drop(earlier);
    let segment = segments(&folder.spill()).pop().expect("a segment");
    let file = std::fs::File::options().write(true).open(&segment);
    let file = file.expect("there");
    let middle = file.metadata().expect("there").len() / 2;
    file.write_all_at(b"\0\0\0\0", middle).expect("written");
    // A segment that cannot be read; the run's others are sent, and it stays.
    let unreadable = segment.with_file_name("00000000.seg");
    std::fs::create_dir(&unreadable).expect("made");
    let bus = folder.start().await;
    let later = Serin::connect(options.clone()).expect("connected");
    later.emit("order.paid", &json!({"n": 5_000}));
    flush(&later).await;
    let is_told = |later: &Serin| later.counts().dropped.contains_key("spill-lost");
    assert!(!is_told(&later), "nothing is given up before all is read");
    assert!(later.drain(PATIENCE).await);
    assert!(has_segments(&folder.spill()));
    std::fs::remove_dir(&unreadable).expect("removed");

    let last = Serin::connect(options).expect("connected");
    wait_for(|| is_told(&last)).await;
    wait_for(|| !has_segments(&folder.spill())).await;
    let found = stream(&bus).await;
    let lost = last.counts().dropped["spill-lost"];
    assert!((1..2_000).contains(&lost), "{lost}");
    assert_eq!(found.len() as u64 + lost, 5_001);
    drop(last);
    bus.stop().await;
}

#[tokio::test]
async fn a_message_that_the_stream_never_takes_is_given_up() {
    let folder = Folder::new();
    let bus = folder.start().await;
    set(&bus, json!({"max_msg_size": 200_000})).await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..100);
    flush(&serin).await;
    serin.emit("large", &json!({"text": "x".repeat(300_000)}));
    flush(&serin).await;
    emit_numbers(&serin, 100..200);
    flush(&serin).await;
    check_all(&stream(&bus).await, 200);
    let counts = serin.counts();
    assert_eq!((counts.emitted, counts.acknowledged), (201, 200));
    assert_eq!(
        counts.dropped,
        BTreeMap::from([("too-large".to_owned(), 1)])
    );

    // So it is for one that an earlier run left.
    set(&bus, json!({"max_msg_size": -1})).await;
    bus.stop().await;
    serin.emit("large", &json!({"text": "x".repeat(300_000)}));
    assert!(!serin.drain(Duration::from_millis(100)).await);
    drop(serin);
    let bus = folder.start().await;
    set(&bus, json!({"max_msg_size": 200_000})).await;
    let later = Serin::connect(folder.options(&bus)).expect("connected");
    wait_for(|| !has_segments(&folder.spill())).await;
    assert_eq!(later.counts().dropped["too-large"], 1);
    drop(later);
    bus.stop().await;
}

#[tokio::test]
async fn events_wait_while_the_stream_is_full() {
    let folder = Folder::new();
    let bus = folder.start().await;
    set(&bus, json!({"max_bytes": 1 << 20})).await;
    let options = Options {
        queue_bytes_max: 8 << 20,
        ..folder.options(&bus)
    };
    let serin = Serin::connect(options).expect("connected");
    // Some four megabytes.
    emit_numbers(&serin, 0..30_000);
    wait_for(|| serin.counts().acknowledged > 0 && has_segments(&folder.spill())).await;
    assert!(serin.counts().acknowledged < 30_000, "{:?}", serin.counts());
    set(&bus, json!({"max_bytes": 256 << 20})).await;
    flush(&serin).await;
    assert_eq!(serin.counts().dropped, BTreeMap::new());
    let mut found = stream(&bus).await;
    // A smaller batch that was under way with the first refused one may still have found room.
    found.sort_by_key(|event| event.message.number);
    check_all(&found, 30_000);
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let (user, host) = bus.url().split_once('@').expect("with credentials");
    let user = user.rsplit_once(':').expect("with a password").0;
    let options = Options {
        bus: format!("{user}:wrong@{host}"),
        ..folder.options_of_short_run(&bus)
    };
    let serin = Serin::connect(options).expect("connected");
    let refusal = || serin.counts().bus_refusal;
    wait_for(|| refusal().as_deref() == Some("authorization violation")).await;
    drop(serin);

    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..1);
    flush(&serin).await;
    assert_eq!(serin.counts().bus_refusal, None);
    drop(serin);
    bus.stop().await;
}
