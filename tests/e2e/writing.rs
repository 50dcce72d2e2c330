//! How each writer of the crash tests writes, and what counts as acknowledged at its way in.
//!
//! Called by `writers`. Paced, so that a long run stays small enough to be recounted whole.

use std::fmt::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use serde_json::json;
use serin_sdk::{Options, Serin as Sdk};
use serin_tests::place;
use serin_tests::random::Random;
use tokio::sync::watch;

use crate::writers::{Desk, TYPES, Target};

const LINES_PER_POST: u64 = 40;
const EVENTS_PER_BURST: u64 = 40;
/// More than one body of an import (2,000 events), so that one can be cut off between them.
const ROWS_PER_FILE: u64 = 4_500;
/// The pace of those who write without a pause otherwise.
const PACE: Duration = Duration::from_millis(50);
/// Between two imports.
const IMPORT_PAUSE: Duration = Duration::from_millis(1_500);
/// The pause before a refused or lost request is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a request may take; beyond it the answer counts as lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

fn kind(n: u64) -> &'static str {
    TYPES[(n % 4) as usize]
}

fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy();
    Ok(client.timeout(ANSWER_DEADLINE).build()?)
}

/// Posts lines; a post without an answer is sent again as it was.
pub(crate) async fn post(target: watch::Receiver<Target>, desk: Arc<Desk>) -> Result<()> {
    let http = client()?;
    let mut first = 0;
    while !desk.is_stopped() {
        let keys: Vec<String> = (first..first + LINES_PER_POST)
            .map(|n| format!("h-{}-{n}", desk.round))
            .collect();
        let mut lines = String::new();
        for (n, key) in (first..).zip(&keys) {
            let kind = kind(n);
            writeln!(
                lines,
                r#"{{"id":"{key}","type":"{kind}","source":"/door","data":{{"key":"{key}","n":{n}}}}}"#
            )?;
        }
        let Target { url, token, .. } = target.borrow().clone();
        let request = http.post(format!("{url}/api/v1/events")).bearer_auth(token);
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(lines);
        match desk.unless_stopped(request.send()).await {
            Some(Ok(answer)) if answer.status() == 200 => {
                desk.acknowledge(keys);
                first += LINES_PER_POST;
                tokio::time::sleep(PACE).await;
            }
            _ => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
    Ok(())
}

/// Publishes single CloudEvents, as a foreign program does, and waits for each acknowledgement.
pub(crate) async fn publish(target: watch::Receiver<Target>, desk: Arc<Desk>) -> Result<()> {
    let mut bus = target.borrow().bus.clone();
    let mut stream = jetstream(&bus).await?;
    let mut n = 0_u64;
    while !desk.is_stopped() {
        let now = target.borrow().bus.clone();
        if now != bus {
            stream = jetstream(&now).await?;
            bus = now;
        }
        let key = format!("b-{}-{n}", desk.round);
        let kind = kind(n);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", key.as_str()),
            ("ce-specversion", "1.0"),
            ("ce-id", &key),
            ("ce-source", "/foreign"),
            ("ce-type", kind),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, value);
        }
        let data = format!(r#"{{"key":"{key}","n":{n}}}"#);
        let subject = format!("ev.foreign.{kind}");
        let acknowledgement = async {
            let sent = stream.publish_with_headers(subject, headers, data.into());
            sent.await?.await?;
            anyhow::Ok(())
        };
        let answered = tokio::time::timeout(ANSWER_DEADLINE, acknowledgement);
        match desk.unless_stopped(answered).await {
            Some(Ok(Ok(()))) => {
                desk.acknowledge([key]);
                n += 1;
                tokio::time::sleep(PACE).await;
            }
            _ => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
    Ok(())
}

async fn jetstream(bus: &str) -> Result<async_nats::jetstream::Context> {
    Ok(async_nats::jetstream::new(
        serin_tests::bus::connect(bus).await?,
    ))
}

/// Emits through the SDK, which keeps everything until the bus has it: `flush` says when.
pub(crate) async fn emit(target: watch::Receiver<Target>, desk: Arc<Desk>) -> Result<()> {
    let spill = tempfile::tempdir()?;
    let bus = target.borrow().bus.clone();
    let sdk = Sdk::connect(Options {
        spill_dir: Some(spill.path().to_owned()),
        drain_deadline: Duration::from_millis(200),
        ..Options::new(bus, "writer")
    })?;
    let mut first = 0;
    while !desk.is_stopped() {
        let mut keys = Vec::new();
        for n in first..first + EVENTS_PER_BURST {
            let key = format!("s-{}-{n}", desk.round);
            sdk.emit(kind(n), &json!({"key": key, "n": n}));
            keys.push(key);
        }
        first += EVENTS_PER_BURST;
        if desk.unless_stopped(sdk.flush()).await == Some(true) {
            desk.acknowledge(keys);
        }
        tokio::time::sleep(PACE).await;
    }
    // Waiting for its threads must not hold up the others.
    tokio::task::spawn_blocking(move || drop((sdk, spill))).await?;
    Ok(())
}

/// Imports one file after the other; one that was cut off is imported again until it is in.
pub(crate) async fn import(target: watch::Receiver<Target>, desk: Arc<Desk>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for file in 0_u64.. {
        if desk.is_stopped() {
            break;
        }
        let kind = kind(file);
        let path = folder.path().join("rows.csv");
        let keys: Vec<String> = (0..ROWS_PER_FILE)
            .map(|n| format!("i-{}-{file}-{n}", desk.round))
            .collect();
        let mut text = String::from("key,n\n");
        for (n, key) in keys.iter().enumerate() {
            writeln!(text, "{key},{n}")?;
        }
        std::fs::write(&path, text)?;
        let is_in = loop {
            let mut command = tokio::process::Command::new(place::serin()?);
            command.arg("import").arg(&path).args(["--type", kind]);
            command.current_dir(&target.borrow().dir);
            command.stdin(Stdio::null()).kill_on_drop(true);
            let output = tokio::time::timeout(ANSWER_DEADLINE * 2, command.output());
            match desk.unless_stopped(output).await {
                Some(Ok(Ok(output))) if output.status.success() => break true,
                _ if desk.is_stopped() => break false,
                _ => tokio::time::sleep(AGAIN_AFTER).await,
            }
        };
        if is_in {
            desk.acknowledge(keys);
        }
        desk.unless_stopped(tokio::time::sleep(IMPORT_PAUSE)).await;
    }
    Ok(())
}

/// Asks for a flush at random moments, as `serin flush` does.
pub(crate) async fn flush(target: watch::Receiver<Target>, desk: Arc<Desk>) -> Result<()> {
    let http = client()?;
    let mut random = Random::new(desk.round);
    while !desk.is_stopped() {
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
        let Target { url, token, .. } = target.borrow().clone();
        let request = http.post(format!("{url}/api/v1/flush")).bearer_auth(token);
        desk.flush_begins();
        let answer = desk.unless_stopped(request.send()).await;
        let is_done =
            answer.is_some_and(|answer| answer.is_ok_and(|answer| answer.status() == 200));
        desk.flush_ended(is_done);
    }
    Ok(())
}
