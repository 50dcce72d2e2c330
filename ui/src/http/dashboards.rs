//! Dashboards as the browser reads them: the list, a definition, its numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serin_dashboards::evaluate::{Asked, evaluate};
use serin_dashboards::{Dashboard, DefaultRange, Library, Panel, PanelData, Source};
use serin_lake::Snapshot;
use serin_query::{Range, nice_step_us};
use serin_wire::name::OWN_TABLES;
use serin_wire::time::to_rfc3339;
use serin_yaml::span_text;

use super::App;
use super::dto::{
    DashboardBody, DashboardSummary, DataBody, PanelBody, PlaceBody, ProblemBody, RangeBody,
};
use super::error::ApiError;
use super::range::parse_range;

/// How wide a page is taken to be where the browser does not say.
const PAGE_PX: f64 = 1_200.0;
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
        revision: library.revision,
        problems: problems.collect(),
    }))
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
) -> Result<Json<DataBody<PanelData>>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let range = range_of(&app, dashboard, asked.from.as_deref(), asked.to.as_deref())?;
    let snapshot = app.lake.snapshot();
    let wanted: Option<Vec<&str>> = asked
        .panels
        .as_deref()
        .map(|names| names.split(',').collect());
    let mut panels = BTreeMap::new();
    for panel in &dashboard.panels {
        if wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&panel.name.as_str()))
        {
            let shown = numbers(&app, &snapshot, &library, dashboard, panel, range).await;
            panels.insert(panel.name.clone(), shown);
        }
    }
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
