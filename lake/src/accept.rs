//! What a door hands in: the traits between the HTTP doors and the ingester.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use thiserror::Error;

use crate::column::Declared;

/// Takes events at a door and answers once the bus has them on disk. Implemented by ingest.
pub trait Accept: Send + Sync {
    /// Reads `body` (already decompressed), checks each event, publishes the good ones and waits for
    /// the bus's acknowledgement. `numbered` makes a retry of the same body harmless for ever.
    fn accept(
        &self,
        door: Door,
        body: Bytes,
        numbered: Option<Numbered>,
    ) -> BoxFuture<'_, Result<Receipt, AcceptError>>;
}

/// Takes telemetry at a door and answers once the bus has it. Implemented by ingest.
pub trait AcceptTelemetry: Send + Sync {
    /// Checks each line, publishes the good ones and waits for the bus's acknowledgement. The same
    /// lines sent again within two minutes are taken once.
    fn tell(&self, lines: Vec<TelemetryLines>) -> BoxFuture<'_, Result<Receipt, AcceptError>>;
}

/// Many lines under one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryLines {
    /// `tel.<what>.<service>.<version>.<instance>`.
    pub subject: String,
    /// NDJSON, of what the subject says.
    pub text: Bytes,
}

/// How a body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// One CloudEvent in JSON.
    One,
    /// A JSON array of CloudEvents.
    Batch,
    /// One CloudEvent in JSON a line.
    Ndjson,
}

/// An import's name for a body: the same content has the same name whenever it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// `<producer>/<epoch>/<number>`, see `serin_wire::producer`.
    pub number: String,
    /// Old times are wanted and do not move the watermark.
    pub is_import: bool,
    /// Columns the table is to have even where all their values are null.
    pub declared: Option<Declared>,
}

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Events that are on the bus's disk now.
    pub accepted: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that were refused, by line (NDJSON) or place in the array, from 1.
    pub refused: Vec<RefusedLine>,
    /// Where the bus stopped taking events in the middle of the body; those are among `refused`.
    pub unsent: Option<Unsent>,
}

/// The end of a body that the bus did not take any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// The first event not taken, by line or place from 1; none after it was taken.
    pub from_line: u64,
    /// When to send the rest, where waiting helps.
    pub retry_after: Option<Duration>,
}

/// One event that was refused at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// Line or place, from 1.
    pub line: u64,
    /// What is wrong and what to do.
    pub error: String,
}

/// Why nothing of a body was taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AcceptError {
    /// The body as a whole cannot be read, or its only event is bad.
    #[error("{0}")]
    Bad(String),
    /// The stream of events has no room; nothing was lost, try again later.
    #[error("the bus is full: it takes no new events until stored ones are committed")]
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// The bus answers, but takes nothing: its disk is full or broken, or its stream was changed.
    #[error(
        "the bus takes no events: {why}; look at its disk with `serin doctor`, and send them again"
    )]
    Refused {
        /// What the bus says.
        why: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The bus is away. It may still have taken the first message: events with an `id` of their own
    /// can be sent again without harm.
    #[error(
        "the bus does not answer: it is away, or its disk is full or broken (`serin doctor` looks); events with an id can be sent again without harm"
    )]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}
