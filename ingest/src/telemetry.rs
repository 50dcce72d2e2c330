//! Beats and spans become rows of the tables `beats` and `spans`.
//!
//! They come by a memory stream and are taken at most once: a beat lost in a restart is followed by
//! the next within a second, and the disk is for events. They rest in the same flush as events.

use std::borrow::Cow;

use serde_json::Value;
use serin_lake::ColumnKind;
use serin_wire::{Beat, Event, Span, Trace};

/// The columns of `beats`; gauges come as `gauges_<name>`, drops as `dropped_<reason>`.
pub(crate) const BEAT_COLUMNS: &[(&str, ColumnKind)] = &[
    ("number", ColumnKind::Int),
    ("state", ColumnKind::Text),
    ("uptime_s", ColumnKind::Double),
    ("cpu", ColumnKind::Double),
    ("memory_bytes", ColumnKind::Int),
    ("in_flight", ColumnKind::Int),
    ("queued_events", ColumnKind::Int),
    ("requests", ColumnKind::Int),
    ("errors", ColumnKind::Int),
    ("requests_sum_us", ColumnKind::Int),
    ("latency_p50_ms", ColumnKind::Double),
    ("latency_p95_ms", ColumnKind::Double),
    ("latency_p99_ms", ColumnKind::Double),
    ("latency_buckets", ColumnKind::Text),
];
/// The columns of `spans` that are always there; attributes follow.
pub(crate) const SPAN_COLUMNS: &[(&str, ColumnKind)] = &[
    ("name", ColumnKind::Text),
    ("span_id", ColumnKind::Text),
    ("parent_id", ColumnKind::Text),
    ("duration_us", ColumnKind::Int),
    ("status", ColumnKind::Text),
];

/// Who sent a message of telemetry, by its subject `tel.<what>.<service>.<version>.<instance>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender<'a> {
    pub(crate) what: &'a str,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
}

/// Reads a subject of telemetry.
pub(crate) fn sender(subject: &str) -> Option<Sender<'_>> {
    let mut words = subject.strip_prefix("tel.")?.split('.');
    let sender = Sender {
        what: words.next()?,
        service: words.next()?,
        version: words.next()?,
        instance: words.next()?,
    };
    words.next().is_none().then_some(sender)
}

/// The row of a beat; the name is the subject's, whatever the beat says.
pub(crate) fn beat_row<'a>(sender: &Sender<'a>, beat: &Beat, arrived_us: i64) -> Event<'a> {
    let ms = |q| beat.requests.quantile_us(q).map(|us| us / 1000.0);
    let state = serde_json::to_value(beat.state).unwrap_or_default();
    let data = serde_json::json!({
        "number": beat.number,
        "state": state,
        "uptime_s": (beat.time_us - beat.started_us) as f64 / 1e6,
        "cpu": beat.cpu,
        "memory_bytes": beat.memory_bytes,
        "in_flight": beat.in_flight,
        "queued_events": beat.queued_events,
        "requests": beat.requests.count,
        "errors": beat.errors,
        "requests_sum_us": beat.requests.sum_us,
        "latency_p50_ms": ms(0.5),
        "latency_p95_ms": ms(0.95),
        "latency_p99_ms": ms(0.99),
        "latency_buckets": beat.requests.buckets,
        "gauges": beat.gauges,
        "dropped": beat.dropped,
    });
    row(sender, "beats", beat.time_us.min(arrived_us), data)
}

/// The row of a span; attributes come as `attributes_<name>`.
pub(crate) fn span_row<'a>(sender: &Sender<'a>, span: &Span<'_>, arrived_us: i64) -> Event<'a> {
    let status = serde_json::to_value(span.status).unwrap_or_default();
    let data = serde_json::json!({
        "name": span.name,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "duration_us": span.duration_us,
        "status": status,
        "attributes": span.attributes,
    });
    let mut row = row(sender, "spans", span.time.min(arrived_us), data);
    row.trace = u128::from_str_radix(&span.trace_id, 16)
        .ok()
        .map(|trace_id| Trace {
            trace_id,
            span_id: u64::from_str_radix(&span.span_id, 16).unwrap_or_default(),
            flags: 0,
        });
    row
}

fn row<'a>(sender: &Sender<'a>, table: &'static str, time_us: i64, data: Value) -> Event<'a> {
    Event {
        id: Cow::Borrowed(""),
        kind: Cow::Borrowed(table),
        service: Cow::Borrowed(sender.service),
        version: Cow::Borrowed(sender.version),
        instance: Cow::Borrowed(sender.instance),
        time_us,
        trace: None,
        arm: None,
        data: Cow::Owned(data.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use serin_wire::span::SpanStatus;

    use super::*;

    #[test]
    fn subjects_name_the_sender() {
        let found = sender("tel.beat.cart.v8.cart-v8-1").expect("a beat");
        assert_eq!((found.what, found.instance), ("beat", "cart-v8-1"));
        for other in ["tel.beat.cart.v8", "tel.beat.a.b.c.d", "ev.a.b.c.d"] {
            assert_eq!(sender(other), None, "{other}");
        }
    }

    #[test]
    fn a_span_keeps_its_trace_and_attributes() {
        let sender = sender("tel.span.cart.v8.cart-v8-1").expect("a span");
        let span = Span {
            trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
            span_id: "00f067aa0ba902b7".into(),
            parent_id: None,
            name: "pay".into(),
            service: "spoofed".into(),
            version: "v0".into(),
            instance: "x".into(),
            time: 5,
            duration_us: 7,
            status: SpanStatus::Ok,
            attributes: [(String::from("n"), Value::from(1))].into_iter().collect(),
        };
        let row = span_row(&sender, &span, 9);
        assert_eq!((&*row.service, row.time_us), ("cart", 5));
        let trace = row.trace.expect("it has one");
        assert_eq!(
            trace.to_traceparent(),
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
        );
        let data = String::from_utf8_lossy(&row.data).into_owned();
        assert!(data.contains(r#""attributes":{"n":1}"#), "{data}");
    }
}
