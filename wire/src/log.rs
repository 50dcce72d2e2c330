//! A line that an instance logged; a row of the table `logs`.
//!
//! They travel on `tel.log.…` as NDJSON, many lines per message: the shim tells what an instance
//! wrote to its standard output and error, an SDK's logging handler what went through it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Micros;

/// One line, a line of the message. The subject says who logged it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log<'a> {
    /// When, microseconds since 1970 UTC.
    pub time: Micros,
    /// How grave; `info` where it is not known.
    #[serde(default)]
    pub level: Level,
    /// The text, without the line's end.
    pub message: Cow<'a, str>,
    /// `stdout`, `stderr`, or the name of a logger.
    #[serde(default)]
    pub source: Cow<'a, str>,
    /// The trace it was logged in, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// Lines that were dropped just before this one, since there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// What else a structured line says.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Followed step by step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// As it should be.
    #[default]
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
