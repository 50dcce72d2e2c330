//! Why an event is not taken: each reason is counted, explained, and kept in the table `refused`.
//!
//! Nothing is dropped in silence: what a door refuses is told to its client too. Start at [`admit`].

use serin_wire::{Event, name};

use crate::json::JsonError;
use crate::options::Limits;

/// The service whose events may have Serin's own types.
const OWN_SERVICE: &str = "serin";
/// 0001-01-01 and 10000-01-01 in microseconds since 1970: what every reader can show.
pub(crate) const TIME_US_MIN: i64 = -62_135_596_800_000_000;
const TIME_US_END: i64 = 253_402_300_800_000_000;

/// Why an event is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The message as a whole cannot be read.
    Unreadable,
    /// Not a CloudEvent.
    NotAnEvent,
    /// The data are not a JSON object.
    Json,
    /// The data are nested too deep.
    Nested,
    /// A text is too long.
    StringLength,
    /// The data are too long.
    EventSize,
    /// A name breaks the rules.
    Name,
    /// One type too many.
    Types,
    /// One attribute too many.
    Columns,
    /// The time lies in the future.
    ClockSkew,
    /// The time has no year of four digits.
    TimeRange,
    /// Too many of its producer's earlier messages are missing.
    Holes,
}

impl Reason {
    /// All, with the names they have in metrics and in the table.
    pub(crate) const ALL: [(Reason, &'static str); 12] = [
        (Reason::Unreadable, "unreadable"),
        (Reason::NotAnEvent, "not-an-event"),
        (Reason::Json, "json"),
        (Reason::Nested, "nested"),
        (Reason::StringLength, "string-length"),
        (Reason::EventSize, "event-size"),
        (Reason::Name, "name"),
        (Reason::Types, "types"),
        (Reason::Columns, "columns"),
        (Reason::ClockSkew, "clock-skew"),
        (Reason::TimeRange, "time-range"),
        (Reason::Holes, "holes"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Reason::ALL[self as usize].1
    }
}

/// An event that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) explanation: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, explanation: impl ToString) -> Refusal {
        Refusal {
            reason,
            explanation: explanation.to_string(),
        }
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Refusal {
        let reason = match error {
            JsonError::Utf8 | JsonError::Syntax { .. } => Reason::Json,
            JsonError::Depth => Reason::Nested,
            JsonError::Text { .. } => Reason::StringLength,
        };
        Refusal::new(reason, error)
    }
}

/// Whether an event may come in, as far as can be told without its data's content or other events.
/// `now_us` is when it arrived, by our own clock or the bus's.
pub(crate) fn admit(
    event: &Event<'_>,
    limits: &Limits,
    is_import: bool,
    now_us: i64,
) -> Result<(), Refusal> {
    let name = |error| Refusal::new(Reason::Name, error);
    if event.service == OWN_SERVICE {
        name::check_any_type(&event.kind).map_err(name)?;
    } else {
        name::check_type(&event.kind).map_err(name)?;
        name::check_service(&event.service).map_err(name)?;
    }
    if !event.version.is_empty() {
        name::check_version(&event.version).map_err(name)?;
    }
    if !event.instance.is_empty() {
        name::check_instance(&event.instance).map_err(name)?;
    }
    let (bytes, bytes_max) = (event.data.len(), limits.event_bytes_max);
    if bytes > bytes_max {
        let explanation = format!(
            "the data have {bytes} bytes, more than {bytes_max} (the limit ingest.event_kib_max); send \
             less, or raise the limit"
        );
        return Err(Refusal::new(Reason::EventSize, explanation));
    }
    if !(TIME_US_MIN..TIME_US_END).contains(&event.time_us) {
        let explanation = format!("time {} is not between the years 1 and 9999", event.time_us);
        return Err(Refusal::new(Reason::TimeRange, explanation));
    }
    let skew_s = limits.skew_future.as_secs();
    let ahead_us = event.time_us.saturating_sub(now_us);
    if !is_import && ahead_us > i64::try_from(limits.skew_future.as_micros()).unwrap_or(i64::MAX) {
        let explanation = format!(
            "time {} is {} s ahead of our clock, more than {skew_s} s (the limit \
             ingest.skew_future_s); check the sender's clock",
            serin_wire::time::to_rfc3339(event.time_us),
            ahead_us / 1_000_000,
        );
        return Err(Refusal::new(Reason::ClockSkew, explanation));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_their_order() {
        for (at, (reason, _)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }
}
