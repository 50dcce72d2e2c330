//! What became of a service's events so far.

use std::collections::BTreeMap;

use crate::queue::Queue;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Events taken by `emit`.
    pub emitted: u64,
    /// Of these, events the bus has on disk.
    pub acknowledged: u64,
    /// Events not taken, by reason (the names of [`crate::Reason`]).
    pub dropped: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn of(queue: &Queue) -> Counts {
        let acknowledged = queue.acknowledged();
        Counts {
            emitted: queue.emitted(),
            acknowledged,
            dropped: queue.dropped.by_reason(),
        }
    }
}
