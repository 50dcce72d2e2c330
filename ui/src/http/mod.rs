//! The router: which path is answered by whom, and what they all share.
//!
//! Three rings: every answer passes the host check and gets the protecting headers; the API behind
//! it wants a token or a session; only the doors for events and files take bodies of size.

mod auth;
mod body;
mod codes;
mod dashboards;
mod decisions;
mod default_range;
mod docs;
mod dto;
mod error;
mod events;
pub(crate) mod first_steps;
mod guests;
mod kept;
mod kpis;
mod live;
mod logs;
mod looks;
mod map;
pub(crate) mod metrics;
mod open;
mod otlp;
mod own_sql;
mod pages;
mod pictures;
mod query;
mod range;
mod round;
mod run;
mod serve;
mod services;
mod session;
mod stored_tokens;
mod tokens;
mod traces;
mod variables;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use serin_control::runtime::Runtime;
use serin_dashboards::Library;
use serin_lake::accept::AcceptTelemetry;
use serin_lake::{Accept, Lake, StoredToken};
use serin_query::Engine;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;

use auth::Gate;
use body::Budget;
use error::ApiError;
use first_steps::FirstSteps;
use live::Hub;
use looks::Looks;
use metrics::{DoorCounts, Metric};
use otlp::Otlp;
use serve::{Ending, Listening, Protocol};
use session::Sessions;

/// A request to the API other than events and files; the longest is a statement.
const API_BODY_BYTES_MAX: usize = 256 << 10;

/// When to come again where a server that stops is followed by one that starts.
const STOPPING_RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the doors ask of the process as a whole. Implemented by the server.
pub trait Operate: Send + Sync {
    /// What is not ready yet, or `None`.
    fn not_ready(&self) -> Option<String>;
    /// Commits every row taken so far.
    fn flush(&self) -> BoxFuture<'_, Result<(), String>>;
    /// Asks the process to end; returns at once.
    fn stop(&self);
    /// Counters and gauges of every part but the doors.
    fn metrics(&self) -> Vec<Metric>;
    /// Writes `dashboards/NAME.yaml` into the folder; where it is, or why not.
    fn write_dashboard(&self, name: &str, text: &str) -> Result<String, String>;
    /// What editors are told of the YAML files of a kind.
    fn schema(&self, name: &str) -> Option<String>;
    /// What `serin status` shows.
    fn status(&self) -> serde_json::Value;
    /// Imports a file, proposes KPIs and a dashboard; tells its progress.
    fn open(&self, upload: Upload) -> mpsc::Receiver<OpenProgress>;
}

/// A file that was dropped on the page.
#[derive(Debug)]
pub struct Upload {
    /// Its name as the browser gives it; never used as a path.
    pub name: String,
    /// The type of its events, where the user says it.
    pub kind: Option<String>,
    /// The column with the time, likewise.
    pub time: Option<String>,
    /// The service its events are counted under, likewise.
    pub service: Option<String>,
    /// Whether it is taken once more though it was imported before.
    pub again: bool,
    /// Whether its first line is data, where it is CSV.
    pub no_header: bool,
    /// Where its content is; removed when the value is dropped.
    pub file: tempfile::TempPath,
}

/// A line of the answer to a dropped file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenProgress {
    /// Under way.
    At {
        /// What is being done.
        stage: Stage,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Why it goes no further at the moment, and what to do; absent while it does.
        waits: Option<String>,
    },
    /// Done.
    Done {
        /// The dashboard to show.
        dashboard: String,
        /// The range that has data, RFC 3339.
        from: String,
        /// Its end.
        to: String,
        /// Events of the file that are there now.
        events: u64,
        /// Lines of it that were not taken.
        refused: u64,
        /// What became of the file, a line for people each.
        said: Vec<String>,
    },
    /// It did not work.
    Failed(String),
}

/// What is done with a dropped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It comes in.
    Upload,
    /// Its lines are sent over the bus.
    Import,
    /// KPIs and a dashboard are written.
    Propose,
}

impl Stage {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Upload => "upload",
            Stage::Import => "import",
            Stage::Propose => "propose",
        }
    }
}

/// What the doors lead to.
#[derive(Clone)]
pub struct Parts {
    /// What rests.
    pub lake: Lake,
    /// Who answers.
    pub engine: Arc<Engine>,
    /// What YAML defines, as it changes.
    pub library: watch::Receiver<Arc<Library>>,
    /// Where events go.
    pub accept: Arc<dyn Accept>,
    /// Where telemetry goes.
    pub telemetry: Arc<dyn AcceptTelemetry>,
    /// The process.
    pub operate: Arc<dyn Operate>,
    /// The services of this machine; absent where none are run.
    pub runtime: Option<Arc<Runtime>>,
    /// What the start page of a young folder offers.
    pub first_steps: Option<Arc<dyn FirstSteps>>,
    /// The tokens of the lake.
    pub tokens: Vec<StoredToken>,
}

/// How the doors are set up.
#[derive(Debug, Clone)]
pub struct DoorsOptions {
    /// This start's token.
    pub token: String,
    /// Where hashes of sessions are kept for the next start.
    pub sessions_file: Option<PathBuf>,
    /// Where it is kept which services were met, in that order, since their colours follow it.
    pub looks_file: Option<PathBuf>,
    /// Where dropped files rest while they are read.
    pub upload_dir: PathBuf,
    /// The clock.
    pub now_us: fn() -> i64,
    /// Randomness for the names of sessions, and for tokens.
    pub random: fn() -> [u8; 32],
    /// How long requests under way may take once the doors close; then they are cut off.
    pub closes_within: Duration,
}

/// The doors, open.
pub struct Doors {
    app: App,
    ending: Ending,
    tasks: TaskTracker,
    closes_within: Duration,
}

/// What every handler shares.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) lake: Lake,
    pub(crate) engine: Arc<Engine>,
    pub(crate) library: watch::Receiver<Arc<Library>>,
    pub(crate) accept: Arc<dyn Accept>,
    pub(crate) otlp: Otlp,
    pub(crate) operate: Arc<dyn Operate>,
    pub(crate) runtime: Option<Arc<Runtime>>,
    pub(crate) first_steps: Option<Arc<dyn FirstSteps>>,
    pub(crate) gate: Gate,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counts: DoorCounts,
    pub(crate) hub: Hub,
    pub(crate) looks: Looks,
    pub(crate) instance: String,
    pub(crate) upload_dir: PathBuf,
    pub(crate) now_us: fn() -> i64,
    pub(crate) random: fn() -> [u8; 32],
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// What a question finds. The end of the server waits for none: whoever asked is told so.
    pub(crate) async fn found<T>(&self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::select! {
            found = work => Ok(found),
            () = self.stop.cancelled() => {
                Err(ApiError::busy("the server is stopping", STOPPING_RETRY_AFTER))
            }
        }
    }

    /// An answer of lines as they come, which the end of the server ends.
    pub(crate) fn told(
        &self,
        lines: impl Stream<Item = serde_json::Result<Bytes>> + Send + 'static,
    ) -> Response {
        let lines = lines.take_until(self.stop.clone().cancelled_owned());
        let kind = (header::CONTENT_TYPE, "application/x-ndjson");
        ([kind], Body::from_stream(lines)).into_response()
    }

    /// What YAML defines at this moment.
    pub(crate) fn library(&self) -> Arc<Library> {
        Arc::clone(&self.library.borrow())
    }
}

impl Doors {
    /// Opens the doors on a bound listener.
    pub fn open(listener: TcpListener, parts: Parts, options: DoorsOptions) -> Doors {
        let is_loopback = listener
            .local_addr()
            .is_ok_and(|address| address.ip().is_loopback());
        let ending = Ending::default();
        let tasks = TaskTracker::new();
        let app = App(Arc::new(Shared {
            lake: parts.lake,
            engine: parts.engine,
            library: parts.library,
            accept: parts.accept,
            otlp: Otlp::new(parts.telemetry, (options.now_us)()),
            operate: parts.operate,
            runtime: parts.runtime,
            first_steps: parts.first_steps,
            gate: Gate::new(
                &options.token,
                parts.tokens,
                Sessions::load(options.sessions_file),
                is_loopback,
            ),
            budget: Budget::new(body::BUDGET_BYTES),
            counts: DoorCounts::default(),
            hub: Hub::default(),
            looks: Looks::load(options.looks_file),
            // The first half of a hash tells starts apart and gives nothing of the token away.
            instance: blake3::hash(options.token.as_bytes()).to_hex()[..16].to_owned(),
            upload_dir: options.upload_dir,
            now_us: options.now_us,
            random: options.random,
            stop: ending.begun.clone(),
            tasks: tasks.clone(),
        }));
        let connections = Arc::clone(&app.counts.connections);
        let listening = Listening {
            listener,
            protocol: Protocol::Http1,
            connections_max: serve::CONNECTIONS_MAX,
        };
        tasks.spawn(serve::run(
            listening,
            router(app.clone()),
            connections,
            ending.clone(),
            tasks.clone(),
        ));
        Doors {
            app,
            ending,
            tasks,
            closes_within: options.closes_within,
        }
    }

    /// Reads all that `/metrics` answers, for as long as the reader is kept.
    pub fn metrics(&self) -> impl Fn() -> Vec<Metric> + Send + use<> {
        let app = self.app.clone();
        move || metrics::all(&app)
    }

    /// The code of the link that a start prints: `/signin?code=CODE`. Good as long as the server runs.
    pub fn sign_in_code(&self) -> String {
        let app = &self.app;
        app.gate.codes.begin((app.random)(), (app.now_us)())
    }

    /// Takes no new connection, ends streamed answers, and lets other requests under way finish within
    /// their deadline.
    pub async fn close(self) {
        self.ending.begun.cancel();
        self.tasks.close();
        let finished = tokio::time::timeout(self.closes_within, self.tasks.wait()).await;
        if finished.is_err() {
            let connections = self.app.counts.connections.open.load(Ordering::Relaxed);
            tracing::warn!(connections, "cut off requests that did not finish in time");
            self.ending.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/d/{dashboard}", get(pages::dashboard))
        .route("/services", get(pages::index))
        .route("/logs", get(pages::index))
        .route("/traces", get(pages::index))
        .route("/traces/{id}", get(pages::index))
        .route("/map", get(pages::index))
        .route("/decisions", get(pages::index))
        .route("/explore", get(pages::index))
        .route("/assets/{*path}", get(pages::asset))
        .route("/signin", get(pages::sign_in))
        .route("/schema/{file}", get(pages::schema))
        .route("/docs", get(docs::first))
        .route("/docs/{page}", get(docs::page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(admitted(app.clone()))
        .fallback(pages::top)
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(app.clone(), auth::guard))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

/// What wants a token or a session.
fn admitted(app: App) -> Router<App> {
    Router::new()
        .route("/metrics", get(metrics::get))
        .route("/api/v1/session", get(pages::session))
        .route("/api/v1/signin", post(pages::code))
        .route("/api/v1/query", post(query::post))
        .route("/api/v1/kpis", get(kpis::list))
        .route("/api/v1/kpis/{name}", get(kpis::get))
        .route("/api/v1/dashboards", get(dashboards::list))
        .route("/api/v1/dashboards/{name}", get(dashboards::get))
        .route("/api/v1/dashboards/{name}/data", get(dashboards::data))
        .route("/api/v1/dashboards/{name}/live", get(live::get))
        .route("/api/v1/dashboards/{name}/variables", get(variables::get))
        .route("/api/v1/dashboards/{name}/copy", post(dashboards::copy))
        .route(
            "/api/v1/dashboards/{name}/picture",
            get(pictures::dashboard),
        )
        .route("/api/v1/decisions", get(decisions::get))
        .route("/api/v1/first-steps", get(first_steps::get))
        .route("/api/v1/first-steps/visitors", post(first_steps::visitors))
        .route("/api/v1/first-steps/kill", post(first_steps::kill))
        .route("/api/v1/first-steps/close", post(first_steps::close))
        .route("/api/v1/logs", get(logs::get))
        .route("/api/v1/logs/counts", get(logs::counts))
        .route("/api/v1/traces", get(traces::list))
        .route("/api/v1/traces/{id}", get(traces::get))
        .route("/api/v1/map", get(map::get))
        .route("/d/{dashboard}/{file}", get(pictures::panel))
        .route("/api/v1/services", get(services::list))
        .route(
            "/api/v1/services/{name}",
            get(services::get).delete(services::remove),
        )
        .route("/api/v1/services/{name}/deploy", post(services::deploy))
        .route("/api/v1/services/{name}/rollback", post(services::rollback))
        .route("/api/v1/services/{name}/stop", post(services::stop))
        .route("/api/v1/services/{name}/run", post(guests::run))
        .route("/api/v1/services/{name}/leave", post(guests::leave))
        .route("/api/v1/instances", get(services::instances))
        .route("/api/v1/services/{name}/started", post(guests::started))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::make))
        .route("/api/v1/tokens/{name}", delete(tokens::remove))
        .route("/api/v1/status", get(run::status))
        .route("/api/v1/flush", post(run::flush))
        .route("/api/v1/stop", post(run::stop))
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
        // The bounds of these are their own.
        .route("/api/v1/events", post(events::post))
        .route("/api/v1/open", post(open::post))
        .merge(otlp::routes())
        .route_layer(middleware::from_fn_with_state(app, auth::admit))
        .route("/api/{*path}", any(no_such_path))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(app): State<App>) -> Response {
    match app.operate.not_ready() {
        None => "ready\n".into_response(),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    }
}

async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("there is no {} in this API", uri.path()))
}

/// A plain "done".
pub(crate) fn done() -> Json<dto::DoneBody> {
    Json(dto::DoneBody { done: true })
}
