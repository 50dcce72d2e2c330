//! One call's way through an instance: a place or a refusal, the handler, the answer, the telling.
//!
//! A call is refused at once, unrun, when too many wait, and unrun too at the end of its time before
//! its turn: its caller waits no longer, and takes a call without an answer for one that nobody tells.
//! A handler that began runs to its end, also past its deadline, since stopping halfway is worse than a
//! result nobody takes; the caller is answered at the deadline. A panic is the failure of its call
//! alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde_json::Map;
use serin_wire::span::SpanStatus;
use serin_wire::{Request, call};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::call::link::Link;
use crate::call::read;
use crate::clock;
use crate::context::Context;
use crate::serin::Serin;
use crate::serve::endpoint::{Answer, Served};
use crate::serve::failure::Failure;
use crate::serve::flow::Flow;
use crate::serve::incoming::{Incoming, context_of};
use crate::serve::web::{CHUNK_BYTES, Chunks, WebBody, WebResponse, pieces};
use crate::span::{OpenSpan, micros};

/// What our own headers of a reply may take.
const HEAD_BYTES: usize = 1 << 10;

/// What all endpoints of an instance need to answer.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) serin: Serin,
    pub(crate) link: Arc<Link>,
}

/// A call that arrived.
struct Arrival {
    arrived: Instant,
    time_us: i64,
    reply: Option<Subject>,
    headers: HeaderMap,
    body: Bytes,
}

/// What is told of a call when it is over.
struct Outcome {
    status: u16,
    queue: Duration,
    handler: Duration,
    bytes: u64,
    failure: Option<Failure>,
}

impl Desk {
    /// Takes a call: begins it, has it wait, or refuses it.
    pub(crate) async fn take(
        self: &Arc<Desk>,
        served: &Arc<Served>,
        message: Message,
        running: &mut JoinSet<()>,
    ) {
        let arrival = Arrival {
            arrived: clock::monotonic(),
            time_us: clock::now_us(),
            reply: message.reply,
            headers: message.headers.unwrap_or_default(),
            body: message.payload,
        };
        self.serin.shared().requests.start();
        let (desk, served) = (Arc::clone(self), Arc::clone(served));
        if let Ok(place) = Arc::clone(&served.places).try_acquire_owned() {
            running.spawn(async move { desk.handle(&served, arrival, place).await });
            return;
        }
        if served.waiting.fetch_add(1, Ordering::Relaxed) >= served.endpoint.waiting {
            served.waiting.fetch_sub(1, Ordering::Relaxed);
            let bounds = format!(
                "{} calls of {} are under way and {} wait, the most this instance takes",
                served.endpoint.limit, served.endpoint.name, served.endpoint.waiting
            );
            let refusal = Failure::not_run(call::CODE_BUSY, bounds);
            desk.refuse(&served, &arrival, refusal).await;
            return;
        }
        running.spawn(async move {
            let deadline = context_of(&arrival.headers, arrival.arrived, None).deadline;
            let place = tokio::select! {
                biased;
                place = Arc::clone(&served.places).acquire_owned() => place.ok(),
                () = over(deadline.map(Into::into)) => None,
            };
            served.waiting.fetch_sub(1, Ordering::Relaxed);
            match place {
                Some(place) => desk.handle(&served, arrival, place).await,
                None => {
                    desk.refuse(&served, &arrival, too_late(arrival.arrived))
                        .await
                }
            }
        });
    }

    /// Answers without running, and tells it.
    async fn refuse(&self, served: &Served, arrival: &Arrival, refusal: Failure) {
        let context = context_of(&arrival.headers, arrival.arrived, None);
        let span = self.begin(arrival, context.trace);
        let queue = arrival.arrived.elapsed();
        self.fail(arrival, &refusal, queue, Duration::ZERO).await;
        let outcome = Outcome {
            status: refusal.code,
            queue,
            handler: Duration::ZERO,
            bytes: 0,
            failure: Some(refusal),
        };
        self.tell(served, arrival, span, context.arm(), outcome);
    }

    async fn handle(&self, served: &Served, arrival: Arrival, _place: OwnedSemaphorePermit) {
        let own_arm = self.own_arm();
        let mut context = context_of(&arrival.headers, arrival.arrived, own_arm.as_deref());
        let started = clock::monotonic();
        let queue = started.duration_since(arrival.arrived);
        if context.deadline.is_some_and(|deadline| started >= deadline) {
            self.refuse(served, &arrival, too_late(arrival.arrived))
                .await;
            return;
        }
        let span = self.begin(&arrival, context.trace);
        context.trace = Some(span.trace);
        let caller = read(&arrival.headers, call::CALLER).map(str::to_owned);
        let headers = arrival.headers.clone();
        let incoming = Incoming::new(&self.serin, context.clone(), caller, headers.clone());
        let body = arrival.body.clone();
        let work = async { (served.handler)(incoming, headers, body).await };
        let work = AssertUnwindSafe(context.clone().scope(work)).catch_unwind();
        tokio::pin!(work);
        let deadline = context.deadline.map(Into::into);
        let (answer, is_late) = tokio::select! {
            biased;
            ended = &mut work => (ended.unwrap_or_else(|_| Err(panicked(served))), false),
            () = over(deadline) => (Err(late()), true),
        };
        let handler = started.elapsed();
        let (status, bytes, failure) = self
            .give(served, &arrival, &context, answer, queue, handler)
            .await;
        let outcome = Outcome {
            status,
            queue,
            handler: started.elapsed(),
            bytes,
            failure,
        };
        self.tell(served, &arrival, span, context.arm(), outcome);
        if is_late && work.await.is_err() {
            panicked(served);
        }
    }

    /// Answers with what the handler gave; its status, its bytes, and what went wrong.
    async fn give(
        &self,
        served: &Served,
        arrival: &Arrival,
        context: &Context,
        answer: Result<Answer, Failure>,
        queue: Duration,
        handler: Duration,
    ) -> (u16, u64, Option<Failure>) {
        match answer {
            Err(failure) if served.is_web => {
                let page = WebResponse::of(&failure);
                let status = page.status;
                let bytes = self
                    .web(arrival, page, queue, handler, Some(&failure))
                    .await;
                (status, bytes, Some(failure))
            }
            Err(failure) => {
                self.fail(arrival, &failure, queue, handler).await;
                (failure.code, 0, Some(failure))
            }
            Ok(Answer::Web(response)) => {
                let status = response.status;
                let streamed = context
                    .clone()
                    .scope(self.web(arrival, response, queue, handler, None));
                (status, streamed.await, None)
            }
            Ok(Answer::Json(body)) => {
                let headers = self.head(queue, handler);
                self.body(arrival, body, headers, queue, handler).await
            }
            Ok(Answer::Bytes(body)) => {
                let mut headers = self.head(queue, handler);
                headers.insert(call::CONTENT_TYPE, call::BYTES);
                self.body(arrival, body, headers, queue, handler).await
            }
        }
    }

    /// Answers with a body, where the bus takes it.
    async fn body(
        &self,
        arrival: &Arrival,
        body: Bytes,
        headers: HeaderMap,
        queue: Duration,
        handler: Duration,
    ) -> (u16, u64, Option<Failure>) {
        match self.fit(body) {
            Ok(body) => {
                let bytes = body.len() as u64;
                self.publish(arrival, headers, body, None).await;
                (200, bytes, None)
            }
            Err(failure) => {
                self.fail(arrival, &failure, queue, handler).await;
                (failure.code, 0, Some(failure))
            }
        }
    }

    fn begin(&self, arrival: &Arrival, above: Option<serin_wire::event::Trace>) -> OpenSpan {
        let mut span = self.serin.shared().spans.begin(above);
        (span.started, span.time_us) = (arrival.arrived, arrival.time_us);
        span
    }

    /// `cart=v8` where our service is under trial.
    fn own_arm(&self) -> Option<String> {
        let options = &self.serin.shared().options;
        let routes = self.link.routing.now();
        let has_trial = routes.services.get(&options.service)?.has_trial();
        has_trial.then(|| format!("{}={}", options.service, options.version))
    }

    fn head(&self, queue: Duration, handler: Duration) -> HeaderMap {
        let options = &self.serin.shared().options;
        let mut headers = HeaderMap::new();
        headers.insert(call::INSTANCE, options.instance.as_str());
        headers.insert(call::VERSION, options.version.as_str());
        headers.insert(call::QUEUE_US, micros(queue).to_string());
        headers.insert(call::HANDLER_US, micros(handler).to_string());
        headers
    }

    /// The body, if the bus takes it.
    fn fit(&self, body: Bytes) -> Result<Bytes, Failure> {
        let bytes_max = self.link.post.client.max_payload();
        if body.len() + HEAD_BYTES <= bytes_max {
            return Ok(body);
        }
        let message = format!(
            "the reply has {} bytes, the bus takes {bytes_max} with headers",
            body.len()
        );
        Err(Failure::new(call::CODE_TOO_LARGE, message))
    }

    /// Answers with what went wrong.
    async fn fail(&self, arrival: &Arrival, failure: &Failure, queue: Duration, handler: Duration) {
        let mut headers = self.head(queue, handler);
        describe(failure, &mut headers);
        let body = self.fit(failure.body.clone()).unwrap_or_default();
        self.publish(arrival, headers, body, None).await;
    }

    /// Answers a web request, in as many messages as it takes; the bytes of its body.
    async fn web(
        &self,
        arrival: &Arrival,
        response: WebResponse,
        queue: Duration,
        handler: Duration,
        failure: Option<&Failure>,
    ) -> u64 {
        let mut headers = self.head(queue, handler);
        response.head(&mut headers);
        if let Some(failure) = failure {
            describe(failure, &mut headers);
        }
        match response.body {
            WebBody::Whole(body) => self.whole(arrival, headers, &body).await,
            WebBody::Chunks(chunks) => self.stream(arrival, headers, chunks).await,
        }
    }

    /// Sends a body in as many messages as it takes; its bytes, as far as they were sent.
    async fn whole(&self, arrival: &Arrival, mut headers: HeaderMap, body: &Bytes) -> u64 {
        if body.len() <= CHUNK_BYTES {
            self.publish(arrival, headers, body.clone(), None).await;
            return body.len() as u64;
        }
        let mut flow = Flow::begin(&self.link.post, &arrival.headers);
        let mut sent = 0;
        let mut pieces = pieces(body).peekable();
        while let Some(piece) = pieces.next() {
            let has_more = pieces.peek().is_some();
            if !flow.may_send().await {
                break;
            }
            sent += piece.len() as u64;
            let mut headers = std::mem::take(&mut headers);
            if has_more {
                headers.insert(call::WEB_MORE, "1");
            }
            let subject = has_more.then_some(flow.subject());
            self.publish(arrival, headers, piece, subject).await;
        }
        sent
    }

    /// Sends a body as it comes, until nobody reads it any more; its bytes.
    async fn stream(&self, arrival: &Arrival, mut headers: HeaderMap, mut chunks: Chunks) -> u64 {
        let mut flow = Flow::begin(&self.link.post, &arrival.headers);
        let (mut sent, mut end) = (0, HeaderMap::new());
        // A message may be sent before the service is asked for what is in it.
        loop {
            if !flow.may_send().await {
                return sent;
            }
            // A stream that panics breaks its answer off, as a failure does.
            let next = AssertUnwindSafe(chunks.next()).catch_unwind();
            let next = tokio::select! {
                biased;
                () = flow.gone() => return sent,
                next = next => next,
            };
            let next = next.unwrap_or_else(|_| {
                Some(Err(Failure::new(call::CODE_FAILED, "the stream panicked")))
            });
            let chunk = match next {
                Some(Ok(chunk)) => chunk,
                Some(Err(failure)) => {
                    describe(&failure, &mut end);
                    break;
                }
                None => break,
            };
            for (index, piece) in pieces(&chunk).enumerate() {
                if index > 0 && !flow.may_send().await {
                    return sent;
                }
                sent += piece.len() as u64;
                let mut headers = std::mem::take(&mut headers);
                headers.insert(call::WEB_MORE, "1");
                self.publish(arrival, headers, piece, Some(flow.subject()))
                    .await;
            }
        }
        for (name, values) in headers.iter() {
            values
                .iter()
                .for_each(|value| end.append(name.clone(), value.clone()));
        }
        self.publish(arrival, end, Bytes::new(), None).await;
        sent
    }

    /// Sends a message of an answer; `answers` is where whoever reads it may say something.
    async fn publish(
        &self,
        arrival: &Arrival,
        headers: HeaderMap,
        body: Bytes,
        answers: Option<&str>,
    ) {
        // Published without a reply subject: nobody waits.
        let Some(reply) = arrival.reply.clone() else {
            return;
        };
        let client = &self.link.post.client;
        let sent = match answers {
            Some(answers) => {
                let answers = answers.to_owned();
                client
                    .publish_with_reply_and_headers(reply, answers, headers, body)
                    .await
            }
            None => client.publish_with_headers(reply, headers, body).await,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot answer a call");
        }
    }

    /// Counts the call, and tells its row and its span.
    fn tell(
        &self,
        served: &Served,
        arrival: &Arrival,
        span: OpenSpan,
        arm: Option<&str>,
        outcome: Outcome,
    ) {
        let shared = self.serin.shared();
        let has_failed = match served.is_web {
            true => outcome.status >= call::CODE_FAILED,
            false => call::has_failed(outcome.status),
        };
        let duration_us = micros(outcome.queue + outcome.handler);
        shared.requests.finish(duration_us, has_failed);
        served.count(outcome.handler, outcome.failure.as_ref());
        let caller = read(&arrival.headers, call::CALLER);
        let trace_id = format!("{:032x}", span.trace.trace_id);
        if !served.is_web {
            let row = Request {
                time: arrival.time_us,
                endpoint: served.endpoint.name.as_str().into(),
                caller: caller.map(Into::into),
                status: outcome.status,
                duration_us,
                queue_us: Some(micros(outcome.queue)),
                method: None,
                bytes: outcome.bytes,
                trace_id: Some(trace_id.into()),
                arm: arm.map(Into::into),
                callee: None,
            };
            shared.tell_request(&row);
        }
        let attributes = || {
            let mut attributes = Map::new();
            attributes.insert("kind".into(), "server".into());
            attributes.insert("status".into(), outcome.status.into());
            attributes.insert("queue_us".into(), micros(outcome.queue).into());
            attributes.insert("handler_us".into(), micros(outcome.handler).into());
            if let Some(caller) = caller {
                attributes.insert("caller".into(), caller.into());
            }
            if let Some(failure) = &outcome.failure {
                attributes.insert("error".into(), failure.message.as_str().into());
            }
            attributes
        };
        let status = if has_failed {
            SpanStatus::Error
        } else {
            SpanStatus::Ok
        };
        shared.end_span(span, &served.endpoint.name, status, attributes);
    }
}

/// Waits for a deadline, for ever where there is none.
async fn over(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Of a call whose time was over before its handler ran.
fn too_late(arrived: Instant) -> Failure {
    let waited_ms = arrived.elapsed().as_millis();
    let text = format!("the time was over before it began, after {waited_ms} ms");
    Failure::not_run(call::CODE_TIMEOUT, text)
}

fn late() -> Failure {
    Failure::new(call::CODE_TIMEOUT, "the time was over before it ended")
}

fn panicked(served: &Served) -> Failure {
    let name = &served.endpoint.name;
    tracing::error!(endpoint = name, "a handler panicked");
    Failure::new(call::CODE_FAILED, format!("the handler of {name} panicked"))
}

fn describe(failure: &Failure, headers: &mut HeaderMap) {
    headers.insert(call::ERROR, failure.message.as_str());
    headers.insert(call::ERROR_CODE, failure.code.to_string());
    if !failure.has_run {
        headers.insert(call::NOT_RUN, "1");
    }
}
