//! `GET /api/v1/decisions`: what was decided and why, newest first.
//!
//! A name of which nothing was decided is looked for among rules, KPIs and services: nothing decided is
//! an answer, a name that nothing has is none.

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
    let is_empty = answer.batches.iter().all(|batch| batch.num_rows() == 0);
    if let (true, Some(name)) = (is_empty, &asked.name) {
        check_known(&app, name).await?;
    }
    Ok(Json(render::json_objects(&answer)))
}

/// Fails where no rule, KPI or service has the name; a service that others run is known by its beats.
async fn check_known(app: &App, name: &str) -> Result<(), ApiError> {
    let library = app.library();
    let rules = library.rules.rules.iter().map(|rule| &*rule.name);
    let views = app.runtime.as_ref();
    let views = views.map(|runtime| runtime.views().borrow().clone());
    let services = views.iter().flat_map(|views| views.iter());
    let services: Vec<&str> = services.map(|service| &*service.name).collect();
    let kpis = library.kpis.keys().map(String::as_str);
    let named = rules.chain(services);
    if named.clone().chain(kpis.clone()).any(|known| known == name) {
        return Ok(());
    }
    let beats = Newest {
        table: "beats",
        columns: &["service"],
        range: None,
        having: vec![("service", name)],
        rows_max: 1,
    };
    let beats = app.engine.newest(&app.lake.snapshot(), &beats).await?;
    if beats.batches.iter().any(|batch| batch.num_rows() > 0) {
        return Ok(());
    }
    // Of KPIs there are many that nobody decides by, so that they are not listed.
    let near = serin_yaml::nearest(name, named.clone().chain(kpis));
    let hint = near.map_or_else(
        || serin_yaml::meant(name, named),
        |near| format!("did you mean {near:?}?"),
    );
    Err(ApiError::not_found(format!(
        "no rule, KPI or service has the name {name:?}; {hint}"
    )))
}
