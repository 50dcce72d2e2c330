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
    /// The steps of the window in order.
    pub steps: Vec<Step>,
    /// The steps just before the window, as many as it has; read where its first or last step is quiet,
    /// since only they tell then how long it has been so.
    pub earlier: Vec<Step>,
}

/// What one step says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Its value.
    Value(f64),
    /// It is known that nothing happened in it: a share of no requests.
    Quiet,
    /// It could not be measured.
    Missing,
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
    let in_steps = async |range| {
        let request = request(range, Some(rule.every_us));
        engine.kpi_of_rule(snapshot, plan, &request).await
    };
    let answer = in_steps(range).await?;
    let steps = steps(&answer, range, rule.every_us);
    let ends = [steps.first(), steps.last()];
    let earlier = if ends.contains(&Some(&Step::Quiet)) {
        let before = Range {
            from_us: range.from_us - rule.for_us,
            to_us: range.from_us,
        };
        self::steps(&in_steps(before).await?, before, rule.every_us)
    } else {
        Vec::new()
    };
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
        coverage: answer.coverage,
        age_us: now_us - range.to_us,
        watermark_us,
        steps,
        earlier,
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

/// One step after the other, also where the answer has no point for one.
fn steps(answer: &KpiAnswer, range: Range, every_us: i64) -> Vec<Step> {
    let series = answer.series.first();
    let points = series.map(|series| series.points.as_slice());
    let points = points.unwrap_or_default();
    let parts = series.and_then(|series| series.parts.as_ref());
    let step_at = |time: i64| {
        let index = points.iter().position(|(at, _)| *at == time);
        let Some(index) = index else {
            return Step::Missing;
        };
        let denominator = parts.and_then(|parts| parts.get(index)?.1);
        match points[index].1 {
            Some(value) => Step::Value(value),
            None if denominator == Some(0.0) => Step::Quiet,
            None => Step::Missing,
        }
    };
    let count = range.span_us() / every_us;
    (0..count)
        .map(|step| step_at(range.from_us + step * every_us))
        .collect()
}
