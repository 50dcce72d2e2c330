//! What the ingester counts, and how others see it.
//!
//! Counters are written by one task and read by any; each drop, refusal and repetition has its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serin_lake::Position;

use crate::refuse::Reason;
use crate::shape::Misfit;

/// How the ingester is at this moment. Counts are since the start of the process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IngestStats {
    /// Events taken.
    pub events: u64,
    /// Events taken a second, over the last seconds.
    pub rate: f64,
    /// Messages of the bus that are not taken yet, as last heard.
    pub lag_messages: u64,
    /// Events older than the watermark when they came.
    pub late: u64,
    /// Messages and events that were there already.
    pub duplicates: u64,
    /// Events refused, by reason; those of the doors too.
    pub refused: BTreeMap<&'static str, u64>,
    /// Of these, how many are not in the table `refused`, because there were too many of them.
    pub refused_not_kept: u64,
    /// Values that went to the column `_rest`, by reason.
    pub rest: BTreeMap<&'static str, u64>,
    /// Identities of clients forgotten within their 24 hours, because there were too many.
    pub identities_forgotten: u64,
    /// Producers forgotten before their time, because there were too many.
    pub producers_forgotten: u64,
    /// Messages of the bus that were lost.
    pub lost_messages: u64,
    /// How often the stream was wiped, replaced or lost its tail.
    pub lineages: u64,
    /// Beats, spans, logs and requests that could not be read.
    pub telemetry_bad: u64,
    /// Messages of telemetry that the bus dropped before they were read: too many, too fast.
    pub telemetry_lost: u64,
    /// Bytes of the hot buffer, in Arrow.
    pub buffer_bytes: u64,
    /// Flushes committed, and attempts that failed.
    pub flushes: u64,
    /// Attempts to commit that failed and were tried again.
    pub flush_failures: u64,
    /// Up to when the data are complete.
    pub watermark_us: Option<i64>,
    /// Up to where the bus was read.
    pub taken: Position,
    /// Up to where it is in files.
    pub committed: Position,
}

impl IngestStats {
    /// Every reason to refuse an event, with its count: one that never came up is a zero, so that whoever
    /// looks now and again sees the first one as an increase.
    pub fn refused_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Reason::ALL.iter().map(|(_, name)| *name);
        names.map(|name| (name, self.refused.get(name).copied().unwrap_or(0)))
    }

    /// Every reason for which a value goes to `_rest`, likewise.
    pub fn rest_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Misfit::ALL.iter().map(|(_, name)| *name);
        names.map(|name| (name, self.rest.get(name).copied().unwrap_or(0)))
    }
}

/// The counters behind [`IngestStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) rate_milli: AtomicU64,
    pub(crate) lag_messages: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) refused: [AtomicU64; Reason::ALL.len()],
    pub(crate) refused_not_kept: AtomicU64,
    pub(crate) lost_messages: AtomicU64,
    pub(crate) lineages: AtomicU64,
    pub(crate) telemetry_bad: AtomicU64,
    pub(crate) telemetry_lost: AtomicU64,
    /// The last message of telemetry that was taken.
    pub(crate) telemetry_taken: AtomicU64,
    /// The last message of this life of the stream that was heard of, taken or not.
    pub(crate) last_heard: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
}

impl Counters {
    /// Counts a refusal.
    pub(crate) fn refuse(&self, reason: Reason) {
        add(&self.refused[reason as usize], 1);
    }

    /// What the counters say; the rest is filled in by whoever holds it.
    pub(crate) fn read(&self) -> IngestStats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let refused = Reason::ALL.iter().map(|&(reason, name)| {
            let count = get(&self.refused[reason as usize]);
            (name, count)
        });
        IngestStats {
            events: get(&self.events),
            rate: get(&self.rate_milli) as f64 / 1000.0,
            lag_messages: get(&self.lag_messages),
            late: get(&self.late),
            duplicates: get(&self.duplicates),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            refused_not_kept: get(&self.refused_not_kept),
            lost_messages: get(&self.lost_messages),
            lineages: get(&self.lineages),
            telemetry_bad: get(&self.telemetry_bad),
            telemetry_lost: get(&self.telemetry_lost),
            flushes: get(&self.flushes),
            flush_failures: get(&self.flush_failures),
            ..IngestStats::default()
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
