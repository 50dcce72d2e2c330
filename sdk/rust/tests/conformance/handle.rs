//! One connection of the SDK in a scenario, with handlers that behave as it says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use serin_sdk::{
    CallError, Chain, ChainError, Context, Endpoint, Enhanced, Failure, Incoming, Options, Serin,
    ServeError, Service, Stage, WebRequest, WebResponse,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, until};

/// Longer than a scenario holds calls back when it stops a service.
const GRACE: Duration = Duration::from_secs(20);

/// Where handlers wait.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    by_name: Mutex<BTreeMap<String, Arc<Gate>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) begun: watch::Sender<bool>,
    pub(crate) is_open: watch::Sender<bool>,
}

impl Gates {
    pub(crate) fn at(&self, name: &str) -> Arc<Gate> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_name.entry(name.to_owned()).or_default())
    }
}

/// A stream that waits for ever; its gate is passed when it is dropped.
struct Held(Arc<Gate>);

impl Held {
    fn hold(&self) {
        self.0.begun.send_replace(false);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.begun.send_replace(true);
    }
}

/// See the module.
pub(crate) struct Handle {
    pub(crate) app: Serin,
    serving: Option<Serving>,
}

struct Serving {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Handle {
    /// Connects, and serves; returns once the bus knows it.
    pub(crate) async fn start(
        spec: &Value,
        fixture: &Fixture,
        gates: &Arc<Gates>,
    ) -> Result<Handle> {
        let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
        let mut options = Options {
            version: text("version"),
            instance: text("instance"),
            spill_dir: Some(fixture.spill()),
            drain_deadline: Duration::from_millis(100),
            ..Options::new(fixture.url_of(&text("instance")), text("service"))
        };
        if let Some(bytes) = spec["queue_bytes_max"].as_u64() {
            options.queue_bytes_max = usize::try_from(bytes)?;
        }
        if let Some(bytes) = spec["spill_bytes_max"].as_u64() {
            options.spill_bytes_max = bytes;
        }
        let ping = format!("$SRV.PING.{}.{}", options.service, options.instance);
        let app = Serin::connect(options)?;
        let mut handle = Handle { app, serving: None };
        if spec.get("endpoints").is_some() || spec.get("web").is_some() {
            let service = serving(spec, handle.app.service().grace(GRACE), gates);
            let (stop, stopped) = oneshot::channel::<()>();
            let ended = tokio::spawn(service.run_until(async {
                stopped.await.ok();
            }));
            handle.serving = Some(Serving { stop, ended });
            let client = fixture.client()?;
            until(|| async { Ok(client.request(ping.clone(), "".into()).await.is_ok()) }).await?;
        }
        Ok(handle)
    }

    /// Asks the service to stop; the rest of it, whether all was done in time.
    pub(crate) fn stop(
        &mut self,
        within: Duration,
    ) -> Result<impl Future<Output = bool> + Send + 'static> {
        let serving = self.serving.take().context("it does not serve")?;
        let app = self.app.clone();
        let asked = serving.stop.send(());
        Ok(async move {
            let ended = tokio::time::timeout(within, serving.ended).await;
            let counts = app.counts();
            asked.is_ok()
                && matches!(ended, Ok(Ok(Ok(()))))
                && counts.emitted == counts.acknowledged
        })
    }

    /// The end of the scenario: handlers that still wait are left.
    pub(crate) async fn end(self) {
        if let Some(serving) = self.serving {
            serving.ended.abort();
        }
        self.app.drain(Duration::from_millis(100)).await;
    }
}

fn serving(spec: &Value, mut service: Service, gates: &Arc<Gates>) -> Service {
    let number = |key: &str| {
        spec[key]
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let none = Map::new();
    for (name, behaviour) in spec["endpoints"].as_object().unwrap_or(&none) {
        let mut endpoint = Endpoint::new(name);
        if let Some(limit) = number("concurrency") {
            endpoint = endpoint.limit(limit);
        }
        if let Some(waiting) = number("waiting_max") {
            endpoint = endpoint.waiting(waiting);
        }
        if spec["idempotent"]
            .as_array()
            .is_some_and(|names| names.contains(&json!(name)))
        {
            endpoint = endpoint.idempotent();
        }
        if behaviour.get("bytes").is_some() {
            service = service.endpoint_bytes(endpoint, |_, body| async move { Ok(body) });
            continue;
        }
        let (behaviour, gates) = (Arc::new(behaviour.clone()), Arc::clone(gates));
        service = service.endpoint(endpoint, move |incoming, data: Value| {
            behave(incoming, Arc::clone(&behaviour), Arc::clone(&gates), data)
        });
    }
    if let Some(every) = spec.get("every") {
        let period = Duration::from_millis(every["ms"].as_u64().unwrap_or_default());
        let (every, runs) = (every.clone(), AtomicU64::new(0));
        service = service.every(period, move |serin| {
            let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
            let text = |key: &str| every[key].as_str().unwrap_or_default().to_owned();
            let (failure, kind) = (text("throw"), text("emit"));
            let is_told = Some(run) <= every["times"].as_u64();
            async move {
                if run == 1 {
                    return Err(std::io::Error::other(failure).into());
                }
                if is_told {
                    serin.emit(&kind, &json!({"n": run}));
                }
                Ok(())
            }
        });
    }
    if let Some(behaviour) = spec.get("web") {
        let behaviour = Arc::new(behaviour.clone());
        let gates = Arc::clone(gates);
        service = service.web(move |incoming, request| {
            behave_on_web(
                incoming,
                Arc::clone(&behaviour),
                Arc::clone(&gates),
                request,
            )
        });
    }
    service
}

async fn behave(
    incoming: Incoming,
    behaviour: Arc<Value>,
    gates: Arc<Gates>,
    data: Value,
) -> Result<Value, Failure> {
    let (app, mut answer) = (incoming.serin(), Value::Null);
    if let Some(name) = behaviour["gate"].as_str() {
        let gate = gates.at(name);
        gate.begun.send_replace(true);
        gate.is_open
            .subscribe()
            .wait_for(|is_open| *is_open)
            .await?;
    }
    if let Some(event) = behaviour.get("emit") {
        app.emit(event["type"].as_str().unwrap_or_default(), &event["data"]);
    }
    if let Some(asked) = behaviour.get("call") {
        let [service, endpoint] =
            ["service", "endpoint"].map(|key| asked[key].as_str().unwrap_or_default());
        answer = app.call(service, endpoint, &asked["data"]).await?;
    }
    if let Some(step) = behaviour.get("chain") {
        answer = run_chain(app, step).await?.data.into();
    }
    fail_as(&behaviour)?;
    if behaviour.get("context").is_some() {
        answer = context_shape(&incoming);
    }
    if behaviour.get("echo").is_some() {
        answer = data;
    }
    let fixed = behaviour
        .get("reply")
        .or_else(|| behaviour.get("additions"));
    Ok(fixed.cloned().unwrap_or(answer))
}

fn context_shape(incoming: &Incoming) -> Value {
    let context: &Context = incoming.context();
    let trace = context.traceparent();
    json!({
        "caller": incoming.caller(),
        "arm": context.arm(),
        "trace_id": trace.as_deref().and_then(|trace| trace.split('-').nth(1)),
        "depth": context.depth(),
        "chain_depth": context.chain_depth(),
        "has_deadline": context.deadline().is_some(),
    })
}

/// Fails, where the behaviour says so.
fn fail_as(behaviour: &Value) -> Result<(), Failure> {
    if let Some(fail) = behaviour.get("fail") {
        let code = fail["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok());
        let message = fail["message"].as_str().unwrap_or_default();
        return Err(Failure::new(code.unwrap_or_default(), message).with(&fail["body"]));
    }
    if let Some(text) = behaviour["throw"].as_str() {
        return Err(std::io::Error::other(text).into());
    }
    Ok(())
}

async fn behave_on_web(
    incoming: Incoming,
    behaviour: Arc<Value>,
    gates: Arc<Gates>,
    request: WebRequest,
) -> Result<WebResponse, Failure> {
    fail_as(&behaviour)?;
    if behaviour.get("web_echo").is_some() {
        let names = request
            .query
            .split('&')
            .filter_map(|pair| pair.split('=').next());
        let query: Map<String, Value> = names
            .filter_map(|name| Some((name.to_owned(), request.query_value(name)?.into())))
            .collect();
        let headers = request.headers.iter();
        let headers: Map<String, Value> = headers
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        return WebResponse::json(&json!({
            "method": request.method,
            "path": request.path,
            "query": query,
            "body": String::from_utf8_lossy(&request.body),
            "headers": headers,
        }));
    }
    let (web, serin) = (&behaviour["web"], incoming.serin().clone());
    let status = web["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let mut response = match (web["redirect"].as_str(), web["html"].as_str()) {
        (Some(location), _) => WebResponse::redirect(location),
        (_, Some(page)) => WebResponse::html(page),
        _ => WebResponse::new(200),
    };
    if let Some(status) = status {
        response = response.status(status);
    }
    for pair in web["headers"].as_array().into_iter().flatten() {
        let [name, value] = [0, 1].map(|at| pair[at].as_str().unwrap_or_default());
        response = response.header(name, value);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(match web["chunks"].as_array() {
        Some(chunks) => {
            let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(text(chunk).into())).collect();
            let told = web["tell"].as_str().map(str::to_owned);
            let chunks = stream::iter(chunks).inspect(move |_| {
                told.iter().for_each(|kind| serin.emit(kind, &json!({})));
            });
            match web["hold"].as_str() {
                None => response.stream(chunks),
                Some(name) => {
                    let held = Held(gates.at(name));
                    response.stream(
                        chunks
                            .chain(stream::pending())
                            .inspect(move |_| held.hold()),
                    )
                }
            }
        }
        None if web["body"].is_string() => response.body(text(&web["body"])),
        None => response,
    })
}

/// Runs a chain as a step or a behaviour says.
pub(crate) async fn run_chain(app: &Serin, step: &Value) -> Result<Enhanced, ChainError> {
    let mut chain: Chain = app.chain(step["name"].as_str().unwrap_or_default());
    for stage in step["stages"].as_array().into_iter().flatten() {
        let within = Duration::from_millis(stage["timeout_ms"].as_u64().unwrap_or_default());
        let names = stage["enhancers"].as_array().into_iter().flatten();
        let enhance = |stage: Stage, name: &Value| {
            let name = name.as_str().unwrap_or_default();
            match name.strip_suffix('?') {
                Some(name) => stage.optional(name),
                None => stage.enhance(name),
            }
        };
        chain = chain.stage(names.fold(Stage::new().within(within), enhance));
    }
    if let Some(timeout_ms) = step["timeout_ms"].as_u64() {
        chain = chain.timeout(Duration::from_millis(timeout_ms));
    }
    chain.run(&filled(&step["data"])).await
}

/// Data with what stands for more.
pub(crate) fn filled(data: &Value) -> Value {
    match (data["$repeat"][0].as_str(), data["$repeat"][1].as_u64()) {
        (Some(text), Some(times)) => {
            json!({"text": text.repeat(usize::try_from(times).unwrap_or_default())})
        }
        _ => data.clone(),
    }
}

/// The error of a call as expectations see it.
pub(crate) fn call_error_shape(error: &CallError) -> Value {
    let (message, body) = match error {
        CallError::Failed { message, body, .. } => (message.clone(), serde_json::from_slice(body)),
        other => (other.to_string(), Ok(Value::Null)),
    };
    json!({
        "code": error.code(),
        "message": message,
        "may_have_run": error.may_have_run(),
        "body": body.unwrap_or_default(),
    })
}

/// The error of a chain as expectations see it.
pub(crate) fn chain_error_shape(error: &ChainError) -> Value {
    json!({"code": error.code(), "message": error.to_string()})
}
