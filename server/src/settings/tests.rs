//! What a file says is in force, and what is wrong with one is told with its place.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::{Settings, in_words};
use crate::commands::config::explain;

#[test]
fn what_is_written_is_in_force_and_the_rest_is_default() {
    let settings = Settings::parse(
        "query:\n  deadline_s: 5\ningest: {flush_age_s: 10}\nlake:\n  raw_days_by_table:\n    order.paid: 400\nbus:\n  events_mib_max: 64\n",
    )
    .expect("a right file");
    assert_eq!(settings.query.deadline, Duration::from_secs(5));
    assert_eq!(settings.query.memory_bytes, 512 << 20);
    assert_eq!(settings.ingest.flush_age, Duration::from_secs(10));
    assert_eq!(settings.lake.retention.raw_days_by_table["order.paid"], 400);
    assert_eq!(
        settings.lake.retention.bytes_max_by_table["refused"],
        64 << 20
    );
    assert_eq!(settings.events_bytes_max, 64 << 20);
    let deploys = Settings::parse("deploy: {on_save: true}")
        .expect("right")
        .deploys;
    assert!(deploys.on_save && !deploys.on_start);
}

#[test]
fn defaults_are_those_of_the_parts() {
    let settings = Settings::parse("").expect("no file is right");
    assert_eq!(settings.query, serin_query::Limits::default());
    for empty in ["# nothing\n", "query:\n", "{}\n"] {
        assert!(Settings::parse(empty).is_ok(), "{empty:?}");
    }
}

#[test]
fn every_setting_is_explained() {
    let text = "lake:\n  mib_max: 4096\n  mib_max_by_table: {order.paid: 100}\n";
    let settings = Settings::parse(text).expect("a right file");
    expect![[r#"
        setting                            value  unit        origin        what it bounds
        ────────────────────────────────  ──────  ──────────  ────────────  ─────────────────────────────────────────────────────────────────────
        query.deadline_s                      30  s           default       how long a query may take
        query.memory_mib                     512  MiB         default       memory of one query
        query.rows_max                    100000  rows        default       rows of an answer; more are cut off and told
        query.points_max                  100000  points      default       points of a KPI's answer; lesser series are left out and told
        query.result_mib_max                  32  MiB         default       size of an answer in Arrow
        query.sql_kib_max                     16  KiB         default       length of a statement
        query.spill_mib_max                 4096  MiB         default       what a query may write aside to disk
        query.running_max                      2  statements  default       ad-hoc statements at a time
        query.queued_max                      16  statements  default       statements that wait for their turn
        query.kpis_queued_max                256  KPIs        default       KPIs that wait for their turn
        query.cache_mib                       32  MiB         default       partial KPI results kept for the next refresh
        ingest.flush_age_s                    60  s           default       age of the oldest row in memory at which a flush begins
        ingest.flush_mib                     128  MiB         default       rows in memory at which a flush begins
        ingest.memory_mib                    256  MiB         default       rows in memory; beyond it nothing is pulled from the bus
        ingest.types_max                     500  types       default       event types
        ingest.columns_per_type_max          300  columns     default       attributes of one event type
        ingest.string_kib_max                 64  KiB         default       one text in an event
        ingest.event_kib_max                 256  KiB         default       one event
        ingest.skew_future_s                 300  s           default       how far an event may lie in the future; imports are exempt
        ingest.refused_mib_max                 4  MiB         default       refused events kept per flush; beyond it they are counted
        lake.raw_days                         30  days        default       days that rows stay after they arrived; imported ones stay
        lake.mib_max                        4096  MiB         serin.yaml:2  size of a table on disk; its oldest files go first
        lake.mib_max_by_table.order.paid     100  MiB         serin.yaml:3  the same for one table
        lake.mib_max_by_table.refused         64  MiB         default       the same for one table
        lake.snapshot_keep_s                3600  s           default       how long older snapshots can be read
        lake.delete_grace_s                  600  s           default       how long a superseded file stays on disk
        lake.target_file_mib                 128  MiB         default       size that merged files aim at
        bus.events_mib_max                  8192  MiB         default       events that wait on the bus; beyond it new ones are refused
        deploy.on_start                    false              default       whether a start deploys what is under services/ and is no version yet
        deploy.on_save                     false              default       whether a service is deployed when its folder is saved
        otlp.http_port                      4318  port        default       where OTLP over HTTP is heard on 127.0.0.1; 0 is nowhere
        otlp.grpc_port                      4317  port        default       where OTLP over gRPC is heard on 127.0.0.1; 0 is nowhere
    "#]].assert_eq(&explain(&settings.entries));
}

#[test]
fn what_is_wrong_has_its_place() {
    wrong(
        "query:\n  deadlin_s: 5\n",
        expect![[r#"serin.yaml:2:3: unknown key "deadlin_s"; did you mean "deadline_s"?"#]],
    );
    wrong(
        "querry: {}\n",
        expect![[r#"serin.yaml:1:1: unknown key "querry"; did you mean "query"?"#]],
    );
    wrong(
        "query:\n  deadline_s: soon\n",
        expect![[r#"serin.yaml:2:15: "deadline_s": found "soon", expected a whole number"#]],
    );
    wrong(
        "query: 5\n",
        expect![[r#"serin.yaml:1:8: "query": found 5, expected keys with values (key: value)"#]],
    );
    wrong(
        "query:\n  deadline_s: 0\n  sql_kib_max: 4000\nbus:\n  events_mib_max: -1\n",
        expect![[r#"
            serin.yaml:2:15: query.deadline_s is 0, must be at least 1 (a query needs a moment)
            serin.yaml:3:16: query.sql_kib_max is 4000, must be at most 128 (an HTTP request with a statement has at most 256 KiB)
            serin.yaml:5:19: bus.events_mib_max is -1, must be at least 64 (several messages of 8 MiB must fit)"#]],
    );
    wrong(
        "ingest:\n  flush_mib: 200\n",
        expect![
            "serin.yaml:2:14: ingest.memory_mib is 256, must be at least 400 (twice ingest.flush_mib: one buffer fills while the other is flushed)"
        ],
    );
    wrong(
        "lake:\n  raw_days_by_table:\n    no such: 3\n",
        expect![[
            r#"serin.yaml:3:14: lake.raw_days_by_table: event type "no such" must be words of a-z, A-Z, 0-9, '_' and '-' joined by dots, at most 128 characters, such as order.paid"#
        ]],
    );
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads as `check(input, expect![…])`"
)]
fn wrong(text: &str, expected: Expect) {
    let problems = Settings::parse(text).expect_err("a wrong file");
    expected.assert_eq(&in_words(problems).to_string());
}
