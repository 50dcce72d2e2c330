//! The signal that asks an instance to end: SIGTERM for most; by others some programs let go of their
//! work sooner, or later.

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// Asks an instance to end; SIGKILL follows after its grace period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// What most programs end by.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// PostgreSQL ends its sessions, and does not wait for them.
    #[serde(rename = "SIGINT")]
    Int,
    /// nginx and uWSGI finish what they have.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// HAProxy finishes what it has.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// Apache finishes what it has.
    #[serde(rename = "SIGWINCH")]
    Winch,
}

impl StopSignal {
    /// As the system has it.
    pub fn signal(self) -> Signal {
        match self {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Usr1 => Signal::USR1,
            StopSignal::Winch => Signal::WINCH,
        }
    }
}
