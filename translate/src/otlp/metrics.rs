//! A metric of OpenTelemetry as numbers of ours: one line for each of its points.
//!
//! Totals since a start become increases (`crate::increase`). A sum that also falls is a gauge. The
//! shape of a line is fixed by `docs/decisions/007-metrics.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serin_wire::{Metric, MetricKind, Observed, subject};

use super::exponential::{Exponential, Told};
use super::message::{
    Buckets, ExponentialPoint, HistogramPoint, KeyValue, NumberPoint, SummaryPoint,
};
use super::sender::Sender;
use super::walk::{Leaf, Pieces, Unreadable};
use super::{micros, value};
use crate::increase::{Reading, Span};
use crate::key;
use crate::lines::{Out, TooMuch};

/// `AggregationTemporality`.
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;
/// `DataPointFlags.NO_RECORDED_VALUE_MASK`: the point says that there is none.
const NOT_RECORDED: u32 = 1;
/// Explicit buckets of one histogram: OpenTelemetry's own default has 15.
const BOUNDS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 255;
/// The tag of the points within each kind of data, and the others of a sum or histogram.
const POINTS: u32 = 1;
const TEMPORALITY: u32 = 2;
const MONOTONIC: u32 = 3;
/// The tags of a metric.
const NAME: u32 = 1;
const UNIT: u32 = 3;

/// The kinds of data, by their tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

const KINDS: [(Kind, u32, &str); 5] = [
    (Kind::Gauge, 5, "gauge"),
    (Kind::Sum, 7, "sum"),
    (Kind::Histogram, 9, "histogram"),
    (Kind::Exponential, 10, "exponentialHistogram"),
    (Kind::Summary, 11, "summary"),
];

/// What all points of a metric share.
struct Head<'a> {
    sender: &'a Sender,
    subject: String,
    name: String,
    unit: String,
    is_delta: bool,
    is_monotonic: bool,
    now_us: i64,
}

type Labels<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

pub(super) fn metric(
    sender: &Sender,
    leaf: Leaf<'_>,
    now_us: i64,
    pieces: &Pieces,
    reading: &mut Reading<'_>,
    out: &mut Out,
) -> Result<(), TooMuch> {
    match points(sender, leaf, now_us) {
        Ok((kind, head, points)) => {
            pieces.take(points.len())?;
            for point in points {
                head.point(kind, point, reading, out)?;
            }
        }
        Err(error) => out.refused.add(1, error),
    }
    Ok(())
}

/// Takes a metric apart into its head and its points.
fn points<'a, 'l>(
    sender: &'a Sender,
    leaf: Leaf<'l>,
    now_us: i64,
) -> Result<(Kind, Head<'a>, Vec<Leaf<'l>>), Unreadable> {
    let name = leaf.text(NAME, "name")?;
    let length = name.len();
    if !(1..=NAME_BYTES_MAX).contains(&length) {
        return Err(Unreadable(format!(
            "a metric's name has {length} bytes, must have 1 to {NAME_BYTES_MAX}"
        )));
    }
    let mut head = Head {
        sender,
        subject: sender.subject(subject::metric),
        unit: leaf.text(UNIT, "unit")?,
        is_delta: false,
        is_monotonic: false,
        now_us,
        name,
    };
    for (kind, tag, member) in KINDS {
        let Some(data) = leaf.parts(tag, member)?.last().copied() else {
            continue;
        };
        let is_total = matches!(kind, Kind::Sum | Kind::Histogram | Kind::Exponential);
        if is_total {
            let temporality = data.number(TEMPORALITY, "aggregationTemporality");
            if ![DELTA, CUMULATIVE].contains(&temporality) {
                let name = head.name;
                return Err(Unreadable(format!(
                    "metric {name:?} does not say whether it is delta or cumulative"
                )));
            }
            head.is_delta = temporality == DELTA;
            head.is_monotonic = data.number(MONOTONIC, "isMonotonic") != 0;
        }
        return Ok((kind, head, data.parts(POINTS, "dataPoints")?));
    }
    let name = head.name;
    Err(Unreadable(format!("metric {name:?} has no data")))
}

impl Head<'_> {
    fn point(
        &self,
        kind: Kind,
        point: Leaf<'_>,
        reading: &mut Reading<'_>,
        out: &mut Out,
    ) -> Result<(), TooMuch> {
        let told = match kind {
            Kind::Gauge | Kind::Sum => self.number(kind, point, reading, out),
            Kind::Histogram => self.histogram(point, reading, out),
            Kind::Exponential => self.exponential(point, reading, out),
            Kind::Summary => self.summary(point, reading, out),
        };
        match told {
            Ok(told) => told,
            Err(Unreadable(why)) => {
                out.refused
                    .add(1, format_args!("metric {:?}: {why}", self.name));
                Ok(())
            }
        }
    }

    fn number(
        &self,
        kind: Kind,
        point: Leaf<'_>,
        reading: &mut Reading<'_>,
        out: &mut Out,
    ) -> Result<Result<(), TooMuch>, Unreadable> {
        let point: NumberPoint = point.read("data point")?;
        let value = point.as_double.or(point.as_int.map(|value| value as f64));
        let value = value.filter(|value| value.is_finite() && !not_recorded(point.flags));
        let Some(value) = value else {
            out.left_out += 1;
            return Ok(Ok(()));
        };
        let span = self.span(point.start_time_unix_nano, point.time_unix_nano);
        let labels = labels(point.attributes);
        let mut line = self.line(MetricKind::Counter, span, labels);
        match (kind, self.is_monotonic, self.is_delta) {
            (Kind::Sum, true, true) => line.delta = Some(value),
            (Kind::Sum, true, false) => {
                line.delta = reading.number(&self.series(&line.labels), span, value);
                line.value = Some(value);
            }
            (Kind::Sum, false, true) => {
                let why = "a sum that goes up and down must be cumulative, not delta";
                return Err(Unreadable(why.to_owned()));
            }
            _ => {
                line.kind = MetricKind::Gauge;
                line.value = Some(value);
            }
        }
        Ok(out.line(&self.subject, &line))
    }

    fn histogram(
        &self,
        point: Leaf<'_>,
        reading: &mut Reading<'_>,
        out: &mut Out,
    ) -> Result<Result<(), TooMuch>, Unreadable> {
        let point: HistogramPoint = point.read("data point")?;
        if not_recorded(point.flags) {
            out.left_out += 1;
            return Ok(Ok(()));
        }
        let (bounds, counts) = (point.explicit_bounds, point.bucket_counts);
        let fits = match counts.len() {
            0 => bounds.is_empty(),
            counts => counts == bounds.len() + 1,
        };
        let rises = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !fits || !rises || !bounds.iter().all(|bound| bound.is_finite()) {
            let why = "the bounds must be finite and rise, with one count more than bounds";
            return Err(Unreadable(why.to_owned()));
        }
        if bounds.len() > BOUNDS_MAX {
            let has = bounds.len();
            return Err(Unreadable(format!(
                "{has} bounds, at most {BOUNDS_MAX} are taken"
            )));
        }
        let observed = Observed {
            count: point.count,
            sum: finite(point.sum),
            min: finite(point.min),
            max: finite(point.max),
            bounds,
            counts,
        };
        let span = self.span(point.start_time_unix_nano, point.time_unix_nano);
        let mut line = self.line(MetricKind::Histogram, span, labels(point.attributes));
        let series = self.series(&line.labels);
        line.observed = match self.is_delta {
            true => Some(observed),
            false => reading.explicit(&series, span, observed),
        };
        Ok(match line.observed {
            Some(_) => out.line(&self.subject, &line),
            None => Ok(()),
        })
    }

    fn exponential(
        &self,
        point: Leaf<'_>,
        reading: &mut Reading<'_>,
        out: &mut Out,
    ) -> Result<Result<(), TooMuch>, Unreadable> {
        let point: ExponentialPoint = point.read("data point")?;
        if not_recorded(point.flags) {
            out.left_out += 1;
            return Ok(Ok(()));
        }
        let buckets = |buckets: &Option<Buckets>| buckets.clone().unwrap_or_default();
        let (positive, negative) = (buckets(&point.positive), buckets(&point.negative));
        let exponential = Exponential::of(Told {
            scale: point.scale,
            count: point.count,
            sum: point.sum,
            min: point.min,
            max: point.max,
            zero: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: (positive.offset, &positive.bucket_counts),
            negative: (negative.offset, &negative.bucket_counts),
        });
        let span = self.span(point.start_time_unix_nano, point.time_unix_nano);
        let mut line = self.line(MetricKind::Histogram, span, labels(point.attributes));
        let series = self.series(&line.labels);
        let since = match self.is_delta {
            true => Some(exponential),
            false => reading.exponential(&series, span, exponential),
        };
        line.observed = since.map(|since| since.observed());
        Ok(match line.observed {
            Some(_) => out.line(&self.subject, &line),
            None => Ok(()),
        })
    }

    /// As a scraped summary: a gauge for each quantile, and counters of count and sum.
    fn summary(
        &self,
        point: Leaf<'_>,
        reading: &mut Reading<'_>,
        out: &mut Out,
    ) -> Result<Result<(), TooMuch>, Unreadable> {
        let point: SummaryPoint = point.read("data point")?;
        if not_recorded(point.flags) {
            out.left_out += 1;
            return Ok(Ok(()));
        }
        let span = self.span(point.start_time_unix_nano, point.time_unix_nano);
        let labels = labels(point.attributes);
        for quantile in point.quantile_values {
            if !quantile.value.is_finite() {
                out.left_out += 1;
                continue;
            }
            let mut line = self.line(MetricKind::Gauge, span, labels.clone());
            let name = quantile.quantile.to_string();
            line.labels.insert("quantile".into(), name.into());
            line.value = Some(quantile.value);
            if let Err(error) = out.line(&self.subject, &line) {
                return Ok(Err(error));
            }
        }
        for (part, total) in [("count", point.count as f64), ("sum", point.sum)] {
            if !total.is_finite() {
                out.left_out += 1;
                continue;
            }
            let mut line = self.line(MetricKind::Counter, span, labels.clone());
            let series = format!("{part} {}", self.series(&line.labels));
            line.name = format!("{}_{part}", self.name).into();
            line.delta = reading.number(&series, span, total);
            line.value = Some(total);
            if let Err(error) = out.line(&self.subject, &line) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn span(&self, start: u64, time: u64) -> Span {
        Span {
            start_us: micros(start),
            time_us: micros(time).unwrap_or(self.now_us),
        }
    }

    fn line<'l>(&'l self, kind: MetricKind, span: Span, labels: Labels<'l>) -> Metric<'l> {
        Metric {
            time: span.time_us,
            name: (&*self.name).into(),
            kind,
            unit: (!self.unit.is_empty()).then(|| (&*self.unit).into()),
            value: None,
            delta: None,
            observed: None,
            labels,
        }
    }

    /// The name of a series, by all that tells it from others.
    fn series(&self, labels: &Labels<'_>) -> String {
        let resource = &self.sender.resource;
        let mut series = format!("{}\0{}", self.subject, self.name);
        for (name, value) in labels {
            write!(series, "\0{name}\0{value}").expect("writing to a String never fails");
        }
        if !resource.is_empty() {
            let hash = hash_of(&serde_json::to_string(resource).unwrap_or_default());
            write!(series, "\0{hash:x}").expect("writing to a String never fails");
        }
        series
    }
}

/// Two processes of one service may differ in nothing but what else their resource says.
fn hash_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn labels<'a>(attributes: Vec<KeyValue>) -> Labels<'a> {
    let told = attributes.into_iter();
    key::labels(told.map(|pair| (pair.key, value::text(pair.value))))
}

fn not_recorded(flags: u32) -> bool {
    flags & NOT_RECORDED != 0
}

fn finite(number: Option<f64>) -> Option<f64> {
    number.filter(|number| number.is_finite())
}
