//! A log record of OpenTelemetry as a line of ours.

use serde_json::json;
use serin_wire::{Level, Log, subject};

use super::message::{self, LogRecord};
use super::sender::Sender;
use super::spans::{beside, identity, without_empty};
use super::walk::Leaf;
use super::{micros, value};
use crate::lines::{Out, TooMuch};

pub(super) fn log(
    sender: &Sender,
    scope: &message::Scope,
    leaf: Leaf<'_>,
    now_us: i64,
    out: &mut Out,
) -> Result<(), TooMuch> {
    let record: LogRecord = match leaf.read("log record") {
        Ok(record) => record,
        Err(error) => {
            out.refused.add(1, error);
            return Ok(());
        }
    };
    let time = micros(record.time_unix_nano).or_else(|| micros(record.observed_time_unix_nano));
    let otel = without_empty(json!({
        "event": record.event_name,
        "span_id": identity(&record.span_id, 8),
    }));
    let message = match value::text(record.body) {
        text if text.is_empty() => record.event_name,
        text => text,
    };
    let mut fields = value::attributes(record.attributes);
    beside(&mut fields, "otel", otel);
    beside(&mut fields, "resource", sender.resource.clone());
    let ours = Log {
        time: time.unwrap_or(now_us),
        level: level(record.severity_number, &record.severity_text),
        message: message.into(),
        source: (&*scope.name).into(),
        trace_id: identity(&record.trace_id, 16).map(Into::into),
        dropped: 0,
        fields,
    };
    out.line(&sender.subject(subject::log), &ours)
}

/// How grave a record is: by its number, four to a level, else by what it is called.
fn level(number: i32, text: &str) -> Level {
    match number {
        1..=4 => Level::Trace,
        5..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warn,
        17..=24 => Level::Error,
        _ => {
            let text = text.to_ascii_lowercase();
            let named = [
                ("trace", Level::Trace),
                ("debug", Level::Debug),
                ("warn", Level::Warn),
                ("err", Level::Error),
                ("fatal", Level::Error),
                ("crit", Level::Error),
            ];
            let named = named.into_iter().find(|(name, _)| text.starts_with(name));
            named.map_or(Level::Info, |(_, level)| level)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_by_number_then_by_name() {
        assert_eq!(level(13, "whatever"), Level::Warn);
        assert_eq!(level(24, ""), Level::Error);
        assert_eq!(level(0, "WARNING"), Level::Warn);
        assert_eq!(level(0, "CRITICAL"), Level::Error);
        assert_eq!(level(0, ""), Level::Info);
    }
}
