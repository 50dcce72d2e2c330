//! Which column of a file holds the time of its events, told from its first records. Pure.
//!
//! A column of a usual name is taken where any of its values is a time. Any other is taken only
//! where all its values are: written as times, or numbers whose column's name says that they are.
//! Start at [`Guess::column`].

use serde_json::Value;

use super::records::{Cell, Data, Record};
use super::time;

/// So many records tell what a column holds.
const LOOKED_AT_MAX: u64 = 1_000;

/// The column with the time, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeColumn<'a> {
    /// The user.
    Asked(&'a str),
    /// The first records.
    Found(&'a str),
    /// Nobody: the first record that has one under a usual name tells.
    Unknown,
}

impl<'a> TimeColumn<'a> {
    pub(crate) fn asked(self) -> Option<&'a str> {
        match self {
            TimeColumn::Asked(name) => Some(name),
            TimeColumn::Found(_) | TimeColumn::Unknown => None,
        }
    }

    pub(crate) fn name(self) -> Option<&'a str> {
        match self {
            TimeColumn::Asked(name) | TimeColumn::Found(name) => Some(name),
            TimeColumn::Unknown => None,
        }
    }
}

/// What was seen of the columns so far.
#[derive(Debug, Default)]
pub(crate) struct Guess {
    records: u64,
    /// In the file's order.
    columns: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    /// Values that are times as they are written.
    texts: u64,
    /// Numbers that could be seconds or parts of them since 1970.
    numbers: u64,
}

impl Guess {
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.records += 1;
        match &record.data {
            Data::Cells(cells) => {
                for (name, cell) in cells {
                    match cell {
                        Cell::Text(text) => self.add_text(name, text),
                        Cell::Int(number) => self.add_number(name, *number as f64),
                        Cell::Double(number) => self.add_number(name, *number),
                        Cell::Null | Cell::Bool(_) | Cell::Whole(_) | Cell::Json(_) => {}
                    }
                }
            }
            Data::Json(object) => {
                let fields: serde_json::Map<String, Value> =
                    serde_json::from_str(object.get()).unwrap_or_default();
                for (name, value) in &fields {
                    match value {
                        Value::String(text) => self.add_text(name, text),
                        Value::Number(number) => {
                            self.add_number(name, number.as_f64().unwrap_or_default());
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether more records would tell nothing more.
    pub(crate) fn is_enough(&self) -> bool {
        self.records >= LOOKED_AT_MAX
    }

    /// The best column: of a usual name, of a name that speaks of a time, the first of any.
    pub(crate) fn column(&self) -> Option<&str> {
        let ranked = self
            .columns
            .iter()
            .filter_map(|seen| Some((self.rank(seen)?, seen)));
        let best = ranked.min_by_key(|(rank, _)| *rank);
        best.map(|(_, seen)| seen.name.as_str())
    }

    /// Where a column stands among those that may hold the time; the least is the best.
    fn rank(&self, seen: &Seen) -> Option<usize> {
        let are_all_times = seen.texts + seen.numbers == self.records;
        let has_name = speaks_of_time(&seen.name);
        match time::usual_place(&seen.name) {
            Some(place) if are_all_times => Some(place),
            Some(place) if time::is_meant(&seen.name) && seen.texts + seen.numbers > 0 => {
                Some(place)
            }
            Some(_) => None,
            None if are_all_times && has_name => Some(time::USUAL.len()),
            None if seen.texts == self.records => Some(time::USUAL.len() + 1),
            None => None,
        }
    }

    fn add_text(&mut self, name: &str, text: &str) {
        let is_time = time::parse(text).is_some_and(time::is_usual);
        let is_number = text.trim().parse::<f64>().is_ok();
        let seen = self.seen(name);
        seen.texts += u64::from(is_time && !is_number);
        seen.numbers += u64::from(is_time && is_number);
    }

    fn add_number(&mut self, name: &str, number: f64) {
        let is_time = time::from_number(number).is_some_and(time::is_usual);
        self.seen(name).numbers += u64::from(is_time);
    }

    fn seen(&mut self, name: &str) -> &mut Seen {
        let at = self.columns.iter().position(|seen| seen.name == name);
        let at = at.unwrap_or_else(|| {
            self.columns.push(Seen {
                name: name.to_owned(),
                texts: 0,
                numbers: 0,
            });
            self.columns.len() - 1
        });
        &mut self.columns[at]
    }
}

/// Whether a word of the name is one for a moment: `paid_at`, `startTime`, `order date`.
fn speaks_of_time(name: &str) -> bool {
    const WORDS: [&str; 6] = ["at", "time", "timestamp", "datetime", "ts", "date"];
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (was_lower && c.is_uppercase());
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.iter().any(|word| WORDS.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::import::records::Head;

    fn found(rows: &[&[(&'static str, &'static str)]]) -> Option<String> {
        let mut guess = Guess::default();
        for row in rows {
            let cells = row
                .iter()
                .map(|(name, text)| (Cow::Borrowed(*name), Cell::Text(Cow::Borrowed(*text))));
            guess.add(&Record {
                kind: None,
                time_us: None,
                head: Head::default(),
                data: Data::Cells(cells.collect()),
            });
        }
        guess.column().map(str::to_owned)
    }

    #[test]
    fn a_column_whose_values_are_all_times_is_taken_the_best_name_first() {
        const DAY: &str = "2026-01-31";
        for (row, column) in [
            (
                &[("paid_at", "2026-01-31T12:00:00Z"), ("n", "1")][..],
                Some("paid_at"),
            ),
            (
                &[("born", DAY), ("paid_at", "2026-01-31 12:00")],
                Some("paid_at"),
            ),
            (&[("paid_at", DAY), ("timestamp", DAY)], Some("timestamp")),
            (&[("von", DAY), ("bis", DAY)], Some("von")),
            (
                &[("when", "1769860800"), ("startTime", "1769860800123")],
                Some("startTime"),
            ),
            (
                &[("order date", "31/Jan/2026:12:00:00 +0000")],
                Some("order date"),
            ),
            (&[("number", "1769860800"), ("format", "1769860800")], None),
            (&[("born", "1850-01-31"), ("version", "2026")], None),
            (&[("date", "soon"), ("a", "b")], None),
        ] {
            assert_eq!(found(&[row]).as_deref(), column, "{row:?}");
        }
        let some = [&[("paid_at", DAY)][..], &[("paid_at", "soon")]];
        assert_eq!(found(&some), None);
        // What is meant for the time is it, though not every line is right.
        let some = [&[("time", "soon")][..], &[("time", DAY)]];
        assert_eq!(found(&some).as_deref(), Some("time"));
    }
}
