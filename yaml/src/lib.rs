//! Files that people write in YAML: from text to raw shapes, or to problems with line and column.
//!
//! Dashboards, KPIs, services and settings are all read here, so that every fault is told in the same
//! words and a hostile file is refused before it grows. What a file means is its reader's affair.
//! Start at [`read`].

mod fault;
mod place;
mod problem;
mod read;
mod shapes;
mod span;

pub use problem::{Place, Problem, code, meant, nearest, slip_of};
pub use read::{FILE_BYTES_MAX, read};
pub use serde_saphyr::Spanned;
pub use shapes::{Entries, Names};
pub use span::{Span, parse_span, parse_time, span_text, written_span};
