//! SQL functions that people expect of a time series: `time_bucket`.
//!
//! `rate`, `p50` … `p99` are rewritten by the guard, the latter to `quantile` beside; all others are
//! DataFusion's.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use crate::calendar;

/// `time_bucket(interval, time)`: the start of the step that the time is in.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    signature: Signature,
}

/// How long a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Microseconds, counted from Monday 2000-01-03.
    Micros(i64),
    /// Months, counted from 2000-01.
    Months(i32),
}

impl TimeBucket {
    pub(crate) fn new() -> TimeBucket {
        TimeBucket {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

/// A call of `time_bucket` with a step in microseconds.
pub(crate) fn time_bucket(step_us: i64, time: Expr) -> Expr {
    let step = lit(ScalarValue::DurationMicrosecond(Some(step_us)));
    ScalarUDF::from(TimeBucket::new()).call(vec![step, time])
}

/// Reads a step such as `5 minutes`, `1h` or `1 month`.
pub(crate) fn parse_step(text: &str) -> Option<Step> {
    let text = text.trim().to_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let count: i64 = if digits == 0 {
        1
    } else {
        text[..digits].parse().ok()?
    };
    let micros = match text[digits..].trim() {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "w" | "week" | "weeks" => 7 * 86_400_000_000,
        "month" | "months" | "mon" => return months(count),
        "quarter" | "quarters" => return months(count.checked_mul(3)?),
        "y" | "year" | "years" => return months(count.checked_mul(12)?),
        _ => return None,
    };
    count
        .checked_mul(micros)
        .filter(|step| *step > 0)
        .map(Step::Micros)
}

fn months(count: i64) -> Option<Step> {
    i32::try_from(count)
        .ok()
        .filter(|months| (1..=12_000).contains(months))
        .map(Step::Months)
}

/// Reads the step argument of a call.
pub(crate) fn step_of(value: &ScalarValue) -> Option<Step> {
    let micros = |total: i64| (total > 0).then_some(Step::Micros(total));
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => parse_step(text),
        ScalarValue::DurationMicrosecond(Some(total)) => micros(*total),
        ScalarValue::IntervalDayTime(Some(value)) => {
            let days = i64::from(value.days) * 86_400_000_000;
            micros(days + i64::from(value.milliseconds) * 1_000)
        }
        ScalarValue::IntervalYearMonth(Some(value)) => months(i64::from(*value)),
        ScalarValue::IntervalMonthDayNano(Some(value)) => {
            let rest = i64::from(value.days) * 86_400_000_000 + value.nanoseconds / 1_000;
            match (value.months, rest) {
                (0, rest) => micros(rest),
                (count, 0) => months(i64::from(count)),
                _ => None,
            }
        }
        _ => None,
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.get(1) {
            Some(DataType::Timestamp(_, zone)) => {
                Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
            }
            Some(DataType::Utf8 | DataType::Utf8View | DataType::Date32) => {
                Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            other => plan_err!("time_bucket takes an interval and a time, not {other:?}"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [step, time] = arguments.args.as_slice() else {
            return exec_err!("time_bucket takes an interval and a time");
        };
        let ColumnarValue::Scalar(step) = step else {
            return exec_err!("the interval of time_bucket must be a constant");
        };
        let Some(step) = step_of(step) else {
            return exec_err!(
                "time_bucket does not understand the interval {step}; write for example '5 minutes' or '1 month'"
            );
        };
        let as_scalar = matches!(time, ColumnarValue::Scalar(_));
        let target = arguments.return_field.data_type();
        let times = time.cast_to(target, None)?.to_array(if as_scalar {
            1
        } else {
            arguments.number_rows
        })?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let starts: PrimitiveArray<TimestampMicrosecondType> = match step {
            Step::Micros(step) => times.unary(|time| calendar::step_start_us(time, step)),
            Step::Months(count) => times.unary(|time| calendar::month_start_us(time, count)),
        };
        let starts: ArrayRef = Arc::new(starts.with_data_type(target.clone()));
        if as_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &starts, 0,
            )?));
        }
        Ok(ColumnarValue::Array(starts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_people_write_them() {
        assert_eq!(parse_step("5 minutes"), Some(Step::Micros(300_000_000)));
        assert_eq!(parse_step("1h"), Some(Step::Micros(3_600_000_000)));
        assert_eq!(parse_step(" day "), Some(Step::Micros(86_400_000_000)));
        assert_eq!(parse_step("1 year"), Some(Step::Months(12)));
        for wrong in [
            "",
            "0 s",
            "-1 s",
            "5 lightyears",
            "99999999999999999999 s",
            "9223372036854775807 d",
        ] {
            assert_eq!(parse_step(wrong), None, "{wrong}");
        }
    }
}
