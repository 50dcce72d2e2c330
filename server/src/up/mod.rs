//! `serin up`: wires all parts together, stays until told to end, and ends in order.
//!
//! Start: lock, bus, lake, ingest, dashboards, own telemetry, doors, control. End: doors first, so
//! that nothing new comes; then what was taken is committed; the bus last.

mod access;
mod deploys;
mod first_steps;
mod open;
mod otlp;
mod process;
mod scrape;
mod tidy;
mod visitors;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_bus::{Bus, BusOptions};
use serin_control::runtime::{Runtime, RuntimeOptions};
use serin_dashboards::Watch;
use serin_gateway::Table;
use serin_gateway::process::{Door, Place};
use serin_ingest::{Edge, Ingest};
use serin_lake::{Lake, LakeOptions, Recovered};
use serin_query::{Engine, WorkerCommand};
use serin_sdk::Serin;
use serin_ui::{Doors, DoorsOptions, Parts};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{Global, Up};
use crate::commands::{print, remark};
use crate::edge;
use crate::run_file::{RunFile, RunLock, data_dir, gateway_socket, prepare, sockets_dir};
use crate::schemas;
use crate::sdk_files;
use crate::settings::{self, Deploys, Settings};
use crate::supporting::{self, Looked, Teller, Who};
use first_steps::FirstSteps;
use process::Process;
use visitors::Visitors;

/// How long our own last events may take.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is looked whether the lake had to be given up.
const GIVEN_UP_LOOK_EVERY: Duration = Duration::from_millis(500);
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
    gateway: Door,
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
        on_start: settings.deploys.on_start || up.watch,
        on_save: settings.deploys.on_save || up.watch,
    };
    let dir = prepare(&up.dir)?;
    let lock = RunLock::take(&dir).await?;
    schemas::write(&data_dir(&dir)).context("cannot write .serin/schema")?;
    let listener = bind(up.listen, "--listen").await?;
    let web = Place::take(up.gateway, gateway_socket(&data_dir(&dir))?);
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
    let mut running = start(&dir, up, settings, (listener, web), &token, stop.clone()).await?;
    let run = RunFile {
        pid: std::process::id(),
        http: format!("http://{address}"),
        gateway: Some(format!("http://{gateway}")),
        otlp_http: running.otlp.http.clone(),
        otlp_grpc: running.otlp.grpc.clone(),
        bus: running.bus.url().to_owned(),
        token,
        catalogue: format!(
            "ducklake:sqlite:{}",
            running.lake.catalogue_path().display()
        ),
    };
    run.write(&dir)?;
    let ready_ms = (edge::now_us() - begun_us) / 1_000;
    running.serin.emit(
        "serin.started",
        &serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "ready_ms": ready_ms}),
    );
    announce(global, &dir, &run, &running, ready_ms);
    let is_empty = |name: &&str| !dir.join(name).exists();
    let makes_hello = !up.no_hello && ["services", "kpis", "dashboards"].iter().all(is_empty);
    let runtime = Arc::clone(&running.runtime);
    running.until_stop(deploys::run(
        runtime,
        makes_hello,
        deploys,
        dir.as_path().into(),
    ));
    let ended = until_told(&running, &stop).await;
    if !global.json {
        remark("stopping: committing what was taken");
    }
    let stopped = running.end(ended.is_ok()).await;
    RunFile::forget(&dir);
    drop(lock);
    ended.and(stopped)
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

async fn start(
    dir: &Path,
    up: &Up,
    settings: Settings,
    (listener, web): (TcpListener, Place),
    token: &str,
    stop: CancellationToken,
) -> Result<Running> {
    let data = data_dir(dir);
    let exporters = otlp::Listeners::bind(settings.otlp, up.listen).await;
    let otlp = exporters.urls();
    let (lake, recovered) = open_lake(settings.lake, data.join("lake")).await?;
    let bus = Bus::start(bus_options(up, data.clone(), settings.events_bytes_max)).await?;
    let edge = Edge::of_machine().context("cannot read random bytes")?;
    let ingest = Ingest::start(lake.clone(), recovered, &bus, settings.ingest, edge).await;
    let ingest = match ingest {
        Ok(ingest) => Arc::new(ingest),
        Err(error) => {
            bus.stop().await;
            return Err(error).context("cannot start the ingester");
        }
    };
    let bus = Arc::new(bus);
    let worker = WorkerCommand {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        args: vec![String::from("query-worker")],
    };
    let engine = Arc::new(Engine::new(
        settings.query,
        data.join("tmp/query"),
        Some(worker),
        lake.store(),
    ));
    let watch = Watch::start(dir);
    let serin = own_telemetry(bus.url(), &data, &ingest)?;
    let python = sdk_files::unpack(&data)?;
    sdk_files::link_for_editors(dir).context("cannot link the SDK for editors")?;
    let (tables, told) = watch::channel(Arc::default());
    let gateway = web::open(web, &access::BusAccess::gateway_url(&bus), told.clone()).await?;
    let runtime = Runtime::open(RuntimeOptions {
        dir: dir.to_path_buf(),
        versions_dir: data.join("versions"),
        kept_dir: data.join("kept"),
        run_dir: sockets_dir(&data)?,
        program: std::env::current_exe().context("cannot tell where this program is")?,
        bus: bus.url().to_owned(),
        client: bus.client().clone(),
        access: Box::new(access::BusAccess::of(&bus, told, gateway.state())),
        lake: lake.clone(),
        serin: serin.clone(),
        env: [
            ("PYTHONPATH", python.to_string_lossy().into_owned()),
            // Else what is printed waits until it fills a buffer.
            ("PYTHONUNBUFFERED", String::from("1")),
            ("SERIN_GATEWAY", format!("http://{}", gateway.address())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .chain(otlp.env())
        .collect(),
        build_env: build_env(&data),
        is_single: up.single,
        now_us: edge::now_us,
    });
    let runtime = runtime.await.context("cannot take up the services")?;
    let visited = gateway.address();
    let looked = Arc::<Looked>::default();
    let process = Arc::new(Process {
        engine: Arc::downgrade(&engine),
        looked: Arc::clone(&looked),
        gateway: gateway.state(),
        dir: dir.to_path_buf(),
        lake: lake.clone(),
        ingest: Arc::downgrade(&ingest),
        library: watch.library(),
        stop: stop.clone(),
        started_us: edge::now_us(),
    });
    let visited = format!("http://{visited}/{}/", deploys::HELLO);
    let (visitors, visits) = Visitors::open(visited.clone());
    let first_steps = FirstSteps {
        runtime: Arc::clone(&runtime),
        service: deploys::HELLO,
        url: visited,
        visitors,
        attach: lake.attach_statement(),
        closed_file: data.join("first-steps-closed"),
    };
    let doors = Doors::open(
        listener,
        Parts {
            lake: lake.clone(),
            engine: Arc::clone(&engine),
            library: watch.library(),
            accept: ingest.door(),
            telemetry: ingest.telemetry_door(),
            operate: process,
            runtime: Some(Arc::clone(&runtime)),
            first_steps: Some(Arc::new(first_steps)),
        },
        DoorsOptions {
            token: token.to_owned(),
            sessions_file: Some(data.join("sessions.json")),
            upload_dir: data.join("tmp"),
            now_us: edge::now_us,
            random: edge::random,
        },
    );
    doors.hear_otlp(exporters.http, exporters.grpc);
    let mut running = Running {
        bus,
        lake,
        ingest,
        engine,
        watch,
        serin,
        runtime,
        gateway,
        tables,
        doors,
        otlp,
        looked,
        data,
        stop,
        tasks: Vec::new(),
    };
    running.start_tasks();
    let data = data_dir(dir);
    running.until_stop(async move { sdk_files::compile(&data).await });
    running.until_stop(visits);
    Ok(running)
}

/// What builds of versions get: cargo keeps what it made between two of them, if nobody said where.
fn build_env(data: &Path) -> BTreeMap<String, String> {
    const BETWEEN: &str = "CARGO_BUILD_BUILD_DIR";
    let folder = data.join("cache/cargo").to_string_lossy().into_owned();
    let is_said = std::env::var_os(BETWEEN).is_some();
    let ours = (!is_said).then(|| (BETWEEN.to_owned(), folder));
    ours.into_iter().collect()
}

async fn open_lake(options: LakeOptions, dir: PathBuf) -> Result<(Lake, Recovered)> {
    let options = LakeOptions { dir, ..options };
    let opening = tokio::task::spawn_blocking(move || Lake::open(options, edge::now_us()));
    let (lake, recovered) = opening
        .await
        .context("opening the lake broke")?
        .context("cannot open the lake")?;
    for damaged in &recovered.damaged {
        tracing::error!(?damaged, "a file of the lake is damaged");
    }
    Ok((lake, recovered))
}

fn bus_options(up: &Up, data_dir: PathBuf, events_bytes_max: u64) -> BusOptions {
    let port = up.bus.as_ref().and_then(|bus| bus.parse().ok());
    BusOptions {
        data_dir,
        joined: up.bus.clone().filter(|_| port.is_none()),
        port,
        events_bytes_max,
        server_binary: std::env::var_os("SERIN_NATS_SERVER").map(PathBuf::from),
        search_path: std::env::var_os("PATH"),
        beside: std::env::current_exe()
            .ok()
            .and_then(|program| program.parent().map(Path::to_path_buf)),
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

/// Serin tells its own events and beats by its own SDK, like every service.
fn own_telemetry(bus: &str, data: &Path, ingest: &Arc<Ingest>) -> Result<Serin> {
    let who = own_name();
    let serin = Serin::connect(serin_sdk::Options {
        version: who.version,
        instance: who.instance,
        spill_dir: Some(data.join("spill")),
        drain_deadline: DRAIN_DEADLINE,
        emits_own_types: true,
        // A few events a minute and decisions: a busy service needs thirty times this.
        queue_bytes_max: 1 << 20,
        ..serin_sdk::Options::new(bus, who.service)
    })
    .context("cannot connect to our own bus")?;
    let gauge = |read: fn(&serin_ingest::IngestStats) -> f64| {
        let ingest = Arc::downgrade(ingest);
        move || ingest.upgrade().map_or(0.0, |ingest| read(&ingest.stats()))
    };
    serin.gauge("ingest.rate", gauge(|stats| stats.rate));
    serin.gauge(
        "ingest.lag_messages",
        gauge(|stats| stats.lag_messages as f64),
    );
    serin.gauge(
        "ingest.buffer_bytes",
        gauge(|stats| stats.buffer_bytes as f64),
    );
    Ok(serin)
}

fn announce(global: &Global, dir: &Path, run: &RunFile, running: &Running, ready_ms: i64) {
    let link = format!("{}/signin?token={}", run.http, run.token);
    if global.json {
        let ready = serde_json::json!({"http": run.http, "signin": link, "ready_ms": ready_ms});
        print(&ready.to_string());
        return;
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
        print(&format!(
            "  web          {gateway}  (services with a path: {gateway}/hello)"
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
}

/// Waits for Ctrl-C, SIGTERM, a request to stop, or a failure that must not be worked around.
async fn until_told(running: &Running, stop: &CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
        () = stop.cancelled() => Ok(()),
        () = given_up(&running.lake) => Err(anyhow::anyhow!(
            "Serin must end: a sync of the lake failed; what was acknowledged is safe and is read again by the next `serin up`",
        )),
        error = running.ingest.failed() => Err(anyhow::Error::new(error).context(
            "Serin must end: what was acknowledged is safe on the bus and is read again by the next `serin up`",
        )),
    }
}

/// Returns once a sync of the lake failed: a flush, a merge, an expiry or a token may find it.
async fn given_up(lake: &Lake) {
    while !lake.is_poisoned() {
        tokio::time::sleep(GIVEN_UP_LOOK_EVERY).await;
    }
}

impl Running {
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
        let ingest = Arc::into_inner(self.ingest).context("the ingester is still in use")?;
        let stopped = match stops_bus {
            true => ingest.stop().await.context("cannot commit what was taken"),
            // It has ended by itself, and its error is told already.
            false => Ok(()),
        };
        let bus = Arc::into_inner(self.bus).context("the bus is still in use")?;
        if stops_bus && stopped.is_ok() {
            bus.stop().await;
        }
        stopped
    }
}
