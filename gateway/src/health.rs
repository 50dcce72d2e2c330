//! Whether an instance should be asked, from its pulses and from how it answered.
//!
//! Values in, values out. A late pulse makes an instance suspect only while others' pulses arrive:
//! when all are late, it is we or the bus. One that failed is passed over until a probe, a pulse or
//! an answer shows that it is back. Start at [`Health::is_up`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// After a failure the instance is probed this soon, then at doubling distances up to the second.
const PROBE_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// One that said it is busy is passed over so long.
const BUSY_FOR: Duration = Duration::from_millis(100);

/// Names whose last pulse is kept; some 100 bytes each.
const HEARD_MAX: usize = 10_000;
/// A name without pulses is forgotten after this when there are too many.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What is known of one instance.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pulsed_at: Option<Instant>,
    failure: Option<Failure>,
    busy_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    fault: Fault,
    probe_at: Instant,
    backoff: Duration,
}

/// How an instance failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens there.
    Gone,
    /// It did not answer, or broke off.
    Silent,
    /// It said that it takes no more at this moment.
    Busy,
}

/// What is known of all pulses together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulses {
    /// When the last one of anybody came.
    pub(crate) last: Option<Instant>,
    /// A pulse older than this is late.
    pub(crate) suspect_after: Duration,
}

/// Whose pulses came, also of instances that are in no table yet: one that falls silent before it
/// is told of would never be missed otherwise.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    by_name: HashMap<String, Instant>,
    last: Option<Instant>,
}

impl Heard {
    /// A pulse of `<service>.<version>.<instance>` came.
    pub(crate) fn pulse(&mut self, name: &str, now: Instant) {
        self.last = Some(now);
        match self.by_name.get_mut(name) {
            Some(at) => *at = now,
            None => {
                if self.by_name.len() >= HEARD_MAX {
                    self.by_name.retain(|_, at| now - *at < FORGET_AFTER);
                }
                if self.by_name.len() < HEARD_MAX {
                    self.by_name.insert(name.to_owned(), now);
                }
            }
        }
    }

    /// When its last pulse came.
    pub(crate) fn at(&self, name: &str) -> Option<Instant> {
        self.by_name.get(name).copied()
    }

    /// When the last one of anybody came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }
}

impl Health {
    /// A pulse came: who pulses is there, but may still not answer.
    pub(crate) fn pulse(&mut self, now: Instant) {
        self.pulsed_at = Some(now);
        if self
            .failure
            .is_some_and(|failure| failure.fault == Fault::Gone)
        {
            self.failure = None;
        }
    }

    /// Whether a pulse ever came.
    pub(crate) fn has_pulse(&self) -> bool {
        self.pulsed_at.is_some()
    }

    /// A request failed.
    pub(crate) fn fail(&mut self, fault: Fault, now: Instant) {
        if fault == Fault::Busy {
            self.busy_until = Some(now + BUSY_FOR);
        } else if self.failure.is_none() {
            self.failure = Some(Failure {
                fault,
                probe_at: now + PROBE_AFTER[0],
                backoff: PROBE_AFTER[0],
            });
        }
    }

    /// It answered, a request or a probe.
    pub(crate) fn answer(&mut self) {
        self.failure = None;
    }

    /// A probe failed.
    pub(crate) fn miss(&mut self, now: Instant) {
        if let Some(failure) = &mut self.failure {
            failure.backoff = (failure.backoff * 2).min(PROBE_AFTER[1]);
            failure.probe_at = now + failure.backoff;
        }
    }

    /// When it is to be probed; `None` where it has not failed.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.failure.map(|failure| failure.probe_at)
    }

    /// Whether its pulse is late though others arrive.
    pub(crate) fn is_suspect(&self, now: Instant, pulses: Pulses) -> bool {
        let is_late = |at: Instant| now.saturating_duration_since(at) > pulses.suspect_after;
        let others_arrive = pulses.last.is_some_and(|last| !is_late(last));
        others_arrive && self.pulsed_at.is_some_and(is_late)
    }

    /// Whether it said a moment ago that it takes no more.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Whether it should be asked, as long as there is a choice.
    pub(crate) fn is_up(&self, now: Instant, pulses: Pulses) -> bool {
        self.failure.is_none() && !self.is_busy(now) && !self.is_suspect(now, pulses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pulses(last: Instant) -> Pulses {
        Pulses {
            last: Some(last),
            suspect_after: 600 * MS,
        }
    }

    #[test]
    fn a_late_pulse_is_a_fact_only_while_others_arrive() {
        let start = Instant::now();
        let mut health = Health::default();
        let at = |ms: u32| start + ms * MS;
        assert!(
            health.is_up(at(5_000), pulses(at(5_000))),
            "it never pulsed"
        );
        health.pulse(at(0));
        assert!(health.is_up(at(600), pulses(at(600))));
        assert!(!health.is_up(at(601), pulses(at(500))));
        assert!(health.is_up(at(601), pulses(at(0))), "all are late");
        health.pulse(at(700));
        assert!(health.is_up(at(701), pulses(at(700))));
    }

    #[test]
    fn a_failed_one_is_probed_ever_more_rarely_until_it_answers() {
        let start = Instant::now();
        let up = |health: &Health, now| health.is_up(now, pulses(now));
        let mut health = Health::default();
        health.fail(Fault::Silent, start);
        health.pulse(start + MS);
        assert!(
            !up(&health, start + MS),
            "a pulse does not make a silent one answer"
        );
        let mut distances = Vec::new();
        for _ in 0..7 {
            let at = health.probe_at().expect("it failed");
            health.miss(at);
            distances.push((health.probe_at().expect("it failed") - at).as_millis());
        }
        assert_eq!(distances, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        health.answer();
        assert!(up(&health, start + MS));
        health.fail(Fault::Gone, start);
        health.pulse(start + 2 * MS);
        assert!(up(&health, start + 2 * MS), "a pulse shows that it is back");
        health.fail(Fault::Busy, start);
        assert!(!up(&health, start + 99 * MS));
        assert!(up(&health, start + 101 * MS));
    }
}
