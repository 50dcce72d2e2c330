//! One JSON object a line: CloudEvents, or plain objects whose fields are the attributes.

use std::borrow::Cow;
use std::io::BufRead;

use anyhow::Result;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::lines::{each_line, too_long};
use super::records::{Data, Head, Record, Take};
use super::time;
use super::time_column::TimeColumn;

#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    serinarm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Whether the first line is a CloudEvent, so that all are read as such.
pub(crate) fn is_cloud_events(head: &[u8]) -> bool {
    let Some(line) = head
        .split(|b| *b == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
    else {
        return false;
    };
    serde_json::from_slice::<Map<String, Value>>(line).is_ok_and(|first| {
        first.contains_key("specversion")
            || (first.get("type").is_some_and(Value::is_string)
                && first.get("data").is_some_and(Value::is_object))
    })
}

pub(crate) fn read(
    mut reader: impl BufRead,
    time_column: TimeColumn<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    let mut are_cloud_events = None;
    let mut finder = time::Finder::new(time_column);
    each_line(&mut reader, &mut |number, line| {
        let Some(line) = line else {
            return take(number, Err(too_long()));
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let is_cloud_event = time_column.asked().is_none()
            && *are_cloud_events.get_or_insert_with(|| is_cloud_events(line));
        let record = match is_cloud_event {
            true => cloud_event(line),
            false => plain(line, &mut finder),
        };
        take(number, record)
    })
}

fn cloud_event(line: &[u8]) -> Result<Record<'_>, String> {
    let event: CloudEvent<'_> =
        serde_json::from_slice(line).map_err(|error| format!("not a CloudEvent: {error}"))?;
    let time_us = match event.time {
        None => None,
        Some(text) => Some(
            serin_wire::time::parse_rfc3339(&text)
                .ok_or_else(|| format!("time {text:?} is not RFC 3339"))?,
        ),
    };
    Ok(Record {
        kind: Some(event.kind),
        time_us,
        head: Head {
            id: event.id,
            source: event.source,
            traceparent: event.traceparent,
            serinarm: event.serinarm,
        },
        data: match event.data {
            Some(data) if data.get().starts_with('{') => Data::Json(data),
            Some(data) if data.get() != "null" => {
                return Err(String::from("data is not a JSON object"));
            }
            _ => Data::Cells(Vec::new()),
        },
    })
}

fn plain<'a>(line: &'a [u8], finder: &mut time::Finder) -> Result<Record<'a>, String> {
    let data: &RawValue =
        serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(line).map_err(|_| String::from("not a JSON object"))?;
    let time_us = finder.find(
        |column| match fields.get(column)? {
            Value::String(text) => time::parse(text),
            Value::Number(number) => time::from_number(number.as_f64()?),
            _ => None,
        },
        fields.keys().map(String::as_str),
    )?;
    Ok(Record {
        kind: None,
        time_us,
        head: Head::default(),
        data: Data::Json(data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, time: Option<&str>) -> Vec<String> {
        let mut out = Vec::new();
        let time = time.map_or(TimeColumn::Unknown, TimeColumn::Asked);
        read(text.as_bytes(), time, &mut |line, record| {
            out.push(match record {
                Ok(record) => format!(
                    "{line} {:?} {:?} {}",
                    record.kind,
                    record.time_us,
                    serde_json::to_string(&record.data).expect("values")
                ),
                Err(why) => format!("{line} {why}"),
            });
            Ok(())
        })
        .expect("read");
        out
    }

    #[test]
    fn plain_objects_are_the_data() {
        let text = "{\"b\":1,\"at\":\"1970-01-01T00:00:01Z\"}\r\n\n[1]\n{\"at\":2}";
        assert_eq!(
            records(text, Some("at")),
            [
                "1 None Some(1000000) {\"b\":1,\"at\":\"1970-01-01T00:00:01Z\"}",
                "3 not a JSON object",
                "4 None Some(2000000) {\"at\":2}",
            ]
        );
    }

    #[test]
    fn cloud_events_say_their_own_type() {
        let text =
            "{\"type\":\"a.b\",\"data\":{\"x\":1}}\n{\"type\":\"c\"}\n{\"type\":\"c\",\"data\":[]}";
        assert_eq!(
            records(text, None),
            [
                "1 Some(\"a.b\") None {\"x\":1}",
                "2 Some(\"c\") None {}",
                "3 data is not a JSON object",
            ]
        );
    }
}
