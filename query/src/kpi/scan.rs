//! The leaves of KPIs over one table, per group and step, in a single DataFusion plan.
//!
//! All simple KPIs of one question on the same table share one scan; where their conditions differ,
//! each aggregate carries its own. No SQL text is made. Start at [`plan`] and [`read`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use datafusion::common::{Column, Result, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn as aggregates;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, cast, lit, try_cast,
};
use serin_lake::TableView;

use super::plan::{Aggregate, Leaf, Simple};
use crate::functions;
use crate::limits::Range;
use crate::quantile;
use crate::table::LakeTable;

/// The values of the dimensions asked for, in their order.
pub(crate) type Key = Vec<Option<String>>;

/// Over which time, and in which steps, in shown time; `shift_us` back lies the data's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) range: Range,
    pub(crate) step_us: Option<i64>,
    pub(crate) shift_us: i64,
}

/// The leaves of one KPI in one group and step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) leaves: Vec<Option<f64>>,
    pub(crate) rows: u64,
}

/// The leaves of one KPI by group and start of step.
pub(crate) type Cells = BTreeMap<Key, BTreeMap<i64, Cell>>;

/// A split or condition as resolved for one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    pub(crate) by: Vec<Expr>,
    pub(crate) filter: Option<Expr>,
}

/// `time` moved to where it is shown.
pub(crate) fn shown_time(shift_us: i64) -> Expr {
    let time = Expr::Column(Column::new_unqualified("time"));
    if shift_us == 0 {
        time
    } else {
        time + lit(interval(shift_us))
    }
}

fn interval(span_us: i64) -> ScalarValue {
    ScalarValue::DurationMicrosecond(Some(span_us))
}

pub(crate) fn moment(time_us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(
        Some(time_us),
        Some("UTC".into()),
    ))
}

/// `time` within the span, in the data's own time.
pub(crate) fn within(span: Span) -> Expr {
    let time = Expr::Column(Column::new_unqualified("time"));
    let at = |shown: i64| moment(shown.saturating_sub(span.shift_us));
    let from = time.clone().gt_eq(at(span.range.from_us));
    from.and(time.lt(at(span.range.to_us)))
}

/// A scan of the table with a condition.
pub(crate) fn filtered(view: &Arc<TableView>, filter: Expr) -> Result<LogicalPlanBuilder> {
    let source = provider_as_source(Arc::new(LakeTable::new(Arc::clone(view))));
    let name = TableReference::bare(view.name.as_str());
    LogicalPlanBuilder::scan(name, source, None)?.filter(filter)
}

/// The plan that computes all leaves of `simples` over one table.
pub(crate) fn plan(
    view: &Arc<TableView>,
    simples: &[Arc<Simple>],
    span: Span,
    cut: &Cut,
) -> Result<LogicalPlan> {
    let shared = simples
        .iter()
        .all(|simple| simple.filter == simples[0].filter);
    let wanted = if shared {
        simples[0].filter.clone()
    } else {
        // One KPI without a condition needs all rows.
        let each: Option<Vec<Expr>> = simples.iter().map(|simple| simple.filter.clone()).collect();
        each.and_then(datafusion::logical_expr::utils::disjunction)
    };
    let conditions = [Some(within(span)), cut.filter.clone(), wanted];
    let filter = conditions.into_iter().flatten().reduce(Expr::and);
    let mut groups = cut.by.clone();
    if let Some(step_us) = span.step_us {
        groups.insert(
            0,
            functions::time_bucket(step_us, shown_time(span.shift_us)),
        );
    }
    let groups: Vec<Expr> = groups
        .into_iter()
        .enumerate()
        .map(|(i, expr)| expr.alias(format!("g{i}")))
        .collect();
    let mut values = Vec::new();
    for (i, simple) in simples.iter().enumerate() {
        let own = simple.filter.as_ref().filter(|_| !shared);
        values.push(guarded(aggregates::count(lit(1_i64)), own)?.alias(format!("n{i}")));
        for (j, leaf) in simple.leaves.iter().enumerate() {
            values.push(guarded(aggregate(leaf), own)?.alias(format!("v{i}_{j}")));
        }
    }
    let builder = filtered(view, filter.unwrap_or_else(|| lit(true)))?.aggregate(groups, values)?;
    let output = builder.schema().columns();
    let tidy = output.into_iter().map(|column| {
        let name = column.name.clone();
        let expr = Expr::Column(column);
        match name.as_bytes() {
            [b'g', b'0', ..] if span.step_us.is_some() && name == "g0" => expr,
            [b'g', ..] => cast(expr, DataType::Utf8).alias(name),
            [b'n', ..] => cast(expr, DataType::Int64).alias(name),
            _ => cast(expr, DataType::Float64).alias(name),
        }
    });
    builder.project(tidy.collect::<Vec<_>>())?.build()
}

fn guarded(aggregate: Expr, filter: Option<&Expr>) -> Result<Expr> {
    match filter {
        None => Ok(aggregate),
        Some(filter) => aggregate.filter(filter.clone()).build(),
    }
}

fn aggregate(leaf: &Leaf) -> Expr {
    let argument = leaf.argument.clone().unwrap_or_else(|| lit(1_i64));
    // Sums of integers in doubles are exact up to 2^53 and never wrap.
    let number = || try_cast(argument.clone(), DataType::Float64);
    match leaf.aggregate {
        Aggregate::Count => aggregates::count(argument),
        Aggregate::Sum => aggregates::sum(number()),
        Aggregate::Min => aggregates::min(number()),
        Aggregate::Max => aggregates::max(number()),
        Aggregate::Distinct => aggregates::approx_distinct(argument),
        Aggregate::Quantile(share) => quantile::quantile(argument, share),
    }
}

/// What a cell takes beside its leaves: its place in a tree that is half full, its row count.
pub(crate) const CELL_BYTES: usize = 112;
/// What a group takes beside the texts of its key.
const GROUP_BYTES: usize = 144;

/// What a group's key takes, with its place in a tree.
pub(crate) fn group_bytes(key: &Key) -> usize {
    let texts = key.iter();
    let texts =
        texts.map(|text| size_of::<Option<String>>() + text.as_ref().map_or(0, String::len));
    GROUP_BYTES + texts.sum::<usize>()
}

/// What cells take.
pub(crate) fn bytes(cells: &Cells) -> usize {
    let of_cell = |cell: &Cell| CELL_BYTES + size_of_val(cell.leaves.as_slice());
    let of_group = |(key, steps): (&Key, &BTreeMap<i64, Cell>)| {
        group_bytes(key) + steps.values().map(of_cell).sum::<usize>()
    };
    cells.iter().map(of_group).sum()
}

/// Reads one batch of the plan's answer into the cells of each KPI; how many bytes they grew by.
pub(crate) fn read(
    batch: &RecordBatch,
    simples: &[Arc<Simple>],
    span: Span,
    into: &mut [Cells],
) -> Result<usize> {
    let mut bytes = 0;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut columns = batch.columns().iter();
    let mut next = || columns.next().ok_or_else(missing);
    let buckets = match span.step_us {
        None => None,
        Some(_) => {
            let times = arrow::compute::cast(next()?, &micros)?;
            Some(arrow::compute::cast(&times, &DataType::Int64)?)
        }
    };
    let values: usize = simples.iter().map(|simple| 1 + simple.leaves.len()).sum();
    let dimensions = batch.num_columns() - values - usize::from(buckets.is_some());
    let mut names = Vec::new();
    for _ in 0..dimensions {
        names.push(next()?.as_string::<i32>());
    }
    for (simple, cells) in simples.iter().zip(into) {
        let rows = next()?.as_primitive::<Int64Type>();
        let mut leaves = Vec::new();
        for _ in &simple.leaves {
            leaves.push(next()?.as_primitive::<Float64Type>());
        }
        for row in 0..batch.num_rows() {
            let count = u64::try_from(rows.value(row)).unwrap_or(0);
            if count == 0 {
                continue;
            }
            let bucket = buckets.as_ref().map_or(span.range.from_us, |b| {
                b.as_primitive::<Int64Type>().value(row)
            });
            let key: Key = names
                .iter()
                .map(|n| n.is_valid(row).then(|| n.value(row).to_owned()))
                .collect();
            let leaves: Vec<Option<f64>> = leaves
                .iter()
                .map(|l| l.is_valid(row).then(|| l.value(row)))
                .collect();
            bytes += CELL_BYTES + size_of_val(leaves.as_slice());
            let cell = Cell {
                leaves,
                rows: count,
            };
            if !cells.contains_key(&key) {
                bytes += group_bytes(&key);
            }
            cells.entry(key).or_default().insert(bucket, cell);
        }
    }
    Ok(bytes)
}

fn missing() -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::Internal("a column of a KPI's plan is missing".to_owned())
}
