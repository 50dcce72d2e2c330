//! Whose turn it is: so many at a time, a bounded number of others wait.
//!
//! Who comes when the queue is full is turned away at once. Start at [`Turns::take`].

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns, and how many wait for one.
#[derive(Debug)]
pub(crate) struct Turns {
    turns: Semaphore,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// A place in the queue.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(crate) fn new(at_once: usize, waiting_max: usize) -> Turns {
        Turns {
            turns: Semaphore::new(at_once.max(1)),
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// A turn, as long as it is held; `None` where too many wait for one already.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _queued = Queued(&self.waiting);
        if before >= self.waiting_max {
            return None;
        }
        self.turns.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let turns = Turns::new(1, 1);
        let first = turns.take().await;
        assert!(first.is_some());
        let mut second = Box::pin(turns.take());
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        assert!(turns.take().await.is_none(), "the queue is full");
        drop(first);
        assert!(second.await.is_some());
        // Who went away before his turn came leaves his place.
        let held = turns.take().await;
        let mut gone = Box::pin(turns.take());
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        assert!(turns.take().now_or_never().is_none(), "it waits");
        drop(held);
    }
}
