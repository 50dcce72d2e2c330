//! The start of `serin up`, step by step: lake, bus, the data's way, gateway and services, doors.
//!
//! A start that fails ends the processes it began, bus and gateway, and leaves those of an earlier
//! Serin as it found them: services that outlived it are at work still. Start at [`Start::run`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_bus::{Bus, BusOptions};
use serin_control::runtime::{Runtime, RuntimeOptions};
use serin_dashboards::Watch;
use serin_gateway::Table;
use serin_gateway::process::{Binding, Supervisor};
use serin_ingest::{Edge, Ingest, IngestOptions};
use serin_lake::{Lake, LakeOptions, Recovered, StoredToken};
use serin_query::{Engine, Limits, WorkerCommand};
use serin_sdk::Serin;
use serin_ui::{Doors, DoorsOptions, Parts};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::first_steps::FirstSteps;
use super::process::Process;
use super::visitors::Visitors;
use super::{DRAIN_DEADLINE, Running, access, deploys, otlp, own_name, web};
use crate::cli::Up;
use crate::edge;
use crate::run_file::{data_dir, sockets_dir};
use crate::sdk_files;
use crate::settings::Settings;
use crate::supporting::Looked;

/// How long requests under way may take at the end, as in the gateway.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What is started, and how.
pub(super) struct Start<'a> {
    dir: &'a Path,
    /// The folder with what Serin keeps.
    data: PathBuf,
    up: &'a Up,
    token: &'a str,
    /// This program, of which workers, shims and gateway are processes.
    program: PathBuf,
    stop: CancellationToken,
}

/// What is bound before anything is started, so that a port that is taken is told early.
pub(super) struct Bound {
    pub(super) doors: TcpListener,
    pub(super) web: Binding,
    pub(super) exporters: otlp::Listeners,
}

/// The way of the data inside this process.
struct Flow {
    lake: Lake,
    ingest: Arc<Ingest>,
    engine: Arc<Engine>,
    watch: Watch,
    serin: Serin,
    tokens: Vec<StoredToken>,
}

/// The services of this machine.
struct Services {
    runtime: Arc<Runtime>,
    gateway: Supervisor,
    tables: watch::Sender<Arc<Table>>,
}

impl<'a> Start<'a> {
    pub(super) fn new(
        dir: &'a Path,
        up: &'a Up,
        token: &'a str,
        stop: CancellationToken,
    ) -> Result<Start<'a>> {
        Ok(Start {
            dir,
            data: data_dir(dir),
            up,
            token,
            program: std::env::current_exe().context("cannot tell where this program is")?,
            stop,
        })
    }

    /// Starts all of it.
    pub(super) async fn run(self, settings: Settings, bound: Bound) -> Result<Running> {
        let lake = open_lake(settings.lake.clone(), self.data.join("lake")).await?;
        let options = bus_options(self.up, self.data.clone(), settings.events_bytes_max);
        let bus = Arc::new(Bus::start(options).await?);
        let started = self.beside(Arc::clone(&bus), lake, settings, bound).await;
        if started.is_err() && !bus.is_adopted() {
            bus.stop().await;
        }
        started
    }

    /// All that the bus carries.
    async fn beside(
        self,
        bus: Arc<Bus>,
        lake: (Lake, Recovered),
        settings: Settings,
        bound: Bound,
    ) -> Result<Running> {
        let otlp = bound.exporters.urls();
        let flow = self
            .flow(&bus, lake, settings.ingest, settings.query)
            .await?;
        let services = self.services(&bus, &flow, bound.web, &otlp).await?;
        let looked = Arc::<Looked>::default();
        let visited = format!("http://{}/{}/", services.gateway.address(), deploys::HELLO);
        let (visitors, visits) = Visitors::open(visited.clone());
        let first_steps = FirstSteps {
            runtime: Arc::clone(&services.runtime),
            service: deploys::HELLO,
            url: visited,
            visitors,
            attach: flow.lake.attach_statement(),
            closed_file: self.data.join("first-steps-closed"),
        };
        let doors = self.doors(bound.doors, &flow, &services, &looked, first_steps);
        doors.hear_otlp(bound.exporters.http, bound.exporters.grpc);
        let mut running = Running {
            bus,
            lake: flow.lake,
            ingest: flow.ingest,
            engine: flow.engine,
            watch: flow.watch,
            serin: flow.serin,
            runtime: services.runtime,
            gateway: services.gateway,
            tables: services.tables,
            doors,
            otlp,
            looked,
            data: self.data.clone(),
            stop: self.stop,
            tasks: Vec::new(),
        };
        running.start_tasks();
        let data = self.data;
        running.until_stop(async move { sdk_files::compile(&data).await });
        running.until_stop(visits);
        Ok(running)
    }

    async fn flow(
        &self,
        bus: &Bus,
        (lake, recovered): (Lake, Recovered),
        taking: IngestOptions,
        limits: Limits,
    ) -> Result<Flow> {
        let edge = Edge::of_machine().context("cannot read random bytes")?;
        let tokens = lake.tokens().context("cannot read the tokens")?;
        let ingest = Ingest::start(lake.clone(), recovered, bus, taking, edge).await;
        let ingest = Arc::new(ingest.context("cannot start the ingester")?);
        let worker = WorkerCommand {
            program: self.program.clone(),
            args: vec![String::from("query-worker")],
        };
        let spill = self.data.join("tmp/query");
        let engine = Engine::new(limits, spill, Some(worker), lake.store());
        Ok(Flow {
            serin: own_telemetry(bus.url(), &self.data, &ingest)?,
            engine: Arc::new(engine),
            watch: Watch::start(self.dir),
            lake,
            ingest,
            tokens,
        })
    }

    async fn services(
        &self,
        bus: &Arc<Bus>,
        flow: &Flow,
        web: Binding,
        otlp: &otlp::Urls,
    ) -> Result<Services> {
        let python = sdk_files::unpack(&self.data)?;
        sdk_files::link_for_editors(self.dir).context("cannot link the SDK for editors")?;
        let run_dir = sockets_dir(&self.data)?;
        let is_old_gateway = web.is_left();
        let (tables, told) = watch::channel(Arc::default());
        let gateway = web::open(web, &access::BusAccess::gateway_url(bus), told.clone()).await?;
        let env = [
            ("PYTHONPATH", python.to_string_lossy().into_owned()),
            // Else what is printed waits until it fills a buffer.
            ("PYTHONUNBUFFERED", String::from("1")),
            ("SERIN_GATEWAY", format!("http://{}", gateway.address())),
        ];
        let env = env.map(|(key, value)| (key.to_owned(), value));
        let opened = Runtime::open(RuntimeOptions {
            dir: self.dir.to_path_buf(),
            versions_dir: self.data.join("versions"),
            kept_dir: self.data.join("kept"),
            run_dir,
            program: self.program.clone(),
            bus: bus.url().to_owned(),
            client: bus.client().clone(),
            access: Box::new(access::BusAccess::of(bus, told, gateway.state())),
            lake: flow.lake.clone(),
            serin: flow.serin.clone(),
            env: env.into_iter().chain(otlp.env()).collect(),
            build_env: build_env(&self.data),
            is_single: self.up.at.single,
            now_us: edge::now_us,
        });
        match opened.await.context("cannot take up the services") {
            Ok(runtime) => Ok(Services {
                runtime,
                gateway,
                tables,
            }),
            Err(error) => {
                if !is_old_gateway {
                    gateway.close().await;
                }
                Err(error)
            }
        }
    }

    fn doors(
        &self,
        listener: TcpListener,
        flow: &Flow,
        services: &Services,
        looked: &Arc<Looked>,
        first_steps: FirstSteps,
    ) -> Doors {
        let process = Process {
            engine: Arc::downgrade(&flow.engine),
            looked: Arc::clone(looked),
            gateway: services.gateway.state(),
            dir: self.dir.to_path_buf(),
            lake: flow.lake.clone(),
            ingest: Arc::downgrade(&flow.ingest),
            library: flow.watch.library(),
            stop: self.stop.clone(),
            started_us: edge::now_us(),
        };
        let parts = Parts {
            lake: flow.lake.clone(),
            engine: Arc::clone(&flow.engine),
            library: flow.watch.library(),
            accept: flow.ingest.door(),
            telemetry: flow.ingest.telemetry_door(),
            operate: Arc::new(process),
            runtime: Some(Arc::clone(&services.runtime)),
            first_steps: Some(Arc::new(first_steps)),
            tokens: flow.tokens.clone(),
        };
        let options = DoorsOptions {
            token: self.token.to_owned(),
            sessions_file: Some(self.data.join("sessions.json")),
            looks_file: Some(self.data.join("looks.json")),
            upload_dir: self.data.join("tmp"),
            now_us: edge::now_us,
            random: edge::random,
            closes_within: CLOSE_DEADLINE,
        };
        Doors::open(listener, parts, options)
    }
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
    BusOptions {
        data_dir,
        joined: up.at.joined().cloned(),
        port: up.at.bus_port(),
        events_bytes_max,
        server_binary: std::env::var_os("SERIN_NATS_SERVER").map(PathBuf::from),
        search_path: std::env::var_os("PATH"),
        beside: std::env::current_exe()
            .ok()
            .and_then(|program| program.parent().map(Path::to_path_buf)),
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
        pulses: false,
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
