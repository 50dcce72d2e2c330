//! `GET /api/v1/decisions`: what was decided and why, newest first.

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use serin_query::{Newest, render};

use super::App;
use super::error::ApiError;

const TABLE: &str = "decisions";
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    limit: Option<usize>,
    /// A rule, a KPI or a service.
    name: Option<String>,
}

pub(crate) async fn get(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let named = |name| {
        ["rule", "kpi", "subject"]
            .map(|column| (column, name))
            .to_vec()
    };
    let newest = Newest {
        table: TABLE,
        columns: &[],
        range: None,
        having: asked.name.as_deref().map(named).unwrap_or_default(),
        rows_max: asked.limit.unwrap_or(LIMIT).min(LIMIT_MAX),
    };
    let answer = app.engine.newest(&app.lake.snapshot(), &newest).await?;
    Ok(Json(render::json_objects(&answer)))
}
