//! Serin's connection to a process of the gateway.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Ask, Hello, Say, line};

/// A process says who it is at once; one that does not hangs.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// A process lets its requests finish for ten seconds; one that takes longer hangs.
const CLOSE_WITHIN: Duration = Duration::from_secs(12);
/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Why the gateway is not there.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// Somebody else has the address.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its program cannot be started.
    #[error("cannot start the gateway, {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its process ended at once.
    #[error("the gateway ended at once, {0}")]
    Ended(std::process::ExitStatus),
    /// It said why it cannot serve.
    #[error("the gateway cannot serve: {0}")]
    Failed(String),
    /// Nobody answers on its socket.
    #[error("no gateway answers on {}", .0.display())]
    Nobody(PathBuf),
    /// It does not answer.
    #[error("the gateway does not answer")]
    Silent,
}

/// A connection to one process.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) hello: Hello,
    pid: Option<Pid>,
    write: OwnedWriteHalf,
    lines: Lines<BufReader<OwnedReadHalf>>,
}

impl Link {
    /// Connects to the process whose socket this is; one that hangs is ended.
    pub(super) async fn connect(socket: &Path) -> Result<Link, SupervisorError> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|_| SupervisorError::Nobody(socket.to_path_buf()))?;
        let credentials = stream.peer_cred().ok();
        let pid = credentials.and_then(|peer| Pid::from_raw(peer.pid()?));
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let said = tokio::time::timeout(HELLO_WITHIN, hear(&mut lines)).await;
        match said {
            Ok(Some(Say::Hello(hello))) => Ok(Link {
                hello,
                pid,
                write,
                lines,
            }),
            Ok(Some(Say::Failed { why })) => Err(SupervisorError::Failed(why)),
            Ok(_) => Err(SupervisorError::Nobody(socket.to_path_buf())),
            Err(_) => {
                kill(pid);
                Err(SupervisorError::Silent)
            }
        }
    }

    /// Its process; absent where the system does not tell.
    pub(super) fn pid(&self) -> Option<i32> {
        self.pid.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Asks; an answer is heard later.
    pub(super) async fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        self.write.write_all(&line(ask)).await
    }

    /// What it says next; `None` once it is gone.
    pub(super) async fn hear(&mut self) -> Option<Say> {
        hear(&mut self.lines).await
    }

    /// Has it end, and returns when it is gone.
    pub(super) async fn close(mut self, is_replaced: bool) {
        let closing = async {
            if self.ask(&Ask::Close { is_replaced }).await.is_ok() {
                while self.hear().await.is_some() {}
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
            tracing::warn!("the gateway does not end; it is killed");
            self.kill().await;
        }
    }

    /// Ends it at once.
    pub(super) async fn kill(mut self) {
        kill(self.pid);
        let gone = async { while self.hear().await.is_some() {} };
        if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() {
            tracing::error!("the gateway cannot be killed");
        }
    }
}

/// The next thing it says that we understand.
async fn hear(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> Option<Say> {
    loop {
        let line = lines.next_line().await.ok().flatten()?;
        if let Ok(say) = serde_json::from_str(&line) {
            return Some(say);
        }
    }
}

fn kill(pid: Option<Pid>) {
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        tracing::debug!(%error, "the gateway was gone already");
    }
}
