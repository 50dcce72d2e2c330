//! What the catalogue remembers that is no fault of it and that people should know: events that were lost
//! on the bus, and commits of a clock that was ahead.

use super::{Audit, CheckError};

/// Messages that were lost before they were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many messages, each with one event or more.
    pub messages: u64,
    /// Why, as far as known, of the last of them: `purged`, `regressed`, `wiped`.
    pub reason: String,
    /// When the last of them were missed, microseconds since 1970.
    pub at_us: i64,
}

impl Audit {
    /// What was lost since the lake began; `None` where nothing was.
    pub fn lost(&self) -> Result<Option<Lost>, CheckError> {
        let mut query = self.connection.prepare(
            "SELECT (SELECT sum(last - first + 1) FROM serin_gap), reason, at_us FROM serin_gap
             ORDER BY number DESC LIMIT 1",
        )?;
        let mut rows = query.query([])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Lost {
            messages: row.get(0)?,
            reason: row.get(1)?,
            at_us: row.get(2)?,
        }))
    }

    /// The latest time that a commit was made at, by the clock as it was then; `None` before the first.
    pub fn last_commit_us(&self) -> Result<Option<i64>, CheckError> {
        let mut query = self
            .connection
            .prepare("SELECT max(at_us) FROM serin_commit")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }
}
