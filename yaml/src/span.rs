//! Spans of time as people write them: `90s`, `1m`, `6h`, `7d`; and moments.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest span in a file: ten years, longer than anything is kept. What is longer is a slip.
const SPAN_US_MAX: i64 = 3_660 * 86_400_000_000;

/// A length of time in microseconds, never 0 and at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

/// Reads `500ms`, `90s`, `1m`, `6h`, `7d` or `2w`; microseconds.
pub fn parse_span(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..at].parse().ok()?;
    let unit_us = match &text[at..] {
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "w" => 604_800_000_000,
        _ => return None,
    };
    number.checked_mul(unit_us).filter(|span| *span > 0)
}

/// Reads RFC 3339 or a bare date, which is its midnight UTC; microseconds since 1970.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let date: NaiveDate = text.parse().ok()?;
    let midnight: DateTime<Utc> = date.and_hms_opt(0, 0, 0)?.and_utc();
    Some(midnight.timestamp_micros())
}

/// Writes a span in the largest unit that divides it.
pub fn span_text(span_us: i64) -> String {
    [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ]
    .into_iter()
    .find(|(unit, _)| span_us % unit == 0)
    .map_or_else(
        || format!("{span_us}us"),
        |(unit, name)| format!("{}{name}", span_us / unit),
    )
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as 30s, 5m, 6h or 1d")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                written_span(text).map(Span)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// A span as a file says it; microseconds.
pub fn written_span<E: Error>(text: &str) -> Result<i64, E> {
    match parse_span(text) {
        Some(span_us) if span_us <= SPAN_US_MAX => Ok(span_us),
        Some(_) => Err(E::custom(format!(
            "{text:?} is longer than ten years, and no data are kept so long; write at most 3660d"
        ))),
        None => Err(E::custom(format!(
            "{text:?} is no length of time; write 30s, 5m, 6h or 1d"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back() {
        for text in ["500ms", "90s", "1m", "6h", "7d"] {
            assert_eq!(span_text(parse_span(text).expect(text)), text);
        }
        assert_eq!(parse_span("2w"), Some(14 * 86_400_000_000));
        for text in [
            "",
            "5",
            "h",
            "0s",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999d",
            "1\u{e4}",
        ] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_is_its_midnight() {
        assert_eq!(parse_time("2015-05-17"), parse_time("2015-05-17T00:00:00Z"));
        assert_eq!(parse_time("17/May/2015"), None);
    }
}
