//! What an instance writes becomes lines of log: bounded in length and rate, drops counted.
//!
//! A line that is a JSON object is taken apart (level, message and trace by their usual names, the rest
//! as fields); any other is text. Its time is that of its arrival: lines stay in order. The last lines are kept for whoever asks why an instance
//! did not get ready. Pure but for [`read`]. Start there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use serin_wire::{Level, Log};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

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
    to: mpsc::Sender<Log<'static>>,
    now_us: fn() -> i64,
) {
    let mut reader = BufReader::new(pipe);
    let mut bucket = Bucket::new(now_us());
    let mut line = Vec::new();
    loop {
        line.clear();
        match next_line(&mut reader, &mut line).await {
            Ok(true) => {}
            // The pipe is closed by the last process that had it.
            Ok(false) | Err(_) => return,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            continue;
        }
        tail.push(text);
        let now = now_us();
        if let Some(dropped) = bucket.take(now) {
            let log = Log {
                dropped,
                ..parse(text, source, now)
            };
            if to.try_send(log).is_err() {
                bucket.dropped += dropped + 1;
            }
        }
    }
}

/// Reads a pipe to its end and keeps its last lines.
pub(crate) async fn read_tail(pipe: impl AsyncRead + Unpin, tail: Tail) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut reader, &mut line).await {
        tail.push(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// One line, cut at the limit; the rest of a longer one is skipped.
async fn next_line(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..taken.min(room)]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// A line as a row of `logs`.
pub(super) fn parse(text: &str, source: &'static str, now_us: i64) -> Log<'static> {
    let plain = || Log {
        time: now_us,
        level: level_in(text),
        message: text.to_owned().into(),
        source: source.into(),
        trace_id: None,
        dropped: 0,
        fields: Map::new(),
    };
    if !text.starts_with('{') {
        return plain();
    }
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(text) else {
        return plain();
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
    let as_text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Log {
        level: level.map_or(Level::Info, |level| named(&as_text(level))),
        message: message.map_or_else(|| text.to_owned(), as_text).into(),
        trace_id: trace_id.map(|id| as_text(id).into()),
        fields,
        ..plain()
    }
}

/// A level by the names that loggers have for it; numbers as in pino and bunyan.
fn named(level: &str) -> Level {
    match level.to_ascii_lowercase().as_str() {
        "trace" | "10" => Level::Trace,
        "debug" | "20" => Level::Debug,
        "warn" | "warning" | "40" => Level::Warn,
        "error" | "err" | "fatal" | "critical" | "panic" | "50" | "60" => Level::Error,
        _ => Level::Info,
    }
}

/// The level that stands as a word of its own near the beginning of a plain line.
fn level_in(text: &str) -> Level {
    let mut words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(12);
    let found = words.find(|word| {
        word.chars().all(|c| c.is_ascii_uppercase())
            && matches!(
                *word,
                "TRACE" | "DEBUG" | "INFO" | "WARN" | "WARNING" | "ERROR" | "FATAL" | "CRITICAL"
            )
    });
    match found {
        Some(word) => named(word),
        // What an interpreter says when a program breaks.
        None if text.starts_with("Traceback") || text.contains("panicked at") => Level::Error,
        None => Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_levels() {
        let level = |text| parse(text, "stdout", 0).level;
        assert_eq!(
            level("2026-11-25 10:00:00,123 WARNING cart slow"),
            Level::Warn
        );
        assert_eq!(level("an error in a sentence"), Level::Info);
        assert_eq!(level("Traceback (most recent call last):"), Level::Error);
        assert_eq!(level(r#"{"level":50,"msg":"x"}"#), Level::Error);
        assert_eq!(level("{not json ERROR"), Level::Error);
    }

    #[test]
    fn structured_lines_are_taken_apart() {
        let log = parse(
            r#"{"severity":"warn","message":"slow","ms":12}"#,
            "stderr",
            7,
        );
        assert_eq!(
            (log.level, &*log.message, log.time),
            (Level::Warn, "slow", 7)
        );
        assert_eq!(Value::Object(log.fields), serde_json::json!({"ms": 12}));
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
        let tail = Tail::default();
        let (tx, mut rx) = mpsc::channel(8);
        read(text.as_bytes(), "stdout", tail.clone(), tx, || 0).await;
        assert_eq!(
            rx.recv().await.expect("a line").message.len(),
            LINE_BYTES_MAX
        );
        assert_eq!(rx.recv().await.expect("a line").message, "next");
        assert_eq!(tail.lines()[1], "next");
    }
}
