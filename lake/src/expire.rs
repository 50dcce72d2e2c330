//! What gets old goes: rows past their retention, old DuckLake snapshots, files nobody names.
//!
//! Three steps, each its own transaction and each safe to be cut off: files leave the current list;
//! snapshots past their time leave, and with them the last mention of files; files that are not
//! mentioned leave the disk once the grace has passed and no snapshot of this process holds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalogue::{Change, Retired, TableChange, Verb};
use crate::clock::{JUMP_US_MAX, SETTLE_US};
use crate::lake::{Inner, Lake, LakeError, locked};
use crate::options::Retention;
use crate::store::{FileError, FileStep};
use crate::table::{StoredFile, Table};

/// What an expiry did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Files that left the current list.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// DuckLake snapshots that can no longer be read.
    pub snapshots: usize,
    /// Files that left the disk.
    pub files_removed: usize,
    /// Whether nothing went by its age, since the clock jumped and has not settled.
    pub is_held: bool,
}

impl Lake {
    /// Lets go of what is past its time.
    pub fn expire(&self, now_us: i64) -> Result<Expired, LakeError> {
        let inner = &*self.inner;
        let _turn = locked(&inner.tidying);
        if self.is_poisoned() {
            return Err(LakeError::Poisoned);
        }
        inner.poisoned_by(inner.expire(now_us))
    }
}

impl Inner {
    fn expire(&self, now_us: i64) -> Result<Expired, LakeError> {
        let mut expired = Expired {
            is_held: !locked(&self.clock).hear(now_us),
            ..Expired::default()
        };
        if expired.is_held {
            tracing::warn!(
                now_us,
                jump_days_max = JUMP_US_MAX / SETTLE_US,
                "the clock jumped: nothing is deleted by its age until it has gone on for a day; \
                 check it"
            );
        }
        self.expire_rows(now_us, &mut expired)?;
        if !expired.is_held {
            self.expire_snapshots(now_us, &mut expired)?;
        }
        self.remove_files(now_us, &mut expired)?;
        locked(&self.catalogue).give_back_pages()?;
        Ok(expired)
    }

    fn expire_rows(&self, now_us: i64, expired: &mut Expired) -> Result<(), LakeError> {
        let oldest = (!expired.is_held).then_some(now_us);
        let mut catalogue = locked(&self.catalogue);
        let mut gone: Vec<Arc<StoredFile>> = Vec::new();
        let mut tables = Vec::new();
        for table in locked(&self.shown).tables.values() {
            let past = past_their_time(table, &self.options.retention, oldest);
            if past.is_empty() {
                continue;
            }
            let ids: Vec<u64> = past.iter().map(|stored| stored.file.id).collect();
            let mut after = table.clone();
            after.files.retain(|stored| !ids.contains(&stored.file.id));
            tables.push(TableChange {
                after,
                is_new: false,
                columns_added: Vec::new(),
                columns_widened: Vec::new(),
                files_added: Vec::new(),
                files_ended: ids,
            });
            gone.extend(past);
        }
        if tables.is_empty() {
            return Ok(());
        }
        let change = Change {
            now_us,
            tables,
            progress: None,
            verb: Verb::Delete,
            next_file_id: self.next_file_id.load(Ordering::Relaxed),
            next_catalog_id: self.next_catalog_id.load(Ordering::Relaxed),
        };
        let snapshot = catalogue.commit(&change, &*self.disk)?;
        self.show(change, snapshot, &gone);
        locked(&self.shown).changes += 1;
        expired.files = gone.len();
        expired.rows = gone.iter().map(|stored| stored.file.rows).sum();
        expired.bytes = gone.iter().map(|stored| stored.file.bytes).sum();
        Ok(())
    }

    fn expire_snapshots(&self, now_us: i64, expired: &mut Expired) -> Result<(), LakeError> {
        let keep_us = i64::try_from(self.options.snapshot_keep.as_micros()).unwrap_or(i64::MAX);
        let mut catalogue = locked(&self.catalogue);
        let (snapshots, scheduled) =
            catalogue.expire_snapshots(now_us.saturating_sub(keep_us), now_us, &*self.disk)?;
        let mut shown = locked(&self.shown);
        for (retired, _) in &mut shown.retired {
            if scheduled.contains(&retired.id) {
                retired.scheduled_us = Some(now_us);
            }
        }
        expired.snapshots = snapshots;
        Ok(())
    }

    fn remove_files(&self, now_us: i64, expired: &mut Expired) -> Result<(), LakeError> {
        let grace_us = i64::try_from(self.options.delete_grace.as_micros()).unwrap_or(i64::MAX);
        let due: Vec<Retired> = locked(&self.shown)
            .retired
            .iter()
            .filter(|(retired, holders)| {
                let is_past = retired
                    .scheduled_us
                    .is_some_and(|scheduled| now_us.saturating_sub(scheduled) >= grace_us);
                is_past && holders.strong_count() == 0
            })
            .map(|(retired, _)| retired.clone())
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        for retired in &due {
            let path = self.data_dir.join(&retired.path);
            self.disk
                .remove(&path)
                .map_err(|source| FileError::new(FileStep::Remove, &path, source))?;
            self.store.forget(&path);
        }
        let ids: Vec<u64> = due.iter().map(|retired| retired.id).collect();
        locked(&self.catalogue).forget_removed(&ids)?;
        locked(&self.shown)
            .retired
            .retain(|(retired, _)| !ids.contains(&retired.id));
        expired.files_removed = due.len();
        Ok(())
    }
}

/// Files of a table that are past their age at `now_us`, where it can be believed, and then the oldest
/// until the rest fits. The newest file stays, however large: a bound that was set lower empties no
/// table.
fn past_their_time(
    table: &Table,
    retention: &Retention,
    now_us: Option<i64>,
) -> Vec<Arc<StoredFile>> {
    let age_us = retention.age_us(&table.name);
    let oldest_us = now_us.map_or(i64::MIN, |now_us| now_us.saturating_sub(age_us));
    let (mut past, mut kept): (Vec<_>, Vec<_>) = table
        .files
        .iter()
        .cloned()
        .partition(|stored| !stored.file.is_import && stored.file.arrived_us < oldest_us);
    if let Some(bytes_max) = retention.bytes_of(&table.name) {
        kept.sort_by_key(|stored| (stored.file.arrived_us, stored.file.id));
        let mut bytes: u64 = kept.iter().map(|stored| stored.file.bytes).sum();
        kept.pop();
        for stored in kept {
            if bytes <= bytes_max {
                break;
            }
            bytes -= stored.file.bytes;
            past.push(stored);
        }
    }
    past
}
