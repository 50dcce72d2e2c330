//! `POST /api/v1/query`: a statement over everything there is at this moment.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serin_query::{QueryError, render};

use super::App;
use super::error::ApiError;
use super::range::parse_range;

/// The media type of an Arrow IPC stream.
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";
const CSV: &str = "text/csv";

/// What a statement's macros see where no range is given.
const DEFAULT_RANGE: (&str, &str) = ("now-6h", "now");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    sql: String,
    from: Option<String>,
    to: Option<String>,
}

pub(crate) async fn post(
    State(app): State<App>,
    headers: HeaderMap,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(question) = question.map_err(|error| ApiError::bad(error.body_text()))?;
    let range = parse_range(
        question.from.as_deref(),
        question.to.as_deref(),
        DEFAULT_RANGE,
        (app.now_us)(),
    )?;
    let snapshot = app.lake.snapshot();
    let answer = Box::pin(app.engine.sql(&snapshot, &question.sql, Some(range))).await?;
    if wants(&headers, ARROW) {
        let bytes = render::arrow_ipc(&answer)
            .map_err(|error| ApiError::internal(format!("cannot write Arrow: {error}")))?;
        return Ok(([(header::CONTENT_TYPE, ARROW)], bytes).into_response());
    }
    if wants(&headers, CSV) {
        let kind = (header::CONTENT_TYPE, "text/csv; charset=utf-8");
        return Ok(([kind], render::csv(&answer)).into_response());
    }
    Ok(Json(render::json_table(&answer)).into_response())
}

/// Whether the client asks for this media type.
pub(crate) fn wants(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(media_type))
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        let status = match &error {
            QueryError::Deadline { .. } => StatusCode::REQUEST_TIMEOUT,
            QueryError::Memory { .. }
            | QueryError::Spill { .. }
            | QueryError::ResultBytes { .. }
            | QueryError::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            QueryError::Busy { .. } | QueryError::Worker(_) => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        ApiError {
            retry_after: error.is_temporary().then_some(Duration::from_secs(1)),
            ..ApiError::new(status, error.code(), sentence(&error))
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
