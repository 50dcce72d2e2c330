//! What the doors ask of the whole process: ready, flush, stop, counters, dropped files.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use serde_json::json;
use serin_dashboards::Library;
use serin_gateway::process::SupervisorState;
use serin_ingest::Ingest;
use serin_lake::Lake;
use serin_query::Engine;
use serin_ui::{Metric, OpenProgress, Operate, Upload};
use serin_wire::time::to_rfc3339;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{open, web};
use crate::edge;
use crate::schemas;
use crate::supporting::{self, Looked};

/// Lines of progress that may wait for a slow browser.
const PROGRESS_QUEUE: usize = 16;

/// The process, seen from the doors. Holds nothing that has to end before it.
pub(crate) struct Process {
    pub(crate) dir: PathBuf,
    pub(crate) lake: Lake,
    pub(crate) ingest: Weak<Ingest>,
    pub(crate) gateway: watch::Receiver<SupervisorState>,
    pub(crate) engine: Weak<Engine>,
    pub(crate) looked: Arc<Looked>,
    pub(crate) library: watch::Receiver<Arc<Library>>,
    pub(crate) stop: CancellationToken,
    pub(crate) started_us: i64,
}

impl Operate for Process {
    fn not_ready(&self) -> Option<String> {
        if self.ingest.upgrade().is_none() {
            return Some(String::from("the ingester has ended"));
        }
        if self.looked.is_bus_away() {
            return Some(String::from(
                "the bus does not answer: nothing new is acknowledged, stored or called until it does",
            ));
        }
        self.lake
            .is_poisoned()
            .then(|| String::from("the lake was given up after a failed sync"))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let Some(ingest) = self.ingest.upgrade() else {
                return Err(String::from("the ingester has ended"));
            };
            let flushed = ingest.flush().await;
            flushed
                .map(drop)
                .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        })
    }

    fn stop(&self) {
        self.stop.cancel();
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = match self.ingest.upgrade() {
            Some(ingest) => supporting::of_ingest(&ingest.stats(), edge::now_us()),
            None => Vec::new(),
        };
        match self.lake.totals() {
            Ok(totals) => metrics.extend(supporting::of_lake(&totals, edge::now_us())),
            Err(error) => tracing::warn!(%error, "cannot count what the lake holds"),
        }
        metrics.extend(web::metrics(&self.gateway.borrow()));
        if let Some(engine) = self.engine.upgrade() {
            metrics.extend(supporting::of_query(&engine.stats()));
        }
        metrics.extend(self.looked.metrics());
        let library = self.library.borrow();
        metrics.push(Metric::gauge(
            "serin_dashboards_problems",
            "Faults in YAML files now.",
            library.problems.len() as f64,
        ));
        metrics.push(Metric::gauge(
            "serin_control_rules",
            "Rules that are looked at.",
            library.rules.rules.len() as f64,
        ));
        let up_s = (edge::now_us() - self.started_us) as f64 / 1e6;
        metrics.push(Metric::gauge(
            "serin_process_uptime_seconds",
            "Since the start.",
            up_s,
        ));
        metrics
    }

    fn write_dashboard(&self, name: &str, text: &str) -> Result<String, String> {
        let folder = self.dir.join("dashboards");
        let file = format!("dashboards/{name}.yaml");
        let write = || {
            std::fs::create_dir_all(&folder)?;
            let mut open = std::fs::File::create_new(self.dir.join(&file))?;
            open.write_all(format!("{}{text}", schemas::line("dashboard", 1)).as_bytes())
        };
        match write() {
            Ok(()) => Ok(file),
            Err(error) => Err(format!("cannot write {file}: {error}")),
        }
    }

    fn schema(&self, name: &str) -> Option<String> {
        schemas::find(name).map(schemas::Schema::text)
    }

    fn status(&self) -> serde_json::Value {
        let stats = self
            .ingest
            .upgrade()
            .map(|ingest| ingest.stats())
            .unwrap_or_default();
        let totals = self.lake.totals().unwrap_or_default();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "gateway_pid": self.gateway.borrow().pid,
            "gateway_restarts": self.gateway.borrow().restarts,
            "started": to_rfc3339(self.started_us),
            "tables": totals.tables,
            "files": totals.files,
            "rows": totals.rows,
            "bytes": totals.bytes,
            "events": stats.events,
            "rate": stats.rate,
            "refused": stats.refused.values().sum::<u64>(),
            "refused_not_kept": stats.refused_not_kept,
            "lost_messages": stats.lost_messages,
            "lineages": stats.lineages,
            "telemetry_bad": stats.telemetry_bad,
            "telemetry_lost": stats.telemetry_lost,
            "buffer": stats.buffer_bytes,
            "lag": stats.lag_messages,
            "watermark": stats.watermark_us.map(to_rfc3339),
            "not_ready": self.not_ready(),
        })
    }

    fn open(&self, upload: Upload) -> mpsc::Receiver<OpenProgress> {
        let (tx, rx) = mpsc::channel(PROGRESS_QUEUE);
        let opening = open::run(
            self.dir.clone(),
            self.ingest.clone(),
            self.library.clone(),
            upload,
            tx,
        );
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = opening => {}
                () = stop.cancelled() => {}
            }
        });
        rx
    }
}
