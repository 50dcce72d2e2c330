//! What panels show while no event of their type has come: nothing, which is no fault.

mod orders;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use serin_dashboards::evaluate::{self, Asked};
use serin_dashboards::load::Loader;
use serin_dashboards::{PanelData, PanelState};
use serin_query::{Engine, Limits, Range};

const HOUR_US: i64 = 3_600_000_000;

async fn panels(text: &str) -> BTreeMap<String, PanelData> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("dashboards")).expect("a folder");
    fs::write(folder.path().join("dashboards/it.yaml"), text).expect("a file");
    let library = Loader::new(folder.path()).load();
    assert_eq!(library.problems, []);
    let spill = folder.path().join("spill");
    let engine = Engine::new(Limits::default(), spill, None, Arc::default());
    let asked = Asked {
        range: Range {
            from_us: 0,
            to_us: HOUR_US,
        },
        width_px: 600,
    };
    let dashboard = &library.dashboards["it"];
    let shown = evaluate::dashboard(&engine, &orders::snapshot(), &library, dashboard, asked).await;
    let shown = shown.into_iter();
    shown.map(|panel| (panel.panel.clone(), panel)).collect()
}

#[tokio::test]
async fn a_statement_over_events_that_have_not_come_has_no_data() {
    let text = "dashboard: it\npanels:\n  \
        never: {sql: 'SELECT count(*) AS n FROM \"order.refunded\" WHERE $__range'}\n  \
        plain: {sql: 'SELECT sum(amount) AS n FROM user.signup', draw: stat}\n  \
        typo: {sql: 'SELECT count(*) AS n FROM order.payed'}\n  \
        form: {sql: 'SELECT count(*) AS n FROM \"order paid\"'}\n  \
        column: {sql: 'SELECT sum(amonut) AS n FROM order.paid'}\n";
    let panels = panels(text).await;
    for (name, wanted) in [
        ("never", None),
        ("plain", None),
        (
            "typo",
            Some(("SER-SQL-011", "did you mean \"order.paid\"?")),
        ),
        ("form", Some(("SER-SQL-011", "no table \"order paid\""))),
        ("column", Some(("SER-SQL-012", "did you mean \"amount\"?"))),
    ] {
        let panel = &panels[name];
        match (wanted, &panel.error) {
            (None, None) => assert_eq!(panel.state, PanelState::Empty, "{name}"),
            (Some((code, words)), Some(error)) => {
                assert_eq!(panel.state, PanelState::Error, "{name}");
                assert_eq!(error.code, code, "{name}");
                assert!(error.message.contains(words), "{name}: {}", error.message);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
