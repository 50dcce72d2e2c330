//! The doors for OpenTelemetry: OTLP over HTTP, also at the port of everything else, and over gRPC.
//!
//! `http` and `grpc` take a request apart and write its answer; `take` has the body translated, told
//! to the bus, and counted. The two listeners of their own are for loopback alone and want no token,
//! as exporters expect of a collector on their machine: who is on this machine may add telemetry,
//! and read nothing. Start at [`Doors::hear_otlp`].

mod grpc;
mod http;
mod take;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::middleware;
use serin_lake::accept::AcceptTelemetry;
use serin_translate::Increases;
use serin_translate::otlp::Signal;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use super::metrics::Metric;
use super::serve::{self, Listening, Protocol};
use super::{App, Doors, metrics};

pub(super) use http::routes;

/// Bodies translated at one moment, each of which may take some hundred MiB where somebody means
/// harm; a usual one takes milliseconds.
const TRANSLATING_MAX: usize = 2;
/// Connections of one listener: each exporter keeps one.
const CONNECTIONS_MAX: usize = 512;

/// What the doors for OpenTelemetry share.
pub(crate) struct Otlp {
    door: Arc<dyn AcceptTelemetry>,
    increases: Increases,
    /// One body of metrics at a time from its reading to its keeping: a total is compared with the last.
    one_of_metrics: Mutex<()>,
    translating: Semaphore,
    counts: [Counts; 3],
}

/// Records of one signal, by what became of them.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    left_out: AtomicU64,
}

impl Otlp {
    pub(super) fn new(door: Arc<dyn AcceptTelemetry>, now_us: i64) -> Otlp {
        Otlp {
            door,
            increases: Increases::new(now_us),
            one_of_metrics: Mutex::default(),
            translating: Semaphore::new(TRANSLATING_MAX),
            counts: Default::default(),
        }
    }

    fn counts(&self, signal: Signal) -> &Counts {
        &self.counts[signal as usize]
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::gauge(
            "serin_otlp_series",
            "Series of OpenTelemetry whose last total is remembered.",
            self.increases.series() as f64,
        )];
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            let counts = self.counts(signal);
            for (outcome, counter) in [
                ("accepted", &counts.accepted),
                ("refused", &counts.refused),
                ("left_out", &counts.left_out),
            ] {
                let records = Metric::counter(
                    "serin_otlp_records_total",
                    "Records of OpenTelemetry, by what became of them.",
                    counter.load(Ordering::Relaxed),
                );
                let records = records.label("signal", signal.records());
                metrics.push(records.label("outcome", outcome));
            }
        }
        metrics
    }
}

impl Doors {
    /// Hears OTLP on listeners of its own, which must be on loopback.
    pub fn hear_otlp(&self, http: Option<TcpListener>, grpc: Option<TcpListener>) {
        let app = &self.app;
        let over_http = http.map(|listener| (listener, Protocol::Http1, http::router()));
        let over_grpc = grpc.map(|listener| (listener, Protocol::Http2, grpc::router()));
        for (listener, protocol, router) in over_http.into_iter().chain(over_grpc) {
            let listening = Listening {
                listener,
                protocol,
                connections_max: CONNECTIONS_MAX,
            };
            self.tasks.spawn(serve::run(
                listening,
                counted(router, app),
                Arc::clone(&app.counts.connections),
                self.ending.clone(),
                self.tasks.clone(),
            ));
        }
    }
}

fn counted(router: Router<App>, app: &App) -> Router {
    router
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app.clone())
}
