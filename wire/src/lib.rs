//! What travels between Serin's parts, and nothing else.
//!
//! An SDK packs [`Event`]s into a [`batch`], the bus carries it on a [`subject`], the ingester
//! unpacks it. Beats and decisions go the same way. Only shapes and their encodings live here: no
//! IO, no clock, no Arrow. Modules stand in the order the data passes them.

pub mod batch;
pub mod beat;
pub mod call;
pub mod causes;
pub mod chain;
pub mod cloudevent;
pub mod decision;
pub mod event;
pub mod histogram;
pub mod log;
pub mod metric;
pub mod name;
pub mod pooled;
pub mod producer;
pub mod request;
pub mod route;
pub mod sample;
pub mod span;
pub mod subject;
pub mod time;

pub use beat::{Beat, Sealed, State};
pub use chain::{Hop, HopStatus, Packet};
pub use decision::Decision;
pub use event::{Arm, Event, Trace};
pub use histogram::Histogram;
pub use log::{Level, Log};
pub use metric::{Metric, MetricKind, Observed};
pub use pooled::{PoolError, Pooled};
pub use producer::{Number, ProducerId};
pub use request::Request;
pub use route::{Route, Routes, Weight};
pub use span::Span;
