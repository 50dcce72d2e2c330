//! `quantile(x, share)`: of numbers by a t-digest, of histograms by adding their counts.
//!
//! Numbers are left to DataFusion's `approx_percentile_cont`, texts are histograms as `beats` and
//! `metrics` hold them. `p50` … `p99` are this, in statements and in KPIs. Start at [`Quantile`].

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::types::{NativeType, logical_boolean, logical_float64, logical_string};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Coercion, Expr, Signature, TypeSignature,
    TypeSignatureClass, Volatility, lit,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::expressions::Literal;
use serin_wire::{PoolError, Pooled};

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Quantile {
    signature: Signature,
}

/// A call of it.
pub(crate) fn quantile(x: Expr, share: f64) -> Expr {
    AggregateUDF::from(Quantile::new()).call(vec![x, lit(share)])
}

impl Quantile {
    pub(crate) fn new() -> Quantile {
        let share = || number(vec![TypeSignatureClass::Numeric]);
        let text = Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
        let numbers = number(vec![
            TypeSignatureClass::Numeric,
            TypeSignatureClass::Native(logical_boolean()),
        ]);
        let forms = vec![
            TypeSignature::Coercible(vec![numbers, share()]),
            TypeSignature::Coercible(vec![text, share()]),
        ];
        Quantile {
            signature: Signature::one_of(forms, Volatility::Immutable),
        }
    }
}

/// A double, made of one of these where it is none.
fn number(of: Vec<TypeSignatureClass>) -> Coercion {
    let double = TypeSignatureClass::Native(logical_float64());
    Coercion::new_implicit(double, of, NativeType::Float64)
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        "quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _kinds: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match arguments.input_fields.first() {
            Some(field) if is_text(field.data_type()) => {
                let name = format_state_name(arguments.name, "pooled");
                Ok(vec![Field::new(name, DataType::Utf8, true).into()])
            }
            _ => approx_percentile_cont_udaf().state_fields(arguments),
        }
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match (arguments.expr_fields, arguments.exprs) {
            ([field, ..], [_, share]) if is_text(field.data_type()) => Ok(Box::new(Histograms {
                pooled: Pooled::default(),
                share: constant(share.as_ref())?,
            })),
            _ => approx_percentile_cont_udaf().accumulator(arguments),
        }
    }
}

/// The share asked for.
fn constant(share: &dyn PhysicalExpr) -> Result<f64> {
    let share = share.downcast_ref::<Literal>().map(Literal::value);
    match share {
        Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(share) => Ok(*share),
        _ => plan_err!("the share of a quantile is a number of 0 to 1, as in quantile(x, 0.95)"),
    }
}

/// Gathers the histograms of a group.
#[derive(Debug)]
struct Histograms {
    pooled: Pooled,
    share: f64,
}

fn wrong(error: PoolError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl Accumulator for Histograms {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [texts, ..] = values else {
            return exec_err!("a quantile has an argument");
        };
        let texts = cast(texts, &DataType::Utf8View)?;
        let mut texts = texts.as_string_view().iter().flatten();
        texts.try_for_each(|text| self.pooled.add(text).map_err(wrong))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.pooled.quantile(self.share)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.pooled.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let external = |error| DataFusionError::External(Box::new(error));
        let state = serde_json::to_string(&self.pooled).map_err(external)?;
        Ok(vec![ScalarValue::Utf8(Some(state))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else {
            return exec_err!("the state of a quantile is one text");
        };
        for state in states.as_string::<i32>().iter().flatten() {
            let pooled: Pooled = serde_json::from_str(state)
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            self.pooled.merge(pooled).map_err(wrong)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};
    use arrow::record_batch::RecordBatch;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::session;

    fn context() -> SessionContext {
        let context = session::context(Arc::default());
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("x", Arc::new(Float64Array::from(vec![0.5, 1.5])) as _),
        ]);
        context.register_batch("t", batch.unwrap()).unwrap();
        context
    }

    async fn physical(context: &SessionContext, sql: &str) -> String {
        let plan = context.sql(sql).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string()
    }

    /// Numbers take the way they would take without us.
    #[tokio::test]
    async fn the_plan_over_numbers_is_that_of_the_engine() {
        let context = context();
        for column in ["n", "x"] {
            let ours = format!("SELECT quantile({column}, 0.95) AS q FROM t GROUP BY n");
            let theirs = format!(
                "SELECT approx_percentile_cont(CAST({column} AS DOUBLE), 0.95) AS q FROM t GROUP BY n"
            );
            let (ours, theirs) = (
                physical(&context, &ours).await,
                physical(&context, &theirs).await,
            );
            let lines = |plan: &str| -> Vec<String> {
                let words = plan.lines().map(|line| line.trim().split(':').next());
                words.flatten().map(str::to_owned).collect()
            };
            assert_eq!(lines(&ours), lines(&theirs));
        }
    }
}
