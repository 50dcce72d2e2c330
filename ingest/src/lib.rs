//! From the bus into the lake: each acknowledged event becomes exactly one row, or one refusal.
//!
//! Doors publish what HTTP clients send; the loop in `run` reads the stream behind the committed
//! position, decodes messages into Arrow columns, shows the rows at once through
//! [`serin_lake::Fresh`], and commits them with the position. Must never acknowledge by the bus's
//! own floor, never drop in silence, never know the query engine. Modules stand in the order the
//! data passes them; start at [`Ingest`].

mod buffer;
mod decode;
mod door;
mod flush;
mod json;
mod options;
mod own_numbers;
mod pipeline;
mod producer;
mod refuse;
mod refused;
mod resume;
mod rows;
mod run;
mod seal;
mod seen;
mod shape;
mod stats;
mod telemetry;

pub mod bench;

pub use options::{Edge, IngestOptions, Limits};
pub use run::{Ingest, IngestError};
pub use stats::IngestStats;
