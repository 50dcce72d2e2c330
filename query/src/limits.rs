//! What one query may cost, and the time range it is asked for.
//!
//! Each limit has the name of its setting, and every error that reports a limit names both.

use std::time::Duration;

/// What one query may cost. `Default` is what a laptop with two cores bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a query may take (`query.deadline_s`).
    pub deadline: Duration,
    /// How much memory a query may hold (`query.memory_mib`).
    pub memory_bytes: usize,
    /// How many rows an answer may have; more are cut off and told (`query.rows_max`).
    pub rows_max: usize,
    /// How many points a KPI's answer may have: a series of more is refused, and of several series
    /// only as many are kept, the greatest, as it holds (`query.points_max`).
    pub points_max: usize,
    /// How long an answer may be in Arrow (`query.result_mib_max`).
    pub result_bytes_max: usize,
    /// How long the text of a statement may be (`query.sql_kib_max`).
    pub sql_bytes_max: usize,
    /// How much a query may write aside to disk (`query.spill_mib_max`).
    pub spill_bytes_max: u64,
    /// How many ad-hoc statements run at a time (`query.running_max`).
    pub running_max: usize,
    /// How many more may wait for their turn (`query.queued_max`).
    pub queued_max: usize,
    /// How many KPIs may wait for their turn (`query.kpis_queued_max`).
    pub kpis_queued_max: usize,
    /// How many bytes of KPI answers are kept for those who ask the same (`query.cache_mib`).
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            deadline: Duration::from_secs(30),
            memory_bytes: 512 << 20,
            rows_max: 100_000,
            // A day of seconds; a few megabytes.
            points_max: 100_000,
            result_bytes_max: 32 << 20,
            sql_bytes_max: 16 << 10,
            spill_bytes_max: 4 << 30,
            running_max: 2,
            queued_max: 16,
            // Twenty people who open a dashboard of a dozen panels at once.
            kpis_queued_max: 256,
            cache_bytes: 32 << 20,
        }
    }
}

/// A span of time, `from` included, `to` not; microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first moment.
    pub from_us: i64,
    /// The first moment after it.
    pub to_us: i64,
}

impl Range {
    /// How long it is; 0 when it ends before it starts.
    pub fn span_us(self) -> i64 {
        self.to_us.saturating_sub(self.from_us).max(0)
    }
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps that people read easily, rising; each divides a day or is whole days.
const STEPS: [i64; 19] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    28 * DAY,
];

/// The finest easily read step that cuts the range into at most `points_max` pieces.
pub fn nice_step_us(range: Range, points_max: usize) -> i64 {
    let wanted = range.span_us() / i64::try_from(points_max.max(1)).unwrap_or(i64::MAX);
    STEPS
        .into_iter()
        .find(|step| *step >= wanted)
        .unwrap_or_else(|| (wanted / DAY + 1) * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        let hours = |h: i64| Range {
            from_us: 0,
            to_us: h * HOUR,
        };
        assert_eq!(nice_step_us(hours(6), 300), 2 * MINUTE);
        assert_eq!(nice_step_us(hours(1), 300), 15 * SECOND);
        assert_eq!(nice_step_us(hours(24 * 7), 300), HOUR);
        assert_eq!(nice_step_us(hours(24 * 365 * 100), 300) % DAY, 0);
        assert_eq!(nice_step_us(hours(0), 300), SECOND);
    }
}
