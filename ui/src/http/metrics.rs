//! `/metrics` in Prometheus text: the doors' own counters and what the server tells of the rest.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serin_lake::Receipt;

use super::App;
use super::serve::ConnectionCounts;

/// One number, now.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `serin_<part>_<thing>_<unit>[_total]`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: MetricKind,
    /// Name and value of each label.
    pub labels: Vec<(&'static str, String)>,
    /// The number; of a histogram the sum of all that was observed.
    pub value: f64,
    /// What a histogram counted.
    pub buckets: Option<Buckets>,
}

/// Observations since the start, counted by how large they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The upper bounds, rising; above the last is one bucket more.
    pub bounds: &'static [f64],
    /// How many fell into each bucket; one more than there are bounds.
    pub counts: Vec<u64>,
}

/// Whether a number only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Many observations, counted by how large they were.
    Histogram,
}

impl Metric {
    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
        Metric {
            name,
            help,
            kind: MetricKind::Counter,
            labels: Vec::new(),
            value: value as f64,
            buckets: None,
        }
    }

    /// A gauge without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Metric {
        Metric {
            name,
            help,
            kind: MetricKind::Gauge,
            labels: Vec::new(),
            value,
            buckets: None,
        }
    }

    /// A histogram without labels.
    pub fn histogram(name: &'static str, help: &'static str, sum: f64, buckets: Buckets) -> Metric {
        Metric {
            name,
            help,
            kind: MetricKind::Histogram,
            labels: Vec::new(),
            value: sum,
            buckets: Some(buckets),
        }
    }

    /// The same with one more label.
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Metric {
        self.labels.push((name, value.into()));
        self
    }
}

/// What the doors count.
#[derive(Debug, Default)]
pub(crate) struct DoorCounts {
    pub(crate) connections: Arc<ConnectionCounts>,
    /// Answers by class of status, 1xx to 5xx.
    answers: [AtomicU64; 5],
    accepted: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    pub(crate) viewers: AtomicU64,
}

impl DoorCounts {
    pub(crate) fn add_events(&self, receipt: &Receipt) {
        self.accepted.fetch_add(receipt.accepted, Ordering::Relaxed);
        self.duplicates
            .fetch_add(receipt.duplicates, Ordering::Relaxed);
        self.refused
            .fetch_add(receipt.refused.len() as u64, Ordering::Relaxed);
    }

    fn metrics(&self) -> Vec<Metric> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let events = "Events at the HTTP door, by what became of them.";
        let door = |outcome: &str, counter: &AtomicU64| {
            Metric::counter("serin_door_events_total", events, read(counter))
                .label("outcome", outcome)
        };
        let mut metrics = vec![
            Metric::counter(
                "serin_http_connections_total",
                "Connections accepted.",
                read(&self.connections.opened),
            ),
            Metric::gauge(
                "serin_http_connections",
                "Connections open now.",
                read(&self.connections.open) as f64,
            ),
            Metric::counter(
                "serin_http_connections_evicted_total",
                "Silent connections that gave up their place.",
                read(&self.connections.evicted),
            ),
            Metric::gauge(
                "serin_http_live_viewers",
                "Browsers that follow a dashboard now.",
                read(&self.viewers) as f64,
            ),
            door("accepted", &self.accepted),
            door("duplicate", &self.duplicates),
            door("refused", &self.refused),
        ];
        for (class, counter) in self.answers.iter().enumerate() {
            metrics.push(
                Metric::counter(
                    "serin_http_answers_total",
                    "Answers, by class of status.",
                    read(counter),
                )
                .label("class", format!("{}xx", class + 1)),
            );
        }
        metrics
    }
}

/// Counts every answer by the class of its status.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = usize::from(response.status().as_u16() / 100).saturating_sub(1);
    if let Some(counter) = app.counts.answers.get(class) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    response
}

pub(crate) async fn get(State(app): State<App>) -> Response {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    ([kind], write(&all(&app))).into_response()
}

/// Of every part, the doors too.
pub(super) fn all(app: &App) -> Vec<Metric> {
    let mut metrics = app.operate.metrics();
    metrics.extend(app.counts.metrics());
    metrics.extend(app.otlp.metrics());
    metrics
}

/// Writes metrics of the same name together, as the format asks.
fn write(metrics: &[Metric]) -> String {
    let mut names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for name in names {
        let same = metrics.iter().filter(|metric| metric.name == name);
        for (index, metric) in same.enumerate() {
            if index == 0 {
                let kind = match metric.kind {
                    MetricKind::Counter => "counter",
                    MetricKind::Gauge => "gauge",
                    MetricKind::Histogram => "histogram",
                };
                push(&mut text, format_args!("# HELP {name} {}\n", metric.help));
                push(&mut text, format_args!("# TYPE {name} {kind}\n"));
            }
            write_one(&mut text, metric);
        }
    }
    text
}

/// The lines of one metric; of a histogram one for each bucket, all counted from below.
fn write_one(text: &mut String, metric: &Metric) {
    let (name, value) = (metric.name, metric.value);
    let labels: Vec<String> = metric
        .labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    let all = |labels: &[String]| match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    };
    let Some(buckets) = &metric.buckets else {
        push(text, format_args!("{name}{} {value}\n", all(&labels)));
        return;
    };
    let mut count = 0;
    let bounds = buckets.bounds.iter().map(f64::to_string);
    for (bound, counted) in bounds.chain([String::from("+Inf")]).zip(&buckets.counts) {
        count += counted;
        let mut labels = labels.clone();
        labels.push(format!("le=\"{bound}\""));
        push(
            text,
            format_args!("{name}_bucket{} {count}\n", all(&labels)),
        );
    }
    push(text, format_args!("{name}_sum{} {value}\n", all(&labels)));
    push(text, format_args!("{name}_count{} {count}\n", all(&labels)));
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a String never fails");
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn metrics_of_one_name_stand_together() {
        let metrics = [
            Metric::counter("b_total", "B.", 1).label("x", "a\"b"),
            Metric::gauge("a", "A.", 0.5),
            Metric::counter("b_total", "B.", 2).label("x", "c"),
            Metric::histogram(
                "c",
                "C.",
                1.5,
                Buckets {
                    bounds: &[0.1, 1.0],
                    counts: vec![2, 0, 1],
                },
            )
            .label("x", "d"),
        ];
        expect![[r#"
            # HELP a A.
            # TYPE a gauge
            a 0.5
            # HELP b_total B.
            # TYPE b_total counter
            b_total{x="a\"b"} 1
            b_total{x="c"} 2
            # HELP c C.
            # TYPE c histogram
            c_bucket{x="d",le="0.1"} 2
            c_bucket{x="d",le="1"} 2
            c_bucket{x="d",le="+Inf"} 3
            c_sum{x="d"} 1.5
            c_count{x="d"} 3
        "#]]
        .assert_eq(&write(&metrics));
    }
}
