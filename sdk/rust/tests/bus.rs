//! The SDK against the real `nats-server`: what is emitted is in the stream once, whatever happens.

mod folder;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use serin_bus::{Bus, Delivery};
use serin_sdk::{Context, Event, Options, Serin, event};
use serin_wire::{Beat, Number, batch, span};
use tracing_subscriber::layer::SubscriberExt;

use folder::Folder;

const PATIENCE: Duration = Duration::from_secs(60);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Folder {
    fn spill(&self) -> std::path::PathBuf {
        self.0.path().join("spill")
    }

    fn options(&self, bus: &Bus) -> Options {
        Options {
            version: "v3".into(),
            instance: "cart-v3-1".into(),
            spill_dir: Some(self.spill()),
            ..Options::new(bus.url(), "cart")
        }
    }
}

/// An event as it was found in the stream.
#[derive(Debug)]
struct Found {
    id: String,
    kind: String,
    time_us: i64,
    trace: Option<String>,
    arm: Option<String>,
    data: serde_json::Value,
    message: Number,
}

/// Every event in the stream, in the stream's order.
async fn stream(bus: &Bus) -> Vec<Found> {
    let events = bus.events().await.expect("the stream");
    let last = events.state().await.expect("the stream").last;
    let mut messages = events.messages_from(1).await.expect("a reader");
    let mut found = Vec::new();
    for _ in 0..last {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let Ok(Ok(Delivery::Message(message))) = next else {
            panic!("no message: {next:?}");
        };
        assert_eq!(message.header("content-type"), Some(batch::CONTENT_TYPE));
        let number: Number = message
            .header("Nats-Msg-Id")
            .and_then(|id| id.parse().ok())
            .expect("a number");
        for event in batch::read(&message.payload).expect("a batch") {
            let event = event.expect("an event");
            assert_eq!((&*event.service, &*event.version), ("cart", "v3"));
            found.push(Found {
                id: event.id.into_owned(),
                kind: event.kind.into_owned(),
                time_us: event.time_us,
                trace: event.trace.map(|trace| trace.to_traceparent()),
                arm: event.arm.map(|arm| arm.0.into_owned()),
                data: serde_json::from_slice(&event.data).expect("JSON"),
                message: number.clone(),
            });
        }
    }
    found
}

/// Checks that the events numbered from 0 are all there, once, in order.
fn check_all(found: &[Found], count: u64) {
    let numbers: Vec<u64> = found
        .iter()
        .filter_map(|event| event.data["n"].as_u64())
        .collect();
    assert!(
        numbers.iter().copied().eq(0..count),
        "{} of {count}",
        numbers.len()
    );
    assert!(found.is_sorted_by(|a, b| a.id < b.id), "identities rise");
}

fn emit_numbers(serin: &Serin, numbers: std::ops::Range<u64>) {
    for n in numbers {
        serin.emit(
            "order.paid",
            &json!({"n": n, "text": "some more bytes for the batch"}),
        );
    }
}

async fn flush(serin: &Serin) {
    let flushed = tokio::time::timeout(PATIENCE, serin.flush()).await;
    assert!(flushed.is_ok(), "not flushed: {:?}", serin.counts());
}

/// The server's process, once it is up.
async fn server(bus: &Bus) -> Pid {
    loop {
        let health = bus.health().await;
        if health.has_jetstream {
            let id = health.pid.expect("a server of our own");
            return Pid::from_raw(i32::try_from(id).expect("a pid")).expect("not 0");
        }
    }
}

#[derive(serde::Serialize, Event)]
#[event("cart.filled")]
struct Filled<'a> {
    by: &'a str,
}

#[tokio::test]
async fn what_is_emitted_is_in_the_stream() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    serin.emit("order.paid", &json!({"amount": 3}));
    event!(serin, "order.paid", amount = 4.5, "order.id" = "x");
    serin.emit_event(&Filled { by: "me" });
    serin
        .with_trace(PARENT)
        .with_arm("cart=v8")
        .emit("a", &json!({}));
    let context = Context::from_headers(Some(PARENT), Some("pay=v2"));
    context.scope(async { serin.emit("b", &json!({})) }).await;
    for refused in [json!(3), json!([1]), json!(null)] {
        serin.emit("c", &refused);
    }
    serin.emit("no good", &json!({}));
    serin.emit("serin.decision", &json!({}));
    serin.emit("large", &json!({"text": "x".repeat(600 << 10)}));
    flush(&serin).await;
    let found = stream(&bus).await;
    let told: Vec<_> = found
        .iter()
        .map(|event| (&*event.kind, event.data.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("order.paid", json!({"amount": 3})),
            ("order.paid", json!({"amount": 4.5, "order.id": "x"})),
            ("cart.filled", json!({"by": "me"})),
            ("a", json!({})),
            ("b", json!({})),
        ]
    );
    assert_eq!(found[0].trace, None);
    for (at, arm) in [(3, "cart=v8"), (4, "pay=v2")] {
        assert_eq!(found[at].trace.as_deref(), Some(PARENT));
        assert_eq!(found[at].arm.as_deref(), Some(arm));
    }
    let counts = serin.counts();
    assert_eq!((counts.emitted, counts.acknowledged), (5, 5));
    let dropped = [("bad-type", 2), ("not-an-object", 3), ("too-large", 1)];
    let dropped = dropped.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(counts.dropped, BTreeMap::from(dropped));
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn tracing_becomes_events_and_spans() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let mut spans = bus
        .client()
        .subscribe("tel.span.cart.v3.cart-v3-1")
        .await
        .expect("listening");
    bus.client().flush().await.expect("subscribed");
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    let subscriber = tracing_subscriber::registry().with(serin.layer());
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("checkout", user = 7);
        outer.in_scope(|| {
            tracing::info!("not marked");
            let inner = tracing::info_span!("pay");
            inner.in_scope(|| {
                tracing::info!(event = "order.paid", amount = 3, currency = "EUR");
                tracing::error!("card refused");
            });
        });
    });
    flush(&serin).await;
    let found = stream(&bus).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, "order.paid");
    assert_eq!(found[0].data, json!({"amount": 3, "currency": "EUR"}));
    let message = tokio::time::timeout(PATIENCE, spans.next())
        .await
        .expect("in time");
    let message = message.expect("a message");
    let told: Vec<_> = span::read_lines(&message.payload)
        .map(|line| line.expect("a span"))
        .collect();
    let [pay, checkout] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&*pay.name, &*checkout.name), ("pay", "checkout"));
    assert_eq!(
        (pay.status, checkout.status),
        (span::SpanStatus::Error, span::SpanStatus::Ok)
    );
    assert_eq!(
        (&pay.trace_id, pay.parent_id.as_ref()),
        (&checkout.trace_id, Some(&checkout.span_id))
    );
    assert_eq!(checkout.attributes["user"], json!(7));
    assert!(pay.duration_us <= checkout.duration_us);
    let trace = found[0].trace.clone().expect("the event's trace");
    assert_eq!(trace, format!("00-{}-{}-01", pay.trace_id, pay.span_id));
    drop(serin);
    bus.stop().await;
}

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
    check_all(&stream(&bus).await, 50_000);
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

#[tokio::test]
async fn a_later_run_sends_what_an_earlier_one_left() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = Options {
        drain_deadline: Duration::from_millis(100),
        ..folder.options(&bus)
    };
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

#[tokio::test]
async fn the_last_handle_drains() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..3_000);
    let other = serin.clone();
    drop(serin);
    emit_numbers(&other, 3_000..4_000);
    drop(other);
    check_all(&stream(&bus).await, 4_000);

    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 4_000..5_000);
    assert!(serin.drain(PATIENCE).await);
    emit_numbers(&serin, 5_000..5_010);
    assert_eq!(serin.counts().dropped.get("drained"), Some(&10));
    check_all(&stream(&bus).await, 5_000);
    bus.stop().await;
}

/// Not a test by itself: the service that the next test starts and ends.
#[test]
fn service_that_waits_for_sigterm() {
    let Some(bus) = std::env::var_os("SERIN_TEST_BUS") else {
        return;
    };
    let options = Options {
        version: "v3".into(),
        spill_dir: None,
        ..Options::new(bus.into_string().expect("text"), "cart")
    };
    let serin = Serin::connect(options).expect("connected");
    serin.drain_on_sigterm(PATIENCE).expect("listening");
    emit_numbers(&serin, 0..2_000);
    kill_process(rustix::process::getpid(), Signal::TERM).expect("signalled");
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn sigterm_drains_and_ends() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let service = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "service_that_waits_for_sigterm"])
        .env("SERIN_TEST_BUS", bus.url())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, service)
        .await
        .expect("in time");
    assert_eq!(ended.expect("started").status.code(), Some(143));
    check_all(&stream(&bus).await, 2_000);
    bus.stop().await;
}

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

async fn wait_for(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it becomes so in time");
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            found.push(path);
        }
    }
    found
}

fn has_segments(folder: &Path) -> bool {
    !segments(folder).is_empty()
}

fn folder_bytes(folder: &Path) -> u64 {
    let bytes = |path: &std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    segments(folder).iter().map(bytes).sum()
}
