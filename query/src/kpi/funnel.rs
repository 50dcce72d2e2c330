//! How many of those who began went on, step by step.
//!
//! Events come in order of entity and time. Every first step in the range begins a try; each later
//! step is the earliest one after the step before it, no later than `within_us` after the beginning.
//! An entity counts once in a step of time, with its best try that began there. Pure; see [`Tries`].

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use serin_lake::TableView;

use super::answer::Series;
use super::plan::Funnel;
use super::run;
use super::scan::{self, Cut, Key, Span};

/// The events of one step of the funnel: entity, time in microseconds, number of the step, dimensions.
/// Only the first step has dimensions; the others have nulls in their place.
pub(crate) fn plan_step(
    view: &Arc<TableView>,
    funnel: &Funnel,
    number: usize,
    span: Span,
    cut: &Cut,
) -> Result<LogicalPlanBuilder> {
    let mut wider = span;
    if number > 0 {
        wider.range.to_us = span.range.to_us.saturating_add(funnel.within_us);
    }
    let entity = Expr::Column(Column::new_unqualified(&funnel.entity));
    let own = funnel
        .steps
        .get(number)
        .and_then(|(_, filter)| filter.clone());
    let conditions = [own, cut.filter.clone().filter(|_| number == 0)];
    let known = scan::within(wider).and(entity.clone().is_not_null());
    let filter = conditions.into_iter().flatten().fold(known, Expr::and);
    let mut columns = vec![
        cast(entity, DataType::Utf8),
        cast(scan::shown_time(span.shift_us), DataType::Int64),
        lit(number as i64),
    ];
    columns.extend(cut.by.iter().map(|expr| match number {
        0 => cast(expr.clone(), DataType::Utf8),
        _ => cast(lit(ScalarValue::Null), DataType::Utf8),
    }));
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(i, expr)| expr.alias(format!("c{i}")));
    scan::filtered(view, filter)?.project(columns.collect::<Vec<_>>())
}

/// All steps together in order of entity, time and step.
pub(crate) fn ordered(steps: Vec<LogicalPlanBuilder>) -> Result<Option<LogicalPlan>> {
    let mut steps = steps.into_iter();
    let Some(mut whole) = steps.next() else {
        return Ok(None);
    };
    for step in steps {
        whole = whole.union(step.build()?)?;
    }
    let order =
        (0..3).map(|i| Expr::Column(Column::new_unqualified(format!("c{i}"))).sort(true, true));
    whole.sort(order.collect::<Vec<_>>())?.build().map(Some)
}

/// Takes events in order and counts how far the entities came.
pub(crate) struct Tries<'a> {
    funnel: &'a Funnel,
    steps: Vec<(i64, i64)>,
    entity: Option<String>,
    events: Vec<(i64, usize, Key)>,
    /// By dimensions and start of step: how many entities reached each step of the funnel.
    reached: BTreeMap<Key, BTreeMap<i64, Vec<u64>>>,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(funnel: &'a Funnel, span: Span) -> Tries<'a> {
        let steps = run::steps(span);
        Tries {
            funnel,
            steps,
            entity: None,
            events: Vec::new(),
            reached: BTreeMap::new(),
        }
    }

    /// The next event.
    pub(crate) fn add(&mut self, entity: &str, time_us: i64, step: usize, dimensions: Key) {
        if self.entity.as_deref() != Some(entity) {
            self.close();
            self.entity = Some(entity.to_owned());
        }
        self.events.push((time_us, step, dimensions));
    }

    fn close(&mut self) {
        let events = std::mem::take(&mut self.events);
        let mut best: BTreeMap<(i64, &Key), usize> = BTreeMap::new();
        for (index, (begun, step, key)) in events.iter().enumerate() {
            if *step != 0 {
                continue;
            }
            let at = self
                .steps
                .partition_point(|(from, _)| from <= begun)
                .saturating_sub(1);
            let Some((start, _)) = self.steps.get(at) else {
                continue;
            };
            let depth = self.depth(&events, index);
            let known = best.entry((*start, key)).or_default();
            *known = depth.max(*known);
        }
        for ((start, key), depth) in best {
            let counts = self.reached.entry(key.clone()).or_default().entry(start);
            let counts = counts.or_insert_with(|| vec![0; self.funnel.steps.len()]);
            for count in counts.iter_mut().take(depth) {
                *count += 1;
            }
        }
    }

    /// How many steps the try that begins at `index` makes, the first one counted.
    fn depth(&self, events: &[(i64, usize, Key)], index: usize) -> usize {
        let until = events[index].0.saturating_add(self.funnel.within_us);
        let mut depth = 1;
        for (time, step, _) in &events[index + 1..] {
            if *time > until || depth == self.funnel.steps.len() {
                break;
            }
            if *step == depth {
                depth += 1;
            }
        }
        depth
    }

    /// A series for each group and step of the funnel: the share of those who began, with both counts.
    pub(crate) fn finish(mut self, by: &[String], is_known: impl Fn(i64) -> bool) -> Vec<Series> {
        self.close();
        if by.is_empty() {
            self.reached.entry(Key::new()).or_default();
        }
        let mut series = Vec::new();
        for (key, found) in &self.reached {
            for (number, (event, _)) in self.funnel.steps.iter().enumerate() {
                let mut names: Vec<(String, Option<String>)> =
                    by.iter().cloned().zip(key.iter().cloned()).collect();
                names.push(("step".to_owned(), Some(format!("{} {event}", number + 1))));
                let parts: Vec<(Option<f64>, Option<f64>)> = self
                    .steps
                    .iter()
                    .map(|(start, end)| match found.get(start) {
                        Some(counts) => (Some(counts[number] as f64), Some(counts[0] as f64)),
                        None if is_known(*end) => (Some(0.0), Some(0.0)),
                        None => (None, None),
                    })
                    .collect();
                let share = |(went, began): &(Option<f64>, Option<f64>)| match (went, began) {
                    (Some(went), Some(began)) if *began > 0.0 => Some(went / began),
                    _ => None,
                };
                series.push(Series {
                    by: names,
                    points: self
                        .steps
                        .iter()
                        .zip(&parts)
                        .map(|((at, _), p)| (*at, share(p)))
                        .collect(),
                    samples: parts.iter().filter_map(|(_, began)| *began).sum::<f64>() as u64,
                    parts: Some(parts),
                });
            }
        }
        series
    }
}
