//! Serin's side of a shim: starts it where it does not run, asks it, hears its instances end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Ask, LINE_BYTES_MAX, Launch, Say, Status, What};

/// A shim answers at once; one that does not is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a shim could not be run or asked.
#[derive(Debug, Error)]
pub enum ShimError {
    /// Its socket or a file beside it.
    #[error("cannot use the socket {}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    /// Another shim has the socket.
    #[error("another shim runs on {}", .0.display())]
    Taken(PathBuf),
    /// The address of the bus is none.
    #[error("cannot connect to the bus")]
    Bus(#[source] async_nats::ConnectError),
    /// It went away.
    #[error("the shim of {0} went away")]
    Gone(String),
    /// It did not do what was asked.
    #[error("{0}")]
    Refused(String),
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Say>>>>;

/// A connection to a shim. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    service: String,
    next: Arc<AtomicU64>,
    waiting: Waiting,
    write: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
}

impl Client {
    /// Connects to the shim of a service; each end of an instance is sent to `ends`, which closes
    /// over with the connection.
    pub async fn connect(
        service: &str,
        socket: &Path,
        ends: mpsc::Sender<Status>,
    ) -> std::io::Result<Client> {
        let (read, write) = UnixStream::connect(socket).await?.into_split();
        let waiting = Waiting::default();
        tokio::spawn(hear(read, Arc::clone(&waiting), ends));
        Ok(Client {
            service: service.to_owned(),
            next: Arc::default(),
            waiting,
            write: Arc::new(tokio::sync::Mutex::new(write)),
        })
    }

    /// Every instance it knows, also the last that ended.
    pub async fn list(&self) -> Result<Vec<Status>, ShimError> {
        Ok(self.ask(What::List).await?.instances)
    }

    /// Starts an instance.
    pub async fn start(&self, launch: Launch) -> Result<Status, ShimError> {
        let said = self.ask(What::Start(Box::new(launch))).await?;
        let status = said.instances.into_iter().next();
        status.ok_or_else(|| ShimError::Gone(self.service.clone()))
    }

    /// Asks an instance to end; it is killed after the grace period.
    pub async fn stop(&self, instance: &str, grace: Duration) -> Result<(), ShimError> {
        let instance = instance.to_owned();
        let grace_ms = millis(grace);
        self.ask(What::Stop { instance, grace_ms }).await.map(drop)
    }

    /// Says that an instance takes work.
    pub async fn ready(&self, instance: &str) -> Result<(), ShimError> {
        let instance = instance.to_owned();
        self.ask(What::Ready { instance }).await.map(drop)
    }

    /// The last lines an instance wrote.
    pub async fn tail(&self, instance: &str) -> Result<Vec<String>, ShimError> {
        let instance = instance.to_owned();
        Ok(self.ask(What::Tail { instance }).await?.lines)
    }

    /// Ends all instances, and the shim.
    pub async fn end(&self, grace: Duration) -> Result<(), ShimError> {
        let grace_ms = millis(grace);
        self.ask(What::End { grace_ms }).await.map(drop)
    }

    async fn ask(&self, what: What) -> Result<Say, ShimError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(id, answer);
        let mut line = serde_json::to_vec(&Ask { id, what }).unwrap_or_default();
        line.push(b'\n');
        let asked = async {
            self.write.lock().await.write_all(&line).await.ok()?;
            answered.await.ok()
        };
        let said = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        self.waiting().remove(&id);
        match said.ok().flatten() {
            Some(Say {
                error: Some(error), ..
            }) => Err(ShimError::Refused(error)),
            Some(say) => Ok(say),
            None => Err(ShimError::Gone(self.service.clone())),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Say>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(grace: Duration) -> u64 {
    u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)
}

async fn hear(read: OwnedReadHalf, waiting: Waiting, ends: mpsc::Sender<Status>) {
    let mut lines = BufReader::with_capacity(LINE_BYTES_MAX, read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(mut say) = serde_json::from_str::<Say>(&line) else {
            continue;
        };
        match say.id {
            Some(id) => {
                let asked = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
                // Who asked may have given up.
                if let Some(asked) = asked
                    && asked.send(say).is_err()
                {
                    tracing::debug!(id, "an answer of a shim came too late");
                }
            }
            None => {
                for status in say.instances.drain(..) {
                    if ends.send(status).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    // Whoever still waits learns that nothing comes.
    waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}
