//! What rests: Parquet files under a DuckLake catalogue, and one consistent view of them.
//!
//! A flush comes in with rows and the bus position they reach; the files become durable, then one
//! catalogue transaction names them, their statistics, the schema and the position; then readers
//! see the new file list and lose the same rows from the hot buffer in one step. This crate must
//! never know the bus, the query engine or a clock. Modules stand in the order the data passes them.

pub mod accept;
pub mod column;
pub mod flush;
pub mod fresh;
pub mod options;
pub mod position;
pub mod store;
pub mod sums;

pub mod check;

mod catalogue;
mod checked;
mod clock;
mod commit;
mod compact;
mod encode;
mod expire;
mod keep;
mod known;
mod lake;
mod order;
mod recover;
mod services;
pub mod snapshot;
mod table;
mod text;
mod tokens;

pub use accept::{Accept, AcceptError, Door, Receipt};
pub use catalogue::CatalogueError;
pub use checked::{CheckedError, CheckedStore};
pub use column::{Column, ColumnKind, Declared};
pub use commit::{CommitError, Committed};
pub use compact::{CompactError, Compacted};
pub use encode::EncodeError;
pub use expire::Expired;
pub use flush::{Account, Flush, Progress, TableRows};
pub use fresh::{Fresh, FreshRows, FreshTable};
pub use keep::LakeTotals;
pub use known::Known;
pub use lake::{Lake, LakeError};
pub use options::{LakeOptions, Retention};
pub use position::{Gap, Incarnation, PRODUCER_KEPT_US, Position, ProducerMark};
pub use recover::{Damage, Damaged, Recovered};
pub use snapshot::{Bound, ColumnStats, DataFile, Snapshot, TableView};
pub use tokens::{StoredToken, TOKEN_TOLD_US};
