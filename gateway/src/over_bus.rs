//! A request to an instance on the bus, by its own subject, and its answer in one or more messages.
//!
//! While an answer is awaited, the instance is watched: the answer of one that has ended, or of one
//! that has fallen silent, is taken for lost, so that a request that may run twice goes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::{Message, PublishErrorKind, StatusCode as NatsStatus};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Response, StatusCode, header};
use serin_wire::call;
use tokio::time::Instant;

use crate::access::GATEWAY;
use crate::answer::{Attempt, BodyError, ServiceBody};
use crate::gateway::Shared;
use crate::head;
use crate::health::Fault;
use crate::inbox::{self, Chunk, Replies};
use crate::page::{NoInstance, Refusal};
use crate::pass::Asked;
use crate::view::{InFlight, Peer};

/// How often the pulse of an instance is looked at while its answer is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A request that must not run twice is given up once its instance was silent for so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// What an instance answered before its end may take so long to come: once through the bus.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What became of the bus while an answer is awaited.
struct Cut {
    /// How often the bus had been found when the request was sent.
    connects: u64,
    /// Whether it was away since then.
    has_been: bool,
    /// Since when it is away.
    since: Option<Instant>,
}

/// Sends a request to an instance.
pub(crate) async fn attempt(
    shared: &Arc<Shared>,
    asked: &Asked,
    body: &Bytes,
    peer: &Arc<Peer>,
    in_flight: InFlight,
) -> Attempt {
    if shared.bus.connection_state() != State::Connected {
        return Attempt::Refused(Refusal::NoInstance {
            service: peer.service.clone(),
            why: NoInstance::NoBus,
        });
    }
    let mut replies = shared.inbox.expect();
    let sent = shared.bus.publish_with_reply_and_headers(
        peer.subject.clone(),
        replies.subject(),
        headers(asked, peer),
        body.clone(),
    );
    if let Err(error) = sent.await {
        return match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Attempt::Refused(Refusal::TooLarge {
                most: shared.bus.max_payload(),
            }),
            _ => Attempt::NotRun(Fault::Gone),
        };
    }
    match first(shared, asked, peer, &mut replies).await {
        Ok(message) => answer(shared, asked, peer, message, (replies, in_flight)),
        // The instance did what it should; it is we who have no room.
        Err(why @ Refusal::NoRoom { .. }) => Attempt::Refused(why),
        Err(why) => Attempt::Lost(why),
    }
}

/// The first message of the answer.
async fn first(
    shared: &Shared,
    asked: &Asked,
    peer: &Peer,
    replies: &mut Replies,
) -> Result<Chunk, Refusal> {
    let after = asked.entry.service.timeout;
    let start = Instant::now();
    let mut look = tokio::time::interval_at(start + LOOK_EVERY, LOOK_EVERY);
    let deadline = tokio::time::sleep_until(start + after);
    let ended = ended(peer);
    tokio::pin!(deadline, ended);
    let mut cut = Cut::new(shared.connects());
    loop {
        tokio::select! {
            biased;
            chunk = replies.next() => return chunk.ok_or_else(|| Refusal::NoRoom {
                service: peer.service.clone(),
                instance: peer.instance.name.clone(),
            }),
            () = &mut deadline => return Err(Refusal::TooLate {
                service: peer.service.clone(),
                after,
            }),
            () = &mut ended => return Err(peer.broke_off()),
            now = look.tick() => {
                let mut pulses = shared.pulses();
                let is_away = shared.bus.connection_state() != State::Connected;
                cut.look(is_away, shared.connects(), now);
                if cut.is_lost(asked.is_idempotent, now) {
                    return Err(peer.broke_off());
                }
                if !asked.is_idempotent {
                    pulses.suspect_after = pulses.suspect_after.max(GIVE_UP_AFTER);
                }
                if peer.health().is_suspect(Instant::now(), pulses) {
                    return Err(peer.broke_off());
                }
            }
        }
    }
}

impl Cut {
    fn new(connects: u64) -> Cut {
        Cut {
            connects,
            has_been: false,
            since: None,
        }
    }

    /// Whether the bus is away at this moment, and how often it was found.
    fn look(&mut self, is_away: bool, connects: u64, now: Instant) {
        self.has_been |= is_away || connects != self.connects;
        self.since = is_away.then(|| self.since.unwrap_or(now));
    }

    /// Whether the answer is given up. The bus forgets what was on its way when it ended; what the
    /// instance answers later may still come, which is waited for where the request may not run twice.
    fn is_lost(&self, is_idempotent: bool, now: Instant) -> bool {
        match is_idempotent {
            true => self.has_been,
            false => self.since.is_some_and(|since| now - since > GIVE_UP_AFTER),
        }
    }
}

/// Reads the first message and attaches the others.
fn answer(
    shared: &Arc<Shared>,
    asked: &Asked,
    peer: &Arc<Peer>,
    chunk: Chunk,
    rest: (Replies, InFlight),
) -> Attempt {
    let message = &chunk.message;
    if message.status == Some(NatsStatus::NO_RESPONDERS) {
        return Attempt::NotRun(Fault::Gone);
    }
    let read = |name: &str| message.headers.as_ref()?.get(name).map(HeaderValue::as_str);
    if read(call::NOT_RUN).is_some() {
        return Attempt::NotRun(Fault::Busy);
    }
    let bad = |what| {
        Attempt::Refused(Refusal::BadAnswer {
            service: peer.service.clone(),
            instance: peer.instance.name.clone(),
            what,
        })
    };
    let Some(status) = read(call::WEB_STATUS) else {
        return match read(call::ERROR_CODE) {
            Some(code) => Attempt::Refused(Refusal::Failed {
                service: peer.service.clone(),
                code: code.parse().unwrap_or(call::CODE_FAILED),
                message: read(call::ERROR)
                    .unwrap_or("it does not say why")
                    .to_owned(),
            }),
            None => bad("without a status of HTTP"),
        };
    };
    let status = status.parse().ok().map(StatusCode::from_u16);
    let Some(Ok(status)) = status.filter(|status| {
        // One below 200 is no answer yet, and there are no others to come.
        status
            .as_ref()
            .is_ok_and(|status| !status.is_informational())
    }) else {
        return bad("with a status that HTTP does not have");
    };
    let queue_us = read(call::QUEUE_US).and_then(|queue| queue.parse().ok());
    let pattern = read(call::WEB_PATTERN).map(str::to_owned);
    let mut response = Response::new(());
    *response.status_mut() = status;
    copy_headers(message, response.headers_mut());
    let has_more = read(call::WEB_MORE).is_some();
    if !has_more && asked.head.method != Method::HEAD {
        // It is what it is, whatever the service thinks.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let body = if has_more {
        let is_endless = head::is_event_stream(response.headers());
        let within = (!is_endless).then_some(asked.entry.service.timeout);
        chunks(Arc::clone(shared), Arc::clone(peer), chunk, rest, within)
    } else {
        let body = Full::new(chunk.into_payload()).map_err(|never| match never {});
        body.boxed_unsync()
    };
    Attempt::Answer {
        response: response.map(|()| body),
        queue_us,
        pattern,
    }
}

fn headers(asked: &Asked, peer: &Peer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        // What NATS cannot carry is not a header of HTTP either.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    };
    set(
        call::WEB_REQUEST,
        &format!("{} {}", asked.head.method, asked.target),
    );
    set(
        call::TIMEOUT_MS,
        &asked.entry.service.timeout.as_millis().to_string(),
    );
    set(call::CALLER, GATEWAY);
    set(call::WEB_WINDOW, &inbox::WINDOW.to_string());
    set(call::TRACEPARENT, &asked.trace.to_traceparent());
    if let Some(arm) = asked.arm(peer) {
        set(call::ARM, &arm);
    }
    for (name, value) in &asked.head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        set(&format!("{}{name}", call::WEB_HEADER_PREFIX), &value);
    }
    headers
}

fn copy_headers(message: &Message, headers: &mut hyper::HeaderMap) {
    let all = message.headers.iter().flat_map(HeaderMap::iter);
    for (name, values) in all {
        let name: &str = name.as_ref();
        let name = name.strip_prefix(call::WEB_HEADER_PREFIX);
        let name = name.and_then(|name| name.parse::<header::HeaderName>().ok());
        let Some(name) = name else { continue };
        for value in values {
            match header::HeaderValue::from_bytes(value.as_str().as_bytes()) {
                Ok(value) => drop(headers.append(name.clone(), value)),
                Err(_) => tracing::debug!(%name, "left out a header that HTTP cannot carry"),
            }
        }
    }
}

/// A body of the first chunk and those that follow.
fn chunks(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    first: Chunk,
    (replies, in_flight): (Replies, InFlight),
    within: Option<Duration>,
) -> ServiceBody {
    struct Rest {
        replies: Replies,
        first: Option<Chunk>,
        has_more: bool,
        _in_flight: InFlight,
    }
    let rest = Rest {
        replies,
        first: Some(first),
        has_more: true,
        _in_flight: in_flight,
    };
    let pieces = stream::try_unfold(rest, move |mut rest| {
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        async move {
            let chunk = match rest.first.take() {
                Some(first) => first,
                None if !rest.has_more => return Ok(None),
                None => next(&shared, &peer, &mut rest.replies, within).await?,
            };
            let headers = chunk.message.headers.as_ref();
            let read = |name: &str| headers.and_then(|headers| headers.get(name));
            if read(call::ERROR_CODE).is_some() {
                return Err(BodyError::BrokeOff);
            }
            rest.has_more = read(call::WEB_MORE).is_some();
            Ok(Some((Frame::data(chunk.into_payload()), rest)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn next(
    shared: &Shared,
    peer: &Peer,
    replies: &mut Replies,
    within: Option<Duration>,
) -> Result<Chunk, BodyError> {
    let start = Instant::now();
    let mut look = tokio::time::interval_at(start + LOOK_EVERY, LOOK_EVERY);
    let ended = ended(peer);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            chunk = replies.next() => return chunk.ok_or(BodyError::BrokeOff),
            () = &mut ended => return Err(BodyError::BrokeOff),
            now = look.tick() => {
                if let Some(within) = within && now - start > within {
                    return Err(BodyError::TooSlow(within));
                }
                let mut pulses = shared.pulses();
                pulses.suspect_after = pulses.suspect_after.max(GIVE_UP_AFTER);
                if peer.health().is_suspect(now, pulses) {
                    return Err(BodyError::BrokeOff);
                }
            }
        }
    }
}

/// Returns once the process of an instance has ended and what it said last must have come.
async fn ended(peer: &Peer) {
    peer.ended().await;
    tokio::time::sleep(LAST_WORDS).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_run_twice_is_given_up_once_the_bus_was_away_too_long() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut cut = Cut::new(1);
        cut.look(false, 1, at(20));
        assert!(!cut.is_lost(true, at(20)) && !cut.is_lost(false, at(20)));
        cut.look(true, 1, at(21));
        assert!(cut.is_lost(true, at(21)), "it goes elsewhere at once");
        cut.look(true, 1, at(26));
        assert!(!cut.is_lost(false, at(26)), "its age does not matter");
        cut.look(false, 2, at(27));
        assert!(cut.is_lost(true, at(27)), "the bus forgot it");
        cut.look(true, 2, at(28));
        assert!(!cut.is_lost(false, at(33)), "it was back meanwhile");
        assert!(cut.is_lost(false, at(34)));
        let mut unseen = Cut::new(1);
        unseen.look(false, 2, at(1));
        assert!(unseen.is_lost(true, at(1)) && !unseen.is_lost(false, at(9)));
    }
}
