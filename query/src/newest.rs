//! The newest rows of one table, by a plan of our own: decisions for charts, lists and rules.
//!
//! No statement, so no worker: whatever people's statements do, nobody who asks here waits for them.

use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, utils};
use serin_lake::Snapshot;

use crate::kpi::scan::{self, Span};
use crate::limits::Range;

/// Which rows are asked for, newest first.
#[derive(Debug, Clone)]
pub struct Newest<'a> {
    /// The table; one that is not there yet has no rows.
    pub table: &'a str,
    /// The columns wanted, all where none is named; those the table lacks are left out.
    pub columns: &'a [&'a str],
    /// Only rows whose time lies in it.
    pub range: Option<Range>,
    /// Only rows that have one of these values in its column; every row where none is named.
    pub having: Vec<(&'a str, &'a str)>,
    /// How many rows at most.
    pub rows_max: usize,
}

/// The plan that reads them.
pub(crate) fn plan(snapshot: &Snapshot, asked: &Newest<'_>) -> Result<LogicalPlan> {
    let Some(view) = snapshot.tables.get(asked.table) else {
        return LogicalPlanBuilder::empty(false).build();
    };
    let has = |name: &str| view.columns.iter().any(|column| column.name == name);
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let within = asked.range.map(|range| {
        scan::within(Span {
            range,
            step_us: None,
            shift_us: 0,
        })
    });
    let wanted = asked.having.iter().filter(|(name, _)| has(name));
    let wanted = utils::disjunction(wanted.map(|(name, value)| column(name).eq(lit(*value))));
    let having = match asked.having.is_empty() {
        true => None,
        // A column that is not there has no value.
        false => Some(wanted.unwrap_or_else(|| lit(false))),
    };
    let filter = [within, having].into_iter().flatten().reduce(Expr::and);
    let mut builder = scan::filtered(view, filter.unwrap_or_else(|| lit(true)))?
        .sort([column("time").sort(false, false)])?
        .limit(0, Some(asked.rows_max))?;
    if !asked.columns.is_empty() {
        let known = asked.columns.iter().filter(|name| has(name));
        builder = builder.project(known.map(|name| column(name)).collect::<Vec<_>>())?;
    }
    builder.build()
}
