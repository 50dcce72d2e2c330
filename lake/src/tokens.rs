//! Tokens that outlive a start, kept beside the catalogue: of each its hash, its name and its times.
//!
//! The lake never sees a token itself, and does not know what one is good for; `ui` does.

use crate::catalogue::{Catalogue, CatalogueError};
use crate::lake::{Lake, LakeError, locked};

/// A token that is past its time is kept so long still, so that it can be told that it was one: 30 days.
pub const TOKEN_TOLD_US: i64 = 30 * 24 * 3_600 * 1_000_000;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The hash of its text.
    pub hash: [u8; 32],
    /// What people call it; no two have the same name.
    pub name: String,
    /// When it was made.
    pub created_us: i64,
    /// From when on it is past its time; `None` for never.
    pub expires_us: Option<i64>,
}

impl StoredToken {
    /// Whether it is past its time.
    pub fn is_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|expires| expires <= now_us)
    }
}

impl Lake {
    /// Every token, by name; also those past their time that are still told of.
    pub fn tokens(&self) -> Result<Vec<StoredToken>, LakeError> {
        Ok(locked(&self.inner.catalogue).tokens()?)
    }

    /// Keeps a token; durable when this returns. False where its name is taken by another one that was
    /// not past its time when this one was made.
    pub fn store_token(&self, token: &StoredToken) -> Result<bool, LakeError> {
        self.change_tokens(|catalogue| catalogue.store_token(token))
    }

    /// Forgets a token; durable when this returns. False where none has the name.
    pub fn remove_token(&self, name: &str) -> Result<bool, LakeError> {
        self.change_tokens(|catalogue| catalogue.remove_token(name))
    }

    fn change_tokens<T>(
        &self,
        change: impl FnOnce(&mut Catalogue) -> Result<T, CatalogueError>,
    ) -> Result<T, LakeError> {
        if self.is_poisoned() {
            return Err(LakeError::Poisoned);
        }
        let changed = change(&mut locked(&self.inner.catalogue));
        self.inner.poisoned_by(changed.map_err(LakeError::from))
    }
}
