//! Sessions of browsers: random names, of which only hashes are kept, in memory and in a file.
//!
//! The file outlives the process, so that an open dashboard recovers when the server comes back.
//! A session lasts thirty days; the oldest gives way when there are too many.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::kept;

/// Sessions at one moment.
const SESSIONS_MAX: usize = 1_000;
/// How long a session lasts: thirty days.
const LIFETIME_US: i64 = 30 * 24 * 3_600 * 1_000_000;
pub(crate) const LIFETIME_S: i64 = LIFETIME_US / 1_000_000;

/// The sessions of this server.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// When each began, by the hash of its name.
    began_us: Mutex<BTreeMap<String, i64>>,
    file: Option<PathBuf>,
}

impl Sessions {
    /// Reads the sessions of earlier runs; a file that cannot be read counts as empty.
    pub(crate) fn load(file: Option<PathBuf>) -> Sessions {
        Sessions {
            began_us: Mutex::new(kept::read(file.as_deref())),
            file,
        }
    }

    /// Starts a session with a random name.
    pub(crate) fn begin(&self, random: [u8; 32], now_us: i64) -> String {
        let name = blake3::Hash::from_bytes(random).to_hex().to_string();
        let mut began_us = self.began_us.lock().unwrap_or_else(PoisonError::into_inner);
        began_us.retain(|_, began| now_us - *began < LIFETIME_US);
        while began_us.len() >= SESSIONS_MAX {
            let oldest = began_us.iter().min_by_key(|(_, began)| **began);
            let Some(oldest) = oldest.map(|(hash, _)| hash.clone()) else {
                break;
            };
            began_us.remove(&oldest);
        }
        began_us.insert(hash(&name), now_us);
        if let Some(path) = &self.file
            && let Err(error) = kept::write(path, &*began_us)
        {
            tracing::warn!(%error, path = %path.display(), "cannot keep the sessions for the next start");
        }
        name
    }

    /// Whether there is such a session.
    pub(crate) fn has(&self, name: &str, now_us: i64) -> bool {
        let began_us = self.began_us.lock().unwrap_or_else(PoisonError::into_inner);
        began_us
            .get(&hash(name))
            .is_some_and(|began| now_us - began < LIFETIME_US)
    }
}

fn hash(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_session_outlives_the_process_but_not_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sessions.json");
        let name = Sessions::load(Some(path.clone())).begin([7; 32], 10);
        let text = fs::read_to_string(&path).expect("kept");
        assert!(!text.contains(&name), "only the hash is kept");
        let again = Sessions::load(Some(path));
        assert!(again.has(&name, 20));
        assert!(!again.has("other", 20));
        assert!(!again.has(&name, 10 + LIFETIME_US));
    }

    #[test]
    fn the_oldest_gives_way() {
        let sessions = Sessions::load(None);
        let first = sessions.begin([0; 32], 0);
        for at in 1..=SESSIONS_MAX {
            let mut random = [1; 32];
            random[..8].copy_from_slice(&at.to_le_bytes());
            sessions.begin(random, at as i64);
        }
        assert!(!sessions.has(&first, 5_000));
    }
}
