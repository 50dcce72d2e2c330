//! Calls of other services: built, sent to a version by the routes, and repeated once where that
//! cannot run anything twice.
//!
//! **One retry**, on "no responders" and on an answer that says `serin-not-run`, always; on a lost
//! answer only where the endpoint is idempotent. Nothing else is sent twice. **Told** is a call by whoever
//! takes it, and by us where nobody did. Start at [`Call`].

pub(crate) mod error;
pub(crate) mod link;
pub(crate) mod post;
pub(crate) mod routes;

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serin_wire::request::Callee;
use serin_wire::{Request, call, name, route, subject};
use tokio::time::Instant;

use crate::call::error::CallError;
use crate::call::link::Link;
use crate::call::post::{Letter, Lost};
use crate::call::routes::choose;
use crate::clock;
use crate::context::Context;
use crate::serin::Serin;
use crate::span::{micros, status_of};

/// How long a call waits unless said otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between tries while services listen again.
const SETTLE_EVERY: Duration = Duration::from_millis(50);

/// A call before it is made; awaiting it makes it and reads the reply as `R`.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Call<R> {
    serin: Serin,
    service: String,
    endpoint: String,
    body: Result<Bytes, serde_json::Error>,
    key: Option<String>,
    timeout: Duration,
    is_idempotent: bool,
    headers: HeaderMap,
    /// The chain it is a hop of, and its stage.
    hop: Option<(String, usize)>,
    reply: PhantomData<fn() -> R>,
}

/// What a service answered, with how long it took.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The body as it came.
    pub body: Bytes,
    /// The version that answered, where it says so.
    pub version: Option<String>,
    /// The instance that answered, where it says so.
    pub instance: Option<String>,
    /// How long it took, and where.
    pub timing: Timing,
    headers: HeaderMap,
}

/// Where the time of a call went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// From sending to having the answer.
    pub total_us: u64,
    /// Waiting at the service before its handler ran.
    pub queue_us: u64,
    /// In the handler.
    pub handler_us: u64,
    /// On the way: what remains.
    pub network_us: u64,
}

impl Reply {
    /// A header of the reply.
    pub fn header(&self, name: &str) -> Option<&str> {
        read(&self.headers, name)
    }
}

impl Serin {
    /// A call of an endpoint, with a value that becomes JSON:
    /// `let added: Added = serin.call("cart", "add", &item).await?`.
    pub fn call<R>(
        &self,
        service: &str,
        endpoint: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Call<R> {
        let body = serde_json::to_vec(body).map(Bytes::from);
        Call::new(self, service, endpoint, body)
    }

    /// A call of an endpoint that takes bytes as they are; see [`Call::reply`] for the answer as it is.
    pub fn call_bytes(&self, service: &str, endpoint: &str, body: Bytes) -> Call<Value> {
        self.call_json(service, endpoint, body)
            .header(call::CONTENT_TYPE, call::BYTES)
    }

    /// A call with a body that is JSON already.
    pub(crate) fn call_json(&self, service: &str, endpoint: &str, body: Bytes) -> Call<Value> {
        Call::new(self, service, endpoint, Ok(body))
    }
}

impl<R> Call<R> {
    fn new(
        serin: &Serin,
        service: &str,
        endpoint: &str,
        body: Result<Bytes, serde_json::Error>,
    ) -> Call<R> {
        Call {
            serin: serin.clone(),
            service: service.to_owned(),
            endpoint: endpoint.to_owned(),
            body,
            key: None,
            timeout: TIMEOUT,
            is_idempotent: false,
            headers: HeaderMap::new(),
            hop: None,
            reply: PhantomData,
        }
    }

    /// Calls with the same key go to the same version while its weight allows it.
    pub fn key(mut self, key: impl Into<String>) -> Call<R> {
        self.key = Some(key.into());
        self
    }

    /// How long to wait in all; never longer than whoever waits for the work under way.
    pub fn timeout(mut self, timeout: Duration) -> Call<R> {
        self.timeout = timeout;
        self
    }

    /// Says that running it twice does no harm, so that a lost answer is asked for once more: after
    /// half of the time, or when the connection breaks.
    pub fn idempotent(mut self) -> Call<R> {
        self.is_idempotent = true;
        self
    }

    /// Sends a header along. One that NATS cannot carry is left out, and told in the log.
    pub fn header(mut self, name: &str, value: &str) -> Call<R> {
        match (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => self.headers.append(name, value),
            _ => tracing::warn!(name, "left out a header that NATS cannot carry"),
        }
        self
    }

    /// Says in the span that this is a hop of a chain.
    pub(crate) fn hop(mut self, chain: &str, stage: usize) -> Call<R> {
        self.hop = Some((chain.to_owned(), stage));
        self
    }

    /// Makes the call; the answer as it is.
    pub async fn reply(mut self) -> Result<Reply, CallError> {
        let cause = self.serin.cause();
        let target = format!("{}.{}", self.service, self.endpoint);
        let span = self.serin.shared().spans.begin(cause.trace);
        let mut attempts = 0;
        let context = Context {
            trace: Some(span.trace),
            ..cause
        };
        let result = self.attempt(&context, &target, &mut attempts).await;
        let attributes = || self.attributes(attempts, &result);
        let status = status_of(&result);
        let shared = self.serin.shared();
        shared.end_span(span, &target, status, attributes);
        result
    }

    /// What the span of this call says.
    fn attributes(&self, attempts: u32, result: &Result<Reply, CallError>) -> Map<String, Value> {
        let mut attributes = Map::new();
        attributes.insert("kind".into(), "client".into());
        if attempts > 1 {
            attributes.insert("attempts".into(), attempts.into());
        }
        if let Some((chain, stage)) = &self.hop {
            attributes.insert("chain".into(), chain.as_str().into());
            attributes.insert("stage".into(), (*stage).into());
        }
        match result {
            Ok(reply) => {
                reply.timing.describe(&mut attributes);
                let peer = [("version", &reply.version), ("instance", &reply.instance)];
                for (name, value) in peer {
                    if let Some(value) = value {
                        attributes.insert(format!("peer_{name}"), value.as_str().into());
                    }
                }
            }
            Err(error) => {
                attributes.insert("error".into(), error.to_string().into());
            }
        }
        attributes
    }

    async fn attempt(
        &mut self,
        context: &Context,
        target: &str,
        attempts: &mut u32,
    ) -> Result<Reply, CallError> {
        let target = || target.to_owned();
        for name in [&self.service, &self.endpoint] {
            name::check_service(name).map_err(|source| CallError::Name {
                target: target(),
                source,
            })?;
        }
        if context.depth >= call::DEPTH_MAX {
            return Err(CallError::TooDeep {
                target: target(),
                depth: context.depth,
            });
        }
        let body = std::mem::replace(&mut self.body, Ok(Bytes::new()));
        let body = body.map_err(|source| CallError::Request {
            target: target(),
            source,
        })?;
        let began = Instant::now();
        let own = began + self.timeout;
        let deadline = context
            .deadline
            .map_or(own, |waits| own.min(Instant::from_std(waits)));
        let link = self.serin.link().await;
        let link = link.map_err(|source| CallError::Connect {
            target: target(),
            source,
        })?;
        link.know_routes(deadline).await;
        let slot = match &self.key {
            Some(key) => route::slot_of(&self.service, key),
            None => (clock::random_u64() % u64::from(route::SLOTS)) as u32,
        };
        let mut avoid = None;
        let mut may_retry = true;
        let mut was_lost = false;
        loop {
            *attempts += 1;
            let (subject, version, is_told) = self.destination(&link, slot, avoid.as_deref());
            let is_idempotent = self.is_idempotent || is_told;
            let sent_at = Instant::now();
            let left = deadline.saturating_duration_since(sent_at);
            let may_repeat = is_idempotent && may_retry;
            let until = if may_repeat {
                sent_at + left / 2
            } else {
                deadline
            };
            let sent = link.post.send(Letter {
                subject,
                headers: self.head(context, left),
                body: body.clone(),
                until,
                gives_up_when_broken: may_repeat,
                is_told: !may_repeat,
            });
            match sent.await {
                Ok(message) if may_retry && is_not_run(&message) => may_retry = false,
                Ok(message) => return answer(message, sent_at, target(), was_lost),
                Err(Lost::NoResponders) if link.post.is_settling() && left > SETTLE_EVERY => {
                    tokio::time::sleep(SETTLE_EVERY).await;
                }
                Err(Lost::NoResponders) if may_retry => {
                    may_retry = false;
                    link.routing.ask(&link.post, false, deadline).await;
                    avoid = version;
                }
                Err(Lost::Late(_) | Lost::Broken) if may_repeat => {
                    may_retry = false;
                    was_lost = true;
                }
                Err(lost) => {
                    let took = began.elapsed();
                    let within_ms = took.as_millis() as u64;
                    // The try before may have run, whatever became of this one.
                    let error = match lost {
                        _ if was_lost => CallError::Late {
                            target: target(),
                            within_ms,
                        },
                        lost => self.lost(lost, target(), within_ms, &body, &link),
                    };
                    let row = || self.untaken(context, version, error.code(), took);
                    match lost {
                        Lost::Late(token) => link.post.tell_unless_answered(token, row()),
                        Lost::NoResponders | Lost::Away => {
                            self.serin.shared().tell_request(&row());
                        }
                        // Broken is asked for again; too large is no fault of whom it was for.
                        Lost::Broken | Lost::TooLarge => {}
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The subject to send to, its version, and whether the routes call the endpoint idempotent.
    fn destination(
        &self,
        link: &Link,
        slot: u32,
        avoid: Option<&str>,
    ) -> (String, Option<String>, bool) {
        let routes = link.routing.now();
        let route = routes.services.get(&self.service);
        let is_idempotent = route.is_some_and(|route| route.idempotent.contains(&self.endpoint));
        let version = route.and_then(|route| choose(route, slot, avoid));
        let subject = match version {
            Some(version) => subject::call(&self.service, version, &self.endpoint),
            None => subject::call_any(&self.service, &self.endpoint),
        };
        (subject, version.map(str::to_owned), is_idempotent)
    }

    fn head(&self, context: &Context, left: Duration) -> HeaderMap {
        let mut headers = self.headers.clone();
        let left_ms = left.as_millis().max(1);
        headers.insert(call::TIMEOUT_MS, left_ms.to_string());
        headers.insert(call::CALLER, self.serin.shared().options.service.as_str());
        headers.insert(call::DEPTH, (context.depth + 1).to_string());
        if context.chain_depth > 0 {
            headers.insert(call::CHAIN_DEPTH, context.chain_depth.to_string());
        }
        if let Some(traceparent) = context.traceparent() {
            headers.insert(call::TRACEPARENT, traceparent);
        }
        if let Some(arm) = context.arm().filter(|arm| is_one_line(arm)) {
            headers.insert(call::ARM, arm);
        }
        headers
    }

    /// What is told of a call that nobody took.
    fn untaken(
        &self,
        context: &Context,
        version: Option<String>,
        status: u16,
        took: Duration,
    ) -> Request<'static> {
        let trace = context.trace;
        Request {
            time: clock::now_us() - i64::try_from(micros(took)).unwrap_or_default(),
            endpoint: self.endpoint.clone().into(),
            caller: None,
            status,
            duration_us: micros(took),
            queue_us: None,
            method: None,
            bytes: 0,
            trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id).into()),
            arm: context.arm().map(|arm| arm.to_owned().into()),
            callee: Some(Callee {
                service: self.service.clone().into(),
                version: version.map(Into::into),
            }),
        }
    }

    fn lost(
        &self,
        lost: Lost,
        target: String,
        within_ms: u64,
        body: &Bytes,
        link: &Link,
    ) -> CallError {
        match lost {
            Lost::NoResponders => CallError::Absent { target },
            Lost::Late(_) | Lost::Broken => CallError::Late { target, within_ms },
            Lost::Away => CallError::Away { target, within_ms },
            Lost::TooLarge => CallError::TooLarge {
                target,
                bytes: body.len(),
                bytes_max: link.post.client.max_payload(),
            },
        }
    }
}

impl<R: DeserializeOwned> Call<R> {
    async fn typed(self) -> Result<R, CallError> {
        let target = format!("{}.{}", self.service, self.endpoint);
        let reply = self.reply().await?;
        serde_json::from_slice(&reply.body).map_err(|source| CallError::Reply {
            target,
            wanted: std::any::type_name::<R>(),
            source,
        })
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Call<R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.typed())
    }
}

impl Timing {
    /// Of an answer that came after `total`, from what its headers say.
    fn of(headers: &HeaderMap, total: Duration) -> Timing {
        let number = |name| read(headers, name).and_then(|text| text.parse().ok());
        let total_us = micros(total);
        let queue_us: u64 = number(call::QUEUE_US).unwrap_or_default();
        let handler_us: u64 = number(call::HANDLER_US).unwrap_or_default();
        Timing {
            total_us,
            queue_us,
            handler_us,
            network_us: total_us.saturating_sub(queue_us.saturating_add(handler_us)),
        }
    }

    /// As attributes of a span.
    fn describe(&self, attributes: &mut Map<String, Value>) {
        attributes.insert("queue_us".into(), self.queue_us.into());
        attributes.insert("handler_us".into(), self.handler_us.into());
        attributes.insert("network_us".into(), self.network_us.into());
    }
}

/// The answer to a call, of which a try before this one `was_lost` or not.
fn answer(
    message: Message,
    sent_at: Instant,
    target: String,
    was_lost: bool,
) -> Result<Reply, CallError> {
    let total = sent_at.elapsed();
    let headers = message.headers.unwrap_or_default();
    if let Some(code) = read(&headers, call::ERROR_CODE) {
        return Err(CallError::Failed {
            target,
            code: code.parse().unwrap_or(call::CODE_FAILED),
            message: read(&headers, call::ERROR).unwrap_or_default().to_owned(),
            body: message.payload,
            has_run: was_lost || read(&headers, call::NOT_RUN).is_none(),
        });
    }
    let owned = |name| read(&headers, name).map(str::to_owned);
    Ok(Reply {
        body: message.payload,
        version: owned(call::VERSION),
        instance: owned(call::INSTANCE),
        timing: Timing::of(&headers, total),
        headers,
    })
}

fn is_not_run(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| read(headers, call::NOT_RUN).is_some())
}

/// A header's value.
pub(crate) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::as_str)
}

/// Whether a text can be a header's value.
pub(crate) fn is_one_line(text: &str) -> bool {
    !text.contains(['\r', '\n'])
}
