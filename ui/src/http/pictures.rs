//! `/d/{dashboard}/{panel}.svg|png`, and a whole dashboard as one picture.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serin_dashboards::draw::{
    DrawError, Size, ThemeName, dashboard_png, dashboard_svg, panel_png, panel_svg,
};
use serin_dashboards::evaluate::{self, Asked};
use serin_dashboards::variable::choose;
use serin_wire::causes::sentence;

use super::App;
use super::dashboards::{find, range_of};
use super::error::ApiError;
use super::range::Times;
use super::round::Round;
use super::variables::{Parameters, chosen};

const PANEL: Size = Size {
    width: 800,
    height: 320,
};
const DASHBOARD_WIDTH: u32 = 1_200;

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    width: Option<u32>,
    height: Option<u32>,
    theme: Option<String>,
    format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

pub(crate) async fn panel(
    State(app): State<App>,
    Path((dashboard, file)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
    Query(times): Query<Times>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let (panel, format) = match file.rsplit_once('.') {
        Some((panel, "svg")) => (panel, Format::Svg),
        Some((panel, "png")) => (panel, Format::Png),
        _ => return Err(ApiError::not_found("a picture ends in .svg or .png")),
    };
    let theme = theme(&wanted)?;
    let library = app.library();
    let found = find(&library, &dashboard)?;
    let range = range_of(&app, &library, found, &times)?;
    let size = Size {
        width: wanted.width.unwrap_or(PANEL.width),
        height: wanted.height.unwrap_or(PANEL.height),
    };
    let (snapshot, chosen) = (app.lake.snapshot(), chosen(&parameters)?);
    let known = Arc::clone(&library);
    let round = Round::begin(&app, known, found, snapshot, &chosen, range).await;
    let panel = round.dashboard.panel(panel).ok_or_else(|| {
        ApiError::not_found(format!("dashboard {dashboard:?} has no panel {panel:?}"))
    })?;
    let data = round.drawn(&app, panel, size.width).await;
    drawn(format, move || match format {
        Format::Svg => panel_svg(&data, size, theme).map(String::into_bytes),
        Format::Png => panel_png(&data, size, theme),
    })
    .await
}

pub(crate) async fn dashboard(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    Query(times): Query<Times>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let format = match wanted.format.as_deref() {
        None | Some("png") => Format::Png,
        Some("svg") => Format::Svg,
        Some(other) => {
            return Err(ApiError::bad(format!(
                "format {other:?} must be svg or png"
            )));
        }
    };
    let theme = theme(&wanted)?;
    let library = app.library();
    let dashboard = Arc::clone(find(&library, &name)?);
    let range = range_of(&app, &library, &dashboard, &times)?;
    let width = wanted.width.unwrap_or(DASHBOARD_WIDTH);
    let asked = Asked {
        range,
        width_px: width,
    };
    let snapshot = app.lake.snapshot();
    let chosen = chosen(&parameters)?;
    let dashboard = choose(&app.engine, &snapshot, &library, &dashboard, &chosen, range).await;
    let mut panels = evaluate::dashboard(&app.engine, &snapshot, &library, &dashboard, asked).await;
    panels.iter_mut().for_each(|panel| app.looks.dress(panel));
    drawn(format, move || match format {
        Format::Svg => dashboard_svg(&dashboard, &panels, width, theme).map(String::into_bytes),
        Format::Png => dashboard_png(&dashboard, &panels, width, theme),
    })
    .await
}

fn theme(wanted: &Wanted) -> Result<ThemeName, ApiError> {
    match wanted.theme.as_deref() {
        None => Ok(ThemeName::Light),
        Some(text) => ThemeName::parse(text)
            .ok_or_else(|| ApiError::bad(format!("theme {text:?} must be light or dark"))),
    }
}

/// Draws away from the sockets: a picture takes tens of milliseconds.
async fn drawn(
    format: Format,
    draw: impl FnOnce() -> Result<Vec<u8>, DrawError> + Send + 'static,
) -> Result<Response, ApiError> {
    let bytes = tokio::task::spawn_blocking(draw)
        .await
        .map_err(|error| ApiError::internal(format!("cannot draw: {error}")))?
        .map_err(|error| ApiError::internal(sentence(&error)))?;
    let kind = match format {
        Format::Svg => "image/svg+xml",
        Format::Png => "image/png",
    };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
