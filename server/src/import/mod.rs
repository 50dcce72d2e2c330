//! Files into events: opens and unpacks, reads records, cuts them into numbered bodies, sends them.
//!
//! The bodies of a file are the same whenever it is read, and each has a number under the name of
//! the file's content; so an import that is repeated or resumed adds nothing twice. The way of a
//! record: `source` → `records` (`access_log`, `csv`, `ndjson`, `parquet`) → `bodies` → `send`. Beside
//! it, `time_column` finds where the times are, the `profile` is what was seen, `told` says what
//! became of the file, and `again` remembers one that is taken once more.

mod access_log;
mod again;
pub(crate) mod bodies;
mod csv;
mod lines;
mod ndjson;
mod parquet;
pub(crate) mod profile;
pub(crate) mod records;
mod rows;
pub(crate) mod send;
mod source;
mod time;
mod time_column;
pub(crate) mod told;

pub(crate) use again::Again;
pub(crate) use records::{Asked, Records};

pub(crate) use source::Progress;
