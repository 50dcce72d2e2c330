//! Times as files write them, and which column holds them.

use serin_wire::time::parse_rfc3339;

use super::time_column::TimeColumn;

const SECOND: i64 = 1_000_000;

/// Names under which a time is looked for where none is given, best first.
pub(crate) const USUAL: [&str; 9] = [
    "time",
    "timestamp",
    "@timestamp",
    "ts",
    "datetime",
    "created_at",
    "event_time",
    "occurred_at",
    "date",
];
/// Of these, one that holds something else than a time is no mistake.
const AMBIGUOUS: [&str; 1] = ["date"];

const EXPECTED: &str =
    "expected RFC 3339, 2015-05-17 10:05:03, or seconds since 1970; --time names another column";

/// Whether a column of this name holds the time, readable or not.
pub(crate) fn is_meant(column: &str) -> bool {
    let is = |name: &&str| column.eq_ignore_ascii_case(name);
    usual_place(column).is_some() && !AMBIGUOUS.iter().any(is)
}

/// Where a name stands among the usual ones.
pub(crate) fn usual_place(column: &str) -> Option<usize> {
    USUAL
        .iter()
        .position(|name| column.eq_ignore_ascii_case(name))
}

/// Finds the time of each record, in the column named or the first that looks like one.
#[derive(Debug)]
pub(crate) struct Finder {
    column: Option<String>,
    is_asked: bool,
    is_settled: bool,
}

impl Finder {
    pub(crate) fn new(column: TimeColumn<'_>) -> Finder {
        Finder {
            column: column.name().map(str::to_owned),
            is_asked: column.asked().is_some(),
            is_settled: column.name().is_some(),
        }
    }

    /// `read` gives the time in a column, if there is one; `columns` are those of the record.
    pub(crate) fn find<'a>(
        &mut self,
        read: impl Fn(&str) -> Option<i64>,
        columns: impl Iterator<Item = &'a str>,
    ) -> Result<Option<i64>, String> {
        if !self.is_settled {
            let columns: Vec<&str> = columns.collect();
            let named = USUAL.iter().find_map(|usual| {
                columns
                    .iter()
                    .find(|column| column.eq_ignore_ascii_case(usual) && read(column).is_some())
            });
            if let Some(name) = named {
                self.column = Some((*name).to_owned());
                self.is_settled = true;
            } else if let Some(meant) = columns.iter().find(|column| is_meant(column)) {
                return Err(format!("column {meant:?} has no time; {EXPECTED}"));
            }
        }
        let Some(column) = &self.column else {
            return Ok(None);
        };
        match read(column) {
            Some(time_us) => Ok(Some(time_us)),
            None if self.is_asked => Err(format!("column {column:?} has no time; {EXPECTED}")),
            None => Err(format!(
                "column {column:?} has no time here, though it has before; --time names another"
            )),
        }
    }
}

/// RFC 3339, `2015-05-17 10:05:03`, `2015-05-17`, an access log's time, or a number.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(time_us) = parse_rfc3339(text) {
        return Some(time_us);
    }
    if let Ok(number) = text.parse::<f64>() {
        return from_number(number);
    }
    let has_date = text.len() >= 10 && text.is_char_boundary(10) && text.as_bytes()[4] == b'-';
    if has_date {
        let (date, clock) = text.split_at(10);
        let clock = clock.trim_start_matches(['T', ' ']);
        let clock = match clock.split(':').count() {
            1 if clock.is_empty() => String::from("00:00:00"),
            2 => format!("{clock}:00"),
            _ => clock.to_owned(),
        };
        let zoned = format!("{date}T{}", clock.replace(" UTC", "Z").replace(' ', ""));
        return parse_rfc3339(&zoned).or_else(|| parse_rfc3339(&format!("{zoned}Z")));
    }
    parse_clf(text)
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size: between
/// 1970 and 5138 the four do not overlap past the first months of 1970.
pub(crate) fn from_number(number: f64) -> Option<i64> {
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let micros = match number {
        n if n < 1e11 => n * 1e6,
        n if n < 1e14 => n * 1e3,
        n if n < 1e17 => n,
        n => n / 1e3,
    };
    (micros < 1e18).then_some(micros.round() as i64)
}

/// `17/May/2015:10:05:03 +0000`.
pub(crate) fn parse_clf(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (day, rest) = text.trim().split_once('/')?;
    let (month, rest) = rest.split_once('/')?;
    let (year, rest) = rest.split_once(':')?;
    let (clock, zone) = rest.split_once(' ').unwrap_or((rest, "+0000"));
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if zone.len() != 5 || !zone.is_ascii() {
        return None;
    }
    let text = format!(
        "{year}-{month:02}-{day:0>2}T{clock}{}:{}",
        &zone[..3],
        &zone[3..]
    );
    parse_rfc3339(&text)
}

/// Whether a time could be meant by a person: from 1990 to 2100.
pub(crate) fn is_usual(time_us: i64) -> bool {
    (631_152_000 * SECOND..4_102_444_800 * SECOND).contains(&time_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ways_to_write_one_moment() {
        let moment = parse_rfc3339("2015-05-17T10:05:00Z").expect("a time");
        for text in [
            "2015-05-17T10:05:00Z",
            "2015-05-17 10:05:00",
            "2015-05-17 10:05",
            "2015-05-17T10:05:00.000",
            "2015-05-17 12:05:00+02:00",
            "2015-05-17 10:05:00 UTC",
            "17/May/2015:10:05:00 +0000",
            "1431857100",
            "1431857100000",
            "1431857100000000",
        ] {
            assert_eq!(parse(text), Some(moment), "{text}");
        }
        assert_eq!(parse("2015-05-17"), parse_rfc3339("2015-05-17T00:00:00Z"));
        for text in [
            "",
            "x",
            "2015",
            "-1",
            "2015-99-99",
            "1/2/3",
            "ä-------------",
        ] {
            assert!(parse(text).is_none_or(|time| !is_usual(time)), "{text}");
        }
    }

    #[test]
    fn the_first_usual_name_that_holds_a_time_is_taken() {
        let mut finder = Finder::new(TimeColumn::Unknown);
        let read = |column: &str| (column == "TS").then_some(7);
        let found = finder.find(read, ["date", "TS"].into_iter());
        assert_eq!(found, Ok(Some(7)));
        assert!(finder.find(|_| None, ["TS"].into_iter()).is_err());
        assert_eq!(
            Finder::new(TimeColumn::Unknown).find(|_| None, ["x"].into_iter()),
            Ok(None)
        );
        // A first record without a readable time is refused; it does not settle that there is none.
        let mut finder = Finder::new(TimeColumn::Unknown);
        assert!(finder.find(|_| None, ["ts"].into_iter()).is_err());
        let read = |column: &str| (column == "ts").then_some(7);
        assert_eq!(finder.find(read, ["ts"].into_iter()), Ok(Some(7)));
        // A date that is none is no time, and no mistake.
        let mut finder = Finder::new(TimeColumn::Unknown);
        assert_eq!(finder.find(|_| None, ["date"].into_iter()), Ok(None));
    }
}
