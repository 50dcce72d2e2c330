//! The numbers under which a door's messages go, and the time it may seal.
//!
//! Numbers without holes: one whose message got no acknowledgement is kept as a hole until an empty
//! message under it was acknowledged, since using it for other events could lose them. Start at
//! [`OwnNumbers::begin`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serin_wire::{Number, ProducerId, Sealed};

/// The numbers of one producer.
#[derive(Debug)]
pub(crate) struct OwnNumbers {
    producer: ProducerId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The highest number given out.
    last: u64,
    under_way: BTreeSet<u64>,
    holes: BTreeSet<u64>,
    /// Bodies being handled, by ticket, with their time of arrival.
    visits: BTreeMap<u64, i64>,
    visited: u64,
}

/// A body being handled: events without a time get its time of arrival, so nothing later is sealed.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    numbers: &'a OwnNumbers,
    ticket: u64,
    pub(crate) arrived_us: i64,
}

/// A number under way; dropped without an acknowledgement it becomes a hole.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    numbers: &'a OwnNumbers,
    number: u64,
}

impl OwnNumbers {
    pub(crate) fn new(producer: String) -> OwnNumbers {
        OwnNumbers {
            producer: ProducerId { producer, epoch: 0 },
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, number: u64) -> Number {
        Number {
            producer: self.producer.clone(),
            number,
        }
    }

    /// A body arrived. The clock is read here, under the lock, so that no seal made meanwhile
    /// covers its time of arrival.
    pub(crate) fn visit(&self, clock: impl FnOnce() -> i64) -> Visit<'_> {
        let mut state = self.state();
        let arrived_us = clock();
        state.visited += 1;
        let ticket = state.visited;
        state.visits.insert(ticket, arrived_us);
        Visit {
            numbers: self,
            ticket,
            arrived_us,
        }
    }

    /// Gives out the next number.
    pub(crate) fn begin(&self) -> Ticket<'_> {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.under_way.insert(number);
        Ticket {
            numbers: self,
            number,
        }
    }

    /// The numbers to be sent again, empty.
    pub(crate) fn holes(&self) -> Vec<Number> {
        let holes: Vec<u64> = self.state().holes.iter().copied().collect();
        holes
            .into_iter()
            .map(|number| self.number(number))
            .collect()
    }

    /// A hole was closed.
    pub(crate) fn filled(&self, number: u64) {
        self.state().holes.remove(&number);
    }

    /// The time before the oldest body at hand, or before now where there is none, once all numbers
    /// given out are taken: those under way and the holes too, since a later one may already hold
    /// events of that time.
    pub(crate) fn sealed(&self, clock: impl FnOnce() -> i64) -> Sealed {
        let state = self.state();
        let now_us = clock();
        let oldest_us = state.visits.values().min().copied().unwrap_or(now_us);
        Sealed {
            producer: self.producer.producer.clone(),
            epoch: self.producer.epoch,
            number: state.last,
            time_us: oldest_us.min(now_us) - 1,
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.numbers.state().visits.remove(&self.ticket);
    }
}

impl Ticket<'_> {
    pub(crate) fn number(&self) -> Number {
        self.numbers.number(self.number)
    }

    /// The bus has the message.
    pub(crate) fn acknowledged(self) {
        self.numbers.state().under_way.remove(&self.number);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.numbers.state();
        if state.under_way.remove(&self.number) {
            state.holes.insert(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_stays_before_what_is_open() {
        let numbers = OwnNumbers::new(String::from("door"));
        let sealed = |now_us| {
            let sealed = numbers.sealed(|| now_us);
            (sealed.number, sealed.time_us)
        };
        // A body may still arrive within this microsecond.
        assert_eq!(sealed(100), (0, 99));
        let visit = numbers.visit(|| 100);
        let first = numbers.begin();
        numbers.begin().acknowledged();
        assert_eq!(sealed(200), (2, 99));
        drop(first);
        assert_eq!(numbers.holes(), [numbers.number(1)]);
        drop(visit);
        assert_eq!(sealed(300), (2, 299));
        numbers.filled(1);
        assert!(numbers.holes().is_empty());
    }
}
