//! The control loop, as thin as it can be and still close: a rule over a KPI makes a decision.
//!
//! `observe` reads a KPI through the same compiled plan as a panel, up to the watermark and no
//! further; `decide` is a function of values; `engine` ticks, tells each decision as an event of type
//! `serin.decision`, and remembers. This crate must never know dashboards. Modules stand in the order
//! a decision passes them; start at [`run`].

pub mod confine;
pub mod service;
pub mod shim;

pub mod runtime;

mod observe;

mod decide;

mod engine;

pub use decide::{Held, State, Verdict, decide, judge};
pub use engine::{Control, Parts, run};
pub use observe::{Observation, Step, observe};
