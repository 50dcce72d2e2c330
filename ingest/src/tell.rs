//! The door for telemetry: lines of spans, logs and metrics become messages on the bus.
//!
//! The stream of telemetry drops its oldest when there is too much. So that nobody's lines are
//! dropped after they were acknowledged, and no flood pushes out the beats of others, only so much
//! may be under way from here to the ingester's loop; beyond it the sender is told to wait. Start at
//! [`Teller::tell_lines`].

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use serin_bus::EventStream;
use serin_lake::accept::{AcceptTelemetry, RefusedLine, TelemetryLines};
use serin_lake::{AcceptError, Receipt};

use crate::door::{RETRY_WHEN_AWAY, refusal};
use crate::json::{self, Field};
use crate::pipeline::Shared;
use crate::refuse::{Reason, Refusal};
use crate::seen::hash_of;

/// A message holds lines of so many bytes: with one line more, of the default limit of 256 KiB, it
/// stays below 1 MiB, NATS's default.
const MESSAGE_BYTES: usize = 512 << 10;
/// Bytes from the doors that the loop has not taken yet: a quarter of what the stream holds.
const UNDER_WAY_BYTES_MAX: usize = 16 << 20;

/// Publishes telemetry that the doors hand in.
#[derive(Debug)]
pub(crate) struct Teller {
    telemetry: EventStream,
    shared: Arc<Shared>,
    under_way: Mutex<UnderWay>,
}

/// Messages that the loop has not taken yet, oldest first: their places in the stream, their sizes.
#[derive(Debug, Default)]
struct UnderWay {
    messages: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Up to where the loop had taken the stream when that was last looked at.
    taken: u64,
}

/// A message that is to be published.
#[derive(Debug, Default)]
struct Packed {
    text: Vec<u8>,
    lines: u64,
}

impl AcceptTelemetry for Teller {
    fn tell(&self, lines: Vec<TelemetryLines>) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(self.tell_lines(lines))
    }
}

impl Teller {
    pub(crate) fn new(telemetry: EventStream, shared: Arc<Shared>) -> Teller {
        Teller {
            telemetry,
            shared,
            under_way: Mutex::default(),
        }
    }

    async fn tell_lines(&self, lines: Vec<TelemetryLines>) -> Result<Receipt, AcceptError> {
        let mut receipt = Receipt::default();
        for TelemetryLines { subject, text } in lines {
            for packed in self.pack(&text, &mut receipt) {
                self.check_room()?;
                let lines = packed.lines;
                self.publish(&subject, packed).await?;
                receipt.accepted += lines;
            }
        }
        Ok(receipt)
    }

    /// The good lines in messages; the others are refused, and counted.
    fn pack(&self, text: &[u8], receipt: &mut Receipt) -> Vec<Packed> {
        let mut messages: Vec<Packed> = Vec::new();
        let mut fields = Vec::new();
        let lines = (1..).zip(text.split(|byte| *byte == b'\n'));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            if let Err(refusal) = self.check(line, &mut fields) {
                self.shared.counters.refuse(refusal.reason);
                receipt.refused.push(RefusedLine {
                    line: number,
                    error: refusal.explanation,
                });
                continue;
            }
            let is_full = |packed: &&mut Packed| packed.text.len() < MESSAGE_BYTES;
            let packed = match messages.last_mut().filter(is_full) {
                Some(packed) => packed,
                None => {
                    messages.push(Packed::default());
                    let Some(packed) = messages.last_mut() else {
                        continue;
                    };
                    packed
                }
            };
            packed.text.extend_from_slice(line);
            packed.text.push(b'\n');
            packed.lines += 1;
        }
        messages
    }

    /// The same bounds as for events, so that the loop takes what the door took.
    fn check(&self, line: &[u8], fields: &mut Vec<Field>) -> Result<(), Refusal> {
        let limits = &self.shared.limits;
        let (bytes, bytes_max) = (line.len(), limits.event_bytes_max);
        if bytes > bytes_max {
            let explanation = format!(
                "the record has {bytes} bytes, more than {bytes_max} (the limit ingest.event_kib_max); \
                 send less, or raise the limit"
            );
            return Err(Refusal::new(Reason::EventSize, explanation));
        }
        json::scan(line, limits.string_bytes_max, fields)?;
        Ok(())
    }

    fn check_room(&self) -> Result<(), AcceptError> {
        let taken = self.shared.counters.telemetry_taken.load(Relaxed);
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.forget_to(taken);
        match under_way.bytes < UNDER_WAY_BYTES_MAX {
            true => Ok(()),
            false => Err(AcceptError::Full {
                retry_after: RETRY_WHEN_AWAY,
            }),
        }
    }

    async fn publish(&self, subject: &str, packed: Packed) -> Result<(), AcceptError> {
        let text = String::from_utf8_lossy(&packed.text);
        let id = format!("{:032x}", hash_of(subject, &text));
        let bytes = packed.text.len();
        let headers = [("Nats-Msg-Id", &*id)];
        let message = Bytes::from(packed.text);
        let published = self.telemetry.publish(subject, &headers, message).await;
        let ack = published.map_err(refusal)?;
        if !ack.is_duplicate {
            let mut under_way = self
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            under_way.add(ack.sequence, bytes);
        }
        Ok(())
    }
}

impl UnderWay {
    fn add(&mut self, sequence: u64, bytes: usize) {
        self.messages.push_back((sequence, bytes));
        self.bytes += bytes;
    }

    fn forget_to(&mut self, taken: u64) {
        // Another life of the stream counts from its start again.
        if taken < self.taken {
            *self = UnderWay::default();
        }
        self.taken = taken;
        while let Some((sequence, bytes)) = self.messages.front().copied() {
            if sequence > taken {
                return;
            }
            self.messages.pop_front();
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loop_has_taken_is_no_longer_under_way() {
        let mut under_way = UnderWay::default();
        for (sequence, bytes) in [(3, 10), (5, 20), (9, 30)] {
            under_way.add(sequence, bytes);
        }
        under_way.forget_to(4);
        assert_eq!(under_way.bytes, 50);
        under_way.forget_to(9);
        assert_eq!(under_way.bytes, 0);
        under_way.add(100, 10);
        under_way.forget_to(1);
        assert_eq!(under_way.bytes, 0);
    }
}
