//! Our two streams on the bus, and publishing to them with an acknowledgement.
//!
//! `EVENTS` rests on disk, keeps everything until it is purged, and refuses what does not fit
//! rather than dropping the old. `TELEMETRY` rests in memory and drops the old. Each carries in its
//! metadata its incarnation, a random name of this life, and its owner: what others made is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::Request;
use async_nats::connection::State;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use serin_connect::ack::{self, PubAck, Refusal};
use serin_wire::subject;

use crate::connection::Connection;
use crate::error::{BusError, PublishError};
use crate::messages::Messages;
use crate::owner::Owner;
use crate::settings::{TELEMETRY_BYTES_MAX, random_hex};

const EVENTS: &str = "EVENTS";
const TELEMETRY: &str = "TELEMETRY";
const INCARNATION: &str = "serin_incarnation";
/// The folder that reads and purges the stream, and where it is.
const OWNER: &str = "serin_owner";
const OWNER_PLACE: &str = "serin_owner_place";
/// `<incarnation>/<sequence>`: the life that this one goes on from, and what they share.
const RENEWED: &str = "serin_renewed";
/// The broker knows a message again for two minutes; the ingester does without a window.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Telemetry older than this is of no use to anyone.
const TELEMETRY_AGE_MAX: Duration = Duration::from_secs(600);
/// Bounds on every request: a bus that is down must not hold a caller.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Room for the headers within the bus's limit of a message.
const HEADERS_ROOM: usize = 1 << 10;

/// A stream of ours: events, or telemetry.
#[derive(Debug, Clone)]
pub struct EventStream {
    name: &'static str,
    connection: Connection,
    owner: Arc<Owner>,
    context: jetstream::Context,
    /// As it is made; the metadata are a life's own and not in it.
    config: Arc<Config>,
}

/// What a stream says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// This life's random name, 32 hex digits; empty where somebody else made the stream.
    pub incarnation: String,
    /// The life this one goes on from, and the last message the two share, where the bus had lost
    /// its tail.
    pub renewed: Option<(String, u64)>,
    /// The first message it holds; last + 1 when empty.
    pub first: u64,
    /// The last message it ever took; 0 before the first.
    pub last: u64,
    /// How many it holds.
    pub messages: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it may hold.
    pub bytes_max: u64,
}

pub(crate) async fn open_events(
    connection: &Connection,
    owner: &Arc<Owner>,
    bytes_max: u64,
) -> Result<EventStream, BusError> {
    let config = Config {
        name: EVENTS.to_owned(),
        subjects: vec![subject::EVENTS.to_owned()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(bytes_max).unwrap_or(i64::MAX),
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    open(connection, owner, EVENTS, config).await
}

pub(crate) async fn open_telemetry(
    connection: &Connection,
    owner: &Arc<Owner>,
) -> Result<EventStream, BusError> {
    let config = Config {
        name: TELEMETRY.to_owned(),
        subjects: subject::TELEMETRY.map(str::to_owned).to_vec(),
        storage: StorageType::Memory,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: TELEMETRY_BYTES_MAX,
        max_age: TELEMETRY_AGE_MAX,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    open(connection, owner, TELEMETRY, config).await
}

/// Makes the stream with a fresh incarnation, or brings the limits of the one there up to date.
async fn open(
    connection: &Connection,
    owner: &Arc<Owner>,
    name: &'static str,
    mut config: Config,
) -> Result<EventStream, BusError> {
    let mut context = jetstream::new(connection.client.clone());
    context.set_timeout(ANSWER_WITHIN);
    let stream = EventStream {
        name,
        connection: connection.clone(),
        owner: Arc::clone(owner),
        context,
        config: Arc::new(config.clone()),
    };
    let failed = |what: &str, source: async_nats::Error| BusError::JetStream {
        what: format!("{what} the stream {name}"),
        source,
    };
    match stream.context.get_stream(name).await {
        Ok(found) => {
            let old = &found.cached_info().config;
            config.metadata = old.metadata.clone();
            claim(&mut config.metadata, owner, name)?;
            let is_same = old.max_bytes == config.max_bytes
                && old.subjects == config.subjects
                && old.discard == config.discard
                && old.metadata == config.metadata;
            if !is_same {
                stream
                    .context
                    .update_stream(config)
                    .await
                    .map_err(|error| failed("update", error.into()))?;
            }
        }
        Err(error) if is_missing(&error) => {
            config.metadata = HashMap::from([(INCARNATION.to_owned(), random_hex()?)]);
            claim(&mut config.metadata, owner, name)?;
            let bytes_max = config.max_bytes;
            let created = stream.context.create_stream(config).await;
            created.map_err(|error| match error.kind() {
                CreateStreamErrorKind::JetStream(said) if has_no_room(&said) => BusError::NoRoom {
                    stream: name,
                    mib: bytes_max >> 20,
                },
                _ => failed("create", error.into()),
            })?;
        }
        Err(error) => return Err(failed("find", error.into())),
    }
    Ok(stream)
}

/// Puts our name on a stream, unless it is somebody else's.
fn claim(
    metadata: &mut HashMap<String, String>,
    owner: &Owner,
    stream: &'static str,
) -> Result<(), BusError> {
    if !metadata.contains_key(INCARNATION) {
        return Err(BusError::ForeignStream(stream));
    }
    if let Some(id) = metadata.get(OWNER)
        && *id != owner.id
        && !owner.is_private
    {
        return Err(BusError::OwnedStream {
            stream,
            place: metadata.get(OWNER_PLACE).cloned().unwrap_or_default(),
            id: id.clone(),
            file: owner.file.clone(),
        });
    }
    metadata.insert(OWNER.to_owned(), owner.id.clone());
    metadata.insert(OWNER_PLACE.to_owned(), owner.place.clone());
    Ok(())
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    use jetstream::context::GetStreamErrorKind::JetStream;
    matches!(error.kind(), JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the bus, or our account there, has less room than the stream may take.
fn has_no_room(said: &jetstream::Error) -> bool {
    let codes = [
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
    ];
    codes.contains(&said.error_code())
}

impl EventStream {
    /// Its name on the bus.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Its life, first and last message and size; `None` where the stream is gone.
    pub async fn find(&self) -> Result<Option<StreamState>, BusError> {
        match self.context.get_stream(self.name).await {
            Ok(stream) => Ok(Some(state_of(stream.cached_info()))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("tell about", error.into())),
        }
    }

    /// As [`EventStream::find`]; a stream that is gone is made again, with a life of its own.
    pub async fn ensure(&self) -> Result<StreamState, BusError> {
        if let Some(state) = self.find().await? {
            return Ok(state);
        }
        open(
            &self.connection,
            &self.owner,
            self.name,
            Config::clone(&self.config),
        )
        .await?;
        self.state().await
    }

    /// As [`EventStream::find`], where the stream must be there.
    pub async fn state(&self) -> Result<StreamState, BusError> {
        match self.context.get_stream(self.name).await {
            Ok(stream) => Ok(state_of(stream.cached_info())),
            Err(error) => Err(self.failed("tell about", error.into())),
        }
    }

    /// When the bus took a message, in microseconds; `None` where it has none there.
    pub async fn taken_us(&self, sequence: u64) -> Result<Option<i64>, BusError> {
        use jetstream::stream::LastRawMessageErrorKind::{JetStream, NoMessageFound};
        let stream = self.context.get_stream_no_info(self.name).await;
        let stream = stream.map_err(|error| self.failed("find", error.into()))?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => {
                let taken_us = message.time.unix_timestamp_nanos() / 1000;
                Ok(i64::try_from(taken_us).ok())
            }
            Err(error) => match error.kind() {
                NoMessageFound => Ok(None),
                JetStream(said) if said.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
                _ => Err(self.failed("read a message of", error.into())),
            },
        }
    }

    /// The first message that the bus took after `time_us`, or the one that comes next.
    pub async fn first_after(&self, time_us: i64) -> Result<u64, BusError> {
        let state = self.state().await?;
        // The bus's times do not fall within a stream, so the middle of a range divides it.
        let (mut from, mut to) = (state.first, state.last + 1);
        while from < to {
            let middle = from + (to - from) / 2;
            let mut at = middle;
            let mut found = None;
            while at < to && found.is_none() {
                found = self.taken_us(at).await?;
                at += 1;
            }
            match found {
                Some(taken_us) if taken_us <= time_us => from = at,
                _ => to = middle,
            }
        }
        Ok(from)
    }

    /// Gives the stream a new incarnation, for when it lost its tail behind `last`; the new one. The
    /// stream remembers both, so that a crash right after this is no riddle.
    pub async fn renew_incarnation(&self, last: u64) -> Result<String, BusError> {
        let stream = self.context.get_stream(self.name).await;
        let stream = stream.map_err(|error| self.failed("tell about", error.into()))?;
        let mut config = stream.cached_info().config.clone();
        let fresh = random_hex()?;
        let metadata = &mut config.metadata;
        if let Some(old) = metadata.insert(INCARNATION.to_owned(), fresh.clone()) {
            metadata.insert(RENEWED.to_owned(), format!("{old}/{last}"));
        }
        let updated = self.context.update_stream(config).await;
        updated.map_err(|error| self.failed("rename the life of", error.into()))?;
        Ok(fresh)
    }

    /// Removes every message up to and including `sequence`.
    pub async fn purge_to(&self, sequence: u64) -> Result<(), BusError> {
        let stream = self.context.get_stream_no_info(self.name).await;
        let stream = stream.map_err(|error| self.failed("find", error.into()))?;
        let purged = stream.purge().sequence(sequence.saturating_add(1)).await;
        purged.map_err(|error| self.failed("purge", error.into()))?;
        Ok(())
    }

    /// Reads from message `sequence` on, in order, for ever.
    pub async fn messages_from(&self, sequence: u64) -> Result<Messages, BusError> {
        Messages::open(self.clone(), sequence).await
    }

    /// Publishes and waits until the bus has it on disk.
    ///
    /// After [`PublishError::Unavailable`] the message may or may not be there: send it again with
    /// the same `Nats-Msg-Id`. Callers may publish several at a time.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: Bytes,
    ) -> Result<PubAck, PublishError> {
        let Connection { client, changes } = &self.connection;
        let mut changes = changes.clone();
        changes.mark_unchanged();
        // async-nats queues 2,048 messages while disconnected and then blocks: do not begin.
        if client.connection_state() != State::Connected {
            return Err(PublishError::Unavailable("not connected"));
        }
        let bytes_max = client.max_payload().saturating_sub(HEADERS_ROOM);
        if payload.len() > bytes_max {
            return Err(PublishError::TooLarge {
                bytes: payload.len(),
                bytes_max,
            });
        }
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, value);
        }
        let request = Request::new().headers(map).payload(payload).timeout(None);
        tokio::select! {
            answer = client.send_request(subject.to_owned(), request) => match answer {
                Ok(answer) => Ok(ack::read(&answer)?),
                Err(error) => Err(refusal_of(&error)),
            },
            _ = changes.changed() => Err(PublishError::Unavailable("the connection broke")),
            () = tokio::time::sleep(ANSWER_WITHIN) => {
                Err(PublishError::Unavailable("no answer in time"))
            }
        }
    }

    pub(crate) fn failed(&self, what: &str, source: async_nats::Error) -> BusError {
        BusError::JetStream {
            what: format!("{what} the stream {}", self.name),
            source,
        }
    }
}

fn state_of(info: &jetstream::stream::Info) -> StreamState {
    let incarnation = info.config.metadata.get(INCARNATION);
    StreamState {
        incarnation: incarnation.cloned().unwrap_or_default(),
        renewed: info.config.metadata.get(RENEWED).and_then(|renewed| {
            let (incarnation, last) = renewed.split_once('/')?;
            Some((incarnation.to_owned(), last.parse().ok()?))
        }),
        first: info.state.first_sequence.max(1),
        last: info.state.last_sequence,
        messages: info.state.messages,
        bytes: info.state.bytes,
        bytes_max: u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX),
    }
}

fn refusal_of(error: &async_nats::RequestError) -> PublishError {
    use async_nats::RequestErrorKind as Kind;
    match error.kind() {
        Kind::NoResponders => PublishError::Unavailable("no stream takes the subject"),
        Kind::InvalidSubject => PublishError::Refused(Refusal::Said {
            code: 0,
            description: String::from("the subject is not valid"),
        }),
        _ => PublishError::Unavailable("the connection broke"),
    }
}
