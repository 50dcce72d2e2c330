//! CSV with a header or without: the first thousands of rows say what kind each column is.
//!
//! A first row that can only be data is no header and refused as one; where it may be either, a header is
//! meant. Without one the columns are `column_1`, `column_2`, ….
//! A later value that does not fit its column's kind is sent as text; the lake keeps it in `_rest`.
//! An empty field is null. The delimiter is the one of `,` `;` tab that cuts the header most.

use std::borrow::Cow;
use std::io::BufRead;

use anyhow::{Result, bail};
use csv::ByteRecord;

use super::records::{Cell, Data, Head, Record, Take};
use super::rows::{Row, Rows};
use super::time;
use super::time_column::TimeColumn;
use super::told::counted;

/// So many rows are looked at before the first is sent.
const LOOKED_AT_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No value seen.
    Empty,
    Bool,
    Int,
    Double,
    Text,
}

pub(crate) fn read(
    mut reader: impl BufRead,
    has_header: bool,
    time_column: TimeColumn<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    let delimiter = delimiter(reader.fill_buf()?);
    let mut rows = Rows::new(reader, delimiter);
    let mut looked_at = Vec::new();
    let header = match rows.next()? {
        Some((line, Ok(first))) if !has_header => {
            let header = (1..=first.len()).map(column).collect();
            looked_at.push((line, Ok(first)));
            header
        }
        Some((_, Ok(first))) if is_data(&first) => bail!(
            "its first line is data, not the names of its columns: {}; --no-header (of `serin import` and `serin open`) takes it so, or write the names above it",
            shown(&first)
        ),
        Some((_, Ok(header))) => names(&header)?,
        Some((_, Err(why))) => bail!("cannot read the first line: {why}"),
        None => bail!("there is no line in it"),
    };
    if let Some(column) = time_column.asked()
        && !header.iter().any(|name| name == column)
    {
        bail!(
            "there is no column {column:?}; it has {}",
            header.join(", ")
        );
    }
    while looked_at.len() < LOOKED_AT_MAX
        && let Some(row) = rows.next()?
    {
        looked_at.push(row);
    }
    let kinds = kinds(
        header.len(),
        looked_at.iter().filter_map(|row| row.1.as_ref().ok()),
    );
    let mut finder = time::Finder::new(time_column);
    let mut give = |(line, row): Row| match row {
        Ok(row) => take(line, cells(&row, &header, &kinds, &mut finder)),
        Err(why) => take(line, Err(why)),
    };
    for row in looked_at {
        give(row)?;
    }
    while let Some(row) = rows.next()? {
        give(row)?;
    }
    Ok(())
}

fn delimiter(head: &[u8]) -> u8 {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| line.iter().filter(|b| **b == delimiter).count();
    *b",;\t"
        .iter()
        .rev()
        .max_by_key(|delimiter| count(**delimiter))
        .expect("there are three")
}

/// The name of a column that has none, by its place from 1.
fn column(place: usize) -> String {
    format!("column_{place}")
}

/// Whether a first row can only be data: it has nothing but values, or a moment among them.
fn is_data(row: &ByteRecord) -> bool {
    let texts: Vec<Cow<'_, str>> = row.iter().map(String::from_utf8_lossy).collect();
    let written = || texts.iter().filter(|text| !text.trim().is_empty());
    written().any(|text| is_moment(text))
        || (written().next().is_some() && written().all(|text| is_value(text)))
}

/// A number, a truth or a time: hardly a column's name.
fn is_value(field: &str) -> bool {
    let field = field.trim_start_matches('\u{feff}');
    match kind_of(field) {
        Kind::Bool | Kind::Int | Kind::Double => true,
        Kind::Text => time::parse(field).is_some(),
        Kind::Empty => false,
    }
}

/// A time with its clock: no column is called so, though one may be called 2015 or 2015-05-17.
fn is_moment(field: &str) -> bool {
    kind_of(field) == Kind::Text && field.contains(':') && time::parse(field).is_some()
}

/// The first of the header's names that looks like a value.
pub(super) fn value_in_header(head: &[u8]) -> Option<String> {
    let row = Rows::new(head, delimiter(head)).next().ok()??.1.ok()?;
    let mut names = row.iter().map(String::from_utf8_lossy);
    names.find(|name| is_value(name)).map(Cow::into_owned)
}

fn shown(row: &ByteRecord) -> String {
    /// Fields that are shown, and characters of each.
    const SHOWN: (usize, usize) = (4, 24);
    let fields = row.iter().take(SHOWN.0).map(String::from_utf8_lossy);
    let fields = fields.map(|field| field.chars().take(SHOWN.1).collect::<String>());
    let rest = if row.len() > SHOWN.0 { ", …" } else { "" };
    format!("{}{rest}", fields.collect::<Vec<_>>().join(", "))
}

/// The header's names; an empty one is named by its place, a second one of a name is refused.
fn names(header: &ByteRecord) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (index, name) in header.iter().enumerate() {
        let name = String::from_utf8_lossy(name);
        let name = name.trim_start_matches('\u{feff}').trim();
        let name = match name.is_empty() {
            true => column(index + 1),
            false => name.to_owned(),
        };
        if names.contains(&name) {
            bail!("the header has the column {name:?} twice");
        }
        names.push(name);
    }
    Ok(names)
}

fn kinds<'a>(columns: usize, rows: impl Iterator<Item = &'a ByteRecord>) -> Vec<Kind> {
    let mut kinds = vec![Kind::Empty; columns];
    for row in rows {
        for (kind, field) in kinds.iter_mut().zip(row) {
            *kind = join(*kind, kind_of(&String::from_utf8_lossy(field)));
        }
    }
    kinds
}

fn join(known: Kind, seen: Kind) -> Kind {
    match (known, seen) {
        (known, Kind::Empty) => known,
        (Kind::Empty, seen) => seen,
        (Kind::Int, Kind::Double) | (Kind::Double, Kind::Int) => Kind::Double,
        (known, seen) if known == seen => known,
        _ => Kind::Text,
    }
}

/// What a field looks like; a number with leading zeros is a name (a postcode), not a number.
fn kind_of(field: &str) -> Kind {
    let field = field.trim();
    let digits = field.trim_start_matches('-');
    let is_name = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let is_numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match field {
        "" => Kind::Empty,
        "true" | "false" | "True" | "False" | "TRUE" | "FALSE" => Kind::Bool,
        _ if is_name || !is_numeric => Kind::Text,
        _ if field.parse::<i64>().is_ok() => Kind::Int,
        // One that is too long for a whole number would lose its last digits.
        _ if digits.bytes().all(|byte| byte.is_ascii_digit()) => Kind::Text,
        _ if field.parse::<f64>().is_ok_and(f64::is_finite) => Kind::Double,
        _ => Kind::Text,
    }
}

fn cells<'a>(
    row: &'a ByteRecord,
    header: &'a [String],
    kinds: &[Kind],
    finder: &mut time::Finder,
) -> Result<Record<'a>, String> {
    if row.len() != header.len() {
        return Err(format!(
            "it has {}, the header {}",
            counted(row.len() as u64, "field"),
            header.len()
        ));
    }
    let field = |column: &str| {
        let index = header.iter().position(|name| name == column)?;
        Some(String::from_utf8_lossy(row.get(index)?))
    };
    let time_us = finder.find(
        |column| time::parse(&field(column)?).filter(|time| time::is_usual(*time)),
        header.iter().map(String::as_str),
    )?;
    let cells = header
        .iter()
        .zip(kinds)
        .zip(row)
        .map(|((name, kind), field)| {
            let text = String::from_utf8_lossy(field);
            (Cow::Borrowed(name.as_str()), cell(text, *kind))
        });
    Ok(Record {
        kind: None,
        time_us,
        head: Head::default(),
        data: Data::Cells(cells.collect()),
    })
}

fn cell(text: Cow<'_, str>, kind: Kind) -> Cell<'_> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Cell::Null;
    }
    let typed = match kind {
        Kind::Bool => trimmed.to_ascii_lowercase().parse().ok().map(Cell::Bool),
        Kind::Int => trimmed.parse().ok().map(Cell::Int),
        Kind::Double => trimmed
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
            .map(Cell::Double),
        Kind::Text | Kind::Empty => None,
    };
    typed.unwrap_or(Cell::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, time: Option<&str>) -> Vec<String> {
        rows_of(text, true, time).expect("read")
    }

    fn rows_of(text: &str, has_header: bool, time: Option<&str>) -> Result<Vec<String>> {
        let mut out = Vec::new();
        let time = time.map_or(TimeColumn::Unknown, TimeColumn::Asked);
        read(text.as_bytes(), has_header, time, &mut |line, record| {
            out.push(match record {
                Ok(record) => format!(
                    "{line} {:?} {}",
                    record.time_us,
                    serde_json::to_string(&record.data).expect("values")
                ),
                Err(why) => format!("{line} {why}"),
            });
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn a_first_line_of_data_is_no_header() {
        for data in [
            "1,2.5,true\n3,4,false\n",
            "2015-05-17;7\n",
            "2015-05-17T10:00:00Z,de,12.5\n2015-05-17T10:01:00Z,fr,1\n",
        ] {
            let why = rows_of(data, true, None).expect_err(data).to_string();
            assert!(why.contains("--no-header"), "{why}");
        }
        for header in ["country,2015,2016\nde,1,2\n", "a,b\n", "time,\n1,2\n"] {
            assert!(rows_of(header, true, None).is_ok(), "{header}");
        }
        assert_eq!(value_in_header(b"country,2015\n").as_deref(), Some("2015"));
        assert_eq!(value_in_header(b"country,amount\n1,2\n"), None);
        assert_eq!(
            rows_of("2015-05-17,de,12.5\n2015-05-18,fr,1\n", false, None).expect("read"),
            [
                r#"1 None {"column_1":"2015-05-17","column_2":"de","column_3":12.5}"#,
                r#"2 None {"column_1":"2015-05-18","column_2":"fr","column_3":1.0}"#,
            ]
        );
    }

    #[test]
    fn a_column_has_one_kind() {
        let text = "a,b,zip,ok,note\n1,1,01234,true,\"x, y\"\n,2.5,99999,FALSE,\n3,4,1";
        assert_eq!(
            rows(text, None),
            [
                r#"2 None {"a":1,"b":1.0,"zip":"01234","ok":true,"note":"x, y"}"#,
                r#"3 None {"a":null,"b":2.5,"zip":"99999","ok":false,"note":null}"#,
                "4 it has 3 fields, the header 5",
            ]
        );
    }

    #[test]
    fn whole_numbers_too_long_for_one_keep_their_digits() {
        assert_eq!(
            rows("order\n7\n12345678901234567890\n", None),
            [
                r#"2 None {"order":"7"}"#,
                r#"3 None {"order":"12345678901234567890"}"#,
            ]
        );
    }

    #[test]
    fn rows_that_end_with_cr_alone_are_told() {
        let told = "a line ends with CR alone; end lines with LF, or with CR and LF";
        assert_eq!(
            rows("a,b\n1,2\r3,4\n5,6\r\n", None),
            [format!("2 {told}"), String::from(r#"3 None {"a":5,"b":6}"#)]
        );
        let whole = rows_of("a,b\r1,2\r", true, None).expect_err("none is a row");
        assert!(whole.to_string().contains(told), "{whole}");
    }

    #[test]
    fn the_delimiter_and_the_time_are_found() {
        assert_eq!(
            rows("v;date\n7;2015-05-17\n", None),
            [r#"2 Some(1431820800000000) {"v":7,"date":"2015-05-17"}"#]
        );
    }
}
