//! Sends batches in order and keeps each until the bus has acknowledged it.
//!
//! Runs on a thread of its own. A few messages are under way at a time; when one is refused, times out
//! or the connection breaks, all that are not acknowledged are sent again in order, under the same
//! numbers, one at a time until one is taken. What was under way with a refused one, or was still held
//! by the client when its connection broke, may overtake it, and the numbers tell. While the bus is
//! away, batches go to disk. async-nats queues 2,048 messages while disconnected and then blocks for
//! ever, so nothing is handed to it unless it is connected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serin_connect::ack;
use serin_wire::batch;
use serin_wire::{Number, subject};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::dropped::Reason;
use crate::queue::Batch;
use crate::shared::Shared;
use crate::spill::Spill;

/// An open batch waits this long for more events; longer while the bus is away.
const SEAL_AFTER: Duration = Duration::from_millis(25);
const SEAL_AFTER_AWAY: Duration = Duration::from_secs(1);
/// Messages under way: enough to keep the disk of the bus busy, few to send again.
const WINDOW: usize = 8;
/// An acknowledgement that takes longer is not awaited.
pub(crate) const ACK_WITHIN: Duration = Duration::from_secs(5);
/// A refused message is sent again after this, doubling up to the second.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// The client takes a message into its buffer at once, or something is wrong.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);
/// Spans and requests go out this often, or when half of their room is taken.
const TELEMETRY_EVERY: Duration = Duration::from_millis(250);
/// The longest sleep: a full disk is tried again, and a lost wake-up would do no harm.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes one of the subjects of telemetry.
type Subject = fn(&str, &str, &str) -> String;

/// The sender.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    client: Client,
    /// Acknowledgements come to `<inbox>.<number>`.
    inbox: String,
    window: VecDeque<Flight>,
    spill: Option<Spill>,
    /// The open batch, and when it was first seen.
    open_since: Option<(u64, Instant)>,
    retry_at: Option<Instant>,
    /// When the disk, which refused or was full, is tried again.
    disk_again_at: Option<Instant>,
    is_disk_failing: bool,
    backoff: Duration,
    telemetry_at: Instant,
    is_stopping: bool,
}

/// A batch in our hands.
struct Flight {
    batch: Batch,
    /// Whether its bytes count as the queue's.
    is_held: bool,
    is_on_disk: bool,
    is_acked: bool,
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    connection: u64,
}

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>, client: Client, spill: Option<Spill>) -> Sender {
        Sender {
            inbox: client.new_inbox(),
            shared,
            client,
            window: VecDeque::new(),
            spill,
            open_since: None,
            retry_at: None,
            disk_again_at: None,
            is_disk_failing: false,
            backoff: BACKOFF[0],
            telemetry_at: Instant::now(),
            is_stopping: false,
        }
    }

    /// Runs until it is told a deadline by which to be done; whether everything was acknowledged.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<Option<Instant>>) -> bool {
        let subscribed = self.client.subscribe(format!("{}.*", self.inbox)).await;
        let mut acks = match subscribed {
            Ok(acks) => acks,
            Err(error) => {
                tracing::error!(%error, "cannot listen for acknowledgements");
                return false;
            }
        };
        let mut deadline = None;
        loop {
            self.step().await;
            self.is_stopping = deadline.is_some();
            let wake_at = match deadline {
                Some(deadline) if self.is_done() || Instant::now() >= deadline => break,
                Some(deadline) => self.wake_at().min(deadline),
                None => self.wake_at(),
            };
            tokio::select! {
                ack = acks.next() => match ack {
                    Some(ack) => self.take_acks(ack, &mut acks),
                    None => break,
                },
                () = self.shared.queue.wake.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
                changed = stop.changed() => {
                    deadline = match changed {
                        Ok(()) => *stop.borrow_and_update(),
                        Err(_) => Some(Instant::now()),
                    };
                    self.is_stopping = deadline.is_some();
                }
            }
        }
        self.leave().await
    }

    /// One round: seal what is old, then send, or put on disk while the bus is away.
    async fn step(&mut self) {
        let is_away = self.is_away();
        self.seal_old(is_away);
        self.recall();
        if is_away {
            self.move_to_disk();
            return;
        }
        self.send_all().await;
        let disk_is_behind = self
            .spill
            .as_ref()
            .is_some_and(|spill| !spill.is_all_read());
        if self.shared.queue.is_half_full() && (disk_is_behind || self.window.len() >= self.width())
        {
            self.move_to_disk();
        }
        self.send_telemetry().await;
    }

    fn is_away(&self) -> bool {
        let must_wait = self.retry_at.is_some_and(|at| at > Instant::now());
        must_wait || self.client.connection_state() != State::Connected
    }

    fn is_done(&self) -> bool {
        let disk_is_read = self.spill.as_ref().is_none_or(Spill::is_all_read);
        self.window.is_empty() && disk_is_read && self.shared.queue.pending() == 0
    }

    fn seal_old(&mut self, is_away: bool) {
        let queue = &self.shared.queue;
        let Some(number) = queue.open_number() else {
            self.open_since = None;
            return;
        };
        let now = Instant::now();
        let since = match self.open_since {
            Some((seen, since)) if seen == number => since,
            _ => now,
        };
        let wait = if is_away { SEAL_AFTER_AWAY } else { SEAL_AFTER };
        if self.is_stopping || now.duration_since(since) >= wait {
            queue.seal(clock::now_us());
            self.open_since = None;
        } else {
            self.open_since = Some((number, since));
        }
    }

    /// Marks as not sent what died with its connection or was not acknowledged in time.
    fn recall(&mut self) {
        let connection = self.shared.connections.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut is_late = false;
        for flight in self.window.iter_mut().filter(|flight| !flight.is_acked) {
            match flight.sent {
                Some(sent) if sent.connection != connection => flight.sent = None,
                Some(sent) if now.duration_since(sent.at) > ACK_WITHIN => is_late = true,
                _ => {}
            }
        }
        if is_late {
            tracing::warn!("the bus does not acknowledge events; they are kept and sent again");
            self.back_off();
        }
    }

    /// Everything under way is sent again, a little later each time.
    fn back_off(&mut self) {
        self.retry_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF[1]);
        for flight in &mut self.window {
            flight.sent = None;
        }
    }

    /// How many may be under way. After a refusal it is the oldest alone until one is taken: a full
    /// stream might have room for a smaller one behind it, and is not asked eight times.
    fn width(&self) -> usize {
        if self.backoff > BACKOFF[0] { 1 } else { WINDOW }
    }

    async fn send_all(&mut self) {
        let width = self.width();
        for at in 0..self.window.len().min(width) {
            if !self.send(at).await {
                return;
            }
        }
        while self.window.len() < width {
            let Some(flight) = self.next_flight() else {
                return;
            };
            self.window.push_back(flight);
            if !self.send(self.window.len() - 1).await {
                return;
            }
        }
    }

    /// The oldest batch that waits: what is on disk is older than what is in memory.
    fn next_flight(&mut self) -> Option<Flight> {
        let spilled = self.spill.as_mut().and_then(Spill::next);
        let is_on_disk = spilled.is_some();
        let batch = match spilled {
            Some(Ok(batch)) => batch,
            Some(Err(outline)) => self.lose(&outline, Reason::SpillLost),
            None => self.shared.queue.pop()?,
        };
        Some(Flight {
            batch,
            is_held: !is_on_disk,
            is_on_disk,
            is_acked: false,
            sent: None,
        })
    }

    /// What goes in place of a batch that is lost.
    fn lose(&self, lost: &Batch, reason: Reason) -> Batch {
        self.shared.queue.lose(lost.events);
        self.shared.emptied(lost, reason)
    }

    /// Has a message without events go in place of one that is larger than the bus takes.
    fn give_up(&mut self, at: usize) {
        let empty = self.lose(&self.window[at].batch, Reason::TooLarge);
        let flight = &mut self.window[at];
        if std::mem::take(&mut flight.is_held) {
            self.shared.queue.release(&flight.batch);
        }
        flight.batch = empty;
        flight.sent = None;
    }

    /// Sends one flight unless it is under way already; whether the next may follow.
    async fn send(&mut self, at: usize) -> bool {
        let flight = &self.window[at];
        if flight.sent.is_some() || flight.is_acked {
            return true;
        }
        let batch = &flight.batch;
        let number = Number {
            producer: self.shared.producer.clone(),
            number: batch.number,
        };
        let connection = self.shared.connections.load(Ordering::Relaxed);
        let handed = self.client.publish_with_reply_and_headers(
            self.shared.batch_subject(),
            format!("{}.{}", self.inbox, batch.number),
            headers(&number),
            batch.payload.clone(),
        );
        match tokio::time::timeout(HAND_OVER_WITHIN, handed).await {
            Ok(Ok(())) => {
                self.window[at].sent = Some(Sent {
                    at: Instant::now(),
                    connection,
                });
                true
            }
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                self.give_up(at);
                true
            }
            Ok(Err(_)) | Err(_) => {
                self.back_off();
                false
            }
        }
    }

    /// Takes an acknowledgement and all others that came with it.
    fn take_acks(&mut self, first: async_nats::Message, acks: &mut Subscriber) {
        let mut next = Some(first);
        let mut is_refused = false;
        while let Some(ack) = next {
            is_refused |= !self.take_ack(&ack);
            next = acks.next().now_or_never().flatten();
        }
        while self.window.front().is_some_and(|flight| flight.is_acked) {
            let Some(flight) = self.window.pop_front() else {
                break;
            };
            if flight.is_held {
                self.shared.queue.release(&flight.batch);
            }
            if let Some(spill) = &mut self.spill {
                spill.acknowledge(flight.batch.number);
            }
            self.shared.queue.acknowledge(&flight.batch);
        }
        if is_refused {
            self.back_off();
        } else {
            self.backoff = BACKOFF[0];
            self.retry_at = None;
        }
    }

    /// Marks the flight it is for; `false` where the bus refused.
    fn take_ack(&mut self, ack: &async_nats::Message) -> bool {
        let number = ack
            .subject
            .rsplit('.')
            .next()
            .and_then(|token| token.parse().ok());
        let is_meant = |flight: &Flight| Some(flight.batch.number) == number && !flight.is_acked;
        let Some(at) = self.window.iter().position(is_meant) else {
            return true;
        };
        match read_ack(ack) {
            Ok(()) => self.window[at].is_acked = true,
            Err(Refusal::TooLarge) if self.window[at].batch.events > 0 => self.give_up(at),
            Err(refusal) => {
                tracing::debug!(
                    %refusal,
                    "the bus refused events; they are kept and sent again"
                );
                return false;
            }
        }
        true
    }

    /// Moves to disk what is not acknowledged: first what is under way, then what waits.
    fn move_to_disk(&mut self) {
        let now = Instant::now();
        if self.spill.is_none() || self.disk_again_at.is_some_and(|at| at > now) {
            return;
        }
        let mut is_full = false;
        for at in 0..self.window.len() {
            let flight = &self.window[at];
            if flight.is_on_disk || flight.is_acked {
                continue;
            }
            let batch = flight.batch.clone();
            if !self.store(&batch, true) {
                is_full = true;
                break;
            }
            let flight = &mut self.window[at];
            flight.is_on_disk = true;
            if std::mem::take(&mut flight.is_held) {
                self.shared.queue.release(&batch);
            }
        }
        while !is_full && let Some(batch) = self.shared.queue.pop() {
            if self.store(&batch, false) {
                self.shared.queue.release(&batch);
            } else {
                self.shared.queue.put_back(batch);
                is_full = true;
            }
        }
        self.disk_again_at = is_full.then(|| now + LOOK_EVERY);
        self.shared.queue.set_spill_full(is_full);
    }

    /// Whether the disk took a batch; says once that it does not.
    fn store(&mut self, batch: &Batch, is_read: bool) -> bool {
        let Some(spill) = &mut self.spill else {
            return false;
        };
        if !spill.has_room(batch) {
            return false;
        }
        let stored = spill.append(batch, is_read);
        if let Err(error) = &stored
            && !self.is_disk_failing
        {
            let folder = spill.folder().display();
            tracing::warn!(%error, %folder, "cannot keep events on disk while the bus is away");
        }
        self.is_disk_failing = stored.is_err();
        stored.is_ok()
    }

    /// Telemetry that the bus does not get in time is not kept.
    async fn send_telemetry(&mut self) {
        let told = [
            (
                &self.shared.spans.lines,
                subject::span as Subject,
                Reason::SpanLost,
            ),
            (&self.shared.told, subject::request, Reason::RequestLost),
        ];
        let is_due = self.telemetry_at <= Instant::now() || self.is_stopping;
        for (lines, subject, reason) in told {
            if !is_due && !lines.is_half_full() {
                continue;
            }
            let Some(lines) = lines.take() else { continue };
            let subject = self.shared.subject(subject);
            let lines = Bytes::from(lines);
            let handed = self.client.publish(subject, lines.clone());
            let handed = tokio::time::timeout(HAND_OVER_WITHIN, handed).await;
            if !matches!(handed, Ok(Ok(()))) {
                self.shared.queue.dropped.add(reason, count(&lines));
            }
        }
        if is_due {
            self.telemetry_at = Instant::now() + TELEMETRY_EVERY;
        }
    }

    /// When there is something to do by the clock.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let is_away = self.is_away();
        let wait = if is_away { SEAL_AFTER_AWAY } else { SEAL_AFTER };
        let seal = self.open_since.map(|(_, since)| since + wait);
        let is_told = self.shared.spans.lines.is_empty() && self.shared.told.is_empty();
        let telemetry = (!is_away && !is_told).then_some(self.telemetry_at);
        let retry = self.retry_at.filter(|&at| at > now);
        [seal, telemetry, retry]
            .into_iter()
            .flatten()
            .fold(now + LOOK_EVERY, Instant::min)
    }

    /// Leaves what is not acknowledged on disk for the next run, and counts what nobody will send;
    /// whether everything was acknowledged.
    async fn leave(mut self) -> bool {
        self.shared.queue.seal(clock::now_us());
        let is_done = self.is_done();
        if !is_done {
            self.disk_again_at = None;
            self.move_to_disk();
            self.abandon();
        }
        if self.client.connection_state() == State::Connected {
            let flushed = tokio::time::timeout(HAND_OVER_WITHIN, self.client.flush()).await;
            tracing::trace!(is_flushed = flushed.is_ok(), "the sender ends");
        }
        is_done
    }

    fn abandon(&self) {
        let queue = &self.shared.queue;
        let waiting = std::iter::from_fn(|| queue.pop()).map(|batch| batch.events);
        let in_hand = self.window.iter();
        let in_hand = in_hand.filter(|flight| !flight.is_on_disk && !flight.is_acked);
        let abandoned = waiting.chain(in_hand.map(|flight| flight.batch.events));
        let abandoned = abandoned.map(u64::from).sum();
        queue.dropped.add(Reason::Abandoned, abandoned);
        for (lines, reason) in [
            (&self.shared.spans.lines, Reason::SpanLost),
            (&self.shared.told, Reason::RequestLost),
        ] {
            let lines = lines.take().unwrap_or_default();
            queue.dropped.add(reason, count(&lines));
        }
        tracing::warn!(
            on_disk = queue.pending() - abandoned,
            abandoned,
            "ending with events that the bus has not acknowledged"
        );
    }
}

/// How many lines these are.
fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// The headers of a batch.
pub(crate) fn headers(number: &Number) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", number.to_string());
    headers.insert("content-type", batch::CONTENT_TYPE);
    headers
}

/// Why JetStream does not have a message.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// It will not be taken later.
    #[error("the message is larger than the bus takes")]
    TooLarge,
    /// The bus's words; the message may be taken later.
    #[error("{0}")]
    Later(String),
}

/// Whether JetStream has the message.
pub(crate) fn read_ack(answer: &async_nats::Message) -> Result<(), Refusal> {
    match ack::read(answer) {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.is_final() => Err(Refusal::TooLarge),
        Err(refusal) => Err(Refusal::Later(refusal.to_string())),
    }
}
