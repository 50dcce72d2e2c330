//! The corpus of hostile statements, through real worker processes, while KPIs are asked beside it.
//!
//! Every statement must be refused or end in an error or a bounded answer, in time; this process must
//! live, and others' panels must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use serin_query::{KpiRequest, Limits, QueryError, kpi};

use crate::fixture::{Fixture, range};

/// Expands `{{N*text}}` in a line of the corpus, so that long statements stay readable.
fn expand(line: &str) -> String {
    let Some((before, rest)) = line.split_once("{{") else {
        return line.to_owned();
    };
    let (times, rest) = rest.split_once('*').unwrap();
    let (text, after) = rest.split_once("}}").unwrap();
    format!(
        "{before}{}{}",
        text.repeat(times.parse().unwrap()),
        expand(after)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_statements_harm_nobody() {
    let fixture = Fixture::new();
    let limits = Limits {
        deadline: Duration::from_secs(2),
        memory_bytes: 256 << 20,
        spill_bytes_max: 64 << 20,
        ..Limits::default()
    };
    let engine = fixture.engine(limits);
    let plan = kpi::compile(vec![kpi::Definition::simple(
        "n",
        "order.paid",
        "count()",
        None,
    )])
    .unwrap();
    let request = KpiRequest {
        range: range(0, 180),
        step_us: None,
        by: vec![],
        filters: vec![],
        shift_us: 0,
        series_max: 1,
    };
    let corpus = include_str!("../hostile.sql");
    let lines: Vec<&str> = corpus
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with("--"))
        .collect();
    assert!(lines.len() >= 100, "only {} statements", lines.len());
    for line in lines {
        let (wanted, sql) = line.split_once(" | ").unwrap();
        let sql = expand(sql);
        let hostile = tokio::time::timeout(
            Duration::from_secs(10),
            engine.sql(&fixture.snapshot, &sql, None),
        );
        let panel = tokio::time::timeout(
            Duration::from_secs(2),
            engine.kpi(&fixture.snapshot, &plan["n"], &request),
        );
        let (hostile, panel) = tokio::join!(hostile, panel);
        let panel = panel
            .expect("a panel waited for a hostile statement")
            .unwrap();
        assert_eq!(panel.series[0].points[0].1, Some(6.0), "{line}");
        let found = hostile.unwrap_or_else(|_| panic!("was not ended in time: {line}"));
        match (wanted, found) {
            ("refused", Err(QueryError::Refused(_))) | ("any", _) | ("fails", Err(_)) => {}
            (_, other) => panic!("wanted {wanted}, found {other:?}: {line}"),
        }
    }
    let left: Vec<_> = std::fs::read_dir(fixture.spill_dir())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("worker-")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_statement_nobody_waits_for_is_ended() {
    let fixture = Fixture::new();
    let engine = Arc::new(fixture.engine(Limits {
        running_max: 1,
        ..Limits::default()
    }));
    let endless =
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let asked = engine.sql(&fixture.snapshot, endless, None);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), asked)
            .await
            .is_err()
    );
    // The only place is free again at once.
    let next = engine.sql(&fixture.snapshot, "SELECT 1 AS one", None);
    let answer = tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(serin_query::render::csv(&answer), "one\n1\n");
}
