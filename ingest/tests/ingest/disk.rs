//! A disk whose n-th step fails, as if the process had been killed there; one that cannot sync; and
//! one that makes its callers wait.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serin_lake::store::{Disk, FileOut, Moment, RealDisk};

/// Fails its n-th step and every later one: what is left on disk is what a crash leaves.
pub(crate) struct Failing {
    left: Arc<AtomicI64>,
}

struct FailingFile {
    inner: Box<dyn FileOut>,
    left: Arc<AtomicI64>,
}

fn step(left: &AtomicI64) -> io::Result<()> {
    match left.fetch_sub(1, Ordering::SeqCst) {
        n if n <= 0 => Err(io::Error::other("cut off")),
        _ => Ok(()),
    }
}

impl Failing {
    pub(crate) fn after(steps: i64) -> Failing {
        Failing {
            left: Arc::new(AtomicI64::new(steps)),
        }
    }

    /// Whether a step was refused.
    pub(crate) fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

impl io::Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl FileOut for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        step(&self.left)?;
        self.inner.sync()
    }
}

impl Disk for Failing {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>> {
        step(&self.left)?;
        Ok(Box::new(FailingFile {
            inner: RealDisk.create(path)?,
            left: Arc::clone(&self.left),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.sync_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.remove(path)
    }

    fn pass(&self, _: Moment) -> io::Result<()> {
        step(&self.left)
    }
}

/// What a [`Syncless`] disk refuses to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    File,
    Folder,
}

/// A disk whose syncs fail from [`Syncless::break_it`] on, and everything else works.
pub(crate) struct Syncless {
    what: Sync,
    is_broken: Arc<AtomicBool>,
}

struct SynclessFile {
    inner: Box<dyn FileOut>,
    is_broken: Arc<AtomicBool>,
}

impl Syncless {
    pub(crate) fn new(what: Sync) -> Syncless {
        Syncless {
            what,
            is_broken: Arc::default(),
        }
    }

    pub(crate) fn break_it(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }
}

fn sync_unless(is_broken: &AtomicBool) -> io::Result<()> {
    match is_broken.load(Ordering::SeqCst) {
        true => Err(io::Error::other("the disk lost its writes")),
        false => Ok(()),
    }
}

impl io::Write for SynclessFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl FileOut for SynclessFile {
    fn sync(&mut self) -> io::Result<()> {
        sync_unless(&self.is_broken)?;
        self.inner.sync()
    }
}

impl Disk for Syncless {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>> {
        let inner = RealDisk.create(path)?;
        let is_broken = match self.what {
            Sync::File => Arc::clone(&self.is_broken),
            Sync::Folder => Arc::default(),
        };
        Ok(Box::new(SynclessFile { inner, is_broken }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.what == Sync::Folder {
            sync_unless(&self.is_broken)?;
        }
        RealDisk.sync_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}

/// A disk that makes no file between [`Stalling::stall`] and [`Stalling::go_on`].
#[derive(Default)]
pub(crate) struct Stalling {
    is_stalled: Mutex<bool>,
    changed: Condvar,
}

impl Stalling {
    pub(crate) fn stall(&self) {
        *self.is_stalled.lock().expect("no panic") = true;
    }

    pub(crate) fn go_on(&self) {
        *self.is_stalled.lock().expect("no panic") = false;
        self.changed.notify_all();
    }
}

impl Disk for Stalling {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>> {
        let stalled = self.is_stalled.lock().expect("no panic");
        let waited = self.changed.wait_while(stalled, |is_stalled| *is_stalled);
        drop(waited.expect("no panic"));
        RealDisk.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}
