//! The few steps by which files become durable, and nothing else that touches the disk for writing.
//!
//! A file is written aside, synced, verified, renamed, and its folder synced; only then may the
//! catalogue name it. A failed sync is never tried again: the kernel forgets the error and the next
//! sync lies. [`Disk`] is a trait so that tests can let the n-th step fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The steps. Implemented by [`RealDisk`], and by a failing one in tests.
pub trait Disk: Send + Sync {
    /// Makes a folder whose parent exists; it may exist already.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes or empties a file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>>;
    /// Gives a file its final name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file; it may be gone already.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Passes a moment of the catalogue's transaction; the real disk does nothing here.
    fn pass(&self, moment: Moment) -> io::Result<()> {
        let _ = moment;
        Ok(())
    }
}

/// A file being written.
pub trait FileOut: Write + Send {
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where a commit can be cut off besides the steps on files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// All files are durable, the transaction has not begun.
    FilesDurable,
    /// All statements ran, the transaction is not committed.
    BeforeCommit,
    /// The transaction is durable, readers have not been told.
    AfterCommit,
}

/// A step that failed.
#[derive(Debug, Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub step: FileStep,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// What was tried on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStep {
    /// Making a folder.
    CreateDir,
    /// Making a file.
    Create,
    /// Writing.
    Write,
    /// Syncing a file.
    Sync,
    /// Reading back.
    Read,
    /// Renaming.
    Rename,
    /// Syncing a folder.
    SyncDir,
    /// Removing.
    Remove,
}

impl std::fmt::Display for FileStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileStep::CreateDir => "create folder",
            FileStep::Create => "create",
            FileStep::Write => "write",
            FileStep::Sync => "sync",
            FileStep::Read => "read",
            FileStep::Rename => "rename",
            FileStep::SyncDir => "sync folder",
            FileStep::Remove => "remove",
        })
    }
}

impl FileError {
    /// A step that failed.
    pub fn new(step: FileStep, path: &Path, source: io::Error) -> FileError {
        FileError {
            step,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether nobody knows any more what is on disk, so that the process must end and recover.
    pub fn is_durability(&self) -> bool {
        matches!(self.step, FileStep::Sync | FileStep::SyncDir)
    }
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile(File);

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileOut for RealFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileOut>> {
        Ok(Box::new(RealFile(File::create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Makes `path` and whatever is missing above it, and makes the new names durable.
pub(crate) fn ensure_dir(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    ensure_dir(disk, parent)?;
    disk.create_dir(path)
        .map_err(|source| FileError::new(FileStep::CreateDir, path, source))?;
    disk.sync_dir(parent)
        .map_err(|source| FileError::new(FileStep::SyncDir, parent, source))
}
