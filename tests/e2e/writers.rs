//! Writers for the crash tests: they remember what was acknowledged, and nothing else is promised.
//!
//! HTTP, raw NATS, the SDK and imports, side by side, each over several types; and somebody who
//! flushes at random moments. All go on through crashes: what was not acknowledged is sent again as
//! it was. Each event has a `key` nobody else has, by which everything is recounted, by the lake's
//! checker and by DuckDB. Beside them somebody reads (`audit`). Start at [`Writers`]; how each one
//! writes is in `writing`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serin_tests::wait::until;
use serin_tests::{Serin, duck};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{audit, writing};

/// The types of all events of these writers; each writer takes them in turn.
pub(crate) const TYPES: [&str; 4] = ["crash.one", "crash.two", "crash.three", "crash.four"];
/// What makes flushes, and with them kills within one, frequent.
pub(crate) const SETTINGS: &str = "ingest: {flush_age_s: 1}\n";
/// How long it may take until everything acknowledged is in files.
const STORED_DEADLINE: Duration = Duration::from_secs(60);
/// How long the first answers may take.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);

/// Where the writers send to; a crash test changes it when a restart moved it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) bus: String,
    pub(crate) dir: PathBuf,
}

/// What all writers share.
#[derive(Debug)]
pub(crate) struct Desk {
    acknowledged: Mutex<BTreeSet<String>>,
    stop: watch::Sender<bool>,
    is_flushing: AtomicBool,
    flushes: AtomicU64,
    looks: AtomicU64,
    /// Keeps the keys of one round apart from those of others.
    pub(crate) round: u64,
}

/// Writers at work.
pub(crate) struct Writers {
    desk: Arc<Desk>,
    target: watch::Sender<Target>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl Desk {
    pub(crate) fn acknowledge(&self, keys: impl IntoIterator<Item = String>) {
        self.locked().extend(keys);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// What this comes to, or nothing where the writers are stopped before: what was not acknowledged
    /// by then is promised to nobody.
    pub(crate) async fn unless_stopped<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            done = what => Some(done),
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }

    pub(crate) fn flush_begins(&self) {
        self.is_flushing.store(true, Relaxed);
    }

    pub(crate) fn flush_ended(&self, is_done: bool) {
        self.is_flushing.store(false, Relaxed);
        self.flushes.fetch_add(u64::from(is_done), Relaxed);
    }

    /// A reader saw each row once.
    pub(crate) fn looked(&self) {
        self.looks.fetch_add(1, Relaxed);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writers {
    /// Starts them; `round` keeps their keys apart from those of other rounds.
    pub(crate) fn start(serin: &Serin, round: u64) -> Writers {
        let desk = Arc::new(Desk {
            acknowledged: Mutex::default(),
            stop: watch::Sender::new(false),
            is_flushing: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            round,
        });
        let (target, watched) = watch::channel(target_of(serin));
        let on = |desk: &Arc<Desk>| (watched.clone(), Arc::clone(desk));
        let (t, d) = on(&desk);
        let mut tasks = vec![tokio::spawn(writing::post(t, d))];
        let (t, d) = on(&desk);
        tasks.push(tokio::spawn(writing::publish(t, d)));
        let (t, d) = on(&desk);
        tasks.push(tokio::spawn(writing::emit(t, d)));
        let (t, d) = on(&desk);
        tasks.push(tokio::spawn(writing::import(t, d)));
        let (t, d) = on(&desk);
        tasks.push(tokio::spawn(writing::flush(t, d)));
        let (t, d) = on(&desk);
        tasks.push(tokio::spawn(audit::watch(t, d)));
        Writers {
            desk,
            target,
            tasks,
        }
    }

    /// Tells where Serin is after a restart.
    pub(crate) fn moved(&self, serin: &Serin) {
        self.target.send_replace(target_of(serin));
    }

    /// Waits until the reader has looked and something was acknowledged at each of these ways in.
    pub(crate) async fn all_begun(&self, ways: &[&str]) -> Result<()> {
        until(
            "all writers and the reader have begun",
            BEGUN_WITHIN,
            async || {
                let keys = self.desk.locked();
                let is_used = |way: &&str| keys.iter().any(|key| key.starts_with(way));
                let have_begun = self.desk.looks.load(Relaxed) > 0 && ways.iter().all(is_used);
                Ok(have_begun.then_some(()))
            },
        )
        .await
    }

    /// Whether a flush that somebody asked for is under way.
    pub(crate) fn is_flushing(&self) -> bool {
        self.desk.is_flushing.load(Relaxed)
    }

    /// Ends them: the keys that were acknowledged, and how many flushes were asked for and done.
    pub(crate) async fn stop(self) -> Result<(BTreeSet<String>, u64)> {
        self.desk.stop.send_replace(true);
        for task in self.tasks {
            task.await??;
        }
        let looks = self.desk.looks.load(Relaxed);
        println!("looks of a reader: {looks}");
        ensure!(looks > 0, "the reader beside the writers never looked");
        let acknowledged = std::mem::take(&mut *self.desk.locked());
        Ok((acknowledged, self.desk.flushes.load(Relaxed)))
    }
}

/// Every way in was used: a writer whose events are never acknowledged tests nothing.
pub(crate) fn all_wrote(acknowledged: &BTreeSet<String>, ways: &[&str]) -> Result<()> {
    for way in ways {
        let is_its = |key: &&String| key.starts_with(way);
        let count = acknowledged.iter().filter(is_its).count();
        println!("acknowledged at the way in {way:?}: {count}");
        ensure!(count > 0, "nothing was acknowledged at the way in {way:?}");
    }
    Ok(())
}

/// Recounts, with DuckDB and by the lake's checkers: every acknowledged key once, no key twice.
pub(crate) async fn recount(serin: &Serin, acknowledged: &BTreeSet<String>) -> Result<()> {
    recount_of(serin, &TYPES, acknowledged).await
}

/// The same over these types.
pub(crate) async fn recount_of(
    serin: &Serin,
    types: &[&str],
    acknowledged: &BTreeSet<String>,
) -> Result<()> {
    ensure!(
        !acknowledged.is_empty(),
        "nothing was acknowledged, so nothing was tested"
    );
    until(
        "everything acknowledged is stored",
        STORED_DEADLINE,
        async || {
            serin.run(&["flush"]).await?;
            let stored = stored(serin, types)?;
            let lost: Vec<_> = acknowledged.difference(&stored).collect();
            let some = &lost[..lost.len().min(5)];
            ensure!(
                lost.is_empty(),
                "{} of {} are missing: {some:?} …",
                lost.len(),
                acknowledged.len()
            );
            Ok(Some(()))
        },
    )
    .await?;
    stored(serin, types)?;
    audit::acknowledged(serin, acknowledged)
}

/// The keys DuckDB finds; an error when one is there twice.
fn stored(serin: &Serin, types: &[&str]) -> Result<BTreeSet<String>> {
    let mut all = String::new();
    for kind in types {
        let union = if all.is_empty() { "" } else { " UNION ALL " };
        write!(all, "{union}SELECT key FROM \"{kind}\"")?;
    }
    let sql = format!("SELECT key, count(*) FROM ({all}) GROUP BY key");
    let mut stored = BTreeSet::new();
    let mut doubled = Vec::new();
    for row in duck::query(serin.catalogue(), &sql)? {
        let key = row[0].as_str().context("a key is text")?.to_owned();
        if row[1] != 1 {
            doubled.push(format!("{key} × {}", row[1]));
        }
        stored.insert(key);
    }
    ensure!(
        doubled.is_empty(),
        "stored more than once: {} …",
        doubled[..doubled.len().min(10)].join(", ")
    );
    Ok(stored)
}

fn target_of(serin: &Serin) -> Target {
    Target {
        url: serin.url().to_owned(),
        token: serin.token().to_owned(),
        bus: serin.bus().to_owned(),
        dir: serin.dir().to_owned(),
    }
}
