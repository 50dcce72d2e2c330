//! Sends on what earlier runs left on disk, under the numbers it had.
//!
//! Runs beside the sender on its thread, one message at a time: order within a run is kept, and a
//! message the bus has already is known by its number. A folder is removed once all of it is
//! acknowledged.

use std::time::Duration;

use async_nats::Client;
use async_nats::client::Request;
use async_nats::connection::State;
use serin_wire::Number;

use crate::queue::Batch;
use crate::send::{self, ACK_WITHIN};
use crate::spill::{self, Left};

/// Between two tries of the same message.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Sends everything that is left, however long the bus is away.
pub(crate) async fn replay(client: Client, subject: String, left: Vec<Left>) {
    for run in left {
        let mut events = 0;
        for path in run.segments() {
            let batches = match spill::read_segment(&path) {
                Ok(batches) => batches,
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "cannot read left events");
                    continue;
                }
            };
            for batch in &batches {
                let number = Number {
                    producer: run.producer.clone(),
                    number: batch.number,
                };
                while !send(&client, &subject, &number, batch).await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                events += batch.events;
            }
        }
        tracing::info!(events, producer = %run.producer, "sent what an earlier run left");
        run.remove();
    }
}

async fn send(client: &Client, subject: &str, number: &Number, batch: &Batch) -> bool {
    if client.connection_state() != State::Connected {
        return false;
    }
    let request = Request::new()
        .headers(send::headers(number))
        .payload(batch.payload.clone())
        .timeout(None);
    let sent = client.send_request(subject.to_owned(), request);
    match tokio::time::timeout(ACK_WITHIN, sent).await {
        Ok(Ok(answer)) => send::read_ack(&answer).is_ok(),
        _ => false,
    }
}
