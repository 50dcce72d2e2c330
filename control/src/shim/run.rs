//! The process of a shim: a socket, its instances, and an end when neither is needed.
//!
//! One thread: a shim mostly waits. A file beside the socket names the processes it started, so that
//! a shim that follows one that was killed can end what that one left. Start at [`run`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use serin_wire::subject;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::client::ShimError;
use super::instance::{Instance, NOT_STARTED, spawn, wait};
use super::left::{self, Left};
use super::mask::Mask;
use super::orphans::Orphans;
use super::output::{self, Tail};
use super::protocol::{Ask, Exit, LINE_BYTES_MAX, Launch, Say, Status, What, forgotten};
use super::strays::{self, Marks};
use super::teller::Teller;
use crate::confine::{Ground, Group};

/// Lines of an instance that wait to be told.
const LINES_QUEUE: usize = 1024;
/// Ends that wait for a connection; Serin reads them at once.
const ENDS_QUEUE: usize = 256;
/// How long a shim without instances waits for Serin.
const IDLE: Duration = Duration::from_secs(5);
/// How long the last lines of an instance that has ended may take.
const READ_WITHIN: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The grace period of instances that have none of their own when the shim itself is told to end.
const END_GRACE: Duration = Duration::from_secs(10);
/// An instance's own grace period is no longer than that when all end: nobody waits for ever for a
/// machine to go down, and systemd no more than 90 s for Serin.
pub(crate) const END_WITHIN_MAX: Duration = Duration::from_secs(30);

/// What a shim is told at its start.
#[derive(Debug, Clone)]
pub struct ShimOptions {
    /// The service whose instances it owns.
    pub service: String,
    /// Where Serin finds it.
    pub socket: PathBuf,
    /// The bus, with credentials.
    pub bus: String,
    /// The clock.
    pub now_us: fn() -> i64,
}

/// What the tasks of a shim share.
pub(super) struct Shared {
    pub(super) now_us: fn() -> i64,
    instances: Mutex<BTreeMap<String, Instance>>,
    ends: broadcast::Sender<Status>,
    connections: watch::Sender<usize>,
    ending: watch::Sender<Option<Duration>>,
    left: PathBuf,
    orphans: Arc<Orphans>,
}

impl Shared {
    fn instances(&self) -> MutexGuard<'_, BTreeMap<String, Instance>> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn statuses(&self) -> Vec<Status> {
        let instances = self.instances();
        instances.values().map(|one| one.status.clone()).collect()
    }

    /// Writes down what somebody else has to end where this shim is killed.
    fn write_left(&self) {
        let instances = self.instances();
        let running = instances.values().filter(|one| one.status.exit.is_none());
        let left: Vec<Left> = running
            .filter_map(|one| Left::of(one.status.pid, one.marks.clone()))
            .collect();
        drop(instances);
        left::write(&self.left, &left);
    }

    /// Those that run now.
    pub(super) fn running(&self) -> Vec<Status> {
        let mut statuses = self.statuses();
        statuses.retain(|status| status.exit.is_none());
        statuses
    }
}

/// Runs until there is nothing to own and nobody to ask.
pub async fn run(options: ShimOptions) -> Result<(), ShimError> {
    let io = |source| ShimError::Io(options.socket.clone(), source);
    let lock = File::create(options.socket.with_extension("lock")).map_err(io)?;
    if lock.try_lock().is_err() {
        return Err(ShimError::Taken(options.socket.clone()));
    }
    let left = left::file(&options.socket);
    left::kill(&left).await;
    if let Err(error) = std::fs::remove_file(&options.socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(io(error));
    }
    let listener = UnixListener::bind(&options.socket).map_err(io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let shared = Arc::new(Shared {
        now_us: options.now_us,
        instances: Mutex::default(),
        ends: broadcast::Sender::new(ENDS_QUEUE),
        connections: watch::Sender::new(0),
        ending: watch::Sender::new(None),
        left,
        orphans: Arc::new(Orphans::adopt()),
    });
    let child_ended = signal(SignalKind::child()).map_err(io)?;
    let orphans = tokio::spawn(Arc::clone(&shared.orphans).attend(child_ended));
    let teller = Teller::connect(&options.bus)
        .await
        .map_err(ShimError::Bus)?;
    let beats = teller
        .clone()
        .beats(options.service.clone(), Arc::clone(&shared));
    let beats = tokio::spawn(beats);
    let mut ending = shared.ending.subscribe();
    let mut idle = Duration::ZERO;
    while idle < IDLE {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(io)?;
                let connection = Connection {
                    shared: Arc::clone(&shared),
                    service: options.service.clone(),
                    teller: teller.clone(),
                };
                tokio::spawn(connection.serve(stream));
            }
            _ = terminate.recv() => drop(shared.ending.send_replace(Some(END_GRACE))),
            asked = ending.changed() => {
                let grace = asked.ok().and_then(|()| *ending.borrow_and_update());
                end_all(&shared, grace.unwrap_or(END_GRACE)).await;
                break;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {
                let is_needed = *shared.connections.borrow() > 0 || !shared.running().is_empty();
                idle = if is_needed { Duration::ZERO } else { idle + LOOK_EVERY };
            }
        }
    }
    beats.abort();
    orphans.abort();
    shared.orphans.end().await;
    teller.flush().await;
    for file in [&options.socket, &shared.left] {
        if let Err(error) = std::fs::remove_file(file) {
            tracing::debug!(%error, file = %file.display(), "a shim's file was gone");
        }
    }
    Ok(())
}

/// Asks every instance to end and waits until all have.
async fn end_all(shared: &Shared, grace: Duration) {
    let mut ends = shared.ends.subscribe();
    shared.orphans.trace();
    for instance in shared.instances().values_mut() {
        instance.status.is_stopping = true;
        let own = instance.stop_within.unwrap_or(grace);
        instance.stop.send_replace(Some(own.min(END_WITHIN_MAX)));
    }
    while !shared.running().is_empty() {
        if let Err(broadcast::error::RecvError::Closed) = ends.recv().await {
            return;
        }
    }
}

/// Serin, connected.
struct Connection {
    shared: Arc<Shared>,
    service: String,
    teller: Teller,
}

impl Connection {
    async fn serve(self, stream: UnixStream) {
        self.shared.connections.send_modify(|count| *count += 1);
        let (read, write) = stream.into_split();
        let (answers, to_write) = mpsc::channel(ENDS_QUEUE);
        let ends = self.shared.ends.subscribe();
        let writing = tokio::spawn(write_all(write, to_write, ends));
        if let Err(error) = self.answer(read, answers).await {
            tracing::debug!(%error, "the connection to Serin broke");
        }
        writing.abort();
        self.shared.connections.send_modify(|count| *count -= 1);
    }

    async fn answer(&self, read: OwnedReadHalf, answers: mpsc::Sender<Say>) -> std::io::Result<()> {
        let mut lines = BufReader::with_capacity(LINE_BYTES_MAX, read).lines();
        while let Some(line) = lines.next_line().await? {
            let Ok(ask) = serde_json::from_str::<Ask>(&line) else {
                // A newer Serin asks for something we do not know.
                let id = serde_json::from_str::<serde_json::Value>(&line);
                let say = Say {
                    id: id.ok().and_then(|ask| ask["id"].as_u64()),
                    error: Some(String::from("this shim is too old to understand that")),
                    ..Say::default()
                };
                if answers.send(say).await.is_err() {
                    break;
                }
                continue;
            };
            let say = Say {
                id: Some(ask.id),
                ..self.perform(ask.what)
            };
            if answers.send(say).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn perform(&self, what: What) -> Say {
        match what {
            What::List => Say {
                instances: self.shared.statuses(),
                ..Say::default()
            },
            // Whoever was asked to end all would wait for this one as well.
            What::Start(_) if self.shared.ending.borrow().is_some() => {
                refused(String::from("the shim ends"))
            }
            What::Start(launch) => Say {
                instances: vec![self.start(*launch)],
                ..Say::default()
            },
            What::Stop { instance, grace_ms } => {
                self.shared.orphans.trace();
                self.with(&instance, |one| {
                    one.status.is_stopping = true;
                    one.stop.send_replace(Some(Duration::from_millis(grace_ms)));
                })
            }
            What::Ready { instance } => self.with(&instance, |one| one.status.is_ready = true),
            What::Tail { instance } => match self.shared.instances().get(&instance) {
                Some(one) => Say {
                    lines: one.tail.lines(),
                    ..Say::default()
                },
                None => unknown(&instance),
            },
            What::End { grace_ms } => {
                let grace = Duration::from_millis(grace_ms);
                self.shared.ending.send_replace(Some(grace));
                Say::default()
            }
        }
    }

    fn with(&self, instance: &str, change: impl FnOnce(&mut Instance)) -> Say {
        match self.shared.instances().get_mut(instance) {
            Some(one) => {
                change(one);
                Say::default()
            }
            None => unknown(instance),
        }
    }

    /// Starts an instance; once again for a name is once only. One whose program cannot be started
    /// has ended, so that it is seen like any other that does.
    fn start(&self, launch: Launch) -> Status {
        if let Some(known) = self.shared.instances().get(&launch.instance) {
            return known.status.clone();
        }
        let now_us = self.shared.now_us;
        let group = launch.limits.are_any().then(|| {
            let name = format!("serin-{}-{}", std::process::id(), launch.instance);
            Group::make(&Ground::find(), &name, &launch.limits)
        });
        let held = group.as_ref().map(Group::held).cloned().unwrap_or_default();
        let tail = Tail::default();
        let spawned = free(launch.port).and_then(|()| {
            let mask = mask(&launch)?;
            Ok((spawn(&launch, group.as_ref())?, mask))
        });
        let mut status = Status {
            instance: launch.instance.clone(),
            version: launch.version.clone(),
            number: launch.number,
            pid: spawned
                .as_ref()
                .ok()
                .and_then(|(child, _)| child.id())
                .unwrap_or_default(),
            port: launch.port,
            started_us: now_us(),
            is_ready: false,
            is_stopping: false,
            limits: held.text,
            limits_missing: held.missing,
            exit: None,
        };
        if let Err(error) = &spawned {
            tail.push(&format!("cannot start {:?}: {error}", launch.command[0]));
            status.exit = Some(not_started(now_us()));
        }
        let (stop, stopped) = watch::channel(None);
        let marks = Marks::of(&launch);
        let orphans = &self.shared.orphans;
        orphans.began(&launch.instance, status.pid, marks.clone());
        let one = Instance {
            status: status.clone(),
            tail: tail.clone(),
            stop,
            stop_within: launch.stop_within_ms.map(Duration::from_millis),
            marks,
        };
        self.shared.instances().insert(launch.instance.clone(), one);
        self.shared.write_left();
        if let Ok((child, mask)) = spawned {
            self.attend(launch, child, group, (tail, mask), stopped);
        }
        status
    }

    /// Reads what an instance writes and waits for its end, beside the rest.
    fn attend(
        &self,
        launch: Launch,
        mut child: Child,
        group: Option<Group>,
        (tail, mask): (Tail, Mask),
        stopped: watch::Receiver<Option<Duration>>,
    ) {
        let now_us = self.shared.now_us;
        let (lines, told) = mpsc::channel(LINES_QUEUE);
        let mask = Arc::new(mask);
        let mut reading = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            reading.spawn(output::read(
                out,
                "stdout",
                tail.clone(),
                Arc::clone(&mask),
                lines.clone(),
                now_us,
            ));
        }
        if let Some(err) = child.stderr.take() {
            let (tail, lines) = (tail.clone(), lines.clone());
            reading.spawn(output::read(err, "stderr", tail, mask, lines, now_us));
        }
        let subject = subject::log(&self.service, &launch.version, &launch.instance);
        tokio::spawn(self.teller.clone().lines(subject, told));
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let processes = pid.and_then(Pid::from_raw);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let ending = wait(child, processes, launch.stop_signal, stopped, now_us);
            let (mut exit, outlived) = ending.await;
            shared.orphans.ended(&launch.instance);
            let marks = Marks::of(&launch);
            let strays = strays::end(marks.as_ref(), group.as_ref(), processes).await;
            shared.orphans.end().await;
            exit.was_out_of_memory = group.as_ref().is_some_and(Group::was_out_of_memory);
            drop(group);
            // Its last lines say why it ended; a process that escaped may hold the pipes.
            let all_read = async { while reading.join_next().await.is_some() {} };
            if tokio::time::timeout(READ_WITHIN, all_read).await.is_err() {
                reading.detach_all();
            }
            for text in remarks(outlived, strays) {
                tail.push(&text);
                if lines.try_send(output::remark(&text, now_us())).is_err() {
                    tracing::debug!(text, "no room for a line of ours");
                }
            }
            ended(&shared, &launch.instance, exit);
        });
    }
}

/// What is said of an end, beside how it ended: that it was not by itself, and what went with it.
fn remarks(outlived: Option<Duration>, strays: usize) -> impl Iterator<Item = String> {
    let outlived = outlived.map(|grace| {
        let grace_s = grace.as_secs_f64();
        format!("it had not ended {grace_s} s after it was asked to, and was killed")
    });
    let strays = match strays {
        0 => None,
        1 => Some(String::from(
            "1 process that it had started in a group of its own was ended with it",
        )),
        count => Some(format!(
            "{count} processes that it had started in groups of their own were ended with it"
        )),
    };
    outlived.into_iter().chain(strays)
}

/// That nobody else listens on a port: whoever does would be taken for the instance.
fn free(port: Option<u16>) -> std::io::Result<()> {
    let Some(port) = port else { return Ok(()) };
    match std::net::TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(std::io::Error::new(
            error.kind(),
            format!("port {port} is taken by another program; end that, or write another port"),
        )),
    }
}

/// Hides the secrets of an instance in what it writes.
fn mask(launch: &Launch) -> std::io::Result<Mask> {
    let secrets = launch.secrets.iter();
    let values = secrets.filter_map(|name| launch.env.get(name));
    Mask::of(values.map(String::as_str)).map_err(std::io::Error::other)
}

fn not_started(time_us: i64) -> Exit {
    Exit {
        time_us,
        code: Some(NOT_STARTED),
        signal: None,
        was_out_of_memory: false,
        was_with_shim: false,
    }
}

/// Remembers how an instance ended and tells it to whoever is connected.
fn ended(shared: &Shared, name: &str, exit: Exit) {
    let mut instances = shared.instances();
    let Some(one) = instances.get_mut(name) else {
        return;
    };
    one.status.exit = Some(exit);
    let status = one.status.clone();
    for oldest in forgotten(instances.values().map(|one| &one.status)) {
        instances.remove(&oldest);
    }
    drop(instances);
    shared.write_left();
    // Nobody may be connected: Serin asks for the list when it comes back.
    let heard = shared.ends.send(status).is_ok();
    tracing::debug!(name, heard, "an instance ended");
}

async fn write_all(
    mut write: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Say>,
    mut ends: broadcast::Receiver<Status>,
) {
    loop {
        let say = tokio::select! {
            answer = answers.recv() => match answer {
                Some(say) => say,
                None => return,
            },
            end = ends.recv() => match end {
                Ok(status) => Say { instances: vec![status], ..Say::default() },
                // What was missed is in the next list.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        let mut line = serde_json::to_vec(&say).unwrap_or_default();
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}

fn refused(error: String) -> Say {
    Say {
        error: Some(error),
        ..Say::default()
    }
}

fn unknown(instance: &str) -> Say {
    refused(format!("there is no instance {instance:?} here"))
}
