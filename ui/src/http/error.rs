//! What a client is told when something is refused or fails: status, code and one sentence.
//!
//! Every handler returns [`ApiError`]; nothing else makes an error answer. The sentence says what
//! failed and what to do, and is never HTML.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serin_lake::AcceptError;

use super::dto::ErrorBody;

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "SER-HTTP-001", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "SER-HTTP-002", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "SER-HTTP-003", message)
    }

    pub(crate) fn busy(message: impl Into<String>, retry_after: Duration) -> ApiError {
        ApiError {
            retry_after: Some(retry_after),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SER-HTTP-004", message)
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "SER-HTTP-005", message)
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> ApiError {
        let message = error.to_string();
        match error {
            AcceptError::Bad(_) => ApiError::bad(message),
            AcceptError::Full { retry_after }
            | AcceptError::Refused { retry_after, .. }
            | AcceptError::Unavailable { retry_after } => ApiError::busy(message, retry_after),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: self.message,
            code: self.code,
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            retry_after(&mut response, wait);
        }
        response
    }
}

/// Says when to come again: in a second at least, since the header counts whole ones.
pub(crate) fn retry_after(response: &mut Response, wait: Duration) {
    let seconds = wait.as_secs().max(1);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
}
