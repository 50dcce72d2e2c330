//! The services of this machine: what runs, and the commands that change what is wanted.
//!
//! `POST /api/v1/services/{name}/deploy` and `…/rollback` answer with how far it is, a JSON object a
//! line, and end when the version serves or has failed; it goes on by itself when the client leaves.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_control::runtime::{Runtime, RuntimeError, Stage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::dto::DoneBody;
use super::error::ApiError;
use super::{App, done};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeployBody {
    version: Option<String>,
}

pub(crate) fn runtime(app: &App) -> Result<&Arc<Runtime>, ApiError> {
    app.runtime
        .as_ref()
        .ok_or_else(|| ApiError::not_found("this server runs no services"))
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> ApiError {
        let message = error.to_string();
        match error {
            RuntimeError::Unknown { .. } => ApiError::not_found(message),
            RuntimeError::NoEarlier(_) | RuntimeError::NoVersion { .. } => {
                ApiError::new(StatusCode::CONFLICT, "SER-HTTP-008", message)
            }
            RuntimeError::Unwritable(..) | RuntimeError::Lake(_) | RuntimeError::Shim(_) => {
                ApiError::internal(message)
            }
        }
    }
}

pub(crate) async fn list(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let views = runtime(&app)?.views().borrow().clone();
    Ok(Json(json!({ "services": *views })))
}

pub(crate) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let views = runtime(&app)?.views().borrow().clone();
    let view = views.iter().find(|service| service.name == name);
    let view = view.ok_or_else(|| ApiError::not_found(format!("no service {name:?}")))?;
    Ok(Json(json!(view)))
}

/// Every instance of every service, as a flat list.
pub(crate) async fn instances(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let views = runtime(&app)?.views().borrow().clone();
    let instances = views.iter().flat_map(|service| {
        service.instances.iter().map(|instance| {
            let mut instance = json!(instance);
            instance["service"] = json!(service.name);
            instance
        })
    });
    Ok(Json(json!({ "instances": instances.collect::<Vec<_>>() })))
}

pub(crate) async fn deploy(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let asked: DeployBody = match body.is_empty() {
        true => DeployBody::default(),
        false => serde_json::from_slice(&body).map_err(|error| {
            ApiError::bad(format!("the body must be {{\"version\": …}}: {error}"))
        })?,
    };
    let stages = runtime(&app)?.deploy(&name, asked.version);
    Ok(told(&app, stages))
}

fn told(app: &App, stages: mpsc::Receiver<Stage>) -> Response {
    app.told(ReceiverStream::new(stages).map(line))
}

fn line(stage: Stage) -> serde_json::Result<Bytes> {
    let mut text = serde_json::to_vec(&stage)?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}

pub(crate) async fn rollback(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let stages = runtime(&app)?.rollback(&name)?;
    Ok(told(&app, stages))
}

pub(crate) async fn stop(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<DoneBody>, ApiError> {
    runtime(&app)?.stop(&name)?;
    Ok(done())
}

pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<DoneBody>, ApiError> {
    runtime(&app)?.remove(&name)?;
    Ok(done())
}
