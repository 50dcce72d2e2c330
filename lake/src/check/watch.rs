//! A reader beside a writer: what it sees of a table that only grows, look after look.

use std::collections::BTreeSet;

use super::rows::{identities, read};
use super::{CheckError, Finding};
use crate::snapshot::Snapshot;

/// I5: a snapshot shows no row both fresh and in a file, nor neither. One watch for each reader.
#[derive(Debug, Default)]
pub struct Watch {
    rows: u64,
    version: u64,
}

impl Watch {
    /// Looks at the rows of a table that have an identity, in files and fresh. `written` of them
    /// were handed over before the snapshot was taken.
    pub fn look(
        &mut self,
        snapshot: &Snapshot,
        table: &str,
        written: u64,
    ) -> Result<Vec<Finding>, CheckError> {
        let (mut rows, mut seen) = (0, BTreeSet::new());
        let mut take = |hashes: Vec<u128>| {
            rows += hashes.len() as u64;
            seen.extend(hashes);
        };
        if let Some(view) = snapshot.tables.get(table) {
            view.fresh.iter().map(identities).for_each(&mut take);
            for file in &view.files {
                for batch in read(&file.path, Some(&["service", "id"]))? {
                    take(identities(&batch?));
                }
            }
        }
        let mut findings = self.count(rows, seen.len() as u64, written);
        if snapshot.version < self.version {
            let what = format!("version {} after {}", snapshot.version, self.version);
            findings.push(Finding::new("I5", what));
        }
        self.version = snapshot.version;
        Ok(findings)
    }

    /// Judges what a reader of any kind counted: rows, and how many of them differ.
    pub fn count(&mut self, rows: u64, distinct: u64, written: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        if distinct != rows {
            let what = format!("{rows} rows were seen, and only {distinct} differ");
            findings.push(Finding::new("I5", what));
        }
        let least = self.rows.max(written);
        if rows < least {
            let what = format!("{rows} rows were seen, and there are {least} at least");
            findings.push(Finding::new("I5", what));
        }
        self.rows = rows;
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_seen_twice_or_not_at_all_is_found() {
        let mut watch = Watch::default();
        assert_eq!(watch.count(3, 3, 2), []);
        assert_eq!(watch.count(4, 3, 0).len(), 1);
        assert_eq!(watch.count(3, 3, 0).len(), 1);
        assert_eq!(watch.count(3, 3, 4).len(), 1);
        assert_eq!(watch.count(4, 4, 4), []);
    }
}
