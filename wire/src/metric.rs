//! A number with a name and labels, told now and again; a row of the table `metrics`.
//!
//! They travel on `tel.metric.…` as NDJSON, many lines per message: Serin tells how its own parts,
//! the bus and the host are; the OpenTelemetry doors and the scraper tell what services say. Whoever
//! brings in numbers that are counted up from a start subtracts: a row holds the increase too.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// One number, a line of the message. The subject says whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric<'a> {
    /// When it was so, microseconds since 1970 UTC.
    pub time: Micros,
    /// Its name, `serin_bus_connections`.
    pub name: Cow<'a, str>,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Its unit, as told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'a, str>>,
    /// The number of a gauge, the total of a counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The increase of a counter since the report before; absent where that one is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// What a histogram observed since the report before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// Name and value of each label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It only rises, or begins again.
    Counter,
    /// Many observations, counted by how large they were.
    Histogram,
}

/// Observations, counted by how large they were.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// How many.
    pub count: u64,
    /// All of them together, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    /// The least, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The upper bounds of the buckets, rising; above the last is one bucket more.
    #[serde(default)]
    pub bounds: Vec<f64>,
    /// How many fell into each bucket; one more than there are bounds.
    #[serde(default)]
    pub counts: Vec<u64>,
}

impl Observed {
    /// The value that the share `q` of all observations does not exceed, linear within its bucket;
    /// `None` where there is no observation, or the buckets do not say.
    ///
    /// The first bucket begins at the least that was told, else at 0 where its bound is above that;
    /// of the last, which has no upper end, the largest that was told is the end, else its begin.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let edges = Edges {
            bounds: &self.bounds,
            min: self.min,
            max: self.max,
        };
        edges.quantile(self.counts.iter().map(|count| *count as f64), q)
    }
}

/// Where buckets begin and end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edges<'a> {
    pub(crate) bounds: &'a [f64],
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Edges<'_> {
    /// See [`Observed::quantile`]; the counts may be parts of one.
    pub(crate) fn quantile(
        self,
        counts: impl ExactSizeIterator<Item = f64> + Clone,
        q: f64,
    ) -> Option<f64> {
        if counts.len() != self.bounds.len() + 1 || self.bounds.is_empty() {
            return None;
        }
        let all: f64 = counts.clone().sum();
        if all == 0.0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * all;
        let mut below = 0.0;
        for (place, count) in counts.enumerate() {
            let upto = below + count;
            if count > 0.0 && upto >= rank {
                let (from, to) = self.bucket(place);
                let part = ((rank - below) / count).clamp(0.0, 1.0);
                return Some(from + (to - from) * part);
            }
            below = upto;
        }
        None
    }

    /// Where a bucket begins and ends.
    pub(crate) fn bucket(self, place: usize) -> (f64, f64) {
        let before = place
            .checked_sub(1)
            .and_then(|place| self.bounds.get(place));
        let bound = self.bounds.get(place).copied();
        let from = match before {
            Some(before) => *before,
            None => {
                let first = bound.unwrap_or_default();
                self.min.unwrap_or(first.min(0.0)).min(first)
            }
        };
        let to = bound.unwrap_or_else(|| self.max.unwrap_or(from));
        (from, to.max(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(bounds: &[f64], counts: &[u64]) -> Observed {
        Observed {
            count: counts.iter().sum(),
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
            ..Observed::default()
        }
    }

    #[test]
    fn quantiles_are_linear_within_their_bucket() {
        let even = observed(&[10.0, 20.0], &[10, 10, 0]);
        assert_eq!(even.quantile(0.25), Some(5.0));
        assert_eq!(even.quantile(0.5), Some(10.0));
        assert_eq!(even.quantile(0.75), Some(15.0));
        assert_eq!(even.quantile(1.0), Some(20.0));
    }

    #[test]
    fn the_open_ends_are_as_told_or_guessed_low() {
        let mut high = observed(&[10.0], &[0, 4]);
        assert_eq!(high.quantile(0.99), Some(10.0));
        high.max = Some(30.0);
        assert_eq!(high.quantile(0.5), Some(20.0));
        let below_zero = observed(&[-5.0, 5.0], &[2, 0, 0]);
        assert_eq!(below_zero.quantile(0.5), Some(-5.0));
    }

    #[test]
    fn buckets_that_make_no_sense_have_no_quantile() {
        for (bounds, counts) in [
            (&[][..], &[3][..]),
            (&[1.0][..], &[1][..]),
            (&[1.0][..], &[0, 0][..]),
            (&[1.0][..], &[][..]),
        ] {
            assert_eq!(observed(bounds, counts).quantile(0.5), None);
        }
    }

    #[test]
    fn a_line_reads_back() {
        let metric = Metric {
            time: 5,
            name: "jobs_total".into(),
            kind: MetricKind::Counter,
            unit: None,
            value: Some(7.0),
            delta: Some(2.0),
            observed: None,
            labels: [("queue".into(), "mail".into())].into(),
        };
        let line = serde_json::to_string(&metric).expect("a metric is JSON");
        let wanted = r#"{"time":5,"name":"jobs_total","kind":"counter","value":7.0,"delta":2.0,"labels":{"queue":"mail"}}"#;
        assert_eq!(line, wanted);
        let back: Metric<'_> = serde_json::from_str(&line).expect("it reads back");
        assert_eq!(back, metric);
    }
}
