//! Positions and commits: what of the bus is in, in which order, and what the bus may give up.

use std::collections::BTreeMap;

use super::{Audit, CheckError, Finding};
use crate::catalogue::load;
use crate::position::Position;

impl Audit {
    /// I3: committed ranges follow one another without hole or overlap, and end at the position.
    pub fn commits_are_contiguous(&self) -> Result<Vec<Finding>, CheckError> {
        let mut starts = self
            .connection
            .prepare("SELECT incarnation, start FROM serin_lineage ORDER BY number")?;
        let starts: Vec<(String, u64)> = starts
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut commits = self.connection.prepare(
            "SELECT number, incarnation, from_sequence, to_sequence FROM serin_commit ORDER BY number",
        )?;
        let mut rows = commits.query([])?;
        let mut findings = Vec::new();
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let incarnation: String = row.get(1)?;
            let (from, to): (u64, u64) = (row.get(2)?, row.get(3)?);
            let expected = reached.get(&incarnation).copied();
            let begins = || {
                starts
                    .iter()
                    .any(|start| *start == (incarnation.clone(), from))
            };
            let follows = expected == Some(from) || begins();
            if !follows || to < from {
                let what = format!(
                    "commit {number} covers {from}..{to} of {incarnation}, but the one before ended at {expected:?}"
                );
                findings.push(Finding::new("I3", what));
            }
            reached.insert(incarnation, to);
        }
        let position = self.loaded.position;
        if let Some(end) = load::reached(&self.connection)?
            && end != position
        {
            let what = format!("commits end at {end}, but the position is {position}");
            findings.push(Finding::new("I3", what));
        }
        Ok(findings)
    }

    /// I4: of every commit that says so, messages and gaps fill the range.
    pub fn commits_account(&self) -> Result<Vec<Finding>, CheckError> {
        let mut query = self.connection.prepare(
            "SELECT number, to_sequence - from_sequence, messages, gap FROM serin_commit
             WHERE messages IS NOT NULL AND messages + gap <> to_sequence - from_sequence",
        )?;
        let findings = query.query_map([], |row| {
            let (number, range): (u64, u64) = (row.get(0)?, row.get(1)?);
            let (messages, gap): (u64, u64) = (row.get(2)?, row.get(3)?);
            let what = format!(
                "commit {number} covers {range} messages, but {messages} were read and {gap} are missing"
            );
            Ok(Finding::new("I4", what))
        })?;
        Ok(findings.collect::<Result<_, _>>()?)
    }

    /// I6: the bus gave up, by purge or acknowledgement, only what is in. `given_up` is the last
    /// message that it let go; ask it before this audit is opened, since the position rises.
    pub fn bus_gave_up_only_what_is_in(&self, given_up: Position) -> Vec<Finding> {
        let position = self.loaded.position;
        let is_same_life = given_up.incarnation == position.incarnation;
        let is_early = is_same_life && given_up.sequence > position.sequence;
        let what =
            || format!("the bus gave up messages to {given_up}, but the position is {position}");
        is_early
            .then(|| Finding::new("I6", what()))
            .into_iter()
            .collect()
    }

    /// I7: the position never falls within an incarnation. `before` is where it was at an earlier
    /// moment.
    pub fn position_never_falls(&self, before: Position) -> Vec<Finding> {
        let position = self.loaded.position;
        let is_same_life = before.incarnation == position.incarnation;
        let has_fallen = is_same_life && position.sequence < before.sequence;
        has_fallen
            .then(|| {
                Finding::new(
                    "I7",
                    format!("the position fell from {before} to {position}"),
                )
            })
            .into_iter()
            .collect()
    }
}
