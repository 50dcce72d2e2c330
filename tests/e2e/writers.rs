//! Writers for the crash tests: they remember what was acknowledged, and nothing else is promised.
//!
//! One posts NDJSON to the HTTP door, one publishes on the bus as a foreign program does. Both go on
//! through crashes: what was not acknowledged is sent again under its old id. Start at [`Writers`].

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serin_tests::wait::until;
use serin_tests::{Serin, duck};
use tokio::task::JoinHandle;

/// The type of all events of these writers.
pub(crate) const TYPE: &str = "crash.test";
const LINES_PER_POST: u64 = 40;
/// The pause before a refused or lost request is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a request may take; beyond it the answer counts as lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take until everything acknowledged is in files.
const STORED_DEADLINE: Duration = Duration::from_secs(60);

/// Where the writers send to; a crash test changes it when a restart moved it.
#[derive(Debug, Clone)]
struct Target {
    url: String,
    token: String,
    bus: String,
}

/// Writers at work.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    target: tokio::sync::watch::Sender<Target>,
    posting: JoinHandle<Result<BTreeSet<String>>>,
    publishing: JoinHandle<Result<BTreeSet<String>>>,
}

impl Writers {
    /// Starts them; `round` keeps their ids apart from those of other rounds.
    pub(crate) fn start(serin: &Serin, round: u64) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let (target, watched) = tokio::sync::watch::channel(target_of(serin));
        let posting = tokio::spawn(post(watched.clone(), Arc::clone(&stop), round));
        let publishing = tokio::spawn(publish(watched, Arc::clone(&stop), round));
        Writers {
            stop,
            target,
            posting,
            publishing,
        }
    }

    /// Tells where Serin is after a restart.
    pub(crate) fn moved(&self, serin: &Serin) {
        self.target.send_replace(target_of(serin));
    }

    /// Ends them; the ids that were acknowledged.
    pub(crate) async fn stop(self) -> Result<BTreeSet<String>> {
        self.stop.store(true, Relaxed);
        let mut acknowledged = self.posting.await??;
        acknowledged.extend(self.publishing.await??);
        Ok(acknowledged)
    }
}

/// Recounts with DuckDB: every acknowledged id once, no id twice.
pub(crate) async fn recount(serin: &Serin, acknowledged: &BTreeSet<String>) -> Result<()> {
    ensure!(
        !acknowledged.is_empty(),
        "nothing was acknowledged, so nothing was tested"
    );
    until(
        "everything acknowledged is stored",
        STORED_DEADLINE,
        async || {
            serin.run(&["flush"]).await?;
            let stored = stored(serin)?;
            let lost: Vec<_> = acknowledged.difference(&stored).collect();
            let some = &lost[..lost.len().min(5)];
            ensure!(
                lost.is_empty(),
                "{} of {} are missing: {some:?} …",
                lost.len(),
                stored.len()
            );
            Ok(Some(()))
        },
    )
    .await?;
    stored(serin).map(drop)
}

/// The ids DuckDB finds; an error when one is there twice.
fn stored(serin: &Serin) -> Result<BTreeSet<String>> {
    let sql = format!("SELECT id, count(*) FROM \"{TYPE}\" GROUP BY id");
    let mut stored = BTreeSet::new();
    let mut doubled = Vec::new();
    for row in duck::query(serin.catalogue(), &sql)? {
        let id = row[0].as_str().context("an id is text")?.to_owned();
        if row[1] != 1 {
            doubled.push(format!("{id} × {}", row[1]));
        }
        stored.insert(id);
    }
    ensure!(doubled.is_empty(), "stored more than once: {doubled:?}");
    Ok(stored)
}

fn target_of(serin: &Serin) -> Target {
    Target {
        url: serin.url().to_owned(),
        token: serin.token().to_owned(),
        bus: serin.bus().to_owned(),
    }
}

/// Posts lines until told to stop; a post without an answer is sent again as it was.
async fn post(
    target: tokio::sync::watch::Receiver<Target>,
    stop: Arc<AtomicBool>,
    round: u64,
) -> Result<BTreeSet<String>> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_DEADLINE)
        .build()?;
    let mut acknowledged = BTreeSet::new();
    let mut first = 0;
    while !stop.load(Relaxed) {
        let ids: Vec<String> = (first..first + LINES_PER_POST)
            .map(|n| format!("h-{round}-{n}"))
            .collect();
        let mut lines = String::new();
        for (n, id) in ids.iter().enumerate() {
            let n = first + n as u64;
            writeln!(
                lines,
                r#"{{"id":"{id}","type":"{TYPE}","source":"/door","data":{{"n":{n}}}}}"#
            )?;
        }
        let Target { url, token, .. } = target.borrow().clone();
        let request = http.post(format!("{url}/api/v1/events")).bearer_auth(token);
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(lines);
        match request.send().await {
            Ok(answer) if answer.status() == 200 => {
                acknowledged.extend(ids);
                first += LINES_PER_POST;
            }
            _ => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
    Ok(acknowledged)
}

/// Publishes single CloudEvents and waits for each acknowledgement.
async fn publish(
    target: tokio::sync::watch::Receiver<Target>,
    stop: Arc<AtomicBool>,
    round: u64,
) -> Result<BTreeSet<String>> {
    let mut bus = target.borrow().bus.clone();
    let mut stream = jetstream(&bus).await?;
    let mut acknowledged = BTreeSet::new();
    let mut n = 0_u64;
    while !stop.load(Relaxed) {
        let now = target.borrow().bus.clone();
        if now != bus {
            stream = jetstream(&now).await?;
            bus = now;
        }
        let id = format!("b-{round}-{n}");
        let mut headers = HeaderMap::new();
        let source = "/foreign";
        for (name, value) in [
            ("Nats-Msg-Id", id.as_str()),
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            ("ce-source", source),
            ("ce-type", TYPE),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, value);
        }
        let data = format!(r#"{{"n":{n}}}"#);
        let subject = format!("ev.foreign.{TYPE}");
        let acknowledgement = async {
            stream
                .publish_with_headers(subject, headers, data.into())
                .await?
                .await?;
            anyhow::Ok(())
        };
        match tokio::time::timeout(ANSWER_DEADLINE, acknowledgement).await {
            Ok(Ok(())) => {
                acknowledged.insert(id);
                n += 1;
            }
            _ => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
    Ok(acknowledged)
}

async fn jetstream(bus: &str) -> Result<async_nats::jetstream::Context> {
    let client = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| AGAIN_AFTER)
        .connect(bus)
        .await?;
    Ok(async_nats::jetstream::new(client))
}
