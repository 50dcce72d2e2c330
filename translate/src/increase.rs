//! From totals since a start to increases since the report before.
//!
//! The last total of each series is remembered, within a bound. A body's totals are compared at once
//! but kept only when its lines are told ([`Increases::keep`]), so that a body that is sent again,
//! because the bus was away, gives the same increases again. Start at [`Reading::number`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serin_wire::Observed;

use crate::otlp::exponential::Exponential;

/// Numbers remembered over all series, bounds and counts of histograms among them: with the names
/// some 100 bytes for each of 50,000 counters.
const NUMBERS_MAX: usize = 200_000;
/// What a series counts beside its histogram's numbers.
const SERIES_NUMBERS: usize = 4;
/// A series not heard of for so long makes room for others.
const SILENT_US: i64 = 15 * 60 * 1_000_000;

/// The last totals of all series.
#[derive(Debug)]
pub struct Increases {
    kept: Mutex<Kept>,
    begun_us: i64,
}

#[derive(Debug, Default)]
struct Kept {
    by_series: HashMap<String, Last>,
    numbers: usize,
    /// When a series was forgotten, or found no room: one that began before may have come before.
    forgotten_us: i64,
}

/// Totals of one body that are not kept yet.
#[derive(Debug, Default)]
pub struct Pending(HashMap<String, Last>);

/// A total as it came last.
#[derive(Debug, Clone)]
struct Last {
    time_us: i64,
    total: Total,
}

#[derive(Debug, Clone)]
enum Total {
    Number(f64),
    Explicit(Observed),
    Exponential(Exponential),
}

/// When a total began and was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// When it was 0, where that is told.
    pub(crate) start_us: Option<i64>,
    pub(crate) time_us: i64,
}

/// One body being compared.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    increases: &'a Increases,
    pending: Pending,
}

/// What a total is to the one before.
enum Before {
    /// The one before.
    Total(Total),
    /// It counts from 0: nothing came before, or it began again.
    Zero,
    /// Nobody knows what came before.
    Unknown,
    /// It is older than the one before, and told already.
    Stale,
}

impl Increases {
    /// Remembers nothing yet. A total that began after `begun_us` and comes first counts from 0.
    pub fn new(begun_us: i64) -> Increases {
        Increases {
            kept: Mutex::default(),
            begun_us,
        }
    }

    /// Keeps the totals of a body whose lines are told. Bodies that have a series in common are to be
    /// read and kept one after the other, else each increase is the one since the same total.
    pub fn keep(&self, pending: Pending, now_us: i64) {
        let mut kept = self.kept();
        for (series, last) in pending.0 {
            let wanted = last.total.numbers();
            let held = kept.by_series.get(&series).map(|last| last.total.numbers());
            if kept.numbers + wanted > NUMBERS_MAX + held.unwrap_or_default() {
                kept.forget_silent(now_us);
            }
            let held = kept.by_series.remove(&series);
            kept.numbers -= held.map_or(0, |last| last.total.numbers());
            if kept.numbers + wanted <= NUMBERS_MAX {
                kept.numbers += wanted;
                kept.by_series.insert(series, last);
            } else {
                kept.forgotten_us = now_us;
            }
        }
    }

    /// How many series are remembered.
    pub fn series(&self) -> usize {
        self.kept().by_series.len()
    }

    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading {
            increases: self,
            pending: Pending::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget_silent(&mut self, now_us: i64) {
        let before = self.by_series.len();
        self.by_series
            .retain(|_, last| now_us.saturating_sub(last.time_us) < SILENT_US);
        if self.by_series.len() < before {
            self.forgotten_us = now_us;
        }
        let numbers = self.by_series.values().map(|last| last.total.numbers());
        self.numbers = numbers.sum();
    }
}

impl Total {
    fn numbers(&self) -> usize {
        SERIES_NUMBERS
            + match self {
                Total::Number(_) => 0,
                Total::Explicit(observed) => observed.bounds.len() + observed.counts.len(),
                Total::Exponential(exponential) => exponential.len(),
            }
    }
}

impl Reading<'_> {
    /// The increase of a number that only rises; `None` where the one before is unknown.
    pub(crate) fn number(&mut self, series: &str, span: Span, total: f64) -> Option<f64> {
        let increase = match self.before(series, span) {
            Before::Total(Total::Number(before)) if total >= before => Some(total - before),
            Before::Total(_) | Before::Zero => Some(total),
            Before::Unknown => None,
            Before::Stale => return None,
        };
        self.remember(series, span, Total::Number(total));
        increase
    }

    /// What a histogram observed since the report before.
    pub(crate) fn explicit(
        &mut self,
        series: &str,
        span: Span,
        total: Observed,
    ) -> Option<Observed> {
        let increase = match self.before(series, span) {
            Before::Total(Total::Explicit(before)) => {
                Some(minus(&total, &before).unwrap_or_else(|| total.clone()))
            }
            Before::Total(_) | Before::Zero => Some(total.clone()),
            Before::Unknown => None,
            Before::Stale => return None,
        };
        self.remember(series, span, Total::Explicit(total));
        increase
    }

    /// The same for exponential buckets.
    pub(crate) fn exponential(
        &mut self,
        series: &str,
        span: Span,
        total: Exponential,
    ) -> Option<Exponential> {
        let increase = match self.before(series, span) {
            Before::Total(Total::Exponential(before)) => {
                Some(total.minus(&before).unwrap_or_else(|| total.clone()))
            }
            Before::Total(_) | Before::Zero => Some(total.clone()),
            Before::Unknown => None,
            Before::Stale => return None,
        };
        self.remember(series, span, Total::Exponential(total));
        increase
    }

    /// The totals, to be kept once the lines are told.
    pub(crate) fn finish(self) -> Pending {
        self.pending
    }

    fn before(&self, series: &str, span: Span) -> Before {
        let series = from(series, span);
        let pending = self.pending.0.get(&series).cloned();
        let kept = self.increases.kept();
        let Some(last) = pending.or_else(|| kept.by_series.get(&series).cloned()) else {
            let known_since_us = self.increases.begun_us.max(kept.forgotten_us);
            let is_ours = span.start_us.is_some_and(|us| us >= known_since_us);
            return match is_ours {
                true => Before::Zero,
                false => Before::Unknown,
            };
        };
        match span.time_us < last.time_us {
            true => Before::Stale,
            false => Before::Total(last.total),
        }
    }

    fn remember(&mut self, series: &str, span: Span, total: Total) {
        let last = Last {
            time_us: span.time_us,
            total,
        };
        self.pending.0.insert(from(series, span), last);
    }
}

/// A series with its start: after another start it is another one. So two processes that call
/// themselves the same are still told apart.
fn from(series: &str, span: Span) -> String {
    let start_us = span.start_us.unwrap_or_default();
    format!("{series}\0{start_us}")
}

/// The difference of two totals with the same bounds; `None` where the later one began again.
fn minus(total: &Observed, before: &Observed) -> Option<Observed> {
    if total.bounds != before.bounds || total.counts.len() != before.counts.len() {
        return None;
    }
    let counts = total.counts.iter().zip(&before.counts);
    let counts = counts.map(|(now, before)| now.checked_sub(*before));
    Some(Observed {
        count: total.count.checked_sub(before.count)?,
        sum: Option::zip(total.sum, before.sum).map(|(now, before)| now - before),
        // They are of the time since the start, not of these observations.
        min: None,
        max: None,
        bounds: total.bounds.clone(),
        counts: counts.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start_us: Option<i64>, time_us: i64) -> Span {
        Span { start_us, time_us }
    }

    fn told(increases: &Increases, start_us: Option<i64>, time_us: i64, total: f64) -> Option<f64> {
        let mut reading = increases.reading();
        let increase = reading.number("a", span(start_us, time_us), total);
        increases.keep(reading.finish(), time_us);
        increase
    }

    #[test]
    fn totals_become_increases() {
        let increases = Increases::new(100);
        assert_eq!(told(&increases, None, 101, 5.0), None);
        assert_eq!(told(&increases, None, 102, 7.0), Some(2.0));
        assert_eq!(told(&increases, None, 103, 7.0), Some(0.0));
        // It began again.
        assert_eq!(told(&increases, None, 104, 3.0), Some(3.0));
        // An older report says nothing new.
        assert_eq!(told(&increases, None, 103, 7.0), None);
        assert_eq!(told(&increases, None, 105, 4.0), Some(1.0));
    }

    #[test]
    fn a_first_total_counts_where_it_began_after_us() {
        let begun_before = Increases::new(100);
        assert_eq!(told(&begun_before, Some(99), 101, 5.0), None);
        assert_eq!(told(&begun_before, Some(99), 102, 6.0), Some(1.0));
        let begun_after = Increases::new(100);
        assert_eq!(told(&begun_after, Some(100), 101, 5.0), Some(5.0));
        // Another start, though the total is larger.
        assert_eq!(told(&begun_after, Some(102), 103, 6.0), Some(6.0));
    }

    #[test]
    fn what_was_not_told_is_compared_again() {
        let increases = Increases::new(0);
        assert_eq!(told(&increases, None, 1, 5.0), None);
        for _ in 0..2 {
            let mut reading = increases.reading();
            assert_eq!(reading.number("a", span(None, 2), 9.0), Some(4.0));
            // Twice in one body.
            assert_eq!(reading.number("a", span(None, 3), 10.0), Some(1.0));
        }
    }

    #[test]
    fn histograms_are_subtracted_bucket_by_bucket() {
        let observed = |counts: &[u64], sum: f64| Observed {
            count: counts.iter().sum(),
            sum: Some(sum),
            min: Some(0.0),
            max: Some(9.0),
            bounds: vec![1.0, 2.0],
            counts: counts.to_vec(),
        };
        let increases = Increases::new(0);
        let mut reading = increases.reading();
        let first = reading.explicit("h", span(Some(1), 2), observed(&[1, 2, 3], 9.0));
        assert_eq!(first.expect("it began after us").max, Some(9.0));
        let second = reading.explicit("h", span(Some(1), 3), observed(&[1, 4, 3], 12.0));
        let second = second.expect("it rises");
        assert_eq!((second.count, second.sum), (2, Some(3.0)));
        assert_eq!((second.counts, second.max), (vec![0, 2, 0], None));
        let again = reading.explicit("h", span(Some(1), 4), observed(&[0, 5, 3], 1.0));
        assert_eq!(again.expect("it began again").counts, [0, 5, 3]);
    }

    #[test]
    fn memory_is_bounded_and_silent_series_make_room() {
        let increases = Increases::new(0);
        let told = |series: &str, time_us| {
            let mut reading = increases.reading();
            reading.number(series, span(None, time_us), 1.0);
            increases.keep(reading.finish(), time_us);
        };
        let series_max = NUMBERS_MAX / SERIES_NUMBERS;
        for number in 0..series_max + 10 {
            told(&number.to_string(), 1);
        }
        assert_eq!(increases.series(), series_max);
        told("0", 2);
        assert_eq!(increases.series(), series_max);
        told("new", SILENT_US + 1);
        assert_eq!(increases.series(), 2);
    }

    #[test]
    fn what_found_no_room_is_not_counted_from_zero_each_time() {
        let increases = Increases::new(0);
        let told = |series: &str, time_us, total| {
            let mut reading = increases.reading();
            let increase = reading.number(series, span(Some(1), time_us), total);
            increases.keep(reading.finish(), time_us);
            increase
        };
        for number in 0..NUMBERS_MAX / SERIES_NUMBERS {
            told(&number.to_string(), 2, 1.0);
        }
        assert_eq!(told("one more", 3, 5.0), Some(5.0), "it may be its first");
        assert_eq!(
            told("one more", 4, 9.0),
            None,
            "nobody knows what came before"
        );
        // Some fall silent and are forgotten; when they speak again, they had spoken before.
        assert_eq!(told("one more", SILENT_US + 3, 9.0), None);
        assert_eq!(told("7", SILENT_US + 4, 3.0), None);
        assert_eq!(told("7", SILENT_US + 5, 4.0), Some(1.0));
    }
}
