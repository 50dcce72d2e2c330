//! Many events in one message, densely: `application/x-serin-events`.
//!
//! The bus syncs to disk for each message, so that events travel in batches. The format is made for
//! the two ends that are hot: an SDK appends an event without allocating, the ingester reads it
//! without copying. Integers are little-endian base-128 varints, as in Protocol Buffers.
//!
//! ```text
//! message = "SB" version:u8 flags:u8 text(service) text(version) text(instance) event*
//! event   = present:u8 time_us:i64 id text(type) [trace] [text(service)] [text(arm)] text(data)
//! id      = 16 bytes of a ULID, or text where ID_TEXT is set
//! text    = varint length, then that many bytes of UTF-8
//! trace   = 16 bytes trace id, 8 bytes span id, 1 byte flags
//! ```
//!
//! Start at [`BatchWriter`] and [`read`].

use std::borrow::Cow;

use thiserror::Error;
use ulid::Ulid;

use crate::event::{Arm, Event, Trace};

/// The content type of a message in this format.
pub const CONTENT_TYPE: &str = "application/x-serin-events";
/// Set on the message where the events were imported: old times are wanted, the watermark stays.
pub const IMPORTED: u8 = 1;

const MAGIC: [u8; 3] = *b"SB\x01";
const HAS_TRACE: u8 = 1;
const HAS_ARM: u8 = 2;
const ID_TEXT: u8 = 4;
const HAS_SERVICE: u8 = 8;

/// Why a message in this format cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The first bytes are not ours, or of a later version.
    #[error("the batch does not start with \"SB\" and version 1")]
    Magic,
    /// The message ends inside an event.
    #[error("the batch ends in the middle of event {0}, counted from 0")]
    Truncated(usize),
    /// A text is not UTF-8.
    #[error("event {0} of the batch, counted from 0, has a text that is not UTF-8")]
    Utf8(usize),
}

/// Appends events to one message.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    events: u32,
    head_bytes: usize,
}

/// The identity of an event that is being written.
#[derive(Debug, Clone, Copy)]
pub enum Id<'a> {
    /// A ULID, 16 bytes on the wire.
    Ulid(u128),
    /// Any other identity, as text.
    Text(&'a str),
}

/// What one event says beside its data; see [`BatchWriter::push`].
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Unique per event.
    pub id: Id<'a>,
    /// The event type.
    pub kind: &'a str,
    /// The emitting service, where it is not the batch's own.
    pub service: Option<&'a str>,
    /// Microseconds since 1970 UTC.
    pub time_us: i64,
    /// The trace it happened in.
    pub trace: Option<Trace>,
    /// The canary arms of its cause.
    pub arm: Option<&'a str>,
}

impl BatchWriter {
    /// Starts a message of one instance.
    pub fn new(service: &str, version: &str, instance: &str, flags: u8) -> BatchWriter {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(flags);
        for text in [service, version, instance] {
            put_text(&mut bytes, text.as_bytes());
        }
        let head_bytes = bytes.len();
        BatchWriter {
            bytes,
            events: 0,
            head_bytes,
        }
    }

    /// Appends one event; `data` is the text of a JSON object.
    pub fn push(&mut self, head: &Head<'_>, data: &[u8]) {
        let mut present = 0;
        present |= if head.trace.is_some() { HAS_TRACE } else { 0 };
        present |= if head.arm.is_some() { HAS_ARM } else { 0 };
        present |= if head.service.is_some() {
            HAS_SERVICE
        } else {
            0
        };
        present |= if matches!(head.id, Id::Text(_)) {
            ID_TEXT
        } else {
            0
        };
        let out = &mut self.bytes;
        out.push(present);
        out.extend_from_slice(&head.time_us.to_le_bytes());
        match head.id {
            Id::Ulid(id) => out.extend_from_slice(&id.to_be_bytes()),
            Id::Text(id) => put_text(out, id.as_bytes()),
        }
        put_text(out, head.kind.as_bytes());
        if let Some(trace) = head.trace {
            out.extend_from_slice(&trace.trace_id.to_be_bytes());
            out.extend_from_slice(&trace.span_id.to_be_bytes());
            out.push(trace.flags);
        }
        if let Some(service) = head.service {
            put_text(out, service.as_bytes());
        }
        if let Some(arm) = head.arm {
            put_text(out, arm.as_bytes());
        }
        put_text(out, data);
        self.events += 1;
    }

    /// How many events are in it.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// How long the message is by now, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no event is in it.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Takes the message and starts the next one with the same head and as much room, so that a
    /// busy writer allocates once per message.
    pub fn take(&mut self) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.bytes.len());
        head.extend_from_slice(&self.bytes[..self.head_bytes]);
        self.events = 0;
        std::mem::replace(&mut self.bytes, head)
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len() as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(text);
}

/// A message being read; iterate over it for its events.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// Whether the events were imported ([`IMPORTED`]).
    pub is_import: bool,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    rest: &'a [u8],
    index: usize,
}

/// Reads a message in this format.
pub fn read(message: &[u8]) -> Result<Batch<'_>, BatchError> {
    let Some(([m0, m1, m2, flags], mut rest)) = message.split_first_chunk::<4>() else {
        return Err(BatchError::Magic);
    };
    if [*m0, *m1, *m2] != MAGIC {
        return Err(BatchError::Magic);
    }
    let service = take_str(&mut rest, 0)?;
    let version = take_str(&mut rest, 0)?;
    let instance = take_str(&mut rest, 0)?;
    Ok(Batch {
        is_import: flags & IMPORTED != 0,
        service,
        version,
        instance,
        rest,
        index: 0,
    })
}

impl<'a> Batch<'a> {
    fn next_event(&mut self) -> Result<Event<'a>, BatchError> {
        let index = self.index;
        let rest = &mut self.rest;
        let present = take_array::<1>(rest, index)?[0];
        let time_us = i64::from_le_bytes(take_array(rest, index)?);
        let id: Cow<'a, str> = if present & ID_TEXT != 0 {
            Cow::Borrowed(take_str(rest, index)?)
        } else {
            Cow::Owned(Ulid(u128::from_be_bytes(take_array(rest, index)?)).to_string())
        };
        let kind = take_str(rest, index)?;
        let trace = if present & HAS_TRACE != 0 {
            let trace_id = u128::from_be_bytes(take_array(rest, index)?);
            let span_id = u64::from_be_bytes(take_array(rest, index)?);
            let flags = take_array::<1>(rest, index)?[0];
            Some(Trace {
                trace_id,
                span_id,
                flags,
            })
        } else {
            None
        };
        let service = if present & HAS_SERVICE != 0 {
            take_str(rest, index)?
        } else {
            self.service
        };
        let arm = if present & HAS_ARM != 0 {
            Some(Arm(Cow::Borrowed(take_str(rest, index)?)))
        } else {
            None
        };
        let data = take_text(rest, index)?;
        Ok(Event {
            id,
            kind: Cow::Borrowed(kind),
            service: Cow::Borrowed(service),
            version: Cow::Borrowed(self.version),
            instance: Cow::Borrowed(self.instance),
            time_us,
            trace,
            arm,
            data: Cow::Borrowed(data),
        })
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Result<Event<'a>, BatchError>;

    /// The next event; after an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let event = self.next_event();
        match event {
            Ok(_) => self.index += 1,
            Err(_) => self.rest = &[],
        }
        Some(event)
    }
}

fn take_array<const N: usize>(rest: &mut &[u8], index: usize) -> Result<[u8; N], BatchError> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(BatchError::Truncated(index))?;
    *rest = tail;
    Ok(*head)
}

fn take_text<'a>(rest: &mut &'a [u8], index: usize) -> Result<&'a [u8], BatchError> {
    let mut length: u64 = 0;
    let mut shift = 0;
    loop {
        let byte = take_array::<1>(rest, index)?[0];
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        // Five groups of seven bits reach 32 GiB: past any message.
        if shift > 28 {
            return Err(BatchError::Truncated(index));
        }
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Truncated(index))?;
    let (text, tail) = rest
        .split_at_checked(length)
        .ok_or(BatchError::Truncated(index))?;
    *rest = tail;
    Ok(text)
}

fn take_str<'a>(rest: &mut &'a [u8], index: usize) -> Result<&'a str, BatchError> {
    std::str::from_utf8(take_text(rest, index)?).map_err(|_| BatchError::Utf8(index))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head<'a>(id: Id<'a>, kind: &'a str, trace: Option<Trace>, arm: Option<&'a str>) -> Head<'a> {
        Head {
            id,
            kind,
            service: None,
            time_us: -5,
            trace,
            arm,
        }
    }

    #[test]
    fn events_read_back() {
        let trace = Trace {
            trace_id: 7,
            span_id: 9,
            flags: 1,
        };
        let mut writer = BatchWriter::new("cart", "v8", "cart-v8-1", IMPORTED);
        writer.push(
            &head(Id::Ulid(42), "order.paid", None, None),
            br#"{"amount":3}"#,
        );
        let other = Head {
            service: Some("pay"),
            ..head(Id::Text("x"), "a", Some(trace), Some("cart=v8"))
        };
        writer.push(&other, b"{}");
        let message = writer.take();
        let batch = read(&message).expect("own message");
        assert!(batch.is_import);
        let events: Vec<_> = batch.collect::<Result<_, _>>().expect("own events");
        assert_eq!(events[0].id, Ulid(42).to_string());
        assert_eq!(events[0].service, "cart");
        assert_eq!(events[0].instance, "cart-v8-1");
        assert_eq!(events[0].time_us, -5);
        assert_eq!(&*events[0].data, br#"{"amount":3}"#);
        assert_eq!(events[1].id, "x");
        assert_eq!(events[1].service, "pay");
        assert_eq!(events[1].trace, Some(trace));
        assert_eq!(
            events[1]
                .arm
                .as_ref()
                .and_then(|arm| arm.version_of("cart")),
            Some("v8")
        );
        assert!(writer.is_empty());
        writer.push(&head(Id::Ulid(1), "b", None, None), b"{}");
        assert_eq!(read(&writer.take()).expect("second message").count(), 1);
    }

    #[test]
    fn a_cut_message_says_where() {
        let mut writer = BatchWriter::new("a", "", "", 0);
        writer.push(&head(Id::Ulid(1), "t", None, None), b"{}");
        writer.push(&head(Id::Ulid(2), "t", None, None), b"{}");
        let message = writer.take();
        let cut = &message[..message.len() - 1];
        let results: Vec<_> = read(cut).expect("head is whole").collect();
        assert_eq!(results.len(), 2);
        assert_eq!(results[1], Err(BatchError::Truncated(1)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = b"SB\x01".to_vec();
            message.extend(bytes);
            if let Ok(batch) = read(&message) {
                prop_assert!(batch.count() <= message.len());
            }
        }
    }
}
