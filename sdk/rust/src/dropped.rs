//! Counts of what was not taken, by reason. Nothing is dropped without being counted here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an event, a span, a request or a call was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The queue in memory is full and there is no spill folder.
    QueueFull,
    /// The queue in memory and the spill folder are full.
    SpillFull,
    /// The data are not a JSON object.
    NotAnObject,
    /// The data cannot be written as JSON.
    NotJson,
    /// The event is larger than the bus takes.
    TooLarge,
    /// The event type breaks the rules of names.
    BadType,
    /// It came after the drain.
    Drained,
    /// The spill folder did not give it back.
    SpillLost,
    /// At the end it was neither acknowledged nor on disk.
    Abandoned,
    /// There were more spans than fit between two sendings.
    SpanFull,
    /// The bus did not get it in time.
    SpanLost,
    /// The span was not among those that are kept under load.
    SpanSampled,
    /// There were more requests to tell than fit between two sendings; they are still counted.
    RequestFull,
    /// The bus did not get the telling of this request in time; it is still counted.
    RequestLost,
    /// A call came faster than this process took them; nobody answers it.
    CallFull,
}

const REASONS: [Reason; 15] = [
    Reason::QueueFull,
    Reason::SpillFull,
    Reason::NotAnObject,
    Reason::NotJson,
    Reason::TooLarge,
    Reason::BadType,
    Reason::Drained,
    Reason::SpillLost,
    Reason::Abandoned,
    Reason::SpanFull,
    Reason::SpanLost,
    Reason::SpanSampled,
    Reason::RequestFull,
    Reason::RequestLost,
    Reason::CallFull,
];

impl Reason {
    /// Its name in beats.
    pub fn name(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue-full",
            Reason::SpillFull => "spill-full",
            Reason::NotAnObject => "not-an-object",
            Reason::NotJson => "not-json",
            Reason::TooLarge => "too-large",
            Reason::BadType => "bad-type",
            Reason::Drained => "drained",
            Reason::SpillLost => "spill-lost",
            Reason::Abandoned => "abandoned",
            Reason::SpanFull => "span-full",
            Reason::SpanLost => "span-lost",
            Reason::SpanSampled => "span-sampled",
            Reason::RequestFull => "request-full",
            Reason::RequestLost => "request-lost",
            Reason::CallFull => "call-full",
        }
    }
}

/// One counter per reason.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    counts: [AtomicU64; REASONS.len()],
}

impl Dropped {
    /// Counts one; whether it is the first for this reason, which is worth a line in the log.
    pub(crate) fn count(&self, reason: Reason) -> bool {
        self.add(reason, 1) == 0
    }

    /// Counts some; how many there were before.
    pub(crate) fn add(&self, reason: Reason, count: u64) -> u64 {
        self.counts[reason as usize].fetch_add(count, Ordering::Relaxed)
    }

    /// The reasons that occurred.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        REASONS
            .iter()
            .map(|&reason| (reason, self.counts[reason as usize].load(Ordering::Relaxed)))
            .filter(|&(_, count)| count > 0)
            .map(|(reason, count)| (reason.name().to_owned(), count))
            .collect()
    }
}
