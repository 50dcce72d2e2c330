//! The table of services, a text each.

use super::{Catalogue, CatalogueError};

/// Made where it is missing, also in a catalogue from before there were services.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS serin_service(name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID";

impl Catalogue {
    pub(crate) fn services(&self) -> Result<Vec<(String, String)>, CatalogueError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT name, text FROM serin_service ORDER BY name")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn keep_service(
        &mut self,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), CatalogueError> {
        let changed = match text {
            Some(text) => self.connection.execute(
                "INSERT OR REPLACE INTO serin_service VALUES (?, ?)",
                [name, text],
            ),
            None => self
                .connection
                .execute("DELETE FROM serin_service WHERE name = ?", [name]),
        };
        changed.map(drop).map_err(CatalogueError::from)
    }
}
