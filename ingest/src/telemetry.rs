//! Beats, spans, logs, requests and metrics become rows of the tables `beats`, `spans`, `logs`,
//! `requests`, `metrics`.
//!
//! They come by a memory stream and are taken at most once: a beat lost in a restart is followed by
//! the next within a second, and the disk is for events. They rest in the same flush as events. Who
//! sent a row is what its subject says. Start at [`rows`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serin_lake::ColumnKind;
use serin_wire::request::NONE;
use serin_wire::subject::UNKNOWN;
use serin_wire::{Arm, Beat, Event, Log, Metric, Request, Sealed, Span, Trace};

use crate::refuse::TIME_US_MIN;

/// The columns of `beats`; gauges come as `gauges_<name>`, drops as `dropped_<reason>` beside their sum.
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
    ("dropped_events", ColumnKind::Int),
];
/// The columns of `spans` that are always there; attributes follow.
pub(crate) const SPAN_COLUMNS: &[(&str, ColumnKind)] = &[
    ("name", ColumnKind::Text),
    ("span_id", ColumnKind::Text),
    ("parent_id", ColumnKind::Text),
    ("duration_us", ColumnKind::Int),
    ("status", ColumnKind::Text),
];
/// The columns of `logs`; what a structured line says follows as `fields_<name>`.
pub(crate) const LOG_COLUMNS: &[(&str, ColumnKind)] = &[
    ("level", ColumnKind::Text),
    ("message", ColumnKind::Text),
    ("source", ColumnKind::Text),
    ("dropped", ColumnKind::Int),
];
/// The columns of `requests`; the trace is in `trace_id`, the arms are in `_arm`.
pub(crate) const REQUEST_COLUMNS: &[(&str, ColumnKind)] = &[
    ("endpoint", ColumnKind::Text),
    ("caller", ColumnKind::Text),
    ("status", ColumnKind::Int),
    ("has_failed", ColumnKind::Bool),
    ("duration_ms", ColumnKind::Double),
    ("queue_ms", ColumnKind::Double),
    ("method", ColumnKind::Text),
    ("bytes", ColumnKind::Int),
];
/// The columns of `metrics`; labels follow as `labels_<name>`, always text. Those that the built-in
/// dashboards ask for are there from the start.
pub(crate) const METRIC_COLUMNS: &[(&str, ColumnKind)] = &[
    ("name", ColumnKind::Text),
    ("kind", ColumnKind::Text),
    ("unit", ColumnKind::Text),
    ("value", ColumnKind::Double),
    ("delta", ColumnKind::Double),
    ("count", ColumnKind::Int),
    ("sum", ColumnKind::Double),
    ("min", ColumnKind::Double),
    ("max", ColumnKind::Double),
    ("p50", ColumnKind::Double),
    ("p95", ColumnKind::Double),
    ("p99", ColumnKind::Double),
    ("buckets", ColumnKind::Text),
    ("labels_state", ColumnKind::Text),
    ("labels_exit", ColumnKind::Text),
    ("labels_stream", ColumnKind::Text),
    ("labels_end", ColumnKind::Text),
];
/// Where the parts go that find no column any more: one text, as JSON.
pub(crate) const OVERFLOW: &str = "more";

/// What a message of telemetry holds.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) rows: Vec<Row<'a>>,
    pub(crate) sealed: Option<Sealed>,
    /// Lines that cannot be read.
    pub(crate) bad: u64,
}

/// A row: what is fixed, and under one name what its sender may choose without end.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) event: Event<'a>,
    fixed: Value,
    free: Option<(&'static str, Value)>,
}

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
    let known = |word| match word {
        UNKNOWN => "",
        word => word,
    };
    let sender = Sender {
        what: words.next()?,
        service: words.next()?,
        version: known(words.next()?),
        instance: known(words.next()?),
    };
    words.next().is_none().then_some(sender)
}

/// The rows of a message of telemetry; `None` where its subject is none of ours.
pub(crate) fn rows<'a>(subject: &'a str, payload: &[u8], arrived_us: i64) -> Option<Found<'a>> {
    let sender = sender(subject)?;
    let found = match sender.what {
        "beat" => match serde_json::from_slice::<Beat>(payload) {
            Ok(beat) => Found {
                rows: vec![beat_row(&sender, &beat, arrived_us)],
                sealed: beat.sealed,
                bad: 0,
            },
            Err(_) => Found {
                bad: 1,
                ..Found::default()
            },
        },
        "span" => of_lines(payload, |span| span_row(&sender, &span, arrived_us)),
        "log" => of_lines(payload, |log| log_row(&sender, &log, arrived_us)),
        "req" => of_some_lines(payload, |request| {
            request_row(&sender, &request, arrived_us)
        }),
        "metric" => of_lines(payload, |metric| metric_row(&sender, &metric, arrived_us)),
        _ => return None,
    };
    Some(found)
}

/// Reads NDJSON; a line that cannot be read is counted, and the rest is still read.
fn of_lines<'a, 'b, T: Deserialize<'b>>(
    payload: &'b [u8],
    row: impl Fn(T) -> Row<'a>,
) -> Found<'a> {
    of_some_lines(payload, |told| Some(row(told)))
}

/// The same where a line that can be read may still be wrong.
fn of_some_lines<'a, 'b, T: Deserialize<'b>>(
    payload: &'b [u8],
    row: impl Fn(T) -> Option<Row<'a>>,
) -> Found<'a> {
    let mut found = Found::default();
    let lines = payload.split(|&byte| byte == b'\n');
    for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line).ok().and_then(&row) {
            Some(row) => found.rows.push(row),
            None => found.bad += 1,
        }
    }
    found
}

/// The row of a beat; the name is the subject's, whatever the beat says.
fn beat_row<'a>(sender: &Sender<'a>, beat: &Beat, arrived_us: i64) -> Row<'a> {
    let ms = |q| beat.requests.quantile_us(q).map(|us| us / 1000.0);
    let state = serde_json::to_value(beat.state).unwrap_or_default();
    let mut data = serde_json::json!({
        "number": beat.number,
        "state": state,
        "uptime_s": beat.time_us.saturating_sub(beat.started_us) as f64 / 1e6,
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
        "dropped_events": dropped_events(&beat.dropped),
    });
    if !beat.dropped.is_empty() {
        data["dropped"] = serde_json::json!(beat.dropped);
    }
    let gauges = serde_json::to_value(&beat.gauges).unwrap_or_default();
    let mut row = row(sender, "beats", beat.time_us, arrived_us, data);
    row.free = Some(("gauges", gauges));
    row
}

/// How many events were dropped; spans, lines, tellings of requests and calls are counted beside them.
fn dropped_events(dropped: &BTreeMap<String, u64>) -> u64 {
    const OTHERS: [&str; 4] = ["span-", "log-", "request-", "call-"];
    let is_of_events = |reason: &str| !OTHERS.iter().any(|other| reason.starts_with(other));
    let counts = dropped.iter().filter(|(reason, _)| is_of_events(reason));
    counts.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// The row of a span; attributes come as `attributes_<name>`.
fn span_row<'a>(sender: &Sender<'a>, span: &Span<'_>, arrived_us: i64) -> Row<'a> {
    let status = serde_json::to_value(span.status).unwrap_or_default();
    let data = serde_json::json!({
        "name": span.name,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "duration_us": span.duration_us,
        "status": status,
    });
    let mut row = row(sender, "spans", span.time, arrived_us, data);
    row.free = Some(("attributes", Value::Object(span.attributes.clone())));
    row.event.trace = trace(&span.trace_id);
    row
}

/// The row of a line that was logged.
fn log_row<'a>(sender: &Sender<'a>, log: &Log<'_>, arrived_us: i64) -> Row<'a> {
    let data = serde_json::json!({
        "level": serde_json::to_value(log.level).unwrap_or_default(),
        "message": log.message,
        "source": log.source,
        "dropped": log.dropped,
    });
    let mut row = row(sender, "logs", log.time, arrived_us, data);
    row.free = Some(("fields", Value::Object(log.fields.clone())));
    row.event.trace = log.trace_id.as_deref().and_then(trace);
    row
}

/// The row of a request that was handled by its sender, or that its sender made and nobody answered;
/// then the caller is the subject's, whatever the line says.
fn request_row<'a>(sender: &Sender<'a>, request: &Request<'_>, arrived_us: i64) -> Option<Row<'a>> {
    let ms = |us: u64| us as f64 / 1000.0;
    let callee = request.callee.as_ref();
    let caller = match callee {
        Some(_) => Some(sender.service),
        None => request.caller.as_deref(),
    };
    let data = serde_json::json!({
        "endpoint": request.endpoint,
        "caller": caller,
        "status": request.status,
        "has_failed": request.has_failed(),
        "duration_ms": ms(request.duration_us),
        "queue_ms": request.queue_us.map(ms),
        "method": request.method,
        "bytes": request.bytes,
    });
    let mut row = row(sender, "requests", request.time, arrived_us, data);
    row.event.trace = request.trace_id.as_deref().and_then(trace);
    let arm = request.arm.as_deref().unwrap_or_default();
    row.event.arm = Some(Arm(Cow::Owned(arm.to_owned()))).filter(|arm| !arm.0.is_empty());
    if let Some(callee) = callee {
        callee.check().ok()?;
        let version = callee.version.as_deref().unwrap_or(NONE);
        row.event.service = Cow::Owned(callee.service.clone().into_owned());
        row.event.version = Cow::Owned(version.to_owned());
        row.event.instance = Cow::Borrowed(NONE);
    }
    Some(row)
}

/// The row of a number that was told; of a histogram's buckets the quantiles are computed here.
fn metric_row<'a>(sender: &Sender<'a>, metric: &Metric<'_>, arrived_us: i64) -> Row<'a> {
    let observed = metric.observed.as_ref();
    let quantile = |q| observed.and_then(|observed| observed.quantile(q));
    let buckets = observed
        .filter(|observed| !observed.bounds.is_empty())
        .map(|observed| {
            let (bounds, counts) = (&observed.bounds, &observed.counts);
            serde_json::json!({"bounds": bounds, "counts": counts}).to_string()
        });
    let data = serde_json::json!({
        "name": metric.name,
        "kind": metric.kind,
        "unit": metric.unit,
        "value": metric.value,
        "delta": metric.delta,
        "count": observed.map(|observed| observed.count),
        "sum": observed.and_then(|observed| observed.sum),
        "min": observed.and_then(|observed| observed.min),
        "max": observed.and_then(|observed| observed.max),
        "p50": quantile(0.5),
        "p95": quantile(0.95),
        "p99": quantile(0.99),
        "buckets": buckets,
    });
    let labels = serde_json::to_value(&metric.labels).unwrap_or_default();
    let mut row = row(sender, "metrics", metric.time, arrived_us, data);
    row.free = Some(("labels", labels));
    row
}

impl Row<'_> {
    /// Gives the event its data: each of the free parts with a column of its own, or all of them in
    /// one text where there are more names than columns.
    pub(crate) fn pack(&mut self, has_overflow: bool) {
        let mut data = self.fixed.clone();
        // An object of nothing has no column, and is no more than not being there.
        let free = self.free.as_ref();
        let free = free.filter(|(_, free)| free.as_object().is_none_or(|free| !free.is_empty()));
        if let (Some((name, free)), Value::Object(data)) = (free, &mut data) {
            if has_overflow {
                data.insert(OVERFLOW.to_owned(), Value::String(free.to_string()));
            } else {
                data.insert((*name).to_owned(), free.clone());
            }
        }
        self.event.data = Cow::Owned(data.to_string().into_bytes());
    }
}

/// The trace of 32 hex digits; only its identity is stored.
fn trace(trace_id: &str) -> Option<Trace> {
    let trace_id = u128::from_str_radix(trace_id, 16).ok()?;
    Some(Trace {
        trace_id,
        span_id: 0,
        flags: 0,
    })
}

fn row<'a>(
    sender: &Sender<'a>,
    table: &'static str,
    time_us: i64,
    arrived_us: i64,
    fixed: Value,
) -> Row<'a> {
    let event = Event {
        id: Cow::Borrowed(""),
        kind: Cow::Borrowed(table),
        service: Cow::Borrowed(sender.service),
        version: Cow::Borrowed(sender.version),
        instance: Cow::Borrowed(sender.instance),
        // A wrong clock must not make a row that nobody can show, nor one of the future.
        time_us: time_us.max(TIME_US_MIN).min(arrived_us),
        trace: None,
        arm: None,
        data: Cow::Borrowed(b"{}"),
    };
    Row {
        event,
        fixed,
        free: None,
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
        let nameless = sender("tel.span.cart._._").expect("a span");
        assert_eq!((nameless.version, nameless.instance), ("", ""));
        for other in ["tel.beat.cart.v8", "tel.beat.a.b.c.d", "ev.a.b.c.d"] {
            assert_eq!(sender(other), None, "{other}");
        }
    }

    /// What a beat has none of is not there: an empty object would go to `_rest` with every beat.
    #[test]
    fn a_beat_says_nothing_that_has_no_column() {
        let text = r#"{"service": "a", "version": "v1", "instance": "a-1", "number": 1, "time_us": 9,
            "started_us": 1, "state": "ready", "cpu": 0.5, "memory_bytes": 1, "in_flight": 0,
            "queued_events": 0, "requests": {"count": 0, "sum_us": 0, "buckets": []}, "errors": 0"#;
        let data = |more: &str| -> Value {
            let text = format!("{text}{more}}}");
            let mut found = rows("tel.beat.a.v1.a-1", text.as_bytes(), 9).expect("a subject");
            let mut row = found.rows.pop().expect("a beat");
            row.pack(false);
            serde_json::from_slice(&row.event.data).expect("JSON")
        };
        let bare = data("");
        let objects = bare.as_object().expect("an object").values();
        assert_eq!(
            objects.filter(|value| value.is_object()).count(),
            0,
            "{bare}"
        );
        assert_eq!(bare["dropped_events"], 0);
        let full = data(r#", "dropped": {"queue-full": 3, "span-sampled": 9}, "gauges": {"g": 1}"#);
        assert_eq!(full["dropped_events"], 3);
        assert_eq!(full["dropped"]["span-sampled"], 9);
        assert_eq!(full["gauges"]["g"], 1.0);
    }

    #[test]
    fn a_span_keeps_its_trace_and_attributes() {
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
        let message = serde_json::to_vec(&span).expect("JSON");
        let found = rows("tel.span.cart.v8.cart-v8-1", &message, 9);
        let mut row = found.expect("ours").rows.remove(0);
        assert_eq!((&*row.event.service, row.event.time_us), ("cart", 5));
        let trace = row.event.trace.expect("it has one");
        assert_eq!(trace.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        row.pack(false);
        let data = String::from_utf8_lossy(&row.event.data).into_owned();
        assert!(data.contains(r#""attributes":{"n":1}"#), "{data}");
        row.pack(true);
        let data = String::from_utf8_lossy(&row.event.data).into_owned();
        assert!(data.contains(r#""more":"{\"n\":1}""#), "{data}");
    }

    #[test]
    fn lines_that_cannot_be_read_are_counted() {
        let message = b"{\"time\":9,\"message\":\"a\"}\n\nno line\n{\"time\":3,\"message\":\"b\"}";
        let found = rows("tel.log.cart.v8.cart-v8-1", message, 5).expect("ours");
        let times: Vec<i64> = found.rows.iter().map(|row| row.event.time_us).collect();
        assert_eq!((times, found.bad), (vec![5, 3], 1));
        assert!(rows("tel.pulse.cart.v8.cart-v8-1", b"", 5).is_none());
    }
}
