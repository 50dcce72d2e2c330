//! The SDK against the real `nats-server`: what is emitted is in the stream once, whatever happens.

mod away;
mod beats;
mod end;
mod events;
mod faults;
#[path = "../folder/mod.rs"]
mod folder;

use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::json;
use serin_bus::{Bus, Delivery};
use serin_sdk::{Options, Serin};
use serin_wire::{Number, batch};

use folder::Folder;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Folder {
    pub(crate) fn spill(&self) -> std::path::PathBuf {
        self.0.path().join("spill")
    }

    pub(crate) fn options(&self, bus: &Bus) -> Options {
        Options {
            version: "v3".into(),
            instance: "cart-v3-1".into(),
            spill_dir: Some(self.spill()),
            ..Options::new(bus.url(), "cart")
        }
    }

    /// Options of a run that is given up soon and leaves its events in the spill folder.
    pub(crate) fn options_of_short_run(&self, bus: &Bus) -> Options {
        Options {
            drain_deadline: Duration::from_millis(100),
            ..self.options(bus)
        }
    }
}

/// An event as it was found in the stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) time_us: i64,
    pub(crate) trace: Option<String>,
    pub(crate) arm: Option<String>,
    pub(crate) data: serde_json::Value,
    pub(crate) message: Number,
}

/// Every event in the stream, in the stream's order.
pub(crate) async fn stream(bus: &Bus) -> Vec<Found> {
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
pub(crate) fn check_all(found: &[Found], count: u64) {
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

pub(crate) fn emit_numbers(serin: &Serin, numbers: std::ops::Range<u64>) {
    for n in numbers {
        serin.emit(
            "order.paid",
            &json!({"n": n, "text": "some more bytes for the batch"}),
        );
    }
}

pub(crate) async fn flush(serin: &Serin) {
    let flushed = tokio::time::timeout(PATIENCE, serin.flush()).await;
    assert_eq!(flushed, Ok(true), "not flushed: {:?}", serin.counts());
}

/// The server's process, once it is up.
pub(crate) async fn server(bus: &Bus) -> Pid {
    loop {
        let health = bus.health().await;
        if health.has_jetstream {
            let id = health.pid.expect("a server of our own");
            return Pid::from_raw(i32::try_from(id).expect("a pid")).expect("not 0");
        }
    }
}

pub(crate) async fn wait_for(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it becomes so in time");
}

pub(crate) fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
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

pub(crate) fn has_segments(folder: &Path) -> bool {
    !segments(folder).is_empty()
}

pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let bytes = |path: &std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    segments(folder).iter().map(bytes).sum()
}
