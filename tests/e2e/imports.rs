//! Files come in with their values, whatever their format, and once, whatever cuts them off.

use std::fmt::Write;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::beside::Beside;
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;
use serin_tests::{Serin, duck, place};

const SEEN_DEADLINE: Duration = Duration::from_secs(60);
/// Some thirty bodies, so that an import can be cut off between them.
const ROWS: u64 = 60_000;

#[tokio::test]
async fn csv_ndjson_and_parquet_keep_their_values() -> Result<()> {
    let serin = Serin::start().await?;
    let write = |name: &str, text: &str| fs::write(serin.dir().join(name), text);

    write(
        "orders.csv",
        "paid_at;n;amount;zip;ok;note\n2026-01-31 12:00;1;2,5;01234;true;\"a; \"\"b\"\"\nc\"\n\
         2026-01-31T12:01:00Z;2;;99999;false;\nsoon;3;1;1;true;x\n2026-01-31;4;3;2;true;\"open\n",
    )?;
    let import = [
        "import",
        "orders.csv",
        "--type",
        "csv.row",
        "--time",
        "paid_at",
    ];
    let output = serin.output(&import).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("2 lines were not taken"), "{said}");
    ensure!(
        said.contains("line 6:") && said.contains("line 5:"),
        "{said}"
    );
    let sql =
        "SELECT CAST(epoch(time) AS BIGINT), n, amount, zip, ok, note FROM \"csv.row\" ORDER BY n";
    assert_eq!(
        duck::query(serin.catalogue(), sql)?,
        [
            vec![
                json!(1_769_860_800),
                json!(1),
                json!("2,5"),
                json!("01234"),
                json!(true),
                json!("a; \"b\"\nc")
            ],
            vec![
                json!(1_769_860_860),
                json!(2),
                Value::Null,
                json!("99999"),
                json!(false),
                Value::Null
            ],
        ]
    );

    write(
        "events.ndjson",
        "{\"specversion\":\"1.0\",\"type\":\"cloud.row\",\"id\":\"c-1\",\"source\":\"/shop\",\
         \"time\":\"2026-01-31T12:00:00Z\",\"serinarm\":\"cart=v8\",\
         \"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01\",\"data\":{\"n\":7}}\n",
    )?;
    serin.run(&["import", "events.ndjson"]).await?;
    let sql = "SELECT id, service, trace_id, _arm, n FROM \"cloud.row\"";
    assert_eq!(
        duck::query(serin.catalogue(), sql)?,
        [[
            json!("c-1"),
            json!("shop"),
            json!("0af7651916cd43dd8448eb211c80319c"),
            json!("cart=v8"),
            json!(7)
        ]]
    );

    let script = "import duckdb, sys; duckdb.sql(\"COPY (SELECT 18446744073709551615::UBIGINT AS hash, \
        19.99::DECIMAL(12, 2) AS amount, {'street': 'a', 'at': {'x': 1}} AS address, [1, 2] AS list, \
        TIMESTAMPTZ '2026-01-31 12:00:00Z' AS ts, 5 AS version) TO '\" + sys.argv[1] + \"' (FORMAT parquet)\")";
    let file = serin.dir().join("rows.parquet");
    let made = place::python().args(["-c", script]).arg(&file).status()?;
    ensure!(made.success(), "DuckDB writes no Parquet file");
    serin
        .run(&["import", "rows.parquet", "--type", "parquet.row"])
        .await?;
    let sql = "SELECT CAST(epoch(time) AS BIGINT), amount, address_street, address_at_x, list, data_version, _rest \
        FROM \"parquet.row\"";
    let rows = duck::query(serin.catalogue(), sql)?;
    assert_eq!(
        rows[0][..6],
        [
            json!(1_769_860_800),
            json!(19.99),
            json!("a"),
            json!(1),
            json!("[1,2]"),
            json!(5)
        ]
    );
    // No column holds a whole number past 2^63 exactly; it is kept beside them.
    let sql = "SELECT CAST(hash AS VARCHAR) FROM \"parquet.row\"";
    let kept = rows[0][6].to_string().contains("18446744073709551615")
        || duck::query(serin.catalogue(), sql)?[0][0] == json!("1.8446744073709552e+19");
    ensure!(kept, "the hash is lost: {rows:?}");
    Ok(())
}

#[tokio::test]
async fn an_import_that_is_cut_off_goes_on_and_doubles_nothing() -> Result<()> {
    let mut serin = Serin::start().await?;
    let mut text = String::from("key,n\n");
    for n in 0..ROWS {
        writeln!(text, "k-{n},{n}")?;
    }
    fs::write(serin.dir().join("rows.csv"), text)?;
    let import = ["import", "rows.csv", "--type", "cut.row"];
    let again = ["import", "rows.csv", "--type", "cut.row", "--again"];
    for (command, times) in [(&import[..], 1), (&again[..], 2)] {
        cut_off(&mut serin, command, (times - 1) * ROWS).await?;
        serin.run(command).await?;
        let sql = "SELECT count(*), count(DISTINCT key), min(c), max(c) FROM \
            (SELECT key, count(*) AS c FROM \"cut.row\" GROUP BY key)";
        assert_eq!(
            duck::query(serin.catalogue(), sql)?,
            [[json!(ROWS), json!(ROWS), json!(times), json!(times)]],
            "after {command:?}"
        );
    }
    serin.run(&import).await?;
    let rows = duck::number(serin.catalogue(), "SELECT count(*) FROM \"cut.row\"")?;
    assert_eq!(rows as u64, 2 * ROWS, "a second import adds nothing");
    Ok(())
}

/// Starts an import, and kills it and the server once a part of it is in.
async fn cut_off(serin: &mut Serin, command: &[&str], before: u64) -> Result<()> {
    let mut importing = serin
        .command(command)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let seen = until("a part of the file is in", SEEN_DEADLINE, async || {
        let rows = serin.sql_number("SELECT count(*) FROM \"cut.row\"").await?;
        Ok((rows as u64 > before).then_some(rows as u64))
    });
    let seen = seen.await?;
    importing.kill()?;
    importing.wait()?;
    ensure!(
        seen < before + ROWS,
        "the import was too quick to be cut off"
    );
    serin.kill()?;
    serin.start_again().await.context("after the cut").map(drop)
}

#[tokio::test]
async fn open_shows_the_range_of_events_without_times() -> Result<()> {
    let serin = Serin::start().await?;
    fs::write(serin.dir().join("plain.csv"), "name,n\na,1\nb,2\n")?;
    let told = serin
        .run(&["open", "plain.csv", "--no-browser", "--json"])
        .await?;
    let told: Value = serde_json::from_str(told.trim())?;
    let from = told["from"].as_str().context("a range")?;
    ensure!(!from.starts_with("1970"), "it opens {told}");
    let sql = format!("SELECT count(*) FROM plain WHERE time >= '{from}'");
    assert_eq!(serin.sql_number(&sql).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_column_of_times_is_found_and_said() -> Result<()> {
    let serin = Serin::start().await?;
    let csv =
        "paid_at,country,amount\n2026-01-31T12:00:00Z,de,12.5\n2026-01-31T12:01:00Z,fr,30\nx\n";
    fs::write(serin.dir().join("orders.csv"), csv)?;
    let opened = serin
        .output(&["open", "orders.csv", "--no-browser"])
        .await?;
    let said = String::from_utf8_lossy(&opened.stderr);
    for line in [
        "2 events imported",
        "the time of the events is column \"paid_at\"",
        "1 line was not taken:",
        "  line 4: it has 1 field,",
    ] {
        ensure!(said.contains(line), "{line:?} is not in {said}");
    }
    let link = String::from_utf8_lossy(&opened.stdout);
    ensure!(link.contains("2026-01-31T12"), "it opens {link}");
    let sql = "SELECT count(*) FROM orders WHERE time < '2026-02-01T00:00:00Z'";
    assert_eq!(serin.sql_number(sql).await?, 2);

    fs::write(serin.dir().join("plain.csv"), "name,n\na,1\n")?;
    let import = ["import", "plain.csv", "--type", "plain"];
    let said = serin.output(&import).await?.stderr;
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains("no column with the time was found"), "{said}");

    // Another file of the same name does not hide behind the first one's dashboard.
    fs::write(serin.dir().join("orders.csv"), "name,weight\na,1\n")?;
    let opened = serin
        .output(&["open", "orders.csv", "--no-browser"])
        .await?;
    let said = String::from_utf8_lossy(&opened.stderr);
    ensure!(said.contains("dashboards/orders_2.yaml"), "{said}");
    let link = String::from_utf8_lossy(&opened.stdout);
    ensure!(link.contains("/d/orders_2"), "it opens {link}");

    // What no second run helps is not told to be run again.
    fs::write(serin.dir().join("cut.parquet"), "PAR1 and no more")?;
    fs::write(serin.dir().join("noise.csv"), b"a,\xff\xfe\0,b\n")?;
    for (command, expected) in [
        (
            &["import", "orders.csv", "--type", "t", "--time", "nope"][..],
            "no column \"nope\"",
        ),
        (
            &["import", "cut.parquet", "--type", "t"],
            "no whole Parquet file",
        ),
        (
            &["open", "cut.parquet", "--no-browser"],
            "no whole Parquet file",
        ),
        (&["open", "noise.csv", "--no-browser"], "no text in UTF-8"),
    ] {
        let refused = serin.output(command).await?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success(), "{command:?} passed");
        ensure!(said.contains(expected) && !said.contains("again"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_waits_for_the_bus_says_so_and_goes_on() -> Result<()> {
    let serin = Serin::start().await?;
    fs::write(serin.dir().join("plain.csv"), "name,n\na,1\nb,2\n")?;
    let bus = serin.bus_pid()?;
    for (command, table) in [
        (&["open", "plain.csv", "--no-browser"][..], "plain"),
        (&["import", "plain.csv", "--type", "other"][..], "other"),
    ] {
        process::send(bus, Signal::STOP)?;
        let mut opening = Beside::remarks_of(serin.command(command)?)?;
        let waits = ["waiting: the bus does not answer"];
        let waits = opening.says(&waits, SEEN_DEADLINE).await;
        process::send(bus, Signal::CONT)?;
        let waits = waits?;
        ensure!(waits.contains("`serin doctor` looks"), "{waits}");
        let ended = opening.ended().await?;
        ensure!(ended.success(), "{command:?} did not go on");
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(serin.sql_number(&sql).await?, 2);
    }
    Ok(())
}
