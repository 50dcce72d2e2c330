//! The browser application, out of the binary; and signing in.
//!
//! Paths of the application itself (`/`, `/d/…`, `/services`, `/logs`, …) all get the same page.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use rust_embed::Embed;
use serde::Deserialize;

use super::App;
use super::auth::{COOKIE, Owner};
use super::dto::{CodeBody, SessionBody};
use super::error::ApiError;
use super::range::Times;
use super::variables::Parameters;
use super::{live, session};

#[derive(Embed)]
#[folder = "web/dist/"]
struct Bundle;

/// The application's page.
pub(crate) async fn index() -> Response {
    file("index.html")
}

/// The application's page with one dashboard, whose panels are begun for who is signed in.
pub(crate) async fn dashboard(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    times: Result<Query<Times>, QueryRejection>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let is_known = app.gate.caller(&headers, (app.now_us)()).is_ok();
    if let (true, Ok(Query(times))) = (is_known, times) {
        live::expect(&app, name, times, &parameters);
    }
    index().await
}

/// A file of the application.
pub(crate) async fn asset(Path(path): Path<String>) -> Response {
    file(&format!("assets/{path}"))
}

/// `/schema/NAME.json`: of the format, not of anybody's data; editors cannot sign in.
pub(crate) async fn schema(State(app): State<App>, Path(file): Path<String>) -> Response {
    let name = file.strip_suffix(".json");
    match name.and_then(|name| app.operate.schema(name)) {
        Some(text) => ([(header::CONTENT_TYPE, "application/schema+json")], text).into_response(),
        None => ApiError::not_found(format!("there is no schema {file:?}")).into_response(),
    }
}

/// A file at the top of the application, or nothing; people are told so by the application.
pub(crate) async fn top(uri: axum::http::Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|kinds| kinds.to_str().ok());
    let is_read = accept.is_some_and(|kinds| kinds.contains("text/html"));
    if is_read && !path.starts_with("api/") && Bundle::get(path).is_none() {
        return (StatusCode::NOT_FOUND, index().await).into_response();
    }
    file(path)
}

fn file(path: &str) -> Response {
    let Some(found) = Bundle::get(path) else {
        return ApiError::not_found(format!("there is no page {path:?}")).into_response();
    };
    let mut response = found.data.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(kind_of(path)),
    );
    // Names under assets/ carry a hash of their content.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map" | "webmanifest") => "application/json",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct SignIn {
    code: Option<String>,
    next: Option<String>,
}

/// Swaps the code of a link for a session of this browser's own; one that has a session goes on.
pub(crate) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<SignIn>,
) -> Result<Response, ApiError> {
    let Some(code) = query.code else {
        return Ok(index().await);
    };
    let now_us = (app.now_us)();
    let next = query.next.filter(|next| is_own_page(next));
    let mut response = Redirect::to(next.as_deref().unwrap_or("/")).into_response();
    if app.gate.caller(&headers, now_us).is_ok() {
        return Ok(response);
    }
    if !app.gate.codes.spend(&code, now_us) {
        // The page says where there is a new one.
        return Ok((StatusCode::UNAUTHORIZED, index().await).into_response());
    }
    let session = app.gate.sessions.begin((app.random)(), now_us);
    let cookie = format!(
        "{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        session::LIFETIME_S
    );
    response.headers_mut().insert(
        header::SET_COOKIE,
        HeaderValue::from_str(&cookie).map_err(|error| ApiError::internal(error.to_string()))?,
    );
    Ok(response)
}

/// `POST /api/v1/signin`: the code of a new link.
pub(crate) async fn code(State(app): State<App>, _: Owner) -> axum::Json<CodeBody> {
    let code = app.gate.codes.make((app.random)(), (app.now_us)());
    axum::Json(CodeBody { code })
}

/// Only a page of ours may follow signing in, with its query and fragment, and never another site: browsers
/// take `//` and `/\` at the beginning for a host, and leave out spaces before they look.
fn is_own_page(next: &str) -> bool {
    let is_text = next.bytes().all(|byte| byte.is_ascii_graphic());
    let path = next.split(['?', '#']).next().unwrap_or_default();
    is_text
        && path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path != "/signin"
}

/// Who is signed in, and which start of the server this is.
pub(crate) async fn session(State(app): State<App>) -> axum::Json<SessionBody> {
    axum::Json(SessionBody {
        user: "owner",
        version: env!("CARGO_PKG_VERSION"),
        instance: app.instance.clone(),
        now: serin_wire::time::to_rfc3339((app.now_us)()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_any_page_of_ours_and_to_no_other_site() {
        for own in [
            "/",
            "/d/weblog?from=2015-05-17T00:00:00Z&to=now",
            "/services",
            "/traces?service=cart&status=error#last",
            "/explore?sql=SELECT+%22a%22+FROM+b+WHERE+c+~+'\\d'",
        ] {
            assert!(is_own_page(own), "{own}");
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "evil",
            "/d/a b",
            "/signin?code=again",
        ] {
            assert!(!is_own_page(bad), "{bad}");
        }
    }
}
