//! A DataFusion session over one snapshot, with the functions that may be called and no others.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use futures::StreamExt;
use serin_lake::{CheckedStore, Snapshot};

use crate::allowed;
use crate::error::QueryError;
use crate::events;
use crate::functions::TimeBucket;
use crate::guard::Admitted;
use crate::limits::Limits;
use crate::names;
use crate::plain;
use crate::quantile::Quantile;
use crate::table::LakeTable;

/// In how many pieces a query runs at a time.
const PARTITIONS: usize = 2;

/// What DataFusion calls the bound of what is written aside.
const SPILL_SETTING: &str = "max_temp_directory_size";

/// What a cell of an answer counts for at least.
const CELL_BYTES_MIN: usize = 8;

/// The memory, disk and caches that queries share.
/// Files are read through `store` alone, which lets no flipped bit through.
pub(crate) fn runtime(
    limits: &Limits,
    spill_dir: &Path,
    store: Arc<CheckedStore>,
) -> Result<Arc<RuntimeEnv>> {
    // The pool does not see everything a query holds; a quarter is left for the rest.
    let pool = GreedyMemoryPool::new(limits.memory_bytes / 4 * 3);
    let top = std::num::NonZeroUsize::MIN;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill_dir.to_owned()]))
        .with_max_temp_directory_size(limits.spill_bytes_max);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, top)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    runtime.register_object_store(ObjectStoreUrl::local_filesystem().as_ref(), store);
    Ok(runtime)
}

/// A session without tables.
pub(crate) fn context(runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(PARTITIONS)
        .with_information_schema(true)
        .with_default_catalog_and_schema("serin", "main");
    let options = config.options_mut();
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    // Names are spelled by `names` before planning.
    options.sql_parser.enable_ident_normalization = false;
    options.execution.time_zone = Some("UTC".into());
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    for (name, _) in allowed::HELD_BACK {
        // What is not there cannot be reached by a way the guard overlooked.
        drop(state.deregister_udf(name));
        drop(state.deregister_udaf(name));
        drop(state.deregister_udwf(name));
        drop(state.deregister_udtf(name));
    }
    let context = SessionContext::new_with_state(state);
    context.register_udf(ScalarUDF::from(TimeBucket::new()));
    context.register_udaf(AggregateUDF::from(Quantile::new()));
    context
}

/// Registers all tables of a snapshot and the view `events`.
pub(crate) fn register(context: &SessionContext, snapshot: &Snapshot) -> Result<()> {
    for (name, view) in &snapshot.tables {
        let table = Arc::new(LakeTable::new(Arc::clone(view)));
        context.register_table(
            datafusion::common::TableReference::bare(name.as_str()),
            table,
        )?;
    }
    context.register_table("events", Arc::new(events::view(snapshot)?))?;
    Ok(())
}

/// Plans an admitted statement; whatever is not a pure query is refused here once more.
pub(crate) async fn plan(
    context: &SessionContext,
    snapshot: &Snapshot,
    admitted: Admitted,
    limits: &Limits,
) -> Result<LogicalPlan, QueryError> {
    let planned = planned(context, snapshot, admitted).await;
    planned.map_err(|error| {
        let missing = plain::missing_table(error.find_root(), snapshot);
        missing.unwrap_or_else(|| explain(error, limits))
    })
}

async fn planned(
    context: &SessionContext,
    snapshot: &Snapshot,
    mut admitted: Admitted,
) -> Result<LogicalPlan> {
    names::resolve(&mut admitted.statement, snapshot, &admitted.tables);
    let statement = DfStatement::Statement(Box::new(admitted.statement));
    let plan = context.state().statement_to_plan(statement).await?;
    let only_reads = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    only_reads.verify_plan(&plan)?;
    Ok(plan)
}

/// Rows of an answer, cut at the limits.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) is_truncated: bool,
}

/// Runs a plan and collects its rows, until there are `rows_max`.
pub(crate) async fn collect(
    context: &SessionContext,
    plan: LogicalPlan,
    limits: &Limits,
) -> Result<Rows, QueryError> {
    let wrong = |error| explain(error, limits);
    let frame = context.execute_logical_plan(plan).await.map_err(wrong)?;
    let schema = plain_schema(frame.schema().as_arrow());
    let mut stream = frame.execute_stream().await.map_err(wrong)?;
    let mut rows = Rows {
        schema: Arc::clone(&schema),
        batches: Vec::new(),
        is_truncated: false,
    };
    let (mut count, mut bytes) = (0, 0);
    while let Some(batch) = stream.next().await {
        let mut batch = batch.map_err(wrong)?;
        if count + batch.num_rows() > limits.rows_max {
            batch = batch.slice(0, limits.rows_max - count);
            rows.is_truncated = true;
        }
        count += batch.num_rows();
        let batch = positional(&batch, &schema).map_err(wrong)?;
        // A null or a truth takes next to nothing here, and several bytes wherever it is sent.
        let cells = batch.num_rows() * batch.num_columns();
        bytes += bytes_of(&batch).map_err(wrong)?.max(cells * CELL_BYTES_MIN);
        if bytes > limits.result_bytes_max {
            return Err(QueryError::ResultBytes {
                bytes: limits.result_bytes_max,
            });
        }
        rows.batches.push(batch);
        if rows.is_truncated {
            break;
        }
    }
    Ok(rows)
}

/// What the rows themselves take. They may lie in memory that they share with columns nobody asked for, as
/// rows do that were passed to this process in one piece.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| Ok(column.to_data().get_slice_memory_size()?));
    bytes.sum()
}

/// The schema that leaves: text as plain UTF-8, whatever it was inside.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let kind = match field.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                other => other.clone(),
            };
            Field::new(field.name(), kind, true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Casts column by column; names may repeat.
fn positional(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| Ok(arrow::compute::cast(column, field.data_type())?))
        .collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// What an error of DataFusion means for whoever asked.
pub(crate) fn explain(error: DataFusionError, limits: &Limits) -> QueryError {
    if let Some(message) = refused_by_store(error.find_root()) {
        return QueryError::Damaged { message };
    }
    match error.find_root() {
        root if is_full_aside(root) => QueryError::Spill {
            bytes: limits.spill_bytes_max,
        },
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory {
            bytes: limits.memory_bytes,
        },
        root => plain::explain(root),
    }
}

/// Whether it wrote aside as much as it may: of that there is no error of its own, but a failed write
/// that names DataFusion's own setting.
fn is_full_aside(root: &DataFusionError) -> bool {
    match root {
        DataFusionError::ResourcesExhausted(said) => said.contains("disk"),
        DataFusionError::IoError(error) => error.to_string().contains(SPILL_SETTING),
        DataFusionError::ArrowError(error, _) => {
            matches!(&**error, ArrowError::IoError(said, _) if said.contains(SPILL_SETTING))
        }
        _ => false,
    }
}

/// What the lake's store says, when it refused to give bytes out.
///
/// DataFusion turns errors met while it reads a file's metadata into text, so the text is looked at;
/// but only of errors of reading, where no text of the statement gets in.
fn refused_by_store(root: &DataFusionError) -> Option<String> {
    let is_reading = matches!(
        root,
        DataFusionError::ParquetError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::External(_)
    );
    let text = is_reading.then(|| root.strip_backtrace())?;
    let (_, message) = text.split_once("Generic lake error: ")?;
    Some(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that is held back can be found by the planner either, in whatever register.
    #[test]
    fn held_back_functions_are_gone() {
        let runtime = runtime(&Limits::default(), Path::new("/nowhere"), Arc::default()).unwrap();
        let state = context(runtime).state();
        for (name, _) in allowed::HELD_BACK {
            assert!(!state.scalar_functions().contains_key(*name), "{name}");
            assert!(!state.aggregate_functions().contains_key(*name), "{name}");
            assert!(!state.window_functions().contains_key(*name), "{name}");
            assert!(!state.table_functions().contains_key(*name), "{name}");
        }
    }
}
