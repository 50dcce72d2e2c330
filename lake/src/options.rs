//! How a lake is set up: where it rests, how long rows stay, how large files grow.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a lake needs to know; the server's configuration fills it.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The folder of catalogue and files, `DIR/.serin/lake`.
    pub dir: PathBuf,
    /// How long rows stay.
    pub retention: Retention,
    /// How long older DuckLake snapshots can still be read by `AT (VERSION => …)`. DuckDB looks a
    /// snapshot up in several steps, so this must be longer than its slowest look at the catalogue.
    pub snapshot_keep: Duration,
    /// How long a file that no snapshot names stays on disk for readers outside this process.
    pub delete_grace: Duration,
    /// Compaction does not touch a file this large, and aims at it.
    pub target_file_bytes: u64,
    /// So many files of like size are merged at once. Eight keeps a table of ten million rows at
    /// about thirty files while each row is written at most five times.
    pub compact_fan_in: usize,
    /// Files whose newest rows arrived further apart than this are not merged, because a file
    /// expires as a whole.
    pub compact_span: Duration,
    /// Rows in a row group at most.
    pub row_group_rows: usize,
    /// Encoded bytes in a row group at most.
    pub row_group_bytes: usize,
    /// Threads that encode tables of one flush side by side.
    pub encoders: usize,
}

/// How long rows stay; what goes first is what arrived first.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Days since arrival. Imported rows do not expire by age.
    pub raw_days: u32,
    /// Other numbers of days, by table.
    pub raw_days_by_table: BTreeMap<String, u32>,
    /// Bytes on disk a table may have, if there is a limit.
    pub bytes_max: Option<u64>,
    /// Other limits in bytes, by table.
    pub bytes_max_by_table: BTreeMap<String, u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            raw_days: 30,
            raw_days_by_table: BTreeMap::new(),
            bytes_max: None,
            // Whoever floods the bus with what cannot be taken must not fill the disk.
            bytes_max_by_table: BTreeMap::from([("refused".to_owned(), 64 << 20)]),
        }
    }
}

impl Default for LakeOptions {
    fn default() -> Self {
        LakeOptions {
            dir: PathBuf::from(".serin/lake"),
            retention: Retention::default(),
            snapshot_keep: Duration::from_secs(3600),
            delete_grace: Duration::from_secs(600),
            target_file_bytes: 128 << 20,
            compact_fan_in: 8,
            compact_span: Duration::from_secs(24 * 3600),
            row_group_rows: 1 << 20,
            row_group_bytes: 128 << 20,
            encoders: 2,
        }
    }
}

impl LakeOptions {
    /// How large files of `table` become by merging: where the table may keep few bytes, a small part of
    /// them, since whole files go once it has more.
    pub(crate) fn merged_bytes_max(&self, table: &str) -> u64 {
        let part = self.retention.bytes_of(table).map(|bytes| bytes / 8);
        part.map_or(self.target_file_bytes, |part| {
            part.min(self.target_file_bytes)
        })
    }
}

impl Retention {
    /// Microseconds that rows of `table` stay.
    pub(crate) fn age_us(&self, table: &str) -> i64 {
        let days = self.raw_days_by_table.get(table).unwrap_or(&self.raw_days);
        i64::from(*days) * 24 * 3600 * 1_000_000
    }

    /// Bytes that `table` may keep.
    pub(crate) fn bytes_of(&self, table: &str) -> Option<u64> {
        self.bytes_max_by_table
            .get(table)
            .copied()
            .or(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_events_have_a_bound_and_others_do_not() {
        let retention = Retention::default();
        assert_eq!(retention.bytes_of("refused"), Some(64 << 20));
        assert_eq!(retention.bytes_of("order.paid"), None);
    }
}
