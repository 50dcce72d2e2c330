//! The invariants of docs/decisions/002 beside a running Serin, each by its checker of the lake.
//!
//! After a crash [`Audited::again`] asks what can be asked at any time; [`acknowledged`] looks for what
//! was promised once everything is in files; [`watch`] reads while others write and crash.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream;
use serde_json::Value;
use serin_lake::check::{Acknowledged, Audit, Finding, Watch, is_held_by};
use serin_lake::{Incarnation, LakeOptions, Position};
use serin_tests::Serin;
use serin_tests::wait::until;
use tokio::sync::watch;

use crate::writers::{Desk, TYPES, Target};

/// The stream of events and where it keeps the name of its life (docs/decisions/001).
const STREAM: &str = "EVENTS";
const INCARNATION: &str = "serin_incarnation";
/// A bus that was just killed may not answer yet.
const BUS_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks of the reader: often beside flushes, seldom enough to leave room for them.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How long a look may take; it counts as none beyond.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// What was seen of one folder so far.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    position: Option<Position>,
}

impl Audited {
    /// Looks at a Serin that runs: I2 to I4, I8 and I12 by `serin doctor`, I6, I7 and I9 here.
    pub(crate) async fn again(&mut self, serin: &Serin) -> Result<()> {
        doctor(serin).await?;
        let lake = serin.dir().join(".serin/lake");
        none(is_held_by(&lake, serin.pid().context("serin runs")?)?)?;
        let given_up = until("the bus tells its state", BUS_DEADLINE, async || {
            given_up(serin).await.map(Some)
        });
        let given_up = given_up.await?;
        let audit = Audit::open(&lake)?;
        none(audit.bus_gave_up_only_what_is_in(given_up))?;
        if let Some(before) = self.position.replace(audit.position()) {
            none(audit.position_never_falls(before))?;
        }
        Ok(())
    }
}

/// The last message that the bus let go.
async fn given_up(serin: &Serin) -> Result<Position> {
    let client = serin_tests::bus::connect(serin.bus()).await?;
    let stream = jetstream::new(client).get_stream(STREAM).await?;
    let info = stream.cached_info();
    let name = info.config.metadata.get(INCARNATION);
    let incarnation: Incarnation = name.context("the stream has no incarnation")?.parse()?;
    Ok(Position {
        incarnation,
        sequence: info.state.first_sequence.saturating_sub(1),
    })
}

/// Every invariant that `serin doctor` looks at.
async fn doctor(serin: &Serin) -> Result<()> {
    let output = serin.output(&["doctor", "--json"]).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<Value> = serde_json::from_str(&text).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("serin doctor says {text:?}: {}", said.trim())
    })?;
    let bad = |finding: &&Value| finding["state"] == "bad";
    if let Some(bad) = findings.iter().find(bad) {
        bail!("serin doctor: {bad}");
    }
    ensure!(
        output.status.success(),
        "serin doctor ended with {}",
        output.status
    );
    Ok(())
}

/// I1 and I14 over the events with these keys, all of which are in files by now.
pub(crate) fn acknowledged(serin: &Serin, keys: &BTreeSet<String>) -> Result<()> {
    let audit = Audit::open(&serin.dir().join(".serin/lake"))?;
    let events = keys.iter().map(|key| Acknowledged {
        key: key.clone(),
        at: None,
    });
    none(audit.acknowledged_are_accounted("key", &events.collect::<Vec<_>>())?)?;
    none(audit.sent_again_is_there_once("key")?)
}

/// I11, over the folder of a Serin that has stopped.
pub(crate) fn start_changes_nothing(serin: &Serin) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let options = LakeOptions {
        dir: serin.dir().join(".serin/lake"),
        ..LakeOptions::default()
    };
    let now_us = i64::try_from(now.as_micros())?;
    none(serin_lake::check::start_changes_nothing(&options, now_us)?)
}

/// I5: reads while others write. What a life of Serin has shown once it shows as long as it lives.
pub(crate) async fn watch(
    target: watch::Receiver<Target>,
    desk: std::sync::Arc<Desk>,
) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy();
    let http = http.timeout(LOOK_DEADLINE).build()?;
    let (mut life, mut watch) = (String::new(), Watch::default());
    let sql = format!("SELECT count(*), count(DISTINCT key) FROM \"{}\"", TYPES[0]);
    while !desk.is_stopped() {
        let Target { url, token, .. } = target.borrow().clone();
        if life != token {
            (life, watch) = (token.clone(), Watch::default());
        }
        let request = http.post(format!("{url}/api/v1/query")).bearer_auth(token);
        let asked = request.json(&serde_json::json!({"sql": sql})).send();
        // No answer is none: Serin may have been killed.
        if let Ok(answer) = asked.await
            && answer.status() == 200
            && let Ok(answer) = answer.json::<Value>().await
        {
            let number = |place: usize| answer["rows"][0][place].as_u64().unwrap_or_default();
            none(watch.count(number(0), number(1), 0))?;
            desk.looked();
        }
        desk.unless_stopped(tokio::time::sleep(LOOK_EVERY)).await;
    }
    Ok(())
}

fn none(findings: Vec<Finding>) -> Result<()> {
    let told = findings.iter().take(10);
    let told: Vec<String> = told
        .map(|f| format!("{}: {}", f.invariant, f.what))
        .collect();
    ensure!(
        findings.is_empty(),
        "{} findings: {} …",
        findings.len(),
        told.join("; ")
    );
    Ok(())
}
