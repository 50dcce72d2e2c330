//! One table of a snapshot as DataFusion sees it: Parquet files and hot rows, each row once.
//!
//! Files are pruned by the catalogue's statistics before any is opened; row groups, pages and rows
//! by DataFusion's own Parquet source. Where all of a file lies within the asked time, `time` is
//! not read to compare it. Columns a file or batch lacks are null, an integer under a
//! column that has widened is cast. No sort order is declared: files are sorted by series within
//! themselves, not across one another. Start at [`LakeTable`].

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use serin_lake::{Column, ColumnKind, DataFile, TableView};

use crate::prune;

/// A table of one snapshot.
#[derive(Debug)]
pub(crate) struct LakeTable {
    view: Arc<TableView>,
    schema: SchemaRef,
}

/// The Arrow type a column has inside a query. Text is read as views, which group and compare
/// faster; answers turn it back.
pub(crate) fn query_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text => DataType::Utf8View,
        other => other.arrow(),
    }
}

/// The schema a table has inside a query.
pub(crate) fn query_schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| Field::new(&column.name, query_type(column.kind), true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn parquet_options(state: &dyn Session) -> TableParquetOptions {
    TableParquetOptions {
        global: state.config_options().execution.parquet.clone(),
        ..TableParquetOptions::default()
    }
}

/// Lays a batch out under a schema: missing columns are null, others cast where they differ.
pub(crate) fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => Ok(cast(column, field.data_type())?),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

impl LakeTable {
    /// The table.
    pub(crate) fn new(view: Arc<TableView>) -> LakeTable {
        let schema = query_schema(&view.columns);
        LakeTable { view, schema }
    }

    fn parquet_scan(
        &self,
        state: &dyn Session,
        files: &[Arc<DataFile>],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::local_filesystem();
        let store = state.runtime_env().object_store(&url)?;
        let metadata = state.runtime_env().cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(parquet_options(state))
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(
                store, metadata,
            )));
        let groups = self.file_groups(files, state.config().target_partitions())?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(prune::table_statistics(files, &self.view.columns))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Spreads the files over `groups` by size, greatest first, each to the lightest group.
    fn file_groups(&self, files: &[Arc<DataFile>], groups: usize) -> Result<Vec<FileGroup>> {
        let mut by_size: Vec<&Arc<DataFile>> = files.iter().collect();
        by_size.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let mut spread: Vec<(u64, Vec<PartitionedFile>)> =
            vec![(0, Vec::new()); groups.clamp(1, files.len().max(1))];
        for file in by_size {
            let location = object_store::path::Path::from_absolute_path(&file.path)
                .map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
            let mut part = PartitionedFile::new("", file.bytes);
            part.object_meta.location = location;
            let part =
                part.with_statistics(Arc::new(prune::file_statistics(file, &self.view.columns)));
            if let Some(lightest) = spread.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                lightest.0 += file.bytes;
                lightest.1.push(part);
            }
        }
        Ok(spread
            .into_iter()
            .map(|(_, files)| FileGroup::new(files))
            .collect())
    }

    /// A scan and what it must be filtered by. The physical optimizer moves the filter into files.
    fn filtered(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        scan: impl FnOnce(Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return scan(projection);
        };
        // The columns asked for come first, those only compared after them.
        let wide = projection.map(|asked| {
            let compared = filter.column_refs();
            let also = (0..self.schema.fields().len()).filter(|index| {
                let name = self.schema.field(*index).name();
                !asked.contains(index) && compared.iter().any(|column| column.name == *name)
            });
            asked.iter().copied().chain(also).collect::<Vec<usize>>()
        });
        let input = scan(wide.as_ref())?;
        let schema = DFSchema::try_from(input.schema())?;
        let predicate = state.create_physical_expr(filter, &schema)?;
        let asked = projection.map(|asked| (0..asked.len()).collect());
        let filter = FilterExecBuilder::new(predicate, input).apply_projection(asked)?;
        Ok(Arc::new(filter.build()?))
    }

    fn fresh_scan(&self, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let batches = self
            .view
            .fresh
            .iter()
            .map(|batch| adapt(batch, &self.schema))
            .collect::<Result<Vec<_>>>()?;
        Ok(MemorySourceConfig::try_new_exec(
            &[batches],
            Arc::clone(&self.schema),
            projection.cloned(),
        )?)
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if prune::is_of_row(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = prune::prune(state, &self.schema, &self.view, filters)?;
        let has_fresh = self.view.fresh.iter().any(|batch| batch.num_rows() > 0);
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for (files, filters) in prune::split(files, filters) {
            // What a filter takes away does not count towards the limit.
            let limit = limit.filter(|_| filters.is_empty());
            inputs.push(self.filtered(state, projection, &filters, |projection| {
                self.parquet_scan(state, &files, projection, limit)
            })?);
        }
        if has_fresh {
            inputs.push(self.filtered(state, projection, filters, |projection| {
                self.fresh_scan(projection)
            })?);
        }
        match inputs.len() {
            0 => {
                let schema = match projection {
                    None => Arc::clone(&self.schema),
                    Some(indices) => Arc::new(self.schema.project(indices)?),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}
