//! A folder before and after a start: whose it is, and that a start with nothing to do does nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::{CheckError, Finding};
use crate::lake::{LOCK, Lake};
use crate::options::LakeOptions;
use crate::recover::files_below;
use crate::store::{FileError, FileStep};

/// I9: one process writes to the lake, and it is this one. Ask while it runs.
pub fn is_held_by(lake_dir: &Path, pid: u32) -> Result<Vec<Finding>, CheckError> {
    let path = lake_dir.join(LOCK);
    let failed = |source| FileError::new(FileStep::Read, &path, source);
    let what = match File::open(&path).map_err(failed)?.try_lock() {
        Ok(()) => format!("process {pid} runs, and does not hold {}", path.display()),
        Err(TryLockError::Error(source)) => return Err(failed(source).into()),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).map_err(failed)?;
            if holder.trim() == pid.to_string() {
                return Ok(Vec::new());
            }
            let holder = holder.trim();
            format!("process {holder} holds {}, and not {pid}", path.display())
        }
    };
    Ok(vec![Finding::new("I9", what)])
}

/// I11: a second start with nothing to do changes no byte. Starts twice, so the folder must be
/// nobody's; reads every file.
pub fn start_changes_nothing(
    options: &LakeOptions,
    now_us: i64,
) -> Result<Vec<Finding>, CheckError> {
    drop(Lake::open(options.clone(), now_us)?);
    let before = bytes_below(&options.dir)?;
    drop(Lake::open(options.clone(), now_us)?);
    let after = bytes_below(&options.dir)?;
    let paths = before
        .keys()
        .chain(after.keys().filter(|path| !before.contains_key(*path)));
    Ok(paths
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| Finding::new("I11", format!("a start changed {}", path.display())))
        .collect())
}

/// A hash of the content of each file.
fn bytes_below(dir: &Path) -> Result<BTreeMap<PathBuf, u128>, FileError> {
    let hashed = files_below(dir)?.into_iter().map(|path| {
        let bytes =
            fs::read(&path).map_err(|source| FileError::new(FileStep::Read, &path, source))?;
        Ok((path, xxh3_128(&bytes)))
    });
    hashed.collect()
}
