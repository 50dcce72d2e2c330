//! The process of the gateway: a listener that it was given, a socket for Serin, and the gateway.
//!
//! It serves from the first table on. Serin may go and come back, in another version: what was told
//! last stays in force meanwhile. One that started another program on its listener goes on until that
//! one serves, and takes its socket back from one that ends before. Start at [`run`].

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serin_wire::causes::sentence;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::protocol::{Ask, Hello, Say, line};
use crate::gateway::{Gateway, OpenError, Options, Parts};
use crate::serve::ACCEPT_PAUSE;
use crate::table::Table;

/// Questions that wait: Serin asks one after the other.
const ASKS_QUEUE: usize = 16;
/// What waits to be said to a Serin that does not read; the rest it asks for again.
const SAYS_QUEUE: usize = 64;
const STATS_EVERY: Duration = Duration::from_secs(1);
/// How long Serin may take to hear why we end.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// What the process is given.
#[derive(Debug)]
pub struct ProcessOptions {
    /// Where clients come in.
    pub listener: TcpListener,
    /// Where Serin finds it.
    pub socket: PathBuf,
    /// The bus, with credentials.
    pub bus: String,
    /// Tells this program from another one.
    pub build: String,
    /// How the gateway works.
    pub gateway: Options,
}

/// Why the process ended before it was told to.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// Its socket or its listener.
    #[error("cannot use the socket {}", .0.display())]
    Socket(PathBuf, #[source] io::Error),
    /// The gateway did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A question, and who asked.
type Asked = (Ask, mpsc::Sender<Say>);

/// Serves until it is told to close, by Serin or by SIGTERM.
pub async fn run(options: ProcessOptions) -> Result<(), ProcessError> {
    let io = |source| ProcessError::Socket(options.socket.clone(), source);
    let heir = options.listener.try_clone().map_err(io)?;
    let hello = Hello {
        build: options.build,
        address: options.listener.local_addr().map_err(io)?,
        bus: options.bus.clone(),
    };
    options.listener.set_nonblocking(true).map_err(io)?;
    let listener = tokio::net::TcpListener::from_std(options.listener).map_err(io)?;
    let mut control = listen(&options.socket).map_err(io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut ticks = tokio::time::interval(STATS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (asks, mut asked) = mpsc::channel::<Asked>(ASKS_QUEUE);
    let mut connections = JoinSet::new();
    let mut says: Vec<mpsc::Sender<Say>> = Vec::new();
    let mut serving = Serving::new(listener, options.bus, options.gateway);
    let mut follower: Option<Child> = None;
    let mut handing_over = JoinSet::new();
    let is_replaced = loop {
        tokio::select! {
            accepted = control.accept() => match accepted {
                Ok((stream, _)) => {
                    let (say, to_say) = mpsc::channel(SAYS_QUEUE);
                    tell(&say, Say::Hello(hello.clone()));
                    connections.spawn(connection(stream, asks.clone(), say.clone(), to_say));
                    says.push(say);
                }
                // Clients have all file descriptors: no reason to leave them.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of Serin");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            heard = asked.recv() => match heard {
                Some((Ask::Table(table), say)) => {
                    let revision = table.revision;
                    if let Err(error) = serving.take(table).await {
                        tell(&say, Say::Failed { why: sentence(&error) });
                        // Heard before the connection ends with us: Serin closes it then.
                        let heard = async { while connections.join_next().await.is_some() {} };
                        drop(tokio::time::timeout(HEARD_WITHIN, heard).await);
                        return Err(error.into());
                    }
                    tell(&say, Say::Taken { revision });
                }
                Some((Ask::Replace { program, bus }, _)) => {
                    end(follower.take()).await;
                    follower = replace(&program, &options.socket, &bus, &heir);
                    // Serin tells us to close then; but it may be killed before.
                    if handing_over.is_empty() {
                        handing_over.spawn(serves(options.socket.clone(), hello.clone()));
                    }
                }
                Some((Ask::Close { is_replaced }, _)) => {
                    if !is_replaced {
                        // It would have the address when another one is started there.
                        end(follower.take()).await;
                    }
                    break is_replaced;
                }
                None => break false,
            },
            _ = ticks.tick() => {
                says.retain(|say| !say.is_closed());
                if let Some(gateway) = &serving.gateway {
                    for say in &says {
                        tell(say, Say::Stats(gateway.stats()));
                    }
                }
                while connections.try_join_next().is_some() {}
            }
            () = ended(&mut follower) => {
                follower = None;
                // Nobody would find us by the socket of one that is gone.
                if UnixStream::connect(&options.socket).await.is_err() {
                    control = listen(&options.socket).map_err(io)?;
                }
            }
            Some(_) = handing_over.join_next() => break true,
            _ = terminate.recv() => break false,
        }
    };
    if !is_replaced && let Err(error) = std::fs::remove_file(&options.socket) {
        tracing::debug!(%error, "the socket of the gateway was gone");
    }
    if let Some(gateway) = serving.gateway.take() {
        let cut = match is_replaced {
            true => gateway.hand_over().await,
            false => gateway.close().await,
        };
        tracing::info!(cut, is_replaced, "the gateway ends");
    }
    Ok(())
}

/// The gateway, once there is a table.
struct Serving {
    /// Until it is opened.
    listener: Option<tokio::net::TcpListener>,
    gateway: Option<Gateway>,
    bus: String,
    options: Options,
    tables: watch::Sender<Arc<Table>>,
    /// Counts tables of every Serin that came.
    revision: u64,
}

impl Serving {
    fn new(listener: tokio::net::TcpListener, bus: String, options: Options) -> Serving {
        Serving {
            listener: Some(listener),
            gateway: None,
            bus,
            options,
            tables: watch::Sender::default(),
            revision: 0,
        }
    }

    /// Returns once new requests go by this table.
    async fn take(&mut self, table: Table) -> Result<(), OpenError> {
        self.revision += 1;
        let revision = self.revision;
        self.tables
            .send_replace(Arc::new(Table { revision, ..table }));
        if let Some(listener) = self.listener.take() {
            let parts = Parts {
                bus: self.bus.clone(),
                tables: self.tables.subscribe(),
            };
            self.gateway = Some(Gateway::open(listener, parts, self.options.clone()).await?);
        }
        if let Some(gateway) = &self.gateway {
            gateway.taken(revision).await;
        }
        Ok(())
    }
}

/// Opens the socket; one of a process before us is put aside in one step.
pub(super) fn listen(socket: &Path) -> io::Result<UnixListener> {
    let aside = socket.with_extension("new");
    if let Err(error) = std::fs::remove_file(&aside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&aside)?;
    std::fs::rename(&aside, socket)?;
    Ok(listener)
}

/// Starts another program on our listener; Serin finds out whether it works.
fn replace(program: &Path, socket: &Path, bus: &str, listener: &TcpListener) -> Option<Child> {
    let started = listener
        .try_clone()
        .and_then(|listener| command(program, socket, bus, listener).spawn());
    match started {
        Ok(child) => {
            tracing::info!(pid = child.id(), "started the gateway that follows");
            Some(child)
        }
        Err(error) => {
            tracing::error!(%error, program = %program.display(), "cannot start it");
            None
        }
    }
}

/// Returns once the gateway that follows has ended; never where there is none.
async fn ended(follower: &mut Option<Child>) {
    match follower {
        // An error would mean that it was buried already.
        Some(child) => drop(child.wait().await),
        None => std::future::pending().await,
    }
}

/// Ends a gateway that was to follow and does not serve.
async fn end(follower: Option<Child>) {
    if let Some(mut child) = follower
        && let Err(error) = child.kill().await
    {
        tracing::error!(%error, "the gateway that was to follow cannot be killed");
    }
}

/// Returns once another process than ours has the socket and serves: it says then what it counts, to
/// whoever listens.
async fn serves(socket: PathBuf, own: Hello) {
    loop {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let mut lines = BufReader::new(stream).lines();
            let mut says = async || lines.next_line().await.ok().flatten();
            let hello = says().await;
            let hello = hello.and_then(|hello| serde_json::from_str(&hello).ok());
            let is_other = matches!(hello, Some(Say::Hello(hello)) if hello != own);
            if is_other && says().await.is_some() {
                return;
            }
        }
        tokio::time::sleep(STATS_EVERY).await;
    }
}

/// The command that runs a gateway on a listener.
pub(super) fn command(program: &Path, socket: &Path, bus: &str, listener: TcpListener) -> Command {
    let mut command = Command::new(program);
    command
        .args(["gateway", "--socket"])
        .arg(socket)
        .env("SERIN_BUS", bus)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// One Serin: what it asks goes to the process, what is said goes to it.
async fn connection(
    stream: UnixStream,
    asks: mpsc::Sender<Asked>,
    say: mpsc::Sender<Say>,
    mut to_say: mpsc::Receiver<Say>,
) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let hearing = async move {
        while let Ok(Some(text)) = lines.next_line().await {
            // A newer Serin may ask for what we do not know: it replaces us anyway.
            let Ok(ask) = serde_json::from_str(&text) else {
                continue;
            };
            if asks.send((ask, say.clone())).await.is_err() {
                return;
            }
        }
    };
    let saying = async move {
        while let Some(say) = to_say.recv().await {
            if write.write_all(&line(&say)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hearing => {}
        () = saying => {}
    }
}

/// Says something, unless Serin does not listen.
fn tell(say: &mpsc::Sender<Say>, what: Say) {
    if let Err(error) = say.try_send(what) {
        tracing::debug!(%error, "Serin does not listen");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::counts::GatewayStats;
    use crate::process::link::Link;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Running {
        folder: tempfile::TempDir,
        socket: PathBuf,
        link: Link,
        running: tokio::task::JoinHandle<Result<(), ProcessError>>,
    }

    /// A process that serves nobody yet.
    async fn running() -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("gateway.sock");
        let running = tokio::spawn(run(ProcessOptions {
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
            socket: socket.clone(),
            bus: String::new(),
            build: "old".into(),
            gateway: Options::new("v1", || 0, || [0; 32]),
        }));
        let link = found(&socket).await;
        Running {
            folder,
            socket,
            link,
            running,
        }
    }

    /// A script as a program. Another process writes it: what a child of ours has open for writing for a
    /// moment, because it was forked just then, cannot be run.
    pub(in crate::process) fn program(folder: &Path, script: &str) -> PathBuf {
        let (text, program) = (folder.join("script"), folder.join("program"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("written");
        let mut install = std::process::Command::new("install");
        let installed = install.args(["-m", "700"]).args([&text, &program]).status();
        assert!(installed.expect("run").success());
        program
    }

    /// The process that has the socket, once there is one.
    async fn found(socket: &Path) -> Link {
        let finding = async {
            loop {
                match Link::connect(socket).await {
                    Ok(link) => return link,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, finding).await;
        found.expect("in time")
    }

    impl Running {
        /// Asks for another program, a script.
        async fn replace(&mut self, script: &str) {
            let program = program(self.folder.path(), script);
            let bus = String::new();
            let asked = self.link.ask(&Ask::Replace { program, bus }).await;
            asked.expect("it listens");
        }

        async fn is_over(&mut self) {
            let ended = tokio::time::timeout(PATIENCE, &mut self.running).await;
            let ended = ended.expect("in time").expect("no panic");
            ended.expect("it ends well");
        }
    }

    #[tokio::test]
    async fn one_that_is_followed_ends_once_the_next_one_serves_though_nobody_says_so() {
        let mut process = running().await;
        process.replace("").await;
        let next = listen(&process.socket).expect("another one opens its socket");
        let (mut stream, _) = next.accept().await.expect("it is looked at");
        let hello = Hello {
            build: "new".into(),
            ..process.link.hello.clone()
        };
        let says = line(&Say::Hello(hello));
        stream.write_all(&says).await.expect("heard");
        assert!(!process.running.is_finished(), "the next one has no table");
        let says = line(&Say::Stats(GatewayStats::default()));
        stream.write_all(&says).await.expect("heard");
        process.is_over().await;
        assert!(process.socket.exists(), "it is the next one's");
    }

    #[tokio::test]
    async fn one_that_was_to_follow_and_ends_gives_the_socket_back() {
        let mut process = running().await;
        let gate = process.folder.path().join("gate");
        let waits = format!("until [ -e {} ]; do sleep 0.01; done", gate.display());
        process.replace(&waits).await;
        drop(listen(&process.socket).expect("it opens its socket"));
        assert!(UnixStream::connect(&process.socket).await.is_err());
        std::fs::write(gate, "").expect("written");
        let again = found(&process.socket).await;
        assert_eq!(again.hello, process.link.hello);
        again.close(false).await;
        process.is_over().await;
    }

    #[tokio::test]
    async fn one_that_is_closed_takes_along_who_was_to_follow() {
        let mut process = running().await;
        let address = process.link.hello.address;
        let begun = process.folder.path().join("begun");
        let begins = format!("touch {}; exec sleep 60", begun.display());
        process.replace(&begins).await;
        let beginning = async {
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let begun = tokio::time::timeout(PATIENCE, beginning).await;
        begun.expect("it begins");
        let asked = process.link.ask(&Ask::Close { is_replaced: false }).await;
        asked.expect("it listens");
        process.is_over().await;
        TcpListener::bind(address).expect("nobody has the address");
    }
}
