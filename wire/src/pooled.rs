//! Histograms as they rest in tables, as text, and many of them as one: what a quantile over rows is
//! computed from.
//!
//! Two kinds rest: `latency_buckets` of `beats`, the buckets of a [`Histogram`], and `buckets` of
//! `metrics`, the bounds and counts of an [`Observed`](crate::Observed). Counts are added. Where
//! bounds differ, the pool has all of them, and what a bucket counted is spread evenly over the parts
//! it is cut into, which is what the quantile of one alone supposes too. Pure; whatever texts say, no
//! more than [`BOUNDS_MAX`] bounds are held. Start at [`Pooled::add`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::histogram::Histogram;
use crate::metric::Edges;

/// Most bounds that are held: four times what the doors take of one histogram. Of more, every other
/// one is dropped, as often as it takes.
pub const BOUNDS_MAX: usize = 1_024;
/// How much of a text an error shows, in characters.
const SHOWN_CHARS: usize = 64;

/// Histograms put together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    latencies: Histogram,
    bounds: Vec<f64>,
    counts: Vec<f64>,
}

/// Why a text adds nothing to the others.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    /// It is something else.
    #[error(
        "{0:?} is no histogram; quantiles are of numbers, of latency_buckets in beats and of buckets in metrics; write p95(try_cast(x AS double)) for numbers that are written as text"
    )]
    NoHistogram(String),
    /// It counts something else than those before.
    #[error(
        "latency_buckets of beats and buckets of metrics do not go together: the first are milliseconds, the others what their metric counts; ask for one quantile of each"
    )]
    TwoKinds,
}

/// The text in `buckets` of `metrics`.
#[derive(Debug, Deserialize)]
struct Told {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Pooled {
    /// Adds a histogram from its text. One whose buckets make no sense has no quantile alone, and adds
    /// nothing here.
    pub fn add(&mut self, text: &str) -> Result<(), PoolError> {
        let none = |_| PoolError::NoHistogram(text.chars().take(SHOWN_CHARS).collect());
        match text.trim_ascii_start().starts_with('[') {
            true => {
                let buckets: Vec<(u16, u64)> = serde_json::from_str(text).map_err(none)?;
                self.latencies.merge(&Histogram::of_buckets(&buckets));
            }
            false => {
                let Told { bounds, counts } = serde_json::from_str(text).map_err(none)?;
                let makes_sense = counts.len() == bounds.len() + 1 && bounds.is_sorted();
                if makes_sense && !bounds.is_empty() {
                    self.pour(
                        bounds,
                        counts.into_iter().map(|count| count as f64).collect(),
                    );
                }
            }
        }
        self.of_one_kind()
    }

    /// Adds those of another pool.
    pub fn merge(&mut self, other: Pooled) -> Result<(), PoolError> {
        self.latencies.merge(&other.latencies);
        if !other.bounds.is_empty() {
            self.pour(other.bounds, other.counts);
        }
        self.of_one_kind()
    }

    /// The value that the share `q` of all observations does not exceed; `None` where there is none.
    /// Of beats it is in milliseconds, of metrics in the metric's own unit.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let latency = self.latencies.quantile_us(q).map(|us| us / 1000.0);
        latency.or_else(|| edges(&self.bounds).quantile(self.counts.iter().copied(), q))
    }

    /// What it holds, in bytes, beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.latencies.buckets.capacity() * size_of::<(u16, u64)>()
            + (self.bounds.capacity() + self.counts.capacity()) * size_of::<f64>()
    }

    fn of_one_kind(&self) -> Result<(), PoolError> {
        match self.latencies.count > 0 && !self.bounds.is_empty() {
            true => Err(PoolError::TwoKinds),
            false => Ok(()),
        }
    }

    fn pour(&mut self, bounds: Vec<f64>, counts: Vec<f64>) {
        if self.bounds.is_empty() {
            (self.bounds, self.counts) = (bounds, counts);
        } else if self.bounds == bounds {
            add(&mut self.counts, &counts);
        } else {
            let mut all = [self.bounds.as_slice(), &bounds].concat();
            all.sort_by(f64::total_cmp);
            all.dedup();
            self.counts = spread(&self.bounds, &self.counts, &all);
            add(&mut self.counts, &spread(&bounds, &counts, &all));
            self.bounds = all;
        }
        while self.bounds.len() > BOUNDS_MAX {
            self.thin();
        }
    }

    /// Drops every other bound, but never the last.
    fn thin(&mut self) {
        let alone = self.bounds.len() % 2;
        let (first, pairs) = self.counts.split_at(alone);
        let pairs = pairs.chunks(2).map(|pair| pair.iter().sum());
        self.counts = first.iter().copied().chain(pairs).collect();
        let kept = self.bounds.iter().skip(1 - alone).step_by(2);
        self.bounds = kept.copied().collect();
    }
}

fn edges(bounds: &[f64]) -> Edges<'_> {
    Edges {
        bounds,
        min: None,
        max: None,
    }
}

fn add(counts: &mut [f64], others: &[f64]) {
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
}

/// Counts by `bounds` as counts by the bounds `onto`, which are those and more.
fn spread(bounds: &[f64], counts: &[f64], onto: &[f64]) -> Vec<f64> {
    let mut found = vec![0.0; onto.len() + 1];
    for (place, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        let (from, to) = edges(bounds).bucket(place);
        let begin = onto.partition_point(|bound| *bound <= from);
        let width = to - from;
        if place == bounds.len() {
            // It has no end: all that is known is where it begins.
            found[begin] += count;
        } else if width > 0.0 && width.is_finite() {
            let mut low = from;
            for (high, found) in onto[begin..].iter().zip(&mut found[begin..]) {
                *found += count * ((high.min(to) - low) / width);
                low = *high;
                if low >= to {
                    break;
                }
            }
        } else {
            found[onto.partition_point(|bound| *bound < to)] += count;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Observed;

    fn pooled(texts: &[&str]) -> Pooled {
        let mut pool = Pooled::default();
        for text in texts {
            pool.add(text).expect("a histogram");
        }
        pool
    }

    fn close(found: Option<f64>, wanted: f64) {
        let found = found.expect("not empty");
        assert!((found - wanted).abs() < 1e-9, "{found} for {wanted}");
    }

    #[test]
    fn beats_are_one_histogram_in_milliseconds() {
        let (mut one, mut other, mut both) = <(Histogram, Histogram, Histogram)>::default();
        for value in 1..=1_000_u64 {
            let part = if value % 3 == 0 { &mut one } else { &mut other };
            part.record(value * 100);
            both.record(value * 100);
        }
        let text = |histogram: &Histogram| serde_json::to_string(&histogram.buckets);
        let (one, other) = (text(&one).expect("JSON"), text(&other).expect("JSON"));
        let pool = pooled(&[&one, "[]", &other]);
        let wanted = both.quantile_us(0.95).map(|us| us / 1000.0);
        assert_eq!(pool.quantile(0.95), wanted);
        assert_eq!(pooled(&["[]"]).quantile(0.95), None);
    }

    #[test]
    fn equal_bounds_add_up() {
        let text = r#"{"bounds":[10,20],"counts":[5,5,0]}"#;
        let pool = pooled(&[text, text]);
        let both = Observed {
            bounds: vec![10.0, 20.0],
            counts: vec![10, 10, 0],
            ..Observed::default()
        };
        for q in [0.0, 0.25, 0.5, 0.95, 1.0] {
            assert_eq!(pool.quantile(q), both.quantile(q));
        }
    }

    #[test]
    fn other_bounds_cut_a_bucket_evenly() {
        // 0 to 10 evenly ten, and 0 to 4 evenly ten more: 14 of 20 lie below 4.
        let ten = r#"{"bounds":[10],"counts":[10,0]}"#;
        let four = r#"{"bounds":[4],"counts":[10,0]}"#;
        for pool in [pooled(&[ten, four]), pooled(&[four, ten])] {
            close(pool.quantile(0.7), 4.0);
            close(pool.quantile(0.35), 2.0);
            close(pool.quantile(1.0), 10.0);
        }
        // Above its last bound one counts from there, whatever bounds the other has.
        let above = r#"{"bounds":[4],"counts":[0,10]}"#;
        let pool = pooled(&[above, r#"{"bounds":[4,6,9],"counts":[0,0,0,0]}"#]);
        close(pool.quantile(0.5), 5.0);
        let below_zero = pooled(&[r#"{"bounds":[-5],"counts":[2,0]}"#, ten]);
        close(below_zero.quantile(0.1), -5.0);
    }

    #[test]
    fn what_makes_no_sense_adds_nothing_and_what_is_none_is_named() {
        let senseless = [
            r#"{"bounds":[],"counts":[3]}"#,
            r#"{"bounds":[1],"counts":[1]}"#,
            r#"{"bounds":[2,1],"counts":[1,1,1]}"#,
        ];
        assert_eq!(pooled(&senseless), Pooled::default());
        for text in [
            "",
            "/cart",
            "12.5",
            "null",
            "[1,2]",
            "[[-1,2]]",
            "[[1,-2]]",
            "[[70000,1]]",
            r#"{"a":1}"#,
            r#"{"bounds":[1e999],"counts":[1,1]}"#,
            "{",
            "[[1,2]",
        ] {
            let error = Pooled::default().add(text).expect_err(text);
            assert_eq!(error, PoolError::NoHistogram(text.to_owned()));
        }
        let mut pool = pooled(&["[[3,1]]"]);
        let other = r#"{"bounds":[1],"counts":[1,1]}"#;
        assert_eq!(pool.add(other), Err(PoolError::TwoKinds));
        let mut pool = pooled(&["[[3,1]]"]);
        assert_eq!(pool.merge(pooled(&[other])), Err(PoolError::TwoKinds));
    }

    #[test]
    fn many_bounds_are_thinned_and_nothing_is_lost() {
        let mut pool = Pooled::default();
        for shift in 0..40 {
            let bounds: Vec<f64> = (1..=1_000)
                .map(|at| at as f64 + f64::from(shift) / 64.0)
                .collect();
            let counts = vec![1_u64; bounds.len() + 1];
            let text = serde_json::json!({"bounds": bounds, "counts": counts}).to_string();
            pool.add(&text).expect("a histogram");
            assert!(pool.bounds.len() <= BOUNDS_MAX);
        }
        let all: f64 = pool.counts.iter().sum();
        assert!((all - 40.0 * 1_001.0).abs() < 1e-6, "{all}");
        let middle = pool.quantile(0.5).expect("not empty");
        assert!((middle - 500.0).abs() < 10.0, "{middle}");
    }

    #[test]
    fn the_ends_of_what_a_number_may_be_harm_nothing() {
        let wide = r#"{"bounds":[-1.7e308,1.7e308],"counts":[1,18446744073709551615,1]}"#;
        let pool = pooled(&[wide, r#"{"bounds":[-1,0,0,1],"counts":[1,1,1,1,1]}"#, wide]);
        assert!(
            pool.counts.iter().all(|count| count.is_finite()),
            "{pool:?}"
        );
        assert!(pool.quantile(0.5).is_some());
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_whole(
            told in prop::collection::vec(
                prop::collection::btree_map(-50_i32..50, 0_u64..9, 1..6), 1..8),
            cut in 0_usize..8,
        ) {
            let mut whole = Pooled::default();
            let mut parts = [Pooled::default(), Pooled::default()];
            let mut observations = 0.0;
            for (at, buckets) in told.iter().enumerate() {
                let bounds: Vec<i32> = buckets.keys().copied().collect();
                let mut counts: Vec<u64> = buckets.values().copied().collect();
                counts.push(1);
                observations += counts.iter().sum::<u64>() as f64;
                let text = serde_json::json!({"bounds": bounds, "counts": counts}).to_string();
                whole.add(&text).expect("a histogram");
                parts[usize::from(at < cut)].add(&text).expect("a histogram");
            }
            let [mut one, other] = parts;
            one.merge(other).expect("of one kind");
            prop_assert_eq!(&one.bounds, &whole.bounds);
            let all: f64 = one.counts.iter().sum();
            prop_assert!((all - observations).abs() < 1e-6);
        }

        #[test]
        fn no_text_harms(text in r#"(\[|\{)?("bounds":|"counts":|[0-9.,eE+-]|\[|\]|\}){0,40}"#) {
            let mut pool = Pooled::default();
            drop(pool.add(&text));
            prop_assert!(pool.quantile(0.95).is_none_or(|value| !value.is_nan()));
        }
    }
}
