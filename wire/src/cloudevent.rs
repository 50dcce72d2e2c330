//! CloudEvents 1.0 as they come over NATS and HTTP: binary mode, structured JSON, batch JSON.
//!
//! Others than our SDKs send these. Binary mode keeps the attributes in `ce-*` headers and the data
//! in the body; the JSON format keeps all in one object. Source: CloudEvents 1.0.2, the JSON format
//! and the NATS and HTTP bindings. Start at [`parse_json`] and [`Attributes`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::event::{Arm, Event, Trace};
use crate::name::{self, NameError};
use crate::time::{self, Micros};

/// The content type of one event in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The content type of many events in JSON.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// The service an event is counted under when its `source` names none.
pub const DEFAULT_SERVICE: &str = "api";
/// Longest identity, in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// Why something is not an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloudEventError {
    /// Not JSON, or not of the shape.
    #[error("not a CloudEvent: {0}")]
    Json(String),
    /// No `type`.
    #[error("the attribute \"type\" is missing; it names the event, such as order.paid")]
    NoType,
    /// Not 1.0.
    #[error("specversion is {0:?}, expected \"1.0\" or none")]
    SpecVersion(String),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A time that is not RFC 3339.
    #[error("time {0:?} is not RFC 3339, such as 2026-11-24T03:00:00Z")]
    Time(String),
    /// An identity that is empty or too long.
    #[error("id must have 1 to 256 bytes, it has {0}")]
    Id(usize),
    /// Data that are not an object.
    #[error("data must be a JSON object of attributes, it is {0}")]
    Data(&'static str),
}

/// What is filled in where a sender left it out.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    /// The time of arrival.
    pub now_us: Micros,
    /// The service, where no `source` names one.
    pub service: &'a str,
}

#[derive(Deserialize)]
struct Structured<'a> {
    #[serde(borrow, default)]
    specversion: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    serinarm: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<&'a RawValue>,
}

/// Reads one event in JSON. The identity is empty where the sender gave none.
pub fn parse_json<'a>(
    text: &'a [u8],
    defaults: Defaults<'a>,
) -> Result<Event<'a>, CloudEventError> {
    let read: Structured<'a> =
        serde_json::from_slice(text).map_err(|error| CloudEventError::Json(error.to_string()))?;
    if read.data_base64.is_some() {
        return Err(CloudEventError::Data(
            "bytes (data_base64); send the object as data",
        ));
    }
    Attributes {
        specversion: read.specversion,
        id: read.id,
        kind: read.kind,
        source: read.source,
        time: read.time,
        traceparent: read.traceparent,
        arm: read.serinarm,
    }
    .into_event(data_of(read.data)?, defaults)
}

/// Splits a JSON array of events into the text of each.
pub fn split_batch(text: &[u8]) -> Result<Vec<&RawValue>, CloudEventError> {
    serde_json::from_slice(text).map_err(|error| CloudEventError::Json(error.to_string()))
}

fn data_of(data: Option<&RawValue>) -> Result<Cow<'_, [u8]>, CloudEventError> {
    let text = data.map_or("{}", RawValue::get);
    match text.as_bytes().first() {
        Some(b'{') => Ok(Cow::Borrowed(text.as_bytes())),
        Some(b'n') => Ok(Cow::Borrowed(b"{}")),
        Some(b'[') => Err(CloudEventError::Data("an array")),
        Some(b'"') => Err(CloudEventError::Data("a string")),
        _ => Err(CloudEventError::Data("a number or a boolean")),
    }
}

/// The context attributes, wherever they came from.
#[derive(Debug, Clone, Default)]
pub struct Attributes<'a> {
    /// `1.0`, or left out.
    pub specversion: Option<Cow<'a, str>>,
    /// Unique per event of a source.
    pub id: Option<Cow<'a, str>>,
    /// The event type.
    pub kind: Option<Cow<'a, str>>,
    /// A URI; its last segment is the service.
    pub source: Option<Cow<'a, str>>,
    /// RFC 3339.
    pub time: Option<Cow<'a, str>>,
    /// W3C trace context (the distributed tracing extension).
    pub traceparent: Option<Cow<'a, str>>,
    /// The canary arms of the cause (our extension `serinarm`, the header `serin-arm`).
    pub arm: Option<Cow<'a, str>>,
}

impl<'a> Attributes<'a> {
    /// Reads `ce-*` headers, whatever their case; percent-encoding is undone as the bindings say.
    pub fn from_headers(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Attributes<'a> {
        let mut read = Attributes::default();
        for (name, value) in headers {
            let slot = match name.to_ascii_lowercase().as_str() {
                "ce-specversion" => &mut read.specversion,
                "ce-id" => &mut read.id,
                "ce-type" => &mut read.kind,
                "ce-source" => &mut read.source,
                "ce-time" => &mut read.time,
                "traceparent" | "ce-traceparent" => &mut read.traceparent,
                "serin-arm" => &mut read.arm,
                _ => continue,
            };
            *slot = Some(percent_decode(value));
        }
        read
    }

    /// Makes the event, checking each attribute; a missing identity stays empty.
    pub fn into_event(
        self,
        data: Cow<'a, [u8]>,
        defaults: Defaults<'a>,
    ) -> Result<Event<'a>, CloudEventError> {
        if let Some(version) = self.specversion.filter(|version| version != "1.0") {
            return Err(CloudEventError::SpecVersion(version.into_owned()));
        }
        let kind = self
            .kind
            .filter(|kind| !kind.is_empty())
            .ok_or(CloudEventError::NoType)?;
        name::check_any_type(&kind)?;
        let service = service_of(self.source, defaults.service)?;
        let time_us = match self.time {
            None => defaults.now_us,
            Some(text) => time::parse_rfc3339(&text)
                .ok_or_else(|| CloudEventError::Time(text.chars().take(64).collect()))?,
        };
        let id = match self.id {
            None => Cow::Borrowed(""),
            Some(id) if (1..=ID_BYTES_MAX).contains(&id.len()) => id,
            Some(id) => return Err(CloudEventError::Id(id.len())),
        };
        Ok(Event {
            id,
            kind,
            service,
            version: Cow::Borrowed(""),
            instance: Cow::Borrowed(""),
            time_us,
            trace: self.traceparent.as_deref().and_then(Trace::parse),
            arm: self.arm.filter(|arm| arm.len() <= Arm::BYTES_MAX).map(Arm),
            data,
        })
    }
}

/// The last segment of `source`, lower-cased; the default where there is none.
fn service_of<'a>(
    source: Option<Cow<'a, str>>,
    default: &'a str,
) -> Result<Cow<'a, str>, CloudEventError> {
    let Some(source) = source else {
        return Ok(Cow::Borrowed(default));
    };
    let segment = source
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .unwrap_or_default();
    if segment.is_empty() {
        return Ok(Cow::Borrowed(default));
    }
    let service = segment.to_ascii_lowercase();
    name::check_service(&service)?;
    Ok(Cow::Owned(service))
}

/// The text of a header, as CloudEvents' bindings for HTTP and NATS encode it.
pub fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    match String::from_utf8(out) {
        Ok(decoded) => Cow::Owned(decoded),
        Err(_) => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults<'_> = Defaults {
        now_us: 17,
        service: DEFAULT_SERVICE,
    };

    #[test]
    fn what_is_left_out_is_filled_in() {
        let event = parse_json(br#"{"type":"a.b","data":{"x":1}}"#, DEFAULTS).expect("an event");
        assert_eq!(
            (&*event.id, &*event.service, event.time_us),
            ("", "api", 17)
        );
        assert_eq!(&*event.data, br#"{"x":1}"#);
    }

    #[test]
    fn the_service_is_the_last_segment_of_the_source() {
        for (source, service) in [
            ("/shop/cart", "cart"),
            ("urn:x:Pay", "pay"),
            ("https://a.example/mail/", "mail"),
            ("/", "api"),
        ] {
            let text = format!(r#"{{"type":"a","source":"{source}"}}"#);
            assert_eq!(
                parse_json(text.as_bytes(), DEFAULTS).expect(source).service,
                service
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            (r#"{}"#, "\"type\" is missing"),
            (r#"{"type":"a b"}"#, "event type \"a b\""),
            (r#"{"type":"a","time":"now"}"#, "not RFC 3339"),
            (r#"{"type":"a","specversion":"0.3"}"#, "specversion"),
            (r#"{"type":"a","data":[1]}"#, "an array"),
            (r#"{"type":"a","data_base64":"e30="}"#, "it is bytes"),
            (r#"{"type":"a","id":""}"#, "id must have"),
            (r#"{"type":"#, "not a CloudEvent"),
        ] {
            let error = parse_json(text.as_bytes(), DEFAULTS)
                .expect_err(text)
                .to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn headers_are_read_in_any_case() {
        let headers = [
            ("CE-Type", "a"),
            ("ce-id", "%20x"),
            ("traceparent", "broken"),
        ];
        let event = Attributes::from_headers(headers.into_iter())
            .into_event(Cow::Borrowed(b"{}"), DEFAULTS)
            .expect("an event");
        assert_eq!((&*event.kind, &*event.id, event.trace), ("a", " x", None));
    }
}
