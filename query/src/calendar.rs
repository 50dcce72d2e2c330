//! The calendar, UTC: dimensions that every event has, and where steps and grains begin.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use datafusion::common::Column;
use datafusion::functions::expr_fn::date_part;
use datafusion::logical_expr::{Expr, lit};

use crate::kpi::Grain;

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;
/// Monday 2000-01-03, from which steps are counted so that weeks begin on Mondays.
const MONDAY: i64 = 10_959 * DAY;

/// Dimensions made of an event's time: `hour_of_day` 0 to 23, `day_of_week` 1 (Monday) to 7.
pub const CALENDAR_DIMENSIONS: [&str; 2] = ["hour_of_day", "day_of_week"];

/// The dimension of that name over `time`, when there is one.
pub(crate) fn dimension(name: &str, time: Expr) -> Option<Expr> {
    match name {
        "hour_of_day" => Some(date_part(lit("hour"), time)),
        // DataFusion's `dow` counts from Sunday as 0.
        "day_of_week" => Some((date_part(lit("dow"), time) + lit(6)) % lit(7) + lit(1)),
        _ => None,
    }
}

/// The calendar dimension of that name, else the column.
pub(crate) fn column_or_calendar(name: &str) -> Expr {
    let time = Expr::Column(Column::new_unqualified("time"));
    dimension(name, time).unwrap_or_else(|| Expr::Column(Column::new_unqualified(name)))
}

/// The start of the step that `time_us` is in.
pub(crate) fn step_start_us(time_us: i64, step_us: i64) -> i64 {
    time_us.saturating_sub(time_us.wrapping_sub(MONDAY).rem_euclid(step_us))
}

/// The start of the month that `time_us` is in, or of the group of `months` months from 2000-01.
pub(crate) fn month_start_us(time_us: i64, months: i32) -> i64 {
    let Some(date) = DateTime::<Utc>::from_timestamp_micros(time_us).map(|t| t.date_naive()) else {
        return time_us;
    };
    let index = (date.year() - 2000) * 12 + date.month0() as i32;
    let start = index - index.rem_euclid(months.max(1));
    let month = start.rem_euclid(12) as u32 + 1;
    NaiveDate::from_ymd_opt(2000 + start.div_euclid(12), month, 1)
        .and_then(|date| date.and_hms_opt(0, 0, 0))
        .map_or(time_us, |start| start.and_utc().timestamp_micros())
}

/// The start of the calendar span that `time_us` is in.
pub(crate) fn grain_start_us(time_us: i64, grain: Grain) -> i64 {
    match grain {
        Grain::Hour => step_start_us(time_us, HOUR),
        Grain::Day => step_start_us(time_us, DAY),
        Grain::Week => step_start_us(time_us, 7 * DAY),
        Grain::Month => month_start_us(time_us, 1),
    }
}

/// A time as RFC 3339, UTC, with as many digits as it needs.
pub fn rfc3339(time_us: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(time_us) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{time_us}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_begin_where_people_expect() {
        // Sunday 2015-05-17 10:05:03 UTC.
        let time = 1_431_857_103_000_000;
        assert_eq!(rfc3339(time), "2015-05-17T10:05:03Z");
        let shown = |grain| rfc3339(grain_start_us(time, grain));
        assert_eq!(shown(Grain::Hour), "2015-05-17T10:00:00Z");
        assert_eq!(shown(Grain::Day), "2015-05-17T00:00:00Z");
        assert_eq!(shown(Grain::Week), "2015-05-11T00:00:00Z");
        assert_eq!(shown(Grain::Month), "2015-05-01T00:00:00Z");
        assert_eq!(rfc3339(month_start_us(time, 3)), "2015-04-01T00:00:00Z");
        assert_eq!(rfc3339(month_start_us(-1, 1)), "1969-12-01T00:00:00Z");
        assert_eq!(step_start_us(-1, 10), -10);
    }
}
