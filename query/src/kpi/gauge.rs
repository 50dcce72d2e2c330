//! Levels that hold until they are told anew: a queue's length, a share of CPU.
//!
//! Samples come in order of instance and time; each holds until the instance's next one, at most
//! `hold_us`. Within a step the instance's last level or its time-weighted mean is taken, then the
//! instances are put together. Pure; start at [`Levels`].

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, cast, try_cast};
use serin_lake::TableView;

use super::definition::{Across, GaugeMeasure};
use super::plan::Gauge;
use super::run;
use super::scan::{self, Cell, Cells, Cut, Key, Span};

/// The columns that tell instances apart.
const INSTANCE: [&str; 3] = ["service", "version", "instance"];

/// The plan that reads the samples: instance, dimensions, time in microseconds, value; in order.
pub(crate) fn plan(
    view: &Arc<TableView>,
    gauge: &Gauge,
    span: Span,
    cut: &Cut,
) -> Result<LogicalPlan> {
    let mut wider = span;
    // A level told before the range still holds in it.
    wider.range.from_us = span.range.from_us.saturating_sub(gauge.hold_us);
    let conditions = [
        Some(scan::within(wider)),
        cut.filter.clone(),
        gauge.filter.clone(),
    ];
    let filter = conditions.into_iter().flatten().reduce(Expr::and);
    let filter = filter.unwrap_or_else(|| scan::within(wider));
    let instance = INSTANCE
        .iter()
        .filter(|name| view.columns.iter().any(|column| column.name == **name))
        .map(|name| cast(Expr::Column(Column::new_unqualified(*name)), DataType::Utf8));
    let dimensions = cut.by.iter().map(|expr| cast(expr.clone(), DataType::Utf8));
    let mut columns: Vec<Expr> = instance.chain(dimensions).collect();
    columns.push(cast(scan::shown_time(span.shift_us), DataType::Int64));
    columns.push(try_cast(gauge.value.clone(), DataType::Float64));
    let count = columns.len();
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(i, expr)| expr.alias(format!("c{i}")));
    let order = (0..count - 1)
        .map(|i| Expr::Column(Column::new_unqualified(format!("c{i}"))).sort(true, true));
    scan::filtered(view, filter)?
        .project(columns.collect::<Vec<_>>())?
        .sort(order.collect::<Vec<_>>())?
        .build()
}

/// How many leading columns of the plan name the instance.
pub(crate) fn instance_columns(view: &TableView) -> usize {
    let has = |name: &&&str| view.columns.iter().any(|column| column.name == **name);
    INSTANCE.iter().filter(has).count()
}

/// Takes samples in order and gathers levels by step.
pub(crate) struct Levels<'a> {
    gauge: &'a Gauge,
    steps: Vec<(i64, i64)>,
    current: Option<(Key, Key)>,
    samples: Vec<(i64, f64)>,
    /// By dimensions and start of step: the instances' levels, and samples behind them.
    found: BTreeMap<Key, BTreeMap<i64, (Vec<f64>, u64)>>,
}

impl<'a> Levels<'a> {
    pub(crate) fn new(gauge: &'a Gauge, span: Span) -> Levels<'a> {
        let mut steps = run::steps(span);
        for step in &mut steps {
            step.1 = step.1.min(span.range.to_us);
        }
        Levels {
            gauge,
            steps,
            current: None,
            samples: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    /// The next sample of an instance.
    pub(crate) fn add(&mut self, instance: Key, dimensions: Key, time_us: i64, value: f64) {
        let who = (instance, dimensions);
        if self.current.as_ref() != Some(&who) {
            self.close();
            self.current = Some(who);
        }
        self.samples.push((time_us, value));
    }

    /// Works out the levels of the instance whose samples are all there.
    fn close(&mut self) {
        let samples = std::mem::take(&mut self.samples);
        let Some((_, key)) = self.current.take() else {
            return;
        };
        for (from, to) in &self.steps {
            let Some((level, behind)) = self.level(&samples, *from, *to) else {
                continue;
            };
            let cell = self
                .found
                .entry(key.clone())
                .or_default()
                .entry(*from)
                .or_default();
            cell.0.push(level);
            cell.1 += behind;
        }
    }

    /// The level of one instance within a step, and how many of its samples lie in it.
    fn level(&self, samples: &[(i64, f64)], from: i64, to: i64) -> Option<(f64, u64)> {
        let begin = samples.partition_point(|(time, _)| *time < from);
        let end = samples.partition_point(|(time, _)| *time < to);
        // The one before the step holds into it.
        let first = begin.saturating_sub(1);
        let (mut weight, mut sum, mut last) = (0.0, 0.0, None);
        for index in first..end {
            let (time, value) = samples[index];
            let next = samples.get(index + 1).map_or(i64::MAX, |(next, _)| *next);
            let until = time.saturating_add(self.gauge.hold_us).min(next).min(to);
            let held = until - time.max(from);
            if held > 0 {
                weight += held as f64;
                sum += value * held as f64;
                last = Some(value);
            }
        }
        let level = match self.gauge.measure {
            GaugeMeasure::Last => last?,
            GaugeMeasure::Mean => last.map(|_| sum / weight)?,
        };
        Some((level, (end - begin) as u64))
    }

    /// All levels, the instances put together.
    pub(crate) fn finish(mut self) -> Cells {
        self.close();
        let across = self.gauge.across;
        let together = |levels: &[f64]| match across {
            Across::Sum => levels.iter().sum(),
            Across::Mean => levels.iter().sum::<f64>() / levels.len() as f64,
            Across::Max => levels.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        let cell = |(levels, rows): (Vec<f64>, u64)| Cell {
            leaves: vec![Some(together(&levels))],
            rows,
        };
        self.found
            .into_iter()
            .map(|(key, steps)| {
                (
                    key,
                    steps
                        .into_iter()
                        .map(|(at, found)| (at, cell(found)))
                        .collect(),
                )
            })
            .collect()
    }
}
