//! `GET /api/v1/decisions`: what was decided and why, newest first.

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use serin_query::render;

use super::App;
use super::error::ApiError;

const TABLE: &str = "decisions";
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 10_000;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    limit: Option<u32>,
    /// A rule, a KPI or a service.
    name: Option<String>,
}

pub(crate) async fn get(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let snapshot = app.lake.snapshot();
    let Some(table) = snapshot.tables.get(TABLE) else {
        return Ok(Json(Value::Array(Vec::new())));
    };
    let limit = asked.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let filter = match &asked.name {
        None => String::new(),
        Some(name) => {
            let name = name.replace('\'', "''");
            let columns = ["rule", "kpi", "subject"];
            let has = |column: &&str| table.columns.iter().any(|known| known.name == **column);
            let matches: Vec<String> = columns
                .iter()
                .filter(|column| has(column))
                .map(|column| format!("{column} = '{name}'"))
                .collect();
            format!(" WHERE {}", matches.join(" OR "))
        }
    };
    let sql = format!("SELECT * FROM {TABLE}{filter} ORDER BY time DESC LIMIT {limit}");
    let answer = Box::pin(app.engine.sql(&snapshot, &sql, None)).await?;
    Ok(Json(render::json_objects(&answer)))
}
