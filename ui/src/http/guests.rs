//! Instances started by hand: let in, taken out of the routes.
//!
//! `POST /api/v1/services/{name}/run` answers with what an instance needs to run, a line of JSON with
//! credentials. One that is `held` goes with that answer, whose end is never sent: whoever asked
//! closes it. `…/leave` returns once no call is sent to the instance any more.

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
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaveBody {
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
    Json(asked): Json<LeaveBody>,
) -> Result<Json<DoneBody>, ApiError> {
    let instance = asked.instance;
    if !runtime(&app)?.leave(&instance).await {
        let message = format!("no instance {instance:?} of {name:?} was started by hand");
        return Err(ApiError::not_found(message));
    }
    Ok(done())
}
