//! `--again`: the epoch under which a file is taken once more, remembered until it is all in.
//!
//! An import's messages are numbered under the file's content and an epoch: 0 the first time. Once
//! more means another epoch; one that was cut off must go on under the same, or what was sent would
//! be there twice. So the epoch rests in `.serin/imports/` from the first message to the last.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// An epoch under way.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) epoch: u32,
    /// Whether an earlier run was cut off under this epoch.
    pub(crate) goes_on: bool,
    file: PathBuf,
}

impl Again {
    /// The epoch of a run that was cut off, or a new one; `now_us` makes new ones differ.
    pub(crate) fn begin(data_dir: &Path, producer: &str, now_us: i64) -> Result<Again> {
        let folder = data_dir.join("imports");
        let file = folder.join(producer);
        let failed = || format!("cannot remember the import in {}", file.display());
        let kept = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(failed),
        };
        if let Some(epoch) = kept {
            return Ok(Again {
                epoch,
                goes_on: true,
                file,
            });
        }
        // Seconds since 1970 fit until 2106.
        let epoch = u32::try_from(now_us / 1_000_000).unwrap_or(u32::MAX);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, format!("{epoch}\n")))
            .with_context(failed)?;
        Ok(Again {
            epoch,
            goes_on: false,
            file,
        })
    }

    /// Everything is in: the next time is another time.
    pub(crate) fn done(self) -> Result<()> {
        fs::remove_file(&self.file)
            .with_context(|| format!("cannot remove {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_cut_off_goes_on_and_one_that_is_done_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = |now_us| Again::begin(folder.path(), "import-x", now_us).expect("begun");
        let first = begin(7_000_000);
        assert_eq!((first.epoch, first.goes_on), (7, false));
        let second = begin(9_000_000);
        assert_eq!((second.epoch, second.goes_on), (7, true));
        second.done().expect("removed");
        assert_eq!(begin(9_000_000).epoch, 9);
    }
}
