//! Serin for a service in Rust: emit events, and beats, spans and gauges come along.
//!
//! ```no_run
//! use serin_sdk::{Options, Serin, event};
//!
//! # fn main() -> Result<(), serin_sdk::ConnectError> {
//! let serin = Serin::from_env()?; // or Serin::connect(Options::new("nats://…", "cart"))
//! event!(serin, "order.paid", amount = 19.9, currency = "EUR");
//! # Ok(())
//! # }
//! ```
//!
//! `emit` takes less than a microsecond and never waits. Events travel in numbered batches, are kept
//! until the bus has them on disk, wait on our own disk while it is away, and arrive once. Modules
//! stand in the order an event passes them; start at [`Serin`].

mod beats;
mod call;
mod chain;
mod clock;
mod connect;
mod context;
mod counts;
mod dropped;
mod id;
mod layer;
mod lines;
mod options;
mod queue;
mod replay;
mod send;
mod serin;
mod serve;
mod shared;
mod span;
mod spill;
mod trouble;
mod typed;
mod usage;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use call::error::CallError;
pub use call::{Call, Reply, Timing};
pub use chain::{Chain, ChainError, Enhanced, Stage};
pub use context::Context;
pub use counts::Counts;
pub use dropped::Reason;
pub use layer::SerinLayer;
pub use options::{ConnectError, Options};
pub use serin::{Request, Serin};
pub use serin_sdk_derive::Event;
pub use serin_wire::{Hop, HopStatus, Packet, State};
pub use serve::endpoint::Endpoint;
pub use serve::failure::Failure;
pub use serve::incoming::Incoming;
pub use serve::web::{WebRequest, WebResponse, query_pairs};
pub use serve::{ServeError, Service};
pub use typed::Event;
#[doc(hidden)]
pub use typed::{FieldList, Fields};
