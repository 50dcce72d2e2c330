//! The doors' acceptance: a body of CloudEvents becomes numbered messages on the bus.
//!
//! The answer waits for the bus's acknowledgement. A door is a producer like an SDK: it numbers its
//! messages and seals time. A body that comes with a number of its own (an import) is cut into
//! pieces by its text alone, each with a fixed number of that body's block, so that sending it again
//! sends the same messages; one that was taken before is not sent at all. Start at
//! [`Post::accept_body`].

mod look;
mod pieces;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serin_bus::{EventStream, PublishError};
use serin_lake::accept::{Numbered, RefusedLine, Unsent};
use serin_lake::{Accept, AcceptError, Declared, Door, Receipt};
use serin_wire::batch::{self, BatchWriter, Head, Id};
use serin_wire::cloudevent::DEFAULT_SERVICE;
use serin_wire::producer::NUMBER_MAX;
use serin_wire::{Event, Number, Sealed, subject};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::buffer::Promised;
use crate::decode::{ADMITTED_US, COLUMNS, NUMBER_TO, ulid_of};
use crate::options::Edge;
use crate::own_numbers::OwnNumbers;
use crate::pipeline::Shared;
use crate::refuse::{Reason, Refusal};
use crate::seen::hash_of;

use look::NotTaken;
use pieces::{Cut, PIECE_BYTES, Piece, pieces};

/// Numbers that a numbered body has for its pieces; 32 MiB of text and more fit.
const BLOCK: u64 = 256;
/// Between attempts to learn what became of a message: a bus that is started again by its watcher
/// is back within a second.
const ASK_AGAIN_AFTER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1000),
];
const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);
pub(crate) const RETRY_WHEN_AWAY: Duration = Duration::from_secs(1);

/// Publishes what the doors hand in.
#[derive(Debug)]
pub(crate) struct Post {
    events: EventStream,
    shared: Arc<Shared>,
    edge: Edge,
    numbers: OwnNumbers,
    made: AtomicU64,
}

/// A body's own number and its block.
struct Block {
    number: Number,
    to: u64,
    is_import: bool,
    /// Columns the table is to have, as the header says them.
    declared: Option<String>,
}

/// Events packed, as they are sent and, where no answer comes, sent again.
#[derive(Debug, Clone)]
struct Message {
    service: String,
    /// When its events were admitted, by our clock.
    admitted_us: i64,
    payload: Bytes,
}

/// What became of a piece before it is sent.
struct Packed {
    message: Message,
    /// Lines or places of the events in it.
    lines: Vec<u64>,
    duplicates: u64,
}

impl Accept for Post {
    fn accept(
        &self,
        door: Door,
        body: Bytes,
        numbered: Option<Numbered>,
    ) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(async move { self.accept_body(door, &body, numbered).await })
    }
}

impl Post {
    pub(crate) fn new(events: EventStream, shared: Arc<Shared>, edge: Edge) -> Post {
        let name = ulid_of(edge.now_us(), edge.seed).to_string();
        Post {
            events,
            shared,
            numbers: OwnNumbers::new(name),
            edge,
            made: AtomicU64::new(0),
        }
    }

    async fn accept_body(
        &self,
        door: Door,
        body: &[u8],
        numbered: Option<Numbered>,
    ) -> Result<Receipt, AcceptError> {
        let visit = self.numbers.visit(|| self.edge.now_us());
        let now_us = visit.arrived_us;
        let cut = match numbered {
            Some(_) => Cut::ByText,
            None => Cut::Whole,
        };
        let pieces = pieces(door, body, cut).inspect_err(|error| {
            let refusal = Refusal::new(Reason::Unreadable, error);
            self.refuse(&NotTaken::of(refusal), body, now_us);
        })?;
        let block = numbered
            .map(|numbered| Block::of(&numbered, pieces.len()))
            .transpose()?;
        let is_known = block.as_ref().is_some_and(|block| {
            self.shared
                .identities()
                .producers
                .has(&block.number, block.to)
        });
        let mut receipt = Receipt::default();
        let mut promised = Promised::default();
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.iter().enumerate() {
            let packed = self.pack(
                piece,
                block.as_ref(),
                is_known,
                now_us,
                &mut promised,
                &mut receipt,
            );
            if is_known {
                receipt.duplicates += packed.lines.len() as u64 + packed.duplicates;
                continue;
            }
            let (events, duplicates) = (packed.lines.len() as u64, packed.duplicates);
            let sent = match &block {
                Some(block) => {
                    self.send_of_block(block, at as u64, at == last, &packed.message)
                        .await
                }
                None if events == 0 => Ok(true),
                None => self.send_own(&packed.message).await,
            };
            match sent {
                Ok(true) => receipt.accepted += events,
                Ok(false) => receipt.duplicates += events,
                // Nothing is taken yet, or sending it all again is harmless.
                Err(error) if receipt.accepted == 0 || block.is_some() => return Err(error),
                Err(error) => {
                    let rest = pieces[at + 1..].iter().flat_map(|piece| &piece.items);
                    let lines = packed.lines.iter().copied();
                    stop_at(&mut receipt, lines.chain(rest.map(|item| item.0)), &error);
                    break;
                }
            }
            receipt.duplicates += duplicates;
        }
        if let (Door::One, [refused]) = (door, &*receipt.refused) {
            return Err(AcceptError::Bad(refused.error.clone()));
        }
        Ok(receipt)
    }

    /// Checks the events of a piece and packs the good ones into one message.
    fn pack(
        &self,
        piece: &Piece<'_>,
        block: Option<&Block>,
        is_known: bool,
        now_us: i64,
        promised: &mut Promised,
        receipt: &mut Receipt,
    ) -> Packed {
        let is_import = block.is_some_and(|block| block.is_import);
        let mut good = Vec::with_capacity(piece.items.len());
        let mut duplicates = 0;
        let mut fields = Vec::new();
        for &(line, text) in &piece.items {
            match self.check(text, is_import, now_us, &mut fields, promised) {
                Ok(event) if self.is_seen(&event) => duplicates += 1,
                Ok(event) => good.push((line, event)),
                Err(bad) => {
                    // Of a body that was taken before, what was refused then is told and not kept again.
                    if !is_known {
                        self.refuse(&bad, text, now_us);
                    }
                    receipt.refused.push(RefusedLine {
                        line,
                        error: bad.refusal.explanation,
                    });
                }
            }
        }
        let service = good
            .first()
            .map_or(DEFAULT_SERVICE, |(_, event)| &*event.service);
        let flags = if is_import { batch::IMPORTED } else { 0 };
        let mut writer = BatchWriter::new(service, "", "", flags);
        for (line, event) in &good {
            let id = match &*event.id {
                "" => Id::Ulid(self.made_id(event.time_us, block, *line)),
                id => Id::Text(id),
            };
            push(&mut writer, service, event, id);
        }
        Packed {
            lines: good.iter().map(|(line, _)| *line).collect(),
            message: Message {
                service: service.to_owned(),
                admitted_us: now_us,
                payload: writer.take().into(),
            },
            duplicates,
        }
    }

    fn is_seen(&self, event: &Event<'_>) -> bool {
        let hash = || hash_of(&event.service, &event.id);
        !event.id.is_empty() && self.shared.identities().seen.has(hash())
    }

    /// An identity for an event that came without; of a numbered body the same each time.
    fn made_id(&self, time_us: i64, block: Option<&Block>, line: u64) -> u128 {
        let seed = self.edge.seed;
        let chance = match block {
            Some(block) => {
                let text = format!("{}/{line}", block.number);
                xxh3_128_with_seed(text.as_bytes(), 0)
            }
            None => {
                let made = self.made.fetch_add(1, Relaxed).to_le_bytes();
                xxh3_128_with_seed(&[&seed.to_le_bytes()[..], &made[..]].concat(), 0)
            }
        };
        ulid_of(time_us, chance).0
    }

    /// Sends a piece of a numbered body; whether it was new. A piece without a good event is sent
    /// too, so that the body's numbers have no hole.
    async fn send_of_block(
        &self,
        block: &Block,
        at: u64,
        is_last: bool,
        message: &Message,
    ) -> Result<bool, AcceptError> {
        let number = Number {
            producer: block.number.producer.clone(),
            number: block.number.number + at,
        };
        let to = is_last.then_some(block.to);
        let declared = block.declared.as_deref();
        let sent = self.publish(message, &number, to, declared).await;
        sent.map_err(refusal)
    }

    /// Sends a piece under a number of our own. Where no answer comes it is sent again under the
    /// same number, so that the client learns in nearly all cases what became of it.
    async fn send_own(&self, message: &Message) -> Result<bool, AcceptError> {
        let ticket = self.numbers.begin();
        let number = ticket.number();
        let mut is_again = false;
        let mut pauses = ASK_AGAIN_AFTER.into_iter();
        loop {
            let sent = self.publish(message, &number, None, None).await;
            match (sent, pauses.next()) {
                (Ok(is_new), _) => {
                    ticket.acknowledged();
                    // Known again only from our own first attempt: new to the client.
                    return Ok(is_new || is_again);
                }
                (Err(PublishError::Unavailable(_)), Some(pause)) => {
                    is_again = true;
                    tokio::time::sleep(pause).await;
                }
                // The ticket leaves a hole behind, which `fill_holes` closes.
                (Err(error), _) => return Err(refusal(error)),
            }
        }
    }

    async fn publish(
        &self,
        message: &Message,
        number: &Number,
        to: Option<u64>,
        declared: Option<&str>,
    ) -> Result<bool, PublishError> {
        let id = number.to_string();
        let to = to.map(|to| to.to_string());
        let admitted_us = message.admitted_us.to_string();
        let mut headers = vec![
            ("Nats-Msg-Id", &*id),
            ("Content-Type", batch::CONTENT_TYPE),
            (ADMITTED_US, &admitted_us),
        ];
        if let Some(to) = &to {
            headers.push((NUMBER_TO, to));
        }
        if let Some(declared) = declared {
            headers.push((COLUMNS, declared));
        }
        let ack = self
            .events
            .publish(
                &subject::batch(&message.service),
                &headers,
                message.payload.clone(),
            )
            .await?;
        Ok(!ack.is_duplicate)
    }

    /// Sends an empty message for each number that got no acknowledgement. Where the first message
    /// did arrive, this one is the duplicate; where not, its client was told so.
    pub(crate) async fn fill_holes(&self) {
        for number in self.numbers.holes() {
            let empty = Message {
                service: DEFAULT_SERVICE.to_owned(),
                admitted_us: self.edge.now_us(),
                payload: BatchWriter::new(DEFAULT_SERVICE, "", "", 0).take().into(),
            };
            match self.publish(&empty, &number, None, None).await {
                Ok(_) => self.numbers.filled(number.number),
                Err(error) => {
                    tracing::debug!(%error, %number, "a number of the door stays open");
                    return;
                }
            }
        }
    }

    /// Whether a number waits for [`Post::fill_holes`].
    pub(crate) fn has_holes(&self) -> bool {
        !self.numbers.holes().is_empty()
    }

    /// What the door seals at this moment.
    pub(crate) fn sealed(&self) -> Sealed {
        self.numbers.sealed(|| self.edge.now_us())
    }
}

impl Block {
    fn of(numbered: &Numbered, pieces: usize) -> Result<Block, AcceptError> {
        let number: Number =
            numbered
                .number
                .parse()
                .map_err(|error: serin_wire::producer::NumberError| {
                    AcceptError::Bad(error.to_string())
                })?;
        if pieces as u64 > BLOCK {
            let mib_max = (PIECE_BYTES as u64 * BLOCK) >> 20;
            let text = format!("a numbered body may have {mib_max} MiB; send it in parts");
            return Err(AcceptError::Bad(text));
        }
        let to = number.number.checked_mul(BLOCK);
        let Some(to) = to.filter(|to| *to <= NUMBER_MAX) else {
            return Err(AcceptError::Bad(format!(
                "the number {number} is too large; a numbered body may have one up to {}",
                NUMBER_MAX / BLOCK
            )));
        };
        Ok(Block {
            number: Number {
                number: to - BLOCK + 1,
                ..number
            },
            to,
            is_import: numbered.is_import,
            declared: numbered.declared.as_ref().map(Declared::to_string),
        })
    }
}

/// What the client is told. Only what would be refused again whenever it is sent is its fault.
pub(crate) fn refusal(error: PublishError) -> AcceptError {
    match error {
        PublishError::Full => AcceptError::Full {
            retry_after: RETRY_WHEN_FULL,
        },
        PublishError::Unavailable(_) => AcceptError::Unavailable {
            retry_after: RETRY_WHEN_AWAY,
        },
        error if error.is_final() => AcceptError::Bad(error.to_string()),
        PublishError::TooLarge { .. } | PublishError::Refused { .. } => {
            tracing::warn!(%error, "the bus does not take what the doors send; clients are told to wait");
            AcceptError::Refused {
                why: error.to_string(),
                retry_after: RETRY_WHEN_FULL,
            }
        }
    }
}

/// Appends an event to a message of `service`.
fn push(writer: &mut BatchWriter, service: &str, event: &Event<'_>, id: Id<'_>) {
    let head = Head {
        id,
        kind: &event.kind,
        service: (event.service != service).then_some(&*event.service),
        time_us: event.time_us,
        trace: event.trace,
        arm: event.arm.as_ref().map(|arm| &*arm.0),
    };
    writer.push(&head, &event.data);
}

/// The bus stopped taking events in the middle of a body: names each that was not taken.
fn stop_at(receipt: &mut Receipt, lines: impl Iterator<Item = u64>, error: &AcceptError) {
    let (why, retry_after) = match error {
        AcceptError::Full { retry_after } => ("the bus is full", Some(*retry_after)),
        AcceptError::Refused { why, retry_after } => (&**why, Some(*retry_after)),
        AcceptError::Unavailable { retry_after } => ("the bus does not answer", Some(*retry_after)),
        AcceptError::Bad(why) => (&**why, None),
    };
    let mut lines = lines.peekable();
    receipt.unsent = lines.peek().map(|&from_line| Unsent {
        from_line,
        retry_after,
    });
    let accepted = receipt.accepted;
    receipt.refused.extend(lines.map(|line| RefusedLine {
        line,
        error: format!(
            "not taken after {accepted} others of this body: {why}; send this one again"
        ),
    }));
    receipt.refused.sort_by_key(|refused| refused.line);
}

#[cfg(test)]
mod tests {
    use serin_wire::cloudevent::{self, Defaults};

    use super::*;

    /// The default limit of NATS, less the room the bus keeps for headers.
    const MESSAGE_BYTES_MAX: usize = (1 << 20) - (1 << 10);

    /// The largest message that a body without a number is sent in.
    fn largest(body: &str) -> usize {
        let defaults = Defaults {
            now_us: 0,
            service: DEFAULT_SERVICE,
        };
        let pieces = pieces(Door::Ndjson, body.as_bytes(), Cut::Whole).expect("lines");
        let messages = pieces.iter().map(|piece| {
            let mut writer = BatchWriter::new("cart", "", "", 0);
            for (_, text) in &piece.items {
                let event = cloudevent::parse_json(text, defaults).expect("an event");
                let id = match &*event.id {
                    "" => Id::Ulid(u128::MAX),
                    id => Id::Text(id),
                };
                push(&mut writer, "cart", &event, id);
            }
            writer.len()
        });
        messages.max().unwrap_or_default()
    }

    #[test]
    fn every_message_fits_the_bus() {
        let text = |bytes| "x".repeat(bytes);
        let data = |bytes| format!(r#"{{"type":"a","data":{{"t":"{}"}}}}"#, text(bytes));
        let long = format!(
            r#"{{"type":"{}","source":"{}","id":"{}","traceparent":"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"}}"#,
            text(100),
            text(32),
            text(200)
        );
        for line in [
            String::from(r#"{"type":"a"}"#),
            long,
            data(1000),
            data(255 << 10),
        ] {
            let lines = (4 << 20) / line.len();
            let bytes = largest(&vec![line; lines].join("\n"));
            assert!((256 << 10..MESSAGE_BYTES_MAX).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn a_number_whose_block_no_database_holds_is_refused() {
        let block = |number: u64| {
            let numbered = Numbered {
                number: format!("file/0/{number}"),
                is_import: true,
                declared: None,
            };
            Block::of(&numbered, 1).is_ok()
        };
        let most = NUMBER_MAX / BLOCK;
        assert!(block(most) && !block(most + 1) && !block(1 << 57) && !block(u64::MAX));
    }

    #[test]
    fn what_was_not_taken_is_told_in_order() {
        let mut receipt = Receipt {
            accepted: 2,
            ..Receipt::default()
        };
        receipt.refused.push(RefusedLine {
            line: 5,
            error: String::from("bad"),
        });
        let full = AcceptError::Full {
            retry_after: RETRY_WHEN_FULL,
        };
        stop_at(&mut receipt, [4, 6].into_iter(), &full);
        let lines: Vec<u64> = receipt.refused.iter().map(|refused| refused.line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert_eq!(
            receipt.refused[0].error,
            "not taken after 2 others of this body: the bus is full; send this one again"
        );
        let unsent = receipt.unsent.expect("it is told");
        assert_eq!(
            (unsent.from_line, unsent.retry_after),
            (4, Some(RETRY_WHEN_FULL))
        );
    }
}
