//! Who may come in: a bearer token or a session cookie, from a page of ours, under a name of ours.
//!
//! The token is made at each start and handed to programs; a browser swaps the code of a link, see
//! `codes`, for a session of its own at `/signin`. Only hashes are kept, and comparing hashes tells
//! nothing about the token. With a cookie, a request that changes something must come from our own page; on loopback the host
//! named must be loopback too, or a web page could reach us under its own name (DNS rebinding).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::codes::Codes;
use super::error::ApiError;
use super::session::Sessions;

/// The name of the session cookie.
pub(crate) const COOKIE: &str = "serin_session";

/// What is known of callers.
#[derive(Debug)]
pub(crate) struct Gate {
    token: blake3::Hash,
    pub(crate) codes: Codes,
    pub(crate) sessions: Sessions,
    is_loopback: bool,
}

/// How a caller showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Token,
    Session,
}

impl Gate {
    pub(crate) fn new(token: &str, sessions: Sessions, is_loopback: bool) -> Gate {
        Gate {
            token: blake3::hash(token.as_bytes()),
            codes: Codes::default(),
            sessions,
            is_loopback,
        }
    }

    /// Whether it is this start's token.
    fn is_token(&self, token: &str) -> bool {
        // blake3 compares hashes in constant time.
        blake3::hash(token.as_bytes()) == self.token
    }

    pub(crate) fn caller(&self, headers: &HeaderMap, now_us: i64) -> Option<Caller> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok()?.strip_prefix("Bearer ")?.trim();
            return self.is_token(token).then_some(Caller::Token);
        }
        session_of(headers)
            .is_some_and(|session| self.sessions.has(session, now_us))
            .then_some(Caller::Session)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.is_loopback {
            true => names_loopback(headers),
            false => Ok(()),
        }
    }
}

/// What is heard on loopback must be asked by a name of loopback.
pub(crate) fn names_loopback(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if host.is_some_and(is_loopback_name) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "SER-AUTH-003",
        "this server answers only under localhost, 127.0.0.1 and [::1]; start it with --listen to open it",
    ))
}

/// Lets every request through whose host is ours; all answers get the headers that protect pages.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match app.gate.check_host(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    for (name, value) in PAGE_HEADERS {
        response
            .headers_mut()
            .entry(name)
            .or_insert(header::HeaderValue::from_static(value));
    }
    response
}

/// Lets a request through that shows who it is.
pub(crate) async fn admit(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    let Some(caller) = app.gate.caller(headers, (app.now_us)()) else {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "SER-AUTH-001",
            "sign in with a link of `serin status`, or send `Authorization: Bearer TOKEN` (the token is in .serin/run.json)",
        ));
    };
    let changes_something = !matches!(*request.method(), Method::GET | Method::HEAD);
    if caller == Caller::Session && changes_something && !is_same_origin(headers) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "SER-AUTH-002",
            "a request with a session cookie must come from a page of this server",
        ));
    }
    Ok(next.run(request).await)
}

const PAGE_HEADERS: [(header::HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        })
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && site != "same-origin"
    {
        return false;
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, named)| named == host),
        _ => false,
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1:1",
            "[::1]:7070",
            "[::1]",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil:80",
            "::1",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn only_our_own_page_may_change_something() {
        let origin = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
                headers.insert(name, value.parse().expect("a value"));
            }
            is_same_origin(&headers)
        };
        let host = ("host", "localhost:7070");
        assert!(origin(&[host, ("origin", "http://localhost:7070")]));
        assert!(!origin(&[host, ("origin", "http://evil.example")]));
        assert!(!origin(&[host, ("origin", "null")]));
        assert!(!origin(&[host]));
        assert!(!origin(&[
            host,
            ("origin", "http://localhost:7070"),
            ("sec-fetch-site", "same-site"),
        ]));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            "a=b; serin_session=xyz; c=d".parse().expect("value"),
        );
        assert_eq!(session_of(&headers), Some("xyz"));
    }
}
