//! What the gateway counts of itself, for `/metrics` and `serin status`.
//!
//! [`GatewayStats`] is one reading of it; where a name has no `_total` it is a gauge.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Counters since the gateway was opened, and gauges of this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStats {
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections open now.
    pub connections: u64,
    /// Requests whose head was read.
    pub requests_total: u64,
    /// Requests under way now, until the end of their answer.
    pub requests: u64,
    /// Requests sent to another instance after the first did not run it or did not answer.
    pub retries_total: u64,
    /// Requests that waited for an instance to take them.
    pub waits_total: u64,
    /// Requests that got another version than theirs, since theirs had nobody to take them.
    pub strays_total: u64,
    /// Clients that left before the answer's end.
    pub abandoned_total: u64,
    /// Answers that broke off after they had begun.
    pub broken_total: u64,
    /// Of these, since the client took them too slowly.
    pub cut_answers_total: u64,
    /// Upgraded connections open now.
    pub tunnels: u64,
    /// Rows and spans of requests that were told.
    pub told_rows_total: u64,
    /// Rows and spans that were not told: too many at once, or the bus was away.
    pub dropped_rows_total: u64,
    /// Answers by class of status, 1xx to 5xx.
    pub answers_total: [u64; 5],
    /// Instances passed over now.
    pub instances_down: u64,
    /// Bytes of bodies held now.
    pub held_bytes: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: Counter,
    pub(crate) connections_open: Counter,
    pub(crate) requests: Counter,
    pub(crate) requests_open: Counter,
    pub(crate) retries: Counter,
    pub(crate) waits: Counter,
    pub(crate) strays: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) broken: Counter,
    pub(crate) cut_answers: Counter,
    pub(crate) tunnels: Counter,
    pub(crate) told_rows: Counter,
    pub(crate) dropped_rows: Counter,
    answers: [Counter; 5],
}

/// A number that many tasks change.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn rise(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn fall(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    /// A request was answered so.
    pub(crate) fn answer(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.rise();
        }
    }

    /// A reading of all that is counted here.
    pub(crate) fn read(&self) -> GatewayStats {
        GatewayStats {
            connections_total: self.connections.get(),
            connections: self.connections_open.get(),
            requests_total: self.requests.get(),
            requests: self.requests_open.get(),
            retries_total: self.retries.get(),
            waits_total: self.waits.get(),
            strays_total: self.strays.get(),
            abandoned_total: self.abandoned.get(),
            broken_total: self.broken.get(),
            cut_answers_total: self.cut_answers.get(),
            tunnels: self.tunnels.get(),
            told_rows_total: self.told_rows.get(),
            dropped_rows_total: self.dropped_rows.get(),
            answers_total: std::array::from_fn(|class| self.answers[class].get()),
            instances_down: 0,
            held_bytes: 0,
        }
    }
}
