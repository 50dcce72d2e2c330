//! What an import saw of its events: types, times, columns. From it KPIs are proposed.

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
                        Cell::Int(_) | Cell::Double(_) => seen.column(name).numbers += 1,
                        Cell::Text(text) => seen.column(name).add_text(text),
                        Cell::Bool(_) | Cell::Null => {}
                    }
                }
            }
            Data::Json(object) => {
                let fields: BTreeMap<String, Value> =
                    serde_json::from_str(object.get()).unwrap_or_default();
                for (name, value) in fields {
                    match value {
                        Value::Number(_) => seen.column(&name).numbers += 1,
                        Value::String(text) => seen.column(&name).add_text(&text),
                        _ => {}
                    }
                }
            }
        }
    }
}

impl Seen {
    fn column(&mut self, name: &str) -> &mut SeenColumn {
        let at = self.columns.iter().position(|column| column.name == name);
        let at = at.unwrap_or_else(|| {
            self.columns.push(SeenColumn {
                name: name.to_owned(),
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
