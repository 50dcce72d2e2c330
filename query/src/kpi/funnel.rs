//! How many of those who began went on, step by step.
//!
//! Events come in order of entity and time. Every first step in the range begins a try; each later
//! step is the earliest one after the step before it, no later than `within_us` after the beginning.
//! One event never makes two steps of a try. An entity counts once in a step of time, with its best
//! try that began there. Pure; see [`Tries`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use serin_lake::TableView;

use super::answer::Series;
use super::plan::Funnel;
use super::run;
use super::scan::{self, Cut, Key, Span};

/// The steps of a funnel in the order in which they have their turn at one moment: one after the other,
/// as they may well follow each other within it; but of those of one event the last one first, lest the
/// same row takes a try two steps on.
fn turns(funnel: &Funnel) -> Vec<usize> {
    let event = |number: usize| funnel.steps.get(number).map(|(event, _)| event);
    let numbers = || 0..funnel.steps.len();
    let first = |number: usize| numbers().find(|other| event(*other) == event(number));
    let mut turns: Vec<usize> = numbers().collect();
    turns.sort_by_key(|number| (first(*number), Reverse(*number)));
    turns
}

/// The events of one step of the funnel: entity, time in microseconds, turn of the step, dimensions.
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
    let turn = turns(funnel).into_iter().take_while(|of| *of != number);
    let mut columns = vec![
        cast(entity, DataType::Utf8),
        cast(scan::shown_time(span.shift_us), DataType::Int64),
        lit(turn.count() as i64),
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

/// All steps together in order of entity, time and turn.
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

/// What one group of tries takes while its entity's events pass, and one step of what was reached.
const TRIES_BYTES: usize = scan::CELL_BYTES + size_of::<Tried>();

/// Takes events in order and counts how far the entities came.
///
/// A later step takes every open try that waits for it one step further. Of two tries that began in the
/// same step of time and came equally far, the later one lasts longer, so the earlier is forgotten: an
/// entity with a million events costs a million times the steps of the funnel, and little memory.
pub(crate) struct Tries<'a> {
    funnel: &'a Funnel,
    turns: Vec<usize>,
    steps: Vec<(i64, i64)>,
    entity: Option<String>,
    /// The tries of the entity that are open, by the steps they made less one, earliest first.
    open: Vec<VecDeque<Try>>,
    /// What the entity's tries belong to, and where in `tried` that is.
    known: BTreeMap<(i64, Key), usize>,
    tried: Vec<Tried>,
    /// By dimensions and start of step: how many entities reached each step of the funnel.
    reached: BTreeMap<Key, BTreeMap<i64, Vec<u64>>>,
    reached_bytes: usize,
}

/// A try under way.
#[derive(Clone, Copy)]
struct Try {
    begun_us: i64,
    /// Its place in `tried`.
    of: usize,
}

/// The tries of one entity that began in one step of time with the same dimensions.
struct Tried {
    start_us: i64,
    key: Key,
    /// How many steps the best of them made.
    depth: usize,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(funnel: &'a Funnel, span: Span) -> Tries<'a> {
        Tries {
            funnel,
            turns: turns(funnel),
            steps: run::steps(span),
            entity: None,
            open: vec![VecDeque::new(); funnel.steps.len()],
            known: BTreeMap::new(),
            tried: Vec::new(),
            reached: BTreeMap::new(),
            reached_bytes: 0,
        }
    }

    /// How much is held by now.
    pub(crate) fn bytes(&self) -> usize {
        let tries = self.open.iter().map(VecDeque::len).sum::<usize>();
        // Each group of tries names its dimensions twice.
        let of_tried = |tried: &Tried| TRIES_BYTES + 2 * scan::group_bytes(&tried.key);
        let tried = self.tried.iter().map(of_tried).sum::<usize>();
        self.reached_bytes + tries * size_of::<Try>() + tried
    }

    /// The next event, as a step that has this turn.
    pub(crate) fn add(&mut self, entity: &str, time_us: i64, turn: usize, dimensions: Key) {
        if self.entity.as_deref() != Some(entity) {
            self.close();
            self.entity = Some(entity.to_owned());
        }
        match self.turns.get(turn) {
            Some(0) => self.begin(time_us, dimensions),
            Some(step) => self.go_on(time_us, *step),
            None => {}
        }
    }

    fn begin(&mut self, time_us: i64, key: Key) {
        let at = self.steps.partition_point(|(from, _)| *from <= time_us);
        let Some(&(start_us, _)) = self.steps.get(at.saturating_sub(1)) else {
            return;
        };
        let of = *self
            .known
            .entry((start_us, key.clone()))
            .or_insert(self.tried.len());
        if of == self.tried.len() {
            self.tried.push(Tried {
                start_us,
                key,
                depth: 1,
            });
        }
        self.put(
            0,
            Try {
                begun_us: time_us,
                of,
            },
        );
    }

    /// Puts a try where those are that came as far; it began after all of them.
    fn put(&mut self, place: usize, made: Try) {
        let Some(open) = self.open.get_mut(place) else {
            return;
        };
        match open.back_mut() {
            Some(last) if last.of == made.of => *last = made,
            _ => open.push_back(made),
        }
    }

    /// A later step: every try that waits for it and is not too old is one step further.
    fn go_on(&mut self, time_us: i64, step: usize) {
        let oldest_us = time_us.saturating_sub(self.funnel.within_us);
        let Some(waiting) = step.checked_sub(1).and_then(|at| self.open.get_mut(at)) else {
            return;
        };
        for made in std::mem::take(waiting) {
            if made.begun_us < oldest_us {
                continue;
            }
            let tried = &mut self.tried[made.of];
            tried.depth = tried.depth.max(step + 1);
            // Who made the last step waits for nothing.
            if step + 1 < self.funnel.steps.len() {
                self.put(step, made);
            }
        }
    }

    /// Counts the entity whose events are all there: once in each group, with its best try.
    fn close(&mut self) {
        self.open.iter_mut().for_each(VecDeque::clear);
        self.known.clear();
        let made = self.funnel.steps.len();
        for Tried {
            start_us,
            key,
            depth,
        } in std::mem::take(&mut self.tried)
        {
            if !self.reached.contains_key(&key) {
                self.reached_bytes += scan::group_bytes(&key);
            }
            let starts = self.reached.entry(key).or_default();
            let counts = starts.entry(start_us).or_insert_with(|| {
                self.reached_bytes += scan::CELL_BYTES + made * size_of::<u64>();
                vec![0; made]
            });
            for count in counts.iter_mut().take(depth) {
                *count += 1;
            }
        }
    }

    /// The groups, one after the other: how many began, and a series for each step of the funnel with
    /// the share of those who came so far, and both counts.
    pub(crate) fn finish(
        mut self,
        by: &[String],
        is_known: impl Fn(i64, i64) -> bool,
    ) -> impl Iterator<Item = (f64, Vec<Series>)> {
        self.close();
        if by.is_empty() {
            self.reached.entry(Key::new()).or_default();
        }
        let (funnel, steps) = (self.funnel, self.steps);
        self.reached.into_iter().map(move |(key, found)| {
            let began = found.values().map(|counts| counts[0] as f64).sum();
            let series = (0..funnel.steps.len()).map(|number| {
                let parts = steps.iter().map(|(start, end)| match found.get(start) {
                    Some(counts) => (Some(counts[number] as f64), Some(counts[0] as f64)),
                    None if is_known(*start, *end) => (Some(0.0), Some(0.0)),
                    None => (None, None),
                });
                step_series(funnel, number, (by, &key), &steps, parts.collect())
            });
            (began, series.collect())
        })
    }
}

fn step_series(
    funnel: &Funnel,
    number: usize,
    (by, key): (&[String], &Key),
    steps: &[(i64, i64)],
    parts: Vec<(Option<f64>, Option<f64>)>,
) -> Series {
    let (event, _) = &funnel.steps[number];
    let mut names: Vec<(String, Option<String>)> =
        by.iter().cloned().zip(key.iter().cloned()).collect();
    names.push(("step".to_owned(), Some(format!("{} {event}", number + 1))));
    let share = |(went, began): &(Option<f64>, Option<f64>)| match (went, began) {
        (Some(went), Some(began)) if *began > 0.0 => Some(went / began),
        _ => None,
    };
    let points = steps.iter().zip(&parts);
    Series {
        by: names,
        points: points.map(|((at, _), parts)| (*at, share(parts))).collect(),
        samples: parts.iter().filter_map(|(_, began)| *began).sum::<f64>() as u64,
        parts: Some(parts),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::limits::Range;

    /// Each letter is the event of a step.
    fn funnel(steps: &str, within_us: i64) -> Funnel {
        Funnel {
            steps: steps.chars().map(|event| (event.into(), None)).collect(),
            entity: "user".to_owned(),
            within_us,
        }
    }

    fn span(step_us: Option<i64>) -> Span {
        let range = Range {
            from_us: 0,
            to_us: 2_000_000,
        };
        Span {
            range,
            step_us,
            shift_us: 0,
        }
    }

    /// How far each try comes, told by walking on from every beginning: what must come out.
    fn by_walking(
        steps: &[char],
        rows: &[(i64, char)],
        within_us: i64,
        step_us: i64,
    ) -> BTreeMap<i64, usize> {
        let mut best = BTreeMap::new();
        for (index, (begun, event)) in rows.iter().enumerate() {
            if *event != steps[0] {
                continue;
            }
            let mut depth = 1;
            for (time, event) in &rows[index + 1..] {
                if *time <= begun + within_us && steps.get(depth) == Some(event) {
                    depth += 1;
                }
            }
            let known: &mut usize = best.entry(begun - begun % step_us).or_default();
            *known = depth.max(*known);
        }
        best
    }

    #[test]
    fn every_try_comes_as_far_as_by_walking() {
        // A small generator (Knuth's) of many short stories, the same each time.
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for story in 0..3_000 {
            // Where an event is more than one step, a row of it is each of them.
            let steps = ["abc", "aa", "aab", "abb", "aba"][story % 5];
            let within_us = 1 + next(40) as i64;
            let rows: BTreeSet<(i64, char)> = (0..next(14))
                .map(|_| (next(60) as i64, ['a', 'b', 'c'][next(3) as usize]))
                .collect();
            let rows: Vec<_> = rows.into_iter().collect();
            let step_us = 20;
            let funnel = funnel(steps, within_us);
            let steps: Vec<char> = steps.chars().collect();
            let turns = turns(&funnel).into_iter().enumerate();
            let turns: Vec<_> = turns.map(|(turn, step)| (turn, steps[step])).collect();
            let mut events = Vec::new();
            for (time, event) in &rows {
                let made = turns.iter().filter(|(_, of)| of == event);
                events.extend(made.map(|(turn, _)| (*time, *turn)));
            }
            events.sort_unstable();
            let mut tries = Tries::new(&funnel, span(Some(step_us)));
            for (time, turn) in &events {
                tries.add("ann", *time, *turn, Key::new());
            }
            tries.close();
            let found = tries.reached.into_values().next().unwrap_or_default();
            let depths = found
                .into_iter()
                .map(|(start, counts)| (start, counts.iter().filter(|count| **count > 0).count()));
            assert_eq!(
                depths.collect::<BTreeMap<_, _>>(),
                by_walking(&steps, &rows, within_us, step_us),
                "{rows:?} through {steps:?} within {within_us}"
            );
        }
    }

    /// A million events of one entity: it took a million times a million steps before.
    #[test]
    fn one_entity_with_a_million_events_is_soon_counted() {
        let funnel = funnel("abc", 1_000_000_000);
        let mut tries = Tries::new(&funnel, span(None));
        for time in 0..1_000_000 {
            tries.add("robot", time, 0, Key::new());
        }
        tries.add("robot", 1_000_000, 1, Key::new());
        assert!(tries.bytes() < 10_000, "{} bytes", tries.bytes());
        let (began, series) = tries.finish(&[], |_, _| true).next().unwrap();
        assert_eq!((began, series.len()), (1.0, 3));
    }
}
