//! What instances say by themselves on the bus, and what they are told: pulses, beats, routes.
//!
//! Once a beat says that its instance takes work, the instance is asked by the micro protocol which
//! of its endpoints may be called twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use serin_wire::{Beat, Routes, State, subject};
use tokio::sync::watch;

use super::idempotent::{self, Names};

/// Without any pulse for this long it is the bus that is silent, not the instances.
const BUS_SILENT_US: i64 = 1_000_000;
/// A shim tells beats for an instance whose last pulse is older (`shim::teller`).
const OWN_PULSE_US: i64 = 3_000_000;
/// Whoever was silent for so long has ended.
const FORGET_US: i64 = 600_000_000;
/// An instance that does not answer which endpoints may be called twice is asked so often, once with
/// each beat: one that has no SDK never answers.
const ASKED_MAX: u8 = 5;
/// Routes are told again after this, for whoever missed them.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    client: Client,
    /// Where instances answer to, each on a word of its own.
    inbox: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of each instance, the last pulse.
    pulses_us: BTreeMap<String, i64>,
    /// Of each instance, the last beat; a shim tells some for those that tell none.
    beats_us: BTreeMap<String, i64>,
    /// The last pulse of any.
    last_us: i64,
    /// Since when pulses come without a pause.
    since_us: i64,
    /// Instances whose last beat said that they take work.
    ready: BTreeMap<String, bool>,
    /// Of each instance that takes work, what it was asked.
    asked: BTreeMap<String, Asked>,
}

/// What an instance was asked.
#[derive(Debug, Default)]
struct Asked {
    times: u8,
    /// What it answered: its endpoints that may be called twice.
    idempotent: Option<Names>,
}

impl Inner {
    fn heard_us(&self, instance: &str, now_us: i64) -> Option<i64> {
        let pulse_us = *self.pulses_us.get(instance)?;
        if now_us - self.last_us > BUS_SILENT_US {
            return None;
        }
        // While its pulses come its beats are its own, and one that pulses without a beat hangs too.
        let beat_us = self.beats_us.get(instance);
        let beat_us = beat_us.filter(|_| now_us - pulse_us < OWN_PULSE_US);
        let at_us = beat_us.map_or(pulse_us, |beat_us| pulse_us.min(*beat_us));
        Some(at_us.max(self.since_us))
    }

    /// Forgets who was not heard for long.
    fn forget(&mut self, now_us: i64) {
        self.pulses_us
            .retain(|_, at_us| now_us - *at_us < FORGET_US);
        self.beats_us.retain(|_, at_us| now_us - *at_us < FORGET_US);
        let beats_us = &self.beats_us;
        self.ready
            .retain(|instance, _| beats_us.contains_key(instance));
        self.asked
            .retain(|instance, _| beats_us.contains_key(instance));
    }

    /// Takes whether an instance takes work; whether it is to be asked something now.
    fn take_ready(&mut self, instance: String, is_ready: bool) -> bool {
        let is_to_ask = if is_ready {
            let asked = self.asked.entry(instance.clone()).or_default();
            asked.times = asked.times.saturating_add(1);
            asked.idempotent.is_none() && asked.times <= ASKED_MAX
        } else {
            self.asked.remove(&instance);
            false
        };
        self.ready.insert(instance, is_ready);
        is_to_ask
    }
}

impl Heard {
    /// Nothing is heard before [`Heard::listen`].
    pub(super) fn new(client: Client) -> Heard {
        Heard {
            inbox: client.new_inbox(),
            client,
            inner: Arc::default(),
        }
    }

    /// Listens until it is dropped.
    pub(super) async fn listen(&self, now_us: fn() -> i64) {
        tokio::join!(self.pulses(now_us), self.beats(now_us), self.answers());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pulses(&self, now_us: fn() -> i64) {
        let Ok(mut messages) = self.client.subscribe(subject::PULSES).await else {
            return;
        };
        while let Some(message) = messages.next().await {
            let Some((_, _, instance)) = subject::parse_pulse(&message.subject) else {
                continue;
            };
            let now = now_us();
            let mut inner = self.inner();
            if now - inner.last_us > BUS_SILENT_US {
                inner.since_us = now;
            }
            inner.last_us = now;
            match inner.pulses_us.get_mut(instance) {
                Some(at_us) => *at_us = now,
                None => {
                    inner.forget(now);
                    inner.pulses_us.insert(instance.to_owned(), now);
                }
            }
        }
    }

    async fn beats(&self, now_us: fn() -> i64) {
        let Ok(mut messages) = self.client.subscribe(subject::beat("*", "*", "*")).await else {
            return;
        };
        while let Some(message) = messages.next().await {
            if let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload) {
                let is_ready = beat.state == State::Ready;
                let (asked, reply) = (
                    format!("$SRV.INFO.{}.{}", beat.service, beat.instance),
                    format!("{}.{}", self.inbox, beat.instance),
                );
                let is_to_ask = {
                    let mut inner = self.inner();
                    inner.beats_us.insert(beat.instance.clone(), now_us());
                    inner.take_ready(beat.instance, is_ready)
                };
                if is_to_ask {
                    let client = &self.client;
                    let sent = client.publish_with_reply(asked, reply, Bytes::new()).await;
                    if let Err(error) = sent {
                        tracing::debug!(%error, "cannot ask an instance for its endpoints");
                    }
                }
            }
        }
    }

    /// Takes what instances answer.
    async fn answers(&self) {
        let Ok(mut answers) = self.client.subscribe(format!("{}.*", self.inbox)).await else {
            return;
        };
        while let Some(answer) = answers.next().await {
            let instance = answer.subject.rsplit('.').next().unwrap_or_default();
            if let Some(said) = idempotent::read(&answer.payload)
                && let Some(asked) = self.inner().asked.get_mut(instance)
            {
                asked.idempotent = Some(said);
            }
        }
    }

    /// The endpoints that an instance says may be called twice; `None` before it has answered.
    pub(super) fn idempotent(&self, instance: &str) -> Option<Names> {
        self.inner().asked.get(instance)?.idempotent.clone()
    }

    /// Whether the last beat of an instance said that it takes work.
    pub(super) fn is_ready(&self, instance: &str) -> bool {
        self.inner().ready.get(instance) == Some(&true)
    }

    /// Since when an instance with an SDK is silent, or the moment since when it could have been heard;
    /// `None` where it never was, or where nothing is heard at all: then silence says nothing.
    pub(super) fn heard_us(&self, instance: &str, now_us: i64) -> Option<i64> {
        self.inner().heard_us(instance, now_us)
    }

    /// Tells routes when they change, now and then, and whoever asks.
    pub(super) async fn answer_routes(&self, mut routes: watch::Receiver<Arc<Routes>>) {
        let Ok(mut asked) = self.client.subscribe(subject::ROUTES_GET).await else {
            return;
        };
        loop {
            let to = tokio::select! {
                changed = routes.changed() => match changed {
                    Ok(()) => Some(subject::ROUTES.into()),
                    Err(_) => return,
                },
                () = tokio::time::sleep(TELL_EVERY) => Some(subject::ROUTES.into()),
                message = asked.next() => match message {
                    Some(message) => message.reply,
                    None => return,
                },
            };
            let payload = serde_json::to_vec(&**routes.borrow_and_update()).unwrap_or_default();
            if let Some(to) = to
                && let Err(error) = self.client.publish(to, payload.into()).await
            {
                tracing::debug!(%error, "cannot tell the routes");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_takes_work_is_asked_until_it_answers_but_not_for_ever() {
        let mut inner = Inner::default();
        let mut asks = |is_ready| inner.take_ready("a".to_owned(), is_ready);
        assert!(!asks(false));
        let asked = (0..20).filter(|_| asks(true)).count();
        assert_eq!(asked, usize::from(ASKED_MAX));
        assert!(!asks(false));
        assert!(asks(true), "another life of the name");
        let told = inner.asked.get_mut("a").expect("it was asked");
        told.idempotent = Some(Names::new());
        assert!(!inner.take_ready("a".to_owned(), true));
    }

    #[test]
    fn silence_is_that_of_pulses_or_of_beats_while_the_bus_is_heard() {
        const S: i64 = 1_000_000;
        let mut inner = Inner::default();
        inner.pulses_us.insert("a".to_owned(), 100 * S);
        inner.last_us = 100 * S;
        let heard = |inner: &Inner, now_us| inner.heard_us("a", now_us);
        assert_eq!(heard(&inner, 100 * S), Some(100 * S));
        assert_eq!(inner.heard_us("b", 100 * S), None, "never heard");
        assert_eq!(heard(&inner, 102 * S), None, "nobody is heard");
        inner.beats_us.insert("a".to_owned(), 80 * S);
        assert_eq!(heard(&inner, 100 * S), Some(80 * S), "pulses without beats");
        inner.since_us = 90 * S;
        assert_eq!(heard(&inner, 100 * S), Some(90 * S), "the bus was away");
        inner.last_us = 110 * S;
        inner.beats_us.insert("a".to_owned(), 110 * S);
        assert_eq!(
            heard(&inner, 110 * S),
            Some(100 * S),
            "a shim's beats count nothing"
        );
        inner.forget(1_000 * S);
        assert_eq!(heard(&inner, 110 * S), None);
    }
}
