//! Beats every second and pulses every 250 ms, on a thread and a connection of their own.
//!
//! So a flood of events, a stuck runtime of the service or a bus that is slow to acknowledge cannot
//! starve them. What cannot be sent now is not sent later: the next beat says it better.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use serin_wire::{Beat, Sealed, subject};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::shared::Shared;
use crate::usage::{self, CpuShare};

const PULSE_EVERY: Duration = Duration::from_millis(250);
/// A beat goes out with every fourth pulse, so that it wakes nobody once more.
const PULSES_PER_BEAT: u32 = 4;
const HAND_OVER_WITHIN: Duration = Duration::from_millis(200);

/// Sends beats and pulses until the sender is done, then a last beat.
pub(crate) async fn run(shared: Arc<Shared>, client: Client, mut finished: watch::Receiver<bool>) {
    let beat_subject = shared.subject(subject::beat);
    let pulse_subject = shared.subject(subject::pulse);
    let mut beats = Beats::new();
    let has_pulses = shared.options.pulses;
    let (every, ticks_per_beat) = match has_pulses {
        true => (PULSE_EVERY, PULSES_PER_BEAT),
        false => (PULSE_EVERY * PULSES_PER_BEAT, 1),
    };
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks_to_beat = 0;
    while !*finished.borrow() {
        tokio::select! {
            biased;
            () = shared.beat_now.notified() => {
                beats.send(&client, &beat_subject, &shared).await;
                // The next tick is a part of the second already.
                ticks_to_beat = ticks_per_beat - 1;
            }
            _ = ticks.tick() => {
                if ticks_to_beat == 0 {
                    beats.send(&client, &beat_subject, &shared).await;
                    ticks_to_beat = ticks_per_beat;
                }
                if has_pulses {
                    send(&client, &pulse_subject, Bytes::new()).await;
                }
                ticks_to_beat -= 1;
            }
            changed = finished.changed() => if changed.is_err() { break },
        }
    }
    beats.send(&client, &beat_subject, &shared).await;
    if client.connection_state() == State::Connected {
        let flushed = tokio::time::timeout(HAND_OVER_WITHIN, client.flush()).await;
        tracing::trace!(is_flushed = flushed.is_ok(), "the last beat is out");
    }
}

async fn send(client: &Client, subject: &str, payload: Bytes) {
    if client.connection_state() != State::Connected {
        return;
    }
    let handed = client.publish(subject.to_owned(), payload);
    if !matches!(
        tokio::time::timeout(HAND_OVER_WITHIN, handed).await,
        Ok(Ok(()))
    ) {
        tracing::debug!(subject, "a beat could not be sent");
    }
}

/// What one beat needs of the one before.
struct Beats {
    number: u64,
    cpu: CpuShare,
}

impl Beats {
    fn new() -> Beats {
        Beats {
            number: 0,
            cpu: CpuShare::new(usage::read().cpu_s, Instant::now()),
        }
    }

    /// Sends a beat if there is a connection; else the requests it would tell wait for the next.
    async fn send(&mut self, client: &Client, subject: &str, shared: &Shared) {
        if client.connection_state() == State::Connected {
            send(client, subject, self.next(shared)).await;
        }
    }

    fn next(&mut self, shared: &Shared) -> Bytes {
        self.number += 1;
        let usage = usage::read();
        let cpu = self.cpu.next(usage.cpu_s, Instant::now());
        let queue = &shared.queue;
        let (requests, errors) = shared.requests.take();
        let time_us = clock::now_us();
        let mark = queue.mark(time_us);
        let options = &shared.options;
        let beat = Beat {
            service: options.service.clone(),
            version: options.version.clone(),
            instance: options.instance.clone(),
            number: self.number,
            time_us,
            started_us: shared.started_us,
            state: shared.state(),
            cpu,
            memory_bytes: usage.memory_bytes,
            in_flight: shared.requests.in_flight(),
            queued_events: queue.pending(),
            requests,
            errors,
            gauges: shared.gauges.sample(),
            dropped: queue.dropped.by_reason(),
            sealed: Some(Sealed {
                producer: shared.producer.producer.clone(),
                epoch: shared.producer.epoch,
                number: mark.number,
                time_us: mark.time_us,
            }),
        };
        Bytes::from(serde_json::to_vec(&beat).unwrap_or_default())
    }
}
