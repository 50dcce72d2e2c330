//! What an import saw of its events: types, times, columns. From it KPIs are proposed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::records::{Cell, Data, Record};
use super::time;

/// A text column with more values than this is no dimension.
pub(crate) const VALUES_MAX: usize = 40;
/// So many records are looked at for columns: enough to know them, few enough to cost nothing.
const LOOKED_AT_MAX: u64 = 20_000;

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Profile {
    /// Least and greatest time.
    pub(crate) times_us: Option<(i64, i64)>,
    /// By event type.
    pub(crate) types: BTreeMap<String, Seen>,
}

/// What was seen of one type.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) events: u64,
    /// In the order they were first seen.
    pub(crate) columns: Vec<SeenColumn>,
}

/// What was seen of one column.
#[derive(Debug, Clone)]
pub(crate) struct SeenColumn {
    pub(crate) name: String,
    pub(crate) numbers: u64,
    pub(crate) texts: u64,
    /// Different texts, up to one more than [`VALUES_MAX`].
    pub(crate) values: BTreeSet<String>,
}

impl Profile {
    pub(crate) fn add(&mut self, kind: &str, record: &Record<'_>) {
        if let Some(time_us) = record.time_us {
            let (first, last) = self.times_us.unwrap_or((time_us, time_us));
            self.times_us = Some((first.min(time_us), last.max(time_us)));
        }
        if !self.types.contains_key(kind) {
            self.types.insert(kind.to_owned(), Seen::default());
        }
        let Some(seen) = self.types.get_mut(kind) else {
            return;
        };
        seen.events += 1;
        if seen.events > LOOKED_AT_MAX {
            return;
        }
        match &record.data {
            Data::Cells(cells) => {
                for (name, cell) in cells {
                    match cell {
                        Cell::Int(_) | Cell::Double(_) | Cell::Whole(_) => seen.add_number(name),
                        Cell::Text(text) => seen.add_text(name, text),
                        Cell::Json(value) => seen.add(name, value),
                        Cell::Bool(_) | Cell::Null => {}
                    }
                }
            }
            Data::Json(object) => {
                let fields: BTreeMap<String, Value> =
                    serde_json::from_str(object.get()).unwrap_or_default();
                for (name, value) in fields {
                    seen.add(&name, &value);
                }
            }
        }
    }
}

/// Columns that every table has: an attribute of such a name is stored as `data_NAME`.
const STANDARD: [&str; 8] = [
    "time", "id", "service", "version", "instance", "trace_id", "_arm", "_rest",
];

impl Seen {
    /// A value under the name it has in the table: keys of objects join with `_`.
    fn add(&mut self, name: &str, value: &Value) {
        match value {
            Value::Number(_) => self.add_number(name),
            Value::String(text) => self.add_text(name, text),
            Value::Object(members) => {
                for (key, value) in members {
                    self.add(&format!("{name}_{key}"), value);
                }
            }
            Value::Array(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    fn add_number(&mut self, name: &str) {
        self.column(name).numbers += 1;
    }

    fn add_text(&mut self, name: &str, text: &str) {
        self.column(name).add_text(text);
    }

    fn column(&mut self, name: &str) -> &mut SeenColumn {
        let stored = match STANDARD.contains(&name) {
            true => Cow::Owned(format!("data_{name}")),
            false => Cow::Borrowed(name),
        };
        let at = self.columns.iter().position(|column| column.name == stored);
        let at = at.unwrap_or_else(|| {
            self.columns.push(SeenColumn {
                name: stored.into_owned(),
                numbers: 0,
                texts: 0,
                values: BTreeSet::new(),
            });
            self.columns.len() - 1
        });
        &mut self.columns[at]
    }
}

impl SeenColumn {
    fn add_text(&mut self, text: &str) {
        self.texts += 1;
        if self.values.len() <= VALUES_MAX && !self.values.contains(text) {
            self.values.insert(text.to_owned());
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        self.numbers > 0 && self.texts == 0
    }

    /// Whether it splits the events into few groups; times do not.
    pub(crate) fn is_dimension(&self) -> bool {
        let are_times = self.values.iter().all(|value| time::parse(value).is_some());
        !are_times
            && self.texts > 0
            && self.numbers == 0
            && (2..=VALUES_MAX).contains(&self.values.len())
    }
}
