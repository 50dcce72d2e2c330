//! The text of a Prometheus endpoint becomes lines of metrics.
//!
//! What is read is the text format 0.0.4, and of OpenMetrics what looks alike; times and exemplars
//! are passed over, since a number is of the moment when it was asked for. A line that is none is
//! refused by itself. The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! Start at [`read`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serin_wire::{Metric, MetricKind, Observed, subject};

use crate::increase::{Increases, Reading, Span};
use crate::key;
use crate::lines::{Out, TooMuch, Translated};

/// Buckets of one histogram, as for OTLP.
const BOUNDS_MAX: usize = 256;

/// Whose numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The service.
    pub service: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The instance that was asked.
    pub instance: &'a str,
    /// When it was started, and all its counters were 0.
    pub started_us: i64,
}

type Labels = Vec<(String, String)>;

/// A line with a number.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Labels,
    value: f64,
}

/// What a family is, by its `# TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// The buckets of one histogram, as they are found.
#[derive(Debug, Default)]
struct Buckets {
    /// Upper bound and count of all below.
    upto: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

/// A text on its way.
struct Reader<'a, 'i> {
    subject: String,
    span: Span,
    types: BTreeMap<&'a str, Type>,
    units: BTreeMap<&'a str, &'a str>,
    histograms: BTreeMap<(&'a str, Labels), Buckets>,
    reading: Reading<'i>,
    out: Out,
}

/// Reads the answer of an endpoint.
pub fn read(
    text: &str,
    asked: Asked<'_>,
    increases: &Increases,
    now_us: i64,
) -> Result<Translated, TooMuch> {
    let mut reader = Reader {
        subject: subject::metric(asked.service, asked.version, asked.instance),
        span: Span {
            start_us: Some(asked.started_us),
            time_us: now_us,
        },
        types: BTreeMap::new(),
        units: BTreeMap::new(),
        histograms: BTreeMap::new(),
        reading: increases.reading(),
        out: Out::default(),
    };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        match line.strip_prefix('#') {
            Some(" EOF") => break,
            Some(comment) => reader.comment(comment),
            None if line.is_empty() => {}
            None => match sample(line) {
                Some(sample) => reader.sample(sample)?,
                None => {
                    let shown: String = line.chars().take(80).collect();
                    let why = format!("line {number} is no sample: {shown}");
                    reader.out.refused.add(1, why);
                }
            },
        }
    }
    for ((name, labels), buckets) in std::mem::take(&mut reader.histograms) {
        reader.histogram(name, labels, &buckets)?;
    }
    Ok(reader.out.finish(reader.reading.finish()))
}

impl<'a> Reader<'a, '_> {
    fn comment(&mut self, comment: &'a str) {
        let mut words = comment.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("TYPE"), Some(name), Some(kind)) => {
                let kind = match kind {
                    "counter" => Type::Counter,
                    "histogram" => Type::Histogram,
                    "summary" => Type::Summary,
                    _ => Type::Gauge,
                };
                self.types.insert(name, kind);
            }
            (Some("UNIT"), Some(name), Some(unit)) => drop(self.units.insert(name, unit)),
            _ => {}
        }
    }

    fn sample(&mut self, mut sample: Sample<'a>) -> Result<(), TooMuch> {
        let (family, kind) = self.family(sample.name);
        let part = &sample.name[family.len()..];
        match (kind, part) {
            (Some(Type::Counter | Type::Histogram | Type::Summary), "_created") => Ok(()),
            (Some(Type::Histogram), "_bucket") => {
                let le = sample.labels.iter().position(|(name, _)| name == "le");
                let le = le.map(|place| sample.labels.remove(place).1);
                match le.and_then(|le| number(&le)) {
                    Some(le) => {
                        let buckets = self.buckets(family, sample.labels);
                        buckets.upto.push((le, sample.value));
                    }
                    None => self
                        .out
                        .refused
                        .add(1, format!("{family}: a bucket without le")),
                }
                Ok(())
            }
            (Some(Type::Histogram), "_sum") => {
                self.buckets(family, sample.labels).sum = Some(sample.value);
                Ok(())
            }
            (Some(Type::Histogram), "_count") => {
                self.buckets(family, sample.labels).count = Some(sample.value);
                Ok(())
            }
            (Some(Type::Counter), _) | (Some(Type::Summary), "_sum" | "_count") => {
                self.number(family, MetricKind::Counter, sample)
            }
            (None, _) if sample.name.ends_with("_total") => {
                self.number(family, MetricKind::Counter, sample)
            }
            _ => self.number(family, MetricKind::Gauge, sample),
        }
    }

    /// The family of a sample: its name, without the ending that its type allows.
    fn family(&self, name: &'a str) -> (&'a str, Option<Type>) {
        if let Some(kind) = self.types.get(name) {
            return (name, Some(*kind));
        }
        let endings: [(&str, &[Type]); 5] = [
            ("_bucket", &[Type::Histogram]),
            ("_sum", &[Type::Histogram, Type::Summary]),
            ("_count", &[Type::Histogram, Type::Summary]),
            ("_total", &[Type::Counter]),
            ("_created", &[Type::Counter, Type::Histogram, Type::Summary]),
        ];
        let mut families = endings.iter().filter_map(|(ending, kinds)| {
            let family = name.strip_suffix(ending)?;
            let kind = self.types.get(family)?;
            kinds.contains(kind).then_some((family, Some(*kind)))
        });
        families.next_back().unwrap_or((name, None))
    }

    fn buckets(&mut self, family: &'a str, labels: Labels) -> &mut Buckets {
        self.histograms.entry((family, labels)).or_default()
    }

    fn number(
        &mut self,
        family: &str,
        kind: MetricKind,
        sample: Sample<'_>,
    ) -> Result<(), TooMuch> {
        if !sample.value.is_finite() {
            self.out.left_out += 1;
            return Ok(());
        }
        let series = series(&self.subject, sample.name, &sample.labels);
        let mut line = self.line(family, sample.name, kind, sample.labels);
        line.value = Some(sample.value);
        if kind == MetricKind::Counter {
            line.delta = self.reading.number(&series, self.span, sample.value);
        }
        self.out.line(&self.subject, &line)
    }

    fn histogram(&mut self, name: &str, labels: Labels, buckets: &Buckets) -> Result<(), TooMuch> {
        let Some(total) = buckets.observed() else {
            let why = format!("{name}: the buckets do not rise up to le=\"+Inf\"");
            self.out.refused.add(1, why);
            return Ok(());
        };
        let series = series(&self.subject, name, &labels);
        let since = self.reading.explicit(&series, self.span, total);
        let Some(since) = since else { return Ok(()) };
        let mut line = self.line(name, name, MetricKind::Histogram, labels);
        line.observed = Some(since);
        self.out.line(&self.subject, &line)
    }

    fn line<'l>(
        &self,
        family: &str,
        name: &'l str,
        kind: MetricKind,
        labels: Labels,
    ) -> Metric<'l> {
        let unit = self.units.get(family).map(|unit| (*unit).to_owned());
        Metric {
            time: self.span.time_us,
            name: name.into(),
            kind,
            unit: unit.map(Cow::Owned),
            value: None,
            delta: None,
            observed: None,
            labels: key::labels(labels),
        }
    }
}

impl Buckets {
    /// Counts of each bucket from those of all below; `None` where they make no sense.
    fn observed(&self) -> Option<Observed> {
        let mut upto = self.upto.clone();
        upto.sort_by(|a, b| a.0.total_cmp(&b.0));
        upto.dedup_by(|next, before| next.0 == before.0);
        let (last, finite) = upto.split_last()?;
        if last.0 != f64::INFINITY || finite.len() > BOUNDS_MAX {
            return None;
        }
        let mut below = 0;
        let mut counts = Vec::with_capacity(upto.len());
        for (_, count) in &upto {
            let count = whole(*count)?;
            counts.push(count.checked_sub(below)?);
            below = count;
        }
        Some(Observed {
            count: self.count.map_or(Some(below), whole)?,
            sum: self.sum.filter(|sum| sum.is_finite()),
            min: None,
            max: None,
            bounds: finite.iter().map(|(bound, _)| *bound).collect(),
            counts,
        })
    }
}

fn whole(count: f64) -> Option<u64> {
    // Doubles hold integers exactly up to here.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (0.0..=EXACT_MAX).contains(&count).then_some(count as u64)
}

fn series(subject: &str, name: &str, labels: &Labels) -> String {
    let mut series = format!("{subject}\0{name}");
    for (name, value) in labels {
        for part in [name, value] {
            series.push('\0');
            series.push_str(part);
        }
    }
    series
}

/// Reads `name{label="value",…} number`; what follows is passed over.
fn sample(line: &str) -> Option<Sample<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = line.find(|c| !is_name(c))?;
    let (name, rest) = line.split_at(end);
    let is_good = name.starts_with(|c: char| !c.is_ascii_digit());
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = number(rest.split_whitespace().next()?)?;
    is_good.then_some(Sample {
        name,
        labels,
        value,
    })
}

/// Reads labels up to their `}`; they come sorted, so that their order tells no series apart.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort();
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
}

/// Reads a text in quotes, with its escapes undone, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const ASKED: Asked<'_> = Asked {
        service: "cart",
        version: "v1",
        instance: "cart-v1-1",
        started_us: 5,
    };

    fn check(increases: &Increases, text: &str, now_us: i64, wanted: &Expect) {
        let translated = read(text, ASKED, increases, now_us).expect("not too much");
        let mut shown = String::new();
        for lines in &translated.lines {
            assert_eq!(lines.subject, "tel.metric.cart.v1.cart-v1-1");
            shown += &String::from_utf8_lossy(&lines.text);
        }
        if translated.refused.count > 0 {
            shown += &format!(
                "refused {}: {}\n",
                translated.refused.count, translated.refused.why
            );
        }
        if translated.left_out > 0 {
            shown += &format!("left out {}\n", translated.left_out);
        }
        wanted.assert_eq(&shown);
        increases.keep(translated.totals, now_us);
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let increases = Increases::new(0);
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{code="400",method="post"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="0.1"} 33444
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# TYPE rpc_duration_seconds summary
rpc_duration_seconds{quantile="0.01"} 3102
rpc_duration_seconds_sum 1.7560473e+07
rpc_duration_seconds_count 2693
"#;
        check(
            &increases,
            text,
            10,
            &expect![[r#"
            {"time":10,"name":"http_requests_total","kind":"counter","value":1027.0,"delta":1027.0,"labels":{"code":"200","method":"post"}}
            {"time":10,"name":"http_requests_total","kind":"counter","value":3.0,"delta":3.0,"labels":{"code":"400","method":"post"}}
            {"time":10,"name":"msdos_file_access_time_seconds","kind":"gauge","value":1458255915.0,"labels":{"error":"Cannot find file:\n\"FILE.TXT\"","path":"C:\\DIR\\FILE.TXT"}}
            {"time":10,"name":"metric_without_timestamp_and_labels","kind":"gauge","value":12.47}
            {"time":10,"name":"rpc_duration_seconds","kind":"gauge","value":3102.0,"labels":{"quantile":"0.01"}}
            {"time":10,"name":"rpc_duration_seconds_sum","kind":"counter","value":17560473.0,"delta":17560473.0}
            {"time":10,"name":"rpc_duration_seconds_count","kind":"counter","value":2693.0,"delta":2693.0}
            {"time":10,"name":"http_request_duration_seconds","kind":"histogram","observed":{"count":144320,"sum":53423.0,"bounds":[0.05,0.1],"counts":[24054,9390,110876]}}
            left out 1
        "#]],
        );
    }

    #[test]
    fn the_second_time_tells_what_came_since() {
        let increases = Increases::new(6);
        let text = |count: u64| {
            format!(
                "# TYPE a counter\na_total 1{count}\na_created 5\n# TYPE h histogram\n\
                 h_bucket{{le=\"1\",}} {count}\nh_bucket{{le=\"+Inf\"}} {count}\nh_sum 2\n# EOF\nb 1\n"
            )
        };
        // It was started before us, so that the first totals are no increase.
        check(
            &increases,
            &text(2),
            10,
            &expect![[r#"
            {"time":10,"name":"a_total","kind":"counter","value":12.0}
        "#]],
        );
        check(
            &increases,
            &text(5),
            20,
            &expect![[r#"
            {"time":20,"name":"a_total","kind":"counter","value":15.0,"delta":3.0}
            {"time":20,"name":"h","kind":"histogram","observed":{"count":3,"sum":0.0,"bounds":[1.0],"counts":[3,0]}}
        "#]],
        );
    }

    #[test]
    fn bad_lines_are_refused_one_by_one() {
        let text = "a 1\nno number\n{} 3\nb{x=\"1} 2\n9a 1\nc{x=1} 2\nd NaN\n\
            # TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 2\n\
            # TYPE g histogram\ng_bucket 3\n";
        check(
            &Increases::new(0),
            text,
            10,
            &expect![[r#"
            {"time":10,"name":"a","kind":"gauge","value":1.0}
            refused 7: line 2 is no sample: no number
            left out 1
        "#]],
        );
    }
}
