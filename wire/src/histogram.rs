//! A latency histogram with fixed logarithmic buckets, so that any two can be added.
//!
//! Bucket `b` holds values in `[LOWEST · 2^(b/4), LOWEST · 2^((b+1)/4))` microseconds: four buckets
//! per doubling bound the relative error of a quantile by 2^(1/4) − 1 ≈ 19 %, halved to about 9 % by
//! answering the bucket's geometric middle. The layout is part of the wire: it never changes.
//! The idea is HdrHistogram's and Prometheus's exponential buckets (schema 2).

use serde::{Deserialize, Serialize};

/// Microseconds where the first bucket begins; everything below counts as this.
pub const LOWEST_US: f64 = 10.0;
/// 10 µs · 2^(104/4) ≈ 671 s: past any request.
pub const BUCKETS: usize = 104;

/// Counts per bucket, with sum; mergeable by addition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Histogram {
    /// Values counted.
    pub count: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// `(bucket, count)` of the buckets that are not empty, in rising order.
    pub buckets: Vec<(u16, u64)>,
}

impl Histogram {
    /// Of buckets alone, as `latency_buckets` of a beat holds them, in any order; their sum is not
    /// known. A bucket beyond the last is the last, as for values past any request.
    pub fn of_buckets(buckets: &[(u16, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for &(bucket, count) in buckets.iter().filter(|(_, count)| *count > 0) {
            histogram.count = histogram.count.saturating_add(count);
            histogram.add(bucket.min(BUCKETS as u16 - 1), count);
        }
        histogram
    }

    /// Counts one value.
    pub fn record(&mut self, value_us: u64) {
        self.count = self.count.saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(value_us);
        self.add(bucket_of(value_us), 1);
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for &(bucket, count) in &other.buckets {
            self.add(bucket, count);
        }
    }

    fn add(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |entry| entry.0) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// The value below which the share `q` (0 to 1) of the values lies, in microseconds; `None` when empty.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        // As a float the count may be rounded up, past itself.
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let rank = rank.min(self.count).max(1);
        let mut seen = 0_u64;
        self.buckets.iter().find_map(|&(bucket, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then(|| LOWEST_US * ((f64::from(bucket) + 0.5) / 4.0).exp2())
        })
    }
}

fn bucket_of(value_us: u64) -> u16 {
    let ratio = (value_us as f64 / LOWEST_US).max(1.0);
    ((ratio.log2() * 4.0) as u16).min(BUCKETS as u16 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_tenth() {
        let mut histogram = Histogram::default();
        for value in 1..=10_000_u64 {
            histogram.record(value);
        }
        for (q, exact) in [(0.5, 5_000.0), (0.95, 9_500.0), (0.99, 9_900.0)] {
            let answer = histogram.quantile_us(q).expect("not empty");
            assert!(
                (answer / exact - 1.0).abs() < 0.10,
                "{q}: {answer} for {exact}"
            );
        }
        assert_eq!(Histogram::default().quantile_us(0.5), None);
    }

    #[test]
    fn merging_equals_counting_together() {
        let (mut a, mut b, mut both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for value in [0, 3, 77, 1_000_000, u64::MAX] {
            a.record(value);
            both.record(value);
        }
        for value in [5, 78, 12_345] {
            b.record(value);
            both.record(value);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }

    #[test]
    fn buckets_that_nobody_counts_neither_panic_nor_get_lost() {
        let last = BUCKETS as u16 - 1;
        let odd = Histogram::of_buckets(&[(u16::MAX, u64::MAX), (3, 0), (last, 7), (2, 1)]);
        assert_eq!((odd.count, odd.buckets.len()), (u64::MAX, 2));
        let mut twice = odd.clone();
        twice.merge(&odd);
        twice.record(1);
        let middle = |bucket: u16| Some(LOWEST_US * ((f64::from(bucket) + 0.5) / 4.0).exp2());
        assert_eq!(twice.quantile_us(0.0), middle(0));
        assert_eq!(twice.quantile_us(1.0), middle(last));
        let rounded_up = Histogram::of_buckets(&[(5, (1 << 53) + 3)]);
        assert_eq!(rounded_up.quantile_us(1.0), middle(5));
    }
}
