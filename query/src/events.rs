//! The view `events`: the standard columns of all event types in one table, with their `type`.

use std::sync::Arc;

use datafusion::common::{Column, Result, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use serin_lake::{Snapshot, TableView};
use serin_wire::name::{OWN_TABLES, check_any_type};

use crate::table::LakeTable;

/// The standard columns of every event, in their order.
pub(crate) const STANDARD_COLUMNS: [&str; 6] =
    ["time", "id", "service", "version", "instance", "trace_id"];

/// Whether a table holds events of one type.
pub(crate) fn is_event_table(name: &str) -> bool {
    !OWN_TABLES.contains(&name)
}

/// Whether a name has the form that names of event types have: words joined by dots.
pub fn is_type_name(name: &str) -> bool {
    check_any_type(name).is_ok()
}

/// The view over all event tables of a snapshot.
pub(crate) fn view(snapshot: &Snapshot) -> Result<ViewTable> {
    let mut whole: Option<LogicalPlanBuilder> = None;
    for table in snapshot
        .tables
        .values()
        .filter(|table| is_event_table(&table.name))
    {
        let part = part(table)?;
        whole = Some(match whole {
            None => LogicalPlanBuilder::from(part),
            Some(whole) => whole.union(part)?,
        });
    }
    let plan = match whole {
        Some(whole) => whole.build()?,
        None => nothing()?,
    };
    Ok(ViewTable::new(plan, None))
}

fn part(table: &Arc<TableView>) -> Result<LogicalPlan> {
    let provider = Arc::new(LakeTable::new(Arc::clone(table)));
    let kind = lit(datafusion::common::ScalarValue::Utf8View(Some(
        table.name.clone(),
    )));
    let columns = STANDARD_COLUMNS.iter().map(|name| {
        let is_there = table.columns.iter().any(|column| column.name == *name);
        match is_there {
            true => Expr::Column(Column::new_unqualified(*name)).alias(*name),
            false => null(name).alias(*name),
        }
    });
    let columns: Vec<Expr> = columns.chain([kind.alias("type")]).collect();
    let name = TableReference::bare(table.name.as_str());
    LogicalPlanBuilder::scan(name, provider_as_source(provider), None)?
        .project(columns)?
        .build()
}

fn null(name: &str) -> Expr {
    let kind = if name == "time" {
        serin_lake::ColumnKind::Time
    } else {
        serin_lake::ColumnKind::Text
    };
    cast(
        lit(datafusion::common::ScalarValue::Null),
        crate::table::query_type(kind),
    )
}

fn nothing() -> Result<LogicalPlan> {
    let columns = STANDARD_COLUMNS.iter().chain(["type"].iter());
    let columns: Vec<Expr> = columns.map(|name| null(name).alias(*name)).collect();
    LogicalPlanBuilder::empty(false).project(columns)?.build()
}
