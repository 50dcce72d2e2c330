//! Bytes of bodies that are held at one moment, all requests together.
//!
//! Whoever wants to hold some asks first; what was given comes back when [`Held`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    most: usize,
}

/// Bytes that may be held.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Budget> {
        Arc::new(Budget {
            held: AtomicUsize::new(0),
            most,
        })
    }

    /// `bytes` of it, or none where so much is not left.
    pub(crate) fn hold(self: &Arc<Budget>, bytes: usize) -> Option<Held> {
        let mut held = Held {
            budget: Arc::clone(self),
            bytes: 0,
        };
        held.grow(bytes).then_some(held)
    }

    /// Bytes held at this moment.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Holds `bytes` more; false where so much is not left.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        let is_within = before.saturating_add(bytes) <= self.budget.most;
        match is_within {
            true => self.bytes += bytes,
            false => drop(self.budget.held.fetch_sub(bytes, Ordering::Relaxed)),
        }
        is_within
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is() {
        let budget = Budget::new(10);
        let mut first = budget.hold(6).expect("there is room");
        assert!(budget.hold(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert_eq!(budget.held(), 10);
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
