//! What the handle, the sender and the beats share for one connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serin_wire::batch::BatchWriter;
use serin_wire::time::Micros;
use serin_wire::{Histogram, ProducerId, Request, State, subject};
use tokio::sync::Notify;

use crate::clock;
use crate::dropped::Reason;
use crate::id::{Random, Ulids};
use crate::lines::{Lines, Pushed};
use crate::options::Options;
use crate::queue::{Batch, Queue};
use crate::span::Spans;
use crate::trouble::Trouble;

type Gauge = Box<dyn Fn() -> f64 + Send + Sync>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) producer: ProducerId,
    pub(crate) queue: Queue,
    pub(crate) spans: Spans,
    /// Rows of `requests` that wait for the sender.
    pub(crate) told: Lines,
    pub(crate) requests: Requests,
    pub(crate) gauges: Gauges,
    pub(crate) started_us: Micros,
    state: AtomicU8,
    /// Told when the state changed or the bus was found, so that a beat says so at once.
    pub(crate) beat_now: Notify,
    /// Counts up with each connection of the sender, so that it knows which sendings died with one.
    pub(crate) connections: AtomicU64,
    pub(crate) trouble: Trouble,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Shared {
        let started_us = clock::now_us();
        let mut random = Random::new(clock::random_u64());
        let name = u128::from(random.next()) << 64 | u128::from(clock::random_u64());
        let writer = BatchWriter::new(&options.service, &options.version, &options.instance, 0);
        let queue = Queue::new(
            writer,
            Ulids::new([random.next(), clock::random_u64()]),
            started_us,
            options.queue_bytes_max,
            options.emits_own_types,
        );
        Shared {
            producer: ProducerId {
                producer: format!("{}-{name:032x}", options.service),
                epoch: 0,
            },
            queue,
            spans: Spans::new(clock::monotonic()),
            told: Lines::default(),
            requests: Requests::default(),
            gauges: Gauges::default(),
            started_us,
            state: AtomicU8::new(State::Ready as u8),
            beat_now: Notify::new(),
            connections: AtomicU64::new(0),
            trouble: Trouble::default(),
            options,
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        let before = self.state.swap(state as u8, Ordering::Relaxed);
        if before != state as u8 {
            self.beat_now.notify_one();
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            state if state == State::Starting as u8 => State::Starting,
            state if state == State::Ready as u8 => State::Ready,
            _ => State::Draining,
        }
    }

    /// The subject of this instance under one of the telemetry prefixes of `wire`.
    pub(crate) fn subject(&self, of: fn(&str, &str, &str) -> String) -> String {
        let options = &self.options;
        of(&options.service, &options.version, &options.instance)
    }

    pub(crate) fn batch_subject(&self) -> String {
        subject::batch(&self.options.service)
    }

    /// Tells a request, or counts that there was no room.
    pub(crate) fn tell_request(&self, row: &Request<'_>) {
        match self.told.push(row) {
            Pushed::News => self.queue.wake.notify_one(),
            Pushed::Joined => {}
            Pushed::Full => {
                self.queue.dropped.count(Reason::RequestFull);
            }
        }
    }

    /// A message without events in place of one that is lost: its number must not be missing.
    pub(crate) fn emptied(&self, lost: &Batch, reason: Reason) -> Batch {
        let options = &self.options;
        self.queue.dropped.add(reason, lost.events.into());
        tracing::error!(
            events = lost.events,
            reason = reason.name(),
            "events are lost"
        );
        let mut writer = BatchWriter::new(&options.service, &options.version, &options.instance, 0);
        Batch {
            payload: Bytes::from(writer.take()),
            events: 0,
            ..*lost
        }
    }
}

/// Requests being handled, and those finished since the last beat.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    in_flight: AtomicU64,
    finished: Mutex<(Histogram, u64)>,
}

impl Requests {
    pub(crate) fn start(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self, took_us: u64, has_failed: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.0.record(took_us);
        finished.1 += u64::from(has_failed);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long requests took since the last call, and how many of them failed.
    pub(crate) fn take(&self) -> (Histogram, u64) {
        std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Functions of the service that are sampled with each beat.
#[derive(Default)]
pub(crate) struct Gauges {
    by_name: Mutex<BTreeMap<String, Gauge>>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Gauges {
    pub(crate) fn insert(&self, name: String, gauge: Gauge) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name, gauge);
    }

    /// Samples all. One that panics is left out from now on, since beats must go on.
    pub(crate) fn sample(&self) -> BTreeMap<String, f64> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = BTreeMap::new();
        by_name.retain(|name, gauge| {
            let sampled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(gauge));
            match sampled {
                Ok(value) if value.is_finite() => {
                    values.insert(name.clone(), value);
                }
                Ok(_) => {}
                Err(_) => tracing::error!(name, "a gauge panicked and is sampled no more"),
            }
            sampled.is_ok()
        });
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_panics_spoils_nothing() {
        let gauges = Gauges::default();
        gauges.insert("good".into(), Box::new(|| 3.0));
        gauges.insert("nan".into(), Box::new(|| f64::NAN));
        gauges.insert("bad".into(), Box::new(|| panic!("on purpose")));
        for _ in 0..2 {
            assert_eq!(gauges.sample(), BTreeMap::from([("good".to_owned(), 3.0)]));
        }
    }
}
