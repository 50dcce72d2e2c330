//! Who may come in: a bearer token or a session cookie, from a page of ours, under a name of ours.
//!
//! A token is made at each start, and others outlive starts, see `stored_tokens`; a browser swaps the code of a
//! link, see `codes`, for a session of its own at `/signin`. Only hashes are kept, and comparing hashes tells
//! nothing about the token. With a cookie, a request that changes something must come from our own page; on loopback the host
//! named must be loopback too, or a web page could reach us under its own name (DNS rebinding).

use axum::BoxError;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serin_lake::StoredToken;
use serin_wire::time::to_rfc3339;

use super::App;
use super::codes::Codes;
use super::error::ApiError;
use super::session::Sessions;
use super::stored_tokens::{Found, Lease, StoredTokens};

/// The name of the session cookie.
pub(crate) const COOKIE: &str = "serin_session";

/// What is known of callers.
#[derive(Debug)]
pub(crate) struct Gate {
    token: blake3::Hash,
    pub(crate) stored: StoredTokens,
    pub(crate) codes: Codes,
    pub(crate) sessions: Sessions,
    is_loopback: bool,
}

/// How a caller showed who it is.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// By this start's token.
    Token,
    /// By a token that outlives starts.
    Stored(Lease),
    Session,
}

/// A caller with this start's token or a session, which a stored token cannot get.
#[derive(Debug)]
pub(crate) struct Owner;

impl Gate {
    pub(crate) fn new(
        token: &str,
        stored: Vec<StoredToken>,
        sessions: Sessions,
        is_loopback: bool,
    ) -> Gate {
        Gate {
            token: blake3::hash(token.as_bytes()),
            stored: StoredTokens::new(stored),
            codes: Codes::default(),
            sessions,
            is_loopback,
        }
    }

    /// Who a caller is, or why it does not come in.
    pub(crate) fn caller(&self, headers: &HeaderMap, now_us: i64) -> Result<Caller, ApiError> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value
                .to_str()
                .ok()
                .and_then(|value| value.strip_prefix("Bearer "));
            return self.holder(token.unwrap_or_default().trim(), now_us);
        }
        let session = session_of(headers);
        match session.is_some_and(|session| self.sessions.has(session, now_us)) {
            true => Ok(Caller::Session),
            false => Err(unknown(
                "sign in with a link of `serin status`, or send `Authorization: Bearer TOKEN` (the token is in .serin/run.json)",
            )),
        }
    }

    fn holder(&self, token: &str, now_us: i64) -> Result<Caller, ApiError> {
        let hash = blake3::hash(token.as_bytes());
        // blake3 compares hashes in constant time.
        if hash == self.token {
            return Ok(Caller::Token);
        }
        match self.stored.find(*hash.as_bytes(), now_us) {
            Some(Found::Good(lease)) => Ok(Caller::Stored(lease)),
            Some(Found::Expired { name, expires_us }) => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "SER-AUTH-005",
                format!(
                    "the token {name:?} was good until {}; `serin token new {name}` makes another",
                    to_rfc3339(expires_us)
                ),
            )),
            None => Err(unknown(
                "this token is of an earlier start, was removed, or is none; that of this start is in .serin/run.json, and `serin token list` shows those that last longer",
            )),
        }
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
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    let caller = app.gate.caller(headers, (app.now_us)())?;
    let changes_something = !matches!(*request.method(), Method::GET | Method::HEAD);
    if matches!(caller, Caller::Session) && changes_something && !is_same_origin(headers) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "SER-AUTH-002",
            "a request with a session cookie must come from a page of this server",
        ));
    }
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    Ok(match caller {
        Caller::Stored(lease) => response.map(|body| leased(body, lease)),
        Caller::Token | Caller::Session => response,
    })
}

impl FromRequestParts<App> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Owner, ApiError> {
        match parts.extensions.get() {
            Some(Caller::Token | Caller::Session) => Ok(Owner),
            Some(Caller::Stored(_)) | None => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "SER-AUTH-006",
                "a stored token can neither make nor remove tokens, nor sign a browser in; the one in .serin/run.json can (commands in that folder take it by themselves, without SERIN_TOKEN)",
            )),
        }
    }
}

fn unknown(what_to_do: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "SER-AUTH-001", what_to_do)
}

/// An answer that breaks off when the token it was given for ends.
fn leased(body: Body, lease: Lease) -> Body {
    let under_way = (body.into_data_stream(), Box::pin(lease.ended()));
    let pieces = stream::unfold(Some(under_way), |under_way| async {
        let (mut body, mut ended) = under_way?;
        tokio::select! {
            piece = body.next() => {
                let piece = piece?.map_err(BoxError::from);
                Some((piece, Some((body, ended))))
            }
            () = &mut ended => {
                Some((Err(BoxError::from("the token was removed or is past its time")), None))
            }
        }
    });
    Body::from_stream(pieces)
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
    fn a_token_is_that_of_the_start_or_a_stored_one_in_its_time() {
        let stored = StoredToken {
            hash: *blake3::hash(b"stored").as_bytes(),
            name: "ci".to_owned(),
            created_us: 0,
            expires_us: Some(10),
        };
        let gate = Gate::new("start", vec![stored], Sessions::load(None), true);
        let caller = |value: &str, now_us| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            gate.caller(&headers, now_us).map_err(|error| error.code)
        };
        assert!(matches!(caller("Bearer start", 10), Ok(Caller::Token)));
        assert!(matches!(caller("Bearer stored", 9), Ok(Caller::Stored(_))));
        for (value, code) in [
            ("Bearer stored", "SER-AUTH-005"),
            ("Bearer other", "SER-AUTH-001"),
            ("Bearer ", "SER-AUTH-001"),
            ("Basic start", "SER-AUTH-001"),
        ] {
            assert_eq!(caller(value, 10).expect_err(value), code);
        }
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
