//! Where the loop reads on: at a start, and when the stream turns out to be another one.
//!
//! `resume` says what to do, this does it: asks the bus, records what is gone, begins a lineage,
//! opens a reader. Nothing is skipped without an alarm. Start at [`Loop::resume`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serin_bus::Messages;
use serin_lake::{Gap, Incarnation, Position};

use crate::ingest::IngestError;
use crate::pipeline::Shared;
use crate::resume::{Resume, compare};
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
