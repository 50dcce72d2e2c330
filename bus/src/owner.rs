//! Whose a stream is: one Serin folder reads and purges it, and no other.
//!
//! Two folders on one joined bus would each purge what the other has not read. So a folder has a
//! random name, kept in its file `owner`, and puts it into the streams it makes. On a private bus
//! the folder's lock already says so.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::BusError;
use crate::settings::{Files, random_hex, read, write_private};

/// How long one that was killed, or a program that it was just starting, may still hold the lock.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The folder that uses the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) id: String,
    /// Where the folder is, for people.
    pub(crate) place: String,
    /// Where the name is kept, for an error that says what to do.
    pub(crate) file: String,
    /// Whether the bus belongs to the folder, and so do its streams.
    pub(crate) is_private: bool,
}

impl Owner {
    /// The name of the folder, made where it has none.
    pub(crate) fn of(data_dir: &Path, files: &Files, is_private: bool) -> Result<Owner, BusError> {
        let path = files.owner();
        let id = match read(&path)? {
            Some(text) => match String::from_utf8_lossy(&text).trim() {
                "" => {
                    return Err(BusError::Damaged {
                        path,
                        source: "it is empty".into(),
                    });
                }
                kept => kept.to_owned(),
            },
            None => {
                let fresh = random_hex()?;
                write_private(&path, format!("{fresh}\n").as_bytes())?;
                fresh
            }
        };
        Ok(Owner {
            id,
            place: data_dir.display().to_string(),
            file: path.display().to_string(),
            is_private,
        })
    }
}

/// The folder's lock, held until it is dropped.
pub(crate) async fn lock(files: &Files) -> Result<File, BusError> {
    let path = files.lock();
    let file = File::create(&path).map_err(|source| BusError::File {
        what: "write",
        path,
        source,
    })?;
    let taken = async {
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let taken = tokio::time::timeout(LET_GO_WITHIN, taken).await;
    taken.map_err(|_| BusError::InUse(files.folder.clone()))?;
    Ok(file)
}
