//! What never waits for people's statements, and what waits for its own kind alone.

use std::sync::Arc;
use std::time::Duration;

use serin_query::{Limits, Newest, render};

use crate::fixture::{Fixture, range};

/// Runs until it is ended.
const ENDLESS: &str =
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

fn carts<'a>(users: &[&'a str]) -> Newest<'a> {
    Newest {
        table: "cart.add",
        columns: &["time", "user", "nothing"],
        range: Some(range(0, 60)),
        having: users.iter().map(|user| ("user", *user)).collect(),
        rows_max: 2,
    }
}

#[tokio::test]
async fn the_newest_rows_are_read_as_asked() {
    let fixture = Fixture::new();
    let engine = fixture.engine_within();
    let ask = async |asked: Newest<'_>| {
        let answer = engine.newest(&fixture.snapshot, &asked).await.unwrap();
        render::csv(&answer)
    };
    assert_eq!(
        ask(carts(&["ann"])).await,
        "time,user\n2024-01-01T00:59:00Z,ann\n2024-01-01T00:00:00Z,ann\n"
    );
    assert_eq!(ask(carts(&["o'x' OR 1=1"])).await, "time,user\n");
    let nobody = Newest {
        having: vec![("nothing", "ann")],
        ..carts(&[])
    };
    assert_eq!(ask(nobody).await, "time,user\n");
    let nowhere = Newest {
        table: "never",
        ..carts(&[])
    };
    assert_eq!(ask(nowhere).await, "\n");
}

#[tokio::test]
async fn the_newest_rows_wait_for_no_statement() {
    let fixture = Fixture::new();
    let engine = Arc::new(fixture.engine(Limits {
        running_max: 1,
        memory_bytes: 256 << 20,
        ..Limits::default()
    }));
    let endless = engine.sql(&fixture.snapshot, ENDLESS, None);
    let newest = async {
        // Asked when the one place is taken: the next statement has to wait.
        let next = || engine.sql(&fixture.snapshot, "SELECT 1", None);
        while tokio::time::timeout(Duration::from_secs(1), next())
            .await
            .is_ok()
        {}
        engine.newest(&fixture.snapshot, &carts(&["ann"])).await
    };
    let answer = tokio::select! {
        _ = endless => panic!("it has no end"),
        answer = tokio::time::timeout(Duration::from_secs(10), newest) => answer.unwrap(),
    };
    assert!(render::csv(&answer.unwrap()).contains("ann"));
}

/// Ten panels at once were more than the queue holds: two of them were refused.
#[tokio::test]
async fn statements_of_panels_fill_no_queue() {
    let fixture = Fixture::new();
    let engine = fixture.engine(Limits {
        running_max: 1,
        queued_max: 1,
        memory_bytes: 256 << 20,
        ..Limits::default()
    });
    let panel = || engine.panel_sql(&fixture.snapshot, "SELECT 1 AS one", range(0, 60));
    let answers = futures::future::join_all((0..10).map(|_| panel())).await;
    for answer in answers {
        assert_eq!(render::csv(&answer.unwrap()), "one\n1\n");
    }
}
