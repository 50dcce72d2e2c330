//! `GET /api/v1/traces`: the traces that hold a span of the kind asked for, the newest or the
//! slowest first; and `GET /api/v1/traces/{id}`: the spans of one, to be drawn as a waterfall.
//!
//! All conditions speak of one span: of this service, holding this text in its name, failed, at
//! least so slow. What is told of a trace counts all its spans that were kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_lake::Snapshot;
use serin_query::Range;
use serin_wire::time::{parse_rfc3339, to_rfc3339};
use serin_yaml::parse_span;

use super::App;
use super::error::ApiError;
use super::own_sql::{self, Conditions, Row, count, given, literal, moment, text};

const TABLE: &str = "spans";
/// What is answered where no range is given.
const DEFAULT_RANGE: (&str, &str) = ("now-1h", "now");
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 500;
/// A waterfall longer than this is read by nobody; the earliest spans are shown.
const SPANS_MAX: usize = 2_000;
/// How far the spans of a trace may lie from the one that was found: calls end within minutes.
const AROUND_US: i64 = 600_000_000;
/// How far back a trace is looked for of which nobody says when it was: each time, only where it was
/// not found nearer; then everything. Files of other times are not read.
const BACK_US: [i64; 3] = [HOUR_US, 24 * HOUR_US, 30 * 24 * HOUR_US];
const HOUR_US: i64 = 3_600_000_000;

/// Which traces are wanted.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
    service: Option<String>,
    /// A part of the span's name, in upper or lower case.
    endpoint: Option<String>,
    /// `ok` or `error`.
    status: Option<String>,
    /// `200ms`: only those that took at least so long.
    slower: Option<String>,
    /// `newest` or `slowest`.
    order: Option<String>,
    limit: Option<usize>,
}

/// From when to when the spans of a trace are looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// Some moment of the trace; without it the newest are looked through first.
    at: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TracesBody {
    traces: Vec<TraceBody>,
    has_more: bool,
    watermark: Option<String>,
}

/// A trace in the list.
#[derive(Debug, Serialize)]
pub(crate) struct TraceBody {
    trace_id: String,
    /// When its first span began.
    time: String,
    duration_us: u64,
    /// The first span.
    service: String,
    name: String,
    spans: u64,
    failed: u64,
    services: Vec<String>,
    /// The longest of the spans that were asked for.
    longest_us: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SpansBody {
    trace_id: String,
    /// The earliest first.
    spans: Vec<Row>,
    /// The places of its services among the colours.
    looks: BTreeMap<String, usize>,
    has_more: bool,
}

pub(crate) async fn list(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<TracesBody>, ApiError> {
    let range = app.range(&asked.from, &asked.to, DEFAULT_RANGE)?;
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let sql = asked.statement(range, limit + 1)?;
    let snapshot = app.lake.snapshot();
    let mut rows = own_sql::ask(&app, &snapshot, TABLE, &sql, range).await?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    Ok(Json(TracesBody {
        traces: rows.iter().map(trace).collect(),
        has_more,
        watermark: snapshot.watermark_us.map(to_rfc3339),
    }))
}

/// The spans of one trace.
pub(crate) async fn get(
    State(app): State<App>,
    Path(trace_id): Path<String>,
    Query(when): Query<When>,
) -> Result<Json<SpansBody>, ApiError> {
    let is_id = trace_id.len() == 32 && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(ApiError::bad(format!(
            "{trace_id:?} is not the identity of a trace; it has 32 hex digits"
        )));
    }
    let now_us = (app.now_us)();
    let snapshot = app.lake.snapshot();
    let mut is_of = Conditions::within_range();
    is_of.and_is("trace_id", Some(&trace_id.to_ascii_lowercase()));
    let at_us = match given(&when.at) {
        Some(at) => Some(super::range::parse_time(at, now_us)?),
        None => find(&app, &snapshot, &is_of, now_us).await?,
    };
    let sql = format!(
        "SELECT * FROM {TABLE} WHERE {is_of} ORDER BY time, duration_us DESC, span_id LIMIT {}",
        SPANS_MAX + 1
    );
    let mut spans = match at_us {
        Some(at_us) => own_sql::ask(&app, &snapshot, TABLE, &sql, around(at_us)).await?,
        None => Vec::new(),
    };
    if spans.is_empty() {
        return Err(ApiError::not_found(format!(
            "no span of the trace {trace_id} is here; it was not among those that are kept, or has expired"
        )));
    }
    let has_more = spans.len() > SPANS_MAX;
    spans.truncate(SPANS_MAX);
    let services = spans.iter().map(|row| text(row, "service"));
    let looks = services.filter_map(|service| Some((service.to_owned(), app.looks.of(service)?)));
    Ok(Json(SpansBody {
        trace_id,
        looks: looks.collect(),
        spans: spans.into_iter().map(span).collect(),
        has_more,
    }))
}

/// A moment of a trace, found by the newest of its spans.
async fn find(
    app: &App,
    snapshot: &Arc<Snapshot>,
    is_of: &Conditions,
    now_us: i64,
) -> Result<Option<i64>, ApiError> {
    let sql = format!("SELECT time FROM {TABLE} WHERE {is_of} ORDER BY time DESC LIMIT 1");
    for range in newest_first(now_us) {
        let found = own_sql::ask(app, snapshot, TABLE, &sql, range).await?;
        if let Some(row) = found.first() {
            return Ok(parse_rfc3339(text(row, "time")));
        }
    }
    Ok(None)
}

/// All times there are, in pieces, from now on back.
fn newest_first(now_us: i64) -> impl Iterator<Item = Range> {
    let begins = BACK_US.into_iter().map(move |back_us| now_us - back_us);
    // Clocks of others may be ahead.
    let ends = std::iter::once(now_us + AROUND_US).chain(begins.clone());
    let pieces = begins.chain([0]).zip(ends);
    pieces.map(|(from_us, to_us)| Range { from_us, to_us })
}

impl Asked {
    /// Finds the traces by one of their spans, then counts all of these.
    fn statement(&self, range: Range, limit: usize) -> Result<String, ApiError> {
        let mut conditions = Conditions::within_range();
        conditions.and("trace_id IS NOT NULL");
        conditions.and_is("service", given(&self.service));
        conditions.and_holds("name", given(&self.endpoint));
        match given(&self.status) {
            Some(status @ ("ok" | "error")) => conditions.and_is("status", Some(status)),
            Some(other) => {
                return Err(ApiError::bad(format!(
                    "no status {other:?}; there are ok and error"
                )));
            }
            None => {}
        }
        if let Some(slower) = given(&self.slower) {
            let slower_us = parse_span(slower).ok_or_else(|| {
                ApiError::bad(format!("{slower:?} is not a time; write 200ms or 2s"))
            })?;
            conditions.and(format!("duration_us >= {slower_us}"));
        }
        let order = match given(&self.order) {
            None | Some("newest") => "newest",
            Some("slowest") => "longest_us",
            Some(other) => {
                return Err(ApiError::bad(format!(
                    "no order {other:?}; there are newest and slowest"
                )));
            }
        };
        let (from, to) = (
            moment(range.from_us.saturating_sub(AROUND_US)),
            moment(range.to_us.saturating_add(AROUND_US)),
        );
        Ok(format!(
            "WITH found AS (
               SELECT trace_id, max(time) AS newest, max(duration_us) AS longest_us FROM {TABLE}
               WHERE {conditions} GROUP BY trace_id ORDER BY {order} DESC, trace_id LIMIT {limit}
             ), told AS (
               SELECT trace_id, time, arrow_cast(time, 'Int64') AS began_us, duration_us, status, service, name
               FROM {TABLE} WHERE time >= {from} AND time < {to}
             )
             SELECT told.trace_id, min(told.time) AS time,
               max(told.began_us + told.duration_us) - min(told.began_us) AS duration_us,
               first_value(told.service ORDER BY told.began_us, told.duration_us DESC) AS service,
               first_value(told.name ORDER BY told.began_us, told.duration_us DESC) AS name,
               count(*) AS spans, sum(CASE WHEN told.status = {error} THEN 1 ELSE 0 END) AS failed,
               string_agg(DISTINCT told.service, ' ') AS services,
               max(found.longest_us) AS longest_us, max(found.newest) AS newest
             FROM told JOIN found ON told.trace_id = found.trace_id
             GROUP BY told.trace_id ORDER BY {order} DESC, told.trace_id",
            error = literal("error"),
        ))
    }
}

fn around(at_us: i64) -> Range {
    Range {
        from_us: at_us.saturating_sub(AROUND_US),
        to_us: at_us.saturating_add(AROUND_US),
    }
}

fn trace(row: &Row) -> TraceBody {
    let mut services: Vec<String> = text(row, "services")
        .split(' ')
        .map(str::to_owned)
        .collect();
    services.sort_unstable();
    TraceBody {
        trace_id: text(row, "trace_id").to_owned(),
        time: text(row, "time").to_owned(),
        duration_us: count(row, "duration_us"),
        service: text(row, "service").to_owned(),
        name: text(row, "name").to_owned(),
        spans: count(row, "spans"),
        failed: count(row, "failed"),
        services,
        longest_us: count(row, "longest_us"),
    }
}

/// A span as it leaves: its beginning to the microsecond, its attributes in one object.
fn span(mut row: Row) -> Row {
    own_sql::gather(&mut row, "attributes");
    let began_us = parse_rfc3339(text(&row, "time")).unwrap_or_default();
    row.insert(String::from("began_us"), Value::from(began_us));
    for own in ["id", "_rest", "_arm", "trace_id"] {
        row.remove(own);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range {
        from_us: 0,
        to_us: 1,
    };

    #[test]
    fn all_conditions_speak_of_one_span() {
        let asked = Asked {
            service: Some(String::from("cart")),
            endpoint: Some(String::from("ADD")),
            status: Some(String::from("error")),
            slower: Some(String::from("200ms")),
            ..Asked::default()
        };
        let sql = asked.statement(RANGE, 5).expect("good");
        let wanted = "WHERE $__range AND trace_id IS NOT NULL AND service = 'cart' AND \
             strpos(lower(name), 'add') > 0 AND status = 'error' AND duration_us >= 200000 GROUP";
        assert!(sql.contains(wanted), "{sql}");
    }

    #[test]
    fn all_times_are_looked_through_from_now_on_back() {
        let now_us = 1_800_000_000_000_000;
        let pieces: Vec<Range> = newest_first(now_us).collect();
        assert_eq!(pieces.len(), BACK_US.len() + 1);
        assert_eq!(pieces[0].to_us, now_us + AROUND_US);
        assert_eq!(pieces[0].from_us, now_us - HOUR_US);
        for (newer, older) in pieces.iter().zip(&pieces[1..]) {
            assert_eq!(newer.from_us, older.to_us);
        }
        assert_eq!(pieces[BACK_US.len()].from_us, 0);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let bad = |asked: Asked| asked.statement(RANGE, 5).expect_err("bad").message;
        let of = |text: &str| Some(text.to_owned());
        let status = bad(Asked {
            status: of("500"),
            ..Asked::default()
        });
        assert_eq!(status, "no status \"500\"; there are ok and error");
        let slower = bad(Asked {
            slower: of("fast"),
            ..Asked::default()
        });
        assert_eq!(slower, "\"fast\" is not a time; write 200ms or 2s");
    }
}
