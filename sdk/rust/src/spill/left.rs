//! Folders of spilled events that runs left behind, and how much all folders beside ours hold.
//!
//! A folder whose lock is free was left by a run that ended; whoever takes the lock sends it on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use serin_wire::ProducerId;

use super::segment::{self, Contents};
use super::{LOCK, remove_folder};

/// A folder left by a run that ended, held by us from now on.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) producer: ProducerId,
    pub(crate) folder: PathBuf,
    /// When the run began to spill.
    since: SystemTime,
    _lock: File,
}

/// The folders under `parent` whose runs have ended, oldest first.
pub(crate) fn left_under(parent: &Path) -> Vec<Left> {
    let mut left: Vec<Left> = entries(parent)
        .filter_map(|path| take_over(&path))
        .collect();
    left.sort_by(|a, b| (a.since, &a.producer).cmp(&(b.since, &b.producer)));
    left
}

fn take_over(folder: &Path) -> Option<Left> {
    let (producer, epoch) = folder.file_name()?.to_str()?.rsplit_once('.')?;
    let lock = File::open(folder.join(LOCK)).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(Left {
        producer: ProducerId {
            producer: producer.to_owned(),
            epoch: epoch.parse().ok()?,
        },
        folder: folder.to_path_buf(),
        since: lock.metadata().and_then(|lock| lock.modified()).ok()?,
        _lock: lock,
    })
}

impl Left {
    /// Its segments, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = entries(&self.folder)
            .filter(|path| is_segment(path))
            .collect();
        paths.sort();
        paths
    }

    /// What a segment has with numbers after this one.
    pub(crate) fn read(&self, path: &Path, after: u64) -> io::Result<Contents> {
        Ok(segment::read(&Bytes::from(fs::read(path)?), after))
    }

    pub(crate) fn remove(self) {
        remove_folder(&self.folder);
    }
}

/// Bytes in the segments of all folders under `parent` but one.
pub(super) fn bytes_beside(parent: &Path, own: &Path) -> u64 {
    let folders = entries(parent).filter(|folder| folder != own);
    let segments = folders.flat_map(|folder| entries(&folder).filter(|path| is_segment(path)));
    segments
        .filter_map(|path| Some(fs::metadata(path).ok()?.len()))
        .sum()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}
