//! What became of a service's events so far.

use std::collections::BTreeMap;

use crate::shared::Shared;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Events taken by `emit`.
    pub emitted: u64,
    /// Of these, events the bus has on disk.
    pub acknowledged: u64,
    /// What was not taken or was lost, by reason (the names of [`crate::Reason`]).
    pub dropped: BTreeMap<String, u64>,
    /// What the bus has against us, until it takes us: wrong credentials, missing rights.
    pub bus_refusal: Option<String>,
}

impl Counts {
    pub(crate) fn of(shared: &Shared) -> Counts {
        let queue = &shared.queue;
        let acknowledged = queue.acknowledged();
        Counts {
            emitted: queue.emitted(),
            acknowledged,
            dropped: queue.dropped.by_reason(),
            bus_refusal: shared.trouble.now(),
        }
    }
}
