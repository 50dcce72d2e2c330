//! Tokens that outlive a start: which there are, held in memory so that no request waits for the lake.
//!
//! A change is durable in the lake before it counts here. Only hashes are kept, and a token that is
//! removed or past its time takes with it what it opened, see [`Lease`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use serin_lake::{Lake, LakeError, StoredToken, TOKEN_TOLD_US};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// Tokens at one moment, with those past their time that are still told of.
const TOKENS_MAX: usize = 1_000;

/// The tokens of this folder.
#[derive(Debug)]
pub(crate) struct StoredTokens {
    known: RwLock<BTreeMap<[u8; 32], Known>>,
    /// Held through a change, so that lake and memory change in the same order.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    token: StoredToken,
    removed: CancellationToken,
}

/// What is found under a hash.
#[derive(Debug)]
pub(crate) enum Found {
    Good(Lease),
    Expired { name: String, expires_us: i64 },
}

/// How long a token is good.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    left: Option<Duration>,
    removed: CancellationToken,
}

impl Lease {
    /// Returns once the token is removed or past its time.
    pub(crate) async fn ended(self) {
        let Some(left) = self.left else {
            return self.removed.cancelled().await;
        };
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = self.removed.cancelled() => {}
        }
    }
}

impl StoredTokens {
    pub(crate) fn new(tokens: Vec<StoredToken>) -> StoredTokens {
        let known = tokens.into_iter().map(Known::entry).collect();
        StoredTokens {
            known: RwLock::new(known),
            changing: Mutex::default(),
        }
    }

    /// What is known of a token by its hash.
    pub(crate) fn find(&self, hash: [u8; 32], now_us: i64) -> Option<Found> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Known { token, removed } = known.get(&hash)?;
        Some(match token.expires_us {
            Some(expires_us) if expires_us <= now_us => Found::Expired {
                name: token.name.clone(),
                expires_us,
            },
            expires_us => Found::Good(Lease {
                left: expires_us
                    .map(|expires_us| Duration::from_micros(expires_us.abs_diff(now_us))),
                removed: removed.clone(),
            }),
        })
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<StoredToken> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<_> = known.values().map(|known| known.token.clone()).collect();
        tokens.sort_by(|one, other| one.name.cmp(&other.name));
        tokens
    }

    /// Keeps one; waits for the disk.
    pub(crate) fn keep(&self, lake: &Lake, token: StoredToken) -> Result<(), ApiError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget(|old| {
            let told_us = old.expires_us.map(|at| at.saturating_add(TOKEN_TOLD_US));
            told_us.is_some_and(|told_us| told_us < token.created_us)
        });
        let conflict = |why| ApiError::new(StatusCode::CONFLICT, "SER-HTTP-008", why);
        if self.list().len() >= TOKENS_MAX {
            let why = format!("there are {TOKENS_MAX} tokens, and no more are kept; remove one");
            return Err(conflict(why));
        }
        let name = &token.name;
        if !lake.store_token(&token).map_err(failed)? {
            let why = format!(
                "there is a token {name:?} already; remove it with `serin token rm {name}`, or choose another name"
            );
            return Err(conflict(why));
        }
        self.forget(|old| old.name == token.name);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.extend([Known::entry(token)]);
        Ok(())
    }

    /// Forgets one, which is refused from now on; waits for the disk.
    pub(crate) fn remove(&self, lake: &Lake, name: &str) -> Result<(), ApiError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let was_there = lake.remove_token(name).map_err(failed)?;
        self.forget(|old| old.name == name);
        match was_there {
            true => Ok(()),
            false => Err(ApiError::not_found(format!(
                "there is no token {name:?}; `serin token list` shows those there are"
            ))),
        }
    }

    fn forget(&self, is_gone: impl Fn(&StoredToken) -> bool) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| {
            let is_gone = is_gone(&known.token);
            if is_gone {
                known.removed.cancel();
            }
            !is_gone
        });
    }
}

impl Known {
    fn entry(token: StoredToken) -> ([u8; 32], Known) {
        let removed = CancellationToken::new();
        (token.hash, Known { token, removed })
    }
}

fn failed(error: LakeError) -> ApiError {
    ApiError::internal(format!("cannot keep the tokens: {error}"))
}

#[cfg(test)]
mod tests {
    use serin_lake::LakeOptions;

    use super::*;

    fn lake(folder: &tempfile::TempDir) -> Lake {
        let options = LakeOptions {
            dir: folder.path().join("lake"),
            ..LakeOptions::default()
        };
        Lake::open(options, 0).expect("a lake").0
    }

    fn token(number: u64, created_us: i64, expires_us: Option<i64>) -> StoredToken {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        StoredToken {
            hash,
            name: format!("t{number}"),
            created_us,
            expires_us,
        }
    }

    #[tokio::test]
    async fn what_a_token_opened_ends_when_it_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = lake(&folder);
        let tokens = StoredTokens::new(lake.tokens().expect("read"));
        let one = token(1, 0, None);
        tokens.keep(&lake, one.clone()).expect("kept");
        let Some(Found::Good(lease)) = tokens.find(one.hash, i64::MAX) else {
            panic!("it is good for ever");
        };
        let mut ended = std::pin::pin!(lease.ended());
        assert!(futures::poll!(&mut ended).is_pending());
        tokens.remove(&lake, &one.name).expect("removed");
        ended.await;
        assert!(tokens.find(one.hash, 0).is_none());
        let error = tokens.remove(&lake, &one.name).expect_err("it is gone");
        assert_eq!(error.status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn one_past_its_time_is_told_apart_and_its_name_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = lake(&folder);
        let tokens = StoredTokens::new(lake.tokens().expect("read"));
        let one = token(1, 0, Some(10));
        tokens.keep(&lake, one.clone()).expect("kept");
        assert!(matches!(tokens.find(one.hash, 9), Some(Found::Good(_))));
        let found = tokens.find(one.hash, 10);
        assert!(
            matches!(&found, Some(Found::Expired { name, expires_us: 10 }) if *name == one.name),
            "{found:?}"
        );
        let mut second = token(2, 9, None);
        second.name.clone_from(&one.name);
        let error = tokens.keep(&lake, second.clone()).expect_err("it is taken");
        assert_eq!(error.status, StatusCode::CONFLICT);
        assert!(tokens.find(second.hash, 9).is_none(), "it was not kept");
        second.created_us = 10;
        tokens.keep(&lake, second.clone()).expect("it is free");
        assert!(tokens.find(one.hash, 10).is_none());
        assert_eq!(tokens.list(), lake.tokens().expect("read"));
    }

    #[test]
    fn there_are_not_more_than_a_thousand() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = lake(&folder);
        let many = 0..TOKENS_MAX as u64;
        let tokens = StoredTokens::new(many.map(|n| token(n, 0, Some(10))).collect());
        let one = |created_us| token(TOKENS_MAX as u64, created_us, None);
        let error = tokens.keep(&lake, one(10)).expect_err("there is no room");
        assert_eq!(error.status, StatusCode::CONFLICT);
        let long_past_us = 11 + TOKEN_TOLD_US;
        tokens.keep(&lake, one(long_past_us)).expect("there is now");
        assert_eq!(tokens.list(), [one(long_past_us)]);
    }
}
