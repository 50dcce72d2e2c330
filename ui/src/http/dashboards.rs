//! Dashboards as the browser reads them: the list, a definition, its numbers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serin_dashboards::{Dashboard, Library, Panel, PanelData, Source};
use serin_query::Range;
use serin_wire::time::to_rfc3339;

use super::App;
use super::default_range::DefaultRange;
use super::dto::{
    CopiedBody, DashboardBody, DashboardSummary, DataBody, PanelBody, PlaceBody, ProblemBody,
    RangeBody, VariableBody,
};
use super::error::ApiError;
use super::range::Times;
use super::round::Round;
use super::variables::{Parameters, chosen};

/// Panels that are under way at a time for one request; the engine bounds what they cost.
const PANELS_AT_ONCE: usize = 16;

pub(crate) async fn list(State(app): State<App>) -> Json<Vec<DashboardSummary>> {
    let library = app.library();
    let dashboards = library
        .dashboards
        .values()
        .map(|dashboard| DashboardSummary {
            name: dashboard.name.clone(),
            title: dashboard.title.clone(),
            description: dashboard.description.clone(),
            is_built_in: dashboard.file.is_none(),
        });
    Json(dashboards.collect())
}

pub(crate) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<DashboardBody>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let range = default_range(&app, &library, dashboard);
    let young = range.instead_of.as_ref();
    let panels = dashboard.panels.iter().map(|panel| {
        let body = PanelBody {
            title: panel.title.clone(),
            draw: panel.draw.as_str(),
            unit: panel.unit.clone(),
            description: panel.description.clone(),
            has_traces: has_traces(&library, panel),
        };
        (panel.name.clone(), body)
    });
    let problems = library.problems.iter().map(|problem| ProblemBody {
        file: problem.file.clone(),
        line: problem.line,
        column: problem.column,
        message: match &problem.hint {
            Some(hint) => format!("{}; {hint}", problem.message),
            None => problem.message.clone(),
        },
    });
    Ok(Json(DashboardBody {
        name: dashboard.name.clone(),
        title: dashboard.title.clone(),
        description: dashboard.description.clone(),
        own_range: young.map(|own| RangeBody {
            from: own.from.clone(),
            to: range.to.clone(),
        }),
        data_from: young.map(|own| to_rfc3339(own.data_from_us)),
        range: RangeBody {
            from: range.from,
            to: range.to,
        },
        refresh_s: dashboard.refresh_us as f64 / 1e6,
        layout: dashboard
            .layout
            .iter()
            .map(|row| {
                let places = row.iter().map(|(panel, share)| PlaceBody {
                    panel: panel.clone(),
                    share: *share,
                });
                places.collect()
            })
            .collect(),
        panels: panels.collect(),
        variables: dashboard.variables.iter().map(VariableBody::of).collect(),
        is_built_in: dashboard.file.is_none(),
        revision: library.revision,
        problems: problems.collect(),
    }))
}

/// `POST /api/v1/dashboards/{name}/copy`: writes the YAML of a built-in dashboard into the folder,
/// to be changed there; from then on the file counts.
pub(crate) async fn copy(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<CopiedBody>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let conflict = |message| ApiError::new(StatusCode::CONFLICT, "SER-HTTP-008", message);
    let text = serin_dashboards::built_in(&name).filter(|_| dashboard.file.is_none());
    let text = text.ok_or_else(|| {
        let file = dashboard.file.as_deref().unwrap_or_default();
        conflict(format!("{name:?} is yours already: change {file}"))
    })?;
    let written = app.operate.write_dashboard(&name, text);
    let file = written.map_err(conflict)?;
    Ok(Json(CopiedBody { file }))
}

/// Whether it draws a KPI over requests.
fn has_traces(library: &Library, panel: &Panel) -> bool {
    let Source::Kpis(names) = &panel.source else {
        return false;
    };
    let plans = names.iter().filter_map(|name| library.kpis.get(name));
    plans
        .into_iter()
        .any(|plan| plan.events().contains("requests"))
}

#[derive(Debug, Deserialize)]
pub(crate) struct DataAsked {
    panels: Option<String>,
}

pub(crate) async fn data(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(asked): Query<DataAsked>,
    Query(times): Query<Times>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<DataBody<PanelData>>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let range = range_of(&app, &library, dashboard, &times)?;
    let (snapshot, chosen) = (app.lake.snapshot(), chosen(&parameters)?);
    let known = Arc::clone(&library);
    let round = Round::begin(&app, known, dashboard, snapshot, &chosen, range).await;
    let wanted: Option<Vec<&str>> = asked
        .panels
        .as_deref()
        .map(|names| names.split(',').collect());
    let is_wanted = |panel: &&Panel| {
        let wanted = wanted.as_ref();
        wanted.is_none_or(|wanted| wanted.contains(&panel.name.as_str()))
    };
    let asked = round.dashboard.panels.iter().filter(is_wanted);
    let asked: Vec<_> = asked.map(|panel| round.numbers(&app, panel)).collect();
    let shown = stream::iter(asked).buffer_unordered(PANELS_AT_ONCE);
    let named = shown.map(|shown| (shown.panel.clone(), shown));
    let panels = app.found(named.collect()).await?;
    Ok(Json(round.frame(panels)))
}

pub(crate) fn find<'a>(library: &'a Library, name: &str) -> Result<&'a Arc<Dashboard>, ApiError> {
    library.dashboards.get(name).ok_or_else(|| {
        let names: Vec<&str> = library.dashboards.keys().map(String::as_str).collect();
        ApiError::not_found(format!(
            "there is no dashboard {name:?}; there are {}",
            names.join(", ")
        ))
    })
}

/// The range asked for, else the dashboard's own, which young data make shorter.
pub(crate) fn range_of(
    app: &App,
    library: &Library,
    dashboard: &Dashboard,
    asked: &Times,
) -> Result<Range, ApiError> {
    let own = default_range(app, library, dashboard);
    app.range(&asked.from, &asked.to, (&own.from, &own.to))
}

fn default_range(app: &App, library: &Library, dashboard: &Dashboard) -> DefaultRange {
    DefaultRange::of(library, dashboard, &app.lake.snapshot(), (app.now_us)())
}
