//! Telemetry in others' formats, OTLP and Prometheus text, becomes lines of `wire`.
//!
//! A body comes in whole and leaves as lines by subject, with what was refused and why. What travels
//! in these formats was made by strangers: each record is decoded by itself, so that a bad one costs
//! nothing but itself, and what comes out is bounded. Values in, values out: nothing here waits, does
//! IO or asks the time. Start at [`otlp::read`] and [`prometheus::read`].

mod increase;
mod key;
mod lines;
pub mod otlp;
pub mod prometheus;

pub use increase::{Increases, Pending};
pub use lines::{Lines, Refused, TooMuch, Translated};
