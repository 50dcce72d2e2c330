//! Where the lines of a grid stand and what is written beside them. Pure.

use chrono::{DateTime, Datelike, Utc};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Distances between marks of a time axis.
const TIME_STEPS: [i64; 20] = [
    SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    28 * DAY,
    364 * DAY,
];

/// Round values from at most `low` to at least `high`, about `count` of them.
pub(crate) fn value_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { 1.0 };
    let raw = span / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.max(first + 1))
        .map(|index| index as f64 * step)
        .collect()
}

/// Times that divide the range, at most `count`, with what is written below them.
pub(crate) fn time_ticks(from_us: i64, to_us: i64, count: usize) -> Vec<(i64, String)> {
    let span = to_us.saturating_sub(from_us).max(1);
    let wanted = span / count.max(1) as i64;
    let step = TIME_STEPS
        .into_iter()
        .find(|step| *step >= wanted)
        .unwrap_or(wanted.max(1));
    let first = from_us + (step - from_us.rem_euclid(step)) % step;
    let mut ticks = Vec::new();
    let mut time = first;
    while time < to_us && ticks.len() <= count + 1 {
        ticks.push((time, label(time, step)));
        time += step;
    }
    ticks
}

fn label(time_us: i64, step_us: i64) -> String {
    let Some(time) = DateTime::<Utc>::from_timestamp_micros(time_us) else {
        return String::new();
    };
    let is_midnight = time_us.rem_euclid(DAY) == 0;
    if step_us >= 28 * DAY {
        time.format("%b %Y").to_string()
    } else if is_midnight || step_us >= DAY {
        format!("{} {}", time.day(), time.format("%b"))
    } else if step_us < MINUTE {
        time.format("%H:%M:%S").to_string()
    } else {
        time.format("%H:%M").to_string()
    }
}

/// A time as people write it, to the minute, UTC.
pub(crate) fn moment(time_us: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(time_us).map_or_else(String::new, |time| {
        time.format("%Y-%m-%d %H:%M").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_round_and_hold_the_data() {
        assert_eq!(value_ticks(0.0, 97.0, 4), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(value_ticks(0.0, 0.0, 4).first(), Some(&0.0));
        let ticks = value_ticks(-3.0, 7.0, 5);
        assert!(ticks[0] <= -3.0 && ticks[ticks.len() - 1] >= 7.0);
    }

    #[test]
    fn midnight_is_a_date() {
        let from = 1_431_820_800_000_000; // 2015-05-17T00:00:00Z
        let ticks = time_ticks(from, from + 2 * DAY, 8);
        let labels: Vec<&str> = ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "17 May", "06:00", "12:00", "18:00", "18 May", "06:00", "12:00", "18:00"
            ]
        );
    }
}
