//! Sends a request and waits for its answer, over a connection of its own.
//!
//! All answers come to one inbox and are told apart by a token; who stops waiting takes the token
//! back, so that nothing piles up. A request is only handed over while the connection stands: what
//! was never sent surely did not run. Retrying is not decided here; see `mod.rs`.
//!
//! Whoever takes a call tells it, and answers no later than at its deadline. So what is told of a call
//! without an answer waits here a moment longer: an answer that comes after all takes it back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serin_wire::Request;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

/// After a bus came back, services may take this long to listen again: twice the longest pause
/// between their tries to connect, and some.
const SETTLES_WITHIN: Duration = Duration::from_millis(1_500);

/// An answer at the deadline is on its way for so long at most, also on a busy machine; who answers later
/// is told twice.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// What whoever reads an answer may say before it is heard; each says all that those before it did.
const SAID_MAX: usize = 64;

/// Whether the connection stands, and which one it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) is_up: bool,
    /// Counts up with each connection.
    pub(crate) connection: u64,
    /// When it was found again; `None` for the first.
    pub(crate) found_again: Option<Instant>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody serves the subject.
    NoResponders,
    /// No answer in time; it may have run. The token is for [`Post::tell_unless_answered`].
    Late(u64),
    /// The connection broke after sending; it may have run.
    Broken,
    /// The bus was away all the time; it was not sent.
    Away,
    /// It is larger than the bus takes; it was not sent.
    TooLarge,
}

/// A request before it is sent.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When we stop waiting.
    pub(crate) until: Instant,
    /// Whether a connection that breaks ends the waiting; else the answer may still come.
    pub(crate) gives_up_when_broken: bool,
    /// Whether it is told where there is no answer.
    pub(crate) is_told: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) client: Client,
    pub(crate) line: watch::Receiver<Line>,
    inbox: String,
    tokens: AtomicU64,
    waiting: Mutex<HashMap<u64, Taker>>,
    /// Told where a call without an answer waits to be told.
    pub(crate) has_unanswered: Notify,
}

/// Who takes the messages of a token.
#[derive(Debug)]
enum Taker {
    Once(oneshot::Sender<Message>),
    Many(mpsc::Sender<Message>),
    /// Nobody does any more, since then; what is to be told unless an answer comes. There are no more
    /// of these than calls ended within the last moment.
    Nobody(Instant, Option<Box<Request<'static>>>),
}

/// A subject of ours that whoever reads an answer of many messages knows.
pub(crate) struct Reader<'a> {
    pub(crate) subject: String,
    /// What is said there.
    pub(crate) said: mpsc::Receiver<Message>,
    _waiting: Waiting<'a>,
}

/// Takes the token back when the waiting ends, however it ends, unless it is to be told.
struct Waiting<'a> {
    post: &'a Post,
    token: u64,
}

impl Post {
    pub(crate) fn new(client: Client, line: watch::Receiver<Line>) -> Post {
        Post {
            inbox: client.new_inbox(),
            client,
            line,
            tokens: AtomicU64::new(0),
            waiting: Mutex::new(HashMap::new()),
            has_unanswered: Notify::new(),
        }
    }

    /// What must be subscribed, and given to [`Post::deliver`].
    pub(crate) fn inbox(&self) -> String {
        format!("{}.*", self.inbox)
    }

    /// Hands an answer to whoever waits for it; one that comes too late finds nobody.
    pub(crate) fn deliver(&self, message: Message) {
        let token = message.subject.rsplit('.').next();
        let token = token.and_then(|token| token.parse().ok());
        let Some(token) = token else { return };
        let mut waiting = self.waiting();
        if let Some(Taker::Many(many)) = waiting.get(&token) {
            if many.try_send(message).is_err() {
                tracing::trace!("what is said of an answer is said again");
            }
        } else if let Some(Taker::Once(once)) = waiting.remove(&token)
            && once.send(message).is_err()
        {
            tracing::trace!("an answer came when nobody waited any more");
        }
    }

    /// Sends and waits.
    pub(crate) async fn send(&self, letter: Letter) -> Result<Message, Lost> {
        let connection = self.connected(letter.until).await?;
        let (token, mut answer, _waiting) = self.register();
        let reply = format!("{}.{token}", self.inbox);
        let handed = self.client.publish_with_reply_and_headers(
            letter.subject,
            reply,
            letter.headers,
            letter.body,
        );
        match tokio::time::timeout_at(letter.until, handed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(Lost::TooLarge);
            }
            Ok(Err(_)) | Err(_) => return Err(Lost::Away),
        }
        let message = tokio::select! {
            biased;
            message = &mut answer => message.map_err(|_| Lost::Broken)?,
            () = self.broken(connection), if letter.gives_up_when_broken => return Err(Lost::Broken),
            () = tokio::time::sleep_until(letter.until) => {
                self.give_up(token, &mut answer, letter.is_told)?
            }
        };
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => Err(Lost::NoResponders),
            _ => Ok(message),
        }
    }

    /// Waits no longer; the answer where it came this very moment.
    fn give_up(
        &self,
        token: u64,
        answer: &mut oneshot::Receiver<Message>,
        is_told: bool,
    ) -> Result<Message, Lost> {
        let mut waiting = self.waiting();
        answer.try_recv().map_err(|_| {
            if is_told {
                waiting.insert(token, Taker::Nobody(Instant::now(), None));
            }
            Lost::Late(token)
        })
    }

    /// Has a call told that was late, unless an answer shows that its service tells it.
    pub(crate) fn tell_unless_answered(&self, token: u64, row: Request<'static>) {
        if let Some(Taker::Nobody(_, untold)) = self.waiting().get_mut(&token) {
            *untold = Some(Box::new(row));
        }
        self.has_unanswered.notify_one();
    }

    /// What is to be told of calls that nobody answered, of those that were given up before `since`.
    pub(crate) fn unanswered(&self, since: Instant) -> Vec<Request<'static>> {
        let mut waiting = self.waiting();
        let is_over = |_: &u64, taker: &mut Taker| matches!(taker, Taker::Nobody(gave_up, _) if *gave_up <= since);
        let rows = waiting
            .extract_if(is_over)
            .filter_map(|(_, taker)| match taker {
                Taker::Nobody(_, row) => row.map(|row| *row),
                Taker::Once(_) | Taker::Many(_) => None,
            });
        rows.collect()
    }

    /// Whoever reads an answer of many messages that begins.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let (many, said) = mpsc::channel(SAID_MAX);
        let waiting = self.register_taker(Taker::Many(many));
        Reader {
            subject: format!("{}.{}", self.inbox, waiting.token),
            said,
            _waiting: waiting,
        }
    }

    /// Returns once the server has handled all that was sent before: it does so in order.
    pub(crate) async fn round_trip(&self, until: Instant) -> Result<(), Lost> {
        self.connected(until).await?;
        let (token, answer, _waiting) = self.register();
        let sent = self
            .client
            .publish(format!("{}.{token}", self.inbox), Bytes::new());
        let back = async { sent.await.is_ok() && answer.await.is_ok() };
        match tokio::time::timeout_at(until, back).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Lost::Broken),
            Err(_) => Err(Lost::Late(token)),
        }
    }

    /// The connection that stands now, or within the time.
    pub(crate) async fn connected(&self, until: Instant) -> Result<u64, Lost> {
        let now = *self.line.borrow();
        if now.is_up {
            return Ok(now.connection);
        }
        let mut line = self.line.clone();
        let up = line.wait_for(|line| line.is_up);
        match tokio::time::timeout_at(until, up).await {
            Ok(Ok(line)) => Ok(line.connection),
            Ok(Err(_)) | Err(_) => Err(Lost::Away),
        }
    }

    /// Whether the bus just came back, so that who serves may still be on the way.
    pub(crate) fn is_settling(&self) -> bool {
        let found_again = self.line.borrow().found_again;
        found_again.is_some_and(|found| found.elapsed() < SETTLES_WITHIN)
    }

    async fn broken(&self, connection: u64) {
        let mut line = self.line.clone();
        let is_other = |line: &Line| !line.is_up || line.connection != connection;
        if line.wait_for(is_other).await.is_err() {
            tracing::trace!("the connection for calls is closed");
        }
    }

    fn register(&self) -> (u64, oneshot::Receiver<Message>, Waiting<'_>) {
        let (tx, rx) = oneshot::channel();
        let waiting = self.register_taker(Taker::Once(tx));
        (waiting.token, rx, waiting)
    }

    fn register_taker(&self, taker: Taker) -> Waiting<'_> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        self.waiting().insert(token, taker);
        Waiting { post: self, token }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Taker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.post.waiting();
        if !matches!(waiting.get(&self.token), Some(Taker::Nobody(..))) {
            waiting.remove(&self.token);
        }
    }
}
