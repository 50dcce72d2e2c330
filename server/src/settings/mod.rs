//! The settings of a folder: `serin.yaml` if there is one, defaults for the rest.
//!
//! [`raw`] mirrors the file, each area resolves and checks its section, and `Settings` is total:
//! what it holds is handed to the parts as it is. Only a whole, right file is taken. Start at
//! [`Settings::load`].

mod bus;
mod deploy;
mod ingest;
mod lake;
mod otlp;
mod query;
mod raw;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};
use std::path::Path;

use serin_ingest::IngestOptions;
use serin_lake::LakeOptions;
use serin_query::Limits;
use serin_yaml::{FILE_BYTES_MAX, Problem, code};

use raw::RawConfig;
use resolve::Resolver;

pub(crate) use deploy::Deploys;
pub(crate) use otlp::{OtlpPort, OtlpPorts};
pub(crate) use resolve::Entry;
pub(crate) use schema::schema;

/// The file, directly in the folder that `serin up` is given.
pub(crate) const FILE: &str = "serin.yaml";

/// Resolved and checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) query: Limits,
    pub(crate) ingest: IngestOptions,
    /// All but the folder, which is the caller's.
    pub(crate) lake: LakeOptions,
    /// What the stream of events may hold before it refuses.
    pub(crate) events_bytes_max: u64,
    pub(crate) deploys: Deploys,
    /// Where OpenTelemetry's exporters are heard.
    pub(crate) otlp: OtlpPorts,
    /// Every setting with its origin, in the order of the sections.
    pub(crate) entries: Vec<Entry>,
}

impl Settings {
    /// Reads the file of a folder; without one, everything is a default.
    pub(crate) fn load(dir: &Path) -> Result<Settings, Vec<Problem>> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(dir.join(FILE)).and_then(|file| {
            // A little more than a file may have, so that the reader can say it is too long.
            file.take(FILE_BYTES_MAX as u64 + 1024)
                .read_to_end(&mut bytes)
        });
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => return Settings::parse(""),
            Err(error) => return Err(vec![unreadable(format!("cannot read the file: {error}"))]),
            Ok(_) => {}
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            vec![unreadable(format!(
                "byte {at} is no UTF-8; save the file as UTF-8"
            ))]
        })?;
        Settings::parse(&text)
    }

    /// From the text of the file.
    fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
        let raw: Option<RawConfig> = serin_yaml::read(FILE, text)?;
        let raw = raw.unwrap_or_default();
        let mut to = Resolver::default();
        let settings = Settings {
            query: query::resolve(raw.query.unwrap_or_default(), &mut to),
            ingest: ingest::resolve(raw.ingest.unwrap_or_default(), &mut to),
            lake: lake::resolve(raw.lake.unwrap_or_default(), &mut to),
            events_bytes_max: bus::resolve(raw.bus.unwrap_or_default(), &mut to),
            deploys: deploy::resolve(&raw.deploy.unwrap_or_default(), &mut to),
            otlp: otlp::resolve(&raw.otlp.unwrap_or_default(), &mut to),
            entries: Vec::new(),
        };
        let entries = to.finish()?;
        Ok(Settings {
            entries,
            ..settings
        })
    }
}

/// All problems as one error, a line each.
pub(crate) fn in_words(problems: Vec<Problem>) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    anyhow::Error::msg(lines.join("\n"))
}

fn unreadable(message: String) -> Problem {
    Problem {
        file: FILE.to_owned(),
        line: 0,
        column: 0,
        code: code::FILE,
        message,
        hint: None,
        is_warning: false,
    }
}
