//! One scenario under way: a step `do: x` is the function `x`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use serin_sdk::{Call, Context};
use serin_wire::{call, route, subject};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::PATIENCE;
use crate::fixture::{Fixture, shape_of, until};
use crate::handle::{Gates, Handle, call_error_shape, chain_error_shape, filled, run_chain};
use crate::matching::{check, check_message};

/// Messages that may wait for the step that looks at them.
const KEPT_MAX: usize = 4096;

/// What a step brought.
enum Outcome {
    Nothing,
    Value(Value),
    Message(Value),
    Messages(Vec<Value>),
    Error(Value),
}

/// A step that is under way: it may be awaited by a later one.
type Work = BoxFuture<'static, Result<Outcome>>;

/// See the module.
pub(crate) struct Runner {
    scenario: Value,
    fixture: Fixture,
    gates: Arc<Gates>,
    handles: BTreeMap<String, Handle>,
    kept: BTreeMap<String, mpsc::Receiver<Value>>,
    background: BTreeMap<String, JoinHandle<Result<Outcome>>>,
    routes: Option<watch::Sender<Value>>,
    revision: u64,
}

impl Runner {
    pub(crate) async fn run(scenario: Value) -> Result<()> {
        let mut runner = Runner {
            fixture: Fixture::new(&scenario["mappings"], &scenario["users"])?,
            scenario,
            gates: Arc::default(),
            handles: BTreeMap::new(),
            kept: BTreeMap::new(),
            background: BTreeMap::new(),
            routes: None,
            revision: 0,
        };
        runner.fixture.start().await?;
        let done = runner.all_steps().await;
        for handle in std::mem::take(&mut runner.handles).into_values() {
            handle.end().await;
        }
        runner.fixture.stop().await?;
        done
    }

    async fn all_steps(&mut self) -> Result<()> {
        let steps = self.scenario["steps"].as_array().context("steps")?.clone();
        for (index, step) in steps.iter().enumerate() {
            let at = || format!("step {index}: {:.160}", step.to_string());
            let done = tokio::time::timeout(PATIENCE, self.step(step)).await;
            done.context("it did not end in time")
                .and_then(|done| done)
                .with_context(at)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Value) -> Result<()> {
        let work = self.begin(step).await?;
        if step["background"] == true {
            let name = text(step, "as")?.to_owned();
            self.background.insert(name, tokio::spawn(work));
            return Ok(());
        }
        match (work.await?, step.get("expect"), step.get("error")) {
            (Outcome::Error(error), _, Some(expected)) => check(expected, &error, "the error"),
            (Outcome::Error(error), _, None) => bail!("failed: {error}"),
            (_, _, Some(_)) => bail!("expected an error, it answered"),
            (Outcome::Value(value), Some(expected), _) => check(expected, &value, "it"),
            (Outcome::Message(message), Some(expected), _) => check_message(expected, &message),
            (Outcome::Messages(messages), Some(expected), _) => {
                let wanted = expected["messages"].as_array().context("messages")?;
                let mut both = wanted.iter().zip(&messages);
                both.try_for_each(|(wanted, message)| check_message(wanted, message))
            }
            (_, _, None) => Ok(()),
        }
    }

    /// Does what a step begins with; the rest of it is what comes back.
    async fn begin(&mut self, step: &Value) -> Result<Work> {
        let outcome = match text(step, "do")? {
            "start" => self.start(step).await?,
            "routes" => self.routes(step).await?,
            "listen" => self.listen(step).await?,
            "message" => self.message(step).await?,
            "lines" => self.lines(step).await?,
            "emit" => self.emit(step)?,
            "flush" => Outcome::Value(self.handle(step)?.app.flush().await.into()),
            "counts" => self.counts(step)?,
            "events" => self.events(step).await?,
            "request" => return self.request(step).await,
            "serve_raw" => self.serve_raw(step).await?,
            "call" => return self.call(step),
            "chain" => return self.chain(step),
            "slots" => slots(step)?,
            "open" => {
                let gate = self.gates.at(text(step, "gate")?);
                gate.is_open.send_replace(true);
                Outcome::Nothing
            }
            "begun" => {
                let gate = self.gates.at(text(step, "gate")?);
                gate.begun.subscribe().wait_for(|begun| *begun).await?;
                Outcome::Nothing
            }
            "bus" if step["is"] == "stop" => {
                self.fixture.stop().await?;
                Outcome::Nothing
            }
            "bus" => {
                self.fixture.start().await?;
                Outcome::Nothing
            }
            "stream" => {
                self.fixture.set_stream(&step["set"]).await?;
                Outcome::Nothing
            }
            "spilled" => {
                until(|| async { Ok(step["is"] == self.fixture.is_spilled()) }).await?;
                Outcome::Nothing
            }
            "drain" => {
                let drained = self.handle(step)?.app.drain(millis(step, "deadline_ms", 0));
                Outcome::Value(drained.await.into())
            }
            "stop" => {
                let within = millis(step, "deadline_ms", 0);
                let name = text(step, "handle")?;
                let handle = self.handles.get_mut(name).context("not started")?;
                let stopping = handle.stop(within)?;
                return Ok(async move { Ok(Outcome::Value(stopping.await.into())) }.boxed());
            }
            "join" => {
                let work = self.background.remove(text(step, "of")?);
                work.context("nothing is under way by this name")?.await??
            }
            other => bail!("no step is called {other}"),
        };
        Ok(async move { Ok(outcome) }.boxed())
    }

    fn handle(&self, step: &Value) -> Result<&Handle> {
        let name = text(step, "handle")?;
        let handle = self.handles.get(name);
        handle.with_context(|| format!("the handle {name} is not started"))
    }

    async fn start(&mut self, step: &Value) -> Result<Outcome> {
        let name = text(step, "handle")?;
        let spec = &self.scenario["handles"][name];
        let handle = Handle::start(spec, &self.fixture, &self.gates).await?;
        self.handles.insert(name.to_owned(), handle);
        Ok(Outcome::Nothing)
    }

    async fn routes(&mut self, step: &Value) -> Result<Outcome> {
        let told = json!({"revision": step["revision"], "services": step["services"]});
        let client = self.fixture.client()?;
        match &self.routes {
            Some(routes) => {
                routes.send_replace(told.clone());
            }
            None => {
                let routes = watch::Sender::new(told.clone());
                let told_now = routes.subscribe();
                let answer = move || Some(told_now.borrow().to_string().into());
                let asked = Served::new(subject::ROUTES_GET);
                serve(&client, asked, answer).await?;
                self.routes = Some(routes);
            }
        }
        client
            .publish(subject::ROUTES, told.to_string().into())
            .await?;
        round_trip(&client).await?;
        let revision = step["revision"].as_u64().context("a revision")?;
        self.revision = self.revision.max(revision);
        for handle in self.handles.values() {
            let app = &handle.app;
            until(|| async { Ok(app.routes_revision().await >= Some(self.revision)) }).await?;
        }
        Ok(Outcome::Nothing)
    }

    async fn listen(&mut self, step: &Value) -> Result<Outcome> {
        let client = self.fixture.client()?;
        let kept = serve(&client, Served::new(text(step, "subject")?), || None).await?;
        self.kept.insert(text(step, "as")?.to_owned(), kept);
        Ok(Outcome::Nothing)
    }

    async fn serve_raw(&mut self, step: &Value) -> Result<Outcome> {
        let client = self.fixture.client()?;
        let body = step.get("body").map(Value::to_string).unwrap_or_default();
        let is_silent = step["silent"] == true;
        let answer = move || (!is_silent).then(|| Bytes::from(body.clone()));
        let served = Served {
            queue: step["queue"].as_str().unwrap_or_default(),
            headers: headers(step),
            times: step["times"].as_u64(),
            ..Served::new(text(step, "subject")?)
        };
        let kept = serve(&client, served, answer).await?;
        self.kept.insert(text(step, "as")?.to_owned(), kept);
        Ok(Outcome::Nothing)
    }

    async fn message(&mut self, step: &Value) -> Result<Outcome> {
        let mut last = String::from("nothing came");
        loop {
            let message = self.next(step, &last).await?;
            match check_message(&step["expect"], &message) {
                Ok(()) => return Ok(Outcome::Nothing),
                Err(error) => last = error.to_string(),
            }
        }
    }

    async fn lines(&mut self, step: &Value) -> Result<Outcome> {
        let mut last = String::from("nothing came");
        loop {
            let message = self.next(step, &last).await?;
            for line in message["text"].as_str().unwrap_or_default().lines() {
                let told = serde_json::from_str(line)?;
                let is_fault = !step["never"].is_null() && check(&step["never"], &told, "").is_ok();
                ensure!(!is_fault, "told what is not to be told: {line}");
                match check(&step["expect"], &told, "the line") {
                    Ok(()) => return Ok(Outcome::Nothing),
                    Err(error) => last = error.to_string(),
                }
            }
        }
    }

    async fn next(&mut self, step: &Value, last: &str) -> Result<Value> {
        let kept = self.kept.get_mut(text(step, "of")?);
        let kept = kept.context("nothing is kept by this name")?;
        let next = tokio::time::timeout(PATIENCE / 3, kept.recv()).await;
        let next = next.ok().flatten();
        next.with_context(|| format!("nothing matched: {last}"))
    }

    fn emit(&self, step: &Value) -> Result<Outcome> {
        let app = &self.handle(step)?.app;
        let kind = text(step, "type")?;
        let context = Context::from_headers(step["traceparent"].as_str(), step["arm"].as_str());
        context.run(|| match step["times"].as_u64() {
            None => app.emit(kind, &filled(&step["data"])),
            Some(times) => {
                let from = step["from"].as_u64().unwrap_or_default();
                for n in from..from + times {
                    let mut data = step["data"].clone();
                    data["n"] = n.into();
                    app.emit(kind, &data);
                }
            }
        });
        Ok(Outcome::Nothing)
    }

    fn counts(&self, step: &Value) -> Result<Outcome> {
        let counts = self.handle(step)?.app.counts();
        Ok(Outcome::Value(json!({
            "emitted": counts.emitted,
            "acknowledged": counts.acknowledged,
            "dropped": counts.dropped,
        })))
    }

    async fn events(&self, step: &Value) -> Result<Outcome> {
        let numbered = step["numbered"].as_u64();
        let expected = step["expect"]
            .as_array()
            .map_or(0, |events| events.len() as u64);
        let count = numbered.unwrap_or(expected);
        until(|| async { Ok(self.fixture.events().await?.len() as u64 >= count) }).await?;
        let found = self.fixture.events().await?;
        if numbered.is_some() {
            let numbers = found.iter().map(|event| event["data"]["n"].as_u64());
            ensure!(
                numbers.eq((0..count).map(Some)),
                "they are not 0 to {count}, in order"
            );
            let ids = found.iter().filter_map(|event| event["id"].as_str());
            ensure!(ids.is_sorted_by(|a, b| a < b), "identities do not rise");
        }
        Ok(Outcome::Value(found.into()))
    }

    async fn request(&self, step: &Value) -> Result<Work> {
        let client = self.fixture.client()?;
        let body = match step["text"].as_str() {
            Some(text) => text.to_owned(),
            None => step["body"].to_string(),
        };
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await?;
        let subject = text(step, "subject")?.to_owned();
        let sent =
            client.publish_with_reply_and_headers(subject, inbox, headers(step), body.into());
        sent.await?;
        client.flush().await?;
        let taken = step["take"]
            .as_u64()
            .and_then(|taken| usize::try_from(taken).ok());
        let (replies, leaves) = (step["replies"].as_u64(), step["leave"] == true);
        Ok(async move {
            let (mut messages, mut service) = (Vec::new(), None);
            for _ in 0..replies.unwrap_or(1) {
                let next = tokio::time::timeout(PATIENCE, answers.next()).await;
                let message = next.context("no answer in time")?;
                let message = message.context("the connection ended")?;
                messages.push(shape_of(&message));
                service = message.reply;
                if let Some(service) = service.clone().filter(|_| taken == Some(messages.len())) {
                    let mut headers = HeaderMap::new();
                    headers.insert(call::WEB_TAKEN, messages.len().to_string());
                    client
                        .publish_with_headers(service, headers, Bytes::new())
                        .await?;
                }
            }
            if let Some(service) = service.filter(|_| leaves) {
                client.publish(service, Bytes::new()).await?;
            }
            Ok(match replies {
                None => Outcome::Message(messages.remove(0)),
                Some(_) => Outcome::Messages(messages),
            })
        }
        .boxed())
    }

    fn call(&self, step: &Value) -> Result<Work> {
        let app = &self.handle(step)?.app;
        let (service, endpoint) = (text(step, "service")?, text(step, "endpoint")?);
        let bytes = step["bytes"].as_str().map(str::to_owned);
        let mut call: Call<Value> = match bytes.clone() {
            Some(bytes) => app.call_bytes(service, endpoint, bytes.into()),
            None => app.call(service, endpoint, &step["data"]),
        };
        if let Some(key) = step["key"].as_str() {
            call = call.key(key);
        }
        if step["idempotent"] == true {
            call = call.idempotent();
        }
        let call = call.timeout(millis(step, "timeout_ms", 5_000));
        let is_bytes = bytes.is_some();
        Ok(async move {
            let answer = match is_bytes {
                true => call.reply().await.map(|reply| text_of(&reply.body)),
                false => call.await,
            };
            Ok(match answer {
                Ok(answer) => Outcome::Value(answer),
                Err(error) => Outcome::Error(call_error_shape(&error)),
            })
        }
        .boxed())
    }

    fn chain(&self, step: &Value) -> Result<Work> {
        let (app, step) = (self.handle(step)?.app.clone(), step.clone());
        Ok(async move {
            Ok(match run_chain(&app, &step).await {
                Ok(done) => Outcome::Value(json!({"data": done.data, "hops": done.hops})),
                Err(error) => Outcome::Error(chain_error_shape(&error)),
            })
        }
        .boxed())
    }
}

/// What a raw client listens for, and answers with.
struct Served<'a> {
    subject: &'a str,
    queue: &'a str,
    headers: HeaderMap,
    /// It leaves after so many.
    times: Option<u64>,
}

impl Served<'_> {
    fn new(subject: &str) -> Served<'_> {
        Served {
            subject,
            queue: "",
            headers: HeaderMap::new(),
            times: None,
        }
    }
}

/// Subscribes on the bus: what comes is kept, and answered where there is an answer.
async fn serve(
    client: &Client,
    served: Served<'_>,
    answer: impl Fn() -> Option<Bytes> + Send + 'static,
) -> Result<mpsc::Receiver<Value>> {
    let (subject, headers) = (served.subject.to_owned(), served.headers);
    let mut messages = match served.queue {
        "" => client.subscribe(subject).await?,
        queue => client.queue_subscribe(subject, queue.to_owned()).await?,
    };
    if let Some(times) = served.times {
        messages.unsubscribe_after(times).await?;
    }
    let (keep, kept) = mpsc::channel(KEPT_MAX);
    let answering = client.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            keep.try_send(shape_of(&message)).ok();
            if let (Some(body), Some(reply)) = (answer(), message.reply) {
                let sent = answering.publish_with_headers(reply, headers.clone(), body);
                sent.await.ok();
            }
        }
    });
    round_trip(client).await?;
    Ok(kept)
}

/// Returns once the server has taken what this client said before.
async fn round_trip(client: &Client) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let subject = format!("runner.trip.{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut back = client.subscribe(subject.clone()).await?;
    client.publish(subject, Bytes::new()).await?;
    back.next().await.context("the connection ended")?;
    Ok(())
}

fn text_of(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn slots(step: &Value) -> Result<Outcome> {
    let asked = step["expect"].as_array().context("a list")?;
    let slot = |asked: &Value| {
        let [service, key] = [0, 1].map(|at| asked[at].as_str().unwrap_or_default());
        json!([service, key, route::slot_of(service, key)])
    };
    Ok(Outcome::Value(asked.iter().map(slot).collect()))
}

fn text<'a>(step: &'a Value, key: &str) -> Result<&'a str> {
    step[key].as_str().with_context(|| format!("no {key}"))
}

fn millis(step: &Value, key: &str, default: u64) -> Duration {
    Duration::from_millis(step[key].as_u64().unwrap_or(default))
}

fn headers(step: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in step["headers"].as_object().into_iter().flatten() {
        headers.append(name.as_str(), value.as_str().unwrap_or_default());
    }
    headers
}
