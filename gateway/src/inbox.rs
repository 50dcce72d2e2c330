//! Answers from the bus, each to the request that waits for it.
//!
//! One subscription takes all answers; the last word of a reply's subject names the request. An
//! answer of many chunks comes as many messages. A chunk names a subject of its service, where it is
//! told how many were taken, so that it waits for a slow client, or that nobody reads any more. Of a
//! service that does not wait, what its client has not taken is kept here, up to bounds, beyond which
//! its answer breaks off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serin_wire::call;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Held};
use crate::counts::Counts;

/// Messages of one answer that wait for their client; at the SDKs' 512 KiB a chunk, 32 MiB.
const CHUNKS_MAX: usize = 64;
/// Messages of an answer that a service may be ahead of its client; below the bound, for those that
/// are on their way.
pub(crate) const WINDOW: u64 = 32;
/// A service is told after this many, so that it need not stop.
const TOLD_EVERY: u64 = WINDOW / 2;
/// Services that wait to be told something; one that is not is told with its next chunk.
const SAID_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    prefix: String,
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Chunk>>>,
    budget: Arc<Budget>,
    counts: Arc<Counts>,
    said: mpsc::Sender<Said>,
}

/// Something for a service that sends an answer.
#[derive(Debug)]
struct Said {
    service: Subject,
    /// How many messages its client took; `None` where nobody reads any more.
    taken: Option<u64>,
}

/// What comes from the bus, and what is to be told there; for [`run`].
#[derive(Debug)]
pub(crate) struct Answers {
    client: Client,
    subscriber: Subscriber,
    said: mpsc::Receiver<Said>,
}

/// A message of an answer.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) message: Message,
    held: Held,
}

/// What is held of a message until its client took it.
struct Owned {
    payload: Bytes,
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
    taken: u64,
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
        let (tx, said) = mpsc::channel(SAID_MAX);
        let inbox = Inbox {
            prefix,
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            budget,
            counts,
            said: tx,
        };
        let answers = Answers {
            client: client.clone(),
            subscriber,
            said,
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
            taken: 0,
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
            self.say(service, None);
            return;
        };
        let held = self.budget.hold(message.payload.len());
        let is_taken = held.is_some_and(|held| tx.try_send(Chunk { message, held }).is_ok());
        if !is_taken {
            waiting.remove(&number);
            self.counts.cut_answers.rise();
            self.say(service, None);
        }
    }

    /// Has a service told what became of its answer so far.
    fn say(&self, service: Option<Subject>, taken: Option<u64>) {
        if let Some(service) = service
            && self.said.try_send(Said { service, taken }).is_err()
        {
            tracing::debug!("a service is told with its next chunk how its answer goes");
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
            Some(Said { service, taken }) = answers.said.recv() => {
                let mut headers = HeaderMap::new();
                if let Some(taken) = taken {
                    headers.insert(call::WEB_TAKEN, taken.to_string());
                }
                let told = answers.client.publish_with_headers(service, headers, Bytes::new());
                if let Err(error) = told.await {
                    tracing::debug!(%error, "cannot tell a service how its answer goes");
                }
            }
            () = end.cancelled() => return,
        }
    }
}

impl Chunk {
    /// What it carries, which counts as held for as long as any of it is kept.
    pub(crate) fn into_payload(self) -> Bytes {
        Bytes::from_owner(Owned {
            payload: self.message.payload,
            _held: self.held,
        })
    }
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Replies {
    /// Where the answers are to be sent.
    pub(crate) fn subject(&self) -> String {
        format!("{}.{}", self.inbox.prefix, self.number)
    }

    /// The next one; `None` where there was no room for it, or the client took the earlier ones too
    /// slowly.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.recv().await?;
        let headers = chunk.message.headers.as_ref();
        let has_more = headers.is_some_and(|headers| headers.get(call::WEB_MORE).is_some());
        self.service = chunk.message.reply.clone().filter(|_| has_more);
        self.taken += 1;
        if self.taken.is_multiple_of(TOLD_EVERY) {
            self.inbox.say(self.service.clone(), Some(self.taken));
        }
        Some(chunk)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.inbox.waiting().remove(&self.number);
        self.inbox.say(self.service.take(), None);
    }
}
