//! The YAML as people write it: raw shapes that refuse what they do not know.
//!
//! Values that a later check may find fault with are `Spanned`, so that the fault has a line and a
//! column. Nothing here looks at another file; `resolve` does.

mod dashboard;
mod kpis;
mod span;
mod yaml;

pub(crate) use dashboard::{RawDashboard, RawPanel};
pub(crate) use kpis::{KpiFile, Placed, RawRule, read_kpis};
pub use span::{DefaultRange, parse_span, parse_time, span_text};
pub use yaml::FILE_BYTES_MAX;
pub(crate) use yaml::read;
