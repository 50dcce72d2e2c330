//! `serin up`: wires all parts together, stays until told to end, and ends in order.
//!
//! Start: lock and addresses here, all that follows in `start`. End: doors first, so
//! that nothing new comes; then what was taken is committed; the bus last.

mod access;
mod deploys;
mod first_steps;
mod open;
mod otlp;
mod process;
mod scrape;
mod start;
mod tidy;
mod visitors;
mod web;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_bus::Bus;
use serin_control::runtime::Runtime;
use serin_dashboards::Watch;
use serin_gateway::Table;
use serin_gateway::process::Supervisor;
use serin_ingest::Ingest;
use serin_lake::Lake;
use serin_query::Engine;
use serin_sdk::Serin;
use serin_ui::Doors;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::browser;
use crate::cli::{Global, Up};
use crate::client::sign_in_link;
use crate::commands::{print, remark};
use crate::edge;
use crate::run_file::{RunFile, RunLock, clear_uploads, data_dir, gateway_socket, prepare};
use crate::schemas;
use crate::settings::{self, Deploys, Settings};
use crate::supporting::{self, Looked, Teller, Who};
use start::{Bound, Start};

/// How long our own last events may take.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// How long the ingester may take to say why it ends with the lake.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(500);
/// File descriptors wanted: five thousand connections and the files of queries.
const FILES_WANTED: u64 = 16_384;

/// The service under which Serin tells its own events.
const OWN_SERVICE: &str = "serin";

/// Everything that runs, in the order it was started.
struct Running {
    bus: Arc<Bus>,
    lake: Lake,
    ingest: Arc<Ingest>,
    engine: Arc<Engine>,
    watch: Watch,
    serin: Serin,
    runtime: Arc<Runtime>,
    gateway: Supervisor,
    /// Tells the gateway its services.
    tables: watch::Sender<Arc<Table>>,
    doors: Doors,
    /// Where OpenTelemetry's exporters are heard.
    otlp: otlp::Urls,
    /// How the supporting systems are, between two looks.
    looked: Arc<Looked>,
    /// The folder with what Serin keeps.
    data: PathBuf,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

pub(crate) async fn run(global: &Global, up: &Up) -> Result<()> {
    let begun_us = edge::now_us();
    let settings = Settings::load(&up.dir).map_err(settings::in_words)?;
    let deploys = Deploys {
        on_start: settings.deploys.on_start || up.at.watch,
        on_save: settings.deploys.on_save || up.at.watch,
    };
    let dir = prepare(&up.dir)?;
    let lock = RunLock::take(&dir).await?;
    clear_uploads(&dir);
    schemas::write(&data_dir(&dir)).context("cannot write .serin/schema")?;
    let listener = bind(up.at.listen, "--listen").await?;
    let web = web::take(up.at.gateway, gateway_socket(&data_dir(&dir))?);
    let web = web
        .await
        .with_context(|| "choose another address with --gateway, or 127.0.0.1:0 for a free port")?;
    let (address, gateway) = (listener.local_addr()?, web.address());
    if !address.ip().is_loopback() {
        remark(&format!(
            "note: {address} can be reached from other machines; whoever has the token can read and write everything"
        ));
    }
    serin_control::confine::prepare();
    raise_files();
    let stop = CancellationToken::new();
    let token = edge::random_token();
    let bound = Bound {
        doors: listener,
        web,
        exporters: otlp::Listeners::bind(settings.otlp, up.at.listen).await,
    };
    let start = Start::new(&dir, up, &token, stop.clone())?;
    // From before the start: what it began has to be ended.
    let mut signals = Signals::hear()?;
    let starting = Box::pin(start.run(settings, bound));
    let mut running = start_whole(starting, &stop, &mut signals).await?;
    let run = running.run_file(address, gateway, token);
    if let Err(error) = run.write(&dir) {
        // Nobody would find it.
        running.end(true).await?;
        return Err(error);
    }
    let ready_ms = (edge::now_us() - begun_us) / 1_000;
    running.serin.emit(
        "serin.started",
        &serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "ready_ms": ready_ms}),
    );
    let is_empty = |name: &&str| !dir.join(name).exists();
    let makes_hello = !up.no_hello && ["services", "kpis", "dashboards"].iter().all(is_empty);
    let path = match makes_hello {
        true => Some(format!("/{}", deploys::HELLO)),
        false => {
            let views = running.runtime.views();
            web::example_path(&views.borrow(), deploys.on_start.then_some(&dir))
        }
    };
    let shown = Shown {
        dir: &dir,
        path,
        ready_ms,
    };
    let link = announce(global, &run, &running, shown);
    if makes_hello && !up.no_browser && !global.json && std::io::stdout().is_terminal() {
        browser::open(&link);
    }
    let runtime = Arc::clone(&running.runtime);
    running.until_stop(deploys::run(
        runtime,
        makes_hello,
        deploys,
        dir.as_path().into(),
    ));
    let ended = until_told(&running, &stop, &mut signals).await;
    if !global.json {
        remark("stopping: committing what was taken; once more ends at once");
    }
    let stopped = end_or_leave(running, ended.is_ok(), &mut signals).await;
    RunFile::forget(&dir);
    drop(lock);
    ended.and(stopped)
}

/// Waits for the start. A signal meanwhile ends what it began once it stands, a second one this process
/// alone, at once.
async fn start_whole(
    mut starting: impl Future<Output = Result<Running>> + Unpin,
    stop: &CancellationToken,
    signals: &mut Signals,
) -> Result<Running> {
    let mut is_asked = false;
    loop {
        tokio::select! {
            biased;
            started = &mut starting => {
                if is_asked {
                    stop.cancel();
                }
                return started;
            }
            () = signals.next() => {
                if is_asked {
                    end_at_once();
                }
                is_asked = true;
                remark("stopping as soon as the start is over; once more ends at once");
            }
        }
    }
}

/// Ends this process and nothing else.
fn end_at_once() -> ! {
    remark("ended at once: what was acknowledged is safe; `serin down` ends what still runs");
    std::process::exit(1)
}

/// Ends everything in order; a second signal ends this process alone, at once.
async fn end_or_leave(running: Running, stops_bus: bool, signals: &mut Signals) -> Result<()> {
    tokio::select! {
        stopped = running.end(stops_bus) => stopped,
        () = signals.next() => end_at_once(),
    }
}

async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    let advice = || {
        format!(
            "cannot listen on {address}; choose another address with {option}, or 127.0.0.1:0 for a free port"
        )
    };
    TcpListener::bind(address).await.with_context(advice)
}

/// Takes as many file descriptors as the system grants, up to what is wanted.
fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let granted = limit
        .maximum
        .map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    if limit.current.is_some_and(|current| current < granted) {
        let raised = Rlimit {
            current: Some(granted),
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, granted, "cannot raise the number of open files");
        }
    }
}

/// Under which name Serin tells how it is.
fn own_name() -> Who {
    Who {
        service: OWN_SERVICE.to_owned(),
        version: format!("v{}", env!("CARGO_PKG_VERSION").replace('.', "-")),
        instance: format!("serin-{}", std::process::id()),
    }
}

/// What is said of the start beside addresses.
struct Shown<'a> {
    dir: &'a Path,
    /// A path of the gateway.
    path: Option<String>,
    ready_ms: i64,
}

/// Says where everything is; the link that signs in.
fn announce(global: &Global, run: &RunFile, running: &Running, shown: Shown<'_>) -> String {
    let Shown {
        dir,
        path,
        ready_ms,
    } = shown;
    let link = sign_in_link(&run.http, &running.doors.sign_in_code());
    if global.json {
        let ready = serde_json::json!({"http": run.http, "signin": link, "ready_ms": ready_ms});
        print(&ready.to_string());
        return link;
    }
    print(&format!(
        "Serin is ready after {ready_ms} ms, in {}",
        dir.display()
    ));
    print(&format!("  sign in      {link}"));
    print(&format!(
        "  API          {}  (the token is in .serin/run.json)",
        run.http
    ));
    if let Some(gateway) = &run.gateway {
        let example = match path {
            Some(path) => format!("{gateway}{path}"),
            None => String::from("none has one yet"),
        };
        print(&format!(
            "  web          {gateway}  (services with a path: {example})"
        ));
    }
    if let Some(otlp) = running.otlp.shown() {
        print(&format!("  OTLP         {otlp}"));
    }
    print(&format!(
        "  DuckDB       {}",
        running.lake.attach_statement()
    ));
    print("Ctrl-C or `serin down` stops it.");
    link
}

/// The signals that ask for the end: Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn hear() -> Result<Signals> {
        let hear = |kind| signal(kind).context("cannot wait for signals");
        Ok(Signals {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for a signal, a request to stop, or a failure that must not be worked around.
async fn until_told(
    running: &Running,
    stop: &CancellationToken,
    signals: &mut Signals,
) -> Result<()> {
    tokio::select! {
        () = signals.next() => Ok(()),
        () = stop.cancelled() => Ok(()),
        () = given_up(&running.lake) => Err(anyhow::anyhow!(
            "Serin must end: a sync of the lake failed; what was acknowledged is safe and is read again by the next `serin up`",
        )),
        error = running.ingest.failed() => Err(anyhow::Error::new(error).context(
            "Serin must end: what was acknowledged is safe on the bus and is read again by the next `serin up`",
        )),
    }
}

/// Returns once a sync of the lake failed. Where a flush found it the ingester fails too, and says why:
/// that is the better last word, and it has a moment for it.
async fn given_up(lake: &Lake) {
    lake.poisoned().await;
    tokio::time::sleep(LAST_WORD_WITHIN).await;
}

impl Running {
    /// What others find it by.
    fn run_file(&self, http: SocketAddr, gateway: SocketAddr, token: String) -> RunFile {
        RunFile {
            pid: std::process::id(),
            http: format!("http://{http}"),
            gateway: Some(format!("http://{gateway}")),
            otlp_http: self.otlp.http.clone(),
            otlp_grpc: self.otlp.grpc.clone(),
            bus: self.bus.url().to_owned(),
            token,
            catalogue: format!("ducklake:sqlite:{}", self.lake.catalogue_path().display()),
        }
    }

    fn start_tasks(&mut self) {
        let tidying = tidy::run(self.lake.clone(), self.serin.clone(), self.stop.clone());
        self.tasks.push(tokio::spawn(tidying));
        let runtime = Arc::clone(&self.runtime).run();
        self.until_stop(runtime);
        let follow = web::follow(Arc::clone(&self.runtime), self.tables.clone());
        self.until_stop(follow);
        let scraping = scrape::run(Arc::clone(&self.runtime), self.ingest.telemetry_door());
        self.until_stop(scraping);
        let supporting = supporting::Watch {
            looked: Arc::clone(&self.looked),
            bus: Arc::clone(&self.bus),
            data: self.data.clone(),
            views: self.runtime.views(),
            all: Box::new(self.doors.metrics()),
            teller: Teller::new(self.bus.client().clone(), own_name()),
        };
        self.until_stop(supporting.run());
        let (lake, library) = (self.lake.clone(), self.watch.library());
        let control = serin_control::run(serin_control::Parts {
            engine: Arc::clone(&self.engine),
            serin: self.serin.clone(),
            snapshot: Box::new(move || lake.snapshot()),
            rules: Box::new(move || Arc::clone(&library.borrow().rules)),
            now_us: edge::now_us,
        });
        self.until_stop(control);
    }

    /// Runs beside the rest until the end begins.
    fn until_stop(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        }));
    }

    /// Ends everything in order. After a failure the bus is left for the next start.
    async fn end(self, stops_bus: bool) -> Result<()> {
        self.doors.close().await;
        // After a failure it lives on, like services and bus.
        if stops_bus {
            self.gateway.close().await;
        } else {
            drop(self.gateway);
        }
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a background task broke");
            }
        }
        // After a failure services live on, as the bus does, and are taken up by the next start.
        if stops_bus {
            self.runtime.end().await;
        }
        drop(self.runtime);
        if !self.serin.drain(DRAIN_DEADLINE).await {
            tracing::warn!("our own last events wait for the next start");
        }
        drop((self.watch, self.engine));
        let stopped = match stops_bus {
            true => {
                let stopped = self.ingest.stop().await;
                stopped.context("cannot commit what was taken")
            }
            // It has ended by itself, and its error is told already.
            false => Ok(()),
        };
        if stops_bus && stopped.is_ok() {
            self.bus.stop().await;
        }
        stopped
    }
}
