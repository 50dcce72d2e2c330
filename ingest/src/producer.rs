//! Which numbered messages were taken: each number once, however late it is sent again.
//!
//! Per producer all numbers up to a mark, and ranges above it, so that a refused number can be sent
//! after its successor. A hole is never given up: a number that would make one range too many is
//! refused instead, and said so. Pure: the catalogue keeps what [`Producers::take_changed`] tells, in the
//! same transaction as the rows. Invariant I14: a retry after an unknown result never makes two
//! rows, at any delay. Start at [`Producers::take`].

use std::collections::{BTreeMap, HashMap, HashSet};

use serin_lake::{PRODUCER_KEPT_US, ProducerMark};
use serin_wire::{Number, ProducerId};

/// Ranges kept above the first hole, 16 bytes each in the catalogue. A producer that gives numbers up
/// for good makes one with each; an SDK has far fewer messages under way.
pub(crate) const RANGES_MAX: usize = 4096;
/// Producers kept in memory; a raw client may invent names without end.
const PRODUCERS_MAX: usize = 200_000;
/// How exactly it is remembered when a producer was heard of last that emits nothing.
const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// What a number is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    Duplicate,
    /// There are too many holes before it; not taken, so that it may come again.
    Refused,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mark {
    contiguous: u64,
    /// Ranges above the mark, apart from it and from each other: first to last.
    above: BTreeMap<u64, u64>,
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
    forgotten: u64,
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
        let mark = self.marks.get(&number.producer);
        mark.is_some_and(|mark| mark.taken_from(number.number) >= Some(to.max(number.number)))
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
        if mark.taken_from(number.number).is_some() {
            return Taken::Duplicate;
        }
        let to = to.max(number.number);
        if mark.above.len() >= RANGES_MAX && !mark.touches(number.number, to) {
            return Taken::Refused;
        }
        mark.add(number.number, to);
        Taken::New
    }

    /// A producer that lives is remembered though it emits nothing.
    pub(crate) fn lives(&mut self, id: &ProducerId, now_us: i64) {
        let mark = self.marks.get_mut(id);
        if let Some(mark) = mark.filter(|mark| now_us - mark.heard_us > DAY_US) {
            mark.heard_us = now_us;
            self.changed.insert(id.clone());
        }
    }

    /// Up to which number nothing of a producer is missing that could still come.
    pub(crate) fn complete_to(&self, id: &ProducerId) -> u64 {
        let Some(mark) = self.marks.get(id) else {
            return 0;
        };
        let to = mark.contiguous.max(mark.excused);
        mark.taken_from(to.saturating_add(1)).unwrap_or(to)
    }

    /// The bus lost messages: numbers before the next one heard of each producer hold no seal.
    pub(crate) fn lost(&mut self) {
        self.has_lost = true;
        self.excused.clear();
    }

    /// Producers forgotten before their time since the start, because there were too many.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
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
                    above: mark.above.iter().map(|(&from, &to)| (from, to)).collect(),
                    heard_us: mark.heard_us,
                    is_import: mark.is_import,
                })
            })
            .collect()
    }

    /// Forgets whose time is over; where that is not enough, the longest silent, counted.
    fn make_room(&mut self, now_us: i64) {
        let changed = &self.changed;
        let stays = |id: &ProducerId, mark: &Mark| mark.is_import || changed.contains(id);
        self.marks
            .retain(|id, mark| stays(id, mark) || now_us - mark.heard_us < PRODUCER_KEPT_US);
        if self.marks.len() < PRODUCERS_MAX {
            return;
        }
        let mut heard: Vec<i64> = self.marks.values().map(|mark| mark.heard_us).collect();
        let before = self.marks.len();
        // A tenth goes at once, so that this is rare.
        let (_, &mut edge, _) = heard.select_nth_unstable(PRODUCERS_MAX / 10);
        self.marks
            .retain(|id, mark| stays(id, mark) || mark.heard_us > edge);
        self.forgotten += (before - self.marks.len()) as u64;
        tracing::warn!(
            left = self.marks.len(),
            "more producers than are kept; the longest silent were forgotten"
        );
    }
}

impl Mark {
    /// The last number of the run of taken ones that begins at `number`; `None` where it is not taken.
    fn taken_from(&self, number: u64) -> Option<u64> {
        if number <= self.contiguous {
            return Some(self.contiguous);
        }
        let (_, &to) = self.above.range(..=number).next_back()?;
        (number <= to).then_some(to)
    }

    /// Whether a range that is not taken yet lengthens another instead of being one more.
    fn touches(&self, from: u64, to: u64) -> bool {
        self.taken_from(from - 1).is_some() || self.above.contains_key(&to.saturating_add(1))
    }

    /// Adds a range, joining what it touches.
    fn add(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from, to);
        if let Some((&before, &end)) = self.above.range(..=from).next_back()
            && end.saturating_add(1) >= from
        {
            from = before;
            to = to.max(end);
        }
        while let Some((&next, &end)) = self.above.range(from..=to.saturating_add(1)).next() {
            self.above.remove(&next);
            to = to.max(end);
        }
        if from <= self.contiguous.saturating_add(1) {
            self.contiguous = self.contiguous.max(to);
        } else {
            self.above.insert(from, to);
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
        assert_eq!((marks[0].contiguous, &*marks[0].above), (5, &[(7, 7)][..]));
        assert!(producers.take_changed().is_empty());
    }

    #[test]
    fn one_that_lives_is_remembered_though_it_emits_nothing() {
        let mut producers = Producers::default();
        take(&mut producers, 1);
        producers.take_changed();
        let id = number(1).producer;
        producers.lives(&id, DAY_US / 2);
        assert_eq!(producers.take_changed(), [], "not each second");
        producers.lives(&id, 2 * DAY_US);
        assert_eq!(producers.take_changed()[0].heard_us, 2 * DAY_US);
        producers.lives(
            &"other/0/1".parse::<Number>().expect("a number").producer,
            DAY_US,
        );
        assert_eq!(producers.take_changed(), [], "nothing is known of it");
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
    fn holes_above_are_bounded_and_none_is_given_up() {
        let mut producers = Producers::default();
        let taken = (0..20_000).filter(|n| take(&mut producers, 3 + 2 * n) == Taken::New);
        assert_eq!(taken.count(), RANGES_MAX);
        assert_eq!(take(&mut producers, 40_000), Taken::Refused);
        assert_eq!(producers.take_changed()[0].above.len(), RANGES_MAX);
        // What closes a hole is taken, and makes room for the number that was refused.
        assert_eq!(take(&mut producers, 1), Taken::New);
        assert_eq!(take(&mut producers, 2), Taken::New);
        assert_eq!(take(&mut producers, 40_000), Taken::New);
    }

    /// Bodies of an import have 256 numbers each, and may overtake one another.
    #[test]
    fn a_body_that_was_overtaken_by_many_is_taken() {
        let mut producers = Producers::default();
        let mut body = |n: u64| producers.take(&number(256 * n + 1), 256 * n + 256, true, 0);
        for n in 1..=RANGES_MAX as u64 {
            assert_eq!(body(n), Taken::New);
        }
        assert_eq!(body(0), Taken::New);
        let mark = &producers.take_changed()[0];
        assert_eq!((mark.contiguous, mark.above.len()), (256 * 4097, 0));
    }

    #[test]
    fn who_is_forgotten_before_thirty_days_is_counted() {
        let day_us = PRODUCER_KEPT_US / 30;
        let mut producers = Producers::default();
        let mut take = |who: usize, day: i64| {
            let mut number = number(1);
            number.producer.producer = who.to_string();
            producers.take(&number, 1, false, day * day_us);
            producers.changed.clear();
            (producers.marks.len(), producers.forgotten())
        };
        for who in 0..PRODUCERS_MAX {
            take(who, (who % 2) as i64 * 25);
        }
        // Those of the first day are past their time.
        assert_eq!(take(PRODUCERS_MAX, 31), (PRODUCERS_MAX / 2 + 1, 0));
        for who in 0..PRODUCERS_MAX / 2 - 1 {
            take(2 * who, 31);
        }
        // The longest silent go early: all that were last heard of at one moment.
        let early = PRODUCERS_MAX / 2;
        let left = (PRODUCERS_MAX - early + 1, early as u64);
        assert_eq!(take(PRODUCERS_MAX + 1, 32), left);
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
        fn each_number_is_taken_once(sent in prop::collection::vec((1u64..60, 0u64..4, any::<bool>()), 0..300)) {
            let mut producers = Producers::default();
            let mut taken = HashSet::new();
            for (n, more, restarts) in sent {
                // Senders cut their numbers into the same messages each time.
                let (n, to) = (4 * n, 4 * n + more);
                let is_new = producers.take(&number(n), to, false, 0) == Taken::New;
                prop_assert_eq!(is_new, taken.insert(n));
                prop_assert!(producers.has(&number(n), n));
                if restarts {
                    producers.changed.insert(number(1).producer);
                    producers = Producers::from_marks(producers.take_changed());
                }
            }
        }
    }
}
