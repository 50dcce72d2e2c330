//! What the doors ask of the whole process: ready, flush, stop, counters, dropped files.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use serde_json::json;
use serin_dashboards::Library;
use serin_gateway::process::DoorState;
use serin_ingest::{Ingest, IngestStats};
use serin_lake::Lake;
use serin_ui::{Metric, OpenProgress, Operate, Upload};
use serin_wire::time::to_rfc3339;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{open, web};
use crate::edge;

/// Lines of progress that may wait for a slow browser.
const PROGRESS_QUEUE: usize = 16;

/// The process, seen from the doors. Holds nothing that has to end before it.
pub(crate) struct Process {
    pub(crate) dir: PathBuf,
    pub(crate) lake: Lake,
    pub(crate) ingest: Weak<Ingest>,
    pub(crate) gateway: watch::Receiver<DoorState>,
    pub(crate) library: watch::Receiver<Arc<Library>>,
    pub(crate) stop: CancellationToken,
    pub(crate) started_us: i64,
}

impl Operate for Process {
    fn not_ready(&self) -> Option<String> {
        if self.ingest.upgrade().is_none() {
            return Some(String::from("the ingester has ended"));
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
            Some(ingest) => of_ingest(&ingest.stats()),
            None => Vec::new(),
        };
        match self.lake.totals() {
            Ok(totals) => metrics.extend(of_lake(&totals)),
            Err(error) => tracing::warn!(%error, "cannot count what the lake holds"),
        }
        metrics.extend(web::metrics(&self.gateway.borrow()));
        let library = self.library.borrow();
        metrics.push(Metric::gauge(
            "serin_dashboards_problems",
            "Faults in YAML files now.",
            library.problems.len() as f64,
        ));
        let up_s = (edge::now_us() - self.started_us) as f64 / 1e6;
        metrics.push(Metric::gauge(
            "serin_process_uptime_seconds",
            "Since the start.",
            up_s,
        ));
        metrics
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

fn of_ingest(stats: &IngestStats) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::counter("serin_ingest_events_total", "Events taken.", stats.events),
        Metric::counter(
            "serin_ingest_late_events_total",
            "Events older than the watermark when they came.",
            stats.late,
        ),
        Metric::counter(
            "serin_ingest_duplicates_total",
            "Messages and events that were there already.",
            stats.duplicates,
        ),
        Metric::counter(
            "serin_ingest_flushes_total",
            "Flushes committed.",
            stats.flushes,
        ),
        Metric::counter(
            "serin_ingest_flush_failures_total",
            "Attempts to commit that failed.",
            stats.flush_failures,
        ),
        Metric::counter(
            "serin_ingest_lost_messages_total",
            "Messages that the bus lost.",
            stats.lost_messages,
        ),
        Metric::counter(
            "serin_ingest_lineages_total",
            "Times the stream was wiped, replaced or lost its tail.",
            stats.lineages,
        ),
        Metric::counter(
            "serin_ingest_refused_not_kept_total",
            "Refused events that are not in the table refused: too many.",
            stats.refused_not_kept,
        ),
        Metric::counter(
            "serin_ingest_telemetry_bad_total",
            "Beats, spans, logs and requests that could not be read.",
            stats.telemetry_bad,
        ),
        Metric::counter(
            "serin_ingest_telemetry_lost_total",
            "Messages of telemetry dropped before they were read.",
            stats.telemetry_lost,
        ),
        Metric::counter(
            "serin_ingest_identities_forgotten_total",
            "Identities of clients forgotten within their 24 hours: too many.",
            stats.identities_forgotten,
        ),
        Metric::counter(
            "serin_ingest_producers_forgotten_total",
            "Producers forgotten before their time: too many.",
            stats.producers_forgotten,
        ),
        Metric::gauge(
            "serin_ingest_lag_messages",
            "Messages on the bus not taken yet.",
            stats.lag_messages as f64,
        ),
        Metric::gauge(
            "serin_ingest_buffer_bytes",
            "Bytes of the hot buffer.",
            stats.buffer_bytes as f64,
        ),
    ];
    for (reason, count) in &stats.refused {
        let metric = Metric::counter("serin_ingest_refused_total", "Events refused.", *count);
        metrics.push(metric.label("reason", *reason));
    }
    for (reason, count) in &stats.rest {
        let help = "Values that went to the column _rest.";
        metrics.push(
            Metric::counter("serin_ingest_rest_values_total", help, *count)
                .label("reason", *reason),
        );
    }
    if let Some(watermark_us) = stats.watermark_us {
        let age_s = (edge::now_us() - watermark_us) as f64 / 1e6;
        let help = "How far the watermark is behind the clock.";
        metrics.push(Metric::gauge(
            "serin_ingest_watermark_age_seconds",
            help,
            age_s,
        ));
    }
    metrics
}

fn of_lake(totals: &serin_lake::LakeTotals) -> [Metric; 5] {
    [
        Metric::gauge("serin_lake_tables", "Tables.", totals.tables as f64),
        Metric::gauge(
            "serin_lake_files",
            "Files in the catalogue.",
            totals.files as f64,
        ),
        Metric::gauge("serin_lake_rows", "Rows in files.", totals.rows as f64),
        Metric::gauge("serin_lake_bytes", "Bytes of files.", totals.bytes as f64),
        Metric::gauge(
            "serin_lake_catalogue_bytes",
            "Bytes of the catalogue.",
            totals.catalogue_bytes as f64,
        ),
    ]
}
