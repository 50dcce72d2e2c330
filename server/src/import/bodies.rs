//! Records cut into bodies: NDJSON of CloudEvents, the same cuts whenever the file is read.
//!
//! One body becomes one message on the bus, so it stays well below a bus's usual 1 MiB.

use std::borrow::Cow;

use anyhow::Result;
use bytes::Bytes;
use serde::Serialize;

use super::profile::Profile;
use super::records::{BadLine, Data, Head, Record, Records};
use super::source::Progress;

/// A body ends when it is this long, or has this many events.
const BODY_BYTES: usize = 256 << 10;
const BODY_EVENTS: usize = 2_000;
/// So many bad lines are told; more are only counted.
const BAD_SHOWN_MAX: usize = 10;

/// A part of a file, ready to send.
#[derive(Debug)]
pub(crate) struct Body {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) text: Bytes,
    /// The file's line of each event in it.
    pub(crate) lines: Vec<u64>,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: u64,
    /// Events that say no time and get that of the import.
    pub(crate) without_time: u64,
    pub(crate) bad: u64,
    pub(crate) first_bad: Vec<BadLine>,
    pub(crate) profile: Profile,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    data: &'a Data<'a>,
}

/// Reads the file and gives its bodies one after the other. Of a file that is taken once more the
/// events are new ones: those that have an identity go without it.
pub(crate) fn cut(
    records: &Records,
    is_again: bool,
    progress: Progress,
    give: &mut dyn FnMut(Body) -> Result<()>,
) -> Result<Found> {
    let mut cutter = Cutter {
        source: format!("/{}", records.asked.service),
        kind: records.kind.clone(),
        found: Found::default(),
        is_again,
        number: 1,
        text: Vec::new(),
        lines: Vec::new(),
    };
    records.read(progress, &mut |line, record| {
        match record {
            Ok(record) => cutter.push(line, &record)?,
            Err(why) => cutter.refuse(line, why),
        }
        match cutter.is_full() {
            true => give(cutter.take()),
            false => Ok(()),
        }
    })?;
    if !cutter.lines.is_empty() {
        give(cutter.take())?;
    }
    Ok(cutter.found)
}

struct Cutter {
    source: String,
    kind: Option<String>,
    found: Found,
    is_again: bool,
    number: u64,
    text: Vec<u8>,
    lines: Vec<u64>,
}

impl Cutter {
    fn push(&mut self, line: u64, record: &Record<'_>) -> Result<()> {
        let kind = match (&self.kind, &record.kind) {
            (Some(kind), _) => kind.as_str(),
            (None, Some(kind)) => kind,
            (None, None) => {
                self.refuse(line, String::from("it has no type; give one with --type"));
                return Ok(());
            }
        };
        let written = Line {
            kind,
            head: head_of(&record.head, &self.source, self.is_again),
            time: record.time_us.map(serin_wire::time::to_rfc3339),
            data: &record.data,
        };
        serde_json::to_writer(&mut self.text, &written)?;
        self.text.push(b'\n');
        self.lines.push(line);
        self.found.events += 1;
        self.found.without_time += u64::from(record.time_us.is_none());
        self.found.profile.add(kind, record);
        Ok(())
    }

    fn refuse(&mut self, line: u64, why: String) {
        self.found.bad += 1;
        if self.found.first_bad.len() < BAD_SHOWN_MAX {
            self.found.first_bad.push(BadLine { line, why });
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() >= BODY_BYTES || self.lines.len() >= BODY_EVENTS
    }

    fn take(&mut self) -> Body {
        let body = Body {
            number: self.number,
            text: Bytes::from(std::mem::take(&mut self.text)),
            lines: std::mem::take(&mut self.lines),
        };
        self.number += 1;
        body
    }
}

/// What goes with an event: its own source, else ours; no identity when it is taken once more.
fn head_of<'a>(head: &'a Head<'_>, source: &'a str, is_again: bool) -> Head<'a> {
    let text = |text: &'a Option<Cow<'_, str>>| text.as_deref().map(Cow::Borrowed);
    Head {
        id: text(&head.id).filter(|_| !is_again),
        source: text(&head.source).or(Some(Cow::Borrowed(source))),
        traceparent: text(&head.traceparent),
        serinarm: text(&head.serinarm),
    }
}
