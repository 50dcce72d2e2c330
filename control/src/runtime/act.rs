//! The shims of this machine: found, started, asked.
//!
//! What they say of their instances is kept here and is what the reconciler looks at. A shim that
//! goes away is started anew, and ends what its predecessor left: that is remembered as ended, so that it
//! is replaced and told like any that died.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

use super::access::Member;
use super::folder;
use super::hear::Heard;
use super::probe;
use super::reconcile::RuntimeOptions;
use crate::service::{Port, Ready, Service};
use crate::shim::{Client, END_WITHIN_MAX, Exit, Launch, ShimError, Status, forgotten};

/// How long a shim may take to open its socket.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Ends that wait to be looked at.
const ENDS_QUEUE: usize = 256;
/// The grace period when everything ends, of who has none of its own; how long services wait for each
/// other, and how long the shims may take beside it.
const END_GRACE: Duration = Duration::from_secs(10);

/// The shims.
#[derive(Clone)]
pub(super) struct Shims {
    inner: Arc<Mutex<BTreeMap<String, Shim>>>,
    changed: Arc<Notify>,
    now_us: fn() -> i64,
}

/// One shim and what it says.
struct Shim {
    client: Client,
    instances: BTreeMap<String, Status>,
    /// Instances that are being asked whether they are ready.
    probed: BTreeSet<String>,
    /// What was seen of those that were not, when they were asked last.
    unready: BTreeMap<String, String>,
    is_lost: bool,
    /// Whether it was lost with instances that run: the next one ends them.
    has_left: bool,
}

impl Shim {
    /// It went away, and what it owned goes with it.
    fn lose(&mut self, now_us: i64) {
        self.is_lost = true;
        let running = self.instances.values_mut();
        for status in running.filter(|status| status.exit.is_none()) {
            self.has_left = true;
            status.exit = Some(Exit::with_its_shim(now_us));
        }
    }
}

impl Shims {
    /// Connects to the shims that an earlier Serin left.
    pub(super) async fn find(options: &RuntimeOptions) -> Shims {
        let shims = Shims {
            inner: Arc::default(),
            changed: Arc::new(Notify::new()),
            now_us: options.now_us,
        };
        let sockets = std::fs::read_dir(&options.run_dir)
            .into_iter()
            .flatten()
            .flatten();
        for socket in sockets.map(|entry| entry.path()) {
            let is_socket = socket.extension().is_some_and(|end| end == "sock");
            let Some(service) = socket.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if is_socket && shims.connect(service, &socket).await.is_ok() {
                tracing::info!(service, "found the shim of an earlier run");
            }
        }
        shims
    }

    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Shim>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when an instance ended or became ready.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What every shim says of its instances, by service, and what was seen of those that are not
    /// ready.
    pub(super) fn statuses(&self) -> BTreeMap<String, Vec<(Status, Option<String>)>> {
        let inner = self.inner();
        let of = inner.iter().map(|(service, shim)| {
            let statuses = shim.instances.values();
            let mut statuses: Vec<_> = statuses
                .map(|status| (status.clone(), shim.unready.get(&status.instance).cloned()))
                .collect();
            statuses.sort_by_key(|(status, _)| (status.started_us, status.number));
            (service.clone(), statuses)
        });
        of.collect()
    }

    async fn connect(&self, service: &str, socket: &Path) -> Result<Client, ShimError> {
        let (ends, mut ended) = mpsc::channel(ENDS_QUEUE);
        let io = |source| ShimError::Io(socket.to_path_buf(), source);
        let client = Client::connect(service, socket, ends).await.map_err(io)?;
        let known = client.list().await?;
        {
            let mut inner = self.inner();
            // Numbers are never given again, so those of the shim before it are remembered.
            let before = inner.remove(service).map(|before| before.instances);
            let mut instances = before.unwrap_or_default();
            let known = known.into_iter();
            instances.extend(known.map(|status| (status.instance.clone(), status)));
            let shim = Shim {
                client: client.clone(),
                instances,
                probed: BTreeSet::new(),
                unready: BTreeMap::new(),
                is_lost: false,
                has_left: false,
            };
            inner.insert(service.to_owned(), shim);
        }
        let (shims, service) = (self.clone(), service.to_owned());
        tokio::spawn(async move {
            while let Some(status) = ended.recv().await {
                shims.hear(&service, status);
            }
            if let Some(shim) = shims.inner().get_mut(&service) {
                shim.lose((shims.now_us)());
            }
            shims.changed.notify_one();
        });
        Ok(client)
    }

    fn hear(&self, service: &str, status: Status) {
        if let Some(shim) = self.inner().get_mut(service) {
            // The end of an instance may be heard before the answer to its start.
            let known = shim.instances.get(&status.instance);
            if known.is_none_or(|known| known.exit.is_none()) {
                shim.instances.insert(status.instance.clone(), status);
            }
            for oldest in forgotten(shim.instances.values()) {
                shim.instances.remove(&oldest);
            }
        }
        self.changed.notify_one();
    }

    /// Starts shims that went away anew, for what they owned to end.
    pub(super) async fn connect_lost(&self, options: &RuntimeOptions) {
        let lost: Vec<String> = {
            let inner = self.inner();
            let lost = inner.iter().filter(|(_, shim)| shim.has_left);
            lost.map(|(service, _)| service.clone()).collect()
        };
        for service in lost {
            tracing::warn!(service, "the shim went away; starting it anew");
            if let Err(error) = self.of(options, &service).await {
                tracing::error!(%error, service, "cannot start the shim anew");
            }
        }
    }

    /// The shim of a service, started where it does not run.
    async fn of(&self, options: &RuntimeOptions, service: &str) -> Result<Client, ShimError> {
        if let Some(shim) = self.inner().get(service).filter(|shim| !shim.is_lost) {
            return Ok(shim.client.clone());
        }
        let socket = socket(options, service);
        if let Ok(client) = self.connect(service, &socket).await {
            return Ok(client);
        }
        let io = |source| ShimError::Io(socket.clone(), source);
        let child = Command::new(&options.program)
            .args(["shim", "--service", service, "--socket"])
            .arg(&socket)
            .env("SERIN_BUS", &options.bus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(io)?;
        let connecting = async {
            loop {
                if let Ok(client) = self.connect(service, &socket).await {
                    return Ok(client);
                }
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(ShimError::Refused(format!(
                        "the shim of {service} ended at once, {status}"
                    )));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let client = tokio::time::timeout(OPEN_WITHIN, connecting).await;
        let client = client.unwrap_or_else(|_| Err(ShimError::Gone(service.to_owned())));
        // Our child until it ends; nobody else would bury it.
        tokio::spawn(async move { child.wait().await });
        client
    }

    /// Starts an instance.
    pub(super) async fn start(
        &self,
        options: &RuntimeOptions,
        service: &Service,
        member: &Member,
        hash: &str,
        number: u64,
    ) -> Result<Status, ShimError> {
        let client = self.of(options, &service.name).await?;
        let dir = options.versions_dir.join(&service.name).join(hash);
        let io = |source| ShimError::Io(dir.clone(), source);
        let port = port_of(service).map_err(io)?;
        let secrets = folder::env_file(&dir);
        let names = secrets.iter().map(|(name, _)| name.clone()).collect();
        let env = environment(options, service, member, secrets, port).map_err(io)?;
        let launch = Launch {
            secrets: names,
            instance: member.instance.clone(),
            version: member.version.clone(),
            number,
            command: command(options, &service.run),
            dir,
            env,
            port,
            limits: service.limits,
            stop_signal: service.stop_signal,
            stop_within_ms: Some(service.stop_within_ms),
        };
        let status = client.start(launch).await?;
        self.hear(&service.name, status.clone());
        Ok(status)
    }

    /// Asks an instance to end.
    pub(super) async fn stop(
        &self,
        service: &str,
        instance: &str,
        grace: Duration,
    ) -> Result<(), ShimError> {
        let client = {
            let mut inner = self.inner();
            let Some(shim) = inner.get_mut(service) else {
                return Ok(());
            };
            if let Some(status) = shim.instances.get_mut(instance) {
                status.is_stopping = true;
            }
            shim.client.clone()
        };
        client.stop(instance, grace).await
    }

    /// Finds out in the background whether an instance takes work; once at a time.
    pub(super) fn probe(
        &self,
        options: &RuntimeOptions,
        service: &Service,
        status: &Status,
        folder: &Path,
        heard: &Heard,
    ) {
        let (instance, port) = (status.instance.clone(), status.port);
        let (name, ready) = (service.name.clone(), service.ready.clone());
        let client = {
            let mut inner = self.inner();
            let Some(shim) = inner.get_mut(&name) else {
                return;
            };
            if !shim.probed.insert(instance.clone()) {
                return;
            }
            shim.client.clone()
        };
        let member = Member {
            service: name.clone(),
            version: status.version.clone(),
            instance: instance.clone(),
        };
        let env = match ready {
            Ready::Run(_) => environment(options, service, &member, folder::env_file(folder), port),
            _ => Ok(BTreeMap::new()),
        };
        let env = env.unwrap_or_else(|error| {
            tracing::warn!(%error, instance, "cannot make the environment of a command of ready:");
            BTreeMap::new()
        });
        let (shims, heard, folder) = (self.clone(), heard.clone(), folder.to_path_buf());
        tokio::spawn(async move {
            let looked = match ready {
                Ready::Beat if heard.is_ready(&instance) => Ok(()),
                ready => probe::look(&ready, port, &folder, &env).await,
            };
            let is_told = looked.is_ok() && client.ready(&instance).await.is_ok();
            if let Some(shim) = shims.inner().get_mut(&name) {
                shim.probed.remove(&instance);
                shim.unready.remove(&instance);
                if let Some(status) = shim.instances.get_mut(&instance) {
                    status.is_ready |= is_told;
                    shim.unready
                        .extend(looked.err().map(|saw| (instance.clone(), saw)));
                }
            }
            if is_told {
                shims.changed.notify_one();
            }
        });
    }

    /// The last lines of the instances of a version, each with its name.
    pub(super) async fn tail(&self, service: &str, version: &str) -> Vec<String> {
        let asked = self.inner().get(service).map(|shim| {
            let of = shim
                .instances
                .values()
                .filter(|status| status.version == version);
            let names: Vec<String> = of.map(|status| status.instance.clone()).collect();
            (shim.client.clone(), names)
        });
        let Some((client, names)) = asked else {
            return Vec::new();
        };
        // The latest that said anything: one says what all say.
        for name in names.iter().rev() {
            let tail = client.tail(name).await.unwrap_or_default();
            if !tail.is_empty() {
                return tail
                    .into_iter()
                    .map(|line| format!("{name}: {line}"))
                    .collect();
            }
        }
        Vec::new()
    }

    /// Ends every instance and every shim, step by step, and waits until they are gone.
    pub(super) async fn end(&self, mut steps: Vec<Vec<String>>) {
        let is_in_a_step = |name: &&String| steps.iter().flatten().any(|other| other == *name);
        let removed: Vec<String> = {
            let inner = self.inner();
            let removed = inner.keys().filter(|name| !is_in_a_step(name));
            removed.cloned().collect()
        };
        steps.insert(0, removed);
        let in_order = async {
            for step in &steps {
                self.ask_to_end(step).await;
                self.gone(step).await;
            }
        };
        let all = steps.concat();
        // Nobody waits longer than that for others: then all are asked.
        if tokio::time::timeout(END_GRACE, in_order).await.is_err() {
            self.ask_to_end(&all).await;
        }
        let within = END_WITHIN_MAX + END_GRACE;
        if tokio::time::timeout(within, self.gone(&all)).await.is_err() {
            tracing::error!("not all services ended");
        }
    }

    async fn ask_to_end(&self, services: &[String]) {
        let clients: Vec<Client> = {
            let inner = self.inner();
            let shims = services.iter().filter_map(|name| inner.get(name));
            let there = shims.filter(|shim| !shim.is_lost);
            there.map(|shim| shim.client.clone()).collect()
        };
        for client in &clients {
            if let Err(error) = client.end(END_GRACE).await {
                tracing::debug!(%error, "a shim was gone already");
            }
        }
    }

    /// Returns when the shims of some services are gone.
    async fn gone(&self, services: &[String]) {
        let are_there = || {
            let inner = self.inner();
            let mut shims = services.iter().filter_map(|name| inner.get(name));
            shims.any(|shim| !shim.is_lost)
        };
        while are_there() {
            self.changed.notified().await;
        }
    }
}

/// The environment of an instance, with what its `.env` says.
pub(super) fn environment(
    options: &RuntimeOptions,
    service: &Service,
    member: &Member,
    secrets: Vec<(String, String)>,
    port: Option<u16>,
) -> std::io::Result<BTreeMap<String, String>> {
    let kept = options.kept_dir.join(&service.name);
    std::fs::create_dir_all(&kept)?;
    // What an instance leaves there the next one finds, whatever the bus's port is by then.
    let spill = kept.join(".spill");
    let own = [
        ("SERIN_BUS", options.access.url(member)),
        ("SERIN_DATA", kept.to_string_lossy().into_owned()),
        ("SERIN_SPILL_DIR", spill.to_string_lossy().into_owned()),
        ("SERIN_SERVICE", service.name.clone()),
        ("SERIN_VERSION", member.version.clone()),
        ("SERIN_INSTANCE", member.instance.clone()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    let mut env = options.env.clone();
    env.extend(exporters_names(member));
    env.extend(service.env.clone());
    env.extend(secrets);
    env.extend(port.map(|port| (String::from("PORT"), port.to_string())));
    env.extend(own);
    Ok(env)
}

/// The port of an instance that listens itself.
pub(super) fn port_of(service: &Service) -> std::io::Result<Option<u16>> {
    match service.port {
        None => Ok(None),
        Some(Port::Fixed(port)) => Ok(Some(port)),
        Some(Port::Auto) => free_port().map(Some),
    }
}

/// How an OpenTelemetry SDK in an instance is to call itself, if it has one.
fn exporters_names(member: &Member) -> [(String, String); 2] {
    let Member {
        service,
        version,
        instance,
    } = member;
    [
        ("OTEL_SERVICE_NAME", service.clone()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            format!("service.version={version},service.instance.id={instance}"),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}

/// The command of an instance; `serin` is this program, wherever it is.
pub(super) fn command(options: &RuntimeOptions, run: &[String]) -> Vec<String> {
    let mut command = run.to_vec();
    if let Some(program) = command.first_mut().filter(|program| *program == "serin") {
        *program = options.program.to_string_lossy().into_owned();
    }
    command
}

/// Where the shim of a service listens.
fn socket(options: &RuntimeOptions, service: &str) -> PathBuf {
    options.run_dir.join(format!("{service}.sock"))
}

/// A port nobody listens on now. Another program may take it before the instance does: then the
/// instance ends, and the next one gets another.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
