//! Identities given by clients: `id` of an event, remembered for 24 hours per service.
//!
//! Our SDKs number their messages and need none of this; a client that only knows `ce-id` may send
//! an event again within a day and it is taken once. 16 bytes of hash stand for an identity: among
//! two million a false match has a chance below 10^-25. Pure; time is a parameter.

use std::collections::{HashSet, VecDeque};

use xxhash_rust::xxh3::Xxh3;

/// How long an identity is remembered.
pub(crate) const REMEMBER_US: i64 = 24 * 3600 * 1_000_000;

/// The identities of the last day.
#[derive(Debug)]
pub(crate) struct Seen {
    known: HashSet<u128>,
    by_age: VecDeque<(u128, i64)>,
    /// Heard of since the last flush.
    fresh: Vec<(u128, i64)>,
    count_max: usize,
    /// Those that arrived before this are forgotten; the catalogue is told.
    from_us: Option<i64>,
    /// Those forgotten within their day, since there were too many.
    forgotten: u64,
}

/// What stands for an identity of a service.
pub(crate) fn hash_of(service: &str, id: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(service.as_bytes());
    hash.update(&[0]);
    hash.update(id.as_bytes());
    hash.digest128()
}

impl Seen {
    /// As the catalogue has them.
    pub(crate) fn from_kept(mut kept: Vec<(u128, i64)>, count_max: usize) -> Seen {
        kept.sort_unstable_by_key(|&(_, time_us)| time_us);
        Seen {
            known: kept.iter().map(|&(hash, _)| hash).collect(),
            by_age: kept.into(),
            fresh: Vec::new(),
            count_max,
            from_us: None,
            forgotten: 0,
        }
    }

    /// Whether the identity is known.
    pub(crate) fn has(&self, hash: u128) -> bool {
        self.known.contains(&hash)
    }

    /// Whether an identity was taken within the last day.
    pub(crate) fn was_taken(&mut self, hash: u128, now_us: i64) -> bool {
        self.forget(now_us, usize::MAX);
        self.has(hash)
    }

    /// Takes an identity; `false` where it was taken within the last day. One imported file may have
    /// millions: those are remembered as long as half of the places are free, so that they never
    /// crowd out the day's.
    pub(crate) fn take(&mut self, hash: u128, now_us: i64, is_import: bool) -> bool {
        let count_max = if is_import {
            usize::MAX
        } else {
            self.count_max
        };
        self.forget(now_us, count_max);
        if self.known.contains(&hash) {
            return false;
        }
        if is_import && self.known.len() >= self.count_max / 2 {
            self.forgotten += 1;
            return true;
        }
        self.known.insert(hash);
        self.by_age.push_back((hash, now_us));
        self.fresh.push((hash, now_us));
        true
    }

    /// Lets go of those past their day, and of the oldest where there are `count_max`.
    fn forget(&mut self, now_us: i64, count_max: usize) {
        while let Some(&(oldest, time_us)) = self.by_age.front() {
            if now_us - time_us < REMEMBER_US && self.by_age.len() < count_max {
                break;
            }
            self.forgotten += u64::from(now_us - time_us < REMEMBER_US);
            self.known.remove(&oldest);
            self.by_age.pop_front();
            let next = self.by_age.front().map_or(now_us, |&(_, time_us)| time_us);
            self.from_us = self.from_us.max(Some(next));
        }
    }

    /// Those forgotten before their time since the start, and those of imports never remembered.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The catalogue may forget those that arrived before this.
    pub(crate) fn kept_from_us(&self) -> Option<i64> {
        self.from_us
    }

    /// Those taken since the last call.
    pub(crate) fn take_fresh(&mut self) -> Vec<(u128, i64)> {
        std::mem::take(&mut self.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_taken_once_a_day_and_service() {
        let mut seen = Seen::from_kept(vec![(hash_of("a", "old"), 5)], 100);
        assert!(!seen.take(hash_of("a", "old"), 6, false));
        assert!(seen.take(hash_of("b", "old"), 6, false));
        assert!(!seen.take(hash_of("b", "old"), REMEMBER_US, false));
        assert!(seen.take(hash_of("b", "old"), 6 + REMEMBER_US, false));
        // Both were past their day: forgotten as promised.
        assert_eq!(
            (seen.forgotten(), seen.kept_from_us()),
            (0, Some(6 + REMEMBER_US))
        );
        assert_eq!(seen.take_fresh().len(), 2);
        assert_ne!(hash_of("a", "bc"), hash_of("ab", "c"));
    }

    #[test]
    fn imports_are_taken_once_and_never_crowd_out_the_day() {
        let mut seen = Seen::from_kept(vec![(1, 0), (2, 0)], 10);
        assert!(!seen.take(1, 5, true));
        for n in 3..9 {
            assert!(seen.take(n, 5, true));
        }
        // Five of ten are taken by now: the other imports are not remembered, the day's are.
        assert!(seen.has(5) && !seen.has(6) && seen.take(6, 5, true));
        assert!(seen.take(100, 6, false) && !seen.take(100, 6, true));
        assert!(seen.has(1) && !seen.take(5, 6, false));
        assert_eq!(seen.forgotten(), 4);
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::from_kept(Vec::new(), 10);
        for n in 0..100 {
            assert!(seen.take(n, 0, false));
        }
        assert_eq!(seen.known.len(), 10);
        assert!(seen.has(99));
        assert!(!seen.has(9));
        assert_eq!((seen.forgotten(), seen.kept_from_us()), (90, Some(0)));
    }
}
