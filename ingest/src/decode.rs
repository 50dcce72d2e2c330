//! One message of the bus becomes its events, whatever it was written in.
//!
//! Our own batches, CloudEvents in binary mode (`ce-*` headers), structured JSON and batch JSON. The
//! subject says who speaks: a single event's service is the subject's, whatever `ce-source` says.
//! Pure; nothing is checked here that needs more than the message. Start at [`events`].

use std::borrow::Cow;

use serin_lake::Declared;
use serin_wire::cloudevent::{self, Attributes, Defaults};
use serin_wire::producer::NUMBER_MAX;
use serin_wire::subject::{self, EventSubject};
use serin_wire::{Event, Number, batch, name};
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_128;

use crate::refuse::{Reason, Refusal};

/// The header of a message that stands for more numbers than its own: the last of them. A numbered
/// body that was cut into several messages has its own block of numbers, and the last message
/// stands for the rest of the block.
pub(crate) const NUMBER_TO: &str = "Serin-Number-To";
/// The header that declares columns, see [`Declared`].
pub(crate) const COLUMNS: &str = "Serin-Columns";
/// The header that says when a door admitted a message's events, by its own clock: what it promised
/// to its client holds, whatever the bus's clock says.
pub(crate) const ADMITTED_US: &str = "Serin-Admitted-Us";
/// Numbers one message may stand for.
const NUMBERS_MAX: u64 = 4096;

/// A message as the bus gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) sequence: u64,
    /// When the bus took it.
    pub(crate) taken_us: i64,
    pub(crate) subject: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) payload: &'a [u8],
}

/// The number of a message, and the last number it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: Number,
    pub(crate) to: u64,
}

/// An event with what de-duplication needs to know.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) event: Event<'a>,
    /// Whether the client gave the identity, so that it is remembered for a day.
    pub(crate) is_client_id: bool,
}

/// Something in a message that is not an event.
#[derive(Debug)]
pub(crate) struct Bad<'a> {
    pub(crate) refusal: Refusal,
    pub(crate) payload: &'a [u8],
}

impl<'a> Incoming<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(*value))
    }

    /// The number, where a producer of ours sent it.
    pub(crate) fn number(&self) -> Option<Numbered> {
        let number: Number = self.header("Nats-Msg-Id")?.parse().ok()?;
        let to = self.header(NUMBER_TO).and_then(|to| to.parse().ok());
        let to = to.unwrap_or(number.number);
        let most = number.number.saturating_add(NUMBERS_MAX).min(NUMBER_MAX);
        let to = to.clamp(number.number, most);
        Some(Numbered { number, to })
    }

    /// Columns a table is to have even where all their values are null.
    pub(crate) fn declared(&self) -> Option<Declared> {
        let declared: Declared = self.header(COLUMNS)?.parse().ok()?;
        name::check_type(&declared.table).ok()?;
        Some(declared)
    }

    /// The time against which an event's own may lie in the future: when a door admitted it, or else
    /// when the bus took it.
    pub(crate) fn admitted_us(&self) -> i64 {
        let by_door = self.header(ADMITTED_US).and_then(|us| us.parse().ok());
        by_door.unwrap_or(self.taken_us)
    }

    fn content_type(&self) -> &'a str {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// The same for the same message, whenever it is read.
    pub(crate) fn made_id(&self, index: u64) -> Cow<'static, str> {
        let mut seed = [0; 24];
        seed[..8].copy_from_slice(&self.sequence.to_le_bytes());
        seed[8..16].copy_from_slice(&self.taken_us.to_le_bytes());
        seed[16..].copy_from_slice(&index.to_le_bytes());
        Cow::Owned(ulid_of(self.taken_us, xxh3_128(&seed)).to_string())
    }
}

/// A ULID of a time and chance.
pub(crate) fn ulid_of(time_us: i64, chance: u128) -> Ulid {
    let time_ms = u64::try_from(time_us / 1000).unwrap_or_default();
    Ulid::from_parts(time_ms, chance & ((1 << 80) - 1))
}

/// Hands each event of a message to `each`, and whether the message is an import.
pub(crate) fn events<'a>(
    incoming: &Incoming<'a>,
    each: &mut dyn FnMut(bool, Result<Found<'a>, Bad<'a>>),
) {
    let payload = incoming.payload;
    let Some(subject) = subject::parse_event(incoming.subject) else {
        let explanation = format!("{:?} is not a subject of events", incoming.subject);
        let refusal = Refusal::new(Reason::Unreadable, explanation);
        return each(false, Err(Bad { refusal, payload }));
    };
    let content_type = incoming.content_type();
    if subject.kind.is_some() {
        let found = if content_type.eq_ignore_ascii_case(cloudevent::CONTENT_TYPE) {
            structured(incoming, &subject, payload, 0)
        } else {
            binary(incoming, &subject)
        };
        return each(false, found);
    }
    if content_type.eq_ignore_ascii_case(cloudevent::BATCH_CONTENT_TYPE)
        || payload.starts_with(b"[")
    {
        json_batch(incoming, &subject, each);
    } else {
        own_batch(incoming, each);
    }
}

fn own_batch<'a>(incoming: &Incoming<'a>, each: &mut dyn FnMut(bool, Result<Found<'a>, Bad<'a>>)) {
    let payload = incoming.payload;
    let unreadable = |error| Bad {
        refusal: Refusal::new(Reason::Unreadable, error),
        payload,
    };
    let batch = match batch::read(payload) {
        Ok(batch) => batch,
        Err(error) => return each(false, Err(unreadable(error))),
    };
    let is_import = batch.is_import;
    for (index, event) in batch.enumerate() {
        let found = event.map_err(unreadable).map(|event| {
            // The batch lends texts and makes ULIDs: an identity that is lent came from a client.
            let is_client_id = matches!(event.id, Cow::Borrowed(id) if !id.is_empty());
            with_id(incoming, event, index as u64, is_client_id)
        });
        each(is_import, found);
    }
}

fn json_batch<'a>(
    incoming: &Incoming<'a>,
    subject: &EventSubject<'a>,
    each: &mut dyn FnMut(bool, Result<Found<'a>, Bad<'a>>),
) {
    match cloudevent::split_batch(incoming.payload) {
        Err(error) => each(
            false,
            Err(Bad {
                refusal: Refusal::new(Reason::Unreadable, error),
                payload: incoming.payload,
            }),
        ),
        Ok(texts) => {
            for (index, text) in texts.into_iter().enumerate() {
                let text = text.get().as_bytes();
                each(false, structured(incoming, subject, text, index as u64));
            }
        }
    }
}

fn structured<'a>(
    incoming: &Incoming<'a>,
    subject: &EventSubject<'a>,
    text: &'a [u8],
    index: u64,
) -> Result<Found<'a>, Bad<'a>> {
    let defaults = Defaults {
        now_us: incoming.taken_us,
        service: subject.service,
    };
    let bad = |refusal| Bad {
        refusal,
        payload: text,
    };
    let event = cloudevent::parse_json(text, defaults)
        .map_err(|error| bad(Refusal::new(Reason::NotAnEvent, error)))?;
    spoken(incoming, subject, event, index).map_err(bad)
}

fn binary<'a>(incoming: &Incoming<'a>, subject: &EventSubject<'a>) -> Result<Found<'a>, Bad<'a>> {
    let payload = incoming.payload;
    let bad = |refusal| Bad { refusal, payload };
    let mut attributes = Attributes::from_headers(incoming.headers.iter().copied());
    attributes.kind = attributes.kind.or(subject.kind.map(Cow::Borrowed));
    // The subject says who speaks; a source that is no service's name must not refuse the event.
    attributes.source = None;
    let defaults = Defaults {
        now_us: incoming.taken_us,
        service: subject.service,
    };
    let data = match payload {
        b"" => &b"{}"[..],
        data => data,
    };
    let event = attributes
        .into_event(Cow::Borrowed(data), defaults)
        .map_err(|error| bad(Refusal::new(Reason::NotAnEvent, error)))?;
    spoken(incoming, subject, event, 0).map_err(bad)
}

/// An event as its subject allows it, with an identity.
fn spoken<'a>(
    incoming: &Incoming<'a>,
    subject: &EventSubject<'a>,
    mut event: Event<'a>,
    index: u64,
) -> Result<Found<'a>, Refusal> {
    if let Some(kind) = subject.kind
        && kind != event.kind
    {
        let explanation = format!("type {:?} came on the subject of {kind:?}", event.kind);
        return Err(Refusal::new(Reason::NotAnEvent, explanation));
    }
    event.service = Cow::Borrowed(subject.service);
    if event.id.is_empty()
        && incoming.number().is_none()
        && let Some(id) = incoming.header("Nats-Msg-Id")
        && subject.kind.is_some()
    {
        event.id = Cow::Borrowed(id);
    }
    let is_client_id = !event.id.is_empty();
    Ok(with_id(incoming, event, index, is_client_id))
}

fn with_id<'a>(
    incoming: &Incoming<'a>,
    mut event: Event<'a>,
    index: u64,
    is_client_id: bool,
) -> Found<'a> {
    if event.id.is_empty() {
        event.id = incoming.made_id(index);
    }
    Found {
        event,
        is_client_id,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serin_wire::batch::{BatchWriter, Head, Id};

    use super::*;

    fn check(subject: &str, headers: &[(&str, &str)], payload: &[u8], expected: Expect) {
        let incoming = Incoming {
            sequence: 7,
            taken_us: 1_000_000,
            subject,
            headers,
            payload,
        };
        let mut lines = vec![match incoming.number() {
            Some(numbered) => format!("number {} to {}", numbered.number, numbered.to),
            None => String::from("no number"),
        }];
        events(&incoming, &mut |is_import, found| {
            lines.push(match found {
                Ok(Found {
                    event,
                    is_client_id,
                }) => format!(
                    "{} {} {} at {} import={is_import} client={is_client_id} {}",
                    event.kind,
                    event.service,
                    event.id,
                    event.time_us,
                    String::from_utf8_lossy(&event.data)
                ),
                Err(bad) => format!("{}: {}", bad.refusal.reason.name(), bad.refusal.explanation),
            });
        });
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn binary_mode_is_read() {
        check(
            "ev.cart.order.paid",
            &[
                ("ce-specversion", "1.0"),
                ("ce-type", "order.paid"),
                ("ce-source", "/a/Shop Floor"),
                ("ce-id", "x1"),
                ("Nats-Msg-Id", "x1"),
            ],
            br#"{"amount":3}"#,
            expect![[r#"
                no number
                order.paid cart x1 at 1000000 import=false client=true {"amount":3}"#]],
        );
    }

    #[test]
    fn an_identity_that_is_missing_is_made_and_stays() {
        check(
            "ev.cart.a",
            &[],
            b"",
            expect![[r#"
                no number
                a cart 00000000Z80PEA57SYTXNP8Z0J at 1000000 import=false client=false {}"#]],
        );
    }

    #[test]
    fn the_type_must_be_the_subjects() {
        check(
            "ev.cart.order.paid",
            &[("ce-type", "order.lost")],
            b"{}",
            expect![[r#"
                no number
                not-an-event: type "order.lost" came on the subject of "order.paid""#]],
        );
    }

    #[test]
    fn json_batches_are_read() {
        check(
            "ev.cart._batch",
            &[(
                "content-type",
                "application/cloudevents-batch+json; charset=utf-8",
            )],
            br#"[{"type":"a","id":"1","source":"pay","data":{"x":1}},{"id":"2"},7]"#,
            expect![[r#"
                no number
                a cart 1 at 1000000 import=false client=true {"x":1}
                not-an-event: the attribute "type" is missing; it names the event, such as order.paid
                not-an-event: not a CloudEvent: invalid type: integer `7`, expected struct Structured at line 1 column 1"#]],
        );
    }

    #[test]
    fn our_batches_are_read_to_where_they_break() {
        let mut writer = BatchWriter::new("cart", "v8", "cart-v8-1", batch::IMPORTED);
        let head = Head {
            id: Id::Ulid(42),
            kind: "order.paid",
            service: None,
            time_us: 5,
            trace: None,
            arm: None,
        };
        writer.push(&head, b"{}");
        let text = Head {
            id: Id::Text("mine"),
            service: Some("pay"),
            ..head
        };
        writer.push(&text, b"{}");
        let mut message = writer.take();
        message.extend_from_slice(b"\x00cut");
        check(
            "ev.cart._batch",
            &[("Nats-Msg-Id", "p/0/3"), (NUMBER_TO, "64")],
            &message,
            expect![[r#"
                number p/0/3 to 64
                order.paid cart 0000000000000000000000001A at 5 import=true client=false {}
                order.paid pay mine at 5 import=true client=true {}
                unreadable: the batch ends in the middle of event 2, counted from 0"#]],
        );
        check(
            "ev.cart._batch",
            &[],
            b"\xff",
            expect![[r#"
                no number
                unreadable: the batch does not start with "SB" and version 1"#]],
        );
    }
}
