//! What instances say by themselves on the bus, and what they are told: pulses, beats, routes.
//!
//! Once a beat says that its instance takes work, the instance is asked by the micro protocol which
//! of its endpoints may be called twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State as Link;
use bytes::Bytes;
use futures::StreamExt;
use serin_wire::{Beat, Routes, State, subject};
use tokio::sync::watch;

use super::access::Member;
use super::idempotent::{self, Names};

/// Without any sign for this long it is the bus that is silent, not the instances.
const BUS_SILENT_US: i64 = 1_000_000;
/// After so long without a pulse of anybody we send ourselves a message: if that comes, the bus is there.
const ECHO_AFTER: Duration = Duration::from_millis(500);
/// An SDK beats so often; only its pulses come oftener.
const BEAT_EVERY_US: i64 = 1_000_000;
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
    instances: BTreeMap<String, Voice>,
    /// The last sign of any instance's own, or of the bus.
    last_us: i64,
    /// Since when such signs come without a pause.
    since_us: i64,
}

/// What one instance said.
#[derive(Debug, Default)]
struct Voice {
    /// When it was told of last, by itself or by its shim.
    told_us: i64,
    /// Its own last pulse or beat; none where it has no SDK.
    own_us: Option<i64>,
    /// Its own last beat.
    own_beat_us: Option<i64>,
    /// Whether its last beat said that it takes work.
    is_ready: bool,
    /// How often it was asked which of its endpoints may be called twice.
    asked: u8,
    /// What it answered.
    idempotent: Option<Names>,
}

impl Voice {
    /// Takes whether it takes work; whether it is to be asked something now.
    fn take_ready(&mut self, is_ready: bool) -> bool {
        self.is_ready = is_ready;
        if !is_ready {
            (self.asked, self.idempotent) = (0, None);
            return false;
        }
        self.asked = self.asked.saturating_add(1);
        self.idempotent.is_none() && self.asked <= ASKED_MAX
    }
}

impl Inner {
    fn heard_us(&self, instance: &str, now_us: i64) -> Option<i64> {
        let voice = self.instances.get(instance)?;
        let own_us = voice.own_us?;
        if now_us - self.last_us > BUS_SILENT_US {
            return None;
        }
        // One that pulses without a beat hangs too.
        let beat_us = voice.own_beat_us.map(|at_us| at_us + BEAT_EVERY_US);
        let at_us = beat_us.map_or(own_us, |beat_us| own_us.min(beat_us));
        Some(at_us.max(self.since_us))
    }

    /// Who is told of at this moment, by itself or not.
    fn voice(&mut self, instance: &str, is_own: bool, now_us: i64) -> &mut Voice {
        if !self.instances.contains_key(instance) {
            self.forget(now_us);
        }
        if is_own {
            self.sign(now_us);
        }
        let voice = self.instances.entry(instance.to_owned()).or_default();
        voice.told_us = now_us;
        if is_own {
            voice.own_us = Some(now_us);
        }
        voice
    }

    /// The bus brought something.
    fn sign(&mut self, now_us: i64) {
        if now_us - self.last_us > BUS_SILENT_US {
            self.since_us = now_us;
        }
        self.last_us = now_us;
    }

    /// Forgets who was not heard of for long.
    fn forget(&mut self, now_us: i64) {
        self.instances
            .retain(|_, voice| now_us - voice.told_us < FORGET_US);
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

    /// Listens until it is dropped. While anybody is there the bus is heard too, by itself where need be:
    /// who hangs alone is silent on a bus that is not.
    pub(super) async fn listen(&self, now_us: fn() -> i64, there: watch::Receiver<Vec<Member>>) {
        tokio::join!(
            self.pulses(now_us, there),
            self.beats(now_us),
            self.answers()
        );
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pulses(&self, now_us: fn() -> i64, mut there: watch::Receiver<Vec<Member>>) {
        let (client, echo) = (&self.client, self.client.new_inbox());
        let Ok(mut pulses) = client.subscribe(subject::PULSES).await else {
            return;
        };
        let Ok(mut echoes) = client.subscribe(echo.clone()).await else {
            return;
        };
        loop {
            let is_anybody_there = !there.borrow_and_update().is_empty();
            tokio::select! {
                // Who hangs before its first pulse comes in by this alone.
                Ok(()) = there.changed() => {}
                pulse = pulses.next() => {
                    let Some(pulse) = pulse else { return };
                    if let Some((_, _, instance)) = subject::parse_pulse(&pulse.subject) {
                        self.inner().voice(instance, true, now_us());
                    }
                }
                Some(_) = echoes.next() => self.inner().sign(now_us()),
                () = tokio::time::sleep(ECHO_AFTER), if is_anybody_there => {
                    // What is sent while the bus is away would only come late.
                    if client.connection_state() == Link::Connected
                        && let Err(error) = client.publish(echo.clone(), Bytes::new()).await
                    {
                        tracing::debug!(%error, "cannot ask the bus whether it is there");
                    }
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
                    // Only who emits has something to seal: a shim's beats for others have not.
                    let is_own = beat.sealed.is_some();
                    let now = now_us();
                    let mut inner = self.inner();
                    let voice = inner.voice(&beat.instance, is_own, now);
                    if is_own {
                        voice.own_beat_us = Some(now);
                    }
                    voice.take_ready(is_ready)
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
                && let Some(voice) = self.inner().instances.get_mut(instance)
            {
                voice.idempotent = Some(said);
            }
        }
    }

    /// The endpoints that an instance says may be called twice; `None` before it has answered.
    pub(super) fn idempotent(&self, instance: &str) -> Option<Names> {
        self.inner().instances.get(instance)?.idempotent.clone()
    }

    /// Whether the last beat of an instance said that it takes work.
    pub(super) fn is_ready(&self, instance: &str) -> bool {
        let inner = self.inner();
        inner
            .instances
            .get(instance)
            .is_some_and(|voice| voice.is_ready)
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
        let mut voice = Voice::default();
        assert!(!voice.take_ready(false));
        let asked = (0..20).filter(|_| voice.take_ready(true)).count();
        assert_eq!(asked, usize::from(ASKED_MAX));
        assert!(!voice.take_ready(false));
        assert!(voice.take_ready(true), "another life of the name");
        voice.idempotent = Some(Names::new());
        assert!(!voice.take_ready(true));
    }

    #[test]
    fn silence_is_that_of_pulses_or_of_beats_while_the_bus_is_heard() {
        const S: i64 = 1_000_000;
        let mut inner = Inner::default();
        inner.voice("a", true, 100 * S);
        let heard = |inner: &Inner, now_us| inner.heard_us("a", now_us);
        assert_eq!(heard(&inner, 100 * S), Some(100 * S));
        assert_eq!(inner.heard_us("b", 100 * S), None, "never heard");
        assert_eq!(heard(&inner, 102 * S), None, "nobody is heard");
        inner.since_us = 0;
        inner.voice("a", true, 100 * S).own_beat_us = Some(80 * S);
        assert_eq!(heard(&inner, 100 * S), Some(81 * S), "pulses without beats");
        inner.since_us = 90 * S;
        assert_eq!(heard(&inner, 100 * S), Some(90 * S), "the bus was away");
        inner.voice("a", true, 101 * S).own_beat_us = Some(101 * S);
        inner.voice("a", false, 102 * S);
        assert_eq!(
            heard(&inner, 102 * S),
            Some(101 * S),
            "a shim's beats count nothing"
        );
        inner.forget(1_000 * S);
        assert_eq!(heard(&inner, 102 * S), None);
    }

    #[test]
    fn who_beat_once_and_never_pulsed_is_heard_too() {
        let mut inner = Inner::default();
        inner.voice("a", true, 5).own_beat_us = Some(5);
        assert_eq!(inner.heard_us("a", 5), Some(5));
        inner.voice("b", false, 6);
        assert_eq!(inner.heard_us("b", 6), None, "its shim speaks for it");
    }
}
