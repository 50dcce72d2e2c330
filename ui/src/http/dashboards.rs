//! Dashboards as the browser reads them: the list, a definition, its numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serin_dashboards::evaluate::{Asked, evaluate};
use serin_dashboards::variable::choose;
use serin_dashboards::{Dashboard, DefaultRange, Library, Panel, PanelData, Source};
use serin_lake::Snapshot;
use serin_query::{Range, nice_step_us};
use serin_wire::name::OWN_TABLES;
use serin_wire::time::to_rfc3339;
use serin_yaml::span_text;

use super::App;
use super::dto::{
    CopiedBody, DashboardBody, DashboardSummary, DataBody, PanelBody, PlaceBody, ProblemBody,
    RangeBody, VariableBody,
};
use super::error::ApiError;
use super::range::parse_range;
use super::variables::{Parameters, chosen};

/// How wide a page is taken to be where the browser does not say.
const PAGE_PX: f64 = 1_200.0;
/// Panels that are under way at a time for one request; the engine bounds what they cost.
const PANELS_AT_ONCE: usize = 16;
/// Points over the whole range that the step of an answer is told for.
const POINTS: usize = 400;

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
    let (from, to) = range_texts(dashboard);
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
        range: RangeBody { from, to },
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
    from: Option<String>,
    to: Option<String>,
    panels: Option<String>,
}

pub(crate) async fn data(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(asked): Query<DataAsked>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<DataBody<PanelData>>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let range = range_of(&app, dashboard, asked.from.as_deref(), asked.to.as_deref())?;
    let snapshot = app.lake.snapshot();
    let chosen = chosen(&parameters)?;
    let dashboard = choose(&app.engine, &snapshot, &library, dashboard, &chosen, range).await;
    let dashboard = &*dashboard;
    let wanted: Option<Vec<&str>> = asked
        .panels
        .as_deref()
        .map(|names| names.split(',').collect());
    let is_wanted = |panel: &&Panel| {
        let wanted = wanted.as_ref();
        wanted.is_none_or(|wanted| wanted.contains(&panel.name.as_str()))
    };
    let asked = dashboard.panels.iter().filter(is_wanted);
    let asked: Vec<_> = asked
        .map(|panel| numbers(&app, &snapshot, &library, dashboard, panel, range))
        .collect();
    let shown = stream::iter(asked).buffer_unordered(PANELS_AT_ONCE);
    let named = shown.map(|shown| (shown.panel.clone(), shown));
    let panels = app.found(named.collect()).await?;
    Ok(Json(frame(&library, dashboard, &snapshot, range, panels)))
}

/// What one panel shows, as wide as its place in the layout.
pub(crate) async fn numbers(
    app: &App,
    snapshot: &Arc<Snapshot>,
    library: &Library,
    dashboard: &Dashboard,
    panel: &Panel,
    range: Range,
) -> PanelData {
    let width_px = width_px(dashboard, &panel.name);
    evaluate(
        &app.engine,
        snapshot,
        library,
        panel,
        Asked { range, width_px },
    )
    .await
}

/// The numbers of panels, with the range and the moment they belong to.
pub(crate) fn frame<T>(
    library: &Library,
    dashboard: &Dashboard,
    snapshot: &Snapshot,
    range: Range,
    panels: BTreeMap<String, T>,
) -> DataBody<T> {
    DataBody {
        from: to_rfc3339(range.from_us),
        to: to_rfc3339(range.to_us),
        step_s: nice_step_us(range, POINTS) as f64 / 1e6,
        panels,
        watermark: snapshot.watermark_us.map(to_rfc3339),
        data_range: data_range(library, dashboard, snapshot),
    }
}

/// Where there are data for this dashboard; all event types count where its panels are SQL alone.
fn data_range(library: &Library, dashboard: &Dashboard, snapshot: &Snapshot) -> Option<RangeBody> {
    let mut tables: Vec<String> = Vec::new();
    for panel in &dashboard.panels {
        if let Source::Kpis(names) = &panel.source {
            let plans = names.iter().filter_map(|name| library.kpis.get(name));
            tables.extend(plans.flat_map(|plan| plan.events()));
        }
    }
    if tables.is_empty() {
        let names = snapshot
            .tables
            .keys()
            .filter(|name| !OWN_TABLES.contains(&name.as_str()));
        tables.extend(names.cloned());
    }
    let (first, last) = snapshot.data_range_us(tables.iter().map(String::as_str))?;
    // The end of a range is not part of it: the second after the last event shows that event.
    let end = last - last.rem_euclid(1_000_000) + 1_000_000;
    Some(RangeBody {
        from: to_rfc3339(first - first.rem_euclid(1_000_000)),
        to: to_rfc3339(end),
    })
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

/// The range asked for, else the dashboard's own.
pub(crate) fn range_of(
    app: &App,
    dashboard: &Dashboard,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Range, ApiError> {
    let (own_from, own_to) = range_texts(dashboard);
    parse_range(from, to, (&own_from, &own_to), (app.now_us)())
}

fn range_texts(dashboard: &Dashboard) -> (String, String) {
    match dashboard.range {
        DefaultRange::Last(span_us) => (format!("now-{}", span_text(span_us)), String::from("now")),
        DefaultRange::Between(from_us, to_us) => (to_rfc3339(from_us), to_rfc3339(to_us)),
    }
}

fn width_px(dashboard: &Dashboard, panel: &str) -> u32 {
    let row = dashboard
        .layout
        .iter()
        .find(|row| row.iter().any(|(name, _)| name == panel));
    let share = row.map_or(1.0, |row| {
        let all: f64 = row.iter().map(|(_, share)| share).sum();
        let own = row.iter().find(|(name, _)| name == panel);
        own.map_or(1.0, |(_, share)| share / all)
    });
    (PAGE_PX * share) as u32
}
