//! Reads a stream from a sequence on, in order, for ever.
//!
//! A pull consumer without acknowledgements: the position rests in the catalogue and the bus's own
//! floor is never asked. The bus counts what it delivers, so that a message lost on the way is told
//! from one that is gone: on the first the consumer is made again at the last good place, the second
//! is a [`Delivery::Gap`]. Bytes in flight are bounded by the pull request.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;

use crate::error::BusError;
use crate::stream::EventStream;

/// Bytes asked for at a time: twice the largest message, and some 160 batches.
const BYTES_IN_FLIGHT: usize = 16 << 20;
/// Messages asked for at a time; single events of 1 KB fill about half a megabyte.
const MESSAGES_IN_FLIGHT: usize = 2048;
/// The bus says "still here" this often, and is given up after twice that.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The bus forgets the consumer of a reader that went away after this.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Between two tries to get a consumer while the bus is away.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// While disconnected we wait to be told of the connection, and look by ourselves this often.
const AWAY_LOOK_EVERY: Duration = Duration::from_millis(500);

/// What comes from the stream next.
#[derive(Debug)]
pub enum Delivery {
    /// A message.
    Message(Message),
    /// The stream does not have these any more, as the bus itself says.
    Gap {
        /// The first missing sequence.
        first: u64,
        /// The last missing sequence.
        last: u64,
    },
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its place in the stream.
    pub sequence: u64,
    /// When the bus took it, in microseconds since 1970 UTC.
    pub taken_us: i64,
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub payload: Bytes,
    headers: Option<HeaderMap>,
}

impl Message {
    /// The value of a header; names are compared without case, since senders differ.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    /// All headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .flat_map(HeaderMap::iter)
            .flat_map(|(name, values)| {
                let name: &str = name.as_ref();
                values.iter().map(move |value| (name, value.as_str()))
            })
    }
}

/// The reader; ask [`Messages::next`] again and again.
pub struct Messages {
    stream: EventStream,
    incarnation: String,
    /// The sequence that comes next.
    next: u64,
    /// The last message handed on, and when the bus took it: another one at its place later means
    /// that the bus lost it, and others came since.
    last: Option<(u64, i64)>,
    /// A message that waits because a gap before it is told first.
    held: Option<Message>,
    open: Option<Open>,
    /// Tells when the connection breaks: then the consumer is made again without awaiting silence.
    changes: watch::Receiver<u64>,
}

/// A consumer on the bus, alive until something goes wrong.
struct Open {
    pulled: pull::Stream,
    /// Deliveries so far; the bus numbers them without holes.
    delivered: u64,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages")
            .field("stream", &self.stream.name())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Messages {
    pub(crate) async fn open(stream: EventStream, next: u64) -> Result<Messages, BusError> {
        let state = stream.state().await?;
        let mut changes = stream.connection().changes.clone();
        changes.mark_unchanged();
        let mut messages = Messages {
            changes,
            stream,
            incarnation: state.incarnation,
            next: next.max(1),
            last: None,
            held: None,
            open: None,
        };
        messages.open = Some(messages.consume().await?);
        Ok(messages)
    }

    /// The next message or gap; waits for as long as it takes, also through an outage of the bus.
    ///
    /// Cancelling is safe. [`BusError::StreamChanged`] says that the stream was wiped, replaced or
    /// lost its tail; the caller then decides where to go on and opens a new reader.
    pub async fn next(&mut self) -> Result<Delivery, BusError> {
        if let Some(message) = self.held.take() {
            return Ok(self.pass(message));
        }
        loop {
            let Some(open) = &mut self.open else {
                self.reopen().await?;
                continue;
            };
            let pulled = tokio::select! {
                biased;
                pulled = open.pulled.next() => pulled,
                _ = self.changes.changed() => None,
            };
            match pulled {
                Some(Ok(raw)) => {
                    let Some((message, delivered)) = read(raw) else {
                        self.open = None;
                        continue;
                    };
                    open.delivered += 1;
                    if delivered != open.delivered || message.sequence < self.next {
                        tracing::warn!(
                            next = self.next,
                            "a message was lost on the way; reading again"
                        );
                        self.open = None;
                        continue;
                    }
                    return Ok(self.pass(message));
                }
                Some(Err(error)) => {
                    tracing::info!(%error, stream = self.stream.name(), "reading again");
                    self.open = None;
                }
                None => self.open = None,
            }
        }
    }

    /// Hands a message on, or first the gap before it.
    fn pass(&mut self, message: Message) -> Delivery {
        if message.sequence > self.next {
            let first = self.next;
            let last = message.sequence - 1;
            self.next = message.sequence;
            self.held = Some(message);
            return Delivery::Gap { first, last };
        }
        self.next = message.sequence + 1;
        self.last = Some((message.sequence, message.taken_us));
        Delivery::Message(message)
    }

    /// Makes a consumer again once the bus is back, if the stream is still the one we read.
    async fn reopen(&mut self) -> Result<(), BusError> {
        loop {
            self.changes.mark_unchanged();
            if self.stream.connection().client.connection_state() != State::Connected {
                let changed = tokio::time::timeout(AWAY_LOOK_EVERY, self.changes.changed()).await;
                tracing::trace!(is_changed = changed.is_ok(), "the bus is away");
                continue;
            }
            match self.stream.find().await {
                Ok(Some(state)) => {
                    if state.incarnation != self.incarnation || state.last + 1 < self.next {
                        return Err(self.changed(&state.incarnation, state.last));
                    }
                    match self.is_replaced(state.first).await {
                        Ok(false) => {}
                        Ok(true) => return Err(self.changed(&state.incarnation, state.last)),
                        Err(error) => {
                            tracing::debug!(%error, "cannot compare with what was read yet");
                            tokio::time::sleep(RETRY_PAUSE).await;
                            continue;
                        }
                    }
                    match self.consume().await {
                        Ok(open) => {
                            self.open = Some(open);
                            return Ok(());
                        }
                        Err(error) => tracing::debug!(%error, "cannot read the bus yet"),
                    }
                }
                Ok(None) => return Err(self.changed("none", 0)),
                Err(error) => tracing::debug!(%error, "the bus is away"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Whether the stream has another message where the last one was that we read.
    async fn is_replaced(&self, first: u64) -> Result<bool, BusError> {
        let Some((sequence, taken_us)) = self.last.filter(|last| last.0 >= first) else {
            return Ok(false);
        };
        let found_us = self.stream.taken_us(sequence).await?;
        Ok(found_us.is_some_and(|found_us| found_us != taken_us))
    }

    fn changed(&self, now: &str, last: u64) -> BusError {
        BusError::StreamChanged {
            stream: self.stream.name(),
            was: self.incarnation.clone(),
            now: now.to_owned(),
            read_to: self.next - 1,
            last,
        }
    }

    async fn consume(&self) -> Result<Open, BusError> {
        let failed = |error| self.stream.failed("read", error);
        let stream = self
            .stream
            .context()
            .get_stream_no_info(self.stream.name())
            .await;
        let stream = stream.map_err(|error| failed(error.into()))?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.next,
            },
            ack_policy: AckPolicy::None,
            replay_policy: consumer::ReplayPolicy::Instant,
            inactive_threshold: FORGET_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let made = stream.create_consumer(config).await;
        let made = made.map_err(|error| failed(error.into()))?;
        let pulled = made
            .stream()
            .max_bytes_per_batch(BYTES_IN_FLIGHT)
            .max_messages_per_batch(MESSAGES_IN_FLIGHT)
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .messages()
            .await;
        let pulled = pulled.map_err(|error| failed(error.into()))?;
        Ok(Open {
            pulled,
            delivered: 0,
        })
    }
}

/// The message with its place in the stream, and which delivery of the consumer it is.
fn read(raw: async_nats::jetstream::Message) -> Option<(Message, u64)> {
    let info = raw.info().ok()?;
    let (sequence, delivered) = (info.stream_sequence, info.consumer_sequence);
    let taken_us = info.published.unix_timestamp_nanos() / 1000;
    let message = raw.message;
    let read = Message {
        sequence,
        taken_us: i64::try_from(taken_us).ok()?,
        subject: message.subject.into_string(),
        payload: message.payload,
        headers: message.headers,
    };
    Some((read, delivered))
}
