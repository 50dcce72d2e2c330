//! `POST /api/v1/events`: one CloudEvent, a JSON array of them, or one a line; or the data of one, whose
//! attributes are headers (the binary mode of CloudEvents 1.0's HTTP binding, section 3.1).
//!
//! The body is read and unpacked with bounds, then handed to `lake::Accept`, which answers once the
//! bus has the events on disk. Of many, the good are stored and the others told line by line.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use serin_lake::accept::Numbered;
use serin_lake::{Declared, Door, Receipt};
use serin_wire::call;
use serin_wire::cloudevent::percent_decode;

use super::App;
use super::body;
use super::dto::{EventsBody, RefusedBody};
use super::error::ApiError;

/// The name of an import's part, `<producer>/<epoch>/<number>`: taking it twice adds nothing.
const NUMBER_HEADER: &str = "serin-number";
/// `true` where the events are of old and must not move the watermark.
const IMPORT_HEADER: &str = "serin-import";
/// Columns an import knows of, whether or not they have values: `http.request:user=varchar`.
const COLUMNS_HEADER: &str = "serin-columns";
/// What stands before the name of an attribute in a header.
const ATTRIBUTE_PREFIX: &str = "ce-";
/// So many refused lines are told; more are only counted.
const REFUSED_SHOWN_MAX: usize = 1_000;

pub(crate) async fn post(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let numbered = numbered(&headers)?;
    let body = body::read(&app.budget, &headers, body).await?;
    // The bytes are shared, not copied; the share of the budget is held until the answer.
    let (door, bytes) = match whole_of_binary(&headers, &body.bytes)? {
        Some(event) => (Door::One, event),
        None => (door_of(&headers, &body.bytes), body.bytes.clone()),
    };
    let receipt = app.accept.accept(door, bytes, numbered).await?;
    drop(body);
    app.counts.add_events(&receipt);
    Ok(answer(receipt))
}

fn answer(receipt: Receipt) -> Response {
    let status = if receipt.refused.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::MULTI_STATUS
    };
    let refused_total = receipt.refused.len();
    let unsent = receipt.unsent;
    let body = EventsBody {
        accepted: receipt.accepted,
        duplicates: receipt.duplicates,
        refused: receipt
            .refused
            .into_iter()
            .take(REFUSED_SHOWN_MAX)
            .map(|refused| RefusedBody {
                line: refused.line,
                error: refused.error,
            })
            .collect(),
        refused_total,
        go_on_from: unsent.map(|unsent| unsent.from_line),
    };
    let mut response = (status, Json(body)).into_response();
    if let Some(wait) = unsent.and_then(|unsent| unsent.retry_after) {
        super::error::retry_after(&mut response, wait);
    }
    response
}

fn numbered(headers: &HeaderMap) -> Result<Option<Numbered>, ApiError> {
    let Some(number) = headers.get(NUMBER_HEADER) else {
        return Ok(None);
    };
    let number = number
        .to_str()
        .ok()
        .filter(|text| text.parse::<serin_wire::Number>().is_ok())
        .ok_or_else(|| {
            ApiError::bad(
                "the header Serin-Number must be <producer>/<epoch>/<number>, such as 01J9/0/17",
            )
        })?;
    let is_import = headers
        .get(IMPORT_HEADER)
        .is_some_and(|value| value == "true");
    let declared = match headers.get(COLUMNS_HEADER) {
        None => None,
        Some(text) => Some(declared(text)?),
    };
    Ok(Some(Numbered {
        number: number.to_owned(),
        is_import,
        declared,
    }))
}

fn declared(text: &HeaderValue) -> Result<Declared, ApiError> {
    let parsed = text.to_str().ok().map(str::parse::<Declared>);
    match parsed {
        Some(Ok(declared)) => Ok(declared),
        Some(Err(error)) => Err(ApiError::bad(format!("the header Serin-Columns: {error}"))),
        None => Err(ApiError::bad("the header Serin-Columns must be ASCII")),
    }
}

/// The event whose attributes are headers and whose data are the body, as one JSON object; `None` where
/// the headers name no attribute.
fn whole_of_binary(headers: &HeaderMap, data: &[u8]) -> Result<Option<Bytes>, ApiError> {
    let named = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix(ATTRIBUTE_PREFIX)?, value)));
    let unwritable = |error: serde_json::Error| ApiError::internal(error.to_string());
    let mut event: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    for (name, value) in named {
        let value = value.to_str().map_err(|_| {
            ApiError::bad(format!("the header {ATTRIBUTE_PREFIX}{name} must be ASCII"))
        })?;
        let value = to_raw_value(&percent_decode(value)).map_err(unwritable)?;
        event.insert(name.to_owned(), value);
    }
    if event.is_empty() {
        return Ok(None);
    }
    let trace = headers.get(call::TRACEPARENT);
    if let Some(trace) = trace.and_then(|value| value.to_str().ok()) {
        let trace = to_raw_value(trace).map_err(unwritable)?;
        event.insert(call::TRACEPARENT.to_owned(), trace);
    }
    if !data.trim_ascii().is_empty() {
        let data = serde_json::from_slice(data).map_err(|error| {
            ApiError::bad(format!(
                "the body of an event whose attributes are headers must be JSON, its data: {error}"
            ))
        })?;
        event.insert("data".to_owned(), data);
    }
    let event = serde_json::to_vec(&event).map_err(unwritable)?;
    Ok(Some(event.into()))
}

/// By the content type where it says, else by the look of the body.
fn door_of(headers: &HeaderMap, body: &[u8]) -> Door {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default();
    match kind.as_str() {
        "application/cloudevents+json" => Door::One,
        "application/cloudevents-batch+json" => Door::Batch,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Door::Ndjson,
        _ => look(body, kind == "application/json"),
    }
}

fn look(body: &[u8], is_json: bool) -> Door {
    let text = body.trim_ascii();
    if text.first() == Some(&b'[') {
        return Door::Batch;
    }
    // A JSON object may be spread over lines; two whole objects on two lines are NDJSON.
    let is_one_a_line = text
        .iter()
        .position(|b| *b == b'\n')
        .is_some_and(|end| text[..end].trim_ascii_end().ends_with(b"}"));
    if is_one_a_line && !is_json {
        Door::Ndjson
    } else {
        Door::One
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_may_be_headers() {
        let whole = |headers: &[(&'static str, &str)], body: &str| {
            let headers = headers.iter().map(|(name, value)| {
                (
                    (*name).parse().expect("a name"),
                    value.parse().expect("a value"),
                )
            });
            whole_of_binary(&headers.collect(), body.as_bytes())
        };
        assert!(matches!(whole(&[("x", "y")], "{}"), Ok(None)));
        let attributes = [("ce-type", "order.paid"), ("ce-id", "a%207"), ("x", "y")];
        let event = whole(&attributes, "{\"amount\": 1.5}")
            .expect("right")
            .expect("an event");
        let event: serde_json::Value = serde_json::from_slice(&event).expect("JSON");
        assert_eq!(
            event,
            serde_json::json!({"type": "order.paid", "id": "a 7", "data": {"amount": 1.5}}),
            "as the same event is read from the bus"
        );
        assert!(whole(&attributes, "").expect("right").is_some(), "no data");
        let error = whole(&attributes, "{").expect_err("no JSON");
        assert!(
            error.message.contains("must be JSON, its data"),
            "{}",
            error.message
        );
    }

    #[test]
    fn the_door_is_named_or_seen() {
        let door = |kind: &str, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().expect("a value"));
            door_of(&headers, body.as_bytes())
        };
        assert_eq!(door("application/cloudevents+json", "[]"), Door::One);
        assert_eq!(
            door("application/x-ndjson; charset=utf-8", "{}"),
            Door::Ndjson
        );
        assert_eq!(door("application/json", " [{}]"), Door::Batch);
        assert_eq!(door("application/json", "{\n}"), Door::One);
        assert_eq!(door("text/plain", "{\"a\":{}}\n{}"), Door::Ndjson);
        assert_eq!(door("text/plain", "{\n\"a\":1}"), Door::One);
    }
}
