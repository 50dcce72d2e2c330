//! What instances say by themselves on the bus, and what they are told: pulses, beats, routes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use serin_wire::{Beat, Routes, State, subject};
use tokio::sync::watch;

/// Without any pulse for this long it is the bus that is silent, not the instances.
const BUS_SILENT_US: i64 = 1_000_000;
/// Routes are told again after this, for whoever missed them.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    client: Client,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of each instance, the last pulse.
    pulses_us: BTreeMap<String, i64>,
    /// The last pulse of any.
    last_us: i64,
    /// Since when pulses come without a pause.
    since_us: i64,
    /// Instances whose last beat said that they take work.
    ready: BTreeMap<String, bool>,
}

impl Heard {
    pub(super) fn start(client: Client, now_us: fn() -> i64) -> Heard {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let heard = Heard { client, inner };
        tokio::spawn(heard.clone().pulses(now_us));
        tokio::spawn(heard.clone().beats());
        heard
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pulses(self, now_us: fn() -> i64) {
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
                None => drop(inner.pulses_us.insert(instance.to_owned(), now)),
            }
        }
    }

    async fn beats(self) {
        let Ok(mut messages) = self.client.subscribe(subject::beat("*", "*", "*")).await else {
            return;
        };
        while let Some(message) = messages.next().await {
            if let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload) {
                let is_ready = beat.state == State::Ready;
                self.inner().ready.insert(beat.instance, is_ready);
            }
        }
    }

    /// Whether the last beat of an instance said that it takes work.
    pub(super) fn is_ready(&self, instance: &str) -> bool {
        self.inner().ready.get(instance) == Some(&true)
    }

    /// When an instance's pulse was heard last, or the moment since when it could have been heard;
    /// `None` where it never was, or where nothing is heard at all: then silence says nothing.
    pub(super) fn pulse_us(&self, instance: &str, now_us: i64) -> Option<i64> {
        let inner = self.inner();
        let at_us = *inner.pulses_us.get(instance)?;
        let is_bus_silent = now_us - inner.last_us > BUS_SILENT_US;
        (!is_bus_silent).then_some(at_us.max(inner.since_us))
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
