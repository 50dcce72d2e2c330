//! KPIs: one definition, compiled once, read by panels, rules and the control loop alike.
//!
//! A [`definition`] is plain values; `compile` checks all of them together and makes plans; `run`
//! asks DataFusion for the leaves of a plan and does the arithmetic above them.

mod answer;
mod compile;
pub(crate) mod definition;
pub(crate) mod funnel;
pub(crate) mod gauge;
mod parse;
pub(crate) mod plan;
pub(crate) mod rank;
mod rule;
pub(crate) mod run;
pub(crate) mod scan;

pub use answer::{KpiAnswer, KpiRequest, Series, ServedFrom};
pub use compile::{Catalog, KpiError, compile};
pub use definition::{Across, Better, Definition, FunnelStep, GaugeMeasure, Grain, Kind, Since};
pub use parse::ExpressionError;
pub use plan::KpiPlan;
pub use rule::{Bound, Rule, RuleSet};
