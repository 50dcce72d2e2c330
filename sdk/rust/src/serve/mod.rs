//! A service: endpoints that answer calls over the bus, from the first subscription to the drain.
//!
//! Each endpoint listens on its version's subject in a queue group, and on the instance's own. The
//! instance says it is ready once the server has all subscriptions; at the end it leaves them, takes
//! what had been sent to it meanwhile, finishes, and drains its events. Start at [`Service`].

pub(crate) mod endpoint;
pub(crate) mod failure;
pub(crate) mod flow;
pub(crate) mod handle;
pub(crate) mod incoming;
pub(crate) mod micro;
pub(crate) mod periodic;
pub(crate) mod web;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serin_wire::name::{self, NameError};
use serin_wire::{State, call, subject};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::serin::Serin;
use crate::serve::endpoint::{Answer, Endpoint, Handler, Served};
use crate::serve::failure::Failure;
use crate::serve::handle::Desk;
use crate::serve::incoming::Incoming;
use crate::serve::micro::{About, VERBS, Verb};
use crate::serve::periodic::{Periodic, Task};
use crate::serve::web::{WebRequest, WebResponse};

/// How long calls under way may take to end when the instance is asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// A server that does not answer within this while we begin or leave is asked again, or left.
const ROUND_TRIP_WITHIN: Duration = Duration::from_secs(2);
/// "Stop after so many messages" with more digits than nats-server reads as a limit, whereupon it
/// ends the subscription at once, while the client still takes what is on its way. A plain
/// unsubscribe makes the client forget the subscription first, and with it calls that were sent to
/// us. A server that read it would go on sending until we drop the subscription.
const UNSUBSCRIBE_NOW: u64 = 1 << 40;

/// A service before it runs; begin with [`Serin::service`].
#[must_use = "a service serves once it runs"]
#[derive(Debug)]
pub struct Service {
    serin: Serin,
    description: String,
    grace: Duration,
    endpoints: Vec<Arc<Served>>,
    periodic: Vec<Periodic>,
}

/// Why a service cannot serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The name of an endpoint breaks the rules.
    #[error("cannot serve endpoint {endpoint:?}; its name has the rules of a service's")]
    Name {
        /// The endpoint.
        endpoint: String,
        /// Which rule.
        source: NameError,
    },
    /// Two endpoints have the same name.
    #[error("two endpoints are named {0:?}; each needs a name of its own")]
    Twice(String),
    /// There is none.
    #[error("the service has no endpoint; add one with endpoint(…) or web(…)")]
    Empty,
    /// A task would run without a pause.
    #[error("a periodic task cannot run every 0 s; give every(…) a longer time")]
    Period,
    /// The bus refused.
    #[error("cannot listen for calls on the bus")]
    Bus(#[source] async_nats::Error),
    /// Signals cannot be listened for.
    #[error("cannot listen for SIGTERM")]
    Signal(#[source] io::Error),
}

impl Serin {
    /// A service of this connection's name, version and instance.
    ///
    /// ```no_run
    /// # use serin_sdk::{Failure, Serin};
    /// # #[derive(serde::Deserialize)] struct AddItem { sku: String }
    /// # #[derive(serde::Serialize)] struct Added { items: u32 }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let serin = Serin::from_env()?;
    /// serin
    ///     .service()
    ///     .endpoint("add", |call, item: AddItem| async move {
    ///         if item.sku.is_empty() {
    ///             return Err(Failure::new(400, "the item has no sku"));
    ///         }
    ///         call.serin().emit("cart.add", &serde_json::json!({"sku": item.sku}));
    ///         Ok(Added { items: 1 })
    ///     })
    ///     .run()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(&self) -> Service {
        self.set_state(State::Starting);
        Service {
            serin: self.clone(),
            description: String::new(),
            grace: GRACE,
            endpoints: Vec::new(),
            periodic: Vec::new(),
        }
    }
}

impl Service {
    /// Says what the service is for; told by the micro protocol.
    pub fn description(mut self, text: impl Into<String>) -> Service {
        self.description = text.into();
        self
    }

    /// How long calls under way may take to end when the instance is asked to stop; 10 s.
    pub fn grace(mut self, grace: Duration) -> Service {
        self.grace = grace;
        self
    }

    /// Serves an endpoint whose requests and replies are JSON of these types.
    pub fn endpoint<Req, Rep, F, Fut>(self, endpoint: impl Into<Endpoint>, handler: F) -> Service
    where
        Req: DeserializeOwned + Send + 'static,
        Rep: Serialize + 'static,
        F: Fn(Incoming, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(
            endpoint.into(),
            false,
            Box::new(move |incoming, _, body| {
                let handler = Arc::clone(&handler);
                async move {
                    // Who calls without data may send nothing at all.
                    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
                    let request = serde_json::from_slice(body).map_err(|error| {
                        let message = format!("cannot read the request: {error}");
                        Failure::new(call::CODE_BAD_REQUEST, message)
                    })?;
                    let reply = handler(incoming, request).await?;
                    let body = serde_json::to_vec(&reply).map_err(|error| {
                        let message = format!("cannot write the reply as JSON: {error}");
                        Failure::new(call::CODE_FAILED, message)
                    })?;
                    Ok(Answer::Json(Bytes::from(body)))
                }
                .boxed()
            }),
        )
    }

    /// Serves an endpoint whose requests and replies are bytes as they are; callers in Rust make them
    /// by [`Serin::call_bytes`].
    pub fn endpoint_bytes<F, Fut>(self, endpoint: impl Into<Endpoint>, handler: F) -> Service
    where
        F: Fn(Incoming, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        self.add(
            endpoint.into(),
            false,
            Box::new(move |incoming, _, body| {
                handler(incoming, body)
                    .map(|reply| reply.map(Answer::Bytes))
                    .boxed()
            }),
        )
    }

    /// Serves web requests that the gateway passes on.
    pub fn web<F, Fut>(self, handler: F) -> Service
    where
        F: Fn(Incoming, WebRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<WebResponse, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(
            Endpoint::new(call::WEB_ENDPOINT),
            true,
            Box::new(move |incoming, headers, body| {
                let handler = Arc::clone(&handler);
                async move {
                    let request = WebRequest::read(&headers, body)?;
                    handler(incoming, request).await.map(Answer::Web)
                }
                .boxed()
            }),
        )
    }

    /// Runs a function again and again while the service serves, for the first time after one period,
    /// which must not be zero. A run that takes long makes the next one late; what one fails with is
    /// logged.
    pub fn every<F, Fut>(mut self, every: Duration, task: F) -> Service
    where
        F: Fn(Serin) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let task: Task = Box::new(move |serin| task(serin).boxed());
        self.periodic.push(Periodic { every, task });
        self
    }

    fn add(mut self, endpoint: Endpoint, is_web: bool, handler: Handler) -> Service {
        let served = Served::new(endpoint, is_web, handler);
        self.endpoints.push(Arc::new(served));
        self
    }

    /// Serves until SIGTERM, SIGINT or [`Serin::drain`], then drains and returns.
    ///
    /// It listens for SIGTERM itself; [`Serin::drain_on_sigterm`] is for programs that only emit.
    pub async fn run(self) -> Result<(), ServeError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;
        self.run_until(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
    }

    /// Serves until this future ends or [`Serin::drain`], then drains and returns.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        self.check()?;
        let serin = self.serin.clone();
        let link = serin.link().await.map_err(ServeError::Bus)?;
        let desk = Arc::new(Desk {
            serin: serin.clone(),
            link: Arc::clone(&link),
        });
        let (leave, leaving) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for served in &self.endpoints {
            let subscribers = self.subscribe(&desk, &served.endpoint.name).await?;
            let (desk, served) = (Arc::clone(&desk), Arc::clone(served));
            tasks.spawn(serve(desk, served, subscribers, leaving.clone()));
        }
        for periodic in std::mem::take(&mut self.periodic) {
            tasks.spawn(periodic::run(periodic, serin.clone(), leaving.clone()));
        }
        let asked = self.subscribe_micro(&desk).await?;
        let (description, endpoints) = (self.description, self.endpoints);
        tasks.spawn(answer_micro(desk, asked, description, endpoints, leaving));
        tokio::pin!(stop);
        let ready = async {
            // The bus may be away for long: then we are not ready for as long.
            while link
                .post
                .round_trip(Instant::now() + ROUND_TRIP_WITHIN)
                .await
                .is_err()
            {}
            serin.set_state(State::Ready);
            serin.stopping().await;
        };
        tokio::select! {
            () = ready => {}
            () = &mut stop => {}
        }
        serin.set_state(State::Draining);
        leave.send_replace(true);
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, all_ended).await.is_err() {
            tracing::warn!("calls under way did not end in time and are left");
            tasks.shutdown().await;
        }
        let until = Instant::now() + ROUND_TRIP_WITHIN;
        if link.post.round_trip(until).await.is_err() {
            tracing::warn!("the last answers may not have reached the bus");
        }
        serin.drain(serin.shared().options.drain_deadline).await;
        Ok(())
    }

    fn check(&self) -> Result<(), ServeError> {
        let mut names = std::collections::BTreeSet::new();
        for served in &self.endpoints {
            let endpoint = &served.endpoint.name;
            name::check_service(endpoint).map_err(|source| ServeError::Name {
                endpoint: endpoint.clone(),
                source,
            })?;
            if !names.insert(endpoint) {
                return Err(ServeError::Twice(endpoint.clone()));
            }
        }
        if names.is_empty() && self.periodic.is_empty() {
            return Err(ServeError::Empty);
        }
        if self.periodic.iter().any(|one| one.every.is_zero()) {
            return Err(ServeError::Period);
        }
        Ok(())
    }

    /// Listens among the instances of the version, and for this instance alone.
    async fn subscribe(&self, desk: &Desk, endpoint: &str) -> Result<[Subscriber; 2], ServeError> {
        let options = &self.serin.shared().options;
        let (service, version) = (&options.service, &options.version);
        let client = &desk.link.post.client;
        let shared = subject::call(service, version, endpoint);
        let own = subject::call_instance(service, version, endpoint, &options.instance);
        let shared = client.queue_subscribe(shared, version.clone()).await;
        let own = client.subscribe(own).await;
        let refused = |error| ServeError::Bus(Box::new(error));
        Ok([shared.map_err(refused)?, own.map_err(refused)?])
    }

    async fn subscribe_micro(&self, desk: &Desk) -> Result<Vec<(Verb, Subscriber)>, ServeError> {
        let options = &self.serin.shared().options;
        let mut asked = Vec::new();
        for verb in VERBS {
            for subject in verb.subjects(options) {
                let subscribed = desk.link.post.client.subscribe(subject).await;
                let subscribed = subscribed.map_err(|error| ServeError::Bus(Box::new(error)))?;
                asked.push((verb, subscribed));
            }
        }
        Ok(asked)
    }
}

/// Takes calls until we leave, then those that were under way to us, and returns when all ended.
async fn serve(
    desk: Arc<Desk>,
    served: Arc<Served>,
    mut subscribers: [Subscriber; 2],
    mut leaving: watch::Receiver<bool>,
) {
    let mut running = JoinSet::new();
    loop {
        let [shared, own] = &mut subscribers;
        let message = tokio::select! {
            message = shared.next() => message,
            message = own.next() => message,
            _ = leaving.wait_for(|leaving| *leaving) => None,
        };
        // Nothing more comes when we leave, or when the client is gone with its runtime.
        let Some(message) = message else { break };
        desk.take(&served, message, &mut running).await;
        while running.try_join_next().is_some() {}
    }
    for subscriber in &mut subscribers {
        if let Err(error) = subscriber.unsubscribe_after(UNSUBSCRIBE_NOW).await {
            tracing::debug!(%error, "left with the connection");
        }
    }
    // When this is back, the server has left us out, and all it sent before is here.
    let until = Instant::now() + ROUND_TRIP_WITHIN;
    if let Err(reason) = desk.link.post.round_trip(until).await {
        tracing::warn!(?reason, "calls under way to us may be lost");
    }
    for subscriber in &mut subscribers {
        while let Some(Some(message)) = subscriber.next().now_or_never() {
            desk.take(&served, message, &mut running).await;
        }
    }
    while running.join_next().await.is_some() {}
}

async fn answer_micro(
    desk: Arc<Desk>,
    asked: Vec<(Verb, Subscriber)>,
    description: String,
    endpoints: Vec<Arc<Served>>,
    mut leaving: watch::Receiver<bool>,
) {
    let questions = asked.into_iter();
    let questions = questions.map(|(verb, asked)| asked.map(move |message| (verb, message)));
    let mut questions = stream::select_all(questions);
    let shared = desk.serin.shared();
    let about = About {
        options: &shared.options,
        description: &description,
        started_us: shared.started_us,
        endpoints: &endpoints,
    };
    loop {
        let (verb, message) = tokio::select! {
            Some(question) = questions.next() => question,
            _ = leaving.wait_for(|leaving| *leaving) => return,
            else => return,
        };
        let Some(reply) = message.reply else { continue };
        let answer = Bytes::from(about.answer(verb));
        if let Err(error) = desk.link.post.client.publish(reply, answer).await {
            tracing::debug!(%error, "cannot answer the micro protocol");
        }
    }
}
