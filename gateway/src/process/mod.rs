//! The gateway as a process of its own, so that neither a crash nor an upgrade of Serin loses a
//! request (docs/decisions/008).
//!
//! [`run`] is the process: it gets its listener as its standard input, opens a Unix socket, and serves
//! by the last table it was told, whether Serin is there or not. [`Door`] is Serin's side: it starts
//! the process, adopts the one of an earlier Serin, has an older program replaced by a newer one on
//! the same listener, and starts it again when it ends. Start at [`Door::open`].

mod keep;
mod link;
mod place;
mod protocol;
mod run;

pub use keep::{Door, DoorOptions, DoorState};
pub use link::DoorError;
pub use place::{Place, end_left};
pub use run::{ProcessError, ProcessOptions, run};
