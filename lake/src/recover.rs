//! What a start does before anything is read: removes leftovers, and checks what the catalogue names.
//!
//! A file is a leftover when it is written aside, or when the catalogue does not name it: its
//! commit did not happen. Doing this twice changes nothing the second time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::catalogue::Loaded;
use crate::encode::footer_bytes;
use crate::position::{Gap, Position, ProducerMark};
use crate::store::{Disk, FileError, FileStep};

/// What a start found.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// How far the files reach on the bus; read on from the next message.
    pub position: Position,
    /// When the bus took the message at the position, where that is known.
    pub taken_us: Option<i64>,
    /// All producers heard of.
    pub producers: Vec<ProducerMark>,
    /// Identities given by clients, with their time of arrival.
    pub seen: Vec<(u128, i64)>,
    /// All gaps there ever were.
    pub gaps: Vec<Gap>,
    /// Leftovers of commits that did not happen; they are removed.
    pub removed: Vec<PathBuf>,
    /// Files the catalogue names that are missing or cut; queries that need them fail.
    pub damaged: Vec<Damaged>,
}

/// A file that is not what the catalogue says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The table.
    pub table: String,
    /// The file.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// What is wrong with it.
    pub why: Damage,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not there, or cannot be read.
    Missing,
    /// Its length is another.
    Length {
        /// As found.
        found: u64,
        /// As written.
        expected: u64,
    },
    /// Its end is not that of a Parquet file, or its footer has another length.
    Footer,
    /// A block has another checksum.
    Block {
        /// Which block of [`crate::sums::BLOCK_BYTES`].
        index: usize,
    },
}

/// Removes leftovers below `data_dir`; returns them.
pub(crate) fn remove_leftovers(
    disk: &dyn Disk,
    data_dir: &Path,
    loaded: &Loaded,
) -> Result<Vec<PathBuf>, FileError> {
    let mut named: HashSet<PathBuf> = loaded
        .retired
        .iter()
        .map(|retired| data_dir.join(&retired.path))
        .collect();
    for table in loaded.tables.values() {
        named.extend(table.files.iter().map(|stored| stored.file.path.clone()));
    }
    let mut removed = Vec::new();
    for path in files_below(data_dir)? {
        if !named.contains(&path) {
            disk.remove(&path)
                .map_err(|source| FileError::new(FileStep::Remove, &path, source))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// All files below a folder; none when it does not exist.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let unreadable = |path: &Path, source| FileError::new(FileStep::Read, path, source);
    let mut files = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        if !dir.exists() {
            continue;
        }
        for entry in fs::read_dir(&dir).map_err(|e| unreadable(&dir, e))? {
            let entry = entry.map_err(|e| unreadable(&dir, e))?;
            let kind = entry
                .file_type()
                .map_err(|e| unreadable(&entry.path(), e))?;
            match kind.is_dir() {
                true => waiting.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Looks at length and footer of every file the catalogue names: two calls to the kernel each.
pub(crate) fn look_at_files(loaded: &Loaded) -> Vec<Damaged> {
    let mut damaged = Vec::new();
    for table in loaded.tables.values() {
        for stored in &table.files {
            let file = &stored.file;
            if let Some(why) = look_at(&file.path, file.bytes, stored.footer_bytes) {
                damaged.push(Damaged {
                    table: table.name.clone(),
                    path: file.path.clone(),
                    rows: file.rows,
                    why,
                });
            }
        }
    }
    damaged
}

fn look_at(path: &Path, expected: u64, footer: u64) -> Option<Damage> {
    let Ok(file) = fs::File::open(path) else {
        return Some(Damage::Missing);
    };
    let Ok(found) = file.metadata().map(|metadata| metadata.len()) else {
        return Some(Damage::Missing);
    };
    if found != expected {
        return Some(Damage::Length { found, expected });
    }
    let is_whole = footer_bytes(&file, expected).is_ok_and(|found| found == footer);
    (!is_whole).then_some(Damage::Footer)
}
