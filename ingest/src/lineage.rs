//! Where the loop reads on: at a start, and when the stream turns out to be another one.
//!
//! `resume` says what to do, this does it: asks the bus, records what is gone, begins a lineage,
//! opens a reader. Nothing is skipped without an alarm. Start at [`Loop::resume`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serin_bus::{BusError, Messages, StreamState};
use serin_lake::{Gap, Incarnation, Position};

use crate::ingest::IngestError;
use crate::pipeline::Shared;
use crate::resume::{Known, Resume, compare};
use crate::run::Loop;
use crate::stats::add;

/// Between two tries to reach a bus that is away.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Loop {
    /// The stream is not the one we read any more: commit what we have and look where to go on.
    pub(crate) async fn changed(&mut self) -> Result<Messages, IngestError> {
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
    pub(crate) async fn resume(&mut self) -> Result<Messages, IngestError> {
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
        let known = Known {
            position: self.pipeline.taken(),
            last_heard: self.shared.counters.last_heard.load(Relaxed),
            heard_before: self.heard_before,
            shared: self.shared_with(&state).await.map_err(bus_error)?,
        };
        match compare(known, &state) {
            Resume::GoOn => {}
            Resume::Begin { start } => self.start_lineage(start, &[], "first")?,
            Resume::Skip { gap } => {
                alarm(&self.shared, gap.reason, gap.first, gap.last);
                self.pipeline.gap(gap, self.edge.now_us());
            }
            Resume::Regressed {
                gap,
                last,
                is_renewed,
            } => {
                let incarnation = match is_renewed {
                    true => state.incarnation,
                    false => self
                        .events
                        .renew_incarnation(last)
                        .await
                        .map_err(bus_error)?,
                };
                let start = Position {
                    incarnation: incarnation.parse().unwrap_or(Incarnation::default()),
                    sequence: last,
                };
                alarm(&self.shared, gap.reason, gap.first, gap.last);
                // One whose record was cut off by a crash, with nothing of it left to tell.
                let gaps = Some(gap).filter(|gap| !gap.is_empty());
                self.start_lineage(start, gaps.as_slice(), "regressed")?;
            }
            Resume::Wiped { start, gaps } => {
                let position = known.position.sequence;
                let last = gaps.first().map_or(position, |gap| gap.last);
                alarm(&self.shared, "wiped", position + 1, last);
                self.start_lineage(start, &gaps, "wiped")?;
            }
        }
        self.heard_before = 0;
        let next = self.pipeline.taken().sequence + 1;
        self.events.messages_from(next).await.map_err(bus_error)
    }

    /// The last message of the stream that we have taken, where the one at our position is not the
    /// one we took. Whatever the bus took later than that one is new.
    async fn shared_with(&self, state: &StreamState) -> Result<Option<u64>, BusError> {
        let position = self.pipeline.taken();
        let is_there = (state.first..=state.last).contains(&position.sequence)
            && state.incarnation == position.incarnation.to_string();
        let Some(taken_us) = self.pipeline.taken_us().filter(|_| is_there) else {
            return Ok(None);
        };
        match self.events.taken_us(position.sequence).await? {
            Some(found_us) if found_us != taken_us => {
                let first = self.events.first_after(taken_us).await?;
                Ok(Some((first - 1).min(position.sequence - 1)))
            }
            _ => Ok(None),
        }
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
        let counters = &self.shared.counters;
        add(&counters.lineages, u64::from(reason != "first"));
        add(&counters.lost_messages, gaps.iter().map(Gap::len).sum());
        counters.last_heard.store(start.sequence, Relaxed);
        self.pipeline.start_at(start, reason != "first");
        self.committed = start;
        Ok(())
    }
}

/// Says aloud that acknowledged messages are gone.
pub(crate) fn alarm(shared: &Shared, reason: &'static str, first: u64, last: u64) {
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
