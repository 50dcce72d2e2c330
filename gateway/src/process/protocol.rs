//! What Serin and the process of the gateway say to each other: JSON lines over a Unix socket.
//!
//! The process says first who it is. One of another build is only ever asked to be replaced or to
//! close; all the rest may change with the build.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::counts::GatewayStats;
use crate::table::Table;

/// What Serin asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(super) enum Ask {
    /// To serve by this table.
    Table(Table),
    /// To start another program on the same listener, and go on until told to close.
    Replace {
        /// The program.
        program: PathBuf,
        /// The bus it is to use, with credentials.
        bus: String,
    },
    /// To let the requests under way finish, and end.
    Close {
        /// Whether another process has the socket now.
        is_replaced: bool,
    },
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum Say {
    /// Who it is, at once.
    Hello(Hello),
    /// New requests go by the table of this revision.
    Taken {
        /// As Serin counts.
        revision: u64,
    },
    /// What it has counted, each second.
    Stats(GatewayStats),
    /// Why it ends, where it cannot serve.
    Failed {
        /// For people.
        why: String,
    },
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Tells one program from another.
    pub(super) build: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The bus it uses, with credentials.
    pub(super) bus: String,
}

/// A line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
