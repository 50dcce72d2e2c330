//! Ad-hoc statements run in a process of their own, which the operating system holds to its limits.
//!
//! `pool` is the parent's side, `child` the worker's, `frame` what they say, `sandbox` the limits.

mod child;
mod frame;
pub(crate) mod pool;
mod sandbox;

pub use child::worker_main;
