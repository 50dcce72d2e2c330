//! The table of tokens that outlive a start: hashes, never a token.

use rusqlite::{Transaction, params};

use super::{Catalogue, CatalogueError};
use crate::tokens::{StoredToken, TOKEN_TOLD_US};

/// Made where it is missing: no two tokens have the same name.
pub(super) const INDEX: &str =
    "CREATE UNIQUE INDEX IF NOT EXISTS serin_token_by_name ON serin_token(name)";

impl Catalogue {
    pub(crate) fn tokens(&self) -> Result<Vec<StoredToken>, CatalogueError> {
        let mut select = self.connection.prepare_cached(
            "SELECT hash, name, created_us, expires_us FROM serin_token ORDER BY name",
        )?;
        let rows = select.query_map([], |row| {
            Ok(StoredToken {
                hash: row.get(0)?,
                name: row.get(1)?,
                created_us: row.get(2)?,
                expires_us: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// False where the name is taken by one that was not past its time by then.
    pub(crate) fn store_token(&mut self, token: &StoredToken) -> Result<bool, CatalogueError> {
        let stored = self.connection.execute(
            "INSERT INTO serin_token(hash, name, created_us, expires_us) VALUES (?, ?, ?, ?)
             ON CONFLICT(name) DO UPDATE SET hash = excluded.hash, created_us = excluded.created_us,
                 expires_us = excluded.expires_us
             WHERE serin_token.expires_us <= excluded.created_us",
            params![token.hash, token.name, token.created_us, token.expires_us],
        )?;
        Ok(stored == 1)
    }

    /// False where none has the name.
    pub(crate) fn remove_token(&mut self, name: &str) -> Result<bool, CatalogueError> {
        let removed = self
            .connection
            .execute("DELETE FROM serin_token WHERE name = ?", [name])?;
        Ok(removed == 1)
    }
}

/// Lets go of those that nobody needs to be told of any more.
pub(super) fn forget(begun: &Transaction<'_>, now_us: i64) -> Result<(), rusqlite::Error> {
    begun.execute(
        "DELETE FROM serin_token WHERE expires_us < ?",
        [now_us.saturating_sub(TOKEN_TOLD_US)],
    )?;
    Ok(())
}
