//! Why a query gave no answer, each with a code that a page explains.
//!
//! Codes `SER-SQL-…` are about ad-hoc statements, `SER-KPI-…` about KPIs, `SER-QRY-…` about both.

use std::time::Duration;

use thiserror::Error;

use crate::guard::Refused;

/// Why a query gave no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The guard did not let the statement pass.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The statement cannot be planned or fails on its data.
    #[error("{message}")]
    Statement {
        /// What the planner or the executor says.
        message: String,
    },
    /// The statement names a table that is not there.
    #[error("no table {name:?}; {hint}")]
    NoTable {
        /// The table.
        name: String,
        /// A near one, or those there are.
        hint: String,
        /// Whether it may be that no such event has come yet: the name is none that is there, mistyped.
        is_to_come: bool,
    },
    /// The statement names a column that no table it reads has.
    #[error("no column {name:?}{table}; {hint}")]
    NoColumn {
        /// The column.
        name: String,
        /// Where it was looked for, after a blank; empty where in all tables that are read.
        table: String,
        /// A near one, or those there are.
        hint: String,
    },
    /// A value of the data cannot be computed with as the statement wants to.
    #[error("{message}")]
    Value {
        /// Which, and what to write instead.
        message: String,
    },
    /// It took too long.
    #[error(
        "the query took longer than {} s (the limit query.deadline_s); ask for a shorter range or raise the limit",
        deadline.as_secs_f64()
    )]
    Deadline {
        /// The limit.
        deadline: Duration,
    },
    /// It needed more memory than it may have.
    #[error(
        "the query needs more than {} MiB of memory (the limit query.memory_mib); ask for a shorter range, fewer groups, or raise the limit",
        bytes >> 20
    )]
    Memory {
        /// The limit.
        bytes: usize,
    },
    /// It wrote more to disk than it may.
    #[error(
        "the query writes more than {} MiB aside to disk (the limit query.spill_mib_max); ask for a shorter range or raise the limit",
        bytes >> 20
    )]
    Spill {
        /// The limit.
        bytes: u64,
    },
    /// The answer is longer than allowed.
    #[error(
        "the answer is longer than {} MiB (the limit query.result_mib_max); ask for fewer rows or columns, or raise the limit",
        bytes >> 20
    )]
    ResultBytes {
        /// The limit.
        bytes: usize,
    },
    /// A KPI has more points than an answer may have.
    #[error(
        "the answer has {found} points, more than {max} (the limit query.points_max); ask for a shorter range or a longer step, or raise the limit"
    )]
    Points {
        /// How many each series has.
        found: u64,
        /// The limit.
        max: usize,
    },
    /// Too many statements wait already.
    #[error(
        "{running} statements run and {queued} wait (the limits query.running_max and query.queued_max); try again in a moment"
    )]
    Busy {
        /// How many may run.
        running: usize,
        /// How many may wait.
        queued: usize,
    },
    /// Too many KPIs wait already.
    #[error(
        "{queued} KPIs wait for their turn (the limit query.kpis_queued_max); try again in a moment, or draw fewer panels"
    )]
    BusyKpis {
        /// How many may wait.
        queued: usize,
    },
    /// The statement of a panel got no turn in time.
    #[error(
        "the panel waited {} s (the limit query.deadline_s) for its turn behind {running} others (the limit query.running_max); draw fewer panels of SQL, have them ask for less, or raise the limits",
        deadline.as_secs_f64()
    )]
    BusyPanels {
        /// How many may run.
        running: usize,
        /// How long one may wait.
        deadline: Duration,
    },
    /// The worker process ended without an answer.
    #[error("the query's process ended without an answer ({status}); the server is unharmed")]
    WorkerDied {
        /// What the system says of its end, and its last words.
        status: String,
    },
    /// The worker process cannot be started or spoken to.
    #[error("cannot run a query worker")]
    Worker(#[source] std::io::Error),
    /// A KPI asks for something the data do not have.
    #[error("kpi {kpi:?}: {source}")]
    Kpi {
        /// The KPI.
        kpi: String,
        /// What is missing.
        source: KpiRunError,
    },
    /// A file of the lake is not what was written, or no longer there.
    #[error("{message}")]
    Damaged {
        /// Which file, and what to do.
        message: String,
    },
}

/// What a KPI asks for and the data do not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KpiRunError {
    /// No such column.
    #[error("no column {column:?} in {event:?}; it has {}", .known.join(", "))]
    Column {
        /// The missing one.
        column: String,
        /// The table.
        event: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A filter value does not fit its column.
    #[error("filter {column:?} does not take {value:?}; the column holds {holds}")]
    FilterValue {
        /// The column.
        column: String,
        /// The value.
        value: String,
        /// The kind of the column.
        holds: &'static str,
    },
    /// The range ends before it starts, or the step is not positive.
    #[error("the range must end after it starts and the step be positive")]
    Range,
}

impl QueryError {
    /// The code under which the documentation explains it.
    pub fn code(&self) -> &'static str {
        match self {
            QueryError::Refused(refused) => refused.code(),
            QueryError::Statement { .. } => "SER-SQL-001",
            QueryError::NoTable { .. } => "SER-SQL-011",
            QueryError::NoColumn { .. } => "SER-SQL-012",
            QueryError::Value { .. } => "SER-SQL-013",
            QueryError::Deadline { .. } => "SER-QRY-001",
            QueryError::Memory { .. } => "SER-QRY-002",
            QueryError::Spill { .. } => "SER-QRY-003",
            QueryError::ResultBytes { .. } => "SER-QRY-004",
            QueryError::Points { .. } => "SER-QRY-005",
            QueryError::Busy { .. }
            | QueryError::BusyKpis { .. }
            | QueryError::BusyPanels { .. } => "SER-QRY-006",
            QueryError::WorkerDied { .. } => "SER-QRY-007",
            QueryError::Worker(_) => "SER-QRY-008",
            QueryError::Damaged { .. } => "SER-QRY-009",
            QueryError::Kpi { .. } => "SER-KPI-001",
        }
    }

    /// Whether trying again later, unchanged, may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            QueryError::Busy { .. }
                | QueryError::BusyKpis { .. }
                | QueryError::BusyPanels { .. }
                | QueryError::Worker(_)
        )
    }
}
