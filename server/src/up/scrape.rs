//! Reads the Prometheus endpoints of services with `scrape:`, each instance by itself.
//!
//! Every instance that takes work is asked when its time has come, at different moments of the
//! interval; its answer becomes lines of metrics and goes the way of all telemetry. `up` says
//! whether it answered. Start at [`run`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use reqwest::Client;
use serin_control::runtime::{InstanceView, Runtime, ServiceView};
use serin_control::service::Scrape;
use serin_lake::accept::{AcceptTelemetry, TelemetryLines};
use serin_translate::prometheus::{self, Asked};
use serin_translate::{Increases, Translated};
use serin_wire::{Metric, MetricKind, call, subject};
use tokio::task::{AbortHandle, JoinSet};

use crate::edge;

/// An endpoint may take so long; an interval of a second allows no more.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// An answer has at most so many bytes: some 50,000 series.
const BYTES_MAX: usize = 8 << 20;
/// Endpoints that are read at one moment.
const READING_MAX: usize = 32;
const ACCEPT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    service: String,
    version: String,
    instance: String,
    started_us: i64,
    port: u16,
    path: String,
    every_us: i64,
}

/// What every reading shares.
struct Scraper {
    client: Client,
    door: Arc<dyn AcceptTelemetry>,
    increases: Increases,
}

/// Reads until the task is dropped.
pub(super) async fn run(runtime: Arc<Runtime>, door: Arc<dyn AcceptTelemetry>) {
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        .user_agent("serin")
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no endpoint of metrics can be read");
            return;
        }
    };
    let scraper = Arc::new(Scraper {
        client,
        door,
        increases: Increases::new(edge::now_us()),
    });
    let mut views = runtime.views();
    let mut due: BTreeMap<Target, i64> = BTreeMap::new();
    let mut reading: JoinSet<(String, bool)> = JoinSet::new();
    // One at a time of each: its totals are compared with those of the last.
    let mut under_way: BTreeMap<Target, AbortHandle> = BTreeMap::new();
    let mut silent: BTreeSet<String> = BTreeSet::new();
    loop {
        let now_us = edge::now_us();
        let targets: Vec<Target> = views.borrow_and_update().iter().flat_map(targets).collect();
        due.retain(|target, _| targets.contains(target));
        under_way.retain(|_, reading| !reading.is_finished());
        for target in targets {
            let at_us = due
                .entry(target.clone())
                .or_insert_with(|| first_at(&target, now_us));
            if *at_us <= now_us && reading.len() < READING_MAX {
                *at_us = now_us.max(*at_us + target.every_us);
                if under_way.contains_key(&target) {
                    continue;
                }
                let was_silent = silent.contains(&target.instance);
                let scraper = Arc::clone(&scraper);
                let visited = target.clone();
                let visit = async move { scraper.visit(visited, was_silent).await };
                under_way.insert(target, reading.spawn(visit));
            }
        }
        let next_us = due.values().min().filter(|_| reading.len() < READING_MAX);
        let pause =
            next_us.map(|at_us| Duration::from_micros((at_us - now_us).max(0).unsigned_abs()));
        tokio::select! {
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            changed = views.changed() => if changed.is_err() { return },
            Some(read) = reading.join_next() => match read {
                Ok((instance, true)) => drop(silent.remove(&instance)),
                Ok((instance, false)) => drop(silent.insert(instance)),
                Err(error) => tracing::warn!(%error, "a reading of metrics broke"),
            },
        }
    }
}

/// The endpoints of a service.
fn targets(view: &ServiceView) -> Vec<Target> {
    let scrape = |instance: &InstanceView| -> Option<(&Scrape, u16)> {
        let mut versions = view.versions.iter();
        let version = versions.find(|version| version.name == instance.version)?;
        Some((version.scrape.as_ref()?, instance.port?))
    };
    let ready = view
        .instances
        .iter()
        .filter(|instance| instance.state == "ready");
    let targets = ready.filter_map(|instance| {
        let (scrape, port) = scrape(instance)?;
        Some(Target {
            service: view.name.clone(),
            version: instance.version.clone(),
            instance: instance.name.clone(),
            started_us: instance.started_us,
            port,
            path: scrape.path.clone(),
            every_us: i64::try_from(scrape.every_ms.saturating_mul(1_000)).unwrap_or(i64::MAX),
        })
    });
    targets.collect()
}

/// A new instance is asked at once, so that it is on screen; those that were found running at a
/// start get moments of their own within the first interval by their names.
fn first_at(target: &Target, now_us: i64) -> i64 {
    let is_new = now_us - target.started_us < target.every_us;
    let hash = blake3::hash(target.instance.as_bytes());
    let share = f64::from(hash.as_bytes()[0]) / 256.0;
    match is_new {
        true => now_us,
        false => now_us + (share * target.every_us as f64) as i64,
    }
}

impl Scraper {
    /// Reads an endpoint and tells what it said; its instance, and whether it answered.
    async fn visit(&self, target: Target, was_silent: bool) -> (String, bool) {
        let read = self.read(&target).await;
        let is_up = read.is_ok();
        if let Err(error) = &read
            && !was_silent
        {
            let Target { instance, path, .. } = &target;
            tracing::warn!(
                error = format!("{error:#}"),
                instance,
                path,
                "cannot read the metrics"
            );
        }
        if let Err(error) = self.tell_up(&target, is_up).await {
            tracing::debug!(%error, "whether an endpoint answers is not told");
        }
        (target.instance, is_up)
    }

    async fn read(&self, target: &Target) -> Result<()> {
        let text = self.get(target).await?;
        let now_us = edge::now_us();
        let asked = Asked {
            service: &target.service,
            version: &target.version,
            instance: &target.instance,
            started_us: target.started_us,
        };
        let translated = prometheus::read(&text, asked, &self.increases, now_us)?;
        let Translated {
            lines,
            refused,
            totals,
            ..
        } = translated;
        let lines = lines.into_iter().map(|lines| TelemetryLines {
            subject: lines.subject,
            text: Bytes::from(lines.text),
        });
        let receipt = self.door.tell(lines.collect()).await?;
        self.increases.keep(totals, now_us);
        let count = refused.count + receipt.refused.len() as u64;
        if count > 0 {
            let first = receipt.refused.first().map(|line| &*line.error);
            let why = first.unwrap_or(&refused.why);
            let instance = &target.instance;
            tracing::debug!(count, why, instance, "metrics were refused");
        }
        Ok(())
    }

    async fn get(&self, target: &Target) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{}", target.port, target.path);
        let request = self.client.get(url).header("accept", ACCEPT);
        let request = request.header(call::TRACEPARENT, call::UNTRACED);
        let mut answer = request.send().await.context("no answer")?;
        if !answer.status().is_success() {
            bail!("it answered {}", answer.status());
        }
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if bytes.len() + piece.len() > BYTES_MAX {
                bail!("the answer has more than {} MiB", BYTES_MAX >> 20);
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).context("the answer is no text in UTF-8")
    }

    async fn tell_up(&self, target: &Target, is_up: bool) -> Result<()> {
        let up = Metric {
            time: edge::now_us(),
            name: "up".into(),
            kind: MetricKind::Gauge,
            unit: None,
            value: Some(f64::from(u8::from(is_up))),
            delta: None,
            observed: None,
            labels: BTreeMap::new(),
        };
        let line = TelemetryLines {
            subject: subject::metric(&target.service, &target.version, &target.instance),
            text: serde_json::to_vec(&up).unwrap_or_default().into(),
        };
        self.door.tell(vec![line]).await?;
        Ok(())
    }
}
