//! `GET /api/v1/logs`: what services wrote, in the order it was written; and how much of it when.
//!
//! An answer has the newest lines of the range, at most so many. Each has a cursor: `before` it
//! come older lines, `around` it those on both sides. Lines may arrive out of order by a second or
//! so; who follows asks from a little earlier and knows lines by their cursor.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serin_lake::Snapshot;
use serin_query::{Range, nice_step_us};
use serin_wire::time::{parse_rfc3339, to_rfc3339};

use super::App;
use super::error::ApiError;
use super::own_sql::{self, Conditions, Row, given, literal, moment};

const TABLE: &str = "logs";
/// What is answered where no range is given.
const DEFAULT_RANGE: (&str, &str) = ("now-1h", "now");
const LIMIT: usize = 200;
const LIMIT_MAX: usize = 2_000;
/// Of a text to look for.
const TEXT_CHARS_MAX: usize = 256;
/// Bars of the histogram at most.
const BARS_MAX: usize = 120;
/// How far around a line its neighbours may lie.
const AROUND_US: i64 = 86_400_000_000;
/// Instances whose counts are told; those with most lines come first.
const SENDERS_MAX: usize = 500;
/// Levels from the gravest.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Which lines are wanted.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
    service: Option<String>,
    instance: Option<String>,
    /// This level and those graver.
    level: Option<String>,
    /// A part of the line, in upper or lower case.
    text: Option<String>,
    trace: Option<String>,
    /// A cursor: only older lines.
    before: Option<String>,
    /// A cursor: its line, and as many on each side as half the limit says, whatever the range.
    around: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LinesBody {
    /// The oldest first.
    lines: Vec<Row>,
    /// There are older lines that did not fit.
    has_more: bool,
    watermark: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CountsBody {
    from: String,
    to: String,
    step_s: f64,
    /// By level, the gravest first; each with a count for every step.
    levels: Vec<LevelBody>,
    /// Who wrote them, those with most lines first.
    senders: Vec<SenderBody>,
    watermark: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LevelBody {
    level: String,
    counts: Vec<(String, u64)>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SenderBody {
    service: String,
    instance: String,
    lines: u64,
}

/// The place of a line: its time and its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    time_us: i64,
    id: String,
}

pub(crate) async fn get(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<LinesBody>, ApiError> {
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let snapshot = app.lake.snapshot();
    let found = match Cursor::read(given(&asked.around))? {
        Some(cursor) => around(&app, &snapshot, &asked, &cursor, limit).await?,
        None => newest(&app, &snapshot, &asked, limit).await?,
    };
    Ok(Json(LinesBody {
        lines: found.rows.into_iter().map(line).collect(),
        has_more: found.has_more,
        watermark: snapshot.watermark_us.map(to_rfc3339),
    }))
}

/// Lines, the oldest first.
struct Found {
    rows: Vec<Row>,
    has_more: bool,
}

/// The newest of the range, or those before a cursor.
async fn newest(
    app: &App,
    snapshot: &Arc<Snapshot>,
    asked: &Asked,
    limit: usize,
) -> Result<Found, ApiError> {
    let mut range = app.range(&asked.from, &asked.to, DEFAULT_RANGE)?;
    let mut conditions = asked.conditions()?;
    if let Some(before) = Cursor::read(given(&asked.before))? {
        range.to_us = range.to_us.min(before.time_us.saturating_add(1));
        conditions.and(before.older("<"));
    }
    let mut found = lines(app, snapshot, &conditions, range, (Side::Older, limit)).await?;
    found.rows.reverse();
    Ok(found)
}

/// The line of a cursor and those on both sides.
async fn around(
    app: &App,
    snapshot: &Arc<Snapshot>,
    asked: &Asked,
    cursor: &Cursor,
    limit: usize,
) -> Result<Found, ApiError> {
    let time_us = cursor.time_us;
    let (mut up_to, mut from) = (asked.conditions()?, asked.conditions()?);
    up_to.and(cursor.older("<="));
    from.and(cursor.newer());
    let before = Range {
        from_us: time_us.saturating_sub(AROUND_US),
        to_us: time_us.saturating_add(1),
    };
    let after = Range {
        from_us: time_us,
        to_us: time_us.saturating_add(AROUND_US),
    };
    let half = limit / 2;
    let (mut older, newer) = tokio::try_join!(
        lines(app, snapshot, &up_to, before, (Side::Older, half + 1)),
        lines(app, snapshot, &from, after, (Side::Newer, half)),
    )?;
    older.rows.reverse();
    older.rows.extend(newer.rows);
    Ok(older)
}

/// Which side of the range is read first.
#[derive(Clone, Copy)]
enum Side {
    Older,
    Newer,
}

async fn lines(
    app: &App,
    snapshot: &Arc<Snapshot>,
    conditions: &Conditions,
    range: Range,
    (side, limit): (Side, usize),
) -> Result<Found, ApiError> {
    let mut rows = Vec::new();
    if range.from_us < range.to_us {
        let order = match side {
            Side::Older => "DESC",
            Side::Newer => "ASC",
        };
        let sql = format!(
            "SELECT * FROM {TABLE} WHERE {conditions} ORDER BY time {order}, id {order} LIMIT {}",
            limit + 1
        );
        rows = own_sql::ask(app, snapshot, TABLE, &sql, range).await?;
    }
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    Ok(Found { rows, has_more })
}

/// How many lines there are, by time and level and by who wrote them.
pub(crate) async fn counts(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<CountsBody>, ApiError> {
    let range = app.range(&asked.from, &asked.to, DEFAULT_RANGE)?;
    let conditions = asked.conditions()?;
    let step_us = nice_step_us(range, BARS_MAX);
    let snapshot = app.lake.snapshot();
    let by_level = format!(
        "SELECT time_bucket('{step_us} us', time) AS time, level, count(*) AS lines FROM {TABLE} WHERE {conditions} GROUP BY 1, 2"
    );
    let by_sender = format!(
        "SELECT service, instance, count(*) AS lines FROM {TABLE} WHERE {conditions} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {SENDERS_MAX}"
    );
    let (bars, senders) = tokio::try_join!(
        own_sql::ask(&app, &snapshot, TABLE, &by_level, range),
        own_sql::ask(&app, &snapshot, TABLE, &by_sender, range),
    )?;
    let senders = senders.iter().map(|row| SenderBody {
        service: own_sql::text(row, "service").to_owned(),
        instance: own_sql::text(row, "instance").to_owned(),
        lines: own_sql::count(row, "lines"),
    });
    Ok(Json(CountsBody {
        from: to_rfc3339(range.from_us),
        to: to_rfc3339(range.to_us),
        step_s: step_us as f64 / 1e6,
        levels: levels(&bars, range, step_us),
        senders: senders.collect(),
        watermark: snapshot.watermark_us.map(to_rfc3339),
    }))
}

impl Asked {
    fn conditions(&self) -> Result<Conditions, ApiError> {
        let mut conditions = Conditions::within_range();
        conditions.and_is("service", given(&self.service));
        conditions.and_is("instance", given(&self.instance));
        conditions.and_is("trace_id", given(&self.trace));
        if let Some(level) = given(&self.level) {
            let at = LEVELS.iter().position(|known| *known == level);
            let at = at.ok_or_else(|| {
                ApiError::bad(format!(
                    "no level {level:?}; there are {}",
                    LEVELS.join(", ")
                ))
            })?;
            let graver: Vec<String> = LEVELS[..=at].iter().map(|level| literal(level)).collect();
            conditions.and(format!("level IN ({})", graver.join(", ")));
        }
        let text = given(&self.text);
        if text.is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX) {
            return Err(ApiError::bad(format!(
                "the text to look for is longer than {TEXT_CHARS_MAX} characters; give a part of it"
            )));
        }
        conditions.and_holds("message", text);
        Ok(conditions)
    }
}

impl Cursor {
    fn read(text: Option<&str>) -> Result<Option<Cursor>, ApiError> {
        let Some(text) = text else { return Ok(None) };
        let cursor = text.split_once('-').and_then(|(time_us, id)| {
            let time_us = time_us.parse().ok()?;
            let id = id.to_owned();
            Some(Cursor { time_us, id })
        });
        match cursor {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(ApiError::bad(
                "before and around take the cursor of a line, as an earlier answer gave it",
            )),
        }
    }

    /// Lines before it; `<=` takes it in.
    fn older(&self, compare: &str) -> String {
        let (time, id) = (moment(self.time_us), literal(&self.id));
        format!("(time < {time} OR id {compare} {id})")
    }

    /// Lines after it.
    fn newer(&self) -> String {
        let (time, id) = (moment(self.time_us), literal(&self.id));
        format!("(time > {time} OR id > {id})")
    }
}

/// A line as it leaves: with its cursor, and its fields in one object.
fn line(mut row: Row) -> Row {
    own_sql::gather(&mut row, "fields");
    let time_us = parse_rfc3339(own_sql::text(&row, "time")).unwrap_or_default();
    let cursor = format!("{time_us}-{}", own_sql::text(&row, "id"));
    row.remove("id");
    row.remove("_rest");
    row.remove("_arm");
    row.insert(String::from("cursor"), json!(cursor));
    row
}

/// The counts by level with a number for every step, also where nothing was written.
fn levels(rows: &[Row], range: Range, step_us: i64) -> Vec<LevelBody> {
    let mut by_level: BTreeMap<usize, BTreeMap<i64, u64>> = BTreeMap::new();
    for row in rows {
        let level = own_sql::text(row, "level");
        let grave = LEVELS.iter().position(|known| *known == level);
        let time_us = parse_rfc3339(own_sql::text(row, "time"));
        if let (Some(grave), Some(time_us)) = (grave, time_us) {
            let count = own_sql::count(row, "lines");
            *by_level
                .entry(grave)
                .or_default()
                .entry(time_us)
                .or_default() += count;
        }
    }
    // Steps lie where the found ones do; without any there is nothing to show.
    let Some(first) = by_level
        .values()
        .find_map(|counts| counts.keys().next().copied())
    else {
        return Vec::new();
    };
    let start = range.from_us - (range.from_us - first).rem_euclid(step_us);
    let steps = || (start..range.to_us).step_by(usize::try_from(step_us).unwrap_or(1));
    by_level
        .into_iter()
        .map(|(grave, counts)| LevelBody {
            level: LEVELS[grave].to_owned(),
            counts: steps()
                .map(|at| (to_rfc3339(at), counts.get(&at).copied().unwrap_or(0)))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_level_brings_the_graver_ones() {
        let asked = Asked {
            level: Some(String::from("warn")),
            service: Some(String::new()),
            ..Asked::default()
        };
        let conditions = asked.conditions().expect("a level there is");
        assert_eq!(
            conditions.to_string(),
            "$__range AND level IN ('error', 'warn')"
        );
        let asked = Asked {
            level: Some(String::from("loud")),
            ..Asked::default()
        };
        let error = asked.conditions().expect_err("no such level");
        assert!(
            error.message.contains("error, warn, info"),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_cursor_reads_back() {
        let cursor = Cursor::read(Some("7-01J")).expect("good");
        let right = Cursor {
            time_us: 7,
            id: String::from("01J"),
        };
        assert_eq!(cursor, Some(right));
        for bad in ["", "7", "x-1"] {
            assert!(Cursor::read(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_step_has_a_count() {
        let row = |time: &str, level: &str, lines: u64| -> Row {
            match json!({"time": time, "level": level, "lines": lines}) {
                Value::Object(row) => row,
                _ => Row::new(),
            }
        };
        let rows = [
            row("1970-01-01T00:00:02Z", "info", 3),
            row("1970-01-01T00:00:01Z", "error", 1),
        ];
        let range = Range {
            from_us: 500_000,
            to_us: 3_000_000,
        };
        let levels = levels(&rows, range, 1_000_000);
        let shown: Vec<(&str, Vec<u64>)> = levels
            .iter()
            .map(|level| {
                (
                    level.level.as_str(),
                    level.counts.iter().map(|(_, count)| *count).collect(),
                )
            })
            .collect();
        assert_eq!(shown, [("error", vec![0, 1, 0]), ("info", vec![0, 0, 3])]);
    }
}
