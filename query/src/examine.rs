//! Whether a statement could be run, told without running it: for `serin check`.
//!
//! It is read and planned over the columns of a snapshot; no row is looked at. Start at [`examine`].

use std::sync::Arc;

use serin_lake::Snapshot;

use crate::error::QueryError;
use crate::guard::{self, Refused};
use crate::limits::{Limits, Range};
use crate::session;

/// Deep enough for any plan the guard lets pass, as in a worker.
const STACK_BYTES: usize = 128 << 20;
/// Macros want a range; any will do.
const RANGE: Range = Range {
    from_us: 0,
    to_us: 3_600_000_000,
};

/// Whether the guard lets a statement pass, whatever tables there are.
pub fn admitted(sql: &str) -> Result<(), Refused> {
    guard::admit(sql, Some(RANGE), &Limits::default()).map(drop)
}

/// Whether a statement can be planned over the tables and columns of a snapshot.
pub fn examine(sql: &str, snapshot: &Snapshot) -> Result<(), QueryError> {
    std::thread::scope(|scope| {
        let planning = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || plan(sql, snapshot))
            .map_err(QueryError::Worker)?;
        let failed = |_| QueryError::Worker(std::io::Error::other("planning gave up"));
        planning.join().map_err(failed)?
    })
}

fn plan(sql: &str, snapshot: &Snapshot) -> Result<(), QueryError> {
    let limits = Limits::default();
    let admitted = guard::admit(sql, Some(RANGE), &limits)?;
    let wrong = |error| session::explain(error, &limits);
    // Nothing is read and nothing written aside.
    let context = session::context(Arc::default());
    session::register(&context, snapshot).map_err(wrong)?;
    // Planning waits for nothing, so this thread is enough.
    let here = tokio::runtime::Builder::new_current_thread().build();
    let here = here.map_err(QueryError::Worker)?;
    here.block_on(session::plan(&context, snapshot, admitted, &limits))?;
    Ok(())
}
