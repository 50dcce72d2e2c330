//! What a variable without a choice stands for in statements.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use serin_dashboards::load::Loader;
use serin_dashboards::variable::{VALUES_MAX, choose};
use serin_dashboards::{Chosen, Dashboard, Source};
use serin_lake::{Column, ColumnKind, Known, Position, Snapshot, TableView};
use serin_query::{Engine, Limits, Range};

const RANGE: Range = Range {
    from_us: 0,
    to_us: 3_600_000_000,
};
const TEXT: &str = "dashboard: it\nvariables:\n  \
    city: {values_of: order.paid.city, multi: true}\npanels:\n  \
    narrowed: {sql: 'SELECT count(*) AS n FROM order.paid WHERE city IN ($city)'}\n  \
    whole: {sql: 'SELECT count(*) AS n FROM order.paid'}\n";

/// An order from each of so many cities.
fn snapshot(cities: usize) -> Arc<Snapshot> {
    let times: TimestampMicrosecondArray = (0..cities).map(|at| Some(at as i64)).collect();
    let names: StringArray = (0..cities).map(|city| Some(format!("c{city}"))).collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("time", Arc::new(times.with_timezone("UTC"))),
        ("city", Arc::new(names)),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    let table = TableView {
        name: String::from("order.paid"),
        columns: vec![
            Column::new("time", ColumnKind::Time),
            Column::new("city", ColumnKind::Text),
        ],
        files: Vec::new(),
        fresh: vec![RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")],
        known: Known {
            live_from_us: None,
            imports: vec![(0, RANGE.to_us)],
        },
    };
    Arc::new(Snapshot {
        number: 1,
        version: 1,
        position: Position::default(),
        watermark_us: None,
        tables: BTreeMap::from([(table.name.clone(), Arc::new(table))]),
    })
}

/// The dashboard over so many cities.
async fn chosen(cities: usize, chosen: &Chosen) -> Arc<Dashboard> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("dashboards")).expect("a folder");
    fs::write(folder.path().join("dashboards/it.yaml"), TEXT).expect("a file");
    let library = Loader::new(folder.path()).load();
    assert_eq!(library.problems, []);
    let spill = folder.path().join("spill");
    let engine = Engine::new(Limits::default(), spill, None, Arc::default());
    let (snapshot, dashboard) = (snapshot(cities), &library.dashboards["it"]);
    choose(&engine, &snapshot, &library, dashboard, chosen, RANGE).await
}

fn source<'a>(dashboard: &'a Dashboard, panel: &str) -> &'a Source {
    &dashboard.panel(panel).expect("a panel").source
}

/// How many cities the narrowed panel's statement names.
fn named(dashboard: &Dashboard) -> usize {
    match source(dashboard, "narrowed") {
        Source::Sql(sql) => sql.matches("'c").count(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_a_choice_a_statement_names_all_values() {
    let none = Chosen::new();
    for cities in [3, 150, VALUES_MAX] {
        let all = chosen(cities, &none).await;
        assert_eq!(named(&all), cities);
    }
}

#[tokio::test]
async fn more_values_than_can_be_named_are_an_error_until_some_are_chosen() {
    let none = chosen(VALUES_MAX + 1, &Chosen::new()).await;
    let Source::Broken(told) = source(&none, "narrowed") else {
        panic!("{none:?}");
    };
    assert_eq!(told, "\"city\" has more than 1000 values; choose some");
    assert!(matches!(source(&none, "whole"), Source::Sql(_)));

    let some = Chosen::from([(String::from("city"), vec![String::from("c7")])]);
    let some = chosen(VALUES_MAX + 1, &some).await;
    assert_eq!(named(&some), 1);
}
