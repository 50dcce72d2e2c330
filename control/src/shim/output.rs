//! What an instance writes becomes lines of log: bounded in length and rate, drops counted.
//!
//! A line that is a JSON object is taken apart (level, message and trace by their usual names, the rest
//! as fields); any other is text. Secrets are hidden in either. Its time is that of its arrival: lines
//! stay in order. The last lines are kept for whoever asks why an instance did not get ready. Pure but
//! for [`read`]. Start there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use serin_wire::{Level, Log};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use super::levels::{Block, named};
use super::mask::Mask;

/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines kept for whoever asks.
const TAIL_LINES: usize = 50;
/// Lines of one instance that are told in a second, and at once after a silence.
const LINES_PER_S: f64 = 1_000.0;
const BURST_LINES: f64 = 5_000.0;

/// The last lines of an instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub(super) fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// How many lines may pass: a bucket that fills with time.
#[derive(Debug)]
struct Bucket {
    lines: f64,
    at_us: i64,
    dropped: u64,
}

impl Bucket {
    fn new(now_us: i64) -> Bucket {
        Bucket {
            lines: BURST_LINES,
            at_us: now_us,
            dropped: 0,
        }
    }

    /// Whether a line may pass, with the number of those dropped before it.
    fn take(&mut self, now_us: i64) -> Option<u64> {
        let elapsed_s = (now_us - self.at_us).max(0) as f64 / 1e6;
        self.lines = (self.lines + elapsed_s * LINES_PER_S).min(BURST_LINES);
        self.at_us = now_us;
        if self.lines < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// Reads a pipe to its end and hands each line on; what finds no room is counted with the next.
pub(super) async fn read(
    pipe: impl AsyncRead + Unpin,
    source: &'static str,
    tail: Tail,
    mask: Arc<Mask>,
    to: mpsc::Sender<Log<'static>>,
    now_us: fn() -> i64,
) {
    let mut reader = BufReader::new(pipe);
    let mut bucket = Bucket::new(now_us());
    let mut block = Block::default();
    let bytes_max = LINE_BYTES_MAX + mask.longest();
    let mut line = Vec::new();
    loop {
        line.clear();
        match next_line(&mut reader, &mut line, bytes_max).await {
            Ok(true) => {}
            // The pipe is closed by the last process that had it.
            Ok(false) | Err(_) => return,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            continue;
        }
        let level = block.level(text);
        let shown = mask.hide(text, LINE_BYTES_MAX);
        tail.push(&shown);
        let now = now_us();
        if let Some(dropped) = bucket.take(now) {
            let plain = Log {
                time: now,
                level,
                message: shown.into_owned().into(),
                source: source.into(),
                trace_id: None,
                dropped,
                fields: Map::new(),
            };
            let log = match text.len() <= LINE_BYTES_MAX {
                true => parsed(text, plain, &mask),
                false => plain,
            };
            if to.try_send(log).is_err() {
                bucket.dropped += dropped + 1;
            }
        }
    }
}

/// A line of ours among those of an instance.
pub(super) fn remark(text: &str, now_us: i64) -> Log<'static> {
    Log {
        time: now_us,
        level: Level::Warn,
        message: text.to_owned().into(),
        source: "serin".into(),
        trace_id: None,
        dropped: 0,
        fields: Map::new(),
    }
}

/// Reads a pipe to its end and keeps its last lines.
pub(crate) async fn read_tail(pipe: impl AsyncRead + Unpin, tail: Tail, mask: Arc<Mask>) {
    let mut reader = BufReader::new(pipe);
    let bytes_max = LINE_BYTES_MAX + mask.longest();
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut reader, &mut line, bytes_max).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        tail.push(&mask.hide(text, LINE_BYTES_MAX));
        line.clear();
    }
}

/// One line, cut at the limit; the rest of a longer one is skipped.
async fn next_line(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> std::io::Result<bool> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let room = bytes_max.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..taken.min(room)]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// A line as a row of `logs`: what it is as plain text, taken apart where it is structured.
fn parsed(text: &str, plain: Log<'static>, mask: &Mask) -> Log<'static> {
    if !text.starts_with('{') {
        return plain;
    }
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(text) else {
        return plain;
    };
    let mut take = |names: &[&str]| {
        let is_said = |value: &Value| value.is_string() || value.is_number();
        let name = names
            .iter()
            .find(|name| fields.get(**name).is_some_and(is_said))?;
        fields.remove(*name)
    };
    let message = take(&["message", "msg", "event", "text"]);
    let level = take(&["level", "severity", "lvl", "levelname"]);
    let trace_id = take(&["trace_id", "traceId", "trace"]);
    let level = level.map_or(Level::Info, |level| named(&as_text(level)));
    let shown = |value: Value| as_text(mask.hide_in(value));
    let fields = match mask.hide_in(Value::Object(fields)) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Log {
        level,
        message: message.map_or(plain.message, |message| shown(message).into()),
        trace_id: trace_id.map(|id| shown(id).into()),
        fields,
        ..plain
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a text, with the last lines that are kept.
    async fn told(text: &str, secrets: &[&str]) -> (Vec<Log<'static>>, Vec<String>) {
        let mask = Arc::new(Mask::of(secrets.iter().copied()).expect("a mask"));
        let tail = Tail::default();
        let (tx, mut rx) = mpsc::channel(64);
        read(text.as_bytes(), "stderr", tail.clone(), mask, tx, || 7).await;
        let mut logs = Vec::new();
        rx.recv_many(&mut logs, 64).await;
        (logs, tail.lines())
    }

    #[tokio::test]
    async fn structured_lines_are_taken_apart() {
        let (logs, _) = told(
            r#"{"severity":"warn","message":"slow","ms":12}
{"level":50,"msg":"x"}"#,
            &[],
        )
        .await;
        let log = &logs[0];
        assert_eq!(
            (log.level, &*log.message, log.time),
            (Level::Warn, "slow", 7)
        );
        let fields = Value::Object(log.fields.clone());
        assert_eq!(fields, serde_json::json!({"ms": 12}));
        assert_eq!(logs[1].level, Level::Error);
    }

    #[tokio::test]
    async fn secrets_are_in_no_line_whatever_its_form() {
        let text = r#"KEY=hunter22
{"msg":"key is hunter22","key":"\u0068unter22","n":1}
{"key":"hunter22"}
"#;
        let (logs, tail) = told(text, &["hunter22"]).await;
        assert_eq!(logs[0].message, "KEY=***");
        assert_eq!(logs[1].message, "key is ***");
        let fields = Value::Object(logs[1].fields.clone());
        assert_eq!(fields, serde_json::json!({"key": "***", "n": 1}));
        assert_eq!(logs[2].message, r#"{"key":"***"}"#);
        assert_eq!(tail[0], "KEY=***");
        assert_eq!(tail[2], r#"{"key":"***"}"#);
    }

    #[tokio::test]
    async fn a_secret_at_the_cut_of_a_long_line_is_hidden_whole() {
        let text = format!("{}hunter22 and on\n", "x".repeat(LINE_BYTES_MAX - 3));
        let (logs, _) = told(&text, &["hunter22"]).await;
        assert!(logs[0].message.ends_with("xxx***"), "{:?}", logs[0].message);
    }

    #[test]
    fn a_flood_passes_in_part_and_says_how_much_did_not() {
        let mut bucket = Bucket::new(0);
        let passed = (0..6_000).filter(|_| bucket.take(0).is_some()).count();
        assert_eq!(passed, 5_000);
        assert_eq!(bucket.take(1_000_000), Some(1_000));
        assert_eq!(bucket.take(1_000_000), Some(0));
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_the_next_is_whole() {
        let text = format!("{}\nnext\n", "x".repeat(3 * LINE_BYTES_MAX));
        let (logs, tail) = told(&text, &[]).await;
        assert_eq!(logs[0].message.len(), LINE_BYTES_MAX);
        assert_eq!(logs[1].message, "next");
        assert_eq!(tail[1], "next");
    }
}
