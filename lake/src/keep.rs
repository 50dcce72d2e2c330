//! What the lake keeps besides rows: lives of the stream, and numbers about itself.

use std::sync::Arc;

use crate::checked::CheckedStore;
use crate::lake::{Lake, LakeError, locked};
use crate::position::{Gap, Position};
use crate::recover::{Damage, Damaged};
use crate::snapshot::DataFile;
use crate::sums::{BLOCK_BYTES, Sums};

/// How much the lake holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LakeTotals {
    /// Tables.
    pub tables: u64,
    /// Current files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that wait to leave the disk.
    pub retired_files: u64,
    /// DuckLake snapshots that can be read.
    pub snapshots: u64,
    /// Bytes of the catalogue.
    pub catalogue_bytes: u64,
    /// When something was committed or expired last; `None` before the first time.
    pub changed_us: Option<i64>,
}

impl Lake {
    /// Begins another life of the stream: the first one, or after the bus was wiped or lost its
    /// tail. Position, what is missing and why become durable together; the next flush starts at
    /// `start`. Flush before calling this.
    pub fn start_lineage(
        &self,
        start: Position,
        gaps: &[Gap],
        reason: &'static str,
        now_us: i64,
    ) -> Result<(), LakeError> {
        let inner = &*self.inner;
        let _turn = locked(&inner.flushing);
        if self.is_poisoned() {
            return Err(LakeError::Poisoned);
        }
        let mut catalogue = locked(&inner.catalogue);
        let started = catalogue.start_lineage(start, gaps, reason, now_us, &*inner.disk);
        inner.poisoned_by(started.map_err(LakeError::from))?;
        locked(&inner.shown).position = start;
        Ok(())
    }

    /// How much the lake holds.
    pub fn totals(&self) -> Result<LakeTotals, LakeError> {
        let (snapshots, catalogue_bytes) = locked(&self.inner.catalogue).size()?;
        let shown = locked(&self.inner.shown);
        let mut totals = LakeTotals {
            tables: shown.tables.len() as u64,
            retired_files: shown.retired.len() as u64,
            snapshots,
            catalogue_bytes,
            changed_us: locked(&self.inner.clock).last_us(),
            ..LakeTotals::default()
        };
        for stored in shown.tables.values().flat_map(|table| &table.files) {
            totals.files += 1;
            totals.rows += stored.file.rows;
            totals.bytes += stored.file.bytes;
        }
        Ok(totals)
    }

    /// The store through which queries read files; it checks what it reads.
    pub fn store(&self) -> Arc<CheckedStore> {
        self.inner.store.clone()
    }

    /// The checksums of a current file, for a store in another process.
    pub fn sums(&self, file: &DataFile) -> Option<Arc<Sums>> {
        let shown = locked(&self.inner.shown);
        let mut files = shown.tables.values().flat_map(|table| &table.files);
        files
            .find(|stored| stored.file.id == file.id)
            .map(|stored| stored.sums.clone())
    }

    /// Reads every current file and compares all its blocks; takes as long as reading them takes.
    pub fn verify(&self) -> Vec<Damaged> {
        let tables: Vec<_> = locked(&self.inner.shown).tables.values().cloned().collect();
        let mut damaged = Vec::new();
        for table in &tables {
            for stored in &table.files {
                if let Some(why) = first_damage(&stored.file, &stored.sums) {
                    damaged.push(Damaged {
                        table: table.name.clone(),
                        path: stored.file.path.clone(),
                        rows: stored.file.rows,
                        why,
                    });
                }
            }
        }
        damaged
    }
}

/// The first thing that is wrong with a file.
pub(crate) fn first_damage(file: &DataFile, sums: &Sums) -> Option<Damage> {
    use std::os::unix::fs::FileExt;
    let Ok(opened) = std::fs::File::open(&file.path) else {
        return Some(Damage::Missing);
    };
    let Ok(found) = opened.metadata().map(|metadata| metadata.len()) else {
        return Some(Damage::Missing);
    };
    let expected = file.bytes;
    if found != expected {
        return Some(Damage::Length { found, expected });
    }
    let mut buffer = vec![0; BLOCK_BYTES as usize];
    for index in 0..sums.blocks.len() {
        let start = index as u64 * BLOCK_BYTES;
        let length = BLOCK_BYTES.min(expected.saturating_sub(start)) as usize;
        let part = &mut buffer[..length];
        if opened.read_exact_at(part, start).is_err() || !sums.block_is(index, part) {
            return Some(Damage::Block { index });
        }
    }
    None
}
