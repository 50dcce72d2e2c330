//! Files into events: opens and unpacks, reads records, cuts them into numbered bodies, sends them.
//!
//! The bodies of a file are the same whenever it is read, and each has a number under the name of
//! the file's content; so an import that is repeated or resumed adds nothing twice. The way of a
//! record: `source` → `records` (`access_log`, `csv`, `ndjson`, `parquet`) → `bodies` → `send`.

mod access_log;
pub(crate) mod bodies;
mod csv;
mod ndjson;
mod parquet;
pub(crate) mod profile;
pub(crate) mod records;
pub(crate) mod send;
mod source;
mod time;

pub(crate) use records::{Asked, Records};
pub(crate) use source::Progress;
