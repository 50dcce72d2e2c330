//! KPIs over the fixture: every kind, gaps and zeroes, parts of ratios, shifts, splits, errors.

use std::sync::Arc;

use serin_lake::{Known, Snapshot, TableView};
use serin_query::kpi::{
    self, Across, Catalog, Definition, FunnelStep, GaugeMeasure, Grain, Kind, Since,
};
use serin_query::{KpiAnswer, KpiRequest};

use crate::fixture::{Fixture, HOUR, MINUTE, T0, range};

fn other(name: &str, kind: Kind) -> Definition {
    Definition {
        kind,
        ..Definition::simple(name, "", "", None)
    }
}

fn catalog() -> Catalog {
    let ratio = |numerator: &str, denominator: &str| Kind::Ratio {
        numerator: numerator.to_owned(),
        denominator: denominator.to_owned(),
    };
    let step = |event: &str| FunnelStep {
        event: event.to_owned(),
        filter: None,
    };
    let of = |of: &str, since| Kind::Cumulative {
        of: of.to_owned(),
        since,
    };
    let gauge_of = |value: &str, measure, across| Kind::Gauge {
        event: "beats".to_owned(),
        value: value.to_owned(),
        filter: None,
        measure,
        across,
        hold_us: 2 * MINUTE,
    };
    let gauge = |measure, across| gauge_of("in_flight", measure, across);
    let funnel = |steps: &[&str], within_us| Kind::Funnel {
        steps: steps.iter().map(|event| step(event)).collect(),
        entity: "user".to_owned(),
        within_us,
    };
    let quotient = "(in_flight - 1) / (in_flight - 1)";
    let (cart, paid) = ("cart.add", "order.paid");
    kpi::compile(vec![
        Definition {
            by: vec!["service".to_owned()],
            ..Definition::simple("revenue", "order.paid", "sum(amount)", None)
        },
        Definition::simple("orders", "order.paid", "count()", None),
        Definition::simple("big", "order.paid", "count()", Some("amount >= 10")),
        Definition::simple("mean", "order.paid", "avg(amount)", None),
        Definition::simple("buyers", "order.paid", "distinct(user)", None),
        Definition::simple("median", "order.paid", "p50(amount)", None),
        Definition::simple("carts", "cart.add", "count()", None),
        Definition::simple("never", "order.refunded", "count()", None),
        Definition::simple("pace", "order.paid", "rate()", None),
        Definition::simple("income", "order.paid", "rate(amount)", None),
        Definition::simple("coupons", "order.paid", "count(cupon)", None),
        other("conversion", ratio("orders", "carts")),
        other("share_big", ratio("big", "orders")),
        other(
            "double",
            Kind::Derived {
                expr: "orders * 2 + carts".to_owned(),
            },
        ),
        other("total", of("orders", Since::Ever)),
        other("daily", of("revenue", Since::Grain(Grain::Day))),
        other("two_hours", of("conversion", Since::Window(2 * HOUR))),
        other("flight", gauge(GaugeMeasure::Last, Across::Sum)),
        other("flight_mean", gauge(GaugeMeasure::Mean, Across::Max)),
        other(
            "shares",
            gauge_of(quotient, GaugeMeasure::Last, Across::Sum),
        ),
        other(
            "huge",
            gauge_of(
                "1e308 * (in_flight / in_flight)",
                GaugeMeasure::Last,
                Across::Sum,
            ),
        ),
        other("funnel", funnel(&[cart, paid], 5 * MINUTE)),
        other("again", funnel(&[paid, paid], 90 * MINUTE)),
        other("cart_again", funnel(&[cart, paid, paid], 90 * MINUTE)),
    ])
    .unwrap()
}

fn hourly() -> KpiRequest {
    KpiRequest {
        range: range(-60, 240),
        step_us: Some(HOUR),
        by: vec![],
        filters: vec![],
        shift_us: 0,
        series_max: 10,
    }
}

async fn ask(name: &str, request: KpiRequest) -> KpiAnswer {
    let fixture = Fixture::new();
    let engine = fixture.engine_within();
    let plan = Arc::clone(&catalog()[name]);
    engine
        .kpi(&fixture.snapshot, &plan, &request)
        .await
        .unwrap()
}

fn points(answer: KpiAnswer) -> Vec<Option<f64>> {
    let points = answer.series[0].points.iter();
    points.map(|(_, value)| *value).collect()
}

async fn values(name: &str) -> Vec<Option<f64>> {
    let answer = ask(name, hourly()).await;
    assert_eq!(answer.series.len(), 1, "{answer:?}");
    answer.series[0]
        .points
        .iter()
        .map(|(_, value)| *value)
        .collect()
}

/// A rate is the count over the seconds of its step, of which those before the first event are none.
#[tokio::test]
async fn rates_are_per_second() {
    for (rate, whole) in [("pace", "orders"), ("income", "revenue")] {
        let (rates, wholes) = (values(rate).await, values(whole).await);
        let first = wholes.iter().position(Option::is_some).unwrap();
        for (step, (rate, whole)) in rates.iter().zip(&wholes).enumerate() {
            let even = whole.map(|whole| whole / 3600.0);
            if step == first {
                assert!(*rate >= even, "{rate:?} {even:?}");
            } else {
                assert_eq!(*rate, even, "step {step}");
            }
        }
    }
}

/// Before the first event: a gap. The step 02:00 has an event; 03:00 is past the watermark.
#[tokio::test]
async fn counts_and_means_tell_gaps_from_zeroes() {
    assert_eq!(
        values("orders").await,
        [None, Some(3.0), Some(2.0), Some(1.0), None]
    );
    assert_eq!(
        values("carts").await,
        [None, Some(3.0), Some(2.0), None, None]
    );
    assert_eq!(
        values("mean").await,
        [None, Some(15.0), Some(5.0), Some(100.0), None]
    );
    assert_eq!(values("never").await, [None; 5]);
    let mut minutes = hourly();
    (minutes.range, minutes.step_us) = (range(1, 5), Some(MINUTE));
    let orders: Vec<_> = ask("orders", minutes.clone()).await.series[0]
        .points
        .iter()
        .map(|p| p.1)
        .collect();
    assert_eq!(orders, [Some(1.0), Some(1.0), Some(0.0), Some(0.0)]);
    let mean = ask("mean", minutes).await;
    assert_eq!(
        mean.series[0]
            .points
            .iter()
            .map(|p| p.1)
            .collect::<Vec<_>>(),
        [Some(20.0), None, None, None]
    );
    assert_eq!(mean.coverage, 0.25);
}

/// An import of the first hour, then live rows from 02:00 on, of which one came late for 01:00.
#[tokio::test]
async fn between_an_import_and_live_rows_nobody_knows() {
    let fixture = Fixture::new();
    let mut snapshot = Snapshot::clone(&fixture.snapshot);
    let mut orders = TableView::clone(&snapshot.tables["order.paid"]);
    orders.known = Known {
        live_from_us: Some(T0 + 120 * MINUTE),
        imports: vec![(T0, T0 + 29 * MINUTE)],
    };
    snapshot
        .tables
        .insert(orders.name.clone(), Arc::new(orders));
    let snapshot = Arc::new(snapshot);
    let engine = fixture.engine_within();
    let ask = async |name: &str, request: &KpiRequest| {
        let plan = Arc::clone(&catalog()[name]);
        points(engine.kpi(&snapshot, &plan, request).await.unwrap())
    };
    let mut request = hourly();
    (request.range, request.step_us) = (range(0, 150), Some(10 * MINUTE));
    let zero = Some(0.0);
    let import = [Some(3.0), zero, zero];
    let (late, live) = ([Some(2.0)], [Some(1.0), zero, zero]);
    let gap = [None; 3];
    let expected = [&import[..], &gap, &late, &gap, &gap[..2], &live].concat();
    assert_eq!(ask("orders", &request).await, expected);
    // Six orders in the minutes of the import and the half hour that was watched.
    request.step_us = None;
    let pace = ask("pace", &request).await[0].unwrap();
    assert!((pace - 6.0 / 3540.0).abs() < 1e-6, "{pace}");
}

#[tokio::test]
async fn ratios_keep_their_parts() {
    let answer = ask(
        "conversion",
        KpiRequest {
            step_us: None,
            ..hourly()
        },
    )
    .await;
    assert_eq!(answer.series[0].points, [(T0 - HOUR, Some(6.0 / 5.0))]);
    assert_eq!(answer.series[0].parts, Some(vec![(Some(6.0), Some(5.0))]));
    assert_eq!((answer.unit.as_deref(), answer.samples), (Some("ratio"), 5));
    assert_eq!(
        values("share_big").await,
        [None, Some(2.0 / 3.0), Some(0.0), Some(1.0), None]
    );
    assert_eq!(
        values("double").await,
        [None, Some(9.0), Some(6.0), None, None]
    );
}

#[tokio::test]
async fn running_totals_run() {
    assert_eq!(
        values("total").await,
        [None, Some(3.0), Some(5.0), Some(6.0), None]
    );
    assert_eq!(
        values("daily").await,
        [None, Some(30.0), Some(40.0), Some(140.0), None]
    );
    // What came before the range is carried into it.
    let mut later = hourly();
    later.range = range(60, 240);
    let total = ask("total", later.clone()).await;
    assert_eq!(points(total), [Some(5.0), Some(6.0), None], "from 01:00 on");
    later.range = range(90, 240);
    later.by = vec!["service".to_owned()];
    let total = ask("total", later).await;
    let found: Vec<_> = total.series.iter().map(|s| s.points[0].1).collect();
    // Who was there before only, is there still.
    assert_eq!(found, [Some(4.0), Some(1.0)]);
    // Two hours of orders over two hours of carts.
    assert_eq!(values("two_hours").await[..3], [None, Some(1.0), Some(1.0)]);
}

#[tokio::test]
async fn levels_hold_for_a_while() {
    let mut request = hourly();
    (request.range, request.step_us) = (range(0, 4), Some(MINUTE));
    // i1 tells 4, then 8 for two minutes; i2 tells 1 for two minutes.
    assert_eq!(
        points(ask("flight", request.clone()).await),
        [Some(5.0), Some(9.0), Some(8.0), None]
    );
    request.step_us = None;
    assert_eq!(
        points(ask("flight_mean", request).await),
        [Some(20.0 / 3.0)]
    );
}

/// i2's share is 0 / 0 all the time: it tells nothing, and takes nothing from i1's.
#[tokio::test]
async fn a_level_that_is_no_number_spoils_no_others() {
    let mut request = hourly();
    (request.range, request.step_us) = (range(0, 4), Some(MINUTE));
    assert_eq!(
        points(ask("shares", request.clone()).await),
        [Some(1.0), Some(1.0), Some(1.0), None]
    );
    // Twice 1e308 is more than a number can be.
    assert_eq!(
        points(ask("huge", request).await),
        [None, None, Some(1e308), None]
    );
}

/// How many reached each step, over the whole range.
async fn reached(name: &str) -> (KpiAnswer, Vec<Option<f64>>) {
    let mut request = hourly();
    request.step_us = None;
    let answer = ask(name, request).await;
    let series = answer.series.iter();
    let reached = series.map(|s| s.parts.clone().unwrap()[0].0).collect();
    (answer, reached)
}

/// ann paid twice within the time, at 00:00 and 01:00.
#[tokio::test]
async fn one_event_is_never_two_steps_of_a_try() {
    let (_, again) = reached("again").await;
    assert_eq!(again, [Some(3.0), Some(1.0)]);
    // The first time ann paid in the very moment of the cart.
    let (_, cart_again) = reached("cart_again").await;
    assert_eq!(cart_again, [Some(4.0), Some(3.0), Some(1.0)]);
}

#[tokio::test]
async fn funnels_count_who_went_on() {
    let (answer, reached) = reached("funnel").await;
    // ann, bob, eve and joe began; ann, bob and eve paid within five minutes.
    assert_eq!(reached, [Some(4.0), Some(3.0)]);
    assert_eq!(answer.series[1].parts, Some(vec![(Some(3.0), Some(4.0))]));
    assert_eq!(
        answer.series[1].by,
        [("step".to_owned(), Some("2 order.paid".to_owned()))]
    );
}

#[tokio::test]
async fn splits_filters_and_shifts() {
    let split = KpiRequest {
        by: vec!["service".to_owned()],
        step_us: None,
        ..hourly()
    };
    let answer = ask("revenue", split.clone()).await;
    let found: Vec<_> = answer
        .series
        .iter()
        .map(|s| (s.by[0].1.as_deref(), s.points[0].1))
        .collect();
    assert_eq!(
        found,
        [(Some("pay"), Some(132.5)), (Some("shop"), Some(7.5))]
    );
    let one = ask(
        "revenue",
        KpiRequest {
            series_max: 1,
            ..split.clone()
        },
    )
    .await;
    assert_eq!((one.series.len(), one.series_dropped), (1, 1));
    let shop = ask(
        "revenue",
        KpiRequest {
            filters: vec![("service".to_owned(), vec!["shop".to_owned()])],
            ..split
        },
    )
    .await;
    assert_eq!(shop.series.len(), 1);
    let hours = KpiRequest {
        by: vec!["day_of_week".to_owned(), "hour_of_day".to_owned()],
        step_us: None,
        ..hourly()
    };
    let hours = ask("orders", hours).await;
    assert_eq!(hours.series[0].by[0].1.as_deref(), Some("1"));
    assert_eq!(hours.series[0].by[1].1.as_deref(), Some("0"));
    let shifted = ask(
        "orders",
        KpiRequest {
            range: range(1440, 1500),
            shift_us: 24 * HOUR,
            ..hourly()
        },
    )
    .await;
    assert_eq!(shifted.series[0].points, [(T0 + 24 * HOUR, Some(3.0))]);
    let buyers = ask(
        "buyers",
        KpiRequest {
            step_us: None,
            ..hourly()
        },
    )
    .await;
    assert_eq!(buyers.series[0].points[0].1, Some(3.0));
}

#[tokio::test]
async fn unknown_columns_are_named() {
    let fixture = Fixture::new();
    let engine = fixture.engine_within();
    let error = engine
        .kpi(&fixture.snapshot, &catalog()["coupons"], &hourly())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "kpi \"coupons\": no column \"cupon\" in \"order.paid\"; it has time, service, user, amount, coupon"
    );
}

#[test]
fn definitions_are_checked_together() {
    let wrong = |definitions: Vec<Definition>| {
        let errors = kpi::compile(definitions).unwrap_err();
        errors
            .into_iter()
            .map(|e| format!("{}.{}: {}", e.kpi, e.field, e.message))
            .collect::<Vec<_>>()
    };
    let derived = |name: &str, expr: &str| {
        other(
            name,
            Kind::Derived {
                expr: expr.to_owned(),
            },
        )
    };
    assert_eq!(
        wrong(vec![
            Definition::simple("orders", "o", "count()", None),
            derived("x", "ordres + 1")
        ]),
        ["x.expr: no KPI \"ordres\"; did you mean \"orders\"?"]
    );
    assert_eq!(wrong(vec![derived("a", "b"), derived("b", "a")]).len(), 1);
    for measure in [
        "amount",
        "sum(amount, 2)",
        "repeat('x', 9)",
        "sum((select 1))",
        "count(",
        "sum(repeat(a, 9))",
    ] {
        assert_eq!(
            wrong(vec![Definition::simple("k", "e", measure, None)]).len(),
            1,
            "{measure}"
        );
    }
    assert_eq!(
        wrong(vec![Definition::simple(
            "k",
            "e",
            "count()",
            Some("a in (select 1)")
        )])
        .len(),
        1
    );
}
