//! The hot buffer: rows from the moment they are taken until a file has them.
//!
//! The ingester appends whole messages under one lock; a snapshot seals what is open and copies
//! lists, so that a row is visible at once. [`Buffer::cut`] closes everything under the number of
//! the coming flush; the lake forgets it in the same step in which it shows the file. Memory is
//! counted in Arrow bytes. Invariant I5: a reader sees each row exactly once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use serin_lake::{Column, ColumnKind, Declared, Fresh, FreshRows, FreshTable, TableRows};
use serin_wire::{Event, decision, name};

use crate::json::{self, Field};
use crate::options::Limits;
use crate::refuse::{Reason, Refusal, admit};
use crate::rows::Rows;
use crate::shape::{Misfit, Placed, Shape, TooManyColumns};

/// Open rows become a batch at this many: builders then stay in the cache and grow little.
const SEAL_ROWS: usize = 16_384;
/// Or at this many bytes, far below the 2 GiB an Arrow text column can hold.
const SEAL_BYTES: usize = 8 << 20;
/// Small batches, made by frequent snapshots, are joined up to this many rows.
const JOIN_ROWS_MAX: usize = 16_384;
/// What files of every table are sorted by: a series lies together, in order of time.
const SORT: [&str; 4] = ["service", "version", "instance", "time"];
/// Of metrics a question names one, so these lie together first.
const SORT_METRICS: [&str; 5] = ["name", "service", "version", "instance", "time"];

/// The columns Serin's own tables begin with, beside the standard ones.
const OWN_COLUMNS: [(&str, &[(&str, ColumnKind)]); 7] = [
    (
        "decisions",
        &[
            ("rule", ColumnKind::Text),
            ("action", ColumnKind::Text),
            ("subject", ColumnKind::Text),
            ("subject_version", ColumnKind::Text),
            ("subject_instance", ColumnKind::Text),
            ("kpi", ColumnKind::Text),
            ("by", ColumnKind::Text),
            ("value", ColumnKind::Double),
            ("bound", ColumnKind::Double),
            ("from_us", ColumnKind::Int),
            ("to_us", ColumnKind::Int),
            ("watermark_us", ColumnKind::Int),
            ("coverage", ColumnKind::Double),
            ("mode", ColumnKind::Text),
            ("why", ColumnKind::Text),
        ],
    ),
    ("refused", crate::refused::COLUMNS),
    ("beats", crate::telemetry::BEAT_COLUMNS),
    ("spans", crate::telemetry::SPAN_COLUMNS),
    ("logs", crate::telemetry::LOG_COLUMNS),
    ("requests", crate::telemetry::REQUEST_COLUMNS),
    ("metrics", crate::telemetry::METRIC_COLUMNS),
];

/// Rows on their way into files; shared by the ingester, which fills it, and the lake, which reads it.
#[derive(Debug)]
pub(crate) struct Buffer {
    inner: Mutex<Inner>,
}

/// The buffer, held for one message.
#[derive(Debug)]
pub(crate) struct Inner {
    tables: Vec<Table>,
    by_name: HashMap<String, usize>,
    /// Names in lower case: DuckDB does not tell tables apart by case.
    by_lower: HashMap<String, usize>,
    types: usize,
    closed: VecDeque<Closed>,
    /// The flush that will take what is not closed.
    number: u64,
    version: u64,
    watermark_us: Option<i64>,
    rows: u64,
    /// Bytes of refused events among the rows that wait for the next flush.
    refused_bytes: usize,
    fields: Vec<Field>,
    placed: Vec<Placed>,
    misfits: [u64; Misfit::ALL.len()],
}

#[derive(Debug)]
struct Table {
    name: String,
    shape: Shape,
    live: Part,
    imported: Part,
}

/// Rows of a table that go into one file.
#[derive(Debug, Default)]
struct Part {
    open: Rows,
    sealed: Vec<RecordBatch>,
    sealed_bytes: usize,
    /// The earliest and the latest time of its rows.
    times_us: Option<(i64, i64)>,
}

/// Rows a flush has taken and no file has yet.
#[derive(Debug)]
struct Closed {
    number: u64,
    tables: BTreeMap<String, FreshTable>,
    bytes: usize,
}

/// What a flush takes out.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) number: u64,
    pub(crate) tables: Vec<TableRows>,
    /// Rows appended since the cut before, counted one by one.
    pub(crate) rows: u64,
}

/// How full the buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fill {
    /// Bytes that the next flush would take.
    pub(crate) filling: usize,
    /// Bytes in all, with those a flush under way has taken.
    pub(crate) total: usize,
}

/// Types that are new and will be sent, but are not taken yet, by their lower case: what one body of a
/// door brings counts together.
#[derive(Debug, Default)]
pub(crate) struct Promised(BTreeMap<String, String>);

impl Buffer {
    /// An empty buffer that knows the tables of the catalogue, and Serin's own.
    pub(crate) fn new<'a>(known: impl IntoIterator<Item = (&'a str, &'a [Column])>) -> Buffer {
        let mut inner = Inner {
            tables: Vec::new(),
            by_name: HashMap::new(),
            by_lower: HashMap::new(),
            types: 0,
            closed: VecDeque::new(),
            number: 1,
            version: 0,
            watermark_us: None,
            rows: 0,
            refused_bytes: 0,
            fields: Vec::new(),
            placed: Vec::new(),
            misfits: [0; Misfit::ALL.len()],
        };
        for (name, columns) in known {
            inner.add(name, columns.iter().cloned());
        }
        for (name, _) in OWN_COLUMNS {
            if !inner.by_name.contains_key(name) {
                inner.add(name, []);
            }
        }
        Buffer {
            inner: Mutex::new(inner),
        }
    }

    /// Holds the buffer; a message is appended under one hold, so that no cut divides it. Where the
    /// holder panicked, the process is on its way down and readers may still look.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Appends an event to its type's table.
    pub(crate) fn append(
        &mut self,
        event: &Event<'_>,
        limits: &Limits,
        is_import: bool,
        now_us: i64,
    ) -> Result<(), Refusal> {
        admit(event, limits, is_import, now_us)?;
        let name = match &*event.kind {
            decision::EVENT_TYPE => "decisions",
            kind => kind,
        };
        self.append_to(name, event, limits, is_import)
    }

    /// Appends a row to a table, without a look at who sent it: also for Serin's own tables.
    pub(crate) fn append_to(
        &mut self,
        name: &str,
        event: &Event<'_>,
        limits: &Limits,
        is_import: bool,
    ) -> Result<(), Refusal> {
        let text = json::scan(&event.data, limits.string_bytes_max, &mut self.fields)?;
        let place = match self.by_name.get(name) {
            Some(&place) => place,
            None => self.admit_table(name, limits)?,
        };
        let table = &mut self.tables[place];
        let columns_max = limits.columns_per_type_max;
        table
            .shape
            .place(text, &self.fields, columns_max, &mut self.placed)
            .map_err(|error| no_more_columns(name, columns_max, &error))?;
        let part = if is_import {
            &mut table.imported
        } else {
            &mut table.live
        };
        let misfits = &mut self.misfits;
        part.open
            .append(event, text, &self.fields, &self.placed, |misfit| {
                misfits[misfit as usize] += 1;
            });
        part.times_us = wider(part.times_us, Some((event.time_us, event.time_us)));
        if part.open.count() >= SEAL_ROWS || part.open.bytes() >= SEAL_BYTES {
            part.seal(&table.shape);
        }
        self.version += 1;
        self.rows += 1;
        Ok(())
    }

    /// Gives a type columns before it has values for them, as far as there may be more.
    pub(crate) fn declare(&mut self, declared: Declared, limits: &Limits) {
        let place = match self.by_name.get(&declared.table) {
            Some(&place) => place,
            None => match self.admit_table(&declared.table, limits) {
                Ok(place) => place,
                // Its events are refused for the same reason, and counted.
                Err(_) => return,
            },
        };
        let shape = &mut self.tables[place].shape;
        shape.declare(declared.columns, limits.columns_per_type_max);
    }

    /// Whether there is room at this moment for a type and the attributes of one event, so that a door
    /// can say no before it promises anything. A type that is new is `promised` for what follows.
    pub(crate) fn check_room(
        &self,
        name: &str,
        text: &str,
        fields: &[Field],
        limits: &Limits,
        promised: &mut Promised,
    ) -> Result<(), Refusal> {
        let columns_max = limits.columns_per_type_max;
        let without_room = match self.by_name.get(name) {
            Some(&place) => {
                let shape = &self.tables[place].shape;
                shape.without_room(text, fields, columns_max)
            }
            None => {
                self.check_table(name, limits, promised)?;
                Shape::new([]).without_room(text, fields, columns_max)
            }
        };
        if let Some(error) = without_room {
            return Err(no_more_columns(name, columns_max, &error));
        }
        if !self.by_name.contains_key(name) {
            promised.0.insert(name.to_lowercase(), name.to_owned());
        }
        Ok(())
    }

    /// Makes a table for a new type, if there may be one more.
    fn admit_table(&mut self, name: &str, limits: &Limits) -> Result<usize, Refusal> {
        self.check_table(name, limits, &Promised::default())?;
        Ok(self.add(name, []))
    }

    /// Whether there may be a table for a new type, beside those that are promised.
    fn check_table(&self, name: &str, limits: &Limits, promised: &Promised) -> Result<(), Refusal> {
        let lower = name.to_lowercase();
        let known = self.by_lower.get(&lower).map(|&at| &self.tables[at].name);
        match known.or_else(|| promised.0.get(&lower)) {
            Some(other) if other != name => {
                let explanation = format!(
                    "type {name:?} differs from {other:?} only in case; write it the same way"
                );
                return Err(Refusal::new(Reason::Name, explanation));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let coming = promised.0.values();
        let coming = coming.filter(|name| !self.by_name.contains_key(*name));
        let types = self.types + coming.count();
        if !is_own(name) && types >= limits.types_max {
            let explanation = format!(
                "there are {types} event types already and {name:?} would be one more (the limit \
                 ingest.types_max); put what differs into an attribute, or raise the limit"
            );
            return Err(Refusal::new(Reason::Types, explanation));
        }
        Ok(())
    }

    fn add(&mut self, name: &str, columns: impl IntoIterator<Item = Column>) -> usize {
        let own = OWN_COLUMNS.iter().filter(|(own, _)| *own == name);
        let own = own.flat_map(|(_, columns)| columns.iter());
        let mut all: Vec<Column> = columns.into_iter().collect();
        // Telemetry whose names are too many for columns needs one for the rest of them.
        let more = own_overflow(name).map(|more| (more, ColumnKind::Text));
        for (column, kind) in own.copied().chain(more) {
            if !all.iter().any(|known| known.name == column) {
                all.push(Column::new(column, kind));
            }
        }
        let place = self.tables.len();
        self.tables.push(Table {
            name: name.to_owned(),
            shape: Shape::new(all),
            live: Part::default(),
            imported: Part::default(),
        });
        self.by_name.insert(name.to_owned(), place);
        self.by_lower.insert(name.to_lowercase(), place);
        self.types += usize::from(!is_own(name));
        place
    }

    /// Closes everything there is under the number of the coming flush.
    pub(crate) fn cut(&mut self) -> Cut {
        let number = self.number;
        self.number += 1;
        let mut closed = Closed {
            number,
            tables: BTreeMap::new(),
            bytes: 0,
        };
        let mut flushed = Vec::new();
        for table in &mut self.tables {
            for (part, is_import) in [(&mut table.live, false), (&mut table.imported, true)] {
                part.seal(&table.shape);
                if part.sealed.is_empty() {
                    continue;
                }
                let batches = std::mem::take(&mut part.sealed);
                closed.bytes += std::mem::take(&mut part.sealed_bytes);
                let columns = table.shape.all_columns();
                let fresh = closed
                    .tables
                    .entry(table.name.clone())
                    .or_insert_with(|| FreshTable {
                        columns: columns.clone(),
                        ..FreshTable::default()
                    });
                fresh.batches.extend(batches.iter().cloned());
                let times_us = std::mem::take(&mut part.times_us);
                match is_import {
                    true => fresh.imported_us = times_us,
                    false => fresh.live_from_us = times_us.map(|(first, _)| first),
                }
                flushed.push(TableRows {
                    name: table.name.clone(),
                    columns,
                    batches,
                    sort: sort_of(&table.name),
                    is_import,
                });
            }
        }
        self.closed.push_back(closed);
        self.refused_bytes = 0;
        Cut {
            number,
            tables: flushed,
            rows: std::mem::take(&mut self.rows),
        }
    }

    /// Takes room for a refused event, unless there are `bytes_max` of them since the last cut.
    pub(crate) fn take_room_for_refused(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let has_room = self.refused_bytes.saturating_add(bytes) <= bytes_max;
        if has_room {
            self.refused_bytes += bytes;
        }
        has_room
    }

    /// How full it is.
    pub(crate) fn fill(&self) -> Fill {
        let parts = self
            .tables
            .iter()
            .flat_map(|table| [&table.live, &table.imported]);
        let filling = parts
            .map(|part| part.sealed_bytes + part.open.bytes())
            .sum();
        let closed: usize = self.closed.iter().map(|closed| closed.bytes).sum();
        Fill {
            filling,
            total: filling + closed,
        }
    }

    /// Whether a row waits for the next flush.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows > 0
    }

    /// Shows readers up to when the data are complete.
    pub(crate) fn set_watermark(&mut self, watermark_us: Option<i64>) {
        self.watermark_us = watermark_us;
    }

    /// Up to when the data are complete.
    pub(crate) fn watermark_us(&self) -> Option<i64> {
        self.watermark_us
    }

    /// Values that went to `_rest` since the start, by reason.
    pub(crate) fn misfits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Misfit::ALL
            .iter()
            .map(|&(misfit, name)| (name, self.misfits[misfit as usize]))
    }
}

impl Part {
    fn seal(&mut self, shape: &Shape) {
        let Some(batch) = self.open.seal(shape) else {
            return;
        };
        self.push(batch);
    }

    /// Adds a batch, joining it with a small one before it: each row is copied a few times at most.
    fn push(&mut self, mut batch: RecordBatch) {
        while let Some(before) = self.sealed.last()
            && before.num_rows() <= 2 * batch.num_rows()
            && before.num_rows() + batch.num_rows() <= JOIN_ROWS_MAX
            && before.schema_ref() == batch.schema_ref()
            && let Ok(joined) = concat_batches(before.schema_ref(), [before, &batch])
        {
            self.sealed_bytes -= before.get_array_memory_size();
            self.sealed.pop();
            batch = joined;
        }
        self.sealed_bytes += batch.get_array_memory_size();
        self.sealed.push(batch);
    }
}

impl Fresh for Buffer {
    fn rows(&self, flushed: u64) -> FreshRows {
        let inner = &mut *self.hold();
        let mut tables: BTreeMap<String, FreshTable> = BTreeMap::new();
        for closed in inner.closed.iter().filter(|closed| closed.number > flushed) {
            for (name, closed) in &closed.tables {
                let known = tables.get_mut(name);
                match known {
                    // The later columns have all of the earlier ones, wider perhaps.
                    Some(known) => {
                        known.columns.clone_from(&closed.columns);
                        known.batches.extend(closed.batches.iter().cloned());
                        known.live_from_us = earlier(known.live_from_us, closed.live_from_us);
                        known.imported_us = wider(known.imported_us, closed.imported_us);
                    }
                    None => {
                        tables.insert(name.clone(), closed.clone());
                    }
                }
            }
        }
        for table in &mut inner.tables {
            table.live.seal(&table.shape);
            table.imported.seal(&table.shape);
            let open = table.live.sealed.iter().chain(&table.imported.sealed);
            let mut open = open.peekable();
            // Serin's own tables can be asked before they have a row: no rows are an answer too.
            if open.peek().is_none() && !OWN_COLUMNS.iter().any(|(own, _)| *own == table.name) {
                continue;
            }
            let fresh = tables.entry(table.name.clone()).or_default();
            fresh.columns = table.shape.all_columns();
            let live_from_us = table.live.times_us.map(|(first, _)| first);
            fresh.live_from_us = earlier(fresh.live_from_us, live_from_us);
            fresh.imported_us = wider(fresh.imported_us, table.imported.times_us);
            fresh.batches.extend(open.cloned());
        }
        FreshRows {
            tables,
            watermark_us: inner.watermark_us,
            version: inner.version,
        }
    }

    fn forget(&self, flushed: u64) {
        self.hold().closed.retain(|closed| closed.number > flushed);
    }
}

fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

fn wider(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    let both = a.into_iter().chain(b);
    both.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn sort_of(name: &str) -> Vec<String> {
    let columns: &[&str] = match name {
        "metrics" => &SORT_METRICS,
        _ => &SORT,
    };
    columns.iter().map(|&column| column.to_owned()).collect()
}

fn own_overflow(name: &str) -> Option<&'static str> {
    let is_telemetry = ["beats", "spans", "logs", "metrics"].contains(&name);
    is_telemetry.then_some(crate::telemetry::OVERFLOW)
}

/// Whether the table is not an event type of a user: ours, which no limit counts.
fn is_own(name: &str) -> bool {
    name::OWN_TABLES.contains(&name) || name.starts_with(name::OWN_TYPE_PREFIX)
}

fn no_more_columns(name: &str, columns_max: usize, error: &TooManyColumns) -> Refusal {
    let explanation = format!(
        "type {name:?} has {columns_max} attributes already and {:?} would be one more (the limit \
         ingest.columns_per_type_max); use fewer names, or raise the limit",
        error.name
    );
    Refusal::new(Reason::Columns, explanation)
}

#[cfg(test)]
mod tests;
