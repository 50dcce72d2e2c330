//! KPIs that ask for too much: what is held is bounded, what is cut is told, what takes long ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serin_lake::{Column, ColumnKind, Snapshot, TableView};
use serin_query::kpi::{self, Across, Definition, GaugeMeasure, Kind};
use serin_query::{Engine, KpiAnswer, KpiPlan, KpiRequest, Limits, QueryError, Range};

use crate::fixture::{T0, watched};

const SECOND: i64 = 1_000_000;

/// One event a second and user, `users` of them, all in memory.
fn crowd(users: usize) -> Arc<Snapshot> {
    let times = (0..users as i64).map(|at| T0 + at * SECOND / 10);
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")) as _,
            true,
        ),
        (
            "instance",
            Arc::new(
                (0..users)
                    .map(|who| Some(format!("user-{who}")))
                    .collect::<StringArray>(),
            ) as _,
            true,
        ),
        (
            "load",
            Arc::new(
                (0..users)
                    .map(|who| Some(who as f64))
                    .collect::<Float64Array>(),
            ) as _,
            true,
        ),
    ])
    .unwrap();
    let table = TableView {
        name: "visit".to_owned(),
        columns: vec![
            Column::new("time", ColumnKind::Time),
            Column::new("instance", ColumnKind::Text),
            Column::new("load", ColumnKind::Double),
        ],
        files: vec![],
        fresh: vec![batch],
        known: watched(),
    };
    Arc::new(Snapshot {
        number: 1,
        version: 1,
        position: Default::default(),
        watermark_us: Some(T0 + 1_000_000 * SECOND),
        tables: BTreeMap::from([("visit".to_owned(), Arc::new(table))]),
    })
}

fn plan(name: &str) -> Arc<KpiPlan> {
    let gauge = Definition {
        kind: Kind::Gauge {
            event: "visit".to_owned(),
            value: "load".to_owned(),
            filter: None,
            measure: GaugeMeasure::Mean,
            across: Across::Sum,
            hold_us: 1_000_000 * SECOND,
        },
        ..Definition::simple("loads", "", "", None)
    };
    let visits = Definition::simple("visits", "visit", "count()", None);
    Arc::clone(&kpi::compile(vec![gauge, visits]).unwrap()[name])
}

/// Over so many steps of a second.
fn by_instance(steps: i64) -> KpiRequest {
    KpiRequest {
        range: Range {
            from_us: T0,
            to_us: T0 + steps * SECOND,
        },
        step_us: Some(SECOND),
        by: vec!["instance".to_owned()],
        filters: vec![],
        shift_us: 0,
        series_max: 1_000,
    }
}

async fn ask(
    name: &str,
    users: usize,
    request: KpiRequest,
    limits: Limits,
) -> Result<KpiAnswer, QueryError> {
    let spill = tempfile::tempdir().unwrap();
    let engine = Engine::new(limits, spill.path().to_owned(), None, Arc::default());
    engine.kpi(&crowd(users), &plan(name), &request).await
}

#[tokio::test]
async fn an_answer_has_no_more_points_than_it_may() {
    let limits = Limits {
        points_max: 10_000,
        ..Limits::default()
    };
    let answer = ask("visits", 2_000, by_instance(1_000), limits.clone())
        .await
        .unwrap();
    assert_eq!((answer.series.len(), answer.series_dropped), (10, 1_990));
    assert_eq!((answer.samples, answer.coverage), (2_000, 1.0));
    let error = ask("visits", 1, by_instance(10_001), limits)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "SER-QRY-005");
    assert_eq!(
        error.to_string(),
        "the answer has 10001 points, more than 10000 (the limit query.points_max); ask for a shorter range or a longer step, or raise the limit"
    );
}

/// Three thousand samples that hold over fifty thousand steps are 150 million levels: none of them is
/// held before there is room for it.
#[tokio::test]
async fn levels_are_held_in_the_memory_of_queries() {
    let limits = Limits {
        memory_bytes: 64 << 20,
        ..Limits::default()
    };
    let error = ask("loads", 3_000, by_instance(50_000), limits)
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
    assert!(error.to_string().contains("query.memory_mib"), "{error}");
}

/// The arithmetic above the leaves waits for nothing, and still ends at the deadline.
#[tokio::test]
async fn arithmetic_ends_at_the_deadline() {
    let limits = Limits {
        deadline: Duration::from_millis(300),
        ..Limits::default()
    };
    #[expect(clippy::disallowed_methods, reason = "this test is about time")]
    let begun = Instant::now();
    let error = ask("visits", 50_000, by_instance(50_000), limits)
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::Deadline { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}
