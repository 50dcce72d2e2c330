//! What scans of a KPI found, kept until it is asked for again: a window that slides reads its new
//! slice and no more.
//!
//! A chart asks every few seconds for nearly what it asked before. A file never changes, so all steps
//! that end before the earliest row of which only one of two snapshots knows are as they were; what
//! lies before and after them is read. A question without steps is cut into parts when it comes back,
//! if its parts add up to the whole. Pure but for what it keeps; start at [`Slides::begin`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::TimestampMicrosecondArray;
use serin_lake::{Column, DataFile, TableView};

use crate::calendar;
use crate::kpi::plan::{Gauge, Simple};
use crate::kpi::scan::{self, Cell, Cells, Key, Span};
use crate::kpi::{KpiPlan, KpiRequest};
use crate::limits::{Range, nice_step_us};
use crate::lru::Lru;

/// Into how many parts a range is cut that has no steps: as much of it is read again as one part and
/// the rows that are still hot.
const PARTS: usize = 64;
/// Groups times parts: about 2 MiB of cells. Questions of more groups are read as a whole.
const PART_CELLS_MAX: usize = 16 << 10;
/// What an entry costs beside cells and files: maps, key and texts, rounded up.
const ENTRY_BYTES: usize = 1 << 10;

/// What is read of one table in one go.
#[derive(Debug, Clone)]
pub(crate) enum Scan {
    /// The leaves of these.
    Leaves(Vec<Arc<Simple>>),
    /// The levels of this.
    Levels(Arc<Gauge>),
}

impl Scan {
    /// The same scan of the same plan has the same addresses.
    fn addresses(&self) -> Vec<usize> {
        match self {
            Scan::Leaves(simples) => simples.iter().map(|s| Arc::as_ptr(s) as usize).collect(),
            Scan::Levels(gauge) => vec![Arc::as_ptr(gauge) as usize],
        }
    }

    /// Whether the parts of a range add up to the whole.
    fn adds_up(&self) -> bool {
        match self {
            Scan::Leaves(simples) => {
                let mut leaves = simples.iter().flat_map(|simple| &simple.leaves);
                leaves.all(|leaf| leaf.aggregate.is_mergeable())
            }
            Scan::Levels(_) => false,
        }
    }

    /// How long before a step the rows lie that it is made of.
    fn reach_us(&self) -> i64 {
        match self {
            Scan::Leaves(_) => 0,
            Scan::Levels(gauge) => gauge.hold_us,
        }
    }
}

/// A scan that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) plan: &'a KpiPlan,
    pub(crate) request: &'a KpiRequest,
    pub(crate) scan: &'a Scan,
    pub(crate) span: Span,
    pub(crate) view: &'a TableView,
}

/// What scans found.
pub(crate) struct Slides {
    /// Nothing is kept where there is none.
    sheets: Option<Lru<Question, Entry>>,
    steps_kept: AtomicU64,
    steps_read: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    sheet: Arc<Sheet>,
    /// As long as the plan lives no other can have its addresses.
    _plan: KpiPlan,
}

/// What is asked again and again, whatever the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    addresses: Vec<usize>,
    step_us: Option<i64>,
    shift_us: i64,
    by: Vec<String>,
    filters: Vec<(String, Vec<String>)>,
    /// Tells windows apart that do not overlap: who looks at yesterday does not push out today.
    lane: i64,
}

/// What one scan found.
struct Sheet {
    /// The distance of its cells; none where they are of the whole range and cannot be used again.
    step_us: Option<i64>,
    /// From the first to the last step that was read whole.
    whole: Range,
    /// By source.
    cells: Vec<Arc<Cells>>,
    groups: usize,
    seen: Seen,
}

/// The rows that were there.
#[derive(Debug)]
struct Seen {
    columns: Vec<Column>,
    /// The files in reach, with the times of their rows.
    files: HashMap<u64, (i64, i64)>,
    /// The earliest hot row in reach.
    fresh_from_us: Option<i64>,
}

/// How one scan is done: what is taken over, and what must be read.
pub(crate) struct Slide {
    question: Question,
    step_us: Option<i64>,
    kept: Option<(Arc<Sheet>, Range)>,
    reads: Vec<Span>,
}

impl Slides {
    /// Keeps up to so many bytes; with 0 nothing.
    pub(crate) fn new(bytes_max: usize) -> Slides {
        Slides {
            sheets: (bytes_max > 0).then(|| Lru::new(bytes_max)),
            steps_kept: AtomicU64::new(0),
            steps_read: AtomicU64::new(0),
        }
    }

    /// How much it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.sheets.as_ref().map_or(0, Lru::bytes)
    }

    /// How many steps were taken over, and how many were read, since the start.
    pub(crate) fn steps(&self) -> (u64, u64) {
        (self.steps_kept.load(Relaxed), self.steps_read.load(Relaxed))
    }

    /// What of a scan is known already.
    pub(crate) fn begin(&self, asked: &Asked<'_>) -> Slide {
        let span = asked.span;
        let question = Question::of(asked);
        let sheet = self.sheet(&question);
        let step_us = span
            .step_us
            .or_else(|| part_us(asked, sheet.as_ref()?.groups));
        let kept = sheet.zip(step_us).and_then(|(sheet, step_us)| {
            let range = sheet.same(asked, step_us)?;
            Some((sheet, range))
        });
        let range = span.range;
        let slices = match &kept {
            None => vec![range],
            Some((_, kept)) => vec![
                Range {
                    to_us: kept.from_us,
                    ..range
                },
                Range {
                    from_us: kept.to_us,
                    ..range
                },
            ],
        };
        let slices = slices.into_iter().filter(|slice| slice.span_us() > 0);
        let reads: Vec<Span> = slices
            .map(|range| Span {
                range,
                step_us,
                ..span
            })
            .collect();
        if let Some(step_us) = step_us {
            let steps = |range: Range| (range.span_us() as u64).div_ceil(step_us as u64);
            let kept = kept.as_ref().map_or(0, |(_, range)| steps(*range));
            self.steps_kept.fetch_add(kept, Relaxed);
            let read = reads.iter().map(|span| steps(span.range)).sum();
            self.steps_read.fetch_add(read, Relaxed);
        }
        Slide {
            question,
            step_us,
            kept,
            reads,
        }
    }

    /// The sheet of the window that this one slid on from.
    fn sheet(&self, question: &Question) -> Option<Arc<Sheet>> {
        let sheets = self.sheets.as_ref()?;
        let entry = sheets.get(question).or_else(|| {
            let mut before = question.clone();
            before.lane -= 1;
            sheets.get(&before)
        });
        entry.map(|entry| entry.sheet)
    }

    /// Keeps what was found, for the next time.
    pub(crate) fn keep(&self, asked: &Asked<'_>, slide: &Slide, cells: &[Arc<Cells>]) {
        let Some(sheets) = &self.sheets else {
            return;
        };
        let step_us = slide.step_us;
        let groups = cells.iter().map(|cells| cells.len()).max().unwrap_or(0);
        let whole = step_us.map_or(NOTHING, |step_us| whole_steps(asked.span.range, step_us));
        let sheet = Sheet {
            step_us,
            whole,
            // Of a whole range only how many groups it has is of use.
            cells: step_us.map_or_else(Vec::new, |_| cells.to_vec()),
            groups,
            seen: Seen::of(asked),
        };
        let bytes = sheet.bytes();
        let entry = Entry {
            sheet: Arc::new(sheet),
            _plan: asked.plan.clone(),
        };
        sheets.put(&slide.question, bytes, entry);
    }
}

impl Slide {
    /// What must be read, with the steps in which it is wanted.
    pub(crate) fn reads(&self) -> &[Span] {
        &self.reads
    }

    /// What is taken over, by source.
    pub(crate) fn kept(&self) -> Vec<Cells> {
        match &self.kept {
            None => vec![Cells::new(); self.question.addresses.len()],
            Some((sheet, range)) => sheet.cells.iter().map(|cells| cut(cells, *range)).collect(),
        }
    }

    /// Puts what was read beside what was taken over.
    pub(crate) fn add(&self, asked: &Asked<'_>, read: Vec<Cells>, to: &mut [Cells]) {
        let is_part = asked.span.step_us.is_none();
        let from_us = asked.span.range.from_us;
        for (cells, to) in read.into_iter().zip(to) {
            if to.is_empty() && !is_part {
                *to = cells;
                continue;
            }
            for (key, steps) in cells {
                // The first part is as short as the range has it, and no earlier.
                let at = |at: i64| if is_part { at.max(from_us) } else { at };
                let steps = steps.into_iter().map(|(start, cell)| (at(start), cell));
                to.entry(key).or_default().extend(steps);
            }
        }
    }
}

impl Question {
    fn of(asked: &Asked<'_>) -> Question {
        let Span {
            range,
            step_us,
            shift_us,
        } = asked.span;
        let grid_us = step_us.unwrap_or_else(|| nice_step_us(range, PARTS));
        let steps = (range.span_us() / grid_us + 1).unsigned_abs();
        let lane_us = grid_us.saturating_mul(steps.next_power_of_two() as i64);
        Question {
            addresses: asked.scan.addresses(),
            step_us,
            shift_us,
            by: asked.request.by.clone(),
            filters: asked.request.filters.clone(),
            lane: range.from_us.div_euclid(lane_us),
        }
    }
}

impl Sheet {
    /// Over which time its cells are those that are asked for.
    fn same(&self, asked: &Asked<'_>, step_us: i64) -> Option<Range> {
        if self.step_us != Some(step_us) || self.seen.columns != asked.view.columns {
            return None;
        }
        let wanted = whole_steps(asked.span.range, step_us);
        let both = Range {
            from_us: self.whole.from_us.max(wanted.from_us),
            to_us: self.whole.to_us.min(wanted.to_us),
        };
        let until_us = self.seen.same_until_us(asked, both);
        let range = Range {
            to_us: both.to_us.min(calendar::step_start_us(until_us, step_us)),
            ..both
        };
        (range.span_us() > 0).then_some(range)
    }

    fn bytes(&self) -> usize {
        let cells = self.cells.iter().map(|cells| scan::bytes(cells));
        let columns = self.seen.columns.iter();
        let columns = columns.map(|column| size_of::<Column>() + column.name.len());
        // A map is up to half empty.
        let files = self.seen.files.len() * 2 * size_of::<(u64, (i64, i64))>();
        ENTRY_BYTES + cells.sum::<usize>() + columns.sum::<usize>() + files
    }
}

impl Seen {
    fn of(asked: &Asked<'_>) -> Seen {
        let rows = rows_behind(asked, asked.span.range);
        Seen {
            columns: asked.view.columns.clone(),
            files: files(asked.view, rows).collect(),
            fresh_from_us: fresh_from_us(asked.view, rows),
        }
    }

    /// Up to when, in shown time, the rows behind a range are the same in both snapshots.
    fn same_until_us(&self, asked: &Asked<'_>, range: Range) -> i64 {
        let rows = rows_behind(asked, range);
        let now: HashMap<u64, (i64, i64)> = files(asked.view, rows).collect();
        let came = now.iter().filter(|(id, _)| !self.files.contains_key(id));
        let went = self.files.iter().filter(|(id, _)| !now.contains_key(id));
        let went = went.filter(|(_, times)| overlaps(**times, rows));
        let of_files = came.chain(went).map(|(_, (first_us, _))| *first_us);
        let fresh_now = fresh_from_us(asked.view, rows);
        let hot = [self.fresh_from_us, fresh_now].into_iter().flatten();
        let differs_us = of_files.chain(hot).min().unwrap_or(i64::MAX);
        differs_us.saturating_add(asked.span.shift_us)
    }
}

const NOTHING: Range = Range {
    from_us: 0,
    to_us: 0,
};

/// How long a part of a range is; `None` where it cannot be cut into parts.
fn part_us(asked: &Asked<'_>, groups: usize) -> Option<i64> {
    let is_cut = asked.scan.adds_up() && groups.saturating_mul(PARTS) <= PART_CELLS_MAX;
    is_cut.then(|| nice_step_us(asked.span.range, PARTS))
}

/// The steps that lie wholly in a range.
fn whole_steps(range: Range, step_us: i64) -> Range {
    let last_us = range.from_us.saturating_add(step_us - 1);
    Range {
        from_us: calendar::step_start_us(last_us, step_us),
        to_us: calendar::step_start_us(range.to_us, step_us),
    }
}

/// The times, in the data's own, of the rows that the steps of a range are made of.
fn rows_behind(asked: &Asked<'_>, range: Range) -> Range {
    let own = |shown: i64| shown.saturating_sub(asked.span.shift_us);
    Range {
        from_us: own(range.from_us).saturating_sub(asked.scan.reach_us()),
        to_us: own(range.to_us),
    }
}

/// The files in which such rows may be, with the times of their rows; all times where they are unknown.
fn files(view: &TableView, rows: Range) -> impl Iterator<Item = (u64, (i64, i64))> {
    let times = |file: &DataFile| file.time_range_us().unwrap_or((i64::MIN, i64::MAX));
    let files = view.files.iter().map(move |file| (file.id, times(file)));
    files.filter(move |(_, times)| overlaps(*times, rows))
}

fn overlaps((first_us, last_us): (i64, i64), rows: Range) -> bool {
    first_us < rows.to_us && rows.from_us <= last_us
}

/// The earliest hot row that is not before a time.
fn fresh_from_us(view: &TableView, rows: Range) -> Option<i64> {
    let times = view.fresh.iter().filter_map(|batch| {
        let times = batch.column_by_name("time")?;
        times.as_any().downcast_ref::<TimestampMicrosecondArray>()
    });
    let times = times.flat_map(|times| times.values().iter().copied());
    times.filter(|time| *time >= rows.from_us).min()
}

/// The cells of the steps that begin in a range.
fn cut(cells: &Cells, range: Range) -> Cells {
    let of_group = |(key, steps): (&Key, &BTreeMap<i64, Cell>)| {
        let steps = steps.range(range.from_us..range.to_us);
        let steps: BTreeMap<i64, Cell> = steps.map(|(at, cell)| (*at, cell.clone())).collect();
        (!steps.is_empty()).then(|| (key.clone(), steps))
    };
    cells.iter().filter_map(of_group).collect()
}
