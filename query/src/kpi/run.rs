//! From a compiled KPI and its leaves to an answer.
//!
//! `sources` lists what must be scanned; the engine scans; `Evaluation` does the arithmetic above the
//! leaves, fills in zeroes and leaves gaps, a group at a time. Pure: values in, values out.
//!
//! What an empty step is: a *gap* for averages, quantiles and quotients; for counts, sums and
//! distinct counts a *zero*, but only where its table is a whole record (`serin_lake::Known`): from the
//! first live row to the watermark, and from the first to the last row of an import. While nobody seals
//! time, the table's last event takes the watermark's place.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::answer::{KpiRequest, Series};
use super::definition::Since;
use super::plan::{Aggregate, Formula, Gauge, KpiPlan, Leaf, Node, Simple, names};
use super::scan::{Cell, Cells, Key, Span};
use crate::calendar;
use crate::error::{KpiRunError, QueryError};
use crate::limits::Range;

/// Something that must be scanned for a KPI.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Simple(Arc<Simple>),
    Gauge(Arc<Gauge>),
}

/// A source over a span.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) source: Source,
    pub(crate) span: Span,
}

impl Source {
    /// The same source of the same plan has the same address.
    fn address(&self) -> usize {
        match self {
            Source::Simple(simple) => Arc::as_ptr(simple) as usize,
            Source::Gauge(gauge) => Arc::as_ptr(gauge) as usize,
        }
    }

    /// The columns it reads beside `time`.
    pub(crate) fn columns(&self) -> Vec<String> {
        match self {
            Source::Simple(simple) => {
                let arguments = simple
                    .leaves
                    .iter()
                    .filter_map(|leaf| leaf.argument.as_ref());
                simple
                    .filter
                    .iter()
                    .chain(arguments)
                    .flat_map(names)
                    .collect()
            }
            Source::Gauge(gauge) => gauge
                .filter
                .iter()
                .chain([&gauge.value])
                .flat_map(names)
                .collect(),
        }
    }

    pub(crate) fn event(&self) -> &str {
        match self {
            Source::Simple(simple) => &simple.event,
            Source::Gauge(gauge) => &gauge.event,
        }
    }
}

/// What a scan found, and where an empty step of its table is a zero, in shown time.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) cells: Arc<Cells>,
    /// From when to when live rows are a whole record.
    pub(crate) live: Option<(i64, i64)>,
    /// The times `[from, to)` of imports.
    pub(crate) imports: Vec<(i64, i64)>,
    /// Up to when nothing more will come.
    pub(crate) until_us: Option<i64>,
    /// The table's last event.
    pub(crate) last_us: Option<i64>,
}

/// What was found, by source and span.
#[derive(Debug, Default)]
pub(crate) struct Finds(HashMap<(usize, Span), Found>);

impl Finds {
    pub(crate) fn add(&mut self, wanted: &Wanted, found: Found) {
        self.0.insert((wanted.source.address(), wanted.span), found);
    }

    fn get(&self, address: usize, span: Span) -> Option<&Found> {
        self.0.get(&(address, span))
    }
}

/// How long a step takes, for rates; a little piece of one counts as a second, lest a single event
/// looks like many.
fn seconds(from: i64, to: i64) -> f64 {
    (to.saturating_sub(from) as f64 / 1e6).max(1.0)
}

/// The span a request asks for, checked: no series has more than `points_max` points.
pub(crate) fn span(
    plan: &KpiPlan,
    request: &KpiRequest,
    points_max: usize,
) -> Result<Span, QueryError> {
    let wrong = || QueryError::Kpi {
        kpi: plan.name().to_owned(),
        source: KpiRunError::Range,
    };
    if request.range.span_us() == 0 || request.step_us.is_some_and(|step| step <= 0) {
        return Err(wrong());
    }
    if let Some(step) = request.step_us {
        let begin_us = calendar::step_start_us(request.range.from_us, step);
        let span_us = request.range.to_us.saturating_sub(begin_us);
        let found = span_us.unsigned_abs().div_ceil(step.unsigned_abs());
        if found > points_max as u64 {
            return Err(QueryError::Points {
                found,
                max: points_max,
            });
        }
    }
    Ok(Span {
        range: request.range,
        step_us: request.step_us,
        shift_us: request.shift_us,
    })
}

/// Everything that must be scanned, each once. `first_us` tells the first event of a table.
pub(crate) fn sources(
    plan: &KpiPlan,
    span: Span,
    first_us: &impl Fn(&str) -> Option<i64>,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    gather(plan, span, first_us, &mut wanted);
    let mut seen = BTreeSet::new();
    wanted.retain(|w: &Wanted| seen.insert((w.source.address(), w.span)));
    wanted
}

fn gather(
    plan: &KpiPlan,
    span: Span,
    first_us: &impl Fn(&str) -> Option<i64>,
    wanted: &mut Vec<Wanted>,
) {
    let mut add = |source: Source| wanted.push(Wanted { source, span });
    match &plan.0.node {
        Node::Simple(simple) => add(Source::Simple(Arc::clone(simple))),
        Node::Gauge(gauge) => add(Source::Gauge(Arc::clone(gauge))),
        Node::Cumulative(of, since) => {
            let earliest = of.events().iter().filter_map(|event| first_us(event)).min();
            gather(of, running_span(span, *since, earliest), first_us, wanted);
            if let Some(carried) = carried_span(span, *since, earliest) {
                gather(of, carried, first_us, wanted);
            }
        }
        Node::Funnel(_) => {}
        Node::Ratio(..) | Node::Derived(..) => {
            for input in plan.inputs() {
                gather(input, span, first_us, wanted);
            }
        }
    }
}

/// What a total that runs from the first event has before the span it is shown over in steps: one cell
/// a group, however long that is.
fn carried_span(span: Span, since: Since, first_us: Option<i64>) -> Option<Span> {
    let first_us = first_us?.saturating_add(span.shift_us);
    let range = Range {
        from_us: first_us,
        to_us: span.range.from_us,
    };
    let is_carried = since == Since::Ever && span.step_us.is_some() && range.span_us() > 0;
    is_carried.then_some(Span {
        range,
        step_us: None,
        ..span
    })
}

/// The span a running total must read for the span it is shown over.
fn running_span(span: Span, since: Since, first_us: Option<i64>) -> Span {
    const DAY: i64 = 86_400_000_000;
    const HOUR: i64 = 3_600_000_000;
    let from_us = span.range.from_us;
    let first_step = span.step_us.map_or(span.range.to_us, |step| {
        calendar::step_start_us(from_us, step).saturating_add(step)
    });
    let (from_us, unit) = match since {
        Since::Ever if span.step_us.is_some() => return span,
        Since::Ever => {
            let first = first_us.map_or(from_us, |first| first.saturating_add(span.shift_us));
            (first.min(from_us), HOUR)
        }
        Since::Window(window) => (first_step.saturating_sub(window), window),
        Since::Grain(grain) => {
            let unit = if grain == super::Grain::Hour {
                HOUR
            } else {
                DAY
            };
            (calendar::grain_start_us(first_step - 1, grain), unit)
        }
    };
    let mut wider = span;
    // Without steps the total is exactly the window; with steps it begins no later than the first.
    wider.range.from_us = if span.step_us.is_some() {
        from_us.min(span.range.from_us)
    } else {
        from_us
    };
    wider.step_us = span.step_us.map(|step| common_divisor(step, unit));
    wider
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The steps of a span that start in `[from, to)`, and all of what is carried into it.
#[derive(Debug, Clone, Copy)]
struct Over {
    span: Span,
    carried: Option<Span>,
    from: i64,
    to: i64,
}

/// A value with what it is made of.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    value: Option<f64>,
    parts: Option<(Option<f64>, Option<f64>)>,
    rows: u64,
}

/// The evaluation of one plan over what was found.
pub(crate) struct Evaluation<'a> {
    pub(crate) plan: &'a KpiPlan,
    pub(crate) request: &'a KpiRequest,
    pub(crate) span: Span,
    pub(crate) steps: &'a [(i64, i64)],
    pub(crate) finds: &'a Finds,
    /// The first event of a table.
    pub(crate) first_us: &'a (dyn Fn(&str) -> Option<i64> + Sync),
}

impl Evaluation<'_> {
    /// The series of a group with its rank; `None` for a group that has nothing in the range, as one
    /// that only older data of a running total has.
    pub(crate) fn series(&self, key: &Key) -> Option<(f64, Series)> {
        let each = self.steps.iter();
        let values: Vec<Value> = each
            .map(|(from, to)| {
                let over = Over {
                    span: self.span,
                    carried: None,
                    from: *from,
                    to: *to,
                };
                self.value(self.plan, over, key)
            })
            .collect();
        if !self.request.by.is_empty() && values.iter().all(|value| value.value.is_none()) {
            return None;
        }
        let is_ratio = values.iter().any(|value| value.parts.is_some());
        let by = self.request.by.iter().cloned();
        let series = Series {
            by: by.zip(key.iter().cloned()).collect(),
            points: self
                .steps
                .iter()
                .zip(&values)
                .map(|((at, _), v)| (*at, v.value))
                .collect(),
            parts: is_ratio.then(|| values.iter().map(|v| v.parts.unwrap_or_default()).collect()),
            samples: values.iter().map(|value| value.rows).sum(),
        };
        Some((rank(&series, is_additive(self.plan)), series))
    }

    /// The value of a group.
    fn value(&self, plan: &KpiPlan, over: Over, key: &Key) -> Value {
        match &plan.0.node {
            Node::Simple(simple) => self.simple(simple, over, key),
            Node::Gauge(gauge) => self.gauge(gauge, over, key),
            Node::Ratio(upper, lower) => {
                let upper = self.value(upper, over, key);
                let lower = self.value(lower, over, key);
                let quotient = match (upper.value, lower.value) {
                    (Some(u), Some(l)) if l != 0.0 => Some(u / l).filter(|q| q.is_finite()),
                    _ => None,
                };
                Value {
                    value: quotient,
                    parts: Some((upper.value, lower.value)),
                    rows: lower.rows,
                }
            }
            Node::Derived(formula, inputs) => {
                let each: Vec<Value> = inputs
                    .iter()
                    .map(|input| self.value(input, over, key))
                    .collect();
                Value {
                    value: formula
                        .value(seconds(over.from, over.to), &|index| each.get(index)?.value),
                    parts: None,
                    rows: each.iter().map(|value| value.rows).sum(),
                }
            }
            Node::Cumulative(of, since) => self.running(of, *since, over, key),
            Node::Funnel(_) => Value::default(),
        }
    }

    fn simple(&self, simple: &Arc<Simple>, over: Over, key: &Key) -> Value {
        let address = Arc::as_ptr(simple) as usize;
        let Some(found) = self.finds.get(address, over.span) else {
            return Value::default();
        };
        let carried = over.carried.and_then(|span| self.finds.get(address, span));
        let carried = carried.and_then(|found| found.cells.get(key));
        let carried = carried.into_iter().flat_map(|cells| cells.values());
        let cells = found.cells.get(key).into_iter();
        let cells = cells.flat_map(|cells| cells.range(over.from..over.to));
        let cells = carried.chain(cells.map(|(_, cell)| cell));
        let merged = merge(&simple.leaves, cells);
        let end = over.to.min(over.span.range.to_us);
        // Before the range nothing was counted, and outside of what is known nothing could be.
        let read_from = over.carried.unwrap_or(over.span).range.from_us;
        let begin = over.from.max(read_from);
        let took_s = found.seconds(begin, end, over.span.step_us);
        match merged {
            Some(cell) => {
                let leaf = |index: usize| {
                    let value = cell.leaves.get(index).copied().flatten();
                    // A sum of only nulls is nothing added up: zero, as over no rows.
                    value.or_else(|| simple.leaves.get(index)?.aggregate.of_nothing())
                };
                Value {
                    value: simple.measure.value(took_s, &leaf),
                    parts: None,
                    rows: cell.rows,
                }
            }
            None if found.is_known_empty(begin, end) => {
                let leaf = |index: usize| simple.leaves.get(index)?.aggregate.of_nothing();
                Value {
                    value: simple.measure.value(took_s, &leaf),
                    parts: None,
                    rows: 0,
                }
            }
            None => Value::default(),
        }
    }

    fn gauge(&self, gauge: &Arc<Gauge>, over: Over, key: &Key) -> Value {
        let found = self.finds.get(Arc::as_ptr(gauge) as usize, over.span);
        let cells = found.and_then(|found| found.cells.get(key));
        let last = cells.and_then(|cells| cells.range(over.from..over.to).next_back());
        last.map_or_else(Value::default, |(_, cell)| Value {
            // Levels may be finite where their sum is not.
            value: cell
                .leaves
                .first()
                .copied()
                .flatten()
                .filter(|level| level.is_finite()),
            parts: None,
            rows: cell.rows,
        })
    }

    fn running(&self, of: &KpiPlan, since: Since, over: Over, key: &Key) -> Value {
        let Over { span, from, to, .. } = over;
        let events = of.events();
        let earliest = events
            .iter()
            .filter_map(|event| (self.first_us)(event))
            .min();
        let wider = running_span(span, since, earliest);
        let end = if span.step_us.is_some() {
            to
        } else {
            span.range.to_us
        };
        let begin = match since {
            Since::Ever => i64::MIN,
            Since::Window(window) => end.saturating_sub(window),
            Since::Grain(grain) => calendar::grain_start_us(end - 1, grain),
        };
        // A total does not run on into times nobody knows.
        if !self.reaches(of, wider, from) {
            return Value::default();
        }
        let begin = if wider.step_us.is_some() {
            begin
        } else {
            i64::MIN
        };
        let over = Over {
            span: wider,
            carried: carried_span(span, since, earliest),
            from: begin,
            to: end,
        };
        self.value(of, over, key)
    }

    fn reaches(&self, plan: &KpiPlan, span: Span, time: i64) -> bool {
        match &plan.0.node {
            Node::Simple(simple) => self
                .finds
                .get(Arc::as_ptr(simple) as usize, span)
                .is_some_and(|found| {
                    found
                        .until_us
                        .max(found.last_us)
                        .is_some_and(|end| time <= end)
                }),
            _ => plan
                .inputs()
                .into_iter()
                .any(|input| self.reaches(input, span, time)),
        }
    }
}

impl Found {
    /// Whether a step without rows is a zero, not a gap. Of an import more will not come, so that its
    /// last step counts like its first.
    pub(crate) fn is_known_empty(&self, begin: i64, end: i64) -> bool {
        let is_live = self.live.is_some_and(|(from, to)| from < end && end <= to);
        let holds = |(from, to): &(i64, i64)| *from < end && begin < *to;
        is_live || self.imports.iter().any(holds)
    }

    /// How long events could be counted within a time, for rates; all of it where only rows that came
    /// too late to be a record lie in it.
    fn seconds(&self, begin: i64, end: i64, step_us: Option<i64>) -> f64 {
        // The last step of an import counts whole.
        let end_of = |to: i64| match step_us {
            Some(step) => calendar::step_start_us(to - 1, step).saturating_add(step),
            None => to,
        };
        let imports = self.imports.iter().map(|(from, to)| (*from, end_of(*to)));
        // What has come already of the time after the watermark counts, and so does that time.
        let live = self.live.map(|(from, _)| (from, end));
        let mut pieces: Vec<(i64, i64)> = imports
            .chain(live)
            .map(|(from, to)| (from.max(begin), to.min(end)))
            .collect();
        pieces.sort_unstable();
        let (mut took_us, mut reached) = (0, begin);
        for (from, to) in pieces {
            took_us += to.saturating_sub(from.max(reached)).max(0);
            reached = reached.max(to);
        }
        match took_us {
            0 => seconds(begin, end),
            took_us => seconds(0, took_us),
        }
    }
}

/// Cells of several steps as one. A single one is taken as it is, also where parts do not merge.
fn merge<'a>(leaves: &[Leaf], mut cells: impl Iterator<Item = &'a Cell>) -> Option<Cell> {
    let mut whole = cells.next()?.clone();
    for cell in cells {
        whole.rows += cell.rows;
        for (index, leaf) in leaves.iter().enumerate() {
            let aggregate: Aggregate = leaf.aggregate;
            let part = cell.leaves.get(index).copied().flatten();
            if let Some(value) = whole.leaves.get_mut(index) {
                *value = aggregate.merge(*value, part);
            }
        }
    }
    Some(whole)
}

/// The steps of a span as `[start, end)`; the whole range when it has none.
pub(crate) fn steps(span: Span) -> Vec<(i64, i64)> {
    let Some(step) = span.step_us else {
        return vec![(span.range.from_us, span.range.to_us)];
    };
    let mut steps = Vec::new();
    let mut start = calendar::step_start_us(span.range.from_us, step);
    while start < span.range.to_us {
        steps.push((start, start.saturating_add(step)));
        start = start.saturating_add(step);
    }
    steps
}

/// The groups that were found, each once; one without dimensions is there also when nothing was.
pub(crate) fn groups<'a>(finds: &'a Finds, request: &KpiRequest) -> BTreeSet<Cow<'a, Key>> {
    let found = finds.0.values().flat_map(|found| found.cells.keys());
    let mut groups: BTreeSet<Cow<'a, Key>> = found.map(Cow::Borrowed).collect();
    if request.by.is_empty() {
        groups.insert(Cow::Owned(Key::new()));
    }
    groups
}

/// What a series is ranked by: its sum where steps add up, else the mean of its steps.
fn rank(series: &Series, is_additive: bool) -> f64 {
    let known = series.points.iter().filter_map(|(_, value)| *value);
    let (count, sum) = known.fold((0_u32, 0.0), |(n, sum), value| (n + 1, sum + value));
    match count {
        0 => f64::NEG_INFINITY,
        _ if is_additive => sum,
        count => sum / f64::from(count),
    }
}

/// Whether values of steps add up to that of the range.
fn is_additive(plan: &KpiPlan) -> bool {
    match &plan.0.node {
        Node::Simple(simple) => {
            let adds = |leaf: &Leaf| matches!(leaf.aggregate, Aggregate::Count | Aggregate::Sum);
            matches!(simple.measure, Formula::Input(_)) && simple.leaves.iter().all(adds)
        }
        _ => false,
    }
}
