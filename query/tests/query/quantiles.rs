//! Quantiles over the histograms of many instances, against the values that were counted in them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serin_lake::{Column, ColumnKind, Snapshot, TableView};
use serin_query::kpi::{self, Definition};
use serin_query::{KpiAnswer, KpiRequest, Limits, render};
use serin_wire::Histogram;

use crate::fixture::{Fixture, MINUTE, T0, range, watched};

/// Instances that beat, the slower the later their name, and how many requests each tells a minute.
const INSTANCES: [(&str, u64, u64); 3] =
    [("a-1", 900, 2_000), ("a-2", 90, 9_000), ("a-3", 10, 80_000)];
/// Half of these have requests, half beat on without any.
const MINUTES: i64 = 6;
/// The upper bounds of the metric's buckets.
const BOUNDS: [u64; 8] = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000];

/// The requests of an instance in a minute, in microseconds, from half of `middle` to twice it.
fn requests(count: u64, middle: u64, minute: i64) -> Vec<u64> {
    if minute >= MINUTES / 2 {
        return Vec::new();
    }
    (0..count)
        .map(|at| middle / 2 + (at * 7_919 + minute as u64 * 31) % (middle * 3 / 2))
        .collect()
}

fn quantile(mut values: Vec<u64>, share: f64) -> f64 {
    values.sort_unstable();
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.max(1) - 1] as f64 / 1000.0
}

/// A table of the columns time, instance, number and one more.
fn table(name: &str, last: &str, texts: Vec<Option<String>>) -> Arc<TableView> {
    let rows: Vec<(i64, &str)> = (0..MINUTES)
        .flat_map(|minute| INSTANCES.iter().map(move |(name, ..)| (minute, *name)))
        .collect();
    let times = rows.iter().map(|(minute, _)| T0 + minute * MINUTE);
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
                as ArrayRef,
            true,
        ),
        (
            "instance",
            Arc::new(
                rows.iter()
                    .map(|(_, name)| Some(*name))
                    .collect::<StringArray>(),
            ) as _,
            true,
        ),
        (
            "number",
            Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)) as _,
            true,
        ),
        (last, Arc::new(StringArray::from(texts)) as _, true),
    ])
    .unwrap();
    Arc::new(TableView {
        name: name.to_owned(),
        columns: vec![
            Column::new("time", ColumnKind::Time),
            Column::new("instance", ColumnKind::Text),
            Column::new("number", ColumnKind::Int),
            Column::new(last, ColumnKind::Text),
        ],
        files: vec![],
        fresh: vec![batch],
        known: watched(),
    })
}

fn each<T>(tell: impl Fn(Vec<u64>) -> T) -> Vec<T> {
    (0..MINUTES)
        .flat_map(|minute| INSTANCES.map(|(_, count, middle)| (count, middle, minute)))
        .map(|(count, middle, minute)| tell(requests(count, middle, minute)))
        .collect()
}

fn snapshot() -> Arc<Snapshot> {
    let beats = each(|values| {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        Some(serde_json::to_string(&histogram.buckets).unwrap())
    });
    let metrics = each(|values| {
        let mut counts = [0_u64; BOUNDS.len() + 1];
        for value in &values {
            counts[BOUNDS.partition_point(|bound| bound < value)] += 1;
        }
        let bounds = BOUNDS.map(|bound| bound as f64 / 1000.0);
        let told = serde_json::json!({"bounds": bounds, "counts": counts});
        (!values.is_empty()).then(|| told.to_string())
    });
    let odd = each(|values| Some(format!("/path/{}", values.len())));
    let tables = [
        table("beats", "latency_buckets", beats),
        table("metrics", "buckets", metrics),
        table("visit", "path", odd),
    ];
    Arc::new(Snapshot {
        number: 1,
        version: 1,
        position: Default::default(),
        watermark_us: Some(T0 + MINUTES * MINUTE),
        tables: tables.map(|table| (table.name.clone(), table)).into(),
    })
}

fn catalog() -> kpi::Catalog {
    let over = |name: &str, event: &str, measure: &str| Definition {
        by: vec!["instance".to_owned()],
        ..Definition::simple(name, event, measure, None)
    };
    kpi::compile(vec![
        over("p95", "beats", "p95(latency_buckets)"),
        over("p50", "beats", "p50(latency_buckets)"),
        over(
            "spread",
            "beats",
            "p99(latency_buckets) - p50(latency_buckets)",
        ),
        over("metric_p95", "metrics", "p95(buckets)"),
        over("numbers", "beats", "p50(number)"),
        over("paths", "visit", "p95(path)"),
        over("cast", "visit", "p95(try_cast(path as double))"),
    ])
    .unwrap()
}

fn by_minute() -> KpiRequest {
    KpiRequest {
        range: range(0, MINUTES),
        step_us: Some(MINUTE),
        by: vec![],
        filters: vec![],
        shift_us: 0,
        series_max: 10,
    }
}

fn points(answer: &KpiAnswer) -> Vec<Option<f64>> {
    answer.series[0]
        .points
        .iter()
        .map(|point| point.1)
        .collect()
}

/// Buckets are a fifth wide, so their middles are within a tenth.
fn near(found: Option<f64>, wanted: f64) {
    let found = found.expect("a value");
    assert!((found / wanted - 1.0).abs() < 0.10, "{found} for {wanted}");
}

/// The slow instance tells one request in a hundred: it is in the p99 of all and in no other quantile,
/// whatever a mean of the instances' own quantiles would say.
#[tokio::test]
async fn a_quantile_is_that_of_all_instances_together() {
    let (fixture, snapshot) = (Fixture::new(), snapshot());
    let engine = fixture.engine_within();
    let ask = async |name: &str, request: &KpiRequest| {
        engine
            .kpi(&snapshot, &catalog()[name], request)
            .await
            .unwrap()
    };
    let all: Vec<u64> = each(|values| values).concat();
    let mut whole = by_minute();
    whole.step_us = None;
    for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
        let answer = ask(name, &whole).await;
        near(points(&answer)[0], quantile(all.clone(), share));
        let minutes = ask(name, &by_minute()).await;
        let minutes = points(&minutes);
        let told = each(|values| values);
        for (minute, of_minute) in told.chunks(INSTANCES.len()).enumerate() {
            match of_minute.concat() {
                // They beat, and nobody asked them anything.
                nothing if nothing.is_empty() => assert_eq!(minutes[minute], None),
                values => near(minutes[minute], quantile(values, share)),
            }
        }
        assert!(catalog()[name].is_approximate());
    }
    let mean = INSTANCES.map(|(_, count, middle)| {
        let of_one = (0..MINUTES).flat_map(|minute| requests(count, middle, minute));
        quantile(of_one.collect(), 0.95)
    });
    let mean = mean.iter().sum::<f64>() / mean.len() as f64;
    assert!(mean > 2.0 * points(&ask("p95", &whole).await)[0].unwrap());
    let spread = points(&ask("spread", &whole).await)[0].unwrap();
    let wanted = quantile(all.clone(), 0.99) - quantile(all, 0.5);
    assert!(
        (spread / wanted - 1.0).abs() < 0.15,
        "{spread} for {wanted}"
    );
}

#[tokio::test]
async fn a_quantile_is_split_and_of_metrics_in_their_unit() {
    let (fixture, snapshot) = (Fixture::new(), snapshot());
    let engine = fixture.engine_within();
    let mut request = by_minute();
    request.step_us = None;
    let all: Vec<u64> = each(|values| values).concat();
    let plan = &catalog()["metric_p95"];
    let answer = engine.kpi(&snapshot, plan, &request).await.unwrap();
    let (found, wanted) = (points(&answer)[0].unwrap(), quantile(all, 0.95));
    let ends = |value: f64| BOUNDS.partition_point(|bound| (*bound as f64) < value * 1000.0);
    assert_eq!(ends(found), ends(wanted), "{found} for {wanted}");
    request.by = vec!["instance".to_owned()];
    let answer = engine
        .kpi(&snapshot, &catalog()["p95"], &request)
        .await
        .unwrap();
    assert_eq!(answer.series.len(), INSTANCES.len());
    for series in &answer.series {
        let name = series.by[0].1.as_deref().unwrap();
        let (_, count, middle) = INSTANCES.into_iter().find(|one| one.0 == name).unwrap();
        let of_one = (0..MINUTES).flat_map(|minute| requests(count, middle, minute));
        near(series.points[0].1, quantile(of_one.collect(), 0.95));
    }
}

/// One way serves KPIs and statements, in this process and in a worker.
#[tokio::test]
async fn a_statement_and_a_kpi_say_the_same() {
    let (fixture, snapshot) = (Fixture::new(), snapshot());
    let mut request = by_minute();
    request.step_us = None;
    let here = fixture.engine_within();
    let worker = fixture.engine(Limits::default());
    for (name, sql) in [
        ("p95", "SELECT p95(latency_buckets) FROM beats"),
        ("metric_p95", "SELECT p95(buckets) FROM metrics"),
        ("numbers", "SELECT p50(number) FROM beats"),
    ] {
        let answer = here
            .kpi(&snapshot, &catalog()[name], &request)
            .await
            .unwrap();
        let wanted = points(&answer)[0].unwrap();
        for engine in [&here, &worker] {
            let answer = engine
                .sql(&snapshot, sql, Some(request.range))
                .await
                .unwrap();
            let csv = render::csv(&answer);
            let found: f64 = csv.lines().nth(1).unwrap().parse().unwrap();
            assert_eq!(found, wanted, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_text_that_is_no_histogram_is_named() {
    let (fixture, snapshot) = (Fixture::new(), snapshot());
    let engine = fixture.engine_within();
    let ask = async |name: &str| engine.kpi(&snapshot, &catalog()[name], &by_minute()).await;
    let error = ask("paths").await.unwrap_err();
    assert_eq!(error.code(), "SER-SQL-013");
    assert!(error.to_string().contains("is no histogram"), "{error}");
    assert!(error.to_string().contains("try_cast"), "{error}");
    let cast = ask("cast").await.unwrap();
    assert!(points(&cast).iter().all(Option::is_none));
}
