//! Answers from the bus, each to the request that waits for it.
//!
//! One subscription takes all answers; the last word of a reply's subject names the request. An
//! answer of many chunks comes as many messages, and NATS has no way to tell a service to slow down:
//! what a slow client has not taken yet waits here, up to bounds, beyond which its answer breaks off.
//! A chunk names a subject of its service: a message there says that nobody reads any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serin_wire::call;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Held};
use crate::counts::Counts;

/// Messages of one answer that wait for their client; at the SDKs' 512 KiB a chunk, 32 MiB.
const CHUNKS_MAX: usize = 64;
/// Services that wait to be told that nobody reads; one that is not is told at its next chunk.
const LEFT_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    prefix: String,
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Chunk>>>,
    budget: Arc<Budget>,
    counts: Arc<Counts>,
    left: mpsc::Sender<Subject>,
}

/// What comes from the bus, and what is to be told there; for [`run`].
#[derive(Debug)]
pub(crate) struct Answers {
    client: Client,
    subscriber: Subscriber,
    left: mpsc::Receiver<Subject>,
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
    /// Where its service learns that nobody reads; `None` where no more is to come.
    service: Option<Subject>,
}

impl Inbox {
    /// Begins to listen; [`run`] takes what comes.
    pub(crate) async fn open(
        client: &Client,
        budget: Arc<Budget>,
        counts: Arc<Counts>,
    ) -> Result<(Arc<Inbox>, Answers), async_nats::SubscribeError> {
        let prefix = client.new_inbox();
        let subscriber = client.subscribe(format!("{prefix}.*")).await?;
        let (tx, left) = mpsc::channel(LEFT_MAX);
        let inbox = Inbox {
            prefix,
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            budget,
            counts,
            left: tx,
        };
        let answers = Answers {
            client: client.clone(),
            subscriber,
            left,
        };
        Ok((Arc::new(inbox), answers))
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
            service: None,
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
        let service = message.reply.clone();
        let mut waiting = self.waiting();
        // Who asked may have given up.
        let Some(tx) = waiting.get(&number) else {
            self.leave(service);
            return;
        };
        let held = self.budget.hold(message.payload.len());
        let is_taken = held.is_some_and(|_held| tx.try_send(Chunk { message, _held }).is_ok());
        if !is_taken {
            waiting.remove(&number);
            self.counts.cut_answers.rise();
            self.leave(service);
        }
    }

    /// Has a service told that nobody reads its stream any more.
    fn leave(&self, service: Option<Subject>) {
        if let Some(service) = service
            && self.left.try_send(service).is_err()
        {
            tracing::debug!("a service is told with its next chunk that nobody reads");
        }
    }
}

/// Hands answers on until the gateway ends.
pub(crate) async fn run(inbox: Arc<Inbox>, mut answers: Answers, end: CancellationToken) {
    loop {
        tokio::select! {
            message = answers.subscriber.next() => match message {
                Some(message) => inbox.take(message),
                None => return,
            },
            Some(service) = answers.left.recv() => {
                if let Err(error) = answers.client.publish(service, Bytes::new()).await {
                    tracing::debug!(%error, "cannot tell a service that nobody reads");
                }
            }
            () = end.cancelled() => return,
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
        let chunk = self.chunks.recv().await?;
        let headers = chunk.message.headers.as_ref();
        let has_more = headers.is_some_and(|headers| headers.get(call::WEB_MORE).is_some());
        self.service = chunk.message.reply.clone().filter(|_| has_more);
        Some(chunk)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.inbox.waiting().remove(&self.number);
        self.inbox.leave(self.service.take());
    }
}
