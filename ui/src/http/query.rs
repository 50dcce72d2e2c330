//! `POST /api/v1/query`: a statement over everything there is at this moment.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serin_query::{QueryError, SqlAnswer, pieces};
use serin_wire::causes::sentence;
use serin_wire::time::to_rfc3339;

use super::App;
use super::error::ApiError;

/// The media type of an Arrow IPC stream.
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";
const CSV: &str = "text/csv";
/// Up to when the data behind an answer are complete.
const WATERMARK: HeaderName = HeaderName::from_static("serin-watermark");
/// There, and `true`, where rows were cut off at `query.rows_max`.
const TRUNCATED: HeaderName = HeaderName::from_static("serin-truncated");

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
    let range = app.range(&question.from, &question.to, DEFAULT_RANGE)?;
    let snapshot = app.lake.snapshot();
    let asked = Box::pin(app.engine.sql(&snapshot, &question.sql, Some(range)));
    let answer = app.found(asked).await??;
    Ok(told(&headers, answer))
}

/// The answer in the form that is asked for, sent as it is written, with what is known of it in the
/// headers: a CSV has no other place for that.
fn told(headers: &HeaderMap, answer: SqlAnswer) -> Response {
    let (watermark, is_truncated) = (answer.watermark_us, answer.is_truncated);
    let (kind, body) = if wants(headers, ARROW) {
        (
            ARROW,
            Body::from_stream(stream::iter(pieces::arrow(answer))),
        )
    } else if wants(headers, CSV) {
        ("text/csv; charset=utf-8", texts(pieces::csv(answer)))
    } else {
        ("application/json", texts(pieces::json(answer)))
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    if let Some(time) = watermark.map(to_rfc3339)
        && let Ok(value) = HeaderValue::from_str(&time)
    {
        response.headers_mut().insert(WATERMARK, value);
    }
    if is_truncated {
        let value = HeaderValue::from_static("true");
        response.headers_mut().insert(TRUNCATED, value);
    }
    response
}

fn texts(pieces: impl Iterator<Item = String> + Send + 'static) -> Body {
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
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
            | QueryError::Points { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            error if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        ApiError {
            retry_after: error.is_temporary().then_some(Duration::from_secs(1)),
            ..ApiError::new(status, error.code(), sentence(&error))
        }
    }
}
