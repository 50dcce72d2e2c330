//! What `serin query` and `serin kpi` print in each format, byte for byte: for people and for programs.
//! The answer is on stdout alone; what is to be known beside it is on stderr.

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use serin_tests::Serin;
use serin_tests::wait::until;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
const SETTINGS: &str = "query: {rows_max: 4, points_max: 1000}\n";
const KPIS: &str = "
kpis:
  revenue: {title: Revenue, unit: EUR, event: odd.row, measure: sum(n), by: [note]}
  rows: {event: odd.row, measure: count()}
";
/// Rows a minute apart, and what is odd about each: nothing at all, marks of CSV, other scripts.
const NOTES: [Option<&str>; 4] = [
    None,
    Some("a, \"b\"\nc"),
    Some("Žluťoučký 漢字 🐦"),
    Some(""),
];
const ALL: &str =
    "SELECT n, note, n = 2 AS is_two, CAST(n AS DOUBLE) / 2 AS half FROM \"odd.row\" ORDER BY n";
const EMPTY: &str = "SELECT n, note FROM \"odd.row\" WHERE n > 100";
const TOO_MANY: &str = "SELECT a.n AS n, b.n AS m FROM \"odd.row\" a, \"odd.row\" b ORDER BY 1, 2";
const RANGE: [&str; 4] = [
    "--from",
    "2026-01-31T12:00:00Z",
    "--to",
    "2026-01-31T12:06:00Z",
];

/// A Serin with the rows.
async fn odd() -> Result<Serin> {
    let files = [("serin.yaml", SETTINGS), ("kpis/odd.yaml", KPIS)];
    let serin = Serin::start_with_files(&files).await?;
    let mut lines = String::new();
    for (n, note) in (1..).zip(NOTES) {
        let time = format!("2026-01-31T12:0{n}:00Z");
        let event = json!({"type": "odd.row", "time": time, "data": {"n": n, "note": note}});
        lines.push_str(&format!("{event}\n"));
    }
    serin.give(lines).await?;
    until("all are visible", DEADLINE, async || {
        let rows = serin.sql_number("SELECT count(*) FROM \"odd.row\"").await?;
        Ok((rows == NOTES.len() as i64).then_some(()))
    })
    .await?;
    Ok(serin)
}

/// What a command that succeeds prints on stdout, and what on stderr.
async fn printed(serin: &Serin, args: &[&str]) -> Result<(Vec<u8>, String)> {
    let output = serin.output(args).await?;
    let beside = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "serin {args:?}: {beside}");
    Ok((output.stdout, beside))
}

/// The same where nothing is to be said beside it.
async fn alone(serin: &Serin, args: &[&str]) -> Result<Vec<u8>> {
    let (out, beside) = printed(serin, args).await?;
    ensure!(beside.is_empty(), "serin {args:?} says {beside:?}");
    Ok(out)
}

async fn text(serin: &Serin, args: &[&str]) -> Result<String> {
    Ok(String::from_utf8(alone(serin, args).await?)?)
}

fn batches(stream: &[u8]) -> Result<Vec<RecordBatch>> {
    let reader = StreamReader::try_new(stream, None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn statements_print_the_same_answer_in_every_format() -> Result<()> {
    let serin = odd().await?;
    let query =
        async |sql: &str, format: &str| text(&serin, &["query", sql, "--format", format]).await;
    // A null is `-` for people; control characters never reach the terminal.
    let table = "\
n  note               is_two  half
─  ─────────────────  ──────  ────
1  -                  false    0.5
2  a, \"b\"\u{fffd}c           true     1.0
3  Žluťoučký 漢字 🐦  false    1.5
4                     false    2.0
";
    assert_eq!(query(ALL, "table").await?, table);
    assert_eq!(text(&serin, &["query", ALL]).await?, table);
    let csv = "n,note,is_two,half\n1,,false,0.5\n2,\"a, \"\"b\"\"\nc\",true,1.0\n3,Žluťoučký 漢字 🐦,false,1.5\n4,\"\",false,2.0\n";
    assert_eq!(query(ALL, "csv").await?, csv);
    let objects = "[{\"n\":1,\"note\":null,\"is_two\":false,\"half\":0.5},\
        {\"n\":2,\"note\":\"a, \\\"b\\\"\\nc\",\"is_two\":true,\"half\":1.0},\
        {\"n\":3,\"note\":\"Žluťoučký 漢字 🐦\",\"is_two\":false,\"half\":1.5},\
        {\"n\":4,\"note\":\"\",\"is_two\":false,\"half\":2.0}]\n";
    assert_eq!(query(ALL, "json").await?, objects);
    assert_eq!(text(&serin, &["--json", "query", ALL]).await?, objects);
    let stream = alone(&serin, &["query", ALL, "--format", "arrow"]).await?;
    let batches = batches(&stream)?;
    let notes = batches.iter().flat_map(|batch| {
        let notes = batch["note"].as_string_opt::<i32>().into_iter().flatten();
        notes
            .map(|note| note.map(str::to_owned))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        notes.collect::<Vec<_>>(),
        NOTES.map(|note| note.map(str::to_owned))
    );
    let numbers = batches.iter().flat_map(|batch| {
        let numbers = batch["n"].as_primitive::<Int64Type>().values();
        numbers.to_vec()
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn an_empty_answer_has_its_columns_and_a_cut_one_says_so_beside_it() -> Result<()> {
    let serin = odd().await?;
    let query =
        async |sql: &str, format: &str| printed(&serin, &["query", sql, "--format", format]).await;
    for (format, expected) in [
        ("table", "n  note\n─  ────\n"),
        ("csv", "n,note\n"),
        ("json", "[]\n"),
    ] {
        let (out, beside) = query(EMPTY, format).await?;
        assert_eq!(
            (String::from_utf8(out)?.as_str(), &*beside),
            (expected, ""),
            "{format}"
        );
    }
    let (out, _) = query(EMPTY, "arrow").await?;
    let schema = StreamReader::try_new(&out[..], None)?.schema();
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["n", "note"]);
    for (format, expected) in [
        ("table", "n  m\n─  ─\n1  1\n1  2\n1  3\n1  4\n"),
        ("csv", "n,m\n1,1\n1,2\n1,3\n1,4\n"),
        (
            "json",
            "[{\"n\":1,\"m\":1},{\"n\":1,\"m\":2},{\"n\":1,\"m\":3},{\"n\":1,\"m\":4}]\n",
        ),
    ] {
        let (out, beside) = query(TOO_MANY, format).await?;
        assert_eq!(String::from_utf8(out)?, expected, "{format}");
        assert!(beside.contains("query.rows_max"), "{format}: {beside:?}");
    }
    let (out, beside) = query(TOO_MANY, "arrow").await?;
    assert_eq!(
        batches(&out)?
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        4
    );
    assert!(beside.contains("query.rows_max"), "{beside:?}");
    // What fails prints nothing on stdout, in every format.
    for format in ["table", "csv", "json", "arrow"] {
        let wrong = "SELECT missing FROM \"odd.row\"";
        let output = serin.output(&["query", wrong, "--format", format]).await?;
        assert_eq!(output.status.code(), Some(1), "{format}");
        assert!(output.stdout.is_empty(), "{format}");
        let said = String::from_utf8(output.stderr)?;
        assert!(said.contains("missing"), "{format}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn kpis_print_the_same_answer_in_every_format() -> Result<()> {
    let serin = odd().await?;
    let kpi = |name: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["kpi", name][..], &RANGE[..], more].concat()
    };
    // Before and after rows that came long after their time nobody knows, which is not zero.
    let csv = text(&serin, &kpi("rows", &["--step", "1m", "--format", "csv"])).await?;
    let expected = "time,value\n\
        2026-01-31T12:00:00Z,\n2026-01-31T12:01:00Z,1.0\n2026-01-31T12:02:00Z,1.0\n\
        2026-01-31T12:03:00Z,1.0\n2026-01-31T12:04:00Z,1.0\n2026-01-31T12:05:00Z,\n";
    assert_eq!(csv, expected);
    let answer = text(&serin, &kpi("rows", &["--step", "1m", "--format", "json"])).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!(
        (&answer["name"], &answer["step_s"]),
        (&json!("rows"), &json!(60.0))
    );
    assert_eq!(
        answer["series"][0]["points"][1],
        json!(["2026-01-31T12:01:00Z", 1.0])
    );
    let stream = alone(&serin, &kpi("rows", &["--step", "1m", "--format", "arrow"])).await?;
    let values = batches(&stream)?;
    let values = values
        .iter()
        .flat_map(|batch| batch["value"].as_primitive::<Float64Type>().iter());
    let one = Some(1.0);
    let expected = [None, one, one, one, one, None];
    assert_eq!(values.collect::<Vec<_>>(), expected);
    let table = text(&serin, &kpi("rows", &["--step", "1m"])).await?;
    let first: Vec<&str> = table.lines().take(3).map(str::trim_end).collect();
    assert_eq!(first, ["rows", "────  ──────", "   4   ████"], "{table}");
    assert!(
        table.contains("2026-01-31T12:00:00Z … 2026-01-31T12:05:00Z"),
        "{table}"
    );
    Ok(())
}

#[tokio::test]
async fn a_split_kpi_prints_every_name_and_says_what_it_left_out() -> Result<()> {
    let serin = odd().await?;
    let split = [
        &["kpi", "revenue"][..],
        &RANGE[..],
        &["--by", "note", "--step", "6m"],
    ]
    .concat();
    let csv = [&split[..], &["--format", "csv"]].concat();
    let csv = text(&serin, &csv).await?;
    let mut rows: Vec<&str> = csv.split_inclusive(".0\n").collect();
    ensure!(rows.len() == 4, "{csv}");
    let head = rows[0]
        .strip_prefix("time,note,value\n")
        .context("a header")?;
    rows[0] = head;
    rows.sort_unstable();
    let expected = [
        "2026-01-31T12:00:00Z,\"\",4.0\n",
        "2026-01-31T12:00:00Z,\"a, \"\"b\"\"\nc\",2.0\n",
        "2026-01-31T12:00:00Z,,1.0\n",
        "2026-01-31T12:00:00Z,Žluťoučký 漢字 🐦,3.0\n",
    ];
    assert_eq!(rows, expected);
    // Four series of 360 points are more than `query.points_max` has room for.
    let finer = [
        &["kpi", "revenue"][..],
        &RANGE[..],
        &["--by", "note", "--step", "1s"],
    ]
    .concat();
    for format in ["table", "csv"] {
        let (out, beside) = printed(&serin, &[&finer[..], &["--format", format]].concat()).await?;
        assert!(!out.is_empty());
        assert!(
            beside.contains("2 series") && beside.contains("query.points_max"),
            "{format}: {beside:?}"
        );
    }
    Ok(())
}
