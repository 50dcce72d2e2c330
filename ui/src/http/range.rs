//! Times in a request: RFC 3339, a date, which is its midnight in UTC, `now`, or `now-6h`.

use serde::Deserialize;
use serin_query::Range;
use serin_yaml::parse_span;

use super::Shared;
use super::error::ApiError;

/// From when to when, as a request says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Times {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
}

impl Shared {
    /// The range that a request asks for; what is left out takes the defaults.
    pub(crate) fn range(
        &self,
        from: &Option<String>,
        to: &Option<String>,
        default: (&str, &str),
    ) -> Result<Range, ApiError> {
        parse_range(from.as_deref(), to.as_deref(), default, (self.now_us)())
    }
}

/// Reads one time.
pub(crate) fn parse_time(text: &str, now_us: i64) -> Result<i64, ApiError> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_us);
    }
    if let Some(back) = text.strip_prefix("now-") {
        return parse_span(back)
            .and_then(|span| now_us.checked_sub(span))
            .ok_or_else(|| bad_time(text));
    }
    let written = serin_wire::time::parse_rfc3339(text);
    let written = written.or_else(|| serin_yaml::parse_time(text));
    written.ok_or_else(|| bad_time(text))
}

/// Reads a range.
fn parse_range(
    from: Option<&str>,
    to: Option<&str>,
    default: (&str, &str),
    now_us: i64,
) -> Result<Range, ApiError> {
    let from_us = parse_time(from.unwrap_or(default.0), now_us)?;
    let to_us = parse_time(to.unwrap_or(default.1), now_us)?;
    if from_us >= to_us {
        return Err(ApiError::bad(format!(
            "the range ends at {} before it starts at {}; exchange from and to",
            serin_wire::time::to_rfc3339(to_us),
            serin_wire::time::to_rfc3339(from_us),
        )));
    }
    Ok(Range { from_us, to_us })
}

fn bad_time(text: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::bad(format!(
        "{shown:?} is not a time; write RFC 3339 such as 2026-11-24T03:00:00Z, a date such as 2026-11-24 (its midnight in UTC), now, or now-6h"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn times_are_absolute_or_relative_to_now() {
        let now = 1_000_000 * SECOND;
        assert_eq!(parse_time("now", now), Ok(now));
        assert_eq!(parse_time("now-6h", now), Ok(now - 21_600 * SECOND));
        assert_eq!(parse_time("1970-01-01T00:00:01Z", now), Ok(SECOND));
        assert_eq!(parse_time("1970-01-02", now), Ok(86_400 * SECOND));
        for bad in [
            "",
            "1970-01",
            "1970-02-30",
            "now-",
            "now-h",
            "now-1y",
            "now+1h",
            "6h",
            "now-99999999999999999w",
            "now-1é",
        ] {
            let error = parse_time(bad, now).expect_err(bad);
            assert!(error.message.contains("is not a time"), "{bad}");
        }
    }

    #[test]
    fn a_range_must_go_forward() {
        assert!(parse_range(Some("now"), Some("now-1h"), ("now-6h", "now"), 0).is_err());
        let range = parse_range(None, None, ("now-1m", "now"), 0).expect("the default");
        assert_eq!(range.span_us(), 60 * SECOND);
    }
}
