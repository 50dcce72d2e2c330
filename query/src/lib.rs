//! Answers questions over one snapshot with DataFusion: compiled KPIs in process, ad-hoc SQL in a
//! guarded worker process.
//!
//! A [`serin_lake::Snapshot`] and a question come in, Arrow or points go out. This crate never
//! writes to the lake, never looks at a clock, and alone names DataFusion. Modules stand in the
//! order a question passes them; start at [`Engine`].

pub mod calendar;
pub mod limits;

pub mod kpi;

mod allowed;
pub mod guard;
mod macros;
mod rewrite;
mod variables;

mod events;
mod functions;
mod names;
mod plain;
mod prune;
mod quantile;
mod session;
mod table;

mod worker;

mod cache;
mod engine;
mod error;
pub mod examine;
mod held;
mod lru;
mod measure;
mod newest;
pub mod pieces;
pub mod render;
mod slide;
mod stats;
mod turns;

pub use engine::{Engine, SqlAnswer, WorkerCommand};
pub use error::{KpiRunError, QueryError};
pub use events::is_type_name;
pub use kpi::{KpiAnswer, KpiPlan, KpiRequest, Series, ServedFrom};
pub use limits::{Limits, Range, nice_step_us};
pub use newest::Newest;
pub use serin_lake::Snapshot;
pub use stats::{Asked, QueryStats, SECONDS};
pub use variables::fill_in;
pub use worker::worker_main;
