//! Tokens that outlive a start: made, listed, removed. A token itself leaves once, in the answer to
//! the request that made it.
//!
//! Making and removing is for the owner, who has this start's token or a session: a stored token can
//! neither outlive its time by making another nor sign a browser in.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use serde::Deserialize;
use serin_lake::StoredToken;
use serin_wire::time::to_rfc3339;
use serin_yaml::parse_span;

use super::auth::Owner;
use super::dto::{DoneBody, MadeTokenBody, TokenBody, TokensBody};
use super::error::ApiError;
use super::{App, done};

/// How long a token lasts of which nothing else is said: a quarter of a year.
const LASTS: &str = "90d";
/// The longest time that is said as a time: ten years; people who mean for ever shall say so.
const LASTS_US_MAX: i64 = 10 * 365 * 24 * 3_600 * 1_000_000;
/// What a token's text begins with, so that it is known for what it is where it should not be.
const PREFIX: &str = "serin_";

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
}

pub(crate) async fn list(State(app): State<App>) -> Json<TokensBody> {
    let now_us = (app.now_us)();
    let tokens = app.gate.stored.list().into_iter().map(|token| TokenBody {
        is_expired: token.is_expired(now_us),
        created: to_rfc3339(token.created_us),
        expires: token.expires_us.map(to_rfc3339),
        name: token.name,
    });
    Json(TokensBody {
        tokens: tokens.collect(),
    })
}

pub(crate) async fn make(
    State(app): State<App>,
    _: Owner,
    body: Bytes,
) -> Result<Json<MadeTokenBody>, ApiError> {
    let asked: NewToken = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad(format!(
            "the body must be {{\"name\": …, \"for\": \"{LASTS}\"}}: {error}"
        ))
    })?;
    let name = asked.name;
    check_name(&name)?;
    let created_us = (app.now_us)();
    let lasts_us = lasts(asked.lasts.as_deref().unwrap_or(LASTS))?;
    let expires_us = lasts_us.map(|lasts_us| created_us.saturating_add(lasts_us));
    let text = blake3::Hash::from_bytes((app.random)()).to_hex();
    let token = format!("{PREFIX}{text}");
    let stored = StoredToken {
        hash: *blake3::hash(token.as_bytes()).as_bytes(),
        name: name.clone(),
        created_us,
        expires_us,
    };
    change(&app, |app| app.gate.stored.keep(&app.lake, stored)).await?;
    Ok(Json(MadeTokenBody {
        name,
        token,
        created: to_rfc3339(created_us),
        expires: expires_us.map(to_rfc3339),
    }))
}

pub(crate) async fn remove(
    State(app): State<App>,
    _: Owner,
    Path(name): Path<String>,
) -> Result<Json<DoneBody>, ApiError> {
    change(&app, move |app| app.gate.stored.remove(&app.lake, &name)).await?;
    Ok(done())
}

/// Changes what is kept beside the requests, and to the end also where the client goes away.
async fn change(
    app: &App,
    work: impl FnOnce(&App) -> Result<(), ApiError> + Send + 'static,
) -> Result<(), ApiError> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || work(&app))
        .await
        .map_err(|error| ApiError::internal(format!("keeping the tokens broke: {error}")))?
}

/// Tokens are named as services are.
fn check_name(name: &str) -> Result<(), ApiError> {
    serin_wire::name::check_service(name).map_err(|_| {
        ApiError::bad(format!(
            "{name:?} cannot be the name of a token: write 1 to 32 characters a-z, 0-9 and '-', the first of them no '-'"
        ))
    })
}

/// How long a token lasts; `None` for ever.
fn lasts(text: &str) -> Result<Option<i64>, ApiError> {
    match (text, parse_span(text)) {
        ("never", _) => Ok(None),
        (_, Some(span_us)) if span_us <= LASTS_US_MAX => Ok(Some(span_us)),
        (_, Some(_)) => Err(ApiError::bad(format!(
            "a token lasts 3650d at most, not {text:?}; write never for one without an end"
        ))),
        (_, None) => Err(ApiError::bad(format!(
            "{text:?} is no length of time; write 12h, 30d or 1w, or never for a token without an end"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_as_long_as_is_said() {
        const DAY_US: i64 = 24 * 3_600 * 1_000_000;
        assert_eq!(lasts(LASTS), Ok(Some(90 * DAY_US)));
        assert_eq!(lasts("3650d"), Ok(Some(LASTS_US_MAX)));
        assert_eq!(lasts("never"), Ok(None));
        for (wrong, what) in [
            ("3651d", "3650d at most"),
            ("0d", "no length of time"),
            ("", "no length of time"),
            ("90", "no length of time"),
            ("-1d", "no length of time"),
        ] {
            let error = lasts(wrong).expect_err(wrong);
            assert!(error.message.contains(what), "{wrong}: {}", error.message);
        }
    }

    #[test]
    fn a_name_is_one_word_of_a_path() {
        for good in ["ci", "a-b-9", "a2345678901234567890123456789012"] {
            check_name(good).expect(good);
        }
        for bad in [
            "",
            "-a",
            "a b",
            "a/b",
            "..",
            "Ci",
            "a23456789012345678901234567890123",
        ] {
            check_name(bad).expect_err(bad);
        }
    }
}
