//! Batches on disk while the bus is away: written in order, read in order, gone when acknowledged.
//!
//! A run of a producer has a folder of its own, `<spill>/<service>/<producer>.<epoch>/`, held by a
//! file lock, with segments of some megabytes in it (`segment`). A folder whose lock is free was left
//! by a run that ended (`left`); `replay` sends it on under its old numbers. All folders of a service
//! share one bound. Nothing is synced: a spill survives its process, not a power cut.

mod left;
mod segment;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use serin_wire::ProducerId;

pub(crate) use self::left::{Left, left_under};
use self::segment::{HEAD_BYTES, checksum, encode};
use crate::queue::Batch;

/// A segment is closed at this size; a whole one is removed at once when it is acknowledged.
const SEGMENT_BYTES: u64 = 8 << 20;
const LOCK: &str = "lock";

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct Spill {
    parent: PathBuf,
    folder: PathBuf,
    bytes_max: u64,
    bytes: u64,
    /// What other runs of the service have on disk, when it was last looked at.
    bytes_beside: u64,
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
            parent: parent.to_path_buf(),
            folder: parent.join(format!("{}.{}", producer.producer, producer.epoch)),
            bytes_max,
            bytes: 0,
            bytes_beside: 0,
            lock: None,
            segments: VecDeque::new(),
            is_open: false,
            next_segment: 1,
            records: VecDeque::new(),
            read: 0,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether nothing waits to be read.
    pub(crate) fn is_all_read(&self) -> bool {
        self.read == self.records.len()
    }

    /// Whether there is room for a batch beside what all runs of the service have on disk.
    pub(crate) fn has_room(&mut self, batch: &Batch) -> bool {
        let more = (HEAD_BYTES + batch.payload.len()) as u64;
        let has_room = |spill: &Spill| spill.bytes + spill.bytes_beside + more <= spill.bytes_max;
        // Looked at again where it decides: what others left may have been sent meanwhile.
        if self.segments.is_empty() || !has_room(self) {
            self.bytes_beside = left::bytes_beside(&self.parent, &self.folder);
        }
        has_room(self)
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
            // What is torn is cut off, and the next try writes there. A file that cannot be cut is
            // left, so that its end is torn and nothing is behind that.
            self.is_open = segment.file.set_len(segment.bytes).is_ok();
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
            self.bytes_beside = left::bytes_beside(&self.parent, &self.folder);
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
                let path = segment.path.display();
                tracing::warn!(%error, %path, "cannot remove a spilled segment");
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
        let found = left.read(&segment, 0).expect("readable");
        let numbers: Vec<u64> = found.whole.iter().map(|batch| batch.number).collect();
        assert_eq!((numbers, found.damaged.len()), (vec![5, 6, 7], 0));
    }

    #[test]
    fn what_was_left_first_is_sent_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for (at, name) in ["b", "c", "a"].into_iter().enumerate() {
            let run = folder.path().join(format!("{name}.0"));
            let lock = make_folder(&run).expect("a folder");
            let began = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
            lock.set_modified(began).expect("set");
        }
        let left = left_under(folder.path());
        let names: Vec<&str> = left.iter().map(|left| &*left.producer.producer).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }

    #[test]
    fn a_disk_that_refuses_gets_no_more_files() {
        let folder = tempfile::tempdir().expect("a folder");
        // In a process of its own, whose files may have 64 KiB and whose first record has not.
        let child = std::process::Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 128; exec "$0" "$@""#])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", "spill::tests::child_with_small_files"])
            .env("SERIN_TEST_SPILL", folder.path())
            .status();
        assert!(child.expect("started").success());
        let left = left_under(folder.path()).pop().expect("left");
        let [segment] = &left.segments()[..] else {
            panic!("{:?}", left.segments())
        };
        let found = left.read(segment, 0).expect("readable");
        let numbers: Vec<u64> = found.whole.iter().map(|batch| batch.number).collect();
        assert_eq!((numbers, found.damaged.len()), (vec![1, 2], 0));
    }

    /// Not a test by itself: what the test above starts.
    #[test]
    fn child_with_small_files() {
        let Some(folder) = std::env::var_os("SERIN_TEST_SPILL") else {
            return;
        };
        let mut spill = Spill::new(Path::new(&folder), &producer(), 1 << 30);
        for _ in 0..20 {
            spill.append(&batch(1, 100_000), false).expect_err("large");
        }
        spill.append(&batch(1, 30_000), false).expect("it fits");
        for _ in 0..20 {
            spill.append(&batch(2, 60_000), false).expect_err("large");
        }
        spill.append(&batch(2, 100), false).expect("it fits");
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
        // What another run holds counts as well, until it is sent.
        let other = ProducerId {
            epoch: 1,
            ..producer()
        };
        let mut other = Spill::new(folder.path(), &other, 2_500);
        assert!(!other.has_room(&batch(1, 1000)));
        spill.acknowledge(2);
        assert!(other.has_room(&batch(1, 1000)));
    }
}
