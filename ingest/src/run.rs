//! The loop: reads the bus behind the committed position, fills the buffer, flushes, purges.
//!
//! One task owns the pipeline. While a flush is being committed it goes on filling the next buffer,
//! up to the memory limit; beyond it nothing is pulled, the bus fills, and in the end refuses new
//! events rather than losing any. After a commit the stream is purged up to the position; its own
//! acknowledgement floor is never asked. Start at [`Ingest::start`].

use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin_bus::{Bus, BusError, Delivery, EventStream, Message, Messages};
use serin_lake::{
    Accept, CommitError, Committed, Gap, Incarnation, Lake, LakeError, Position, Recovered,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::buffer::Buffer;
use crate::decode::Incoming;
use crate::door::Post;
use crate::flush::{commit, is_due};
use crate::options::{Edge, IngestOptions};
use crate::pipeline::{Identities, Pipeline, Shared};
use crate::producer::Producers;
use crate::resume::{Resume, compare};
use crate::seen::Seen;
use crate::stats::{Counters, IngestStats, add};

/// How often time is sealed and ages are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between looks at the lag, the rate and the door's holes.
const TICKS_PER_LOOK: u64 = 10;
/// Between two tries to reach a bus that is away.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Requests to flush that wait at the same time.
const REQUESTS_MAX: usize = 64;
/// Messages read ahead of the loop, beside the 16 MiB the bus has under way.
const AHEAD_MAX: usize = 16;

/// Why the ingester ended. The process must end too, and recover at its next start.
#[derive(Debug, Clone, Error)]
pub enum IngestError {
    /// The bus failed in a way that waiting does not mend.
    #[error("cannot read the bus")]
    Bus(#[source] Arc<BusError>),
    /// A flush cannot be committed.
    #[error("cannot commit what was read from the bus")]
    Commit(#[source] Arc<CommitError>),
    /// A new life of the stream cannot be recorded.
    #[error("cannot record a new lineage")]
    Lake(#[source] Arc<LakeError>),
    /// The task ended without a word.
    #[error("the ingester has ended")]
    Ended,
}

/// The running ingester.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
    door: Arc<Post>,
    events: EventStream,
    requests: mpsc::Sender<Request>,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<IngestError>>,
    task: JoinHandle<()>,
}

/// Somebody waits for a flush.
struct Request {
    /// Messages up to this have to be in it.
    at_least: u64,
    done: oneshot::Sender<Position>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    taken: Position,
    committed: Position,
}

impl Ingest {
    /// Compares the catalogue with the stream, plugs the hot buffer into the lake and begins to read.
    pub async fn start(
        lake: Lake,
        recovered: Recovered,
        bus: &Bus,
        options: IngestOptions,
        edge: Edge,
    ) -> Result<Ingest, IngestError> {
        let bus_error = |error| IngestError::Bus(Arc::new(error));
        let events = bus.events().await.map_err(bus_error)?;
        let telemetry = bus.telemetry().await.map_err(bus_error)?;
        let snapshot = lake.snapshot();
        let known = snapshot.tables.values();
        let known = known.map(|table| (&*table.name, &*table.columns));
        let buffer = Arc::new(Buffer::new(known));
        drop(snapshot);
        let shared = Arc::new(Shared {
            buffer: Arc::clone(&buffer),
            identities: Mutex::new(Identities {
                producers: Producers::from_marks(recovered.producers),
                seen: Seen::from_kept(recovered.seen, options.limits.seen_max),
            }),
            counters: Counters::default(),
            limits: options.limits.clone(),
        });
        lake.plug_fresh(buffer);
        let door = Arc::new(Post::new(events.clone(), Arc::clone(&shared), edge.clone()));
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let (progress_in, progress) = watch::channel(Progress::default());
        let (stop, stopping) = watch::channel(false);
        let (failed_in, failed) = watch::channel(None);
        let mut reader = Loop {
            pipeline: Pipeline::new(Arc::clone(&shared), recovered.position),
            committed: recovered.position,
            lake,
            shared: Arc::clone(&shared),
            door: Arc::clone(&door),
            events: events.clone(),
            options,
            edge,
            waiting: Vec::new(),
            committing: None,
            purging: None,
            progress: progress_in,
            stopping,
            ticks: 0,
            events_before: 0,
        };
        let messages = reader.resume().await?;
        let messages = Reader::of_events(messages);
        let beats = Reader::of_telemetry(telemetry);
        let task = tokio::spawn(async move {
            if let Err(error) = reader.run(messages, beats, requested).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the ingester has ended"
                );
                failed_in.send_replace(Some(error));
            }
        });
        Ok(Ingest {
            shared,
            door,
            events,
            requests,
            progress,
            stop,
            failed,
            task,
        })
    }

    /// What the doors hand events to.
    pub fn door(&self) -> Arc<dyn Accept> {
        Arc::clone(&self.door) as Arc<dyn Accept>
    }

    /// Commits everything the bus had acknowledged when this was called; how far the files reach.
    pub async fn flush(&self) -> Result<Position, IngestError> {
        let state = self.events.state().await;
        let state = state.map_err(|error| IngestError::Bus(Arc::new(error)))?;
        let (done, answer) = oneshot::channel();
        let request = Request {
            at_least: state.last,
            done,
        };
        let ended = || self.failed.borrow().clone().unwrap_or(IngestError::Ended);
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// How the ingester is at this moment.
    pub fn stats(&self) -> IngestStats {
        let mut stats = self.shared.counters.read();
        let progress = *self.progress.borrow();
        stats.taken = progress.taken;
        stats.committed = progress.committed;
        stats.holes_closed = self.shared.identities().producers.holes_closed();
        let buffer = self.shared.buffer.hold();
        stats.rest = buffer.misfits().filter(|(_, count)| *count > 0).collect();
        stats.buffer_bytes = buffer.fill().total as u64;
        stats.watermark_us = buffer.watermark_us();
        stats
    }

    /// Resolves with the reason once the ingester has failed; never while it runs.
    pub fn failed(&self) -> impl Future<Output = IngestError> + Send + use<> {
        let mut failed = self.failed.clone();
        async move {
            match failed.wait_for(Option::is_some).await {
                Ok(error) => error.clone().unwrap_or(IngestError::Ended),
                Err(_) => IngestError::Ended,
            }
        }
    }

    /// Takes what the bus has by now no further, flushes what was taken, and ends.
    pub async fn stop(self) -> Result<(), IngestError> {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the ingester's task broke");
            return Err(IngestError::Ended);
        }
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }
}

type Committing = JoinHandle<Result<Committed, CommitError>>;

struct Loop {
    pipeline: Pipeline,
    lake: Lake,
    shared: Arc<Shared>,
    door: Arc<Post>,
    events: EventStream,
    options: IngestOptions,
    edge: Edge,
    committed: Position,
    waiting: Vec<Request>,
    committing: Option<Committing>,
    purging: Option<JoinHandle<()>>,
    progress: watch::Sender<Progress>,
    stopping: watch::Receiver<bool>,
    ticks: u64,
    events_before: u64,
}

impl Loop {
    async fn run(
        &mut self,
        mut messages: Reader,
        mut beats: Reader,
        mut requested: mpsc::Receiver<Request>,
    ) -> Result<(), IngestError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = self.stopping.clone();
        loop {
            let has_room = self.shared.buffer.hold().fill().total < self.options.memory_bytes_max;
            tokio::select! {
                biased;
                () = asked_to_stop(&mut stopping) => break,
                Some(request) = requested.recv() => self.waiting.push(request),
                committed = ended(&mut self.committing) => self.after_commit(committed)?,
                _ = tick.tick() => self.tick().await,
                delivery = beats.next() => self.take_telemetry(delivery?),
                delivery = messages.next(), if has_room => match delivery {
                    Ok(delivery) => self.take(delivery),
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
        if let Delivery::Message(message) = delivery {
            self.pipeline
                .take_telemetry(&message.subject, &message.payload, now_us);
        }
    }

    fn tell(&self) {
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
        if self.purging.is_none() {
            self.look();
        }
    }

    /// Asks for the lag, closes the door's holes and purges, beside the loop.
    fn look(&mut self) {
        let (events, door) = (self.events.clone(), Arc::clone(&self.door));
        let shared = Arc::clone(&self.shared);
        let (taken, committed) = (self.pipeline.taken(), self.committed);
        self.purging = Some(tokio::spawn(async move {
            door.fill_holes().await;
            let Ok(state) = events.state().await else {
                return;
            };
            let is_same = state.incarnation == committed.incarnation.to_string();
            let lag = state.last.saturating_sub(taken.sequence);
            shared.counters.lag_messages.store(lag, Relaxed);
            if is_same
                && state.first <= committed.sequence
                && let Err(error) = events.purge_to(committed.sequence).await
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
    async fn settle(&mut self) -> Result<(), IngestError> {
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

    /// The stream is not the one we read any more: commit what we have and look where to go on.
    async fn changed(&mut self) -> Result<Messages, IngestError> {
        self.settle().await?;
        let messages = self.resume().await?;
        // Who waits for a place in a life that is gone waits for nothing.
        let committed = self.committed;
        for request in std::mem::take(&mut self.waiting) {
            if request.done.send(committed).is_err() {
                tracing::debug!("who asked for a flush has gone");
            }
        }
        Ok(messages)
    }

    /// Compares the catalogue with the stream, records what is gone, and opens a reader.
    async fn resume(&mut self) -> Result<Messages, IngestError> {
        loop {
            match self.try_resume().await {
                Ok(messages) => {
                    self.tell();
                    return Ok(messages);
                }
                Err(IngestError::Bus(error)) if !*self.stopping.borrow() => {
                    tracing::warn!(error = &*error as &dyn std::error::Error, "the bus is away");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_resume(&mut self) -> Result<Messages, IngestError> {
        let bus_error = |error| IngestError::Bus(Arc::new(error));
        let state = self.events.ensure().await.map_err(bus_error)?;
        let position = self.pipeline.taken();
        match compare(position, &state) {
            Resume::GoOn => {}
            Resume::Begin { start } => self.start_lineage(start, &[], "first")?,
            Resume::Skip { gap } => {
                alarm(&self.shared, gap.reason, gap.first, gap.last);
                self.pipeline.gap(gap, self.edge.now_us());
            }
            Resume::Regressed { gap, last } => {
                let renewed = self.events.renew_incarnation().await.map_err(bus_error)?;
                let start = Position {
                    incarnation: renewed.parse().unwrap_or(Incarnation::default()),
                    sequence: last,
                };
                alarm(&self.shared, gap.reason, gap.first, gap.last);
                add(&self.shared.counters.lost_messages, gap.len());
                self.start_lineage(start, &[gap], "regressed")?;
            }
            Resume::Wiped { start } => {
                alarm(
                    &self.shared,
                    "wiped",
                    position.sequence + 1,
                    position.sequence + 1,
                );
                self.start_lineage(start, &[], "wiped")?;
            }
        }
        let next = self.pipeline.taken().sequence + 1;
        self.events.messages_from(next).await.map_err(bus_error)
    }

    fn start_lineage(
        &mut self,
        start: Position,
        gaps: &[Gap],
        reason: &'static str,
    ) -> Result<(), IngestError> {
        let now_us = self.edge.now_us();
        self.lake
            .start_lineage(start, gaps, reason, now_us)
            .map_err(|error| IngestError::Lake(Arc::new(error)))?;
        add(&self.shared.counters.lineages, u64::from(reason != "first"));
        self.pipeline.start_at(start, reason != "first");
        self.committed = start;
        Ok(())
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

/// Says aloud that acknowledged messages are gone.
fn alarm(shared: &Shared, reason: &'static str, first: u64, last: u64) {
    let before = shared.counters.lost_messages.load(Relaxed);
    tracing::error!(
        target: "serin.alarm",
        reason,
        first,
        last,
        lost_before = before,
        "the bus lost acknowledged messages"
    );
}

/// Reads a stream in a task of its own, since making a consumer again takes longer than the loop may
/// wait between two ticks. Ends with itself.
struct Reader {
    received: mpsc::Receiver<Result<Delivery, BusError>>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Reads on from where `messages` stands, up to the first error.
    fn of_events(mut messages: Messages) -> Reader {
        let (tx, received) = mpsc::channel(AHEAD_MAX);
        let task = tokio::spawn(async move {
            loop {
                let delivery = messages.next().await;
                let is_end = delivery.is_err();
                if tx.send(delivery).await.is_err() || is_end {
                    return;
                }
            }
        });
        Reader { received, task }
    }

    /// Reads what comes from now on, and begins again wherever it can: what is lost is not missed.
    fn of_telemetry(stream: EventStream) -> Reader {
        let (tx, received) = mpsc::channel(AHEAD_MAX);
        let task = tokio::spawn(async move {
            loop {
                let opened = async {
                    let state = stream.ensure().await?;
                    stream.messages_from(state.last + 1).await
                };
                match opened.await {
                    Ok(mut messages) => {
                        while let Ok(delivery) = messages.next().await {
                            if tx.send(Ok(delivery)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "no telemetry yet"),
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        });
        Reader { received, task }
    }

    /// The next delivery; cancelling it loses nothing.
    async fn next(&mut self) -> Result<Delivery, IngestError> {
        match self.received.recv().await {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(IngestError::Bus(Arc::new(error))),
            None => Err(IngestError::Ended),
        }
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
