//! Which files a filter leaves, and what the optimizer may know of them, by the catalogue alone.
//!
//! Text bounds may be cut, so they only prune; numbers and times are exact. Start at [`prune`].

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{
    Column as DfColumn, ColumnStatistics, DFSchema, Result, ScalarValue, Statistics,
};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use serin_lake::{Bound, Column, ColumnKind, ColumnStats, DataFile, TableView};

/// The files of a table in which some row may pass all filters.
pub(crate) fn prune(
    state: &dyn Session,
    schema: &SchemaRef,
    view: &TableView,
    filters: &[Expr],
) -> Result<Vec<Arc<DataFile>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else {
        return Ok(view.files.clone());
    };
    let df_schema = DFSchema::try_from(Arc::clone(schema))?;
    let filter = state.create_physical_expr(filter, &df_schema)?;
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(filter)?;
    if predicate.always_true() {
        return Ok(view.files.clone());
    }
    let kept = predicate.prune(&FileBounds {
        files: &view.files,
        columns: &view.columns,
    })?;
    Ok(view
        .files
        .iter()
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(file, _)| Arc::clone(file))
        .collect())
}

/// Whether a filter looks at a row and nothing else.
pub(crate) fn is_of_row(filter: &Expr) -> bool {
    let has_query = filter.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    });
    !filter.is_volatile() && matches!(has_query, Ok(false))
}

/// Some files, and the filters they still need.
type Part = (Vec<Arc<DataFile>>, Vec<Expr>);

/// Parts the files that lie wholly within the asked time from the others.
pub(crate) fn split(files: Vec<Arc<DataFile>>, filters: &[Expr]) -> Vec<Part> {
    let (times, others): (Vec<&Expr>, Vec<&Expr>) = filters
        .iter()
        .partition(|filter| TimeBound::of(filter).is_some());
    let times: Vec<TimeBound> = times.into_iter().filter_map(TimeBound::of).collect();
    let (within, across): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| times.iter().all(|time| time.is_always(file)));
    let parts = [
        (within, others.into_iter().cloned().collect()),
        (across, filters.to_vec()),
    ];
    parts
        .into_iter()
        .filter(|(files, _)| !files.is_empty())
        .collect()
}

/// A comparison of a column with a moment.
struct TimeBound<'a> {
    column: &'a str,
    operator: Operator,
    at_us: i64,
}

impl TimeBound<'_> {
    fn of(filter: &Expr) -> Option<TimeBound<'_>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else {
            return None;
        };
        let (column, operator, value) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
            _ => return None,
        };
        let ScalarValue::TimestampMicrosecond(Some(at_us), Some(_)) = value else {
            return None;
        };
        let is_order = matches!(
            operator,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
        );
        is_order.then_some(TimeBound {
            column: &column.name,
            operator,
            at_us: *at_us,
        })
    }

    /// Whether it holds for every row of a file.
    fn is_always(&self, file: &DataFile) -> bool {
        let Some(stats) = stats_of(file, self.column).filter(|stats| stats.nulls == 0) else {
            return false;
        };
        let (Some(Bound::Time(min)), Some(Bound::Time(max))) = (&stats.min, &stats.max) else {
            return false;
        };
        match self.operator {
            Operator::Lt => *max < self.at_us,
            Operator::LtEq => *max <= self.at_us,
            Operator::Gt => *min > self.at_us,
            Operator::GtEq => *min >= self.at_us,
            _ => false,
        }
    }
}

/// The bounds of all files of a table, column by column, as the pruning predicate asks for them.
struct FileBounds<'a> {
    files: &'a [Arc<DataFile>],
    columns: &'a [Column],
}

impl FileBounds<'_> {
    fn bounds(
        &self,
        name: &str,
        pick: impl Fn(&ColumnStats) -> Option<&Bound>,
    ) -> Option<ArrayRef> {
        let kind = self.columns.iter().find(|column| column.name == name)?.kind;
        let values = self.files.iter().map(|file| {
            let bound = stats_of(file, name)
                .filter(|stats| !stats.has_nan)
                .and_then(&pick);
            bound
                .and_then(|bound| scalar(bound, kind))
                .unwrap_or_else(|| null(kind))
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for FileBounds<'_> {
    fn min_values(&self, column: &DfColumn) -> Option<ArrayRef> {
        self.bounds(&column.name, |stats| stats.min.as_ref())
    }

    fn max_values(&self, column: &DfColumn) -> Option<ArrayRef> {
        self.bounds(&column.name, |stats| stats.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &DfColumn) -> Option<ArrayRef> {
        let counts = self.files.iter().map(|file| nulls_of(file, &column.name));
        Some(Arc::new(counts.map(Some).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.files.iter().map(|file| Some(file.rows));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &DfColumn, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn stats_of<'a>(file: &'a DataFile, name: &str) -> Option<&'a ColumnStats> {
    file.stats.iter().find(|stats| stats.name == name)
}

/// A column without statistics is one the file does not have: all its rows are null there.
fn nulls_of(file: &DataFile, name: &str) -> u64 {
    stats_of(file, name).map_or(file.rows, |stats| stats.nulls)
}

fn null(kind: ColumnKind) -> ScalarValue {
    match kind {
        ColumnKind::Bool => ScalarValue::Boolean(None),
        ColumnKind::Int => ScalarValue::Int64(None),
        ColumnKind::Double => ScalarValue::Float64(None),
        ColumnKind::Text => ScalarValue::Utf8View(None),
        ColumnKind::Time => ScalarValue::TimestampMicrosecond(None, Some("UTC".into())),
    }
}

/// A bound as a value of the column's present kind; `None` where it does not fit it.
fn scalar(bound: &Bound, kind: ColumnKind) -> Option<ScalarValue> {
    Some(match (bound, kind) {
        (Bound::Bool(value), ColumnKind::Bool) => ScalarValue::Boolean(Some(*value)),
        (Bound::Int(value), ColumnKind::Int) => ScalarValue::Int64(Some(*value)),
        (Bound::Int(value), ColumnKind::Double) => ScalarValue::Float64(Some(*value as f64)),
        (Bound::Double(value), ColumnKind::Double) if !value.is_nan() => {
            ScalarValue::Float64(Some(*value))
        }
        (Bound::Text(value), ColumnKind::Text) => ScalarValue::Utf8View(Some(value.clone())),
        (Bound::Time(value), ColumnKind::Time) => {
            ScalarValue::TimestampMicrosecond(Some(*value), Some("UTC".into()))
        }
        _ => return None,
    })
}

/// What the optimizer may know of one file.
pub(crate) fn file_statistics(file: &DataFile, columns: &[Column]) -> Statistics {
    let of_column = |column: &Column| {
        let mut known = ColumnStatistics::new_unknown();
        known.null_count = Precision::Exact(as_usize(nulls_of(file, &column.name)));
        let Some(stats) = stats_of(file, &column.name).filter(|stats| !stats.has_nan) else {
            return known;
        };
        let precise = |bound: &Option<Bound>| {
            match bound.as_ref().and_then(|bound| scalar(bound, column.kind)) {
                None => Precision::Absent,
                // Texts may be cut, and doubles do not order their zeroes.
                Some(value) if matches!(column.kind, ColumnKind::Text | ColumnKind::Double) => {
                    Precision::Inexact(value)
                }
                Some(value) => Precision::Exact(value),
            }
        };
        known.min_value = precise(&stats.min);
        known.max_value = precise(&stats.max);
        known
    };
    Statistics {
        num_rows: Precision::Exact(as_usize(file.rows)),
        total_byte_size: Precision::Inexact(as_usize(file.bytes)),
        column_statistics: columns.iter().map(of_column).collect(),
    }
}

/// What the optimizer may know of all files together.
pub(crate) fn table_statistics(files: &[Arc<DataFile>], columns: &[Column]) -> Statistics {
    let each: Vec<Statistics> = files
        .iter()
        .map(|file| file_statistics(file, columns))
        .collect();
    let schema = crate::table::query_schema(columns);
    Statistics::try_merge_iter(each.iter(), &schema)
        .unwrap_or_else(|_| Statistics::new_unknown(&schema))
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn file(min: i64, max: i64, nulls: u64) -> Arc<DataFile> {
        let stats = ColumnStats {
            name: "time".to_owned(),
            bytes: 0,
            nulls,
            min: Some(Bound::Time(min)),
            max: Some(Bound::Time(max)),
            has_nan: false,
        };
        Arc::new(DataFile {
            id: 1,
            path: "/a".into(),
            rows: 10,
            bytes: 10,
            stats: vec![stats],
            arrived_us: 0,
            is_import: false,
        })
    }

    fn at(time: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(
            Some(time),
            Some("UTC".into()),
        ))
    }

    #[test]
    fn only_files_that_lie_wholly_within_lose_their_time_filters() {
        let files = vec![
            file(10, 19, 0),
            file(10, 20, 0),
            file(9, 19, 0),
            file(10, 19, 1),
        ];
        let filters = [
            col("time").gt_eq(at(10)),
            at(20).gt(col("time")),
            col("status").eq(lit(1)),
        ];
        let parts = split(files.clone(), &filters);
        assert_eq!(parts.len(), 2);
        assert!(Arc::ptr_eq(&parts[0].0[0], &files[0]));
        assert_eq!((parts[0].0.len(), parts[1].0.len()), (1, 3));
        assert_eq!(
            (parts[0].1.as_slice(), parts[1].1.as_slice()),
            (&filters[2..], &filters[..])
        );
        // A column without statistics may be null everywhere.
        let other = [col("at").gt_eq(at(10))];
        assert_eq!(split(files, &other)[0].1, other);
    }
}
