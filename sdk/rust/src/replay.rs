//! Sends on what earlier runs left on disk, under the numbers it had.
//!
//! Runs beside the sender on its thread, one message at a time: order within a run is kept, and a
//! message the bus has already is known by its number. A segment is removed once all of it is
//! acknowledged. What the disk does not give back whole is counted, and its number kept by a message
//! without events, once it is sure that no later segment has it; a file that cannot be read stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::connection::State;
use serin_wire::{Number, ProducerId};

use crate::dropped::Reason;
use crate::queue::Batch;
use crate::send::{self, ACK_WITHIN, Refusal};
use crate::shared::Shared;
use crate::spill::Left;

/// Between two tries of the same message.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Sends everything that is left, however long the bus is away.
pub(crate) async fn replay(shared: Arc<Shared>, client: Client, left: Vec<Left>) {
    let replay = Replay { shared, client };
    for run in left {
        replay.run(run).await;
    }
}

struct Replay {
    shared: Arc<Shared>,
    client: Client,
}

/// What was found damaged in a run, and where.
#[derive(Default)]
struct Damage {
    batches: Vec<Batch>,
    paths: Vec<PathBuf>,
}

impl Replay {
    async fn run(&self, run: Left) {
        let (mut events, mut last) = (0, 0);
        let mut numbers = BTreeSet::new();
        let mut damage = Damage::default();
        let mut is_whole = true;
        for path in run.segments() {
            let contents = match run.read(&path, last) {
                Ok(contents) => contents,
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%error, %path, "cannot read left events; they stay there");
                    is_whole = false;
                    continue;
                }
            };
            for batch in contents.whole {
                last = batch.number;
                numbers.insert(last);
                events += batch.events;
                self.deliver(&run.producer, batch).await;
            }
            if contents.damaged.is_empty() {
                remove(&path);
            } else {
                damage.batches.extend(contents.damaged);
                damage.paths.push(path);
            }
        }
        tracing::info!(events, producer = %run.producer, "sent what an earlier run left");
        if !is_whole {
            return;
        }
        damage
            .batches
            .retain(|batch| !numbers.contains(&batch.number));
        if !damage.batches.is_empty() {
            tracing::error!(paths = ?damage.paths, "left events are damaged");
        }
        for lost in damage.batches {
            let empty = self.shared.emptied(&lost, Reason::SpillLost);
            self.deliver(&run.producer, empty).await;
        }
        run.remove();
    }

    /// Returns once the bus has it.
    async fn deliver(&self, producer: &ProducerId, mut batch: Batch) {
        let number = Number {
            producer: producer.clone(),
            number: batch.number,
        };
        loop {
            match self.send(&number, &batch).await {
                Ok(()) => return,
                Err(Refusal::TooLarge) if batch.events > 0 => {
                    batch = self.shared.emptied(&batch, Reason::TooLarge);
                    continue;
                }
                Err(refusal) => tracing::debug!(%refusal, "left events are sent again"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn send(&self, number: &Number, batch: &Batch) -> Result<(), Refusal> {
        let later = |words: &str| Err(Refusal::Later(words.to_owned()));
        if self.client.connection_state() != State::Connected {
            return later("the bus is away");
        }
        let request = Request::new()
            .headers(send::headers(number))
            .payload(batch.payload.clone())
            .timeout(None);
        let sent = self
            .client
            .send_request(self.shared.batch_subject(), request);
        match tokio::time::timeout(ACK_WITHIN, sent).await {
            Ok(Ok(answer)) => send::read_ack(&answer),
            Ok(Err(error)) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                Err(Refusal::TooLarge)
            }
            Ok(Err(_)) => later("no answer"),
            Err(_) => later("no answer in time"),
        }
    }
}

/// All of a segment is acknowledged.
fn remove(path: &PathBuf) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove a segment that was sent");
    }
}
