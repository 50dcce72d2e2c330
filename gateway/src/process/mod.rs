//! The gateway as a process of its own, so that neither a crash nor an upgrade of Serin loses a
//! request (docs/decisions/008).
//!
//! [`run`] is the process: it gets its listener as its standard input, opens a Unix socket, and serves
//! by the last table it was told, whether Serin is there or not. [`Supervisor`] is Serin's side: it starts
//! the process, adopts the one of an earlier Serin, has an older program replaced by a newer one on
//! the same listener, and starts it again when it ends. Start at [`Supervisor::open`].

mod binding;
mod link;
mod protocol;
mod run;
mod supervise;

pub use binding::{Binding, end_left};
pub use link::SupervisorError;
pub use run::{ProcessError, ProcessOptions, run};
pub use supervise::{Supervisor, SupervisorOptions, SupervisorState};
