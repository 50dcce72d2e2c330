//! A compiled KPI: checked, resolved, and ready to run over any snapshot.
//!
//! A measure is arithmetic over *leaves*; a leaf is one aggregate that DataFusion computes per group
//! and step. All arithmetic above the leaves (ratios, derived and cumulative KPIs) is done here over
//! the few numbers that remain, so a ratio is always a quotient of sums and never a mean of ratios.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::logical_expr::Expr;

use super::definition::{Across, Definition, GaugeMeasure, Kind, Since};

/// A compiled KPI. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KpiPlan(pub(crate) Arc<Compiled>);

/// What is behind a [`KpiPlan`].
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) definition: Definition,
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) node: Node,
}

/// A dimension of a definition.
#[derive(Debug, Clone)]
pub(crate) struct Dimension {
    pub(crate) name: String,
    pub(crate) expr: Expr,
}

/// How a compiled KPI is computed.
#[derive(Debug)]
pub(crate) enum Node {
    Simple(Arc<Simple>),
    Gauge(Arc<Gauge>),
    Funnel(Arc<Funnel>),
    Ratio(KpiPlan, KpiPlan),
    Derived(Formula, Vec<KpiPlan>),
    Cumulative(KpiPlan, Since),
}

/// Aggregates over one table.
#[derive(Debug)]
pub(crate) struct Simple {
    pub(crate) event: String,
    pub(crate) filter: Option<Expr>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) measure: Formula,
}

/// One aggregate that DataFusion computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) aggregate: Aggregate,
    /// What is aggregated; `None` counts rows.
    pub(crate) argument: Option<Expr>,
}

/// The aggregates of the measure language. `avg` is a sum over a count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aggregate {
    Count,
    Sum,
    Min,
    Max,
    Quantile(f64),
    Distinct,
}

/// A level that holds until it is told anew.
#[derive(Debug)]
pub(crate) struct Gauge {
    pub(crate) event: String,
    pub(crate) value: Expr,
    pub(crate) filter: Option<Expr>,
    pub(crate) measure: GaugeMeasure,
    pub(crate) across: Across,
    pub(crate) hold_us: i64,
}

/// Steps by one entity within a time.
#[derive(Debug)]
pub(crate) struct Funnel {
    pub(crate) steps: Vec<(String, Option<Expr>)>,
    pub(crate) entity: String,
    pub(crate) within_us: i64,
}

/// Arithmetic over numbered inputs: leaves of a measure, or KPIs of a derived one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Formula {
    Number(f64),
    /// How long what it is computed over takes, for rates.
    Seconds,
    Input(usize),
    Negative(Box<Formula>),
    Binary(Box<Formula>, Arithmetic, Box<Formula>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Formula {
    /// The value over so many seconds; `None` where an input is missing, or the result is no finite
    /// number.
    pub(crate) fn value(&self, seconds: f64, input: &impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let value = match self {
            Formula::Number(number) => *number,
            Formula::Seconds => seconds,
            Formula::Input(index) => input(*index)?,
            Formula::Negative(inner) => -inner.value(seconds, input)?,
            Formula::Binary(left, operator, right) => {
                let (left, right) = (left.value(seconds, input)?, right.value(seconds, input)?);
                match operator {
                    Arithmetic::Add => left + right,
                    Arithmetic::Subtract => left - right,
                    Arithmetic::Multiply => left * right,
                    Arithmetic::Divide => left / right,
                }
            }
        };
        value.is_finite().then_some(value)
    }
}

impl Aggregate {
    /// What it is over no rows at all: a count of nothing is zero, a mean of nothing is not.
    pub(crate) fn of_nothing(self) -> Option<f64> {
        match self {
            Aggregate::Count | Aggregate::Sum | Aggregate::Distinct => Some(0.0),
            Aggregate::Min | Aggregate::Max | Aggregate::Quantile(_) => None,
        }
    }

    /// Two parts as one; `None` for what cannot be put together from parts.
    pub(crate) fn merge(self, a: Option<f64>, b: Option<f64>) -> Option<f64> {
        let pick = |f: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (one, other) => one.or(other),
        };
        match self {
            Aggregate::Count | Aggregate::Sum => pick(|a, b| a + b),
            Aggregate::Min => pick(f64::min),
            Aggregate::Max => pick(f64::max),
            Aggregate::Quantile(_) | Aggregate::Distinct => None,
        }
    }

    /// Whether the whole can be put together from parts.
    pub(crate) fn is_mergeable(self) -> bool {
        !matches!(self, Aggregate::Quantile(_) | Aggregate::Distinct)
    }
}

impl KpiPlan {
    /// What it was compiled from.
    pub fn definition(&self) -> &Definition {
        &self.0.definition
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.definition.name
    }

    /// What its values are counted in: as defined, else `ratio` for ratios and funnels.
    pub fn unit(&self) -> Option<&str> {
        match (&self.0.definition.unit, &self.0.definition.kind) {
            (Some(unit), _) => Some(unit),
            (None, Kind::Ratio { .. } | Kind::Funnel { .. }) => Some("ratio"),
            (None, _) => None,
        }
    }

    /// Whether its values are near the true ones, not equal to them: quantiles come from a t-digest or
    /// from the buckets of histograms, distinct counts from a HyperLogLog.
    pub fn is_approximate(&self) -> bool {
        let is_own = match &self.0.node {
            Node::Simple(simple) => {
                let mut leaves = simple.leaves.iter();
                leaves.any(|leaf| !leaf.aggregate.is_mergeable())
            }
            _ => false,
        };
        is_own || self.inputs().into_iter().any(KpiPlan::is_approximate)
    }

    /// The tables it reads.
    pub fn events(&self) -> BTreeSet<String> {
        self.columns().into_iter().map(|(event, _)| event).collect()
    }

    /// The columns it reads, as (table, column); `time` of every table among them.
    pub fn columns(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        self.collect_columns(&mut found);
        let dimensions: Vec<String> = self
            .0
            .dimensions
            .iter()
            .flat_map(|d| names(&d.expr))
            .collect();
        let events: BTreeSet<String> = found.iter().map(|(event, _)| event.clone()).collect();
        for event in events {
            found.extend(
                dimensions
                    .iter()
                    .map(|column| (event.clone(), column.clone())),
            );
        }
        found
    }

    /// The names of its declared dimensions.
    pub fn dimensions(&self) -> Vec<String> {
        self.0.dimensions.iter().map(|d| d.name.clone()).collect()
    }

    /// The expression of a declared dimension, its own or of a KPI it is made of.
    pub(crate) fn dimension(&self, name: &str) -> Option<Expr> {
        let own = self
            .0
            .dimensions
            .iter()
            .find(|dimension| dimension.name == name);
        own.map(|dimension| dimension.expr.clone()).or_else(|| {
            self.inputs()
                .into_iter()
                .find_map(|input| input.dimension(name))
        })
    }

    /// The KPIs it is made of, itself not among them.
    pub fn inputs(&self) -> Vec<&KpiPlan> {
        match &self.0.node {
            Node::Simple(_) | Node::Gauge(_) | Node::Funnel(_) => Vec::new(),
            Node::Ratio(numerator, denominator) => vec![numerator, denominator],
            Node::Derived(_, inputs) => inputs.iter().collect(),
            Node::Cumulative(of, _) => vec![of],
        }
    }

    fn collect_columns(&self, found: &mut BTreeSet<(String, String)>) {
        let mut add = |event: &str, columns: Vec<String>| {
            found.insert((event.to_owned(), "time".to_owned()));
            found.extend(columns.into_iter().map(|column| (event.to_owned(), column)));
        };
        match &self.0.node {
            Node::Simple(simple) => {
                let arguments = simple
                    .leaves
                    .iter()
                    .filter_map(|leaf| leaf.argument.as_ref());
                let exprs = simple.filter.iter().chain(arguments);
                add(&simple.event, exprs.flat_map(names).collect());
            }
            Node::Gauge(gauge) => {
                let exprs = gauge.filter.iter().chain([&gauge.value]);
                add(&gauge.event, exprs.flat_map(names).collect());
            }
            Node::Funnel(funnel) => {
                for (event, filter) in &funnel.steps {
                    let mut columns: Vec<String> = filter.iter().flat_map(names).collect();
                    columns.push(funnel.entity.clone());
                    add(event, columns);
                }
            }
            Node::Ratio(..) | Node::Derived(..) | Node::Cumulative(..) => {}
        }
        for input in self.inputs() {
            input.collect_columns(found);
        }
    }
}

/// The columns an expression names, sorted.
pub(crate) fn names(expr: &Expr) -> Vec<String> {
    let columns: BTreeSet<String> = expr
        .column_refs()
        .into_iter()
        .map(|column| column.name.clone())
        .collect();
    columns.into_iter().collect()
}
