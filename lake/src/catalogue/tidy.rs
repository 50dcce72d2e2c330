//! The catalogue's own housekeeping: lives of the stream, old snapshots, old marks.

use rusqlite::{Transaction, TransactionBehavior, params};

use super::load::read_position;
use super::write::{write_gap, write_position};
use super::{Catalogue, CatalogueError, commit, finish, tokens};
use crate::position::{Gap, PRODUCER_KEPT_US, Position};
use crate::store::Disk;
use crate::text;

/// Identities given by clients are remembered this long.
const SEEN_US: i64 = 24 * 3600 * 1_000_000;

impl Catalogue {
    /// Begins a new life of the stream: position and gaps in one transaction.
    pub(crate) fn start_lineage(
        &mut self,
        start: Position,
        gaps: &[Gap],
        reason: &str,
        now_us: i64,
        disk: &dyn Disk,
    ) -> Result<(), CatalogueError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let left = read_position(&begun)?;
        begun.execute(
            "INSERT INTO serin_lineage(incarnation, start, left_incarnation, left_sequence, reason, at_us)
             VALUES (?, ?, ?, ?, ?, ?)",
            params![
                start.incarnation.to_string(),
                start.sequence,
                left.incarnation.to_string(),
                left.sequence,
                reason,
                now_us
            ],
        )?;
        write_position(&begun, start, None)?;
        for gap in gaps {
            write_gap(&begun, gap, now_us)?;
        }
        finish(begun, disk)
    }

    /// When each commit was made, in their order; old ones are folded.
    pub(crate) fn commit_times(&self) -> Result<Vec<i64>, CatalogueError> {
        let mut query = self
            .connection
            .prepare("SELECT at_us FROM serin_commit ORDER BY number")?;
        let times = query.query_map([], |row| row.get(0))?;
        Ok(times.collect::<Result<_, _>>()?)
    }

    /// Forgets DuckLake snapshots older than `before_us` and what only they named. Returns how many
    /// snapshots went, and the files that are now named by nobody.
    pub(crate) fn expire_snapshots(
        &mut self,
        before_us: i64,
        now_us: i64,
        disk: &dyn Disk,
    ) -> Result<(usize, Vec<u64>), CatalogueError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let snapshots = begun.execute(
            "DELETE FROM ducklake_snapshot WHERE snapshot_time < ?
             AND snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshot)",
            [text::time(before_us)],
        )?;
        begun.execute(
            "DELETE FROM ducklake_snapshot_changes
             WHERE snapshot_id NOT IN (SELECT snapshot_id FROM ducklake_snapshot)",
            [],
        )?;
        let oldest: u64 = begun.query_row(
            "SELECT min(snapshot_id) FROM ducklake_snapshot",
            [],
            |row| row.get(0),
        )?;
        let scheduled = schedule_unnamed(&begun, oldest, now_us)?;
        begun.execute(
            "DELETE FROM ducklake_column WHERE end_snapshot <= ?",
            [oldest],
        )?;
        forget_marks(&begun, now_us)?;
        fold_commits(&begun, before_us)?;
        finish(begun, disk)?;
        Ok((snapshots, scheduled))
    }

    /// Forgets files that are gone from the disk.
    pub(crate) fn forget_removed(&mut self, ids: &[u64]) -> Result<(), CatalogueError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in ids {
            begun.execute(
                "DELETE FROM ducklake_files_scheduled_for_deletion WHERE data_file_id = ?",
                [id],
            )?;
        }
        commit(begun)
    }

    /// Makes the file as small as its content.
    pub(crate) fn give_back_pages(&mut self) -> Result<(), CatalogueError> {
        let free: u64 = self
            .connection
            .query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        // A megabyte of free pages is worth less than the writing.
        if free > 256 {
            // A step of it gives back one page.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut pages = vacuum.query([])?;
            while pages.next()?.is_some() {}
            drop(pages);
            drop(vacuum);
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// How many snapshots can be read, and how long the catalogue is in bytes.
    pub(crate) fn size(&self) -> Result<(u64, u64), CatalogueError> {
        let size = self.connection.query_row(
            "SELECT (SELECT count(*) FROM ducklake_snapshot),
                    (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(size)
    }
}

fn schedule_unnamed(
    begun: &Transaction<'_>,
    oldest: u64,
    now_us: i64,
) -> Result<Vec<u64>, rusqlite::Error> {
    let mut query =
        begun.prepare("SELECT data_file_id FROM ducklake_data_file WHERE end_snapshot <= ?")?;
    let ids: Vec<u64> = query
        .query_map([oldest], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    begun.execute(
        "INSERT INTO ducklake_files_scheduled_for_deletion
         SELECT f.data_file_id, 'main/' || t.path || f.path, 1, ?
         FROM ducklake_data_file f JOIN ducklake_table t USING (table_id)
         WHERE f.end_snapshot <= ?",
        params![text::time(now_us), oldest],
    )?;
    for id in &ids {
        for table in ["ducklake_file_column_stats", "ducklake_data_file"] {
            begun
                .prepare_cached(&format!("DELETE FROM {table} WHERE data_file_id = ?"))?
                .execute([id])?;
        }
        begun
            .prepare_cached("DELETE FROM serin_file WHERE file_id = ?")?
            .execute([id])?;
    }
    Ok(ids)
}

fn forget_marks(begun: &Transaction<'_>, now_us: i64) -> Result<(), rusqlite::Error> {
    begun.execute(
        "DELETE FROM serin_seen WHERE at_us < ?",
        [now_us.saturating_sub(SEEN_US)],
    )?;
    begun.execute(
        "DELETE FROM serin_producer WHERE heard_us < ? AND NOT is_import",
        [now_us.saturating_sub(PRODUCER_KEPT_US)],
    )?;
    tokens::forget(begun, now_us)
}

/// Makes one row of all old commits of a life that follow one another; nothing is lost but detail.
fn fold_commits(begun: &Transaction<'_>, before_us: i64) -> Result<(), rusqlite::Error> {
    // A commit belongs to the same run as the one before it when it starts where that one ended.
    begun.execute_batch(&format!(
        "CREATE TEMP TABLE folding AS
         WITH old AS (SELECT * FROM serin_commit WHERE at_us < {before_us}),
         broken AS (SELECT *, CASE WHEN
                 lag(to_sequence) OVER w = from_sequence AND lag(incarnation) OVER w = incarnation
                 THEN 0 ELSE 1 END AS begins FROM old WINDOW w AS (ORDER BY number)),
         runs AS (SELECT *, sum(begins) OVER (ORDER BY number) AS run FROM broken)
         SELECT max(number) AS number, max(snapshot_id) AS snapshot_id, incarnation,
                min(from_sequence) AS from_sequence, max(to_sequence) AS to_sequence,
                sum(rows) AS rows, sum(gap) AS gap, sum(messages) AS messages,
                sum(commits) AS commits, max(at_us) AS at_us
         FROM runs GROUP BY run, incarnation HAVING count(*) > 1;
         DELETE FROM serin_commit WHERE at_us < {before_us} AND EXISTS (
             SELECT 1 FROM folding f WHERE f.incarnation = serin_commit.incarnation
             AND serin_commit.from_sequence >= f.from_sequence
             AND serin_commit.to_sequence <= f.to_sequence AND serin_commit.number <= f.number);
         INSERT INTO serin_commit(number, snapshot_id, incarnation, from_sequence, to_sequence, rows, gap, messages, commits, at_us)
         SELECT number, snapshot_id, incarnation, from_sequence, to_sequence, rows, gap, messages, commits, at_us FROM folding;
         DROP TABLE folding;"
    ))
}
