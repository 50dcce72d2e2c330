//! `/api/v1/first-steps`: what the start page of a young folder offers to try, and what it found.
//!
//! The doing is the server's ([`FirstSteps`]); here is only its way over HTTP. A bad version that
//! rolls itself back will stand beside these, once there is a loop that judges versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::dto::DoneBody;
use super::error::ApiError;
use super::{App, done};

/// What there is to try. Implemented by the server.
pub trait FirstSteps: Send + Sync {
    /// How it stands.
    fn view(&self) -> FirstStepsView;
    /// Has visitors come to the first service, or stay away.
    fn send_visitors(&self, are_wanted: bool);
    /// Ends one of its instances and waits for the next.
    fn kill_one(&self) -> BoxFuture<'_, Result<Killed, String>>;
    /// Takes the panel away for good.
    fn close(&self) -> Result<(), String>;
}

/// How it stands with the first steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstStepsView {
    /// Whether the panel is to be shown: the first service is there, and nobody closed it.
    pub is_open: bool,
    /// The first service.
    pub service: String,
    /// Where visitors come.
    pub url: String,
    /// The line by which DuckDB reads the same events.
    pub attach: String,
    /// Whether visitors are coming.
    pub are_coming: bool,
    /// How many of them got an answer, since the start of the server.
    pub answered: u64,
    /// How many got none, or an error.
    pub failed: u64,
}

/// What became of a kill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Killed {
    /// The instance that was ended.
    pub killed: String,
    /// The one that is ready in its place.
    pub replacement: String,
    /// How long that took, microseconds.
    pub took_us: i64,
    /// Visitors who got no answer meanwhile; null where none were coming.
    pub lost: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VisitorsBody {
    are_wanted: bool,
}

fn steps(app: &App) -> Result<&Arc<dyn FirstSteps>, ApiError> {
    app.first_steps
        .as_ref()
        .ok_or_else(|| ApiError::not_found("this server has no first steps to offer"))
}

pub(crate) async fn get(State(app): State<App>) -> Result<Json<FirstStepsView>, ApiError> {
    Ok(Json(steps(&app)?.view()))
}

pub(crate) async fn visitors(
    State(app): State<App>,
    Json(body): Json<VisitorsBody>,
) -> Result<Json<FirstStepsView>, ApiError> {
    let steps = steps(&app)?;
    steps.send_visitors(body.are_wanted);
    Ok(Json(steps.view()))
}

pub(crate) async fn kill(State(app): State<App>) -> Result<Json<Killed>, ApiError> {
    let killed = steps(&app)?.kill_one().await;
    killed.map(Json).map_err(ApiError::internal)
}

pub(crate) async fn close(State(app): State<App>) -> Result<Json<DoneBody>, ApiError> {
    steps(&app)?.close().map_err(ApiError::internal)?;
    Ok(done())
}
