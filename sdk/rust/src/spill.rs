//! Batches on disk while the bus is away: written in order, read in order, gone when acknowledged.
//!
//! A run of a producer has a folder of its own, `<spill>/<service>@<bus>/<producer>.<epoch>/`, held
//! by a file lock, with segments of some megabytes in it. A folder whose lock is free was left by a
//! run that ended; `replay` sends it on under its old numbers. Records carry a checksum, so that a
//! torn end is known. Nothing is synced: a spill survives its process, not a power cut.
//!
//! ```text
//! record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload     (little-endian)
//! ```

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use serin_wire::ProducerId;

use crate::queue::Batch;

/// A segment is closed at this size; a whole one is removed at once when it is acknowledged.
const SEGMENT_BYTES: u64 = 8 << 20;
const HEAD_BYTES: usize = 4 + 8 + 8 + 4 + 8;
const LOCK: &str = "lock";

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct Spill {
    folder: PathBuf,
    bytes_max: u64,
    bytes: u64,
    /// Made with the first record.
    lock: Option<File>,
    segments: VecDeque<Segment>,
    /// Whether the last segment takes more.
    is_open: bool,
    next_segment: u64,
    /// All records that are not acknowledged, oldest first.
    records: VecDeque<Record>,
    /// How many of them were read.
    read: usize,
}

#[derive(Debug)]
struct Segment {
    index: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    segment: u64,
    offset: u64,
    length: u32,
    checksum: u64,
    number: u64,
    events: u32,
    sealed_us: i64,
}

impl Spill {
    /// The place for a run's batches; nothing is made on disk yet.
    pub(crate) fn new(parent: &Path, producer: &ProducerId, bytes_max: u64) -> Spill {
        Spill {
            folder: parent.join(format!("{}.{}", producer.producer, producer.epoch)),
            bytes_max,
            bytes: 0,
            lock: None,
            segments: VecDeque::new(),
            is_open: false,
            next_segment: 1,
            records: VecDeque::new(),
            read: 0,
        }
    }

    /// Whether nothing waits to be read.
    pub(crate) fn is_all_read(&self) -> bool {
        self.read == self.records.len()
    }

    /// Whether there is room for a batch.
    pub(crate) fn has_room(&self, batch: &Batch) -> bool {
        self.bytes + (HEAD_BYTES + batch.payload.len()) as u64 <= self.bytes_max
    }

    /// Appends a batch. One that is in the sender's hands already is not read again from here.
    pub(crate) fn append(&mut self, batch: &Batch, is_read: bool) -> io::Result<()> {
        debug_assert!(
            !is_read || self.is_all_read(),
            "what is under way is the oldest"
        );
        let record = encode(batch);
        if self.last_segment()?.bytes + record.len() as u64 > SEGMENT_BYTES {
            self.is_open = false;
        }
        let segment = self.last_segment()?;
        if let Err(error) = segment.file.write_all_at(&record, segment.bytes) {
            // A torn record would hide what follows it from a later run.
            self.is_open = false;
            return Err(error);
        }
        let kept = Record {
            segment: segment.index,
            offset: segment.bytes + HEAD_BYTES as u64,
            length: (record.len() - HEAD_BYTES) as u32,
            checksum: checksum(&batch.payload, batch.number),
            number: batch.number,
            events: batch.events,
            sealed_us: batch.sealed_us,
        };
        segment.bytes += record.len() as u64;
        self.bytes += record.len() as u64;
        self.records.push_back(kept);
        self.read += usize::from(is_read);
        Ok(())
    }

    fn last_segment(&mut self) -> io::Result<&mut Segment> {
        if self.lock.is_none() {
            self.lock = Some(make_folder(&self.folder)?);
        }
        if !self.is_open || self.segments.is_empty() {
            let index = self.next_segment;
            let path = self.folder.join(format!("{index:08}.seg"));
            let mut options = OpenOptions::new();
            options.create_new(true).read(true).write(true).mode(0o600);
            let file = options.open(&path)?;
            self.next_segment += 1;
            self.is_open = true;
            self.segments.push_back(Segment {
                index,
                path,
                file,
                bytes: 0,
            });
        }
        self.segments
            .back_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The next batch that was not read; `Err` with its outline where the disk does not give it back.
    pub(crate) fn next(&mut self) -> Option<Result<Batch, Batch>> {
        let record = *self.records.get(self.read)?;
        self.read += 1;
        let mut batch = Batch {
            number: record.number,
            events: record.events,
            sealed_us: record.sealed_us,
            payload: Bytes::new(),
        };
        let mut payload = vec![0; record.length as usize];
        let found = self
            .segments
            .iter()
            .find(|segment| segment.index == record.segment);
        let read = found.map(|segment| segment.file.read_exact_at(&mut payload, record.offset));
        let is_whole = checksum(&payload, record.number) == record.checksum;
        if matches!(read, Some(Ok(()))) && is_whole {
            batch.payload = Bytes::from(payload);
            Some(Ok(batch))
        } else {
            Some(Err(batch))
        }
    }

    /// Forgets everything up to this number, and removes segments that are empty then.
    pub(crate) fn acknowledge(&mut self, number: u64) {
        while self
            .records
            .front()
            .is_some_and(|record| record.number <= number)
        {
            self.records.pop_front();
            self.read = self.read.saturating_sub(1);
        }
        let oldest = self.records.front().map(|record| record.segment);
        while let Some(segment) = self.segments.front()
            && oldest.is_none_or(|oldest| segment.index < oldest)
        {
            if let Err(error) = fs::remove_file(&segment.path) {
                tracing::warn!(%error, path = %segment.path.display(), "cannot remove a spilled segment");
            }
            self.bytes = self.bytes.saturating_sub(segment.bytes);
            self.segments.pop_front();
        }
    }
}

impl Drop for Spill {
    /// Removes the folder when nothing is left in it; else it waits for the next run.
    fn drop(&mut self) {
        if self.lock.is_some() && self.records.is_empty() {
            remove_folder(&self.folder);
        }
    }
}

/// A folder left by a run that ended, held by us from now on.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) producer: ProducerId,
    folder: PathBuf,
    _lock: File,
}

/// The folders under `parent` whose runs have ended, oldest first.
pub(crate) fn left_under(parent: &Path) -> Vec<Left> {
    let Ok(folders) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut left: Vec<Left> = folders
        .filter_map(|entry| take_over(&entry.ok()?.path()))
        .collect();
    left.sort_by(|a, b| a.producer.cmp(&b.producer));
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
        _lock: lock,
    })
}

impl Left {
    /// Its segments, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        paths.sort();
        paths
    }

    pub(crate) fn remove(self) {
        remove_folder(&self.folder);
    }
}

/// The batches in a segment, up to a torn end.
pub(crate) fn read_segment(path: &Path) -> io::Result<Vec<Batch>> {
    let all = Bytes::from(fs::read(path)?);
    let mut at = 0;
    let mut batches = Vec::new();
    while let Some(batch) = decode(&all, &mut at) {
        batches.push(batch);
    }
    Ok(batches)
}

fn encode(batch: &Batch) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES + batch.payload.len());
    record.extend_from_slice(&(batch.payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&batch.number.to_le_bytes());
    record.extend_from_slice(&batch.sealed_us.to_le_bytes());
    record.extend_from_slice(&batch.events.to_le_bytes());
    record.extend_from_slice(&checksum(&batch.payload, batch.number).to_le_bytes());
    record.extend_from_slice(&batch.payload);
    record
}

fn decode(all: &Bytes, at: &mut usize) -> Option<Batch> {
    let mut rest = all.get(*at..)?;
    let length = u32::from_le_bytes(take(&mut rest)?) as usize;
    let number = u64::from_le_bytes(take(&mut rest)?);
    let sealed_us = i64::from_le_bytes(take(&mut rest)?);
    let events = u32::from_le_bytes(take(&mut rest)?);
    let sum = u64::from_le_bytes(take(&mut rest)?);
    let from = *at + HEAD_BYTES;
    let payload = rest.get(..length)?;
    if number == 0 || checksum(payload, number) != sum {
        return None;
    }
    *at = from + length;
    Some(Batch {
        number,
        events,
        sealed_us,
        payload: all.slice(from..from + length),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// FNV-1a over eight bytes at a time: it must find a torn write, not an attacker.
fn checksum(payload: &[u8], number: u64) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ number;
    let (words, tail) = payload.as_chunks::<8>();
    for word in words {
        sum = (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(PRIME)
            .rotate_left(29);
    }
    for &byte in tail {
        sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    sum ^ payload.len() as u64
}

/// Makes a folder that only its owner can enter, and takes its lock.
fn make_folder(folder: &Path) -> io::Result<File> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

fn remove_folder(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "cannot remove a spill folder");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, bytes: usize) -> Batch {
        Batch {
            number,
            events: 3,
            sealed_us: 7,
            payload: Bytes::from(vec![number as u8; bytes]),
        }
    }

    fn producer() -> ProducerId {
        ProducerId {
            producer: "P".into(),
            epoch: 0,
        }
    }

    #[test]
    fn batches_come_back_in_order_and_leave_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spill = Spill::new(folder.path(), &producer(), 1 << 30);
        spill.append(&batch(1, 10), true).expect("written");
        for number in 2..=60 {
            spill
                .append(&batch(number, 400_000), false)
                .expect("written");
        }
        assert!(spill.segments.len() > 2);
        for number in 2..=60 {
            let read = spill.next().expect("one more").expect("whole");
            assert_eq!(read.number, number);
            assert_eq!(read.payload, batch(number, 400_000).payload);
            spill.acknowledge(number);
        }
        assert!(spill.next().is_none() && spill.is_all_read());
        assert_eq!(spill.bytes, 0);
        drop(spill);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_left_folder_is_found_once_its_run_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spill = Spill::new(folder.path(), &producer(), 1 << 20);
        for number in 5..=7 {
            spill.append(&batch(number, 1000), false).expect("written");
        }
        assert!(left_under(folder.path()).is_empty());
        drop(spill);
        let left = left_under(folder.path()).pop().expect("the run ended");
        assert_eq!(left.producer, producer());
        let segment = left.segments().pop().expect("one segment");
        let numbers = |path: &Path| -> Vec<u64> {
            let batches = read_segment(path).expect("readable");
            batches.iter().map(|batch| batch.number).collect()
        };
        assert_eq!(numbers(&segment), [5, 6, 7]);
        let file = OpenOptions::new()
            .write(true)
            .open(&segment)
            .expect("there");
        file.set_len(fs::metadata(&segment).expect("there").len() - 1)
            .expect("cut");
        assert_eq!(numbers(&segment), [5, 6]);
    }

    #[test]
    fn the_bound_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spill = Spill::new(folder.path(), &producer(), 2_500);
        for number in 1..=2 {
            assert!(spill.has_room(&batch(number, 1000)));
            spill.append(&batch(number, 1000), false).expect("written");
        }
        assert!(!spill.has_room(&batch(3, 1000)));
    }
}
