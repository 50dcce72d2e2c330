//! `GET /api/v1/map`: who calls whom, from the requests of the last minutes.
//!
//! An edge is a caller and a callee with its rate, failures and latency. The callers are those that
//! requests name; where a service tells only spans, the edge is that of a span and its parent at
//! another service. Services without traffic stand alone.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_wire::time::to_rfc3339;

use super::App;
use super::error::ApiError;
use super::own_sql::{self, Row, count, text};

/// What is answered where no range is given.
const DEFAULT_RANGE: (&str, &str) = ("now-5m", "now");
/// The most edges, those with most requests; more cannot be drawn.
const EDGES_MAX: usize = 400;
/// How web requests name their caller.
const GATEWAY: &str = "gateway";

const CALLS: &str = "SELECT caller, service AS callee, count(*) AS requests, \
     sum(CASE WHEN has_failed THEN 1 ELSE 0 END) AS failed, p50(duration_ms) AS p50_ms, \
     p95(duration_ms) AS p95_ms FROM requests WHERE $__range GROUP BY 1, 2";
/// Of services that tell spans and no requests.
const SPANS: &str = "SELECT above.service AS caller, below.service AS callee, count(*) AS requests, \
     sum(CASE WHEN below.status = 'error' THEN 1 ELSE 0 END) AS failed, \
     p50(below.duration_us / 1000.0) AS p50_ms, p95(below.duration_us / 1000.0) AS p95_ms \
     FROM (SELECT trace_id, parent_id, service, status, duration_us FROM spans WHERE $__range) below \
     JOIN (SELECT trace_id, span_id, service FROM spans WHERE $__range) above \
     ON above.trace_id = below.trace_id AND above.span_id = below.parent_id \
     WHERE above.service <> below.service GROUP BY 1, 2";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MapBody {
    from: String,
    to: String,
    range_s: f64,
    nodes: Vec<NodeBody>,
    edges: Vec<EdgeBody>,
    /// Edges that were left out because there are too many.
    edges_dropped: usize,
    watermark: Option<String>,
}

/// A service, the gateway, or whoever calls without saying who it is.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct NodeBody {
    name: String,
    kind: &'static str,
    /// As the runtime sees it; null for what it does not run.
    state: Option<&'static str>,
    /// What it was asked.
    requests: u64,
    failed: u64,
}

#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct EdgeBody {
    /// Null where the callers do not say who they are.
    caller: Option<String>,
    callee: String,
    requests: u64,
    failed: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    /// Counted by the spans that were kept, not by all requests.
    is_sampled: bool,
}

pub(crate) async fn get(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<MapBody>, ApiError> {
    let range = app.range(&asked.from, &asked.to, DEFAULT_RANGE)?;
    let snapshot = app.lake.snapshot();
    let (calls, spans) = tokio::try_join!(
        own_sql::ask(&app, &snapshot, "requests", CALLS, range),
        own_sql::ask(&app, &snapshot, "spans", SPANS, range),
    )?;
    let mut edges = edges(&calls, &spans);
    let edges_dropped = edges.len().saturating_sub(EDGES_MAX);
    edges.truncate(EDGES_MAX);
    let states = app.runtime.as_ref().map(|runtime| {
        let views = runtime.views().borrow().clone();
        let running = views.iter().filter(|service| service.state != "stopped");
        running
            .map(|service| (service.name.clone(), service.state))
            .collect()
    });
    Ok(Json(MapBody {
        from: to_rfc3339(range.from_us),
        to: to_rfc3339(range.to_us),
        range_s: range.span_us() as f64 / 1e6,
        nodes: nodes(&edges, &states.unwrap_or_default()),
        edges,
        edges_dropped,
        watermark: snapshot.watermark_us.map(to_rfc3339),
    }))
}

/// The edges of requests, and those of spans where no request tells of the callee; the busiest
/// first.
fn edges(calls: &[Row], spans: &[Row]) -> Vec<EdgeBody> {
    let mut edges: Vec<EdgeBody> = calls.iter().map(|row| edge(row, false)).collect();
    let told: BTreeSet<String> = edges.iter().map(|edge| edge.callee.clone()).collect();
    let sampled = spans.iter().map(|row| edge(row, true));
    edges.extend(sampled.filter(|edge| !told.contains(&edge.callee)));
    edges.sort_by(|a, b| {
        let by_name = (&a.caller, &a.callee).cmp(&(&b.caller, &b.callee));
        b.requests.cmp(&a.requests).then(by_name)
    });
    edges
}

fn edge(row: &Row, is_sampled: bool) -> EdgeBody {
    let number = |column: &str| row.get(column).and_then(Value::as_f64);
    EdgeBody {
        caller: Some(text(row, "caller").to_owned()).filter(|caller| !caller.is_empty()),
        callee: text(row, "callee").to_owned(),
        requests: count(row, "requests"),
        failed: count(row, "failed"),
        p50_ms: number("p50_ms"),
        p95_ms: number("p95_ms"),
        is_sampled,
    }
}

/// Everyone an edge names, and the services that run.
fn nodes(edges: &[EdgeBody], states: &BTreeMap<String, &'static str>) -> Vec<NodeBody> {
    let mut nodes: BTreeMap<String, NodeBody> = BTreeMap::new();
    let mut node = |name: &str, requests: u64, failed: u64| {
        let node = nodes.entry(name.to_owned()).or_insert_with(|| NodeBody {
            name: name.to_owned(),
            kind: if name == GATEWAY {
                "gateway"
            } else {
                "service"
            },
            state: states.get(name).copied(),
            requests: 0,
            failed: 0,
        });
        node.requests += requests;
        node.failed += failed;
    };
    for name in states.keys() {
        node(name, 0, 0);
    }
    for edge in edges {
        node(&edge.callee, edge.requests, edge.failed);
        match edge.caller.as_deref() {
            // All that the gateway was asked, it asked others.
            Some(GATEWAY) => node(GATEWAY, edge.requests, edge.failed),
            Some(caller) => node(caller, 0, 0),
            None => {}
        }
    }
    nodes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(caller: Option<&str>, callee: &str, requests: u64, failed: u64) -> Row {
        let row = json!({"caller": caller, "callee": callee, "requests": requests, "failed": failed, "p95_ms": 2.5});
        match row {
            Value::Object(row) => row,
            _ => Row::new(),
        }
    }

    #[test]
    fn requests_count_and_spans_fill_what_they_do_not_tell() {
        let calls = [
            row(Some("gateway"), "web", 10, 1),
            row(Some("web"), "cart", 20, 0),
            row(None, "cart", 1, 0),
        ];
        let spans = [
            row(Some("web"), "cart", 5, 0),
            row(Some("cart"), "legacy", 3, 3),
        ];
        let edges = edges(&calls, &spans);
        let shown: Vec<_> = edges
            .iter()
            .map(|edge| (edge.caller.as_deref(), edge.callee.as_str(), edge.requests))
            .collect();
        assert_eq!(
            shown,
            [
                (Some("web"), "cart", 20),
                (Some("gateway"), "web", 10),
                (Some("cart"), "legacy", 3),
                (None, "cart", 1),
            ]
        );
        let states = BTreeMap::from([(String::from("mail"), "serving")]);
        let nodes = nodes(&edges, &states);
        let shown: Vec<_> = nodes
            .iter()
            .map(|node| (node.name.as_str(), node.requests, node.failed))
            .collect();
        assert_eq!(
            shown,
            [
                ("cart", 21, 0),
                ("gateway", 10, 1),
                ("legacy", 3, 3),
                ("mail", 0, 0),
                ("web", 10, 1),
            ]
        );
    }
}
