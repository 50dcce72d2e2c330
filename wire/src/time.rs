//! Times on the wire: microseconds since 1970-01-01 UTC inside, RFC 3339 outside.

use chrono::{DateTime, SecondsFormat, Utc};

/// Microseconds since 1970-01-01 00:00 UTC.
pub type Micros = i64;

/// A clock that goes back by more was wrong before: what was timed by it lies in a future that was none.
/// One that is set by seconds, as NTP does it, is waited for.
pub const SET_BACK_US_MAX: Micros = 60_000_000;

/// Reads RFC 3339 (`2026-11-24T03:00:00.5Z`, any offset); `None` where it is not that.
pub fn parse_rfc3339(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_micros())
}

/// Writes RFC 3339 in UTC with as many digits as the time needs: none, three or six.
pub fn to_rfc3339(time_us: Micros) -> String {
    match DateTime::<Utc>::from_timestamp_micros(time_us) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => String::from("out of range"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        for text in [
            "2015-05-17T10:05:03Z",
            "2015-05-17T10:05:03.500Z",
            "1969-12-31T23:59:59.000001Z",
        ] {
            assert_eq!(to_rfc3339(parse_rfc3339(text).expect(text)), text);
        }
        assert_eq!(
            parse_rfc3339("2015-05-17T12:05:03+02:00"),
            parse_rfc3339("2015-05-17T10:05:03Z")
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
