//! The shim: a small process per service that owns its instances and outlives Serin.
//!
//! It starts them, each in a process group of its own, reads what they write, tells it on the bus,
//! sees them end, and ends them when asked (docs/decisions/006). Serin talks to it over a Unix
//! socket, `protocol`; [`run`] is the process, [`Client`] Serin's side. A shim decides nothing.

mod client;
mod instance;
mod left;
mod levels;
mod mask;
mod orphans;
mod output;
mod protocol;
mod run;
mod stop_signal;
mod strays;
mod sweep;
mod teller;
mod tree;
mod usage;

pub use client::{Client, ShimError};
pub(crate) use instance::inherited;
pub use left::end_left;
pub(crate) use mask::Mask;
pub(crate) use output::{Tail, read_tail};
pub(crate) use protocol::forgotten;
pub use protocol::{Exit, Launch, Status};
pub(crate) use run::END_WITHIN_MAX;
pub use run::{ShimOptions, run};
pub use stop_signal::StopSignal;
pub(crate) use sweep::BY_HAND;
pub use sweep::{Folders, OF, Undying, end_unopened, sweep};
