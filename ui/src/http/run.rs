//! What is asked of the process as a whole: status, flush, stop.

use axum::Json;
use axum::extract::State;

use super::dto::DoneBody;
use super::error::ApiError;
use super::{App, done};

pub(crate) async fn status(State(app): State<App>) -> Json<serde_json::Value> {
    Json(app.operate.status())
}

/// Answers once every row taken so far is committed.
pub(crate) async fn flush(State(app): State<App>) -> Result<Json<DoneBody>, ApiError> {
    app.operate.flush().await.map_err(ApiError::internal)?;
    Ok(done())
}

/// Answers at once; the process ends when the requests under way have.
pub(crate) async fn stop(State(app): State<App>) -> Json<DoneBody> {
    app.operate.stop();
    done()
}
