//! One record of a file after the other, whatever its format.
//!
//! The format is told by the content, not by the name. A record is an event: type, time, and data
//! in the order of the file's columns. Lines that cannot be read are told apart, never guessed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use serin_lake::Declared;

use super::source::{self, Looked, Progress};
use super::time_column::{Guess, TimeColumn};
use super::{access_log, csv, ndjson, parquet};

/// What the user says about a file.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) file: PathBuf,
    pub(crate) kind: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) service: String,
    /// Whether the first line of a CSV file has the names of its columns.
    pub(crate) has_header: bool,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    AccessLog,
    Csv,
    Ndjson,
    Parquet,
}

/// A value of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// A whole number that may be past 2^63.
    Whole(u64),
    /// An object or an array.
    Json(Value),
    Text(Cow<'a, str>),
}

/// The attributes of a record.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// Name and value, in the file's order.
    Cells(Vec<(Cow<'a, str>, Cell<'a>)>),
    /// The text of a JSON object.
    Json(&'a RawValue),
}

/// What a CloudEvent says of itself beside type, time and data; it is sent on as it is.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Head<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serinarm: Option<Cow<'a, str>>,
}

/// One event of a file.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// Where the file itself says it (CloudEvents).
    pub(crate) kind: Option<Cow<'a, str>>,
    pub(crate) time_us: Option<i64>,
    pub(crate) head: Head<'a>,
    pub(crate) data: Data<'a>,
}

/// Something between two line ends that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// Is given each record with its line, from 1; an error ends the reading.
pub(crate) type Take<'t> = dyn FnMut(u64, Result<Record<'_>, String>) -> Result<()> + 't;

/// A file that was looked at and can be read, once or again.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) asked: Asked,
    pub(crate) format: Format,
    /// The type of its events, unless each record says its own.
    pub(crate) kind: Option<String>,
    /// The column that holds the time, where the user names none and the format leaves it open.
    pub(crate) time_found: Option<String>,
    /// A name in the header that looks like a value.
    pub(crate) doubted: Option<String>,
    pub(crate) bytes: u64,
    hash: blake3::Hash,
}

impl Records {
    /// [`Records::look`], with a type to fall back on where neither file nor format says one.
    pub(crate) fn look_or(asked: Asked, fallback: &str) -> Result<Records> {
        Records::look_with(asked, Some(fallback))
    }

    /// Looks at the whole file once: what it is, and the name of its content.
    pub(crate) fn look(asked: Asked) -> Result<Records> {
        Records::look_with(asked, None)
    }

    fn look_with(asked: Asked, fallback: Option<&str>) -> Result<Records> {
        let looked = source::look(&asked.file)?;
        let format = detect(&looked.head)
            .with_context(|| format!("cannot import {}", asked.file.display()))?;
        let kind = match (&asked.kind, format) {
            (Some(kind), _) => Some(kind.clone()),
            (None, Format::AccessLog) => Some(String::from("http.request")),
            (None, Format::Ndjson) if ndjson::is_cloud_events(&looked.head) => None,
            (None, _) if fallback.is_some() => fallback.map(str::to_owned),
            (None, _) => bail!(
                "say what the events of {} are called, such as --type order.paid",
                asked.file.display()
            ),
        };
        if let Some(kind) = &kind {
            serin_wire::name::check_type(kind)?;
        }
        serin_wire::name::check_service(&asked.service)?;
        let time_found = time_column(&asked, format, &looked)
            .with_context(|| format!("cannot read {}", asked.file.display()))?;
        let doubted = match (format, asked.has_header) {
            (Format::Csv, true) => csv::value_in_header(&looked.head),
            _ => None,
        };
        let bytes = std::fs::metadata(&asked.file)
            .with_context(|| format!("cannot read {}", asked.file.display()))?
            .len();
        Ok(Records {
            asked,
            format,
            kind,
            time_found,
            doubted,
            bytes,
            hash: looked.hash,
        })
    }

    /// The producer's name of this import: the content and everything that shapes its events.
    pub(crate) fn producer(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        for part in [
            self.kind.as_deref().unwrap_or_default(),
            self.asked.time.as_deref().unwrap_or_default(),
            &self.asked.service,
        ] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        if !self.asked.has_header {
            hasher.update(b"no header");
        }
        // 160 bits name a content well enough; a producer's name has at most 64 characters.
        format!("import-{}", &hasher.finalize().to_hex()[..40])
    }

    /// The columns the format promises, which a file may have no value for.
    pub(crate) fn declared(&self) -> Option<Declared> {
        let columns = match self.format {
            Format::AccessLog => access_log::columns(),
            Format::Csv | Format::Ndjson | Format::Parquet => return None,
        };
        let table = self.kind.clone()?;
        Some(Declared { table, columns })
    }

    /// Reads the file from its start.
    pub(crate) fn read(&self, progress: Progress, take: &mut Take<'_>) -> Result<()> {
        let path: &Path = &self.asked.file;
        let time = match (&self.asked.time, &self.time_found) {
            (Some(name), _) => TimeColumn::Asked(name),
            (None, Some(name)) => TimeColumn::Found(name),
            (None, None) => TimeColumn::Unknown,
        };
        match self.format {
            Format::AccessLog => access_log::read(source::open(path, progress)?, take),
            Format::Csv => {
                let reader = source::open(path, progress)?;
                csv::read(reader, self.asked.has_header, time, take)
            }
            Format::Ndjson => ndjson::read(source::open(path, progress)?, time, take),
            Format::Parquet => parquet::read(path, time, &progress, take),
        }
        .with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Reads the first records: what is wrong with all of them is told before any is sent, and the
/// column with the time is found.
fn time_column(asked: &Asked, format: Format, looked: &Looked) -> Result<Option<String>> {
    let time = asked
        .time
        .as_deref()
        .map_or(TimeColumn::Unknown, TimeColumn::Asked);
    let mut guess = Guess::default();
    let mut take = |_, record: Result<Record<'_>, String>| {
        if let Ok(record) = record {
            guess.add(&record);
        }
        ensure!(!guess.is_enough(), "enough is seen");
        Ok(())
    };
    let seen = match (format, looked.whole_lines()) {
        (Format::Parquet, _) => parquet::read(&asked.file, time, &Progress::default(), &mut take),
        (Format::Csv, Some(head)) => csv::read(head, asked.has_header, time, &mut take),
        (Format::Ndjson, Some(head)) if !ndjson::is_cloud_events(head) => {
            ndjson::read(head, time, &mut take)
        }
        // A log and a CloudEvent say their time themselves.
        (Format::AccessLog | Format::Csv | Format::Ndjson, _) => Ok(()),
    };
    match seen {
        Err(error) if !guess.is_enough() => Err(error),
        _ if asked.time.is_some() => Ok(None),
        _ => Ok(guess.column().map(str::to_owned)),
    }
}

fn detect(head: &[u8]) -> Result<Format> {
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = lines.next() else {
        bail!("it is empty");
    };
    if first.starts_with('{') {
        return Ok(Format::Ndjson);
    }
    if first.starts_with('[') {
        bail!("it is a JSON array; write one object a line (jq -c '.[]' does it)");
    }
    // A log may begin with a broken line.
    let is_log = std::iter::once(first)
        .chain(lines.take(20))
        .any(|line| access_log::parse(line).is_ok());
    if is_log {
        return Ok(Format::AccessLog);
    }
    if let Some((at, what)) = not_text(head) {
        bail!(
            "it is no text in UTF-8: byte {} is {what}; {FORMATS}",
            at + 1
        );
    }
    if first.contains([',', ';', '\t']) {
        return Ok(Format::Csv);
    }
    bail!(
        "its first line is {:?}; {FORMATS}",
        first.chars().take(80).collect::<String>()
    )
}

const FORMATS: &str = "expected NDJSON, CSV with a header, a common or combined access log (each may be packed as .gz \
     or .zst), or Parquet; a text in another encoding is turned by `iconv -t UTF-8`";

/// The place of the first byte that no text in UTF-8 has, and what it is.
fn not_text(head: &[u8]) -> Option<(usize, String)> {
    if let Some(at) = head.iter().position(|byte| *byte == 0) {
        return Some((at, String::from("NUL")));
    }
    let error = std::str::from_utf8(head).err()?;
    // The head may end within a character.
    error.error_len()?;
    let at = error.valid_up_to();
    Some((at, format!("0x{:02x}", head[at])))
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Null => serializer.serialize_unit(),
            Cell::Bool(value) => serializer.serialize_bool(*value),
            Cell::Int(value) => serializer.serialize_i64(*value),
            Cell::Double(value) => serializer.serialize_f64(*value),
            Cell::Whole(value) => serializer.serialize_u64(*value),
            Cell::Json(value) => value.serialize(serializer),
            Cell::Text(value) => serializer.serialize_str(value),
        }
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Data::Json(object) => object.serialize(serializer),
            Data::Cells(cells) => {
                let mut map = serializer.serialize_map(Some(cells.len()))?;
                for (name, cell) in cells {
                    map.serialize_entry(name, cell)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_says_the_format() {
        let log = "broken\n1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5\n";
        for (text, format) in [
            ("{\"a\":1}\n", Format::Ndjson),
            ("\u{feff}a,b\n1,2\n", Format::Csv),
            (log, Format::AccessLog),
            ("PAR1\0\0", Format::Parquet),
        ] {
            assert_eq!(detect(text.as_bytes()).expect(text), format, "{text}");
        }
        for text in ["", "\n \n", "[1]", "hello"] {
            assert!(detect(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_formats() {
        for (bytes, expected) in [
            (&b"a,b\n1,\0\n"[..], "byte 7 is NUL"),
            (b"a,b\n\xff,2\n", "byte 5 is 0xff"),
            (b",\xe4,\n", "byte 2 is 0xe4"),
        ] {
            let why = detect(bytes).expect_err(expected).to_string();
            assert!(why.contains(expected) && why.contains("Parquet"), "{why}");
        }
        // A character cut by the end of the head is none that is wrong.
        let cut = "a,ä".as_bytes();
        assert_eq!(detect(&cut[..3]).expect("cut"), Format::Csv);
    }
}
