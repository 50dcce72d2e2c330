//! Starts, adopts, joins, watches and stops the bus.
//!
//! A private bus belongs to one data folder and one Serin at a time (a file lock says so). When its
//! process ends it is started again on the same port and every client finds it again by itself; a
//! server that lost JetStream (a full disk makes it give up) is restarted too. Dropping [`Bus`]
//! leaves the process alone, to be adopted; [`Bus::stop`] ends it. Start at [`Bus::start`].

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use serin_wire::Routes;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::binary::{self, Binary};
use crate::connection::{CONNECT_TIMEOUT, Connection, connect, has_jetstream};
use crate::error::BusError;
use crate::join::join;
use crate::monitor::{self, BusNumbers};
use crate::owner::{self, Owner};
use crate::process::{self, Process};
use crate::services::{self, BusUser, Services};
use crate::settings::{self, Files, Settings};
use crate::stream::{self, EventStream};

/// How long a server may take to be ready while its process lives: it reads back what it stored.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long a left server that is alive may take to answer before it is replaced.
const ADOPT_DEADLINE: Duration = Duration::from_secs(10);
/// How often free ports are looked for, where somebody takes one before the server does.
const PORTS_TRIED: u32 = 3;
const CONNECT_EVERY: Duration = Duration::from_millis(20);
/// The pause before a restart doubles from the first to the last, so that a server that cannot
/// start (its port is taken, its disk is full) does not spin.
const RESTART_PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(5)];
/// A server that lived this long starts again without a pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How long the server may take to take its configuration over; measured are 5 ms.
const RELOAD_WITHIN: Duration = Duration::from_secs(5);
/// How often the server is asked for its health, and how many silences of JetStream make a restart.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const SILENCES_MAX: u32 = 5;
/// What the server's health says of a stream that it froze.
const WRITE_ERROR: &str = "write error";
/// With less free disk a frozen stream would only freeze again: some of our largest messages.
const FREE_BYTES_MIN: u64 = 32 << 20;

/// How to get a bus.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// `DIR/.serin`.
    pub data_dir: PathBuf,
    /// The URL of a bus to join instead of starting one.
    pub joined: Option<String>,
    /// The port to listen on; else a free one, kept across restarts.
    pub port: Option<u16>,
    /// What the stream of events may hold before it refuses.
    pub events_bytes_max: u64,
    /// The server binary to take, as named by the user.
    pub server_binary: Option<PathBuf>,
    /// `PATH`.
    pub search_path: Option<OsString>,
    /// The folder of our own binary.
    pub beside: Option<PathBuf>,
}

/// The bus, for as long as Serin runs.
#[derive(Debug)]
pub struct Bus {
    owner: Arc<Owner>,
    connection: Connection,
    url: String,
    monitor_url: Option<String>,
    events_bytes_max: u64,
    private: Option<Private>,
}

#[derive(Debug)]
struct Private {
    files: Files,
    settings: Settings,
    /// Users and mappings as the server has them; changed by one at a time.
    services: Arc<Mutex<Services>>,
    watched: Arc<Watched>,
    stop: watch::Sender<bool>,
    /// Until it is stopped.
    watching: std::sync::Mutex<Option<Watching>>,
    /// Whether its process is one that a killed Serin left.
    is_adopted: bool,
}

/// The watch over the server, and the folder's lock.
#[derive(Debug)]
struct Watching {
    task: JoinHandle<()>,
    _lock: File,
}

/// What the watching task tells.
#[derive(Debug, Default)]
struct Watched {
    pid: AtomicU64,
    restarts: AtomicU64,
}

/// How the bus is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusHealth {
    /// Whether our connection stands.
    pub is_connected: bool,
    /// Whether JetStream answers.
    pub has_jetstream: bool,
    /// The server's version; empty while it was never reached.
    pub version: String,
    /// The server's process, where it is ours.
    pub pid: Option<u64>,
    /// How often it had to be started again.
    pub restarts: u64,
}

impl Bus {
    /// Starts a private bus, adopts the one a killed Serin left, or joins the one named.
    pub async fn start(options: BusOptions) -> Result<Bus, BusError> {
        let files = open_folder(&options.data_dir)?;
        if let Some(url) = &options.joined {
            let connection = join(url).await?;
            return Ok(Bus {
                owner: Arc::new(Owner::of(&options.data_dir, &files, false)?),
                connection,
                url: url.clone(),
                monitor_url: None,
                events_bytes_max: options.events_bytes_max,
                private: None,
            });
        }
        let lock = owner::lock(&files).await?;
        let owner = Owner::of(&options.data_dir, &files, true)?;
        let mut start = Start::new(&options, files)?;
        let adopted = start.adopt(options.port).await?;
        let is_adopted = adopted.is_some();
        let (process, connection) = match adopted {
            Some(adopted) => adopted,
            None => start.afresh(options.port).await?,
        };
        let (stop, stopped) = watch::channel(false);
        let watched = Arc::new(Watched::default());
        let url = start.settings.url();
        let monitor_url = Some(start.settings.monitor_url());
        let (files, settings) = (start.files.clone(), start.settings.clone());
        let services = Arc::clone(&start.services);
        let watch = Watch {
            start,
            watched: Arc::clone(&watched),
            client: connection.client.clone(),
        };
        watched
            .pid
            .store(process.id().unsigned_abs().into(), Ordering::Relaxed);
        let task = tokio::spawn(watch.run(process, stopped));
        Ok(Bus {
            owner: Arc::new(owner),
            connection,
            url,
            monitor_url,
            events_bytes_max: options.events_bytes_max,
            private: Some(Private {
                files,
                settings,
                services,
                watched,
                stop,
                watching: std::sync::Mutex::new(Some(Watching { task, _lock: lock })),
                is_adopted,
            }),
        })
    }

    /// Our connection; it comes back by itself after an outage.
    pub fn client(&self) -> &async_nats::Client {
        &self.connection.client
    }

    /// Whether a private bus was there already, left by a killed Serin.
    pub fn is_adopted(&self) -> bool {
        self.private
            .as_ref()
            .is_some_and(|private| private.is_adopted)
    }

    /// Where services connect, with credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's monitoring page, where the bus is ours.
    pub fn monitor_url(&self) -> Option<&str> {
        self.monitor_url.as_deref()
    }

    /// The stream of events, made where it is missing.
    pub async fn events(&self) -> Result<EventStream, BusError> {
        stream::open_events(&self.connection, &self.owner, self.events_bytes_max).await
    }

    /// The memory stream of beats, logs and spans, made where it is missing.
    pub async fn telemetry(&self) -> Result<EventStream, BusError> {
        stream::open_telemetry(&self.connection, &self.owner).await
    }

    /// Where a user of a private bus connects.
    pub fn url_of(&self, user: &BusUser) -> Result<String, BusError> {
        let private = self.private.as_ref().ok_or(BusError::Joined)?;
        Ok(private.settings.url_of(&user.name, &user.password))
    }

    /// Lets these and no others use a private bus besides Serin. Who stays keeps its connection;
    /// who is gone loses it. Returns once the server has taken it over.
    pub async fn set_users(&self, users: Vec<BusUser>) -> Result<(), BusError> {
        self.change(|services| services.users = users).await
    }

    /// Spreads calls to `svc.<service>.<endpoint>` over the versions by their weights, in whole
    /// percents. Returns once the server has taken it over.
    pub async fn set_mappings(&self, routes: &Routes) -> Result<(), BusError> {
        self.change(|services| services.routes.clone_from(routes))
            .await
    }

    async fn change(&self, change: impl FnOnce(&mut Services)) -> Result<(), BusError> {
        let private = self.private.as_ref().ok_or(BusError::Joined)?;
        let mut services = private.services.lock().await;
        let mut next = services.clone();
        change(&mut next);
        if next == *services {
            return Ok(());
        }
        next.check(&private.settings)?;
        next.store(&private.files, &private.settings)?;
        let pid = private.watched.pid.load(Ordering::Relaxed);
        if let Err(error) = reload(&private.files, &private.settings, pid).await {
            // A file that the server refuses must not meet it at its next start.
            services.store(&private.files, &private.settings)?;
            return Err(error);
        }
        *services = next;
        Ok(())
    }

    /// How the bus is at this moment.
    pub async fn health(&self) -> BusHealth {
        let watched = self.private.as_ref().map(|private| &private.watched);
        BusHealth {
            is_connected: self.client().connection_state() == State::Connected,
            has_jetstream: has_jetstream(self.client()).await,
            version: self.client().server_info().version,
            pid: watched.map(|watched| watched.pid.load(Ordering::Relaxed)),
            restarts: watched.map_or(0, |watched| watched.restarts.load(Ordering::Relaxed)),
        }
    }

    /// Numbers of a private bus, from its monitoring page; `None` of a joined one, or one that does
    /// not answer now.
    pub async fn numbers(&self) -> Option<BusNumbers> {
        let port = self.private.as_ref()?.settings.monitor_port;
        let read = tokio::time::timeout(CONNECT_TIMEOUT, monitor::read(port)).await;
        read.ok()?.ok()
    }

    /// Stops a private bus and waits until it is gone; leaves a joined one alone.
    pub async fn stop(&self) {
        let Some(private) = &self.private else { return };
        let watching = private.watching.lock();
        let watching = watching.unwrap_or_else(PoisonError::into_inner).take();
        let Some(watching) = watching else { return };
        if private.stop.send(true).is_ok()
            && let Err(error) = watching.task.await
        {
            tracing::error!(%error, "the watch over nats-server failed");
        }
    }
}

/// Stops the bus that a killed Serin left under `data_dir`; whether there was one.
pub async fn stop_left(data_dir: &Path) -> Result<bool, BusError> {
    if !data_dir.join("bus").is_dir() {
        return Ok(false);
    }
    let files = open_folder(data_dir)?;
    let _lock = owner::lock(&files).await?;
    Process::stop_left(&files).await
}

/// What is needed to start the server, once and again.
struct Start {
    files: Files,
    settings: Settings,
    services: Arc<Mutex<Services>>,
    options: BusOptions,
}

impl Start {
    fn new(options: &BusOptions, files: Files) -> Result<Start, BusError> {
        let settings = match Settings::load(&files)? {
            Some(settings) => settings,
            None => Settings::fresh(options.port)?,
        };
        let services = Arc::new(Mutex::new(Services::load(&files)?));
        Ok(Start {
            files,
            settings,
            services,
            options: options.clone(),
        })
    }

    /// Takes over a living server with the configuration we would give it; stops any other.
    async fn adopt(
        &mut self,
        port: Option<u16>,
    ) -> Result<Option<(Process, Connection)>, BusError> {
        let mut left = Process::left(&self.files).await?;
        let conf = self
            .settings
            .conf(&self.files, self.options.events_bytes_max);
        let is_same = std::fs::read(self.files.conf()).is_ok_and(|old| old == conf)
            && port.is_none_or(|port| port == self.settings.port);
        // Of several nobody could tell which one answers.
        if is_same && left.len() == 1 {
            let mut process = left.remove(0);
            let ready = self.ready(&mut process);
            if let Ok(Ok(connection)) = tokio::time::timeout(ADOPT_DEADLINE, ready).await {
                self.take_services_over(&process).await?;
                tracing::info!(pid = process.id(), "adopted the bus of an earlier run");
                return Ok(Some((process, connection)));
            }
        }
        if Process::stop_left(&self.files).await? {
            tracing::info!("ended the bus of an earlier run, to replace it");
        }
        Ok(None)
    }

    /// Users and mappings that were being changed when Serin was killed.
    async fn take_services_over(&self, process: &Process) -> Result<(), BusError> {
        let services = self.services.lock().await;
        let conf = services.conf(&self.settings);
        if std::fs::read(self.files.services_conf()).is_ok_and(|old| old == conf) {
            return Ok(());
        }
        services.store(&self.files, &self.settings)?;
        let pid = process.id().unsigned_abs().into();
        reload(&self.files, &self.settings, pid).await
    }

    async fn afresh(&mut self, port: Option<u16>) -> Result<(Process, Connection), BusError> {
        let options = &self.options;
        let binary = binary::find(
            options.server_binary.as_deref(),
            options.beside.as_deref(),
            options.search_path.as_deref(),
        )
        .await?;
        if let Some(port) = port {
            self.settings.port = port;
            if !settings::is_free(port) {
                return Err(BusError::PortTaken(port));
            }
        }
        let mut tries = 1;
        loop {
            if !self.settings.are_free() {
                let kept = self.settings.port;
                self.settings.move_ports(port)?;
                tracing::warn!(
                    kept,
                    port = self.settings.port,
                    "the bus had to move to another port"
                );
            }
            let mut process = self.spawn(&binary).await?;
            match self.ready(&mut process).await {
                Ok(connection) => return Ok((process, connection)),
                Err(error) => {
                    process.stop().await?;
                    // Somebody may have taken a port since we looked.
                    let is_named = port.is_some_and(|port| !settings::is_free(port));
                    if is_named || self.settings.are_free() || tries == PORTS_TRIED {
                        return Err(error);
                    }
                    tries += 1;
                }
            }
        }
    }

    async fn spawn(&self, binary: &Binary) -> Result<Process, BusError> {
        self.settings.store(&self.files)?;
        let conf = self
            .settings
            .conf(&self.files, self.options.events_bytes_max);
        // Held until the server has read it, so that a change meanwhile is told to it.
        let services = self.services.lock().await;
        services.store(&self.files, &self.settings)?;
        settings::write_private(&self.files.conf(), &conf)?;
        let mut process = Process::spawn(binary, &self.files).await?;
        let port = self.settings.monitor_port;
        let read = async {
            while services::loaded_at(port).await.is_err() && !process.has_ended() {
                tokio::time::sleep(CONNECT_EVERY).await;
            }
        };
        if tokio::time::timeout(RELOAD_WITHIN, read).await.is_err() {
            tracing::warn!(port, "the monitoring page of nats-server does not answer");
        }
        Ok(process)
    }

    /// Connects as soon as the server answers, and makes sure that it is ours and has JetStream.
    async fn ready(&self, process: &mut Process) -> Result<Connection, BusError> {
        let ready = async {
            loop {
                if process.has_ended() {
                    return Err(BusError::Ended(self.files.last_words()));
                }
                if let Ok(connection) = connect(&self.settings.url()).await
                    && connection.client.server_info().server_name == self.settings.server_name
                    && has_jetstream(&connection.client).await
                {
                    return Ok(connection);
                }
                tokio::time::sleep(CONNECT_EVERY).await;
            }
        };
        match tokio::time::timeout(READY_DEADLINE, ready).await {
            Ok(result) => result,
            Err(_) => Err(BusError::NotReady {
                port: self.settings.port,
                waited_s: READY_DEADLINE.as_secs(),
                log: self.files.log(),
            }),
        }
    }
}

/// Keeps a private server alive.
struct Watch {
    start: Start,
    watched: Arc<Watched>,
    client: async_nats::Client,
}

impl Watch {
    async fn run(self, mut process: Process, mut stopped: watch::Receiver<bool>) {
        let mut pause = RESTART_PAUSE[0];
        loop {
            let lived = tokio::time::Instant::now();
            tokio::select! {
                () = process.ended() => tracing::warn!("nats-server ended; starting it again"),
                fault = self.fault() => {
                    tracing::warn!("{fault}; starting nats-server again");
                    stop(&mut process).await;
                }
                changed = stopped.changed() => {
                    // An error means that `Bus` was dropped: the server stays, to be adopted.
                    if changed.is_ok() {
                        stop(&mut process).await;
                    }
                    return;
                }
            }
            if lived.elapsed() > HEALTHY_AFTER {
                pause = RESTART_PAUSE[0];
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stopped.changed() => return,
                }
                pause = (pause * 2).min(RESTART_PAUSE[1]);
                match self.respawn().await {
                    Ok(next) => {
                        process = next;
                        break;
                    }
                    Err(error) => tracing::error!(%error, "cannot start nats-server again"),
                }
            }
        }
    }

    async fn respawn(&self) -> Result<Process, BusError> {
        let options = &self.start.options;
        // Looked for again each time: an upgrade may have moved it.
        let binary = binary::find(
            options.server_binary.as_deref(),
            options.beside.as_deref(),
            options.search_path.as_deref(),
        )
        .await?;
        let process = self.start.spawn(&binary).await?;
        let id = process.id().unsigned_abs().into();
        self.watched.pid.store(id, Ordering::Relaxed);
        self.watched.restarts.fetch_add(1, Ordering::Relaxed);
        Ok(process)
    }

    /// Returns with what only another start mends: JetStream has not answered for a while though the
    /// server does, or a write to a stream failed and the disk could take one now. The server freezes
    /// such a stream until it is started again, so that nothing is stored out of order.
    async fn fault(&self) -> &'static str {
        let Start {
            files, settings, ..
        } = &self.start;
        let mut silences = 0;
        while silences < SILENCES_MAX {
            tokio::time::sleep(PROBE_EVERY).await;
            let page = services::page(settings.monitor_port, "/healthz");
            let health = tokio::time::timeout(CONNECT_TIMEOUT, page).await;
            let health = health.ok().and_then(Result::ok).unwrap_or_default();
            if health["status"] == "ok" {
                silences = 0;
                continue;
            }
            let has_failed = health["error"].to_string().contains(WRITE_ERROR);
            if has_failed && free_bytes(&files.folder) > FREE_BYTES_MIN {
                return "the disk has room again, and a stream is frozen since it had none";
            }
            let is_connected = self.client.connection_state() == State::Connected;
            let is_silent = is_connected && !has_jetstream(&self.client).await;
            silences = if is_silent { silences + 1 } else { 0 };
        }
        "nats-server lost JetStream"
    }
}

/// What the disk of a folder could take; nothing where it does not say.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bavail * disk.f_frsize)
}

/// Makes the server take users and mappings over, and waits until it has.
async fn reload(files: &Files, settings: &Settings, pid: u64) -> Result<(), BusError> {
    let before = match services::loaded_at(settings.monitor_port).await {
        Ok(before) => before,
        // It is being started again, and reads the files then.
        Err(error) => {
            tracing::debug!(%error, "no server to tell of new users or mappings");
            return Ok(());
        }
    };
    if !process::reload(pid, files)
        || services::has_reloaded(settings.monitor_port, &before, RELOAD_WITHIN).await
    {
        return Ok(());
    }
    Err(BusError::Reload(files.last_words()))
}

/// Ends the server where nobody could be told that it does not go.
async fn stop(process: &mut Process) {
    if let Err(error) = process.stop().await {
        tracing::error!(%error, "cannot end nats-server");
    }
}

fn open_folder(data_dir: &Path) -> Result<Files, BusError> {
    let folder = data_dir.join("bus");
    let error = |source| BusError::File {
        what: "create",
        path: folder.clone(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(error)?;
    // Absolute, since the server's command line names it and is compared with it.
    let data_dir = std::path::absolute(data_dir).map_err(error)?;
    Ok(Files::under(&data_dir))
}
