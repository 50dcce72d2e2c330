//! Tells metrics on the bus, whence they take everyone's way into the table `metrics`.
//!
//! Labels named `service`, `version` and `instance` say whose number it is, and are no labels then;
//! without them it is Serin's own. Of counters and histograms the increase since they were told last
//! is told too. It is telemetry: what cannot be sent now is not sent. Start at [`Teller::tell`].

use std::collections::{BTreeMap, HashMap};

use async_nats::connection::State;
use serin_ui::{Metric, MetricKind};
use serin_wire::{MetricKind as Kind, Observed, subject};

/// A message is sent once it is so long, well below what the bus takes.
const MESSAGE_BYTES: usize = 64 << 10;
/// Series whose last report is remembered; beyond them a counter is told without its increase.
const SERIES_MAX: usize = 50_000;

/// Under which name Serin tells its own.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// The service.
    pub(crate) service: String,
    /// Its version.
    pub(crate) version: String,
    /// The instance.
    pub(crate) instance: String,
}

/// Tells metrics, and remembers what it told.
pub(crate) struct Teller {
    client: async_nats::Client,
    who: Who,
    before: HashMap<Series, Told>,
}

/// A metric's name and labels.
type Series = (&'static str, Vec<(&'static str, String)>);

/// What was told last.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Total(f64),
    Buckets(Vec<u64>, f64),
}

impl Teller {
    /// Tells over the connection `client`.
    pub(crate) fn new(client: async_nats::Client, who: Who) -> Teller {
        Teller {
            client,
            who,
            before: HashMap::new(),
        }
    }

    /// Tells how it is at the moment `now_us`.
    pub(crate) async fn tell(&mut self, metrics: &[Metric], now_us: i64) {
        // The client would keep what is published meanwhile in a queue of its own, and then wait. What is
        // not told is part of the next increase.
        if self.client.connection_state() != State::Connected {
            return;
        }
        for (to, lines) in self.messages(metrics, now_us) {
            if let Err(error) = self.client.publish(to, lines.into()).await {
                tracing::debug!(%error, "metrics were not told");
            }
        }
    }

    fn messages(&mut self, metrics: &[Metric], now_us: i64) -> Vec<(String, Vec<u8>)> {
        let mut open: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut full = Vec::new();
        for metric in metrics {
            let Some((to, line)) = self.line(metric, now_us) else {
                continue;
            };
            let lines = open.entry(to.clone()).or_default();
            lines.extend_from_slice(&line);
            lines.push(b'\n');
            if lines.len() >= MESSAGE_BYTES {
                full.extend(open.remove_entry(&to));
            }
        }
        full.extend(open);
        full
    }

    /// Where a metric goes, and its line; `None` where there is nothing that could be told.
    fn line(&mut self, metric: &Metric, now_us: i64) -> Option<(String, Vec<u8>)> {
        if !metric.value.is_finite() {
            return None;
        }
        let (delta, observed) = self.increase(metric);
        if metric.kind == MetricKind::Histogram && observed.is_none() {
            return None;
        }
        let who = |name: &str| {
            let mut labels = metric.labels.iter();
            labels
                .find(|(label, _)| *label == name)
                .map(|(_, value)| value.as_str())
        };
        let to = subject::metric(
            who("service").unwrap_or(&self.who.service),
            who("version").unwrap_or(&self.who.version),
            who("instance").unwrap_or(&self.who.instance),
        );
        let labels = metric.labels.iter();
        let labels =
            labels.filter(|(name, _)| !matches!(*name, "service" | "version" | "instance"));
        let told = serin_wire::Metric {
            time: now_us,
            name: metric.name.into(),
            kind: match metric.kind {
                MetricKind::Counter => Kind::Counter,
                MetricKind::Gauge => Kind::Gauge,
                MetricKind::Histogram => Kind::Histogram,
            },
            unit: None,
            value: (metric.kind != MetricKind::Histogram).then_some(metric.value),
            delta,
            observed,
            labels: labels
                .map(|(name, value)| ((*name).into(), value.as_str().into()))
                .collect(),
        };
        Some((to, serde_json::to_vec(&told).ok()?))
    }

    /// What came since the metric was told last: of a counter, or of a histogram.
    fn increase(&mut self, metric: &Metric) -> (Option<f64>, Option<Observed>) {
        let told = match (metric.kind, &metric.buckets) {
            (MetricKind::Gauge, _) => return (None, None),
            (MetricKind::Histogram, Some(buckets)) => {
                Told::Buckets(buckets.counts.clone(), metric.value)
            }
            _ => Told::Total(metric.value),
        };
        let series = (metric.name, metric.labels.clone());
        let is_known = self.before.contains_key(&series);
        if !is_known && self.before.len() >= SERIES_MAX {
            return (None, None);
        }
        let before = self.before.insert(series, told.clone());
        match (before, told) {
            (Some(Told::Total(before)), Told::Total(now)) => (Some(now - before), None),
            (Some(Told::Buckets(before, sum_before)), Told::Buckets(now, sum)) => {
                let counts = now.iter().zip(before);
                let counts: Vec<u64> = counts
                    .map(|(now, before)| now.saturating_sub(before))
                    .collect();
                let count = counts.iter().sum();
                // Nothing was observed meanwhile.
                if count == 0 {
                    return (None, None);
                }
                let observed = Observed {
                    count,
                    sum: Some(sum - sum_before),
                    bounds: metric
                        .buckets
                        .as_ref()
                        .map_or_else(Vec::new, |buckets| buckets.bounds.to_vec()),
                    counts,
                    ..Observed::default()
                };
                (None, Some(observed))
            }
            _ => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use serin_ui::Buckets;

    use super::*;

    async fn teller() -> Teller {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect("127.0.0.1:1").await;
        let who = Who {
            service: String::from("serin"),
            version: String::from("v0"),
            instance: String::from("serin-1"),
        };
        Teller::new(client.expect("it goes on trying"), who)
    }

    fn told(teller: &mut Teller, metrics: &[Metric]) -> Vec<(String, String)> {
        let messages = teller.messages(metrics, 5).into_iter();
        messages
            .map(|(to, lines)| (to, String::from_utf8(lines).expect("text")))
            .collect()
    }

    #[tokio::test]
    async fn labels_say_whose_number_it_is() {
        let mut teller = teller().await;
        let up = Metric::gauge("up", "Up.", 1.0);
        let of_cart = up.clone().label("service", "cart").label("version", "v2");
        let of_cart = of_cart
            .label("instance", "cart-v2-1")
            .label("state", "ready");
        let wanted = [
            (
                "tel.metric.cart.v2.cart-v2-1",
                r#"{"time":5,"name":"up","kind":"gauge","value":1.0,"labels":{"state":"ready"}}"#,
            ),
            (
                "tel.metric.serin.v0.serin-1",
                r#"{"time":5,"name":"up","kind":"gauge","value":1.0}"#,
            ),
        ];
        let wanted = wanted.map(|(to, line)| (to.to_owned(), format!("{line}\n")));
        assert_eq!(told(&mut teller, &[up, of_cart]), wanted);
    }

    #[tokio::test]
    async fn the_increase_is_told_from_the_second_time_on() {
        let mut teller = teller().await;
        let counter = |value| [Metric::counter("jobs_total", "Jobs.", value)];
        let (_, first) = told(&mut teller, &counter(7)).remove(0);
        assert!(!first.contains("delta"), "{first}");
        let (_, second) = told(&mut teller, &counter(9)).remove(0);
        assert!(second.contains(r#""value":9.0,"delta":2.0"#), "{second}");
    }

    #[tokio::test]
    async fn a_histogram_is_told_when_something_was_observed() {
        let mut teller = teller().await;
        let histogram = |counts: [u64; 2], sum| {
            let buckets = Buckets {
                bounds: &[1.0],
                counts: counts.to_vec(),
            };
            [Metric::histogram("took", "Took.", sum, buckets)]
        };
        assert_eq!(told(&mut teller, &histogram([1, 0], 0.5)), []);
        assert_eq!(told(&mut teller, &histogram([1, 0], 0.5)), []);
        let (_, line) = told(&mut teller, &histogram([2, 3], 9.5)).remove(0);
        let observed = r#""observed":{"count":4,"sum":9.0,"bounds":[1.0],"counts":[1,3]}"#;
        assert!(line.contains(observed), "{line}");
    }
}
