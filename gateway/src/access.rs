//! What is told of each request: a row of `requests` and a span, batched and sent on the bus.
//!
//! It is telemetry: what does not fit the queue, or comes while the bus is away, is dropped and
//! counted. Which requests have their span, the rule of all services says: the failed and the slow,
//! and of the others whole traces as they fit the budget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, json};
use serin_wire::event::Trace;
use serin_wire::request::NONE;
use serin_wire::sample::{Offer, SAMPLED, Sampler};
use serin_wire::span::SpanStatus;
use serin_wire::{Request, Span, subject};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::counts::Counts;
use crate::endpoint::{Asked, Endpoints};
use crate::table::Service;

/// Requests that wait to be told; at some 500 bytes each, 4 MiB, two seconds of 4,000 a second.
const QUEUE_MAX: usize = 8_192;
/// How long the first of a batch waits.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// How long the last requests may take to be told: a bus that is away is not waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// A message is sent once it is so long, well below what the bus takes.
const MESSAGE_BYTES: usize = 64 << 10;
/// How the gateway is named as a caller and as a service; no service may have this name.
pub(crate) const GATEWAY: &str = "gateway";
/// What a log says of a request whose client left before its answer.
pub(crate) const CLIENT_LEFT: u16 = 499;
/// Of a path in a span.
const PATH_CHARS_MAX: usize = 256;

/// Where requests are told.
#[derive(Debug)]
pub(crate) struct Teller {
    queue: mpsc::Sender<Facts>,
    counts: Arc<Counts>,
    sampler: Arc<Sampler>,
}

/// A request from its head to the end of its answer; told when dropped.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    teller: Arc<Teller>,
    facts: Option<Facts>,
    start: Instant,
    /// Bytes of the answer's body so far.
    pub(crate) bytes: u64,
    /// All of the answer was handed to the connection.
    pub(crate) is_over: bool,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) instance: String,
    /// The path of the service.
    pub(crate) prefix: String,
    /// Which pattern below it matched, where the service says so.
    pub(crate) pattern: Option<String>,
    pub(crate) method: Method,
    /// Absent until there is an answer.
    pub(crate) status: Option<StatusCode>,
    /// Its path, without the query: that may hold what is secret.
    pub(crate) path: String,
    /// The gateway's own span.
    pub(crate) trace: Trace,
    /// The span of the client.
    pub(crate) parent: Option<u64>,
    pub(crate) arm: Option<String>,
    pub(crate) queue_us: Option<u64>,
    pub(crate) began_us: i64,
    duration_us: u64,
    bytes: u64,
}

impl Facts {
    /// Of a request that just began and has no answer.
    pub(crate) fn new(service: &Service, method: Method, path: &str, trace: Trace) -> Facts {
        Facts {
            service: service.name.clone(),
            version: NONE.to_owned(),
            instance: NONE.to_owned(),
            prefix: service.prefix.clone(),
            pattern: None,
            method,
            status: None,
            path: path.chars().take(PATH_CHARS_MAX).collect(),
            trace,
            parent: None,
            arm: None,
            queue_us: None,
            began_us: 0,
            duration_us: 0,
            bytes: 0,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            service: &self.service,
            prefix: &self.prefix,
            path: &self.path,
            pattern: self.pattern.as_deref(),
            status: self.status_code(),
        }
    }

    fn row<'a>(&'a self, endpoint: &'a str) -> Request<'a> {
        Request {
            time: self.began_us,
            endpoint: endpoint.into(),
            caller: Some(GATEWAY.into()),
            status: self.status_code(),
            duration_us: self.duration_us,
            queue_us: self.queue_us,
            method: Some(self.method.as_str().into()),
            bytes: self.bytes,
            trace_id: Some(format!("{:032x}", self.trace.trace_id).into()),
            arm: self.arm.as_deref().map(Into::into),
            callee: None,
        }
    }

    fn span<'a>(&'a self, name: &'a str, endpoint: &str, gateway: &'a Name) -> Span<'a> {
        let mut attributes = Map::new();
        attributes.insert("http.route".into(), json!(endpoint));
        attributes.insert(
            "http.response.status_code".into(),
            json!(self.status_code()),
        );
        attributes.insert("url.path".into(), json!(self.path));
        attributes.insert("serin.service".into(), json!(self.service));
        attributes.insert("serin.instance".into(), json!(self.instance));
        Span {
            trace_id: format!("{:032x}", self.trace.trace_id).into(),
            span_id: format!("{:016x}", self.trace.span_id).into(),
            parent_id: self.parent.map(|parent| format!("{parent:016x}").into()),
            name: name.into(),
            service: GATEWAY.into(),
            version: gateway.version.as_str().into(),
            instance: gateway.instance.as_str().into(),
            time: self.began_us,
            duration_us: self.duration_us,
            status: match self.has_failed() {
                true => SpanStatus::Error,
                false => SpanStatus::Ok,
            },
            attributes,
        }
    }

    fn has_failed(&self) -> bool {
        self.status.is_some_and(|status| status.is_server_error())
    }

    fn status_code(&self) -> u16 {
        self.status.map_or(CLIENT_LEFT, |status| status.as_u16())
    }
}

impl Teller {
    /// The flags of a trace that begins here.
    pub(crate) fn flags(&self, trace_id: u128) -> u8 {
        match self.sampler.takes(trace_id) {
            true => SAMPLED,
            false => 0,
        }
    }
}

impl AccessRecord {
    /// Of a request that began at `start`; without facts where it is only counted.
    pub(crate) fn new(teller: &Arc<Teller>, facts: Option<Facts>, start: Instant) -> AccessRecord {
        teller.counts.requests_open.rise();
        AccessRecord {
            teller: Arc::clone(teller),
            facts,
            start,
            bytes: 0,
            is_over: false,
        }
    }

    /// What is known so far.
    pub(crate) fn facts(&mut self) -> Option<&mut Facts> {
        self.facts.as_mut()
    }

    /// The answer broke off after it had begun, which its status does not say.
    pub(crate) fn break_off(&mut self) {
        self.is_over = true;
        self.teller.counts.broken.rise();
        if let Some(facts) = &mut self.facts {
            facts.status = Some(StatusCode::BAD_GATEWAY);
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        self.teller.counts.requests_open.fall();
        if !self.is_over {
            self.teller.counts.abandoned.rise();
        }
        if let Some(mut facts) = self.facts.take() {
            let took = self.start.elapsed().as_micros();
            facts.duration_us = u64::try_from(took).unwrap_or(u64::MAX);
            facts.bytes = self.bytes;
            if self.teller.queue.try_send(facts).is_err() {
                // Its row and its span.
                self.teller.counts.dropped_rows.add(2);
            }
        }
    }
}

/// How the gateway names itself in spans.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) version: String,
    pub(crate) instance: String,
}

/// Sends what is told; see [`Sender::run`].
pub(crate) struct Sender {
    queue: mpsc::Receiver<Facts>,
    counts: Arc<Counts>,
    bus: Client,
    name: Arc<Name>,
    batches: HashMap<String, Batch>,
    endpoints: Endpoints,
    sampler: Arc<Sampler>,
}

/// Lines for one subject.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
}

/// A way to tell, and who sends what is told.
pub(crate) fn open(bus: Client, name: Name, counts: Arc<Counts>) -> (Arc<Teller>, Sender) {
    let (tx, queue) = mpsc::channel(QUEUE_MAX);
    let sampler = Arc::new(Sampler::new(Instant::now().into_std()));
    let teller = Teller {
        queue: tx,
        counts: Arc::clone(&counts),
        sampler: Arc::clone(&sampler),
    };
    let sender = Sender {
        queue,
        counts,
        bus,
        name: Arc::new(name),
        batches: HashMap::new(),
        endpoints: Endpoints::default(),
        sampler,
    };
    (Arc::new(teller), sender)
}

impl Sender {
    /// Sends until `end`, then what is left.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        loop {
            let first = tokio::select! {
                first = self.queue.recv() => first,
                () = end.cancelled() => None,
            };
            let Some(first) = first else { break };
            self.add(&first).await;
            let until = Instant::now() + FLUSH_AFTER;
            while let Ok(Some(facts)) = tokio::time::timeout_at(until, self.queue.recv()).await {
                self.add(&facts).await;
                if end.is_cancelled() {
                    break;
                }
            }
            self.flush().await;
        }
        while let Ok(facts) = self.queue.try_recv() {
            self.add(&facts).await;
        }
        self.flush().await;
        let told = tokio::time::timeout(TOLD_WITHIN, self.bus.flush()).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(?told, "the last requests were not told");
        }
    }

    async fn add(&mut self, facts: &Facts) {
        let now = Instant::now();
        let endpoint = self.endpoints.of(facts.asked(), now);
        let to = subject::request(&facts.service, &facts.version, &facts.instance);
        self.push(to, &facts.row(&endpoint)).await;
        let span_name = format!("{} {endpoint}", facts.method);
        let offer = Offer {
            trace_id: facts.trace.trace_id,
            is_sampled: facts.trace.flags & SAMPLED != 0,
            name: &span_name,
            duration_us: facts.duration_us,
            has_failed: facts.has_failed(),
        };
        if !self.sampler.keeps(&offer, now.into_std()) {
            self.counts.dropped_rows.rise();
            return;
        }
        let to = subject::span(GATEWAY, &self.name.version, &self.name.instance);
        let name = Arc::clone(&self.name);
        let line = facts.span(&span_name, &endpoint, &name);
        self.push(to, &line).await;
    }

    async fn push(&mut self, to: String, line: &impl Serialize) {
        let Ok(line) = serde_json::to_vec(line) else {
            return;
        };
        let batch = self.batches.entry(to.clone()).or_default();
        batch.lines.extend_from_slice(&line);
        batch.lines.push(b'\n');
        batch.count += 1;
        if batch.lines.len() >= MESSAGE_BYTES {
            let batch = std::mem::take(batch);
            self.send(to, batch).await;
        }
    }

    async fn flush(&mut self) {
        for (to, batch) in std::mem::take(&mut self.batches) {
            self.send(to, batch).await;
        }
    }

    async fn send(&self, to: String, batch: Batch) {
        if batch.lines.is_empty() {
            return;
        }
        // The client would keep what is published meanwhile in a queue of its own, and then wait.
        let is_there = self.bus.connection_state() == State::Connected;
        let count = batch.count;
        if is_there && self.bus.publish(to, Bytes::from(batch.lines)).await.is_ok() {
            self.counts.told_rows.add(count);
        } else {
            self.counts.dropped_rows.add(count);
        }
    }
}
