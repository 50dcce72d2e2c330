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
mod clock;
mod context;
mod counts;
mod dropped;
mod id;
mod layer;
mod options;
mod queue;
mod replay;
mod send;
mod serin;
mod shared;
mod span;
mod spill;
mod typed;
mod usage;

pub use context::Context;
pub use counts::Counts;
pub use dropped::Reason;
pub use layer::SerinLayer;
pub use options::{ConnectError, Options};
pub use serin::{Request, Serin};
pub use serin_sdk_derive::Event;
pub use serin_wire::State;
pub use typed::Event;
#[doc(hidden)]
pub use typed::{FieldList, Fields};
