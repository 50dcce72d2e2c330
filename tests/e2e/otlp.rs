//! Services that know OpenTelemetry or Prometheus and nothing of us: the official exporters of Python
//! and JavaScript over HTTP and gRPC, a scraped endpoint, and our own `/metrics` by a foreign parser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::beside::Beside;
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use crate::services::write_python;

const SEEN_DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn exporters_of_python_are_heard() -> Result<()> {
    let serin = Serin::start().await?;
    let export = place::repository().join("tests/otlp/export.py");
    for (protocol, endpoint, name) in [
        (
            "http/protobuf",
            heard_at(&serin, "otlp_http")?,
            "Python HTTP",
        ),
        ("grpc", heard_at(&serin, "otlp_grpc")?, "Python gRPC"),
    ] {
        let mut python = place::python();
        python.arg(&export).args([protocol, &endpoint, name]);
        told(python).await.with_context(|| protocol.to_owned())?;
        let service = name.to_lowercase().replace(' ', "-");
        seen(&serin, &service, true)
            .await
            .with_context(|| protocol.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn exporters_of_javascript_are_heard() -> Result<()> {
    let serin = Serin::start().await?;
    let http = heard_at(&serin, "otlp_http")?;
    let grpc = heard_at(&serin, "otlp_grpc")?;
    let export = place::repository().join("tests/otlp/export.mjs");
    for (protocol, endpoint, service, is_cumulative) in [
        ("http/protobuf", &http, "js-protobuf", true),
        ("http/json", &http, "js-json", false),
        ("grpc", &grpc, "js-grpc", true),
    ] {
        let mut node = Command::new("node");
        node.arg(&export).args([protocol, endpoint, service]);
        if !is_cumulative {
            node.arg("delta");
        }
        told(node).await.with_context(|| protocol.to_owned())?;
        seen(&serin, service, is_cumulative)
            .await
            .with_context(|| protocol.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn an_exporter_tries_again_while_the_bus_is_away() -> Result<()> {
    let serin = Serin::start().await?;
    let bus = serin.bus_pid()?;
    let export = place::repository().join("tests/otlp/export.py");
    let mut python = place::python();
    python
        .arg(&export)
        .args(["http/protobuf", &heard_at(&serin, "otlp_http")?])
        .arg("patient")
        .arg(serin.dir().join("begin"))
        // Its tries end by then.
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        .env("PYTHONUNBUFFERED", "1");
    let mut exporter = Beside::output_of(python)?;
    exporter.says(&["ready to tell"], SEEN_DEADLINE).await?;
    process::send(bus, Signal::STOP)?;
    serin.write("begin", "")?;
    let refused = exporter.says(&["retrying"], SEEN_DEADLINE).await;
    process::send(bus, Signal::CONT)?;
    refused.context("the exporter was never refused")?;
    ensure!(exporter.ended().await?.success(), "the exporter gave up");
    // All of it, and nothing twice, though the bus may have had the first try when it was stopped.
    seen(&serin, "patient", true).await
}

#[tokio::test]
async fn a_request_is_counted_once_through_the_gateway_and_without() -> Result<()> {
    let serin = Serin::start().await?;
    let packages = std::env::var("PYTHONPATH").unwrap_or_default();
    let more = format!("port: auto\nweb: /items\nenv: {{PYTHONPATH: {packages:?}}}\n");
    let serving = include_str!("../otlp/serving.py");
    write_python(&serin, "items", &more, serving)?;
    serin.run(&["deploy", "items"]).await?;
    let asked = reqwest::Client::new()
        .get(format!("{}/items/outer", serin.gateway()))
        // A trace of the visitor's, so that it is not left out by chance.
        .header(
            "traceparent",
            "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01",
        )
        .header("tracestate", "theirs=1")
        .send()
        .await?;
    ensure!(asked.status().is_success(), "{asked:?}");
    // What Serin itself asked, whether it is ready, is not among them.
    let spans = "SELECT count(*) FROM spans WHERE service = 'items'";
    until(
        "the spans of both requests are seen",
        SEEN_DEADLINE,
        async || Ok((serin.sql_number(spans).await.unwrap_or(0) == 3).then_some(())),
    )
    .await?;
    // The outer one by the gateway, the inner one by its span.
    let requests = "SELECT caller, endpoint, status, trace_id FROM requests WHERE service = 'items' ORDER BY endpoint";
    let trace = "5b8efff798038103d269b633813fc60c";
    let wanted = json!([
        ["gateway", "/items/outer", 200, trace],
        [null, "/{which}", 200, trace]
    ]);
    let mut rows = Value::Null;
    until("both requests are seen", SEEN_DEADLINE, async || {
        rows = json!(serin.sql(requests).await.unwrap_or_default());
        Ok((rows.as_array().map(Vec::len) >= Some(2)).then_some(()))
    })
    .await?;
    assert_eq!(rows, wanted);
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_done_without() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let settings = format!("otlp: {{http_port: {port}, grpc_port: 0}}\n");
    let serin = Serin::start_set(&settings).await?;
    let said = serin.said();
    ensure!(
        said.contains(&format!(
            "OpenTelemetry over HTTP is not heard at 127.0.0.1:{port}"
        )) && said.contains("set otlp.http_port in serin.yaml"),
        "{said}"
    );
    for key in ["otlp_http", "otlp_grpc"] {
        ensure!(heard_at(&serin, key).is_err(), "{key} is heard");
    }
    Ok(())
}

/// Where exporters are heard, as Serin says itself.
fn heard_at(serin: &Serin, key: &str) -> Result<String> {
    let run: Value = serde_json::from_slice(&std::fs::read(serin.dir().join(".serin/run.json"))?)?;
    let url = run[key].as_str().map(str::to_owned);
    url.with_context(|| format!("run.json has no {key}: {run}"))
}

/// Runs an exporter to its end.
async fn told(command: Command) -> Result<()> {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start the exporter")?;
    ensure!(
        output.status.success(),
        "the exporter failed; `cargo xtask test` fetches its packages: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What both scripts tell has become rows, each number right.
async fn seen(serin: &Serin, service: &str, is_cumulative: bool) -> Result<()> {
    let of = format!("WHERE service = '{service}'");
    let spans = format!(
        "SELECT name, version, instance, status, attributes_otel_kind FROM spans {of} ORDER BY name DESC"
    );
    let spans = until("both spans are seen", SEEN_DEADLINE, async || {
        let rows = serin.sql(&spans).await.unwrap_or_default();
        Ok((rows.len() == 2).then_some(rows))
    })
    .await?;
    let wanted = json!([
        ["checkout", "1-2-3", "cart-1", "ok", "server"],
        ["charge", "1-2-3", "cart-1", "error", "client"],
    ]);
    assert_eq!(json!(spans), wanted);
    let family = format!(
        "SELECT count(*) FROM spans AS child JOIN spans AS parent ON child.parent_id = parent.span_id \
         AND child.trace_id = parent.trace_id JOIN logs ON logs.trace_id = child.trace_id \
         WHERE child.service = '{service}' AND parent.attributes_http_request_method = 'POST' \
         AND parent.attributes_items = 3 AND child.attributes_otel_events LIKE '%no such card%' \
         AND child.attributes_otel_status_message = 'declined'"
    );
    until("the log is beside its span", SEEN_DEADLINE, async || {
        Ok((serin.sql_number(&family).await.unwrap_or(0) == 1).then_some(()))
    })
    .await?;
    let log = format!("SELECT level, message, source, fields_order_id FROM logs {of}");
    assert_eq!(
        json!(serin.sql(&log).await?),
        json!([["warn", "card declined", "shop", 7]])
    );
    let metrics = format!(
        "SELECT name, kind, unit, max(value), sum(delta), sum(\"count\"), sum(\"sum\") FROM metrics {of} \
         AND name IN ('jobs.done', 'jobs.open', 'took', 'sizes') GROUP BY name, kind, unit ORDER BY name"
    );
    let total = if is_cumulative {
        json!(7.0)
    } else {
        Value::Null
    };
    let wanted = json!([
        ["jobs.done", "counter", "{job}", total, 7.0, null, null],
        ["jobs.open", "gauge", null, 2.0, null, null, null],
        ["sizes", "histogram", "By", null, null, 8, 30.0],
        ["took", "histogram", "ms", null, null, 6, 1426.0],
    ]);
    until("all numbers are right", SEEN_DEADLINE, async || {
        let rows = json!(serin.sql(&metrics).await?);
        Ok((rows == wanted).then_some(()))
    })
    .await
    .with_context(|| "the numbers never were as wanted")?;
    let label = format!("SELECT DISTINCT labels_queue_name FROM metrics {of} AND name = 'took'");
    assert_eq!(json!(serin.sql(&label).await?), json!([["mail"]]));
    Ok(())
}

#[tokio::test]
async fn a_prometheus_endpoint_is_read_again_and_again() -> Result<()> {
    let serin = Serin::start().await?;
    let more = "port: auto\nscrape: {path: /numbers, every: 1s}\n";
    let counting = include_str!("../otlp/counting.py");
    write_python(&serin, "counting", more, counting)?;
    serin.run(&["deploy", "counting"]).await?;
    let sql = "SELECT instance, max(value), sum(delta), max(labels_by) FROM metrics \
               WHERE name = 'asked_total' AND service = 'counting' GROUP BY instance ORDER BY instance";
    let rows = until(
        "both instances were asked thrice",
        SEEN_DEADLINE,
        async || {
            let rows = serin.sql(sql).await.unwrap_or_default();
            let thrice = |row: &Vec<Value>| row[1].as_f64() >= Some(3.0);
            Ok((rows.len() == 2 && rows.iter().all(thrice)).then_some(rows))
        },
    )
    .await?;
    for row in &rows {
        // An instance that was started by this Serin counts from 0.
        assert_eq!((&row[1], &row[3]), (&row[2], &json!("serin")), "{rows:?}");
    }
    let sql = "SELECT sum(\"count\") / sum(\"sum\"), min(p50), min(kind) FROM metrics WHERE name = 'took_seconds'";
    let rows = serin.sql(sql).await?;
    assert_eq!(rows[0][2], json!("histogram"));
    assert!((rows[0][0].as_f64().context("a number")? - 2.0 / 3.0).abs() < 1e-9);
    let up =
        "SELECT count(*) FROM metrics WHERE name = 'up' AND value = 1 AND service = 'counting'";
    until("each look is told", SEEN_DEADLINE, async || {
        Ok((serin.sql_number(up).await? >= 6).then_some(()))
    })
    .await
}

#[tokio::test]
async fn our_own_metrics_are_read_by_the_parser_of_prometheus() -> Result<()> {
    let serin = Serin::start().await?;
    let answer = serin
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await?;
    let kind = answer.headers()["content-type"].to_str()?.to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4");
    let file = serin.dir().join("metrics.txt");
    std::fs::write(&file, answer.text().await?)?;
    let families = parsed(&file)?;
    let families = families.as_object().context("an object")?;
    ensure!(families.len() > 20, "{families:?}");
    for (name, family) in families {
        ensure!(name.starts_with("serin_"), "{name}");
        ensure!(family["help"] != "", "{name} has no help");
        ensure!(
            family["samples"].as_u64() > Some(0),
            "{name} has no samples"
        );
    }
    assert_eq!(families["serin_otlp_records"]["type"], "counter");
    Ok(())
}

/// The families that Prometheus's own library for Python finds in a text.
fn parsed(file: &Path) -> Result<Value> {
    let script = "import json, sys; from prometheus_client.parser import text_string_to_metric_families; \
        print(json.dumps({f.name: {'type': f.type, 'help': f.documentation, 'samples': len(f.samples)} \
        for f in text_string_to_metric_families(open(sys.argv[1]).read())}))";
    let output = place::python().args(["-c", script]).arg(file).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
