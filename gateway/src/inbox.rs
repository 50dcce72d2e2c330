//! Answers from the bus, each to the request that waits for it.
//!
//! One subscription takes all answers; the last word of a reply's subject names the request. An
//! answer of many chunks comes as many messages, and NATS has no way to tell a service to slow down:
//! what a slow client has not taken yet waits here, up to bounds, beyond which its answer breaks off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Held};
use crate::counts::Counts;

/// Messages of one answer that wait for their client; at the SDKs' 512 KiB a chunk, 32 MiB.
const CHUNKS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    prefix: String,
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Chunk>>>,
    budget: Arc<Budget>,
    counts: Arc<Counts>,
}

/// A message of an answer.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) message: Message,
    _held: Held,
}

/// The messages that answer one request.
#[derive(Debug)]
pub(crate) struct Replies {
    inbox: Arc<Inbox>,
    number: u64,
    chunks: mpsc::Receiver<Chunk>,
}

impl Inbox {
    /// Begins to listen; [`run`] takes what comes.
    pub(crate) async fn open(
        client: &Client,
        budget: Arc<Budget>,
        counts: Arc<Counts>,
    ) -> Result<(Arc<Inbox>, Subscriber), async_nats::SubscribeError> {
        let prefix = client.new_inbox();
        let subscriber = client.subscribe(format!("{prefix}.*")).await?;
        let inbox = Inbox {
            prefix,
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            budget,
            counts,
        };
        Ok((Arc::new(inbox), subscriber))
    }

    /// A place for the answers to one request.
    pub(crate) fn expect(self: &Arc<Inbox>) -> Replies {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (tx, chunks) = mpsc::channel(CHUNKS_MAX);
        self.waiting().insert(number, tx);
        Replies {
            inbox: Arc::clone(self),
            number,
            chunks,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Chunk>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, message: Message) {
        let word = message.subject.as_str().rsplit('.').next();
        let Some(number) = word.and_then(|word| word.parse().ok()) else {
            return;
        };
        let mut waiting = self.waiting();
        // Who asked may have given up.
        let Some(tx) = waiting.get(&number) else {
            return;
        };
        let held = self.budget.hold(message.payload.len());
        let is_taken = held.is_some_and(|_held| tx.try_send(Chunk { message, _held }).is_ok());
        if !is_taken {
            waiting.remove(&number);
            self.counts.cut_answers.rise();
        }
    }
}

/// Hands answers on until the gateway ends.
pub(crate) async fn run(inbox: Arc<Inbox>, mut subscriber: Subscriber, end: CancellationToken) {
    loop {
        let message = tokio::select! {
            message = subscriber.next() => message,
            () = end.cancelled() => return,
        };
        match message {
            Some(message) => inbox.take(message),
            None => return,
        }
    }
}

impl Replies {
    /// Where the answers are to be sent.
    pub(crate) fn subject(&self) -> String {
        format!("{}.{}", self.inbox.prefix, self.number)
    }

    /// The next one; `None` where the client took the earlier ones too slowly.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        self.chunks.recv().await
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.inbox.waiting().remove(&self.number);
    }
}
