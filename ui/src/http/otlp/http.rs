//! OTLP over HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, in protobuf or JSON.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serin_translate::otlp::{Encoding, Signal, answer};

use super::super::App;
use super::super::auth;
use super::super::body;
use super::super::error::{self, ApiError};
use super::grpc::Code;
use super::take::{DECODED_BYTES_MAX, take};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The three paths.
pub(crate) fn routes() -> Router<App> {
    let export = |signal| {
        post(
            move |State(app): State<App>, headers: HeaderMap, body: Body| async move {
                export(&app, signal, &headers, body).await
            },
        )
    };
    Router::new()
        .route("/v1/traces", export(Signal::Traces))
        .route("/v1/logs", export(Signal::Logs))
        .route("/v1/metrics", export(Signal::Metrics))
}

/// The listener for exporters of this machine, which show no token.
pub(super) fn router() -> Router<App> {
    let nowhere = || async {
        ApiError::not_found(
            "here are /v1/traces, /v1/logs and /v1/metrics, each for POST; the pages of Serin have another port",
        )
    };
    routes()
        .fallback(nowhere)
        .layer(middleware::from_fn(no_page))
}

/// Refuses what a web page sends: a browser says so, or names us by a name that is not ours.
async fn no_page(request: Request, next: Next) -> Result<Response, ApiError> {
    auth::names_loopback(request.headers())?;
    if request.headers().contains_key(header::ORIGIN) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "SER-AUTH-003",
            "this port takes no requests of web pages; send them through a server of yours",
        ));
    }
    Ok(next.run(request).await)
}

async fn export(app: &App, signal: Signal, headers: &HeaderMap, body: Body) -> Response {
    let encoding = match encoding(headers) {
        Ok(encoding) => encoding,
        Err(error) => return error.into_response(),
    };
    let taken = async {
        let coding = body::coding(headers)?;
        let body = body::read_encoded(&app.budget, headers, body).await?;
        let body = body.unpack(coding, DECODED_BYTES_MAX).await?;
        take(app, signal, encoding, body).await
    };
    match taken.await {
        Ok(refused) => written(
            StatusCode::OK,
            encoding,
            answer::taken(signal, encoding, &refused),
        ),
        Err(error) => {
            let code = Code::of(error.status) as i32;
            let told = answer::failed(encoding, code, &error.message);
            let mut response = written(error.status, encoding, told);
            if let Some(wait) = error.retry_after {
                error::retry_after(&mut response, wait);
            }
            response
        }
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|kind| kind.trim().to_ascii_lowercase());
    match kind.as_deref() {
        Some(PROTOBUF) => Ok(Encoding::Protobuf),
        Some(JSON) => Ok(Encoding::Json),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "SER-HTTP-007",
            "content-type must be application/x-protobuf or application/json",
        )),
    }
}

fn written(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response {
    let kind = match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => JSON,
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}
