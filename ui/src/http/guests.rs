//! Instances started by hand: let in, taken out of the routes.
//!
//! `POST /api/v1/services/{name}/run` answers with what an instance needs to run, a line of JSON with
//! credentials. One that is `held` goes with that answer, whose end is never sent: whoever asked
//! closes it. `…/started` says that its process runs; `…/leave` returns once no call is sent to the
//! instance any more.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serin_control::runtime::{DeployError, GuestError, Wish};

use super::dto::DoneBody;
use super::error::ApiError;
use super::services::runtime;
use super::{App, done};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunBody {
    percent: Option<u32>,
    instance: Option<String>,
    held: bool,
    started: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestBody {
    instance: String,
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> ApiError {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let message = format!("{error}{}", cause.unwrap_or_default());
        match error {
            GuestError::Service(DeployError::NoFile { .. }) => ApiError::not_found(message),
            GuestError::Folder(_) | GuestError::NotLetIn(_) => ApiError::internal(message),
            _ => ApiError::bad(message),
        }
    }
}

pub(crate) async fn run(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(asked): Json<RunBody>,
) -> Result<Response, ApiError> {
    let wish = Wish {
        percent: asked.percent,
        instance: asked.instance,
        is_held: asked.held,
        is_started: asked.started,
    };
    let (pass, held) = runtime(&app)?.invite(&name, wish).await?;
    let mut line =
        serde_json::to_vec(&pass).map_err(|error| ApiError::internal(error.to_string()))?;
    line.push(b'\n');
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from(line))]);
    let stop = app.stop.clone();
    let body = match held {
        // Dropped with the connection, which the end of the server ends.
        Some(held) => Body::from_stream(first.chain(stream::once(async move {
            stop.cancelled().await;
            drop(held);
            Ok(Bytes::new())
        }))),
        None => Body::from_stream(first),
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

pub(crate) async fn leave(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(asked): Json<GuestBody>,
) -> Result<Json<DoneBody>, ApiError> {
    let is_known = runtime(&app)?.leave(&asked.instance).await;
    known(is_known, &name, &asked.instance)
}

pub(crate) async fn started(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(asked): Json<GuestBody>,
) -> Result<Json<DoneBody>, ApiError> {
    let is_known = runtime(&app)?.guest_started(&asked.instance);
    known(is_known, &name, &asked.instance)
}

fn known(is_known: bool, name: &str, instance: &str) -> Result<Json<DoneBody>, ApiError> {
    if is_known {
        return Ok(done());
    }
    let message = format!("no instance {instance:?} of {name:?} was started by hand");
    Err(ApiError::not_found(message))
}
