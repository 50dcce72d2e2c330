//! The process of the gateway: a listener that it was given, a socket for Serin, and the gateway.
//!
//! It serves from the first table on. Serin may go and come back, in another version: what was told
//! last stays in force meanwhile. Start at [`run`].

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
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::protocol::{Ask, Hello, Say, line};
use crate::gateway::{Gateway, OpenError, Options, Parts};
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
    let control = listen(&options.socket).map_err(io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut ticks = tokio::time::interval(STATS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (asks, mut asked) = mpsc::channel::<Asked>(ASKS_QUEUE);
    let mut connections = JoinSet::new();
    let mut says: Vec<mpsc::Sender<Say>> = Vec::new();
    let mut serving = Serving::new(listener, options.bus, options.gateway);
    let is_replaced = loop {
        tokio::select! {
            accepted = control.accept() => {
                let (stream, _) = accepted.map_err(io)?;
                let (say, to_say) = mpsc::channel(SAYS_QUEUE);
                tell(&say, Say::Hello(hello.clone()));
                connections.spawn(connection(stream, asks.clone(), say.clone(), to_say));
                says.push(say);
            }
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
                    replace(&program, &options.socket, &bus, &heir);
                }
                Some((Ask::Close { is_replaced }, _)) => break is_replaced,
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
fn listen(socket: &Path) -> io::Result<UnixListener> {
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
fn replace(program: &Path, socket: &Path, bus: &str, listener: &TcpListener) {
    let started = listener
        .try_clone()
        .and_then(|listener| command(program, socket, bus, listener).spawn());
    match started {
        // Buried by tokio, as long as we are there.
        Ok(child) => tracing::info!(pid = child.id(), "started the gateway that follows"),
        Err(error) => tracing::error!(%error, program = %program.display(), "cannot start it"),
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
