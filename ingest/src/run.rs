//! The loop: takes what the readers hand over, fills the buffer, flushes, purges.
//!
//! One task owns the pipeline. While a flush is being committed it goes on filling the next buffer,
//! up to the memory limit; beyond it nothing is pulled (of telemetry from a little earlier on), the bus fills, and in the end refuses new
//! events rather than losing any. After a commit the stream is purged up to the position; its own
//! acknowledgement floor is never asked. Start at [`Loop::run`].

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serin_bus::{BusError, Delivery, EventStream, Message};
use serin_lake::{CommitError, Committed, Gap, Lake, Position};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::decode::Incoming;
use crate::door::Post;
use crate::flush::{commit, is_due};
use crate::heard::Heard;
use crate::ingest::IngestError;
use crate::lineage::alarm;
use crate::options::{Edge, IngestOptions};
use crate::pipeline::{Pipeline, Shared};
use crate::reader::Reader;
use crate::stats::add;

/// How often time is sealed and ages are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between looks at the lag, the rate and the door's holes.
const TICKS_PER_LOOK: u64 = 4;
/// As many while nothing moves: who asks wakes the bus too.
const STILL_TICKS_PER_LOOK: u64 = 20;

/// The part of the buffer's memory beyond which no telemetry is taken, so that events still are while
/// the other half is flushed.
const TELEMETRY_PARTS: [usize; 2] = [3, 4];

/// Somebody waits for a flush.
#[derive(Debug)]
pub(crate) struct Request {
    /// Messages up to this have to be in it.
    pub(crate) at_least: u64,
    pub(crate) done: oneshot::Sender<Position>,
}

/// How far the loop has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) taken: Position,
    pub(crate) committed: Position,
}

/// What the buffer has room for.
#[derive(Debug, Clone, Copy)]
struct Room {
    events: bool,
    telemetry: bool,
}

/// What comes next.
enum Next {
    Event(Delivery),
    Telemetry(Delivery),
}

type Committing = JoinHandle<Result<Committed, CommitError>>;

/// What the task that reads the bus owns.
pub(crate) struct Loop {
    pub(crate) pipeline: Pipeline,
    pub(crate) lake: Lake,
    pub(crate) shared: Arc<Shared>,
    pub(crate) door: Arc<Post>,
    pub(crate) events: EventStream,
    pub(crate) options: IngestOptions,
    pub(crate) edge: Edge,
    pub(crate) committed: Position,
    pub(crate) waiting: Vec<Request>,
    pub(crate) committing: Option<Committing>,
    pub(crate) purging: Option<JoinHandle<()>>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    /// The last message of the stream's life that an earlier run heard of; 0 once it was compared.
    pub(crate) heard_before: u64,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) ticks: u64,
    pub(crate) events_before: u64,
    /// How far we were when something last moved, and at which tick.
    pub(crate) moved: (Progress, u64),
}

impl Loop {
    pub(crate) async fn run(
        &mut self,
        mut messages: Reader,
        mut beats: Reader,
        mut requested: mpsc::Receiver<Request>,
    ) -> Result<(), IngestError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = self.stopping.clone();
        loop {
            let room = self.room();
            tokio::select! {
                biased;
                () = asked_to_stop(&mut stopping) => break,
                Some(request) = requested.recv() => self.waiting.push(request),
                committed = ended(&mut self.committing) => self.after_commit(committed)?,
                _ = tick.tick() => self.tick().await,
                next = next_of(&mut messages, &mut beats, room) => match next {
                    Ok(Next::Event(delivery)) => self.take(delivery),
                    Ok(Next::Telemetry(delivery)) => self.take_telemetry(delivery),
                    Err(IngestError::Bus(error)) if matches!(*error, BusError::StreamChanged { .. }) => {
                        tracing::warn!(error = &*error as &dyn std::error::Error, "looking where to go on");
                        messages = Reader::of_events(self.changed().await?);
                    }
                    Err(error) => return Err(error),
                },
            }
            self.flush_if_due();
        }
        self.settle().await?;
        if let Some(purging) = self.purging.take()
            && let Err(error) = purging.await
        {
            tracing::warn!(%error, "the last purge broke");
        }
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        let now_us = self.edge.now_us();
        match delivery {
            Delivery::Message(message) => {
                with_incoming(&message, |incoming| self.pipeline.take(incoming, now_us));
            }
            Delivery::Gap { first, last } => {
                let incarnation = self.pipeline.taken().incarnation;
                let reason = "purged";
                alarm(&self.shared, reason, first, last);
                let gap = Gap {
                    incarnation,
                    first,
                    last,
                    reason,
                };
                self.pipeline.gap(gap, now_us);
            }
        }
        self.tell();
    }

    fn take_telemetry(&mut self, delivery: Delivery) {
        let now_us = self.edge.now_us();
        match delivery {
            Delivery::Message(message) => {
                self.pipeline
                    .take_telemetry(&message.subject, &message.payload, now_us);
                let taken = &self.shared.counters.telemetry_taken;
                taken.store(message.sequence, Relaxed);
            }
            // Its stream drops the oldest while we do not read: counted, and gone.
            Delivery::Gap { first, last } => {
                let lost = (last + 1).saturating_sub(first);
                add(&self.shared.counters.telemetry_lost, lost);
            }
        }
    }

    fn room(&self) -> Room {
        let total = self.shared.buffer.hold().fill().total;
        let bytes_max = self.options.memory_bytes_max;
        Room {
            events: total < bytes_max,
            telemetry: total < bytes_max / TELEMETRY_PARTS[1] * TELEMETRY_PARTS[0],
        }
    }

    pub(crate) fn tell(&self) {
        self.progress.send_replace(Progress {
            taken: self.pipeline.taken(),
            committed: self.committed,
        });
    }

    async fn tick(&mut self) {
        let now_us = self.edge.now_us();
        self.ticks += 1;
        self.pipeline.hear_seal(&self.door.sealed(), now_us);
        self.pipeline.seal(now_us);
        if !self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            return;
        }
        let counters = &self.shared.counters;
        let events = counters.read().events;
        let rate =
            (events - self.events_before) as f64 / (TICK.as_secs_f64() * TICKS_PER_LOOK as f64);
        self.events_before = events;
        counters.rate_milli.store((rate * 1000.0) as u64, Relaxed);
        let purge = self.purging.take_if(|purging| purging.is_finished());
        if let Some(purging) = purge
            && let Err(error) = purging.await
        {
            tracing::warn!(%error, "a purge broke");
        }
        if self.purging.is_none() && self.is_look_due() {
            self.look();
        }
    }

    /// Whether something moved a moment ago; else only every few seconds. A hole is closed at once.
    fn is_look_due(&mut self) -> bool {
        let progress = *self.progress.borrow();
        if progress != self.moved.0 {
            self.moved = (progress, self.ticks);
        }
        self.ticks - self.moved.1 <= STILL_TICKS_PER_LOOK
            || self.ticks.is_multiple_of(STILL_TICKS_PER_LOOK)
            || self.door.has_holes()
    }

    /// Asks for the lag, closes the door's holes and purges, beside the loop.
    fn look(&mut self) {
        let (events, door) = (self.events.clone(), Arc::clone(&self.door));
        let shared = Arc::clone(&self.shared);
        let (taken, committed) = (self.pipeline.taken(), self.committed);
        let heard = Arc::clone(&self.heard);
        self.purging = Some(tokio::spawn(async move {
            door.fill_holes().await;
            let Ok(state) = events.state().await else {
                return;
            };
            let is_same = state.incarnation == committed.incarnation.to_string();
            let lag = state.last.saturating_sub(taken.sequence);
            shared.counters.lag_messages.store(lag, Relaxed);
            if is_same {
                let before = shared.counters.last_heard.fetch_max(state.last, Relaxed);
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.keep(Position {
                    incarnation: committed.incarnation,
                    sequence: before,
                });
            }
            // The message at the position stays: it is the witness that the stream is still ours.
            // Where room is short it goes too; the next commit leaves another one.
            let is_short = state.bytes > state.bytes_max / 2;
            let to = committed.sequence.saturating_sub(u64::from(!is_short));
            if is_same
                && state.first <= to
                && let Err(error) = events.purge_to(to).await
            {
                tracing::debug!(%error, "cannot purge the bus yet");
            }
        }));
    }

    fn flush_if_due(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let now_us = self.edge.now_us();
        let taken = self.pipeline.taken().sequence;
        let is_asked = self.waiting.iter().any(|request| request.at_least <= taken);
        let fill = self.shared.buffer.hold().fill();
        if is_asked || is_due(fill, self.pipeline.since_us(), &self.options, now_us) {
            self.begin_flush(now_us);
        }
    }

    fn begin_flush(&mut self, now_us: i64) {
        match self.pipeline.cut(now_us) {
            None => self.answer(),
            Some(flush) => {
                let (lake, shared) = (self.lake.clone(), Arc::clone(&self.shared));
                let stopping = self.stopping.clone();
                self.committing = Some(tokio::spawn(async move {
                    commit(lake, flush, &shared.counters, stopping).await
                }));
            }
        }
    }

    fn after_commit(&mut self, result: Result<Committed, CommitError>) -> Result<(), IngestError> {
        self.committing = None;
        let committed = result.map_err(|error| IngestError::Commit(Arc::new(error)))?;
        self.committed = committed.position;
        tracing::debug!(
            rows = committed.rows,
            bytes = committed.bytes,
            sequence = committed.position.sequence,
            "committed"
        );
        self.tell();
        self.answer();
        if self.purging.is_none() {
            self.look();
        }
        Ok(())
    }

    /// Answers those whose messages are committed.
    fn answer(&mut self) {
        let committed = self.committed;
        for request in self
            .waiting
            .extract_if(.., |request| request.at_least <= committed.sequence)
        {
            if request.done.send(committed).is_err() {
                tracing::debug!("who asked for a flush has gone");
            }
        }
    }

    /// Commits everything that was taken.
    pub(crate) async fn settle(&mut self) -> Result<(), IngestError> {
        if self.committing.is_some() {
            let committed = ended(&mut self.committing).await;
            self.after_commit(committed)?;
        }
        self.begin_flush(self.edge.now_us());
        if self.committing.is_some() {
            let committed = ended(&mut self.committing).await;
            self.after_commit(committed)?;
        }
        Ok(())
    }
}

/// The next delivery that there is room for, of both streams alike: neither starves the other.
async fn next_of(
    messages: &mut Reader,
    telemetry: &mut Reader,
    room: Room,
) -> Result<Next, IngestError> {
    tokio::select! {
        delivery = messages.next(), if room.events => Ok(Next::Event(delivery?)),
        delivery = telemetry.next(), if room.telemetry => Ok(Next::Telemetry(delivery?)),
        // Until a commit makes room.
        () = std::future::pending(), if !room.events && !room.telemetry => Err(IngestError::Ended),
    }
}

/// Waits until somebody asks for the end, or nobody is left who could.
async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    let end = stopping.wait_for(|stop| *stop).await;
    drop(end);
}

/// Waits for the commit under way; for ever where there is none.
async fn ended(committing: &mut Option<Committing>) -> Result<Committed, CommitError> {
    match committing {
        None => std::future::pending().await,
        Some(task) => match task.await {
            Ok(result) => result,
            Err(panic) => Err(CommitError::Durability {
                number: 0,
                source: panic.into(),
            }),
        },
    }
}

fn with_incoming(message: &Message, take: impl FnOnce(&Incoming<'_>)) {
    let headers: Vec<(&str, &str)> = message.headers().collect();
    take(&Incoming {
        sequence: message.sequence,
        taken_us: message.taken_us,
        subject: &message.subject,
        headers: &headers,
        payload: &message.payload,
    });
}
