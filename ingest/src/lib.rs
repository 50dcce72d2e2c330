//! From the bus into the lake: each acknowledged event becomes exactly one row, or one refusal.
//!
//! Doors publish what HTTP clients send; the loop in `run` reads the stream behind the committed
//! position, decodes messages into Arrow columns, shows the rows at once through
//! [`serin_lake::Fresh`], and commits them with the position. Must never acknowledge by the bus's
//! own floor, never drop in silence, never know the query engine. Groups of modules stand in the
//! order the data passes them; start at [`Ingest`].

mod options;

// What HTTP clients send goes onto the bus.
mod door;
mod own_numbers;
mod tell;

// What is on the bus is read, behind the committed position.
mod heard;
mod ingest;
mod lineage;
mod reader;
mod resume;
mod run;

// A message becomes events, each taken once or refused.
mod decode;
mod pipeline;
mod producer;
mod refuse;
mod refused;
mod seal;
mod seen;
mod telemetry;

// Events become columns, shown at once and committed.
mod buffer;
mod flush;
mod json;
mod rows;
mod shape;

mod stats;

pub mod bench;

pub use ingest::{Ingest, IngestError};
pub use options::{Edge, IngestOptions, Limits};
pub use stats::IngestStats;
