//! The YAML as people write it: raw shapes that refuse what they do not know.
//!
//! Values that a later check may find fault with are `Spanned`, so that the fault has a line and a
//! column. Nothing here looks at another file; `resolve` does.

mod dashboard;
mod kpis;
mod range;

pub(crate) use dashboard::{RawDashboard, RawPanel};
pub(crate) use kpis::{KpiFile, Placed, RawRule, RawThen, read_kpis};
pub use range::DefaultRange;
