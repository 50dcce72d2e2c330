//! Up to when the data are complete: the watermark, from what producers seal in their beats.
//!
//! A seal says "all I emitted up to `time` is in my messages up to `number`". It may overtake those
//! messages, so it counts only once they are all taken. The watermark is the least sealed time over
//! producers whose beat is younger than 5 s, and never falls (docs/decisions/001), but where our clock was
//! set back: what was sealed in a future that is none says nothing of now. Pure.

use std::collections::{HashMap, VecDeque};

use serin_wire::time::SET_BACK_US_MAX;
use serin_wire::{ProducerId, Sealed};

/// A producer whose last beat is older than this holds nothing back any more.
pub(crate) const BEAT_AGE_US_MAX: i64 = 5_000_000;
/// Seals of one producer that wait for their messages: a minute of beats.
const WAITING_MAX: usize = 64;

#[derive(Debug, Default)]
struct Producer {
    /// Seals whose messages are not all taken, oldest first: number and time.
    waiting: VecDeque<(u64, i64)>,
    sealed_us: Option<i64>,
    beat_us: i64,
}

/// The producers that beat, and the watermark.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    producers: HashMap<ProducerId, Producer>,
    watermark_us: Option<i64>,
    /// When it was looked at last, by our clock.
    looked_us: i64,
}

impl Seals {
    /// Hears a seal at `now_us` by our clock. A time in the future seals only up to now.
    pub(crate) fn hear(&mut self, seal: &Sealed, now_us: i64) {
        let id = ProducerId {
            producer: seal.producer.clone(),
            epoch: seal.epoch,
        };
        let producer = self.producers.entry(id).or_default();
        producer.beat_us = now_us;
        if producer.waiting.len() >= WAITING_MAX {
            // The newest waits for everything the one before waits for.
            producer.waiting.pop_back();
        }
        producer
            .waiting
            .push_back((seal.number, seal.time_us.min(now_us)));
    }

    /// Counts the seals whose messages were taken, and gives the watermark.
    pub(crate) fn advance(
        &mut self,
        complete_to: impl Fn(&ProducerId) -> u64,
        now_us: i64,
    ) -> Option<i64> {
        self.producers.retain(|_, producer| {
            // Where the clock went back, a beat of before would stay young until it is there again.
            producer.beat_us = producer.beat_us.min(now_us);
            now_us - producer.beat_us <= BEAT_AGE_US_MAX
        });
        if self.looked_us.saturating_sub(now_us) > SET_BACK_US_MAX {
            self.forget_after(now_us);
        }
        self.looked_us = now_us;
        let mut least = None;
        let mut is_held = false;
        for (id, producer) in &mut self.producers {
            let complete = complete_to(id);
            producer.waiting.retain(|&(number, time_us)| {
                let counts = number <= complete;
                if counts {
                    producer.sealed_us = producer.sealed_us.max(Some(time_us));
                }
                !counts
            });
            match producer.sealed_us {
                Some(sealed_us) => least = Some(least.map_or(sealed_us, |l: i64| l.min(sealed_us))),
                // It beats, but what it sealed is not here yet: nothing is known to be complete.
                None => is_held = true,
            }
        }
        if !is_held {
            self.watermark_us = self.watermark_us.max(least);
        }
        self.watermark_us
    }

    /// Forgets what was sealed after a time.
    fn forget_after(&mut self, end_us: i64) {
        self.watermark_us = self.watermark_us.filter(|mark_us| *mark_us <= end_us);
        for producer in self.producers.values_mut() {
            producer.sealed_us = producer.sealed_us.filter(|sealed_us| *sealed_us <= end_us);
            producer.waiting.retain(|&(_, time_us)| time_us <= end_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn id(producer: &str) -> ProducerId {
        ProducerId {
            producer: producer.to_owned(),
            epoch: 0,
        }
    }

    /// A script of `at PRODUCER seal NUMBER TIME`, `at PRODUCER taken NUMBER` and `at look`, in seconds.
    fn check(script: &str, expected: Expect) {
        let mut seals = Seals::default();
        let mut taken: HashMap<ProducerId, u64> = HashMap::new();
        let mut out = String::new();
        for line in script
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let words: Vec<&str> = line.split(' ').collect();
            let second = |word: &str| word.parse::<i64>().expect(line) * 1_000_000;
            let now_us = second(words[0]);
            match &words[1..] {
                [who, "seal", number, time] => seals.hear(
                    &Sealed {
                        producer: (*who).to_owned(),
                        epoch: 0,
                        number: number.parse().expect(line),
                        time_us: second(time),
                    },
                    now_us,
                ),
                [who, "taken", number] => {
                    taken.insert(id(who), number.parse().expect(line));
                }
                _ => {}
            }
            let watermark = seals.advance(|id| taken.get(id).copied().unwrap_or(0), now_us);
            let watermark = watermark.map(|time_us| time_us / 1_000_000);
            writeln!(out, "{line} -> {watermark:?}").expect("memory");
        }
        expected.assert_eq(&out);
    }

    /// Forty days ahead and back again: the future is forgotten, and what is sealed now counts.
    #[test]
    fn a_clock_that_is_set_right_brings_the_watermark_back() {
        check(
            "100 a seal 0 99
             3456100 a seal 0 3456099
             150 look
             151 a seal 0 150
             152 a seal 0 151
             110 look
             111 a seal 0 110",
            expect![[r#"
                100 a seal 0 99 -> Some(99)
                3456100 a seal 0 3456099 -> Some(3456099)
                150 look -> None
                151 a seal 0 150 -> Some(150)
                152 a seal 0 151 -> Some(151)
                110 look -> Some(151)
                111 a seal 0 110 -> Some(151)
            "#]],
        );
    }

    #[test]
    fn a_seal_waits_for_its_messages() {
        check(
            "10 a seal 3 9
             10 a taken 2
             11 a seal 4 10
             11 a taken 3
             12 a taken 4",
            expect![[r#"
                10 a seal 3 9 -> None
                10 a taken 2 -> None
                11 a seal 4 10 -> None
                11 a taken 3 -> Some(9)
                12 a taken 4 -> Some(10)
            "#]],
        );
    }

    #[test]
    fn the_slowest_that_beats_holds_and_a_silent_one_lets_go() {
        check(
            "10 a seal 0 9
             10 b seal 0 7
             14 a seal 0 13
             15 look
             16 look
             17 b seal 0 8
             18 a seal 0 18",
            expect![[r#"
                10 a seal 0 9 -> Some(9)
                10 b seal 0 7 -> Some(9)
                14 a seal 0 13 -> Some(9)
                15 look -> Some(9)
                16 look -> Some(13)
                17 b seal 0 8 -> Some(13)
                18 a seal 0 18 -> Some(13)
            "#]],
        );
    }

    #[test]
    fn a_clock_that_went_back_lets_go_of_the_silent() {
        check(
            "1000 a seal 0 990
             1000 b seal 0 999
             100 look
             104 b seal 0 1003
             105 look
             106 b seal 0 1005
             1006 b seal 0 1005",
            expect![[r#"
                1000 a seal 0 990 -> Some(990)
                1000 b seal 0 999 -> Some(990)
                100 look -> None
                104 b seal 0 1003 -> None
                105 look -> None
                106 b seal 0 1005 -> Some(106)
                1006 b seal 0 1005 -> Some(1005)
            "#]],
        );
    }

    #[test]
    fn the_future_is_not_sealed() {
        check(
            "10 a seal 0 99",
            expect![[r#"
                10 a seal 0 99 -> Some(10)
            "#]],
        );
    }

    proptest! {
        /// Any order of beats and messages: it never falls and never passes what is incomplete.
        #[test]
        fn never_falls_and_never_overtakes(
            steps in prop::collection::vec((0u8..3, 0u64..9, 0i64..3_000_000, any::<bool>()), 0..200)
        ) {
            let mut seals = Seals::default();
            let mut taken: HashMap<ProducerId, u64> = HashMap::new();
            let (mut now_us, mut last) = (0, None);
            for (who, number, wait, is_beat) in steps {
                now_us += wait;
                let who = id(["a", "b", "c"][usize::from(who)]);
                if is_beat {
                    seals.hear(&Sealed { producer: who.producer, epoch: 0, number, time_us: now_us }, now_us);
                } else {
                    let mark = taken.entry(who).or_default();
                    *mark = (*mark).max(number);
                }
                let watermark = seals.advance(|id| taken.get(id).copied().unwrap_or(0), now_us);
                prop_assert!(watermark >= last);
                prop_assert!(watermark.is_none_or(|w| w <= now_us));
                last = watermark;
            }
        }
    }
}
