//! Levels that hold until they are told anew: a queue's length, a share of CPU.
//!
//! Samples come in order of instance and time; each holds until the instance's next one, at most
//! `hold_us`. Within a step the instance's last level or its time-weighted mean is taken, then the
//! instances are put together, as the samples pass: none is held but the last. Pure; see [`Levels`].

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

/// The plan that reads the samples: instance, dimensions, time in microseconds, value; in that order.
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
    // Of two samples of one moment the greater one is the later: the same rows have one answer.
    let order = 0..columns.len();
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(i, expr)| expr.alias(format!("c{i}")));
    let order =
        order.map(|i| Expr::Column(Column::new_unqualified(format!("c{i}"))).sort(true, true));
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

/// What one step of a group takes in memory.
const STEP_BYTES: usize = scan::CELL_BYTES + size_of::<Together>();

/// Takes samples in order and gathers levels by step. Of the samples only the last one is held.
pub(crate) struct Levels<'a> {
    gauge: &'a Gauge,
    steps: Vec<(i64, i64)>,
    current: Option<Current>,
    /// By dimensions and start of step: the levels of the instances, put together.
    found: BTreeMap<Key, BTreeMap<i64, Together>>,
    bytes: usize,
}

/// The instance whose samples come in.
struct Current {
    who: Key,
    key: Key,
    sample: (i64, f64),
    /// The number of the step that is being filled.
    at: usize,
    step: Step,
}

/// What is known of one instance in the step that is being filled.
#[derive(Default)]
struct Step {
    weight: f64,
    sum: f64,
    last: Option<f64>,
    samples: u64,
}

/// The levels of many instances in one step.
struct Together {
    sum: f64,
    max: f64,
    instances: u64,
    samples: u64,
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
            found: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// How much is held by now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next sample of an instance.
    pub(crate) fn add(&mut self, instance: Key, dimensions: Key, time_us: i64, value: f64) {
        let is_same = |current: &Current| current.who == instance && current.key == dimensions;
        let mut current = match self.current.take() {
            Some(mut current) if is_same(&current) => {
                self.hold(&mut current, time_us);
                current
            }
            other => {
                self.close(other);
                Current {
                    who: instance,
                    key: dimensions,
                    sample: (time_us, value),
                    at: 0,
                    step: Step::default(),
                }
            }
        };
        current.sample = (time_us, value);
        if let Some(at) = self.step_of(time_us) {
            self.go_to(&mut current, at);
            current.step.samples += 1;
        }
        self.current = Some(current);
    }

    /// The step a time lies in; none before the first.
    fn step_of(&self, time_us: i64) -> Option<usize> {
        self.steps
            .partition_point(|(from, _)| *from <= time_us)
            .checked_sub(1)
    }

    /// The last sample holds until `next_us`, or as long as a sample may.
    fn hold(&mut self, current: &mut Current, next_us: i64) {
        let (time, value) = current.sample;
        let until = time.saturating_add(self.gauge.hold_us).min(next_us);
        let mut at = self.step_of(time).unwrap_or(0);
        while let Some(&(from, to)) = self.steps.get(at).filter(|(from, _)| *from < until) {
            let held = until.min(to) - time.max(from);
            if held > 0 {
                self.go_to(current, at);
                current.step.weight += held as f64;
                current.step.sum += value * held as f64;
                current.step.last = Some(value);
            }
            at += 1;
        }
    }

    /// Moves on to a step; the one before it is done.
    fn go_to(&mut self, current: &mut Current, at: usize) {
        if at == current.at {
            return;
        }
        let step = std::mem::take(&mut current.step);
        let before = std::mem::replace(&mut current.at, at);
        self.put(&current.key, before, step);
    }

    /// Puts an instance's level in a step together with those of the others.
    fn put(&mut self, key: &Key, at: usize, step: Step) {
        let (Some(last), Some((from, _))) = (step.last, self.steps.get(at)) else {
            return;
        };
        let level = match self.gauge.measure {
            GaugeMeasure::Last => last,
            GaugeMeasure::Mean => step.sum / step.weight,
        };
        if !self.found.contains_key(key) {
            self.bytes += scan::group_bytes(key);
        }
        let steps = self.found.entry(key.clone()).or_default();
        let together = steps.entry(*from).or_insert_with(|| {
            self.bytes += STEP_BYTES;
            Together {
                sum: 0.0,
                max: f64::NEG_INFINITY,
                instances: 0,
                samples: 0,
            }
        });
        together.sum += level;
        together.max = together.max.max(level);
        together.instances += 1;
        together.samples += step.samples;
    }

    /// The last sample of an instance holds as long as a sample may.
    fn close(&mut self, current: Option<Current>) {
        let Some(mut current) = current else {
            return;
        };
        self.hold(&mut current, i64::MAX);
        self.put(&current.key, current.at, current.step);
    }

    /// All levels, the instances put together.
    pub(crate) fn finish(mut self) -> Cells {
        let last = self.current.take();
        self.close(last);
        let across = self.gauge.across;
        let cell = |found: Together| {
            let level = match across {
                Across::Sum => found.sum,
                Across::Mean => found.sum / found.instances as f64,
                Across::Max => found.max,
            };
            Cell {
                leaves: vec![Some(level)],
                rows: found.samples,
            }
        };
        let of_group = |steps: BTreeMap<i64, Together>| {
            let cells = steps.into_iter();
            cells.map(|(at, found)| (at, cell(found))).collect()
        };
        let found = self.found.into_iter();
        found.map(|(key, steps)| (key, of_group(steps))).collect()
    }
}
