//! What Serin and a shim say to each other: JSON lines over a Unix socket.
//!
//! Serin asks, each question with a number; the shim answers under that number, and says by itself,
//! without one, that an instance ended. A shim may be older than Serin: fields are added, never
//! changed, and unknown ones are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stop_signal::StopSignal;
use crate::confine::Limits;

/// Longest line: an environment of many variables fits.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// Ended instances that are remembered: crash loops are seen in them.
const ENDED_MAX: usize = 64;

/// A question of Serin's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(super) enum What {
    /// Every instance it knows.
    List,
    /// Starts one.
    Start(Box<Launch>),
    /// Its signal now, SIGKILL to the group after the grace period.
    Stop { instance: String, grace_ms: u64 },
    /// It takes work, as Serin found out.
    Ready { instance: String },
    /// The last lines one wrote.
    Tail { instance: String },
    /// Stops all and ends; the grace period is for those that have none of their own.
    End { grace_ms: u64 },
}

/// What the shim says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Say {
    /// Of the question it answers; absent where the shim speaks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u64>,
    /// Why it did not do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) instances: Vec<Status>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lines: Vec<String>,
}

/// An instance to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// `<service>-<version>-<number>`.
    pub instance: String,
    /// Its version.
    pub version: String,
    /// Counts a version's instances up from 1; never given twice.
    pub number: u64,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// Its environment, beside the shim's own `PATH`, `HOME` and locale.
    pub env: BTreeMap<String, String>,
    /// Which of these variables are secrets, hidden in what it writes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// The port it was given.
    pub port: Option<u16>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What asks it to end.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// How long that may take; an older Serin says it with the question only.
    #[serde(default)]
    pub stop_within_ms: Option<u64>,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub instance: String,
    /// Its version.
    pub version: String,
    /// Its number.
    pub number: u64,
    /// Its process, also the name of its group.
    pub pid: u32,
    /// The port it was given.
    pub port: Option<u16>,
    /// When it was started, microseconds since 1970.
    pub started_us: i64,
    /// Whether it was found to take work.
    pub is_ready: bool,
    /// Whether it was asked to end.
    pub is_stopping: bool,
    /// How its limits are held; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub limits: String,
    /// What of its limits is not held, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_missing: Option<String>,
    /// How it ended; absent while it runs.
    pub exit: Option<Exit>,
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// The code it ended with.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed something of it for want of memory, within its limit.
    #[serde(default)]
    pub was_out_of_memory: bool,
    /// Whether its shim was killed, and it with that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_with_shim: bool,
}

impl Exit {
    /// Of an instance whose shim went away.
    pub(crate) fn with_its_shim(time_us: i64) -> Exit {
        Exit {
            time_us,
            code: None,
            signal: None,
            was_out_of_memory: false,
            was_with_shim: true,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) if self.was_with_shim => f.write_str("the end of its shim"),
            (None, None) => f.write_str("an unknown end"),
        }?;
        if self.was_out_of_memory {
            f.write_str(", out of the memory that its limit allows")?;
        }
        Ok(())
    }
}

/// The names of those that ended so long ago that they are forgotten.
pub(crate) fn forgotten<'a>(all: impl Iterator<Item = &'a Status>) -> Vec<String> {
    let ended = all.filter_map(|one| Some((one.exit?.time_us, &one.instance)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort();
    ended.truncate(ended.len().saturating_sub(ENDED_MAX));
    ended.into_iter().map(|(_, name)| name.clone()).collect()
}
