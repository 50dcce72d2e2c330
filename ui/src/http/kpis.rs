//! `GET /api/v1/kpis` and `/api/v1/kpis/{name}`: what is measured, and what it comes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serin_query::kpi::Better;
use serin_query::{KpiAnswer, KpiRequest, Series, nice_step_us, render};
use serin_wire::time::to_rfc3339;

use super::App;
use super::dto::{KpiBody, KpiSummary, SeriesBody};
use super::error::ApiError;
use super::query::{ARROW, wants};

/// Points that are given where no step is asked for.
const POINTS: usize = 300;
/// Most series of an answer.
const SERIES_MAX: usize = 1_000;
const DEFAULT_RANGE: (&str, &str) = ("now-1h", "now");

pub(crate) async fn list(State(app): State<App>) -> Json<Vec<KpiSummary>> {
    let library = app.library();
    let kpis = library.kpis.values().map(|plan| {
        let definition = plan.definition();
        KpiSummary {
            name: plan.name().to_owned(),
            title: definition.title.clone(),
            unit: plan.unit().map(str::to_owned),
            better: definition.better.map(|better| match better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            }),
            by: plan.dimensions(),
        }
    });
    Json(kpis.collect())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
    step: Option<String>,
    by: Option<String>,
}

pub(crate) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let library = app.library();
    let plan = library.kpis.get(&name).ok_or_else(|| {
        let near = serin_yaml::nearest(&name, library.kpis.keys().map(String::as_str));
        match near {
            Some(near) => {
                ApiError::not_found(format!("there is no KPI {name:?}; did you mean {near:?}?"))
            }
            None => ApiError::not_found(format!(
                "there is no KPI {name:?}; define it in kpis/*.yaml"
            )),
        }
    })?;
    let range = app.range(&asked.from, &asked.to, DEFAULT_RANGE)?;
    let step_us = step_us(asked.step.as_deref(), nice_step_us(range, POINTS))?;
    let request = KpiRequest {
        range,
        step_us,
        by: split(asked.by.as_deref()),
        filters: Vec::new(),
        shift_us: 0,
        series_max: SERIES_MAX,
    };
    let snapshot = app.lake.snapshot();
    let answer = app
        .found(app.engine.kpi(&snapshot, plan, &request))
        .await??;
    if wants(&headers, ARROW) {
        let bytes = to_arrow(&answer, plan.is_approximate())
            .map_err(|error| ApiError::internal(format!("cannot write Arrow: {error}")))?;
        return Ok(([(header::CONTENT_TYPE, ARROW)], bytes).into_response());
    }
    Ok(Json(body(answer, plan.is_approximate())).into_response())
}

/// `all` asks for one point over the whole range. Too short a step is refused by the engine.
fn step_us(asked: Option<&str>, usual_us: i64) -> Result<Option<i64>, ApiError> {
    match asked {
        None => Ok(Some(usual_us)),
        Some("all") => Ok(None),
        Some(text) => serin_yaml::parse_span(text).map(Some).ok_or_else(|| {
            ApiError::bad(format!("step {text:?} is not a span such as 1m, or all"))
        }),
    }
}

fn split(by: Option<&str>) -> Vec<String> {
    let names = by.unwrap_or_default().split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn body(answer: KpiAnswer, is_approximate: bool) -> KpiBody {
    KpiBody {
        name: answer.name,
        unit: answer.unit,
        step_s: answer.step_us.map(|step| step as f64 / 1e6),
        series: answer
            .series
            .into_iter()
            .map(|series| SeriesBody {
                by: series.by.into_iter().collect::<BTreeMap<_, _>>(),
                points: series
                    .points
                    .into_iter()
                    .map(|(time_us, value)| (to_rfc3339(time_us), value))
                    .collect(),
                parts: series.parts,
            })
            .collect(),
        coverage: answer.coverage,
        samples: answer.samples,
        series_dropped: answer.series_dropped,
        approximate: is_approximate,
        watermark: answer.watermark_us.map(to_rfc3339),
        served_from: answer.served_from.as_str(),
    }
}

/// One row a point: `time`, a column per dimension, `value`, for ratios `numerator` and
/// `denominator`. What is known of the whole stands in the schema.
fn to_arrow(answer: &KpiAnswer, is_approximate: bool) -> Result<Vec<u8>, ArrowError> {
    let points = || answer.series.iter().flat_map(|series| series.points.iter());
    let times = TimestampMicrosecondArray::from_iter_values(points().map(|(time, _)| *time));
    let mut columns: Vec<(String, ArrayRef)> =
        vec![(String::from("time"), Arc::new(times.with_timezone("UTC")))];
    let dimensions = answer.series.first().map_or(0, |series| series.by.len());
    for index in 0..dimensions {
        let name = answer.series[0].by[index].0.clone();
        let values = answer.series.iter().flat_map(|series| {
            let value = series.by.get(index).and_then(|(_, value)| value.as_deref());
            std::iter::repeat_n(value, series.points.len())
        });
        columns.push((name, Arc::new(values.collect::<StringArray>())));
    }
    let values: Float64Array = points().map(|(_, value)| *value).collect();
    columns.push((String::from("value"), Arc::new(values)));
    if answer.series.iter().any(|series| series.parts.is_some()) {
        let parts = || answer.series.iter().flat_map(parts_of);
        let upper: Float64Array = parts().map(|(upper, _)| upper).collect();
        let lower: Float64Array = parts().map(|(_, lower)| lower).collect();
        columns.push((String::from("numerator"), Arc::new(upper)));
        columns.push((String::from("denominator"), Arc::new(lower)));
    }
    let columns = columns.into_iter();
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, column, true)),
    )?;
    let schema = Schema::clone(&batch.schema()).with_metadata(known_of(answer, is_approximate));
    let batch = batch.with_schema(Arc::new(schema))?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}

/// Numerator and denominator of each point, absent where a series has none.
fn parts_of(series: &Series) -> Vec<(Option<f64>, Option<f64>)> {
    let none = || vec![(None, None); series.points.len()];
    series.parts.clone().unwrap_or_else(none)
}

/// What JSON says beside the series.
fn known_of(answer: &KpiAnswer, is_approximate: bool) -> HashMap<String, String> {
    let known = [
        ("serin.kpi", Some(answer.name.clone())),
        ("serin.unit", answer.unit.clone()),
        ("serin.coverage", Some(answer.coverage.to_string())),
        ("serin.samples", Some(answer.samples.to_string())),
        (
            "serin.series_dropped",
            Some(answer.series_dropped.to_string()),
        ),
        ("serin.approximate", Some(is_approximate.to_string())),
        (render::ARROW_WATERMARK, answer.watermark_us.map(to_rfc3339)),
    ];
    let known = known.into_iter();
    known
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    use arrow::ipc::reader::StreamReader;
    use serin_query::ServedFrom;

    use super::*;

    fn conversion() -> KpiAnswer {
        let series = |country: &str, parts: Option<Vec<_>>| Series {
            by: vec![(String::from("country"), Some(country.to_owned()))],
            points: vec![(0, Some(0.5)), (60_000_000, None)],
            parts,
            samples: 4,
        };
        KpiAnswer {
            name: String::from("conversion"),
            unit: Some(String::from("ratio")),
            step_us: Some(60_000_000),
            series: vec![
                series("NL", Some(vec![(Some(2.0), Some(4.0)), (None, Some(0.0))])),
                series("DE", None),
            ],
            coverage: 0.5,
            samples: 8,
            watermark_us: Some(90_000_000),
            series_dropped: 3,
            served_from: ServedFrom::Raw,
        }
    }

    #[test]
    fn arrow_has_parts_and_says_what_is_known() {
        let bytes = to_arrow(&conversion(), true).expect("it can be written");
        let reader = StreamReader::try_new(bytes.as_slice(), None).expect("a stream");
        let schema = reader.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let wanted = ["time", "country", "value", "numerator", "denominator"];
        assert_eq!(names, wanted);
        let known = |key: &str| schema.metadata.get(key).map(String::as_str);
        assert_eq!(known("serin.unit"), Some("ratio"));
        assert_eq!(known("serin.watermark"), Some("1970-01-01T00:01:30Z"));
        assert_eq!(known("serin.coverage"), Some("0.5"));
        assert_eq!(known("serin.series_dropped"), Some("3"));
        assert_eq!(known("serin.approximate"), Some("true"));
        let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
        let lower = batches[0].column(4).as_primitive::<Float64Type>();
        let lower: Vec<Option<f64>> = lower.iter().collect();
        assert_eq!(lower, [Some(4.0), Some(0.0), None, None]);
    }

    #[test]
    fn json_keeps_gaps_and_parts() {
        let body = serde_json::to_value(body(conversion(), true)).expect("it can be written");
        assert_eq!(body["step_s"], 60.0);
        assert_eq!(body["series_dropped"], 3);
        assert_eq!(body["approximate"], true);
        let first = &body["series"][0];
        assert_eq!(first["points"][1][0], "1970-01-01T00:01:00Z");
        assert!(first["points"][1][1].is_null(), "a gap is no zero");
        assert_eq!(first["parts"][0][1], 4.0);
        assert!(body["series"][1].get("parts").is_none());
    }
}
