//! One KPI over one window, with all that is needed to know how far it can be trusted.
//!
//! The window ends at the watermark or before it (docs/decisions/001): what is not complete is not
//! looked at, so that late data can never change what was decided.

use std::sync::Arc;

use serin_query::kpi::{KpiAnswer, KpiPlan, KpiRequest, Rule};
use serin_query::{Engine, QueryError, Range, Snapshot};

/// Monday 2000-01-03 00:00 UTC, from which the query engine counts steps.
const STEPS_FROM_US: i64 = 10_959 * 86_400_000_000;

/// What a rule is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The KPI.
    pub kpi: String,
    /// What its values are counted in.
    pub unit: Option<String>,
    /// Beginning of the window.
    pub from_us: i64,
    /// Its end, not after the watermark.
    pub to_us: i64,
    /// The value over the whole window; absent when it could not be measured.
    pub value: Option<f64>,
    /// Numerator and denominator of that value, for ratios.
    pub parts: Option<(Option<f64>, Option<f64>)>,
    /// How many events are behind it.
    pub samples: u64,
    /// Share of the steps that could be measured, 0 to 1.
    pub coverage: f64,
    /// How long ago the window ended.
    pub age_us: i64,
    /// Up to when the data are complete.
    pub watermark_us: i64,
    /// The values of the steps in order; absent where one could not be measured.
    pub steps: Vec<Option<f64>>,
    /// In how many of the steps without a value it is known that nothing happened: a share of no
    /// requests. The others could not be measured.
    pub quiet: usize,
}

/// The last window of a rule that ends at a step's end and not after the watermark.
pub(crate) fn window(rule: &Rule, watermark_us: i64) -> Range {
    let into_step = watermark_us
        .wrapping_sub(STEPS_FROM_US)
        .rem_euclid(rule.every_us);
    let to_us = watermark_us - into_step;
    Range {
        from_us: to_us - rule.for_us,
        to_us,
    }
}

/// Reads the KPI of a rule; `None` while nobody says up to when the data are complete.
pub async fn observe(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    plan: &KpiPlan,
    rule: &Rule,
    now_us: i64,
) -> Result<Option<Observation>, QueryError> {
    let Some(watermark_us) = snapshot.watermark_us else {
        return Ok(None);
    };
    let range = window(rule, watermark_us);
    let whole = engine
        .kpi_of_rule(snapshot, plan, &request(range, None))
        .await?;
    let steps = engine
        .kpi_of_rule(snapshot, plan, &request(range, Some(rule.every_us)))
        .await?;
    Ok(Some(Observation {
        kpi: rule.kpi.clone(),
        unit: whole.unit.clone(),
        from_us: range.from_us,
        to_us: range.to_us,
        value: whole
            .series
            .first()
            .and_then(|series| series.points.first()?.1),
        parts: whole
            .series
            .first()
            .and_then(|series| series.parts.as_ref()?.first().copied()),
        samples: whole.samples,
        coverage: steps.coverage,
        age_us: now_us - range.to_us,
        watermark_us,
        steps: values(&steps, range, rule.every_us),
        quiet: quiet(&steps),
    }))
}

fn request(range: Range, step_us: Option<i64>) -> KpiRequest {
    KpiRequest {
        range,
        step_us,
        by: Vec::new(),
        filters: Vec::new(),
        shift_us: 0,
        series_max: 1,
    }
}

/// The steps of a ratio whose denominator is known to be zero.
fn quiet(answer: &KpiAnswer) -> usize {
    let parts = answer
        .series
        .first()
        .and_then(|series| series.parts.as_ref());
    let is_quiet = |(_, lower): &&(Option<f64>, Option<f64>)| *lower == Some(0.0);
    parts.map_or(0, |parts| parts.iter().filter(is_quiet).count())
}

/// One value per step of the window, also where the answer has no point for it.
fn values(answer: &KpiAnswer, range: Range, every_us: i64) -> Vec<Option<f64>> {
    let points = answer
        .series
        .first()
        .map(|series| series.points.as_slice())
        .unwrap_or_default();
    let value_at = |time: i64| {
        points
            .iter()
            .find(|(at, _)| *at == time)
            .and_then(|(_, value)| *value)
    };
    let count = range.span_us() / every_us;
    (0..count)
        .map(|step| value_at(range.from_us + step * every_us))
        .collect()
}
