//! Where a table is a whole record: there an empty time had no events, elsewhere nobody knows.
//!
//! Live rows are watched from the first of them on, and expiry moves that forward; an import is a
//! record of its own, from its first row to its last. Both follow from what files say of themselves,
//! so that neither a merge nor a restart changes an answer. Start at [`Known::of_files`].

use std::sync::Arc;

use crate::fresh::FreshTable;
use crate::snapshot::DataFile;

/// A live row that arrives later than this does not say that its time was watched. Files of live
/// rows merge within a day of arrival, so rows that came in time are never cut off by it.
const LATE_US_MAX: i64 = 24 * 3600 * 1_000_000;
/// Imported files at most this far apart are one record: a log that is kept a file a day has its
/// quiet hours at the ends of files too.
const APART_US_MAX: i64 = 24 * 3600 * 1_000_000;

/// The times over which a table is a whole record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// From when on live rows are complete, up to the watermark.
    pub live_from_us: Option<i64>,
    /// First and last time of each imported record, in order and apart.
    pub imports: Vec<(i64, i64)>,
}

impl Known {
    /// What files say.
    pub(crate) fn of_files<'a>(files: impl Iterator<Item = &'a Arc<DataFile>>) -> Known {
        let mut known = Known::default();
        let mut imports = Vec::new();
        for file in files {
            let Some((first, last)) = file.time_range_us() else {
                continue;
            };
            if file.is_import {
                imports.push((first, last));
            } else {
                known.watch(first, Some(file.arrived_us));
            }
        }
        known.imports = records(imports);
        known
    }

    /// Takes in what hot rows say; they arrived about when the watermark was where it is.
    pub(crate) fn take_fresh(&mut self, fresh: &FreshTable, watermark_us: Option<i64>) {
        if let Some(first) = fresh.live_from_us {
            self.watch(first, watermark_us);
        }
        if let Some(import) = fresh.imported_us {
            self.imports.push(import);
            self.imports = records(std::mem::take(&mut self.imports));
        }
    }

    /// The first time of the imported record that holds a time.
    pub(crate) fn record_of(&self, time_us: i64) -> Option<i64> {
        let holds = |(first, last): &&(i64, i64)| (*first..=*last).contains(&time_us);
        self.imports.iter().find(holds).map(|(first, _)| *first)
    }

    fn watch(&mut self, first_us: i64, arrived_us: Option<i64>) {
        let earliest = arrived_us.map_or(i64::MIN, |at| at.saturating_sub(LATE_US_MAX));
        let from_us = first_us.max(earliest);
        self.live_from_us = Some(
            self.live_from_us
                .map_or(from_us, |known| known.min(from_us)),
        );
    }
}

/// Joins ranges that are hardly apart.
fn records(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(APART_US_MAX) => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Bound, ColumnStats};

    const DAY: i64 = LATE_US_MAX;

    fn file(times: (i64, i64), arrived_us: i64, is_import: bool) -> Arc<DataFile> {
        let stats = ColumnStats {
            name: "time".to_owned(),
            bytes: 0,
            nulls: 0,
            min: Some(Bound::Time(times.0)),
            max: Some(Bound::Time(times.1)),
            has_nan: false,
        };
        Arc::new(DataFile {
            id: 0,
            path: "f".into(),
            rows: 2,
            bytes: 1,
            stats: vec![stats],
            arrived_us,
            is_import,
        })
    }

    #[test]
    fn a_late_row_is_not_the_first_that_was_watched() {
        let files = [
            file((100 * DAY, 101 * DAY), 101 * DAY, false),
            file((5 * DAY, 102 * DAY), 102 * DAY, false),
        ];
        let known = Known::of_files(files.iter());
        assert_eq!(known.live_from_us, Some(100 * DAY));
        // The first file has expired, and what is left holds a row that came late.
        let left = Known::of_files(files[1..].iter());
        assert_eq!(left.live_from_us, Some(101 * DAY));
    }

    #[test]
    fn imports_are_records_of_their_own() {
        let files = [
            file((40 * DAY, 41 * DAY), 200 * DAY, true),
            file((10 * DAY, 12 * DAY), 200 * DAY, true),
            file((13 * DAY, 14 * DAY), 201 * DAY, true),
        ];
        let known = Known::of_files(files.iter());
        assert_eq!(known.live_from_us, None);
        assert_eq!(known.imports, [(10 * DAY, 14 * DAY), (40 * DAY, 41 * DAY)]);
        assert_eq!(known.record_of(13 * DAY), Some(10 * DAY));
        assert_eq!(known.record_of(30 * DAY), None);
    }

    #[test]
    fn hot_rows_add_to_it() {
        let mut known = Known::default();
        let fresh = FreshTable {
            live_from_us: Some(DAY),
            imported_us: Some((0, 1)),
            ..FreshTable::default()
        };
        known.take_fresh(&fresh, Some(10 * DAY));
        assert_eq!(known.live_from_us, Some(9 * DAY));
        assert_eq!(known.imports, [(0, 1)]);
    }
}
