//! Which spans are told: all while they fit the budget, beyond it whole traces by their identity,
//! and always the failed and the slow.
//!
//! A trace is kept where the random bits of its identity are at or above a threshold that rises
//! with the load (W3C trace context level 2, and OpenTelemetry's consistent sampling, have the same
//! rule). So what a busy service keeps, a less busy one keeps too, and traces stay whole without
//! asking anyone. Slow is above the 99th percentile of the same name in the last window. The SDK
//! asks for its own spans and the gateway for its, so that both keep the same traces. Now is a
//! parameter.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// W3C's flag "sampled" of a trace.
pub const SAMPLED: u8 = 1;

/// Spans told per second and process: at some 400 bytes each, 200 KB.
const SPANS_PER_S: f64 = 500.0;
const WINDOW: Duration = Duration::from_secs(1);
/// A window ends early once it had this many, so that a burst is met at once.
const OFFERED_MAX: u64 = 1_000;
/// A percentile of fewer durations says nothing.
const DURATIONS_MIN: u64 = 100;
/// From the middle of a histogram's bucket to its upper edge, 2^(1/8), so that a span as slow as
/// most is not above it.
const UPPER_EDGE: f64 = 1.0906;
/// Names whose durations are followed; a process has few, unless names are made of data.
const NAMES_MAX: usize = 256;
/// Windows after which a name that is not heard any more makes room.
const IDLE_MAX: u32 = 60;
/// The random bits of a trace identity, by W3C.
const RANDOM_BITS: u32 = 56;

/// What is known of a span when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its trace.
    pub trace_id: u128,
    /// The flag "sampled" of its trace.
    pub is_sampled: bool,
    /// What was done; slow is what takes longer than others of the name.
    pub name: &'a str,
    /// How long it took.
    pub duration_us: u64,
    /// Whether it ended with an error.
    pub has_failed: bool,
}

/// Says which spans of a process are told.
#[derive(Debug)]
pub struct Sampler {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    opened: Instant,
    offered: u64,
    /// The share of traces that is kept.
    share: f64,
    names: HashMap<String, Durations>,
}

#[derive(Debug, Default)]
struct Durations {
    window: Histogram,
    slow_us: Option<f64>,
    /// Windows of time since it was heard last.
    idle: u32,
}

impl Sampler {
    /// One that keeps everything until it has seen how much there is.
    pub fn new(now: Instant) -> Sampler {
        let state = State {
            opened: now,
            offered: 0,
            share: 1.0,
            names: HashMap::new(),
        };
        Sampler {
            state: Mutex::new(state),
        }
    }

    /// Whether a new trace of this identity is one that is kept.
    pub fn takes(&self, trace_id: u128) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        is_within(trace_id, state.share)
    }

    /// Whether a span is told.
    pub fn keeps(&self, offer: &Offer<'_>, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.duration_since(state.opened);
        if elapsed >= WINDOW || state.offered >= OFFERED_MAX {
            state.roll(elapsed, now);
        }
        state.offered += 1;
        let is_slow = state.is_slow(offer.name, offer.duration_us);
        offer.has_failed || is_slow || (offer.is_sampled && is_within(offer.trace_id, state.share))
    }
}

impl State {
    fn roll(&mut self, elapsed: Duration, now: Instant) {
        let per_s = self.offered as f64 / elapsed.as_secs_f64().max(1e-3);
        self.share = (SPANS_PER_S / per_s.max(1.0)).min(1.0);
        self.opened = now;
        self.offered = 0;
        self.names.retain(|_, durations| durations.roll());
    }

    fn is_slow(&mut self, name: &str, duration_us: u64) -> bool {
        if !self.names.contains_key(name) {
            if self.names.len() >= NAMES_MAX {
                return false;
            }
            self.names.insert(name.to_owned(), Durations::default());
        }
        self.names.get_mut(name).is_some_and(|durations| {
            durations.idle = 0;
            durations.window.record(duration_us);
            durations
                .slow_us
                .is_some_and(|slow_us| duration_us as f64 > slow_us)
        })
    }
}

impl Durations {
    /// Ends a window that says enough; whether the name is still in use.
    fn roll(&mut self) -> bool {
        self.idle += 1;
        if self.window.count >= DURATIONS_MIN {
            let middle = self.window.quantile_us(0.99);
            self.slow_us = middle.map(|middle| middle * UPPER_EDGE);
            self.window = Histogram::default();
        }
        self.idle <= IDLE_MAX
    }
}

fn is_within(trace_id: u128, share: f64) -> bool {
    let range = (1_u64 << RANDOM_BITS) as f64;
    let random = (trace_id as u64) & ((1 << RANDOM_BITS) - 1);
    random as f64 >= (1.0 - share) * range
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge: time enters here"
)]
mod tests {
    use super::*;

    fn offer(number: u64) -> Offer<'static> {
        Offer {
            // Spread over the range, as random identities are.
            trace_id: u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            is_sampled: true,
            name: "add",
            duration_us: 1_000,
            has_failed: false,
        }
    }

    /// Offers so many spans a second for some seconds; how many were kept in the last one.
    fn kept_per_s(sampler: &Sampler, start: Instant, per_s: u64) -> u64 {
        let mut kept = 0;
        for number in 0..4 * per_s {
            let now = start + Duration::from_secs_f64(number as f64 / per_s as f64);
            let is_last = number >= 3 * per_s;
            kept += u64::from(sampler.keeps(&offer(number), now) && is_last);
        }
        kept
    }

    #[test]
    fn few_are_all_kept_and_many_fit_the_budget() {
        let start = Instant::now();
        assert_eq!(kept_per_s(&Sampler::new(start), start, 400), 400);
        let kept = kept_per_s(&Sampler::new(start), start, 20_000);
        assert!((400..650).contains(&kept), "{kept}");
    }

    #[test]
    fn what_a_busy_service_keeps_an_idle_one_keeps() {
        let ids = (0..10_000).map(|number| offer(number).trace_id);
        let (busy, idle): (Vec<_>, Vec<_>) = ids
            .map(|id| (is_within(id, 0.02), is_within(id, 0.3)))
            .unzip();
        assert!(busy.iter().zip(&idle).all(|(busy, idle)| !busy || *idle));
        let kept = busy.iter().filter(|kept| **kept).count();
        assert!((150..250).contains(&kept), "{kept}");
    }

    #[test]
    fn names_that_are_not_heard_any_more_make_room() {
        let start = Instant::now();
        let sampler = Sampler::new(start);
        let names: Vec<String> = (0..NAMES_MAX).map(|at| format!("GET /{at}")).collect();
        for name in &names {
            sampler.keeps(&Offer { name, ..offer(1) }, start);
        }
        let known = || sampler.state.lock().expect("no panic").names.len();
        assert_eq!(known(), NAMES_MAX);
        for second in 1..=IDLE_MAX + 1 {
            sampler.keeps(&offer(1), start + WINDOW * second);
        }
        assert_eq!(known(), 1, "that which is offered now");
    }

    #[test]
    fn failed_and_slow_ones_are_kept_under_load() {
        let start = Instant::now();
        let sampler = Sampler::new(start);
        kept_per_s(&sampler, start, 20_000);
        let now = start + Duration::from_secs(4);
        let unlucky = Offer {
            trace_id: 1,
            ..offer(0)
        };
        assert!(!sampler.keeps(&unlucky, now));
        assert!(sampler.keeps(
            &Offer {
                has_failed: true,
                ..unlucky
            },
            now
        ));
        assert!(sampler.keeps(
            &Offer {
                duration_us: 5_000,
                ..unlucky
            },
            now
        ));
        assert!(!sampler.keeps(
            &Offer {
                is_sampled: false,
                ..offer(7)
            },
            now
        ));
    }
}
