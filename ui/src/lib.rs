//! The doors: everything that speaks HTTP, from a client's bytes to an answer.
//!
//! A connection comes in at `serve`, is let in by `auth`, and a handler per resource asks the lake,
//! the query engine or the dashboards; events are handed to `lake::Accept`. What belongs to the
//! process as a whole (flush, stop, counters) is asked of [`Operate`], which the server implements.
//! This crate must never know the bus or the ingester. Start at [`Doors::open`].

mod http;

pub use http::first_steps::{FirstSteps, FirstStepsView, Killed};
pub use http::metrics::{Buckets, Metric, MetricKind};
pub use http::{Doors, DoorsOptions, OpenProgress, Operate, Parts, Stage, Upload};
