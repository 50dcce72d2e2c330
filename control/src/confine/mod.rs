//! Limits of memory and processor: held by cgroups, version 2 or else 1, or else by rlimits.
//!
//! [`Ground`] says what this machine lets us do. A shim makes a group for each limited instance
//! ([`Group`]) and starts it by `serin launch`, which enters the group and becomes the program
//! ([`enter`]), so that nothing of it ever runs outside. What cannot be held is said, never passed
//! over. Start at [`Ground::find`].

mod ground;
mod group;
mod launch;

use serde::{Deserialize, Serialize};

pub use ground::{Ground, MAIN, prepare};
pub use group::{Group, Held};
pub use launch::{Entry, enter};

/// What an instance may use; absent is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
}

impl Limits {
    /// Whether anything is limited.
    pub fn are_any(&self) -> bool {
        self.memory_bytes.is_some() || self.cpu_milli.is_some()
    }
}
