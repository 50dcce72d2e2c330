//! The queue between `emit` and the sender: one open batch, then sealed batches with their numbers.
//!
//! `emit` appends under a short lock and never waits. An event is refused, and counted, before it
//! enters; once it is in a numbered batch it is never dropped, so that a producer's numbers have no
//! holes. Times are given out here too, since "sealed up to" must agree with them. No IO, no clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serin_wire::batch::{BatchWriter, Head, Id};
use serin_wire::event::Trace;
use serin_wire::name;
use serin_wire::time::Micros;
use tokio::sync::{Notify, watch};

use crate::dropped::{Dropped, Reason};
use crate::id::Ulids;

/// A batch is sealed at this size: the bus syncs to disk per message, and reaches most of the disk's
/// speed at 100 KB.
pub(crate) const SEAL_BYTES: usize = 128 << 10;
/// Largest event. With an open batch before it, it stays below NATS's default of 1 MiB per message.
pub(crate) const EVENT_BYTES_MAX: usize = 512 << 10;
/// A clock set back by less than this is bridged by standing still; by more, we go back with it.
const STEP_BACK_US: Micros = 1_000_000;

/// A sealed batch: one message, with its number.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) events: u32,
    /// Every event emitted with a time up to this is in this batch or an earlier one.
    pub(crate) sealed_us: Micros,
    pub(crate) payload: Bytes,
}

/// "Acknowledged up to this number; complete up to this time."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) time_us: Micros,
}

/// One event before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: &'a str,
    pub(crate) data: &'a [u8],
    pub(crate) trace: Option<Trace>,
    pub(crate) arm: Option<&'a str>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    open: Mutex<Open>,
    /// Told when there is something new for the sender.
    pub(crate) wake: Notify,
    pub(crate) dropped: Dropped,
    /// The last number acknowledged without a hole before it.
    acked: watch::Sender<u64>,
    /// Bytes of sealed batches that are in memory and not acknowledged.
    held_bytes: AtomicUsize,
    bytes_max: usize,
    emitted: AtomicU64,
    acknowledged: AtomicU64,
    lost: AtomicU64,
    is_spill_full: AtomicBool,
    emits_own_types: bool,
}

#[derive(Debug)]
struct Open {
    writer: BatchWriter,
    ulids: Ulids,
    /// The number of the open batch.
    number: u64,
    /// Times given from now on are not before this, unless the clock was set back a lot.
    floor_us: Micros,
    sealed: VecDeque<Batch>,
    mark: Mark,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(
        writer: BatchWriter,
        ulids: Ulids,
        now_us: Micros,
        bytes_max: usize,
        emits_own_types: bool,
    ) -> Queue {
        let open = Open {
            writer,
            ulids,
            number: 1,
            floor_us: now_us,
            sealed: VecDeque::new(),
            mark: Mark {
                number: 0,
                time_us: now_us - 1,
            },
            is_closed: false,
        };
        Queue {
            open: Mutex::new(open),
            wake: Notify::new(),
            dropped: Dropped::default(),
            acked: watch::Sender::new(0),
            held_bytes: AtomicUsize::new(0),
            bytes_max,
            emitted: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_spill_full: AtomicBool::new(false),
            emits_own_types,
        }
    }

    /// Appends an event, or says why not. `now` is called under the lock, so that times are in order.
    pub(crate) fn push(
        &self,
        entry: &Entry<'_>,
        now: impl FnOnce() -> Micros,
    ) -> Result<(), Reason> {
        let is_named = if self.emits_own_types {
            name::check_any_type(entry.kind)
        } else {
            name::check_type(entry.kind)
        };
        is_named.map_err(|_| Reason::BadType)?;
        if entry.data.len() > EVENT_BYTES_MAX {
            return Err(Reason::TooLarge);
        }
        let mut open = self.lock();
        if open.is_closed {
            return Err(Reason::Drained);
        }
        let held = self.held_bytes.load(Ordering::Relaxed) + open.writer.len();
        if held + entry.data.len() > self.bytes_max {
            let is_spill_full = self.is_spill_full.load(Ordering::Relaxed);
            return Err(if is_spill_full {
                Reason::SpillFull
            } else {
                Reason::QueueFull
            });
        }
        let now_us = now();
        let mut is_news = open.writer.is_empty();
        if !is_news && open.writer.len() + entry.data.len() > SEAL_BYTES {
            self.seal_open(&mut open, now_us);
            is_news = true;
        }
        let head = Head {
            id: Id::Ulid(open.ulids.next(now_us)),
            kind: entry.kind,
            service: None,
            time_us: open.time(now_us),
            trace: entry.trace,
            arm: entry.arm,
        };
        open.writer.push(&head, entry.data);
        // Counted under the lock, so that an acknowledgement never overtakes it.
        self.emitted.fetch_add(1, Ordering::Relaxed);
        drop(open);
        if is_news {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The number of the open batch, if an event is in it.
    pub(crate) fn open_number(&self) -> Option<u64> {
        let open = self.lock();
        (!open.writer.is_empty()).then_some(open.number)
    }

    /// Seals the open batch, if an event is in it; the last number that is sealed.
    pub(crate) fn seal(&self, now_us: Micros) -> u64 {
        let mut open = self.lock();
        if !open.writer.is_empty() {
            self.seal_open(&mut open, now_us);
        }
        open.number - 1
    }

    fn seal_open(&self, open: &mut Open, now_us: Micros) {
        let events = open.writer.events();
        let payload = Bytes::from(open.writer.take());
        self.held_bytes.fetch_add(payload.len(), Ordering::Relaxed);
        let batch = Batch {
            number: open.number,
            events,
            sealed_us: open.promise(now_us),
            payload,
        };
        open.number += 1;
        open.sealed.push_back(batch);
    }

    /// The oldest sealed batch; its bytes stay counted until [`Queue::release`].
    pub(crate) fn pop(&self) -> Option<Batch> {
        self.lock().sealed.pop_front()
    }

    /// Puts back what [`Queue::pop`] gave.
    pub(crate) fn put_back(&self, batch: Batch) {
        self.lock().sealed.push_front(batch);
    }

    /// A batch left memory, for the disk or because it was acknowledged.
    pub(crate) fn release(&self, batch: &Batch) {
        self.held_bytes
            .fetch_sub(batch.payload.len(), Ordering::Relaxed);
    }

    /// Whether half of the memory is taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    pub(crate) fn set_spill_full(&self, is_full: bool) {
        self.is_spill_full.store(is_full, Ordering::Relaxed);
    }

    /// The bus has this batch and all before it.
    pub(crate) fn acknowledge(&self, batch: &Batch) {
        self.lock().mark = Mark {
            number: batch.number,
            time_us: batch.sealed_us,
        };
        self.acknowledged
            .fetch_add(batch.events.into(), Ordering::Relaxed);
        self.acked.send_replace(batch.number);
    }

    /// Events that were taken are lost: a message without them goes under their number.
    pub(crate) fn lose(&self, events: u32) {
        self.lost.fetch_add(events.into(), Ordering::Relaxed);
    }

    /// Up to when everything emitted is acknowledged. With nothing under way that is this moment,
    /// and no later event will get an earlier time.
    pub(crate) fn mark(&self, now_us: Micros) -> Mark {
        let mut open = self.lock();
        if open.writer.is_empty() && open.mark.number + 1 == open.number {
            open.mark.time_us = open.promise(now_us);
        }
        open.mark
    }

    /// Follows the last number acknowledged without a hole.
    pub(crate) fn acked(&self) -> watch::Receiver<u64> {
        self.acked.subscribe()
    }

    /// Refuses all further events.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Events taken since the start.
    pub(crate) fn emitted(&self) -> u64 {
        self.emitted.load(Ordering::Relaxed)
    }

    /// Events the bus has.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Events that were taken and neither reached the bus nor are lost.
    pub(crate) fn pending(&self) -> u64 {
        let settled = self.acknowledged() + self.lost.load(Ordering::Relaxed);
        self.emitted().saturating_sub(settled)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn time(&self, now_us: Micros) -> Micros {
        if self.floor_us - now_us <= STEP_BACK_US {
            now_us.max(self.floor_us)
        } else {
            now_us
        }
    }

    /// The time before which no later event will be; "up to" is inclusive, hence one less.
    fn promise(&mut self, now_us: Micros) -> Micros {
        self.floor_us = self.time(now_us);
        self.floor_us - 1
    }
}

#[cfg(test)]
mod tests {
    use serin_wire::batch;

    use super::*;

    fn queue(bytes_max: usize) -> Queue {
        let writer = BatchWriter::new("cart", "v1", "cart-v1-1", 0);
        Queue::new(writer, Ulids::new([1, 2]), 1_000, bytes_max, false)
    }

    fn entry<'a>(kind: &'a str, data: &'a [u8]) -> Entry<'a> {
        Entry {
            kind,
            data,
            trace: None,
            arm: None,
        }
    }

    #[test]
    fn no_event_is_at_or_before_a_sealed_time() {
        let queue = queue(1 << 20);
        let mut sealed_us = Micros::MIN;
        // The clock stands still, goes back a little, and on.
        for now_us in [2_000, 2_000, 1_500, 2_001, 2_001, 9_000] {
            queue
                .push(&entry("a", b"{}"), || now_us)
                .expect("there is room");
            queue.seal(now_us);
            let sealed = queue.pop().expect("one batch");
            let event = batch::read(&sealed.payload).expect("own batch").next();
            let event = event.expect("one event").expect("own event");
            assert!(event.time_us > sealed_us, "{now_us}");
            assert!(event.time_us <= sealed.sealed_us + 1, "{now_us}");
            sealed_us = sealed.sealed_us;
            queue.acknowledge(&sealed);
            assert_eq!(queue.mark(now_us).number, sealed.number);
            sealed_us = sealed_us.max(queue.mark(now_us).time_us);
        }
    }

    #[test]
    fn the_mark_waits_for_what_is_under_way() {
        let queue = queue(1 << 20);
        assert_eq!(
            queue.mark(5_000),
            Mark {
                number: 0,
                time_us: 4_999
            }
        );
        queue
            .push(&entry("a", b"{}"), || 6_000)
            .expect("there is room");
        assert_eq!(
            queue.mark(7_000),
            Mark {
                number: 0,
                time_us: 4_999
            }
        );
        queue.seal(8_000);
        assert_eq!(
            queue.mark(9_000),
            Mark {
                number: 0,
                time_us: 4_999
            }
        );
        let batch = queue.pop().expect("sealed");
        queue
            .push(&entry("a", b"{}"), || 9_500)
            .expect("there is room");
        queue.acknowledge(&batch);
        assert_eq!(
            queue.mark(10_000),
            Mark {
                number: 1,
                time_us: 7_999
            }
        );
    }

    #[test]
    fn a_clock_set_back_far_is_followed() {
        let queue = queue(1 << 20);
        assert_eq!(queue.mark(90_000_000).time_us, 89_999_999);
        queue
            .push(&entry("a", b"{}"), || 5_000)
            .expect("there is room");
        queue.seal(5_000);
        assert_eq!(queue.pop().map(|batch| batch.sealed_us), Some(4_999));
    }

    #[test]
    fn what_is_refused_leaves_no_hole() {
        let queue = queue(300 << 10);
        let large = vec![b' '; 100 << 10];
        assert_eq!(
            queue.push(&entry("no good", b"{}"), || 0),
            Err(Reason::BadType)
        );
        assert_eq!(
            queue.push(&entry("serin.decision", b"{}"), || 0),
            Err(Reason::BadType)
        );
        let huge = vec![b' '; EVENT_BYTES_MAX + 1];
        assert_eq!(queue.push(&entry("a", &huge), || 0), Err(Reason::TooLarge));
        let taken = (0..9)
            .filter(|_| queue.push(&entry("a", &large), || 0).is_ok())
            .count();
        assert_eq!(taken, 2);
        assert_eq!(queue.seal(0), 2);
        let numbers: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|batch| batch.number)
            .collect();
        assert_eq!(numbers, [1, 2]);
        queue.close();
        assert_eq!(queue.push(&entry("a", b"{}"), || 0), Err(Reason::Drained));
    }
}
