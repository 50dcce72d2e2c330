//! Exponential histograms: buckets whose bounds grow by a factor, made few, subtracted, and turned
//! into explicit bounds.
//!
//! Bucket `i` of scale `s` holds values in `(b^i, b^(i+1)]` with `b = 2^(2^-s)`. One scale less
//! merges each two neighbours, so that any two histograms can be brought to the same buckets:
//! <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram>.

use std::collections::BTreeMap;

use serin_wire::Observed;

/// Buckets that are kept, of both signs together, as OpenTelemetry's SDKs have it.
const BUCKETS_MAX: usize = 160;
/// At this scale all values of a double are in two buckets; below it nothing merges any more.
const SCALE_MIN: i32 = -11;

/// A histogram; buckets by their index, those without observations left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exponential {
    scale: i32,
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    zero: u64,
    zero_threshold: f64,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
}

/// As it was told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told<'a> {
    pub(super) scale: i32,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) zero: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: (i32, &'a [u64]),
    pub(super) negative: (i32, &'a [u64]),
}

impl Exponential {
    /// As it was told, with its buckets made few enough to be kept.
    pub(super) fn of(told: Told<'_>) -> Exponential {
        let buckets = |(offset, counts): (i32, &[u64])| {
            let indexes = (0..).map(|place| offset.saturating_add(place));
            let counts = indexes.zip(counts.iter().copied());
            counts.filter(|(_, count)| *count > 0).collect()
        };
        let mut exponential = Exponential {
            scale: told.scale,
            count: told.count,
            sum: told.sum.filter(|sum| sum.is_finite()),
            min: told.min.filter(|min| min.is_finite()),
            max: told.max.filter(|max| max.is_finite()),
            zero: told.zero,
            zero_threshold: match told.zero_threshold {
                threshold if threshold.is_finite() && threshold > 0.0 => threshold,
                _ => 0.0,
            },
            positive: buckets(told.positive),
            negative: buckets(told.negative),
        };
        while exponential.width() > BUCKETS_MAX && exponential.scale > SCALE_MIN {
            exponential.merge_to(exponential.scale - 1);
        }
        exponential
    }

    /// How many numbers it holds.
    pub(crate) fn len(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// Buckets from the first to the last with an observation, of both signs.
    fn width(&self) -> usize {
        let width = |buckets: &BTreeMap<i32, u64>| match (
            buckets.first_key_value(),
            buckets.last_key_value(),
        ) {
            (Some((first, _)), Some((last, _))) => last.abs_diff(*first) as usize + 1,
            _ => 0,
        };
        width(&self.positive) + width(&self.negative)
    }

    fn merge_to(&mut self, scale: i32) {
        let steps = self.scale.saturating_sub(scale).clamp(0, 31);
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut merged = BTreeMap::new();
            for (index, count) in std::mem::take(buckets) {
                let total: &mut u64 = merged.entry(index >> steps).or_default();
                *total = total.saturating_add(count);
            }
            *buckets = merged;
        }
        self.scale = scale.min(self.scale);
    }

    /// What was observed since `before`; `None` where it began again.
    pub(crate) fn minus(&self, before: &Exponential) -> Option<Exponential> {
        let (mut now, mut before) = (self.clone(), before.clone());
        let scale = now.scale.min(before.scale);
        now.merge_to(scale);
        before.merge_to(scale);
        let minus = |now: &BTreeMap<i32, u64>, before: &BTreeMap<i32, u64>| {
            let mut left = now.clone();
            for (index, count) in before {
                let held = left.get_mut(index)?;
                *held = held.checked_sub(*count)?;
            }
            left.retain(|_, count| *count > 0);
            Some(left)
        };
        // Where the range about zero has grown, buckets went into it, and cannot be subtracted.
        if now.zero_threshold.total_cmp(&before.zero_threshold).is_ne() {
            return None;
        }
        Some(Exponential {
            count: now.count.checked_sub(before.count)?,
            sum: Option::zip(now.sum, before.sum).map(|(now, before)| now - before),
            min: None,
            max: None,
            zero: now.zero.checked_sub(before.zero)?,
            positive: minus(&now.positive, &before.positive)?,
            negative: minus(&now.negative, &before.negative)?,
            ..now
        })
    }

    /// The same with explicit bounds.
    pub(crate) fn observed(&self) -> Observed {
        let mut edges = Edges::default();
        for (index, count) in self.negative.iter().rev() {
            edges.begin(-self.edge(index.saturating_add(1)));
            edges.end(-self.edge(*index), *count);
        }
        if self.zero > 0 {
            edges.begin(0.0 - self.zero_threshold);
            edges.end(self.zero_threshold, self.zero);
        }
        for (index, count) in &self.positive {
            edges.begin(self.edge(*index));
            edges.end(self.edge(index.saturating_add(1)), *count);
        }
        edges.observed(self)
    }

    /// Where a bucket begins, as far as a double can say.
    fn edge(&self, index: i32) -> f64 {
        let edge = (f64::from(index) * (-f64::from(self.scale)).exp2()).exp2();
        edge.clamp(0.0, f64::MAX)
    }
}

/// Upper bounds with their counts, rising.
#[derive(Debug, Default)]
struct Edges {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Edges {
    /// A bucket begins here; what lies before it holds nothing.
    fn begin(&mut self, bound: f64) {
        if self.bounds.last().is_none_or(|last| *last < bound) {
            self.bounds.push(bound);
            self.counts.push(0);
        }
    }

    /// It ends here. Where a double cannot tell its ends apart it goes with the bucket before.
    fn end(&mut self, bound: f64, count: u64) {
        self.begin(bound);
        if let Some(last) = self.counts.last_mut() {
            *last = last.saturating_add(count);
        }
    }

    fn observed(mut self, of: &Exponential) -> Observed {
        if !self.bounds.is_empty() {
            // None above the last bound.
            self.counts.push(0);
        }
        Observed {
            count: of.count,
            sum: of.sum,
            min: of.min,
            max: of.max,
            bounds: self.bounds,
            counts: self.counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        Exponential::of(Told {
            scale,
            count: counts.iter().sum(),
            positive: (offset, counts),
            ..Told::default()
        })
    }

    #[test]
    fn buckets_get_their_bounds() {
        let observed = positive(0, 0, &[1, 0, 2]).observed();
        assert_eq!(observed.bounds, [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(observed.counts, [0, 1, 0, 2, 0]);
        assert_eq!(observed.quantile(1.0), Some(8.0));
    }

    #[test]
    fn both_signs_and_zero_stand_in_order() {
        let both = Exponential::of(Told {
            count: 6,
            zero: 1,
            zero_threshold: 0.5,
            positive: (0, &[2]),
            negative: (1, &[3]),
            ..Told::default()
        });
        let observed = both.observed();
        assert_eq!(observed.bounds, [-4.0, -2.0, -0.5, 0.5, 1.0, 2.0]);
        assert_eq!(observed.counts, [0, 3, 0, 1, 0, 2, 0]);
    }

    #[test]
    fn too_many_buckets_are_merged() {
        let counts = vec![1; 1000];
        let merged = positive(10, -500, &counts);
        assert!(merged.width() <= BUCKETS_MAX, "{}", merged.width());
        assert_eq!(merged.positive.values().sum::<u64>(), 1000);
        assert_eq!(merged.scale, 7);
        // The ends of what there is stay where they were.
        let bounds = merged.observed().bounds;
        let end = (500.0 * 2_f64.powi(-10)).exp2();
        assert!((bounds[bounds.len() - 1] / end - 1.0).abs() < 0.01);
    }

    #[test]
    fn hostile_numbers_end() {
        for (scale, offset) in [
            (i32::MAX, i32::MAX),
            (i32::MIN, i32::MIN),
            (20, i32::MIN),
            (-30, 5),
        ] {
            let observed = positive(scale, offset, &[u64::MAX >> 1, 1]).observed();
            let rises = observed.bounds.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(rises && observed.bounds.iter().all(|bound| bound.is_finite()));
        }
    }

    #[test]
    fn a_coarser_report_is_subtracted_from_a_finer_one() {
        let before = positive(1, 0, &[1, 1, 1, 1]);
        let now = positive(0, 0, &[2, 5]);
        let since = now.minus(&before).expect("it rises");
        assert_eq!(since.observed().bounds, [2.0, 4.0]);
        assert_eq!(since.observed().counts, [0, 3, 0]);
        assert_eq!(since.count, 3);
        assert!(before.minus(&now).is_none());
    }
}
