//! Reads our two streams, each in a task of its own.
//!
//! Deliveries come out in the order of the stream; a reader of events ends with the first error, one
//! of telemetry never does. Start at [`Reader::of_events`].

use std::sync::Arc;

use serin_bus::{BusError, Delivery, EventStream, Messages};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ingest::IngestError;
use crate::lineage::RETRY_PAUSE;

/// Messages read ahead of the loop, beside the 16 MiB the bus has under way.
const AHEAD_MAX: usize = 16;

/// Reads a stream in a task of its own, since making a consumer again takes longer than the loop may
/// wait between two ticks. Ends with itself.
pub(crate) struct Reader {
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
    pub(crate) fn of_events(mut messages: Messages) -> Reader {
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

    /// Reads from message `first` on, and begins again wherever it can: what is lost is not missed.
    pub(crate) fn of_telemetry(stream: EventStream, first: u64) -> Reader {
        let (tx, received) = mpsc::channel(AHEAD_MAX);
        let task = tokio::spawn(async move {
            let mut first = Some(first);
            loop {
                let begin = first.take();
                let opened = async {
                    let end = stream.ensure().await?.last + 1;
                    stream
                        .messages_from(begin.map_or(end, |begin| begin.min(end)))
                        .await
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
    pub(crate) async fn next(&mut self) -> Result<Delivery, IngestError> {
        match self.received.recv().await {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(IngestError::Bus(Arc::new(error))),
            None => Err(IngestError::Ended),
        }
    }
}
