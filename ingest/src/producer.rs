//! Which numbered messages were taken: each number once, however late it is sent again.
//!
//! Per producer all numbers up to a mark, and those above it, so that a refused number can be sent
//! after its successor. Pure: the catalogue keeps what [`Producers::take_changed`] tells, in the
//! same transaction as the rows. Invariant I14: a retry after an unknown result never makes two
//! rows, at any delay. Start at [`Producers::take`].

use std::collections::{BTreeSet, HashMap, HashSet};

use serin_lake::ProducerMark;
use serin_wire::{Number, ProducerId};

/// Numbers kept above a hole. A producer that gave a number up for good would otherwise grow its
/// set for ever; an SDK has far fewer messages under way.
const ABOVE_MAX: usize = 4096;
/// Producers kept in memory; a raw client may invent names without end.
const PRODUCERS_MAX: usize = 200_000;
/// A producer that was silent this long will not send an old number again.
const FORGET_AFTER_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// What a number is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    Duplicate,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mark {
    contiguous: u64,
    above: BTreeSet<u64>,
    heard_us: i64,
    is_import: bool,
    /// Numbers up to this cannot come any more, since the bus lost messages before it was first
    /// heard of; they hold no seal. Not kept in the catalogue.
    excused: u64,
}

/// All producers heard of.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    marks: HashMap<ProducerId, Mark>,
    changed: HashSet<ProducerId>,
    /// Set once the bus lost messages: the next number of each producer excuses those before it.
    has_lost: bool,
    excused: HashSet<ProducerId>,
    holes_closed: u64,
}

impl Producers {
    /// As the catalogue has them.
    pub(crate) fn from_marks(marks: Vec<ProducerMark>) -> Producers {
        let mut producers = Producers::default();
        for mark in marks {
            let id = ProducerId {
                producer: mark.producer,
                epoch: mark.epoch,
            };
            let mark = Mark {
                contiguous: mark.contiguous,
                above: mark.above.into_iter().collect(),
                heard_us: mark.heard_us,
                is_import: mark.is_import,
                excused: 0,
            };
            producers.marks.insert(id, mark);
        }
        producers
    }

    /// Whether all numbers from this to `to` were taken already.
    pub(crate) fn has(&self, number: &Number, to: u64) -> bool {
        self.marks.get(&number.producer).is_some_and(|mark| {
            (number.number..=to).all(|n| n <= mark.contiguous || mark.above.contains(&n))
        })
    }

    /// Takes a message that stands for the numbers from its own to `to`.
    pub(crate) fn take(&mut self, number: &Number, to: u64, is_import: bool, now_us: i64) -> Taken {
        if self.marks.len() >= PRODUCERS_MAX && !self.marks.contains_key(&number.producer) {
            self.make_room(now_us);
        }
        let id = &number.producer;
        let mark = self.marks.entry(id.clone()).or_default();
        mark.heard_us = mark.heard_us.max(now_us);
        mark.is_import |= is_import;
        if self.has_lost && self.excused.insert(id.clone()) {
            mark.excused = number.number - 1;
        }
        if !self.changed.contains(id) {
            self.changed.insert(id.clone());
        }
        if number.number <= mark.contiguous || mark.above.contains(&number.number) {
            return Taken::Duplicate;
        }
        let to = to.max(number.number);
        if number.number == mark.contiguous + 1 {
            mark.contiguous = to;
        } else {
            mark.above.extend(number.number..=to);
        }
        mark.close();
        while mark.above.len() > ABOVE_MAX {
            // The oldest hole is given up: whoever sends it now is too late.
            if let Some(first) = mark.above.pop_first() {
                self.holes_closed += first - mark.contiguous - 1;
                mark.contiguous = first;
                mark.close();
            }
        }
        Taken::New
    }

    /// Up to which number nothing of a producer is missing that could still come.
    pub(crate) fn complete_to(&self, id: &ProducerId) -> u64 {
        let Some(mark) = self.marks.get(id) else {
            return 0;
        };
        let mut to = mark.contiguous.max(mark.excused);
        for &above in mark.above.range(to.saturating_add(1)..) {
            if above != to + 1 {
                break;
            }
            to = above;
        }
        to
    }

    /// The bus lost messages: numbers before the next one heard of each producer hold no seal.
    pub(crate) fn lost(&mut self) {
        self.has_lost = true;
        self.excused.clear();
    }

    /// Numbers given up since the start because too many were taken above them.
    pub(crate) fn holes_closed(&self) -> u64 {
        self.holes_closed
    }

    /// The whole marks of the producers heard of since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<ProducerMark> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|id| {
                let mark = self.marks.get(&id)?;
                Some(ProducerMark {
                    producer: id.producer,
                    epoch: id.epoch,
                    contiguous: mark.contiguous,
                    above: mark.above.iter().copied().collect(),
                    heard_us: mark.heard_us,
                    is_import: mark.is_import,
                })
            })
            .collect()
    }

    /// Forgets whom nobody will hear of again; where that is not enough, the longest silent.
    fn make_room(&mut self, now_us: i64) {
        let changed = &self.changed;
        let stays = |id: &ProducerId, mark: &Mark| mark.is_import || changed.contains(id);
        self.marks
            .retain(|id, mark| stays(id, mark) || now_us - mark.heard_us < FORGET_AFTER_US);
        if self.marks.len() < PRODUCERS_MAX {
            return;
        }
        let mut heard: Vec<i64> = self.marks.values().map(|mark| mark.heard_us).collect();
        // A tenth goes at once, so that this is rare.
        let (_, &mut edge, _) = heard.select_nth_unstable(PRODUCERS_MAX / 10);
        self.marks
            .retain(|id, mark| stays(id, mark) || mark.heard_us > edge);
        tracing::warn!(
            left = self.marks.len(),
            "more producers than are kept; the longest silent were forgotten"
        );
    }
}

impl Mark {
    /// Draws the mark over numbers that follow it without a hole.
    fn close(&mut self) {
        while let Some(first) = self.above.first().copied() {
            if first > self.contiguous + 1 {
                break;
            }
            self.above.pop_first();
            self.contiguous = self.contiguous.max(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(n: u64) -> Number {
        format!("p/0/{n}").parse().expect("a number")
    }

    fn take(producers: &mut Producers, n: u64) -> Taken {
        producers.take(&number(n), n, false, 0)
    }

    #[test]
    fn a_refused_number_is_taken_after_its_successor() {
        let mut producers = Producers::default();
        for n in [1, 2, 4, 5, 7] {
            assert_eq!(take(&mut producers, n), Taken::New);
        }
        assert_eq!(producers.complete_to(&number(1).producer), 2);
        for n in [1, 2, 4, 5, 7] {
            assert_eq!(take(&mut producers, n), Taken::Duplicate);
        }
        assert_eq!(take(&mut producers, 3), Taken::New);
        assert_eq!(producers.complete_to(&number(1).producer), 5);
        let marks = producers.take_changed();
        assert_eq!((marks[0].contiguous, &*marks[0].above), (5, &[7][..]));
        assert!(producers.take_changed().is_empty());
    }

    #[test]
    fn a_message_may_stand_for_a_range() {
        let mut producers = Producers::default();
        assert_eq!(producers.take(&number(3), 64, true, 0), Taken::New);
        assert_eq!(producers.take(&number(3), 64, true, 0), Taken::Duplicate);
        assert!(producers.has(&number(3), 64));
        assert!(!producers.has(&number(1), 64));
        assert_eq!(producers.take(&number(1), 1, true, 0), Taken::New);
        assert_eq!(producers.take(&number(2), 2, true, 0), Taken::New);
        assert_eq!(producers.complete_to(&number(1).producer), 64);
    }

    #[test]
    fn holes_above_are_bounded() {
        let mut producers = Producers::default();
        for n in 0..20_000 {
            assert_eq!(take(&mut producers, 2 + 2 * n), Taken::New);
        }
        let marks = producers.take_changed();
        assert!(marks[0].above.len() <= ABOVE_MAX);
        assert!(producers.holes_closed() > 0);
        assert_eq!(take(&mut producers, 1), Taken::Duplicate);
    }

    #[test]
    fn numbers_lost_by_the_bus_hold_no_seal() {
        let mut producers = Producers::default();
        take(&mut producers, 1);
        producers.lost();
        take(&mut producers, 9);
        take(&mut producers, 10);
        assert_eq!(producers.complete_to(&number(1).producer), 10);
        // A refused number may still be taken.
        assert_eq!(take(&mut producers, 5), Taken::New);
    }

    proptest! {
        /// I14, with a restart from the catalogue's marks in between: each number once.
        #[test]
        fn each_number_is_taken_once(sent in prop::collection::vec((1u64..60, any::<bool>()), 0..300)) {
            let mut producers = Producers::default();
            let mut taken = HashSet::new();
            for (n, restarts) in sent {
                let is_new = take(&mut producers, n) == Taken::New;
                prop_assert_eq!(is_new, taken.insert(n));
                if restarts {
                    producers.changed.insert(number(1).producer);
                    producers = Producers::from_marks(producers.take_changed());
                }
            }
        }
    }
}
