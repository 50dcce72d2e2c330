//! How times, bounds and names are spelled in the catalogue, so that DuckDB reads them.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime};
use xxhash_rust::xxh3::xxh3_128;

use crate::column::ColumnKind;
use crate::snapshot::Bound;

/// A moment as DuckLake writes it: `2026-11-24 03:21:08.357216+00`.
pub(crate) fn time(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us).unwrap_or(DateTime::UNIX_EPOCH);
    time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// Reads what [`time`] wrote.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix("+00")?;
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(time.and_utc().timestamp_micros())
}

/// A bound as DuckLake writes it; `None` for one it does not keep.
pub(crate) fn bound(bound: &Bound) -> Option<String> {
    match bound {
        Bound::Bool(_) => None,
        Bound::Int(value) => Some(value.to_string()),
        Bound::Double(value) => Some(format!("{value:?}")),
        Bound::Text(value) => Some(value.clone()),
        // DuckDB spells years beyond these four digits in a way of its own.
        Bound::Time(us) => {
            DateTime::from_timestamp_micros(*us)?;
            let text = time(*us);
            (text.len() == "2026-11-24 03:21:08.357216+00".len()).then_some(text)
        }
    }
}

/// Reads what [`bound`] wrote.
pub(crate) fn parse_bound(kind: ColumnKind, text: &str) -> Option<Bound> {
    match kind {
        ColumnKind::Bool => None,
        ColumnKind::Int => text.parse().ok().map(Bound::Int),
        ColumnKind::Double => text.parse().ok().map(Bound::Double),
        ColumnKind::Text => Some(Bound::Text(text.to_owned())),
        ColumnKind::Time => parse_time(text).map(Bound::Time),
    }
}

/// A name in double quotes, quotes doubled.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A UUID that follows from a table's name and number; nothing asks it to be random.
pub(crate) fn uuid(name: &str, id: u64) -> String {
    let hash = xxh3_128(format!("{id} {name}").as_bytes());
    // The bits that say "version 8, our own scheme".
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{hash:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The folder of a table: readable, and safe on every file system and in every glob.
pub(crate) fn table_dir(name: &str, id: u64) -> String {
    let safe: String = name
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '-' | '_' | '.' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '_',
        })
        .collect();
    format!("{id}-{safe}/")
}

/// The name of a file in its table's folder. Numbers are given out once, so names are too.
pub(crate) fn file_name(id: u64) -> String {
    format!("{id:012}.parquet")
}

/// The name a file has while it is written.
pub(crate) fn temporary_name(id: u64) -> String {
    format!(".tmp-{id:012}.parquet")
}

/// A path as SQL text in single quotes.
pub(crate) fn sql_path(path: &Path) -> String {
    path.display().to_string().replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_come_back_as_they_went() {
        let doubles = [0.1, -0.0, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY];
        let ints = [i64::MIN, -1, 0, i64::MAX].map(Bound::Int);
        let times = [0, -1, 1_767_225_600_123_456, -60_000_000_000_000_000].map(Bound::Time);
        let texts = ["", "'", "\u{1f426}", "2026"].map(|text| Bound::Text(text.to_owned()));
        let all = doubles
            .map(Bound::Double)
            .into_iter()
            .chain(ints)
            .chain(times)
            .chain(texts);
        for value in all {
            let kind = match value {
                Bound::Bool(_) => ColumnKind::Bool,
                Bound::Int(_) => ColumnKind::Int,
                Bound::Double(_) => ColumnKind::Double,
                Bound::Text(_) => ColumnKind::Text,
                Bound::Time(_) => ColumnKind::Time,
            };
            let text = bound(&value).unwrap();
            assert_eq!(parse_bound(kind, &text), Some(value), "{text}");
        }
        assert_eq!(bound(&Bound::Time(i64::MAX)), None);
        assert_eq!(time(1_767_225_600_000_001), "2026-01-01 00:00:00.000001+00");
    }

    #[test]
    fn folders_are_harmless_whatever_the_name() {
        assert_eq!(table_dir("order.paid", 3), "3-order.paid/");
        assert_eq!(table_dir("../A b*[x]\u{e9}", 4), "4-.._a_b__x__/");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(uuid("a", 1).len(), 36);
        assert_ne!(uuid("a", 1), uuid("a", 2));
    }
}
