//! What a shim tells on the bus for its instances: their lines, and beats for those without an SDK.
//!
//! Telemetry is told at most once: while the bus is away lines are dropped and counted, and the next
//! beat says it better. Nothing here may hold up an instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State as Connection;
use bytes::Bytes;
use futures::StreamExt;
use serin_connect::Connector;
use serin_wire::{Beat, Histogram, Log, State, subject};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::protocol::Status;
use super::run::Shared;
use super::usage::{self, Usage};

/// Lines of one message; a message stays far below the bus's bound.
const LINES_PER_MESSAGE: usize = 256;
/// How long lines may wait for company.
const GATHER: Duration = Duration::from_millis(100);
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// An instance whose own pulse is younger tells its own beats: some missed pulses of 250 ms.
const OWN_PULSE_US: i64 = 3_000_000;
/// How long the first lines wait for the bus, which may just be told of us.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const HAND_OVER_WITHIN: Duration = Duration::from_millis(200);

/// A connection to the bus that never holds anyone up.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    client: Client,
}

impl Teller {
    /// Connects in the background; of what is told before, lines alone are kept, and for a while.
    pub(super) async fn connect(bus: &str) -> Result<Teller, async_nats::ConnectError> {
        let client = Connector::new(bus, "serin shim")?.in_background().await?;
        Ok(Teller { client })
    }

    /// Whether it was handed over.
    async fn tell(&self, subject: &str, payload: Vec<u8>) -> bool {
        if self.client.connection_state() != Connection::Connected {
            return false;
        }
        let handed = self
            .client
            .publish(subject.to_owned(), Bytes::from(payload));
        matches!(
            tokio::time::timeout(HAND_OVER_WITHIN, handed).await,
            Ok(Ok(()))
        )
    }

    /// Lets what was handed over reach the bus.
    pub(super) async fn flush(&self) {
        if self.client.connection_state() == Connection::Connected {
            let flushed = tokio::time::timeout(HAND_OVER_WITHIN, self.client.flush()).await;
            tracing::trace!(is_flushed = flushed.is_ok(), "the last lines are out");
        }
    }

    /// Returns once we have been let onto the bus, or after a while.
    async fn first_connected(&self) {
        let connected = async {
            while self.client.connection_state() != Connection::Connected {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let is_there = tokio::time::timeout(FIRST_WITHIN, connected).await.is_ok();
        tracing::debug!(is_there, "the first lines are told");
    }

    /// Tells the lines of one instance until its pipes are closed.
    pub(super) async fn lines(self, subject: String, mut lines: mpsc::Receiver<Log<'static>>) {
        self.first_connected().await;
        let mut gathered = Vec::with_capacity(LINES_PER_MESSAGE);
        let mut dropped = 0;
        while lines.recv_many(&mut gathered, LINES_PER_MESSAGE).await > 0 {
            if gathered.len() < LINES_PER_MESSAGE {
                tokio::time::sleep(GATHER).await;
                while gathered.len() < LINES_PER_MESSAGE {
                    let Ok(line) = lines.try_recv() else { break };
                    gathered.push(line);
                }
            }
            if let Some(first) = gathered.first_mut() {
                first.dropped += dropped;
            }
            let count =
                gathered.len() as u64 + gathered.iter().map(|line| line.dropped).sum::<u64>();
            let mut message = Vec::new();
            for line in gathered.drain(..) {
                if serde_json::to_writer(&mut message, &line).is_ok() {
                    message.push(b'\n');
                }
            }
            dropped = match self.tell(&subject, message).await {
                true => 0,
                false => count,
            };
        }
    }

    /// Tells beats for the instances that tell none, each second.
    pub(super) async fn beats(self, service: String, shared: Arc<Shared>) {
        let pulses = Pulses::default();
        let heard = pulses.clone();
        let (client, of_service) = (self.client.clone(), service.clone());
        let now_us = shared.now_us;
        let hearing = tokio::spawn(async move {
            let subject = subject::pulse(&of_service, "*", "*");
            let Ok(mut messages) = client.subscribe(subject).await else {
                return;
            };
            while let Some(message) = messages.next().await {
                if let Some((_, _, instance)) = subject::parse_pulse(&message.subject) {
                    heard.hear(instance, now_us());
                }
            }
        });
        let mut ticks = tokio::time::interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: BTreeMap<u32, Usage> = BTreeMap::new();
        let mut number = 0;
        loop {
            ticks.tick().await;
            if hearing.is_finished() {
                return;
            }
            let mut used: BTreeMap<u32, Usage> = BTreeMap::new();
            number += 1;
            let now = now_us();
            for status in shared.running() {
                if pulses.is_young(&status.instance, now) {
                    continue;
                }
                let usage = usage::of(status.pid);
                let was = before.get(&status.pid).unwrap_or(&usage);
                let cpu = usage.cpu_s - was.cpu_s;
                used.insert(status.pid, usage);
                let beat = beat(&service, &status, usage, cpu, number, now);
                let subject = subject::beat(&service, &status.version, &status.instance);
                self.tell(&subject, serde_json::to_vec(&beat).unwrap_or_default())
                    .await;
            }
            pulses.forget(now);
            before = used;
        }
    }
}

/// When each instance's own pulse was heard last.
#[derive(Debug, Clone, Default)]
struct Pulses(Arc<Mutex<BTreeMap<String, i64>>>);

impl Pulses {
    fn hear(&self, instance: &str, now_us: i64) {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match at.get_mut(instance) {
            Some(at_us) => *at_us = now_us,
            None => drop(at.insert(instance.to_owned(), now_us)),
        }
    }

    fn is_young(&self, instance: &str, now_us: i64) -> bool {
        let at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.get(instance)
            .is_some_and(|at| now_us - at < OWN_PULSE_US)
    }

    fn forget(&self, now_us: i64) {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.retain(|_, at_us| now_us - *at_us < 10 * OWN_PULSE_US);
    }
}

fn beat(service: &str, status: &Status, usage: Usage, cpu: f64, number: u64, now_us: i64) -> Beat {
    let state = match (status.is_stopping, status.is_ready) {
        (true, _) => State::Draining,
        (false, true) => State::Ready,
        (false, false) => State::Starting,
    };
    Beat {
        service: service.to_owned(),
        version: status.version.clone(),
        instance: status.instance.clone(),
        number,
        time_us: now_us,
        started_us: status.started_us,
        state,
        cpu: cpu.max(0.0),
        memory_bytes: usage.memory_bytes,
        in_flight: 0,
        queued_events: 0,
        requests: Histogram::default(),
        errors: 0,
        gauges: BTreeMap::new(),
        dropped: BTreeMap::new(),
        sealed: None,
    }
}
