//! A span of OpenTelemetry as one of ours.
//!
//! What ours has no field for stands in its attributes, under `otel`: kind, scope, the status's
//! message, events and links; the resource's attributes stand under `resource`.

use serde_json::{Map, Value, json};
use serin_wire::Span;
use serin_wire::span::SpanStatus;
use serin_wire::subject;

use super::message::{self, SpanEvent};
use super::micros;
use super::requests::{self, Served};
use super::sender::Sender;
use super::value;
use super::walk::Leaf;
use crate::lines::{Out, TooMuch};

/// Names of `Span.SpanKind`, by number.
const KINDS: [&str; 6] = ["", "internal", "server", "client", "producer", "consumer"];
/// `Status.StatusCode.STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

pub(super) fn span(
    sender: &Sender,
    scope: &message::Scope,
    leaf: Leaf<'_>,
    now_us: i64,
    out: &mut Out,
) -> Result<(), TooMuch> {
    let span: message::Span = match leaf.read("span") {
        Ok(span) => span,
        Err(error) => {
            out.refused.add(1, error);
            return Ok(());
        }
    };
    let (Some(trace_id), Some(span_id)) = (
        identity(&span.trace_id, TRACE_ID_BYTES),
        identity(&span.span_id, SPAN_ID_BYTES),
    ) else {
        out.refused.add(
            1,
            format!(
                "span {:?} has no trace of 16 bytes and identity of 8, not all 0",
                span.name
            ),
        );
        return Ok(());
    };
    let begun_us = micros(span.start_time_unix_nano);
    let ended_us = micros(span.end_time_unix_nano);
    let time = begun_us.or(ended_us).unwrap_or(now_us);
    let duration_us = ended_us.map_or(0, |ended_us| ended_us.saturating_sub(time).max(0));
    let status = span.status.unwrap_or_default();
    let otel = without_empty(json!({
        "kind": usize::try_from(span.kind).ok().and_then(|kind| KINDS.get(kind)),
        "scope": scope.name,
        "status_message": status.message,
        "events": span.events.into_iter().map(event).collect::<Vec<_>>(),
        "links": span.links.into_iter().filter_map(link).collect::<Vec<_>>(),
    }));
    let parent_id = identity(&span.parent_span_id, SPAN_ID_BYTES);
    let duration_us = duration_us.unsigned_abs();
    let mut attributes = value::attributes(span.attributes);
    let served = Served {
        kind: span.kind,
        name: &span.name,
        has_failed: status.code == ERROR,
        attributes: &attributes,
        trace_id: &trace_id,
        parent_id: parent_id.as_deref(),
        trace_state: &span.trace_state,
        time,
        duration_us,
    };
    if let Some(request) = requests::request(served) {
        out.derived(&sender.subject(subject::request), &request)?;
    }
    beside(&mut attributes, "otel", otel);
    beside(&mut attributes, "resource", sender.resource.clone());
    let ours = Span {
        trace_id: trace_id.into(),
        span_id: span_id.into(),
        parent_id: parent_id.map(Into::into),
        name: span.name.into(),
        service: sender.service().into(),
        version: sender.version().into(),
        instance: sender.instance().into(),
        time,
        duration_us,
        status: match status.code {
            ERROR => SpanStatus::Error,
            _ => SpanStatus::Ok,
        },
        attributes,
    };
    out.line(&sender.subject(subject::span), &ours)
}

fn event(event: SpanEvent) -> Value {
    json!({
        "time": micros(event.time_unix_nano),
        "name": event.name,
        "attributes": value::attributes(event.attributes),
    })
}

fn link(link: message::Link) -> Option<Value> {
    Some(json!({
        "trace_id": identity(&link.trace_id, TRACE_ID_BYTES)?,
        "span_id": identity(&link.span_id, SPAN_ID_BYTES)?,
        "attributes": value::attributes(link.attributes),
    }))
}

/// An identity in hex; `None` where it has another length or is all zero, which means none.
pub(super) fn identity(bytes: &[u8], length: usize) -> Option<String> {
    let is_one = bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    is_one.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Puts an object beside attributes; one of the same name keeps its place under another.
pub(super) fn beside(attributes: &mut Map<String, Value>, name: &str, object: Map<String, Value>) {
    if object.is_empty() {
        return;
    }
    if let Some(taken) = attributes.remove(name) {
        let other = crate::key::free(name, |free| free == name || attributes.contains_key(free));
        attributes.insert(other, taken);
    }
    attributes.insert(name.to_owned(), Value::Object(object));
}

/// The members that say something.
pub(super) fn without_empty(object: Value) -> Map<String, Value> {
    let Value::Object(mut members) = object else {
        return Map::new();
    };
    members.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    members
}
